//! What the sandbox provider reports: the bodies of its webhooks, and the facts in its reports.

use chrono::{DateTime, Utc};
use domain::pledge::FailureReason;
use domain::{DisputeId, Money, PaymentFact, PaymentId, PledgeId, RefundId};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::json::parse_json;
use crate::{Notice, ParseError};

/// A message as the provider sends it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {
    /// The fact reported, such as `payment.captured`.
    pub r#type: String,
    /// When that happened.
    pub timestamp: DateTime<Utc>,
    /// About which payment; its shape depends on the type.
    pub data: Box<RawValue>,
}

/// `data` of `payment.authorized`, `payment.captured` and `settlement.confirmed`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MoneyData {
    /// The merchant's reference.
    pub pledge_id: PledgeId,
    /// The provider's payment.
    pub payment_id: PaymentId,
    /// How much.
    pub amount: Money,
}

/// `data` of `payment.failed`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FailureData {
    /// The merchant's reference.
    pub pledge_id: PledgeId,
    /// The provider's payment.
    pub payment_id: PaymentId,
    /// Why.
    #[serde(default, deserialize_with = "reason")]
    pub reason: Option<FailureReason>,
}

/// A failure counts whatever is said of its reason: one of which nothing is seen is none, and a long one is
/// cut.
fn reason<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<FailureReason>, D::Error> {
    let said: Option<String> = Option::deserialize(deserializer)?;
    let cut = said.map(|said| said.chars().take(FailureReason::MAX_CHARS).collect());
    FailureReason::optional(cut).map_err(D::Error::custom)
}

/// `data` of `payment.refunded`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RefundData {
    /// The merchant's reference.
    pub pledge_id: PledgeId,
    /// The provider's payment.
    pub payment_id: PaymentId,
    /// The provider's refund; a payment may have several.
    pub refund_id: RefundId,
    /// How much was given back by this refund.
    pub amount: Money,
}

/// `data` of `dispute.opened`, `dispute.won` and `dispute.lost`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DisputeData {
    /// The merchant's reference.
    pub pledge_id: PledgeId,
    /// The provider's payment.
    pub payment_id: PaymentId,
    /// The provider's dispute.
    pub dispute_id: DisputeId,
    /// How much is, or was, in question.
    pub amount: Money,
}

/// Reads a genuine message.
///
/// # Errors
/// [`ParseError`] says what is wrong and where.
pub fn parse(body: &[u8]) -> Result<(Message, Notice), ParseError> {
    let message: Message = parse_json(body, "")?;
    let notice = notice(&message)?;
    Ok((message, notice))
}

