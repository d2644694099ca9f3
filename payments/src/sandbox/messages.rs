//! What the sandbox provider says: the bodies of its webhooks, which its reports repeat.

use chrono::{DateTime, Utc};
use domain::payment::{DisputeState, Over, RefundState, ReversalState, Stated, Statement};
use domain::pledge::{FailureReason, Said, Settlement};
use domain::{DisputeId, Money, PaymentFact, PaymentId, PledgeId, RefundId, ReversalId};
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
    /// How much: of a capture, all that was captured so far.
    pub amount: Money,
}

/// `data` of `payment.cancelled`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CancellationData {
    /// The merchant's reference.
    pub pledge_id: PledgeId,
    /// The provider's payment.
    pub payment_id: PaymentId,
    /// How much had been captured before; none if nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured: Option<Money>,
    /// Why.
    #[serde(default, deserialize_with = "reason", skip_serializing_if = "Option::is_none")]
    pub reason: Option<FailureReason>,
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

/// `data` of `refund.pending`, `payment.refunded`, `refund.failed` and `refund.cancelled`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RefundData {
    /// The merchant's reference.
    pub pledge_id: PledgeId,
    /// The provider's payment.
    pub payment_id: PaymentId,
    /// The provider's refund; a payment may have several.
    pub refund_id: RefundId,
    /// How much this refund gives back, or would have given back.
    pub amount: Money,
}

/// `data` of `dispute.inquiry`, `dispute.opened`, `dispute.won`, `dispute.lost` and `dispute.reinstated`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DisputeData {
    /// The merchant's reference.
    pub pledge_id: PledgeId,
    /// The provider's payment.
    pub payment_id: PaymentId,
    /// The provider's dispute.
    pub dispute_id: DisputeId,
    /// How much is, or was, in question; of a lost dispute, how much is gone.
    pub amount: Money,
}

/// `data` of `payment.reversed` and `reversal.cancelled`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReversalData {
    /// The merchant's reference.
    pub pledge_id: PledgeId,
    /// The provider's payment.
    pub payment_id: PaymentId,
    /// The provider's reversal.
    pub reversal_id: ReversalId,
    /// How much was taken back.
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

/// The notice in a message. Its time is when things came to stand as it says, and when money moved.
pub(super) fn notice(message: &Message) -> Result<Notice, ParseError> {
    let (at, data) = (message.timestamp, message.data.get().as_bytes());
    let told = |stated| Statement::told(stated, at).happened_at(at);
    let money = || parse_json::<MoneyData>(data, "data.");
    let refund = |state: fn(Money) -> RefundState| {
        let RefundData { pledge_id, payment_id, refund_id, amount } = parse_json(data, "data.")?;
        let stated = Stated::refund(refund_id, state(amount));
        Ok((pledge_id, vec![PaymentFact::stated(payment_id, told(stated))]))
    };
    let dispute = |state: fn(Money) -> DisputeState| {
        let DisputeData { pledge_id, payment_id, dispute_id, amount } = parse_json(data, "data.")?;
        let stated = Stated::dispute(dispute_id, state(amount));
        Ok((pledge_id, vec![PaymentFact::stated(payment_id, told(stated))]))
    };
    let reversal = |state: fn(Money) -> ReversalState| {
        let ReversalData { pledge_id, payment_id, reversal_id, amount } = parse_json(data, "data.")?;
        let stated = Stated::reversal(reversal_id, state(amount));
        Ok((pledge_id, vec![PaymentFact::stated(payment_id, told(stated))]))
    };
    let (pledge_id, facts) = match message.r#type.as_str() {
        "payment.authorized" => {
            let MoneyData { pledge_id, payment_id, amount } = money()?;
            // No money has moved yet.
            let statement = Statement::told(Stated::payment(None, None), at).authorized(amount);
            (pledge_id, vec![PaymentFact::stated(payment_id, statement)])
        }
        "payment.captured" => {
            let MoneyData { pledge_id, payment_id, amount } = money()?;
            (pledge_id, vec![PaymentFact::stated(payment_id, told(Stated::payment(Some(amount), None)))])
        }
        "settlement.confirmed" => {
            let MoneyData { pledge_id, payment_id, amount } = money()?;
            // It was captured at some time before.
            let captured = Statement::told(Stated::payment(Some(amount), None), at);
            let captured = PaymentFact::stated(payment_id.clone(), captured);
            (pledge_id, vec![captured, PaymentFact::settled(payment_id, Settlement { amount, at })])
        }
        "payment.failed" => {
            let FailureData { pledge_id, payment_id, reason } = parse_json(data, "data.")?;
            let statement = told(Stated::payment(None, Some(Over::Failed)));
            (pledge_id, vec![over(payment_id, statement, reason)])
        }
        "payment.cancelled" => {
            let CancellationData { pledge_id, payment_id, captured, reason } = parse_json(data, "data.")?;
            let statement = Statement::told(Stated::payment(captured, Some(Over::Cancelled)), at);
            (pledge_id, vec![over(payment_id, statement, reason)])
        }
        "payment.reversed" => reversal(ReversalState::Gone)?,
        "reversal.cancelled" => reversal(|_| ReversalState::Cancelled)?,
        "refund.pending" => refund(|_| RefundState::Asked)?,
        "payment.refunded" => refund(RefundState::Succeeded)?,
        "refund.failed" => refund(|_| RefundState::Failed)?,
        "refund.cancelled" => refund(|_| RefundState::Cancelled)?,
        "dispute.inquiry" => dispute(|_| DisputeState::Inquiry)?,
        "dispute.opened" => dispute(|amount| DisputeState::Opened(Some(amount)))?,
        "dispute.won" => dispute(|_| DisputeState::Won)?,
        "dispute.lost" => dispute(DisputeState::Lost)?,
        "dispute.reinstated" => dispute(|_| DisputeState::Reinstated)?,
        _ => return Ok(Notice::Ignored),
    };
    Ok(Notice::Facts { pledge_id, facts })
}

