//! Pledges that nobody has paid in time.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgExecutor};
use uuid::Uuid;

/// A pledge that has been pending for longer than its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub struct OverduePledge {
    /// The pledge.
    pub pledge_id: Uuid,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When its time was over.
    pub overdue_since: DateTime<Utc>,
}

/// At most `limit` pledges that have been pending for longer than `ttl`, the oldest first, and behind `after`
/// in that order. The table may lag behind: the pledge itself says whether it is still pending.
///
/// # Errors
/// Any error of the database.
pub async fn overdue_pledges(
    executor: impl PgExecutor<'_>,
    ttl: Duration,
    after: Option<OverduePledge>,
    limit: usize,
) -> Result<Vec<OverduePledge>, sqlx::Error> {
    sqlx::query_as(
        "select pledge_id, created_at, created_at + make_interval(secs => $1) as overdue_since
         from pledges
         where status = 'pending' and created_at < now() - make_interval(secs => $1)
             and ($2::timestamptz is null or (created_at, pledge_id) > ($2, $3))
         order by created_at, pledge_id limit $4",
    )
    .bind(ttl.as_secs_f64())
    .bind(after.map(|after| after.created_at))
    .bind(after.map(|after| after.pledge_id))
    .bind(limit as i64)
    // Planned anew each time: a plan from when the table was small would read all of it.
    .persistent(false)
    .fetch_all(executor)
    .await
}

/// Those of `pledge_ids` that have been pending for longer than `ttl`.
///
/// # Errors
/// Any error of the database.
pub async fn overdue_among(
    executor: impl PgExecutor<'_>,
    ttl: Duration,
    pledge_ids: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "select pledge_id from pledges
         where pledge_id = any ($2) and status = 'pending' and created_at < now() - make_interval(secs => $1)",
    )
    .bind(ttl.as_secs_f64())
    .bind(pledge_ids)
    .persistent(false)
    .fetch_all(executor)
    .await
}