/// The notice in a message.
pub(super) fn notice(message: &Message) -> Result<Notice, ParseError> {
    let data = message.data.get().as_bytes();
    let money = || parse_json::<MoneyData>(data, "data.");
    let dispute = || parse_json::<DisputeData>(data, "data.");
    let (pledge_id, fact) = match message.r#type.as_str() {
        "payment.authorized" => {
            let MoneyData { pledge_id, payment_id, amount } = money()?;
            (pledge_id, PaymentFact::Authorized { payment_id, amount })
        }
        "payment.captured" => {
            let MoneyData { pledge_id, payment_id, amount } = money()?;
            (pledge_id, PaymentFact::Captured { payment_id, amount })
        }
        "settlement.confirmed" => {
            let MoneyData { pledge_id, payment_id, amount } = money()?;
            (pledge_id, PaymentFact::Settled { payment_id, amount })
        }
        "payment.failed" => {
            let FailureData { pledge_id, payment_id, reason } = parse_json(data, "data.")?;
            (pledge_id, PaymentFact::Failed { payment_id, reason })
        }
        "payment.refunded" => {
            let RefundData { pledge_id, payment_id, refund_id, amount } = parse_json(data, "data.")?;
            (pledge_id, PaymentFact::Refunded { payment_id, refund_id, amount })
        }
        "dispute.opened" => {
            let DisputeData { pledge_id, payment_id, dispute_id, amount } = dispute()?;
            (pledge_id, PaymentFact::DisputeOpened { payment_id, dispute_id, amount })
        }
        "dispute.won" => {
            let DisputeData { pledge_id, payment_id, dispute_id, amount } = dispute()?;
            (pledge_id, PaymentFact::DisputeWon { payment_id, dispute_id, amount })
        }
        "dispute.lost" => {
            let DisputeData { pledge_id, payment_id, dispute_id, amount } = dispute()?;
            (pledge_id, PaymentFact::DisputeLost { payment_id, dispute_id, amount })
        }
        _ => return Ok(Notice::Ignored),
    };
    Ok(Notice::Facts { pledge_id, facts: vec![fact] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(r#type: &str, data: &str) -> Vec<u8> {
        format!(r#"{{"type":"{type}","timestamp":"2026-05-01T10:00:00Z","data":{data}}}"#).into_bytes()
    }

    const DATA: &str = r#"{"pledge_id":"00000000-0000-8000-8000-000000000001","payment_id":"pay_1",
        "amount":{"amount_minor":5000,"currency":"USD"},
        "refund_id":"ref_1","dispute_id":"dis_1","reason":"card declined"}"#;

    #[test]
    fn every_type_is_read() {
        let payment_id: PaymentId = "pay_1".parse().unwrap();
        let amount = Money::new(5000, "USD".parse().unwrap()).unwrap();
        let refund_id: RefundId = "ref_1".parse().unwrap();
        let dispute_id: DisputeId = "dis_1".parse().unwrap();
        let pay = || payment_id.clone();
        let dis = || dispute_id.clone();
        for (name, fact) in [
            ("payment.authorized", PaymentFact::Authorized { payment_id: pay(), amount }),
            ("payment.captured", PaymentFact::Captured { payment_id: pay(), amount }),
            ("settlement.confirmed", PaymentFact::Settled { payment_id: pay(), amount }),
            (
                "payment.failed",
                PaymentFact::Failed { payment_id: pay(), reason: Some("card declined".parse().unwrap()) },
            ),
            ("payment.refunded", PaymentFact::Refunded { payment_id: pay(), refund_id, amount }),
            ("dispute.opened", PaymentFact::DisputeOpened { payment_id: pay(), dispute_id: dis(), amount }),
            ("dispute.won", PaymentFact::DisputeWon { payment_id: pay(), dispute_id: dis(), amount }),
            ("dispute.lost", PaymentFact::DisputeLost { payment_id: pay(), dispute_id: dis(), amount }),
        ] {
            let (_, notice) = parse(&body(name, DATA)).unwrap();
            let pledge_id = PledgeId(uuid_of_data());
            assert_eq!(notice, Notice::Facts { pledge_id, facts: vec![fact] }, "{name}");
        }
    }

    fn uuid_of_data<T: std::str::FromStr<Err: std::fmt::Debug>>() -> T {
        "00000000-0000-8000-8000-000000000001".parse().unwrap()
    }

    #[test]
    fn unknown_types_are_ignored_whatever_they_carry() {
        let (_, notice) = parse(&body("customer.sneezed", r#"{"tissue":true}"#)).unwrap();
        assert_eq!(notice, Notice::Ignored);
    }

    #[test]
    fn a_failure_counts_whatever_its_reason() {
        let long = "x".repeat(501);
        for (said, kept) in [("", None), (" ", None), ("\u{202e}", None), (&long, Some("x".repeat(500)))] {
            let (_, notice) = parse(&body("payment.failed", &DATA.replace("card declined", said))).unwrap();
            let payment_id = "pay_1".parse().unwrap();
            let reason = kept.map(|kept| kept.parse().unwrap());
            let facts = vec![PaymentFact::Failed { payment_id, reason }];
            assert_eq!(notice, Notice::Facts { pledge_id: PledgeId(uuid_of_data()), facts }, "{said}");
        }
    }

    #[test]
    fn errors_say_where() {
        let negative = DATA.replace("5000", "-1");
        let error = parse(&body("payment.captured", &negative)).unwrap_err();
        assert_eq!(error.path, "data.amount");
        let error = parse(&body("payment.captured", "{}")).unwrap_err();
        assert!(error.detail.contains("pledge_id"), "{error}");
        let error = parse(&body("payment.refunded", &DATA.replace("refund_id", "id"))).unwrap_err();
        assert!(error.detail.contains("refund_id"), "{error}");
        let error = parse(&body("dispute.lost", &DATA.replace("dis_1", ""))).unwrap_err();
        assert_eq!(error.path, "data.dispute_id");
        let error = parse(br#"{"type": 1}"#).unwrap_err();
        assert_eq!(error.path, "type");
        let error = parse(br#"{"type": "#).unwrap_err();
        assert!(error.detail.contains("line 1"), "{error}");
    }
}
