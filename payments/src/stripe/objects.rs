//! Stripe's objects, as far as we look at them: <https://docs.stripe.com/api>.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use domain::{PaymentId, PledgeId};
use serde::{Deserialize, Deserializer};

use crate::SessionId;

/// Where an object of Stripe's keeps the pledge that it is for.
pub(super) const PLEDGE_ID: &str = "pledge_id";

pub(super) type Metadata = HashMap<String, String>;

/// The pledge that an object is for; none when it is not ours, which happens on an account that
/// takes other payments too.
pub(super) fn pledge_id(metadata: Option<&Metadata>) -> Option<PledgeId> {
    metadata?.get(PLEDGE_ID)?.parse().ok()
}

/// A time of Stripe's, which is in seconds since 1970.
pub(super) fn instant(seconds: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(seconds, 0)
}

/// An object, or only its id where it was not asked to be expanded.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Expandable<T> {
    Id(String),
    Object(Box<T>),
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct List<T> {
    pub(super) data: Vec<T>,
    pub(super) has_more: bool,
}

/// A page on which a visitor pays.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) status: Option<SessionStatus>,
    pub(super) payment_status: PaymentStatus,
    /// None before the visitor pays.
    pub(super) payment_intent: Option<Expandable<Intent>>,
    pub(super) amount_total: Option<i64>,
    pub(super) currency: Option<String>,
    /// Only while it is open.
    pub(super) url: Option<String>,
    pub(super) metadata: Option<Metadata>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SessionStatus {
    Open,
    Complete,
    Expired,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PaymentStatus {
    Paid,
    Unpaid,
    NoPaymentRequired,
}

/// A payment, from its first attempt to the end.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Intent {
    pub(super) id: PaymentId,
    pub(super) status: IntentStatus,
    pub(super) currency: String,
    #[serde(default)]
    pub(super) amount_capturable: i64,
    /// Captured so far.
    #[serde(default)]
    pub(super) amount_received: i64,
    /// `automatic`, `automatic_async` or `manual`.
    pub(super) capture_method: Option<String>,
    /// The last attempt.
    pub(super) latest_charge: Option<Expandable<Charge>>,
    /// Why the last attempt failed; none when it did not.
    pub(super) last_payment_error: Option<serde::de::IgnoredAny>,
    pub(super) cancellation_reason: Option<String>,
    pub(super) metadata: Option<Metadata>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum IntentStatus {
    RequiresPaymentMethod,
    RequiresConfirmation,
    RequiresAction,
    Processing,
    RequiresCapture,
    Canceled,
    Succeeded,
}

/// One attempt of a payment.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Charge {
    /// None for payments that were made without an intent, which are never ours.
    pub(super) payment_intent: Option<Expandable<Intent>>,
    #[serde(default)]
    pub(super) disputed: bool,
    /// How much was reserved.
    #[serde(default)]
    pub(super) amount: i64,
    #[serde(default)]
    pub(super) amount_captured: i64,
    /// Whether it was captured, be it only on the way to a bank.
    #[serde(default)]
    pub(super) captured: bool,
    /// `succeeded`, `pending` or `failed`.
    pub(super) status: Option<String>,
    pub(super) payment_method_details: Option<PaymentMethod>,
    pub(super) currency: Option<String>,
    /// Not there unless it is asked for, or in the older versions of the API.
    pub(super) refunds: Option<List<RefundObject>>,
    pub(super) balance_transaction: Option<Expandable<BalanceTransaction>>,
    pub(super) metadata: Option<Metadata>,
}

impl Charge {
    pub(super) fn is_of_card(&self) -> bool {
        self.payment_method_details.as_ref().is_some_and(|method| method.r#type == "card")
    }

    /// Whether it failed after it was captured, or on its way to a bank.
    pub(super) fn may_have_bounced(&self) -> bool {
        self.captured && self.amount_captured > 0 && self.status.as_deref() == Some(FAILED)
    }
}

/// By what a charge was paid.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PaymentMethod {
    pub(super) r#type: String,
}

/// One movement of Stripe's balance of the account, by a charge, a refund or a dispute.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct BalanceTransaction {
    pub(super) status: String,
    /// Less than zero where money left the account. In the currency of the account.
    #[serde(default)]
    pub(super) amount: i64,
    /// When it was made, in seconds since 1970.
    pub(super) created: Option<i64>,
    /// From when on it can be paid out, in seconds since 1970.
    pub(super) available_on: Option<i64>,
}

impl BalanceTransaction {
    pub(super) fn is_available(&self) -> bool {
        self.status == "available"
    }
}

/// One movement of the account's balance, with what moved it. Its own amount is less the fee, and in
/// the currency of the account.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct BalanceLine {
    pub(super) id: String,
    pub(super) source: Option<LineSource>,
    /// From when on it can be paid out, in seconds since 1970.
    pub(super) available_on: Option<i64>,
}

/// The object that moved the balance.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "object", rename_all = "snake_case")]
pub(super) enum LineSource {
    Charge(Box<Charge>),
    /// A refund, a fee, the payout itself: what it means is told elsewhere.
    #[serde(other)]
    Other,
}

/// Money on its way to the account's bank: the sum of many payments, less fees.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Payout {
    pub(super) id: String,
}

/// The two ends of a refund that gives nothing back.
pub(super) const FAILED: &str = "failed";
pub(super) const CANCELED: &str = "canceled";

/// The end of a dispute by which the money stays with the donor.
pub(super) const LOST: &str = "lost";

#[derive(Clone, Debug, Deserialize)]
pub(super) struct RefundObject {
    pub(super) id: domain::RefundId,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) payment_intent: Option<Expandable<Intent>>,
    /// `pending`, `requires_action`, `succeeded`, `failed` or `canceled`.
    pub(super) status: Option<String>,
    pub(super) failure_reason: Option<String>,
    /// How it moved the account's balance: `Some(None)` where Stripe says that it did not.
    #[serde(default, deserialize_with = "present")]
    pub(super) balance_transaction: Option<Option<Expandable<BalanceTransaction>>>,
    /// When it was made, in seconds since 1970.
    #[serde(default)]
    pub(super) created: i64,
    pub(super) metadata: Option<Metadata>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct DisputeObject {
    pub(super) id: domain::DisputeId,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) payment_intent: Option<Expandable<Intent>>,
    pub(super) status: String,
    /// What was withdrawn for it, and given back.
    #[serde(default)]
    pub(super) balance_transactions: Vec<BalanceTransaction>,
}

impl DisputeObject {
    /// Whether all that was withdrawn for it was given back.
    pub(super) fn is_reinstated(&self) -> bool {
        let moved = self.balance_transactions.iter().map(|moved| i128::from(moved.amount));
        !self.balance_transactions.is_empty() && moved.sum::<i128>() >= 0
    }
}

/// Tells a field that is null from one that is not there.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(field: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(field).map(Some)
}

/// The id behind a reference, expanded or not.
pub(super) fn payment_id(reference: Option<&Expandable<Intent>>) -> Option<PaymentId> {
    match reference? {
        Expandable::Id(id) => id.parse().ok(),
        Expandable::Object(intent) => Some(intent.id.clone()),
    }
}

/// Why Stripe did not do what was asked.
#[derive(Debug, Deserialize)]
pub(super) struct ErrorBody {
    pub(super) error: ErrorObject,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct ErrorObject {
    pub(super) r#type: Option<String>,
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
}
