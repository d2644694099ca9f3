//! Where the ledger is.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use event_store::EventReader;
use read_model::RedisTotals;
use service::ServicesFile;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

/// Where the ledger and its projections are.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Where the ledger is")]
pub(crate) struct Connection {
    /// Postgres to read from; a read-only role such as careforall_auditor is enough.
    /// [default: the one of a running `careforall up` on the data folder]
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true, value_name = "URL")]
    pub(crate) database_url: Option<String>,

    /// Redis to compare totals with. Without it, and with --database-url, Redis is not looked at.
    /// [default: the one of a running `careforall up`, if the database is taken from there]
    #[arg(long, env = "REDIS_URL", hide_env_values = true, global = true, value_name = "URL")]
    pub(crate) redis_url: Option<String>,

    /// Data folder of a running `careforall up`.
    #[arg(
        long,
        env = "CAREFORALL_DATA_DIR",
        default_value = ".careforall",
        global = true,
        value_name = "FOLDER"
    )]
    pub(crate) data_dir: PathBuf,

    /// How events of the past are read.
    #[arg(skip)]
    pub(crate) reader: EventReader,
}

/// The addresses that were found.
#[derive(Clone)]
pub(crate) struct Addresses {
    database_url: String,
    redis_url: Option<String>,
    /// How events of the past are read.
    pub(crate) reader: EventReader,
}

impl Connection {
    /// The addresses: those given, or those of a running `careforall up`. A Redis of the data folder
    /// is never taken for a database that was named: they may belong to two systems.
    ///
    /// # Errors
    /// Nothing is named and nothing runs on the data folder.
    pub(crate) fn addresses(&self) -> anyhow::Result<Addresses> {
        let given = |url: &Option<String>| url.clone().filter(|url| !url.trim().is_empty());
        let (redis_url, reader) = (given(&self.redis_url), self.reader);
        if let Some(database_url) = given(&self.database_url) {
            return Ok(Addresses { database_url, redis_url, reader });
        }
        let services = ServicesFile::read(&self.data_dir)
            .context("name the ledger by --database-url, or a running system by --data-dir")?;
        let redis_url = redis_url.or(Some(services.redis_url));
        Ok(Addresses { database_url: services.database_url, redis_url, reader })
    }

    /// A pool of few connections to the ledger's database.
    ///
    /// # Errors
    /// It cannot be reached.
    pub(crate) async fn pool(&self) -> anyhow::Result<PgPool> {
        self.addresses()?.pool().await
    }
}

impl Addresses {
    /// How to connect to the database, under a name that its administrator recognises.
    ///
    /// # Errors
    /// The address is malformed.
    pub(crate) fn database(&self) -> anyhow::Result<PgConnectOptions> {
        let options: PgConnectOptions = self
            .database_url
            .parse()
            .context("--database-url must look like postgres://user:password@host:5432/database")?;
        Ok(options.application_name("careforall-replay"))
    }

    /// A pool of few connections.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub(crate) async fn pool(&self) -> anyhow::Result<PgPool> {
        let pool = PgPoolOptions::new().max_connections(2).connect_with(self.database()?).await;
        pool.context("Postgres cannot be reached")
    }

    /// The totals in Redis, if a Redis is known.
    ///
    /// # Errors
    /// It is known and cannot be reached.
    pub(crate) async fn redis(&self, pool: &PgPool) -> anyhow::Result<Option<RedisTotals>> {
        let Some(url) = &self.redis_url else { return Ok(None) };
        let redis = RedisTotals::open(url, read_model::ledger_id(pool).await?)
            .context("--redis-url must look like redis://host:6379")?;
        redis.ping().await.context("Redis cannot be reached")?;
        Ok(Some(redis))
    }
}
