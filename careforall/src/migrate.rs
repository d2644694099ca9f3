//! The schema, forward only.

use std::time::Duration;

use anyhow::Context;
use service::database::{self, Access};
use sqlx::migrate::Migrator;

static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// A migration may rewrite a table.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(3600);

/// Brings the schema up to date, as the user of `database_url`, who owns it. Several processes may call it at once: one migrates, the others
/// wait.
///
/// # Errors
/// Postgres cannot be reached, a migration fails, or the database was migrated by a newer version of the program.
pub async fn migrate(database_url: &str) -> anyhow::Result<()> {
    let access = Access {
        service: "migrate",
        role: None,
        max_connections: 1,
        statement_timeout: STATEMENT_TIMEOUT,
        durable: true,
        settings: &[],
    };
    let pool = database::connect(database_url, access).await?;
    let migrated = MIGRATOR.run(&pool).await.context("the schema cannot be brought up to date");
    pool.close().await;
    migrated
}
