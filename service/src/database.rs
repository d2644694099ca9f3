//! Pools of Postgres connections.

use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

/// Opens a pool of at most `max_connections`, each under the name `service` in
/// `pg_stat_activity`. No statement runs longer than `statement_timeout`.
///
/// No handler opens a transaction on it: a client that leaves in the middle of `begin` would leave
/// the transaction open in the pool. What needs several statements runs in a task of its own.
///
/// # Errors
/// The URL is malformed or the server cannot be reached.
pub async fn connect(
    database_url: &str,
    service: &str,
    max_connections: u32,
    statement_timeout: Duration,
) -> anyhow::Result<PgPool> {
    let options = PgConnectOptions::from_str(database_url)
        .context("DATABASE_URL must look like postgres://user:password@host:5432/database")?
        .application_name(&format!("careforall-{service}"))
        .options([
            ("statement_timeout", statement_timeout.as_millis().to_string()),
            ("idle_in_transaction_session_timeout", "60000".to_owned()),
        ]);
    PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(Duration::from_secs(3))
        .connect_with(options)
        .await
        .context("Postgres cannot be reached; check DATABASE_URL")
}
