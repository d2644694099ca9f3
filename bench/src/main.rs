//! Measures CareForAll against baselines on this machine; `bench --help` explains.

mod baseline;
mod facts;
mod http;
mod lifecycles;
mod lives;
mod machine;
mod messages;
mod report;
mod rounds;
mod scenarios;
mod seed;
mod server;
mod stage;
mod subject;
mod wrk;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use careforall::Settings;
use clap::{Args, Parser, Subcommand};
use service::telemetry;

use crate::report::{Entry, Report};
use crate::scenarios::Scenario;
use crate::stage::Stage;

/// As in `careforall`, for ours and for the baselines.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures CareForAll against baselines, and writes the figures down.
///
/// It starts a Postgres and a Redis of its own, with durability left on, in a temporary folder
/// beside the results, and the services under test as processes of their own. Rounds of ours and
/// of the baseline alternate; the figures are medians. A scenario that sees an unexpected answer
/// fails and gives no figure.
///
/// Run a release build, on a machine that does nothing else. Needs wrk (apt-get install wrk), and
/// Postgres and Redis (scripts/install-services.sh).
#[derive(Parser)]
#[command(
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = "Examples:\n  \
        cargo run --release -p bench\n  \
        cargo run --release -p bench -- --only create_pledge_64 append_limit --seconds 10\n  \
        cargo run --release -p bench -- --only growth --growth-events 10000000"
)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What is measured, and how long.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Scenarios to run. [default: all]
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    only: Vec<Scenario>,

    /// Length of one round in seconds.
    #[arg(
        long, env = "BENCH_SECONDS", default_value_t = 3,
        value_parser = clap::value_parser!(u64).range(1..=3600),
    )]
    seconds: u64,

    /// Rounds of each side.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// Events that are in the ledger before `growth` and `read_after` begin. More make `growth`
    /// more telling; ten million take about five minutes to load.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(i64).range(1_000..))]
    growth_events: i64,

    /// Events that `replay_verify` checks.
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(i64).range(4_000..))]
    verify_events: i64,

    /// Where the figures go; machine.json is written beside it.
    #[arg(long, default_value = "target/bench/latest.json")]
    out: PathBuf,
}

/// The processes that the measurement starts itself.
#[derive(Subcommand)]
enum Part {
    /// Run CareForAll until standard input ends.
    #[command(hide = true)]
    ServeOurs(Box<Settings>),
    /// Run command-api by itself until standard input ends.
    #[command(hide = true)]
    ServeCommandApi(Box<Settings>),
    /// Run the projectors by themselves until standard input ends.
    #[command(hide = true)]
    ServeProjectors(Box<Settings>),
    /// Run a plain postgres-es service until standard input ends.
    #[command(hide = true)]
    ServeBaseline {
        #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
        database_url: String,
    },
    /// Answer every request with the same text until standard input ends.
    #[command(hide = true)]
    ServeBare {
        #[arg(long)]
        answer: String,
    },
    /// Run webhook-ingest's routes, without its worker, until standard input ends.
    #[command(hide = true)]
    ServeWebhookRoutes(Box<Settings>),
    /// Insert a row for every webhook until standard input ends.
    #[command(hide = true)]
    ServePlainWebhooks {
        #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
        database_url: String,
    },
    /// Take pledges through their whole lives, and print what was seen as JSON.
    #[command(hide = true)]
    Load(lifecycles::LoadSettings),
    /// Report captures, and print what was taken as JSON.
    #[command(hide = true)]
    Facts(facts::FactSettings),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    // Ours runs on the threads that the program gives it, everything else on those that tokio gives.
    let runtime = match cli.part {
        Some(Part::ServeOurs(_) | Part::ServeCommandApi(_) | Part::ServeWebhookRoutes(_)) => {
            careforall::runtime()?
        }
        _ => tokio::runtime::Runtime::new()?,
    };
    runtime.block_on(async {
        match cli.part {
            Some(Part::ServeOurs(settings)) => server::serve_ours(*settings).await,
            Some(Part::ServeCommandApi(settings)) => server::serve_command_api(*settings).await,
            Some(Part::ServeProjectors(settings)) => server::serve_projectors(*settings).await,
            Some(Part::ServeBaseline { database_url }) => baseline::serve(&database_url).await,
            Some(Part::ServeBare { answer }) => server::serve_bare(answer).await,
            Some(Part::ServeWebhookRoutes(settings)) => server::serve_webhook_routes(*settings).await,
            Some(Part::ServePlainWebhooks { database_url }) => baseline::serve_webhooks(&database_url).await,
            Some(Part::Load(settings)) => lifecycles::load(settings).await,
            Some(Part::Facts(settings)) => facts::load(settings).await,
            None => measure(cli.options).await,
        }
    })
}

async fn measure(options: Options) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("This is a debug build: its figures mean nothing. Use cargo run --release.");
    }
    // In production the metrics are on, so they are on where the ledger is measured in this process.
    telemetry::init_metrics()?;
    let folder = options.out.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).to_owned();
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
    let stage = Stage::start(&folder).await?;
    let machine = machine::describe(&stage).await?;
    report::write_json(&folder.join("machine.json"), &machine)?;
    println!("{machine}");

    // Ctrl-C drops the scenario under way, and its services with it; then the servers are stopped.
    let result = tokio::select! {
        result = run_scenarios(&stage, &options) => result,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    stage.stop().await?;
    result
}

async fn run_scenarios(stage: &Stage, options: &Options) -> anyhow::Result<()> {
    let mut report = Report::new(options.out.clone());
    let mut failed = Vec::new();
    for scenario in Scenario::chosen(&options.only) {
        eprintln!("{scenario} ...");
        let outcome: anyhow::Result<Entry> = scenario.run(stage, options).await;
        match outcome {
            Ok(entry) => report.add(entry)?,
            Err(error) => {
                eprintln!("{scenario} FAILED: {error:#}");
                failed.push(scenario.to_string());
            }
        }
    }
    println!("{report}");
    println!("Written to {}", options.out.display());
    if failed.is_empty() { Ok(()) } else { bail!("no figure for {}", failed.join(", ")) }
}
