//! A campaign's totals: the row of `campaign_totals`, and the same values in Redis.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgExecutor};
use uuid::Uuid;

/// How many pledges of a campaign are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromRow)]
pub struct PledgeCounts {
    /// Made, not paid.
    pub pending: i64,
    /// The money is reserved.
    pub authorized: i64,
    /// The money is taken.
    pub captured: i64,
    /// The money has arrived.
    pub completed: i64,
    /// The payment failed for good.
    pub failed: i64,
    /// Nobody paid in time.
    pub expired: i64,
    /// The donor withdrew.
    pub cancelled: i64,
}

/// A campaign's totals, up to one position of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromRow)]
pub struct Totals {
    /// The campaign.
    pub campaign_id: Uuid,
    /// Whether it was ever published; a draft's totals are for organisers.
    pub published: bool,
    /// ISO 4217 code of its only currency.
    pub currency: String,
    /// How much is wanted, in minor units.
    pub goal_minor: i64,
    /// How much was captured and is still there, in minor units.
    pub raised_minor: i64,
    /// How much of captured money was refunded, in minor units. A message of an older version lacks
    /// it: nothing is gone.
    #[serde(default)]
    pub refunded_minor: i64,
    /// How much of captured money was taken back without a dispute, in minor units; as above.
    #[serde(default)]
    pub reversed_minor: i64,
    /// How much of captured money was lost in disputes, in minor units; as above.
    #[serde(default)]
    pub charged_back_minor: i64,
    /// How much went back beyond what was captured, in minor units; as above.
    #[serde(default)]
    pub loss_minor: i64,
    /// How much open disputes have withdrawn, in minor units; as above. It is still part of what was raised
    /// or is held apart.
    #[serde(default)]
    pub in_dispute_minor: i64,
    /// How much is held apart and still there, in minor units; not part of what was raised.
    pub unapplied_minor: i64,
    /// Distinct donors whose money was captured, also where it went back.
    pub donors: i64,
    /// Pledges by state.
    #[sqlx(flatten)]
    pub pledges: PledgeCounts,
    /// The position of the last event counted.
    pub position: i64,
    /// The instant of that event.
    pub as_of: DateTime<Utc>,
}

/// The totals of one campaign; none if it does not exist.
///
/// # Errors
/// Any error of the database.
pub async fn load_totals(
    executor: impl PgExecutor<'_>,
    campaign_id: Uuid,
) -> Result<Option<Totals>, sqlx::Error> {
    sqlx::query_as("select * from campaign_totals where campaign_id = $1")
        .bind(campaign_id)
        .fetch_optional(executor)
        .await
}

/// The totals of at most `limit` campaigns that follow `after` in the order of their ids.
///
/// # Errors
/// Any error of the database.
pub async fn load_totals_page(
    executor: impl PgExecutor<'_>,
    after: Uuid,
    limit: i64,
) -> Result<Vec<Totals>, sqlx::Error> {
    sqlx::query_as("select * from campaign_totals where campaign_id > $1 order by campaign_id limit $2")
        .bind(after)
        .bind(limit)
        .fetch_all(executor)
        .await
}