/// The end of a payment, with its reason where there is one.
fn over(payment_id: PaymentId, statement: Statement, reason: Option<FailureReason>) -> PaymentFact {
    match reason {
        Some(reason) => PaymentFact { payment_id, said: Said::Failed(statement, reason) },
        None => PaymentFact::stated(payment_id, statement),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(r#type: &str, data: &str) -> Vec<u8> {
        format!(r#"{{"type":"{type}","timestamp":"2026-05-01T10:00:00Z","data":{data}}}"#).into_bytes()
    }

    const DATA: &str = r#"{"pledge_id":"00000000-0000-8000-8000-000000000001","payment_id":"pay_1",
        "amount":{"amount_minor":5000,"currency":"USD"},
        "refund_id":"ref_1","dispute_id":"dis_1","reversal_id":"rev_1","reason":"card declined"}"#;

    fn said(r#type: &str, data: &str) -> Vec<Said> {
        let (_, notice) = parse(&body(r#type, data)).unwrap();
        let Notice::Facts { pledge_id, facts } = notice else { panic!("{type}: {notice:?}") };
        assert_eq!(pledge_id, PledgeId(uuid_of_data()));
        assert!(facts.iter().all(|fact| fact.payment_id.as_str() == "pay_1"), "{facts:?}");
        facts.into_iter().map(|fact| fact.said).collect()
    }

    #[test]
    fn every_type_is_read() {
        let at: DateTime<Utc> = "2026-05-01T10:00:00Z".parse().unwrap();
        let amount = Money::new(5000, "USD".parse().unwrap()).unwrap();
        let stood = |stated| Statement::told(stated, at);
        let moved = |stated| Said::Stated(stood(stated).happened_at(at));
        let refund = |state| moved(Stated::refund("ref_1".parse().unwrap(), state));
        let dispute = |state| moved(Stated::dispute("dis_1".parse().unwrap(), state));
        let reversal = |state| moved(Stated::reversal("rev_1".parse().unwrap(), state));
        let captured = || Stated::payment(Some(amount), None);
        let failed = stood(Stated::payment(None, Some(Over::Failed))).happened_at(at);
        for (name, expected) in [
            ("payment.authorized", vec![Said::Stated(stood(Stated::payment(None, None)).authorized(amount))]),
            ("payment.captured", vec![moved(captured())]),
            (
                "settlement.confirmed",
                vec![Said::Stated(stood(captured())), Said::Settled(Settlement { amount, at })],
            ),
            ("payment.failed", vec![Said::Failed(failed, "card declined".parse().unwrap())]),
            ("payment.reversed", vec![reversal(ReversalState::Gone(amount))]),
            ("reversal.cancelled", vec![reversal(ReversalState::Cancelled)]),
            ("refund.pending", vec![refund(RefundState::Asked)]),
            ("payment.refunded", vec![refund(RefundState::Succeeded(amount))]),
            ("refund.failed", vec![refund(RefundState::Failed)]),
            ("refund.cancelled", vec![refund(RefundState::Cancelled)]),
            ("dispute.inquiry", vec![dispute(DisputeState::Inquiry)]),
            ("dispute.opened", vec![dispute(DisputeState::Opened(Some(amount)))]),
            ("dispute.won", vec![dispute(DisputeState::Won)]),
            ("dispute.lost", vec![dispute(DisputeState::Lost(amount))]),
            ("dispute.reinstated", vec![dispute(DisputeState::Reinstated)]),
        ] {
            assert_eq!(said(name, DATA), expected, "{name}");
        }
    }

    #[test]
    fn a_cancelled_payment_keeps_what_was_captured() {
        let at: DateTime<Utc> = "2026-05-01T10:00:00Z".parse().unwrap();
        let cancelled = |captured| Statement::told(Stated::payment(captured, Some(Over::Cancelled)), at);
        let reason = "card declined".parse().unwrap();
        assert_eq!(said("payment.cancelled", DATA), [Said::Failed(cancelled(None), reason)]);
        let captured = DATA.replace("amount\"", "captured\"").replace("reason", "other");
        let part = Money::new(5000, "USD".parse().unwrap()).unwrap();
        assert_eq!(said("payment.cancelled", &captured), [Said::Stated(cancelled(Some(part)))]);
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
        let at: DateTime<Utc> = "2026-05-01T10:00:00Z".parse().unwrap();
        let failed = Statement::told(Stated::payment(None, Some(Over::Failed)), at).happened_at(at);
        let long = "x".repeat(501);
        for (reason, kept) in [("", None), (" ", None), ("\u{202e}", None), (&long, Some("x".repeat(500)))] {
            let expected = match kept {
                Some(kept) => Said::Failed(failed.clone(), kept.parse().unwrap()),
                None => Said::Stated(failed.clone()),
            };
            assert_eq!(
                said("payment.failed", &DATA.replace("card declined", reason)),
                [expected],
                "{reason}"
            );
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
