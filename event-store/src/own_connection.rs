//! A connection that is nobody else's.

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::time::timeout;

/// A session keeps the plans that it made while the tables were small: these settings leave it no choice
/// but the index, which is right at any size. Making a plan for each batch, or compiling one, takes longer
/// than running it.
const SETTINGS: [(&str, &str); 5] = [
    ("jit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];

/// A connection of one writer: its server process keeps the plans and the pages that the next batch
/// needs. It is opened when it is first used, on the thread that uses it, and anew after it broke.
pub struct OwnConnection {
    pool: PgPool,
    open: Option<PgConnection>,
}

impl OwnConnection {
    /// A connection to the database of `pool`, with its time limit and its rights.
    pub fn new(pool: PgPool) -> Self {
        Self { pool, open: None }
    }

    /// Runs statements on it.
    ///
    /// # Errors Their error, or that the database is out of reach ([`is_transient`]); the next run then
    /// begins with a new connection.
    pub async fn run<T>(
        &mut self,
        statements: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let mut connection = match self.open.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let result = statements(&mut connection).await;
        if !result.as_ref().is_err_and(is_transient) {
            self.open = Some(connection);
        }
        result
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let options = PgConnectOptions::clone(&self.pool.connect_options()).options(SETTINGS);
        let connecting = PgConnection::connect_with(&options);
        let limit = self.pool.options().get_acquire_timeout();
        timeout(limit, connecting).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }
}

/// Whether the same statement may succeed a moment later: the connection is gone, the statement took too
/// long, or the server is starting, stopping or short of connections. Classes and codes of Postgres's
/// appendix A.
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(database) => database
            .code()
            .is_some_and(|code| ["08", "53", "57", "40"].iter().any(|class| code.starts_with(class))),
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Protocol(_) => true,
        _ => false,
    }
}
