//! Pools of Postgres connections.

use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

/// The database access of one service.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Its name in `pg_stat_activity`.
    pub service: &'static str,
    /// The role whose rights it drops to; none for the owner of the schema.
    pub role: Option<&'static str>,
    /// Most connections open at once.
    pub max_connections: u32,
    /// Longest a statement may run.
    pub statement_timeout: Duration,
    /// Whether a commit waits for the disk. Not needed for data that can be rebuilt from the ledger.
    pub durable: bool,
    /// Further settings of its sessions.
    pub settings: &'static [(&'static str, &'static str)],
}

/// Opens a pool of connections.
///
/// No handler opens a transaction on it: a client that leaves in the middle of `begin` would leave
/// the transaction open in the pool. What needs several statements runs in a task of its own.
///
/// # Errors
/// The URL is malformed or the server cannot be reached.
pub async fn connect(database_url: &str, access: Access) -> anyhow::Result<PgPool> {
    let mut options = PgConnectOptions::from_str(database_url)
        .context("DATABASE_URL must look like postgres://user:password@host:5432/database")?
        .application_name(&format!("careforall-{}", access.service))
        .options([
            ("statement_timeout", access.statement_timeout.as_millis().to_string()),
            ("idle_in_transaction_session_timeout", "60000".to_owned()),
            ("synchronous_commit", if access.durable { "on" } else { "off" }.to_owned()),
            // Compiling a plan takes longer than any statement of ours runs.
            ("jit", "off".to_owned()),
        ]);
    options = options.options(access.settings.iter().copied());
    if let Some(role) = access.role {
        options = options.options([("role", role)]);
    }
    PgPoolOptions::new()
        .max_connections(access.max_connections)
        .acquire_timeout(Duration::from_secs(3))
        .connect_with(options)
        .await
        .context("Postgres cannot be reached; check DATABASE_URL")
}
