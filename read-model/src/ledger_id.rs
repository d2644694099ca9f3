//! The identity of the ledger.

use sqlx::PgExecutor;
use uuid::Uuid;

/// Which ledger the projections are made from; Redis keys carry it.
///
/// # Errors
/// Any error of the database.
pub async fn ledger_id(executor: impl PgExecutor<'_>) -> Result<Uuid, sqlx::Error> {
    sqlx::query_scalar("select ledger_id from ledger_identity").fetch_one(executor).await
}
