//! Facts about payments, and the messages that report them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgPool};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::money::Amount;

/// Kind of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "&'static str")]
pub(crate) enum FactType {
    /// The money is reserved.
    Authorized,
    /// The money is taken.
    Captured,
    /// The visitor declined; there will be no money.
    Failed,
    /// The taken money reached the merchant.
    Settled,
    /// Taken money was given back.
    Refunded,
    /// The visitor's bank asks for the money back.
    DisputeOpened,
    /// The merchant keeps it.
    DisputeWon,
    /// The bank took it.
    DisputeLost,
}

impl FactType {
    pub(crate) const ALL: [Self; 8] = [
        Self::Authorized,
        Self::Captured,
        Self::Failed,
        Self::Settled,
        Self::Refunded,
        Self::DisputeOpened,
        Self::DisputeWon,
        Self::DisputeLost,
    ];

    /// The name in messages and in the books.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Authorized => "payment.authorized",
            Self::Captured => "payment.captured",
            Self::Failed => "payment.failed",
            Self::Settled => "settlement.confirmed",
            Self::Refunded => "payment.refunded",
            Self::DisputeOpened => "dispute.opened",
            Self::DisputeWon => "dispute.won",
            Self::DisputeLost => "dispute.lost",
        }
    }
}

impl From<FactType> for &'static str {
    fn from(r#type: FactType) -> Self {
        r#type.name()
    }
}

impl TryFrom<String> for FactType {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|r#type| r#type.name() == name);
        known.ok_or_else(|| format!("{name} is no type of a fact"))
    }
}

/// Something that happened to a payment, with the session that it belongs to.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Fact {
    pub(crate) session_id: Uuid,
    /// Counts the facts of a session from 1.
    pub(crate) number: i32,
    #[sqlx(try_from = "String")]
    pub(crate) r#type: FactType,
    pub(crate) amount_minor: Option<i64>,
    /// The refund or the dispute that it is about.
    pub(crate) subject_id: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) occurs_at: DateTime<Utc>,
    pub(crate) reference: Uuid,
    pub(crate) payment_id: String,
    pub(crate) currency: String,
}

impl Fact {
    /// All that is true of some sessions by now, in its order.
    pub(crate) async fn of_sessions(pool: &PgPool, session_ids: &[Uuid]) -> Result<Vec<Self>, sqlx::Error> {
        sqlx::query_as(
            "select f.session_id, f.number, f.type, f.amount_minor, f.subject_id, f.reason, f.occurs_at,
                 s.reference, s.payment_id, s.currency
             from sandbox.true_facts f join sandbox.sessions s using (session_id)
             where f.session_id = any($1)
             order by f.session_id, f.occurs_at, f.number",
        )
        .bind(session_ids)
        .fetch_all(pool)
        .await
    }

    /// Its message: the body of a webhook, and a line of a report.
    pub(crate) fn message(&self) -> FactMessage {
        let subject = |is_about: bool| self.subject_id.clone().filter(|_| is_about);
        let (about_refund, about_dispute) = match self.r#type {
            FactType::Authorized | FactType::Captured | FactType::Failed | FactType::Settled => {
                (false, false)
            }
            FactType::Refunded => (true, false),
            FactType::DisputeOpened | FactType::DisputeWon | FactType::DisputeLost => (false, true),
        };
        FactMessage {
            r#type: self.r#type,
            timestamp: self.occurs_at,
            data: FactData {
                pledge_id: self.reference,
                payment_id: self.payment_id.clone(),
                amount: self
                    .amount_minor
                    .map(|amount_minor| Amount { amount_minor, currency: self.currency.clone() }),
                refund_id: subject(about_refund),
                dispute_id: subject(about_dispute),
                reason: self.reason.clone(),
            },
        }
    }
}

/// Something that happened, as webhooks and reports tell it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct FactMessage {
    #[schema(value_type = String, example = "payment.captured")]
    pub(crate) r#type: FactType,
    /// When it happened.
    pub(crate) timestamp: DateTime<Utc>,
    pub(crate) data: FactData,
}

/// About which payment.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct FactData {
    /// The merchant's reference.
    pub(crate) pledge_id: Uuid,
    pub(crate) payment_id: String,
    /// None where no money was moved or reserved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) amount: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refund_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dispute_id: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(r#type: FactType) -> Fact {
        Fact {
            session_id: Uuid::from_u128(1),
            number: 1,
            r#type,
            amount_minor: (r#type != FactType::Failed).then_some(2_500),
            subject_id: Some("re_or_dp_1".to_owned()),
            reason: (r#type == FactType::Failed).then(|| "declined".to_owned()),
            occurs_at: Utc::now(),
            reference: Uuid::from_u128(2),
            payment_id: "pay_1".to_owned(),
            currency: "USD".to_owned(),
        }
    }

    #[test]
    fn names_are_read_back() {
        for r#type in FactType::ALL {
            assert_eq!(FactType::try_from(r#type.name().to_owned()), Ok(r#type));
        }
        assert!(FactType::try_from("customer.sneezed".to_owned()).is_err());
    }

    #[test]
    fn a_message_says_what_happened_to_which_payment() {
        let told = serde_json::to_value(fact(FactType::Captured).message()).unwrap();
        let amount = serde_json::json!({"amount_minor": 2_500, "currency": "USD"});
        let data =
            serde_json::json!({"pledge_id": Uuid::from_u128(2), "payment_id": "pay_1", "amount": amount});
        assert_eq!((&told["type"], &told["data"]), (&"payment.captured".into(), &data));
        let told = serde_json::to_value(fact(FactType::Failed).message()).unwrap();
        assert_eq!(told["data"]["reason"], "declined");
        assert!(told["data"].get("amount").is_none(), "{told}");
    }

    #[test]
    fn a_refund_and_a_dispute_are_named_apart() {
        let refunded = fact(FactType::Refunded).message().data;
        assert_eq!((refunded.refund_id.as_deref(), refunded.dispute_id), (Some("re_or_dp_1"), None));
        let lost = fact(FactType::DisputeLost).message().data;
        assert_eq!((lost.refund_id, lost.dispute_id.as_deref()), (None, Some("re_or_dp_1")));
    }
}
