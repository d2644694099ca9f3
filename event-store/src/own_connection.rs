//! A connection that is nobody else's.

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::time::timeout;

/// A connection of one writer: its server process keeps the plans and the pages that the next batch
/// needs. It is opened when it is first used, on the thread that uses it, and anew after it broke.
pub struct OwnConnection {
    pool: PgPool,
    settings: &'static [(&'static str, &'static str)],
    open: Option<PgConnection>,
}

impl OwnConnection {
    /// A connection to the database of `pool`, with its time limit and its rights; `settings` are set in
    /// its session besides.
    pub fn new(pool: PgPool, settings: &'static [(&'static str, &'static str)]) -> Self {
        Self { pool, settings, open: None }
    }

    /// Runs statements on it.
    ///
    /// # Errors
    /// What they say, or that the database is out of reach ([`is_transient`]); the next run then begins
    /// with a new connection.
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
        let options =
            PgConnectOptions::clone(&self.pool.connect_options()).options(self.settings.iter().copied());
        let connecting = PgConnection::connect_with(&options);
        let limit = self.pool.options().get_acquire_timeout();
        timeout(limit, connecting).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }
}

/// Whether the same statement may succeed a moment later: the connection is gone, the statement took
/// too long, or the server is starting, stopping or short of connections. Classes and codes of Postgres's appendix A.
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(database) => database
            .code()
            .is_some_and(|code| ["08", "53", "57", "40"].iter().any(|class| code.starts_with(class))),
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Protocol(_) => true,
        _ => false,
    }
}
