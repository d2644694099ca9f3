//! Rows of the read tables.

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use uuid::Uuid;

/// A row of `campaigns`.
#[derive(Clone, Debug, PartialEq, FromRow)]
pub struct Campaign {
    /// The campaign.
    pub campaign_id: Uuid,
    /// `draft`, `published` or `closed`.
    pub status: String,
    /// The headline.
    pub title: String,
    /// What the money is for.
    pub description: Option<String>,
    /// How much is wanted, in minor units.
    pub goal_minor: i64,
    /// ISO 4217 code of its only currency.
    pub currency: String,
    /// From this instant on no pledge is taken.
    pub ends_at: Option<DateTime<Utc>>,
    /// When the draft was written.
    pub created_at: DateTime<Utc>,
    /// When it opened.
    pub published_at: Option<DateTime<Utc>>,
    /// When it closed.
    pub closed_at: Option<DateTime<Utc>>,
    /// The position of its own last event.
    pub position: i64,
}

/// A row of `pledges`.
#[derive(Clone, Debug, PartialEq, FromRow)]
pub struct Pledge {
    /// The pledge.
    pub pledge_id: Uuid,
    /// The campaign it is for.
    pub campaign_id: Uuid,
    /// The donor's pseudonym.
    pub donor_id: Uuid,
    /// The name of its state.
    pub status: String,
    /// How much is promised, in minor units.
    pub amount_minor: i64,
    /// How much was taken, in minor units, once it was.
    pub captured_minor: Option<i64>,
    /// How much of that was refunded, in minor units.
    pub refunded_minor: i64,
    /// How much of that was lost in disputes, in minor units.
    pub charged_back_minor: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// Whether the donor wishes to stay nameless in public.
    pub anonymous: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// The position of its own last event.
    pub position: i64,
}

/// A row of `pledge_history`.
#[derive(Clone, Debug, PartialEq, FromRow)]
pub struct HistoryEntry {
    /// Where the event stands in the ledger.
    pub position: i64,
    /// The event's name.
    pub event_type: String,
    /// The state it led to; none where it changed no state.
    pub status: Option<String>,
    /// The amount it is about, in minor units.
    pub amount_minor: Option<i64>,
    /// When it was recorded.
    pub recorded_at: DateTime<Utc>,
}

/// A row of `unapplied_payments`.
#[derive(Clone, Debug, PartialEq, FromRow)]
pub struct UnappliedPayment {
    /// The pledge that could not use it.
    pub pledge_id: Uuid,
    /// The provider's payment.
    pub payment_id: String,
    /// The campaign the pledge is for.
    pub campaign_id: Uuid,
    /// The donor's pseudonym.
    pub donor_id: Uuid,
    /// How much was taken, in minor units.
    pub amount_minor: i64,
    /// How much of that went back in any way, in minor units.
    pub given_back_minor: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// `held`, `refunded` or `accepted`.
    pub status: String,
    /// The pledge that it became, once it was accepted.
    pub accepted_as: Option<Uuid>,
    /// The position of the event that says that it was taken.
    pub position: i64,
    /// When that event was recorded.
    pub received_at: DateTime<Utc>,
}

/// A row of `donations`, as the public may see it: without pledge and donor.
#[derive(Clone, Debug, PartialEq, FromRow)]
pub struct Donation {
    /// The position of the capture in the ledger.
    pub position: i64,
    /// How much was given and is still there, in minor units.
    pub amount_minor: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// Whether the donor wishes to stay nameless.
    pub anonymous: bool,
    /// The donor's name, unless anonymous, unknown or erased.
    pub donor_name: Option<String>,
    /// What the donor said.
    pub message: Option<String>,
    /// When the money was taken.
    pub captured_at: DateTime<Utc>,
}
