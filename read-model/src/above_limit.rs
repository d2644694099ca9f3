//! Payments that wait for a person.

use sqlx::PgExecutor;

/// How many payments took more than the limit for their pledges, and are neither accepted nor given back.
///
/// # Errors
/// Any error of the database.
pub async fn payments_above_limit(executor: impl PgExecutor<'_>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "select count(*) from unapplied_payments where reason = 'above_limit' and status = 'held'",
    )
    .fetch_one(executor)
    .await
}
