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
    /// The reserved money was released; there will be none.
    Cancelled,
    /// The taken money reached the merchant.
    Settled,
    /// Taken money was given back.
    Refunded,
    /// It did not reach the visitor, and came back.
    RefundFailed,
    /// The visitor's bank took the money back without asking.
    Reversed,
    /// And gave it back.
    ReversalCancelled,
    /// The visitor's bank asks what the money was for.
    DisputeInquiry,
    /// The visitor's bank asks for the money back.
    DisputeOpened,
    /// The merchant keeps it.
    DisputeWon,
    /// The bank took it.
    DisputeLost,
    /// The bank took it, and gave it back.
    DisputeReinstated,
}

impl FactType {
    pub(crate) const ALL: [Self; 14] = [
        Self::Authorized,
        Self::Captured,
        Self::Failed,
        Self::Cancelled,
        Self::Settled,
        Self::Refunded,
        Self::RefundFailed,
        Self::Reversed,
        Self::ReversalCancelled,
        Self::DisputeInquiry,
        Self::DisputeOpened,
        Self::DisputeWon,
        Self::DisputeLost,
        Self::DisputeReinstated,
    ];

    /// The name in messages and in the books.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Authorized => "payment.authorized",
            Self::Captured => "payment.captured",
            Self::Failed => "payment.failed",
            Self::Cancelled => "payment.cancelled",
            Self::Settled => "settlement.confirmed",
            Self::Refunded => "payment.refunded",
            Self::RefundFailed => "refund.failed",
            Self::Reversed => "payment.reversed",
            Self::ReversalCancelled => "reversal.cancelled",
            Self::DisputeInquiry => "dispute.inquiry",
            Self::DisputeOpened => "dispute.opened",
            Self::DisputeWon => "dispute.won",
            Self::DisputeLost => "dispute.lost",
            Self::DisputeReinstated => "dispute.reinstated",
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
    /// The refund, the dispute or the reversal that it is about.
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
        let subject = self.subject_id.clone();
        let (refund_id, dispute_id, reversal_id) = match self.r#type {
            FactType::Authorized
            | FactType::Captured
            | FactType::Failed
            | FactType::Cancelled
            | FactType::Settled => (None, None, None),
            FactType::Refunded | FactType::RefundFailed => (subject, None, None),
            FactType::DisputeInquiry
            | FactType::DisputeOpened
            | FactType::DisputeWon
            | FactType::DisputeLost
            | FactType::DisputeReinstated => (None, subject, None),
            FactType::Reversed | FactType::ReversalCancelled => (None, None, subject),
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
                refund_id,
                dispute_id,
                reversal_id,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reversal_id: Option<String>,
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
            subject_id: Some("subject_1".to_owned()),
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
    fn refunds_disputes_and_reversals_are_named_apart() {
        let named = |r#type: FactType| {
            let FactData { refund_id, dispute_id, reversal_id, .. } = fact(r#type).message().data;
            [refund_id, dispute_id, reversal_id].map(|id| id.is_some_and(|id| id == "subject_1"))
        };
        for r#type in FactType::ALL {
            let about = |what: &str| r#type.name().starts_with(what);
            let is_refund = about("refund.") || about("payment.refunded");
            let is_reversal = about("reversal.") || about("payment.reversed");
            assert_eq!(named(r#type), [is_refund, about("dispute."), is_reversal], "{}", r#type.name());
        }
    }

    /// What this provider says is what its adapter reads.
    #[test]
    fn every_message_is_read_by_the_adapter() {
        for r#type in FactType::ALL {
            let body = serde_json::to_vec(&fact(r#type).message()).unwrap();
            let (_, notice) = payments::sandbox::parse(&body).unwrap();
            assert!(matches!(notice, payments::Notice::Facts { .. }), "{}", r#type.name());
        }
    }
}
