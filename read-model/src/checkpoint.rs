//! How far the projections have come.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgExecutor};
use uuid::Uuid;

/// The live version of every projection with tables, by name.
pub const PROJECTIONS: [(&str, i32); 6] = [
    ("campaigns", 1),
    ("pledges", 1),
    ("campaign_totals", 1),
    ("accounts", 1),
    ("days", 1),
    ("totals_history", 1),
];

/// How far one version of a projector has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub struct Checkpoint {
    /// The last position it has folded.
    pub position: i64,
    /// When it got there.
    pub updated_at: DateTime<Utc>,
}

/// The checkpoint of one version of a projector; none before its first run.
///
/// # Errors
/// What the database says.
pub async fn load_checkpoint(
    executor: impl PgExecutor<'_>,
    name: &str,
    version: i32,
) -> Result<Option<Checkpoint>, sqlx::Error> {
    sqlx::query_as("select position, updated_at from projector_checkpoints where name = $1 and version = $2")
        .bind(name)
        .bind(version)
        .fetch_optional(executor)
        .await
}

/// Which ledger the projections are made from; Redis keys carry it.
///
/// # Errors
/// What the database says.
pub async fn ledger_id(executor: impl PgExecutor<'_>) -> Result<Uuid, sqlx::Error> {
    sqlx::query_scalar("select ledger_id from ledger_identity").fetch_one(executor).await
}
