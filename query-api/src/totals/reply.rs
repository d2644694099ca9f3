//! Totals, as answers write them.

use axum::body::Bytes;
use chrono::{DateTime, Utc};
use read_model::{PledgeCounts, Totals};
use serde::Serialize;
use service::Problem;
use utoipa::ToSchema;
use uuid::Uuid;

/// The source of totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    /// The memory of this process, at most a second old.
    Cache,
    /// The mirror in Redis.
    Redis,
    /// The read table in Postgres.
    ReadTable,
}

impl Source {
    /// Its name in answers and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Redis => "redis",
            Self::ReadTable => "read_table",
        }
    }
}

/// A campaign's totals at one position of the ledger.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct TotalsReply {
    campaign_id: Uuid,
    /// ISO 4217 code of the campaign's only currency.
    currency: String,
    /// Captured money less what went back, in minor units.
    raised_minor: i64,
    /// Captured money that was refunded, in minor units.
    refunded_minor: i64,
    /// Captured money that was taken back without a dispute, in minor units.
    reversed_minor: i64,
    /// Captured money that was lost in disputes, in minor units.
    charged_back_minor: i64,
    /// Distinct donors whose money was captured, also where it went back.
    donors: i64,
    pledges: PledgeCountsReply,
    /// The campaign's goal, in minor units.
    goal_minor: i64,
    /// The position of the last event counted.
    position: i64,
    /// The instant of that event.
    as_of: DateTime<Utc>,
    // The last field, where `with_source` looks for it.
    source: Source,
}

/// The number of pledges in each state.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
struct PledgeCountsReply {
    pending: i64,
    authorized: i64,
    captured: i64,
    completed: i64,
    failed: i64,
    expired: i64,
    cancelled: i64,
}

impl From<PledgeCounts> for PledgeCountsReply {
    fn from(counts: PledgeCounts) -> Self {
        let PledgeCounts { pending, authorized, captured, completed, failed, expired, cancelled } = counts;
        Self { pending, authorized, captured, completed, failed, expired, cancelled }
    }
}

impl TotalsReply {
    fn new(totals: Totals, source: Source) -> Self {
        Self {
            campaign_id: totals.campaign_id,
            currency: totals.currency,
            raised_minor: totals.raised_minor,
            refunded_minor: totals.refunded_minor,
            reversed_minor: totals.reversed_minor,
            charged_back_minor: totals.charged_back_minor,
            donors: totals.donors,
            pledges: totals.pledges.into(),
            goal_minor: totals.goal_minor,
            position: totals.position,
            as_of: totals.as_of,
            source,
        }
    }
}

/// Writes totals behind what is in `json`.
///
/// # Errors
/// [`service::ProblemKind::Internal`] when they are not JSON.
pub(crate) fn write(json: &mut Vec<u8>, totals: Totals, source: Source) -> Result<(), Problem> {
    serde_json::to_writer(json, &TotalsReply::new(totals, source)).map_err(Problem::internal)
}

/// `json` was written with `from` as its source: the same totals from another source. Writing them again
/// would cost more than copying them.
pub(crate) fn with_source(json: &Bytes, from: Source, source: Source) -> Bytes {
    if from == source {
        return json.clone();
    }
    let end = b"\"}";
    let figures = &json[..json.len() - from.as_str().len() - end.len()];
    [figures, source.as_str().as_bytes(), end].concat().into()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::totals) fn totals(position: i64) -> Totals {
        Totals {
            campaign_id: Uuid::nil(),
            published: true,
            currency: "EUR".to_owned(),
            goal_minor: 100,
            raised_minor: position * 10,
            refunded_minor: 0,
            reversed_minor: 0,
            charged_back_minor: 0,
            loss_minor: 0,
            in_dispute_minor: 0,
            unapplied_minor: 0,
            donors: 1,
            pledges: PledgeCounts::default(),
            position,
            as_of: DateTime::UNIX_EPOCH,
        }
    }

    fn json(source: Source) -> Bytes {
        let mut json = Vec::new();
        write(&mut json, totals(7), source).unwrap();
        json.into()
    }

    #[test]
    fn another_source_changes_nothing_else() {
        let sources = [Source::Cache, Source::Redis, Source::ReadTable];
        for from in sources {
            for source in sources {
                assert_eq!(with_source(&json(from), from, source), json(source));
            }
        }
    }
}
