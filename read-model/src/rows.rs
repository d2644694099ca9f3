//! Rows of the read tables.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::FromRow;
use uuid::Uuid;

/// A row of `campaigns`.
#[derive(Clone, Debug, PartialEq, FromRow)]
pub struct CampaignView {
    /// The campaign.
    pub campaign_id: Uuid,
    /// `draft`, `published` or `closed`.
    pub status: String,
    /// The headline.
    pub title: String,
    /// The purpose of the money.
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
pub struct PledgeView {
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
    /// How much was taken, in minor units; none where nothing was.
    pub captured_minor: Option<i64>,
    /// How much of that was refunded, in minor units.
    pub refunded_minor: i64,
    /// How much of that was taken back without a dispute, in minor units.
    pub reversed_minor: i64,
    /// How much of that was lost in disputes, in minor units.
    pub charged_back_minor: i64,
    /// How much went back beyond what its payments took, in minor units.
    pub loss_minor: i64,
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
    /// What the provider said of a payment, in a word; none where it said nothing.
    pub said: Option<String>,
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
    /// `not_needed` or `above_limit`.
    pub reason: String,
    /// `held`, `refunded` or `accepted`.
    pub status: String,
    /// The pledge that it pays, once it was accepted.
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
    /// The donor's message.
    pub message: Option<String>,
    /// When money of it was first taken.
    pub captured_at: DateTime<Utc>,
}

/// A row of `campaign_donors`: what a donor has given to one campaign.
///
/// A donor is a pseudonym, of a guest's address or of an account, so one registered donor's
/// history may be that of several: `where donor_id = any($1)`.
#[derive(Clone, Debug, PartialEq, FromRow)]
pub struct CampaignDonor {
    /// The campaign.
    pub campaign_id: Uuid,
    /// The donor's pseudonym.
    pub donor_id: Uuid,
    /// How many of their pledges were captured.
    pub captured_pledges: i64,
    /// How much was captured, in minor units.
    pub captured_minor: i64,
    /// How much of that was refunded, in minor units.
    pub refunded_minor: i64,
    /// How much of that was taken back without a dispute, in minor units.
    pub reversed_minor: i64,
    /// How much of that was lost in disputes, in minor units.
    pub charged_back_minor: i64,
    /// When money of them was first captured.
    pub first_captured_at: DateTime<Utc>,
    /// When money of them was last captured.
    pub last_captured_at: DateTime<Utc>,
}

/// One day (UTC): of a campaign in `campaign_days`, over all campaigns of a currency in `overall_days`. What
/// becomes of pledges counts on the day on which it was recorded, and money on the day on which it moved.
#[derive(Clone, Debug, PartialEq, FromRow)]
pub struct Day {
    /// The day, in UTC.
    pub day: NaiveDate,
    /// ISO 4217 code.
    pub currency: String,
    /// Pledges made.
    pub created: i64,
    /// How much they promised when they were made, in minor units.
    pub created_minor: i64,
    /// Pledges whose money was first taken.
    pub captured: i64,
    /// How much was taken, in minor units.
    pub captured_minor: i64,
    /// Pledges whose money arrived.
    pub completed: i64,
    /// Pledges whose payment failed for good.
    pub failed: i64,
    /// Pledges that nobody paid in time.
    pub expired: i64,
    /// Pledges that were withdrawn.
    pub cancelled: i64,
    /// How much of captured money was refunded, whenever it was captured, in minor units.
    pub refunded_minor: i64,
    /// How much of captured money was taken back without a dispute, in minor units.
    pub reversed_minor: i64,
    /// How much of captured money was lost in disputes, in minor units.
    pub charged_back_minor: i64,
    /// Change in money held apart on that day, in minor units.
    pub unapplied_minor: i64,
    /// Change in raised money on that day, in minor units: captured less what went back. The sum over all
    /// days is the money raised.
    pub net_minor: i64,
    /// When the last change was recorded that came after the day had ended; none if none did.
    pub revised_at: Option<DateTime<Utc>>,
}

/// A row of `journal`: an amount moved from one account to another.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct JournalLine {
    /// The event that it comes from.
    pub position: i64,
    /// Its number among the lines of that event, from 1.
    pub line: i16,
    /// The account that is debited; see [`ACCOUNTS`].
    pub debit_account: String,
    /// The account that is credited.
    pub credit_account: String,
    /// The campaign whose accounts they are.
    pub campaign_id: Uuid,
    /// The pledge that it is about.
    pub pledge_id: Uuid,
    /// How much, in minor units; positive.
    pub amount_minor: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// When the money moved.
    pub occurred_at: DateTime<Utc>,
    /// When the event was recorded.
    pub recorded_at: DateTime<Utc>,
}

/// Every account of a campaign, as the journal names them and in the order of [`CampaignAccounts`].
pub const ACCOUNTS: [&str; 10] = [
    "provider_clearing",
    "bank",
    "disputed",
    "campaign",
    "unapplied",
    "refunds",
    "reversals",
    "chargebacks",
    "losses",
    "fees",
];

/// A row of `campaign_accounts`: balances in minor units, debits less credits. They add up to zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, FromRow)]
pub struct CampaignAccounts {
    /// The campaign.
    pub campaign_id: Uuid,
    /// ISO 4217 code.
    pub currency: String,
    /// Taken by the provider and not paid out yet; negative when it gave back more than that.
    pub provider_clearing_minor: i64,
    /// Settled.
    pub bank_minor: i64,
    /// Withdrawn by disputes that are open.
    pub disputed_minor: i64,
    /// Given, before anything went back; negative.
    pub campaign_minor: i64,
    /// Held apart; negative.
    pub unapplied_minor: i64,
    /// Given back by refund.
    pub refunds_minor: i64,
    /// Taken back without a dispute.
    pub reversals_minor: i64,
    /// Lost in disputes.
    pub chargebacks_minor: i64,
    /// Gone beyond what was captured.
    pub losses_minor: i64,
    /// The provider's fees.
    pub fees_minor: i64,
    /// The position of the last event that was posted.
    pub position: i64,
}

/// A row of `account_balances`.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct AccountBalance {
    /// The campaign.
    pub campaign_id: Uuid,
    /// ISO 4217 code.
    pub currency: String,
    /// One of [`ACCOUNTS`].
    pub account: String,
    /// Debits less credits, in minor units.
    pub balance_minor: i64,
}
