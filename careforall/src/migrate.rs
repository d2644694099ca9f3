//! The schema, forward only.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, anyhow};
use service::database::{self, Access};
use sqlx::PgPool;
use sqlx::migrate::{MigrateError, Migrator};

static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// A migration may rewrite a table.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(3600);

/// Brings the schema up to date, as the user of `database_url`, who owns it. Several processes may call it at
/// once: one migrates, the others wait.
///
/// # Errors
/// Postgres cannot be reached, a migration fails, or the database has migrations that this program does not
/// have: then it was made by a newer version, or by a working copy from before the first release.
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
    let migrated = match MIGRATOR.run(&pool).await {
        Err(MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_)) => Err(refusal(&pool).await),
        migrated => migrated.map_err(anyhow::Error::from),
    };
    pool.close().await;
    migrated.context("the schema cannot be brought up to date")
}

/// Why a database is refused that has migrations which this program does not have.
async fn refusal(pool: &PgPool) -> anyhow::Error {
    match has_edited_migrations(pool).await {
        Ok(true) => anyhow!(
            "the database has the schema of an earlier development version, which was never released; there is no \
             way from it to this one. Drop the database, or move the data folder of `careforall up` away, and start \
             again with an empty one"
        ),
        Ok(false) => anyhow!(
            "a newer version of the program has migrated the database; start that version, or a later one"
        ),
        Err(error) => error.into(),
    }
}

/// Whether the database has a migration under a number of ours that is not ours.
async fn has_edited_migrations(pool: &PgPool) -> Result<bool, sqlx::Error> {
    let applied: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("select version, checksum from _sqlx_migrations").fetch_all(pool).await?;
    let ours: HashMap<i64, &[u8]> =
        MIGRATOR.iter().map(|migration| (migration.version, &*migration.checksum)).collect();
    Ok(applied
        .iter()
        .any(|(version, theirs)| ours.get(version).is_some_and(|ours| *ours != theirs.as_slice())))
}
