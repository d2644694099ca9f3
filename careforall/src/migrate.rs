//! The schema, forward only.

use anyhow::Context;
use sqlx::PgPool;
use sqlx::migrate::Migrator;

static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// Brings the schema up to date. Several processes may call it at once: one migrates, the others
/// wait.
///
/// # Errors
/// A migration fails, or the database was migrated by a newer version of the program.
pub async fn migrate(pool: &PgPool) -> anyhow::Result<()> {
    MIGRATOR.run(pool).await.context("the schema cannot be brought up to date")
}
