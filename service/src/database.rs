//! Pools of Postgres connections.

use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::Context;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

/// Longest a program waits at its start for Postgres to answer, and the pause between two tries.
const START_PATIENCE: Duration = Duration::from_secs(60);
const START_PAUSE: Duration = Duration::from_millis(500);

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

/// Opens a pool of connections, and waits up to a minute for the first one.
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
    let pool = PgPoolOptions::new()
        .max_connections(access.max_connections)
        .acquire_timeout(Duration::from_secs(3))
        .connect_lazy_with(options);
    wait_for_server(&pool).await.context("Postgres cannot be reached; check DATABASE_URL")?;
    Ok(pool)
}

/// Waits for the first connection: the server may be starting too, or be busy.
async fn wait_for_server(pool: &PgPool) -> Result<(), sqlx::Error> {
    let began = Instant::now();
    loop {
        match pool.acquire().await {
            Ok(_) => return Ok(()),
            Err(error @ (sqlx::Error::PoolTimedOut | sqlx::Error::Io(_)))
                if began.elapsed() < START_PATIENCE =>
            {
                tracing::warn!(%error, "Postgres does not answer yet; trying again");
                tokio::time::sleep(START_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}
