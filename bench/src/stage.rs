//! What the measurements stand on: one Postgres and one Redis, and databases in them.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use careforall::embedded::{EmbeddedPostgres, EmbeddedRedis};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tempfile::TempDir;

/// A running Postgres and Redis, in a folder that is removed afterwards.
pub(crate) struct Stage {
    postgres: EmbeddedPostgres,
    redis: EmbeddedRedis,
    pool: PgPool,
    folder: TempDir,
}

/// A database of one scenario.
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) url: String,
    /// Connections for looking at it, which are not the ones under test.
    pub(crate) pool: PgPool,
}

impl Stage {
    /// Starts both servers in a new folder below `parent`. Not in the usual place for temporary
    /// files, which may be kept in memory, where a flush costs nothing.
    pub(crate) async fn start(parent: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("data-")
            .tempdir_in(parent)
            .with_context(|| format!("no temporary folder can be made in {}", parent.display()))?;
        let postgres = EmbeddedPostgres::start_with(folder.path(), &[("min_wal_size", "2GB")]).await?;
        let redis = EmbeddedRedis::start(folder.path()).await?;
        let pool = open(postgres.url()).await?;
        let stage = Self { postgres, redis, pool, folder };
        stage.age_log().await?;
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            let value = stage.setting(setting).await?;
            ensure!(value == "on", "{setting} is {value}: without it nothing is durable");
        }
        Ok(stage)
    }

    /// Writes the files of Postgres's log once, so that it overwrites them from now on, as it does
    /// wherever it has been in use for some hours. A new server fills each file with zeros first, and
    /// whoever commits meanwhile waits for that.
    async fn age_log(&self) -> anyhow::Result<()> {
        let fill = "select pg_logical_emit_message(false, '', repeat('x', 16 * 1024 * 1024))
            from generate_series(1, 120)";
        sqlx::raw_sql(fill).execute(&self.pool).await.context("the log cannot be filled")?;
        self.checkpoint().await
    }

    /// A setting of Postgres, as `show` says it.
    pub(crate) async fn setting(&self, name: &str) -> anyhow::Result<String> {
        let value = sqlx::query_scalar("select current_setting($1)").bind(name).fetch_one(&self.pool).await;
        value.with_context(|| format!("show {name}"))
    }

    /// Makes an empty database.
    pub(crate) async fn create_database(&self, name: &str) -> anyhow::Result<Database> {
        sqlx::raw_sql(&format!("create database {name}"))
            .execute(&self.pool)
            .await
            .with_context(|| format!("the database {name} cannot be made"))?;
        let (server, _) =
            self.postgres.url().rsplit_once('/').context("Postgres's address has no database")?;
        let url = format!("{server}/{name}");
        Ok(Database { name: name.to_owned(), pool: open(&url).await?, url })
    }

    /// Makes a database with the ledger's schema.
    pub(crate) async fn create_ledger(&self, name: &str) -> anyhow::Result<Database> {
        let database = self.create_database(name).await?;
        careforall::migrate(&database.url).await?;
        Ok(database)
    }

    /// Removes a database, so that its size does not weigh on the next scenario.
    pub(crate) async fn drop_database(&self, database: Database) -> anyhow::Result<()> {
        database.pool.close().await;
        let statement = format!("drop database {} with (force)", database.name);
        sqlx::raw_sql(&statement).execute(&self.pool).await.context(statement)?;
        Ok(())
    }

    /// Writes everything out, so that no checkpoint is due while a scenario runs. Not before every
    /// round: the first change of a page after a checkpoint logs the whole page, and rounds of a
    /// few seconds would see little else, which five minutes between checkpoints make rare.
    pub(crate) async fn checkpoint(&self) -> anyhow::Result<()> {
        sqlx::raw_sql("checkpoint").execute(&self.pool).await.context("checkpoint")?;
        Ok(())
    }

    /// The address of Redis, with its password.
    pub(crate) fn redis_url(&self) -> &str {
        self.redis.url()
    }

    /// A folder for files that are gone afterwards.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file in that folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Stops both servers and removes the folder.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.pool.close().await;
        self.redis.stop().await?;
        self.postgres.stop().await?;
        self.folder.close().context("the temporary folder cannot be removed")
    }
}

async fn open(url: &str) -> anyhow::Result<PgPool> {
    PgPoolOptions::new().max_connections(4).connect(url).await.context("Postgres cannot be reached")
}
