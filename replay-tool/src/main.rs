//! `replay`: see `replay --help`.

mod ledger_fold;
mod rebuild;
mod reconcile;
mod show;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use domain::PledgeId;
use projectors::RebuildOptions;
use read_model::RedisTotals;
use service::ServicesFile;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

/// The auditors' view of the ledger: nothing is changed, everything is checked.
///
/// It reads the ledger itself and trusts no projection. Exit codes: 0 all is well, 1 a difference
/// was found or what was asked for does not exist, 2 the check could not be made.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    places: Places,
    /// Print JSON for programs; for `reconcile`.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// Where the ledger is.
#[derive(Args)]
struct Places {
    /// Postgres to read from; a read-only role is enough.
    /// [default: the one of a running `careforall up` on the data folder]
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true)]
    database_url: Option<String>,

    /// Redis to compare with. [default: as for --database-url]
    #[arg(long, env = "REDIS_URL", hide_env_values = true, global = true)]
    redis_url: Option<String>,

    /// Data folder of a running `careforall up`.
    #[arg(long, env = "CAREFORALL_DATA_DIR", default_value = ".careforall", global = true)]
    data_dir: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Show what the ledger holds.
    #[command(subcommand)]
    Show(Show),
    /// Check the whole ledger, and every projection against it.
    ///
    /// Positions are contiguous from 1, every transition is an edge of the state machine, and a
    /// fold of the ledger equals the read tables and the totals in Redis at the same position. Says
    /// the first difference and exits with 1.
    Verify,
    /// Build a projection anew from the ledger, and switch over; readers notice nothing.
    ///
    /// The one command that writes. The new tables are built beside the live ones, both are compared at
    /// one position, and the new ones take over in a moment in which nobody uses them. It may be
    /// interrupted, and goes on where it was when it is run again. If the live tables turn out to be
    /// wrong, it says how, keeps the new ones, and exits with 1.
    ///
    /// Needs the user that owns the tables: the one that runs `careforall migrate`.
    Rebuild {
        /// The projection.
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(projectors::REBUILDABLE))]
        projection: String,
        /// Switch over even if the live tables differ.
        #[arg(long)]
        accept_differences: bool,
        /// Begin anew, even if an earlier run left something to go on from.
        #[arg(long)]
        restart: bool,
    },
    Reconcile(reconcile::Arguments),
}

#[derive(Subcommand)]
enum Show {
    /// The history of one pledge, with positions and times.
    Pledge {
        /// The pledge's id.
        id: PledgeId,
    },
}

impl Places {
    /// The data folder says where things are, unless both addresses are given.
    fn services(&self) -> anyhow::Result<ServicesFile> {
        ServicesFile::read(&self.data_dir)
            .context("name the ledger by --database-url and --redis-url, or by --data-dir")
    }

    async fn pool(&self) -> anyhow::Result<PgPool> {
        let url = match &self.database_url {
            Some(url) => url.clone(),
            None => self.services()?.database_url,
        };
        let pool = PgPoolOptions::new().max_connections(2).connect(&url).await;
        pool.context("Postgres cannot be reached")
    }

    async fn redis(&self, pool: &PgPool) -> anyhow::Result<RedisTotals> {
        let url = match &self.redis_url {
            Some(url) => url.clone(),
            None => self.services()?.redis_url,
        };
        let redis = RedisTotals::open(&url, read_model::ledger_id(pool).await?)
            .context("the address of Redis cannot be used")?;
        redis.ping().await.context("Redis cannot be reached")?;
        Ok(redis)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("replay: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether what was asked for is well.
async fn run(cli: Cli) -> anyhow::Result<bool> {
    let Cli { places, json, command } = cli;
    match command {
        Command::Show(Show::Pledge { id }) => show::pledge(&places.pool().await?, id).await,
        Command::Rebuild { projection, accept_differences, restart } => {
            let options = RebuildOptions { restart, accept_differences };
            rebuild::run(&places.pool().await?, &projection, options).await
        }
        Command::Verify => {
            let pool = places.pool().await?;
            verify::verify(&pool, &places.redis(&pool).await?).await
        }
        Command::Reconcile(arguments) => reconcile::run(&places, arguments, json).await,
    }
}
