//! `careforall`: see `careforall --help`.

use std::process::ExitCode;

use careforall::{DatabaseSettings, Role, Settings, Up, migrate, run_role, runtime};
use clap::{Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use service::telemetry::{self, LogFormat};
use service::{Shutdown, shutdown_on_signal};

/// A request makes and drops many small things; the system's allocator took a fifth of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A donation ledger that never loses, doubles or misplaces a gift.
///
/// `careforall up` runs everything in one process, with a Postgres and a Redis of its own where
/// none are set. The other commands run one service each, for a system of several machines.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything behind one address.
    Up(Settings),
    #[command(flatten)]
    One(Role),
    /// Bring the schema up to date.
    Migrate(DatabaseSettings),
}

fn main() -> ExitCode {
    let cli: Cli = service::parse();
    match runtime().and_then(|runtime| runtime.block_on(run(cli))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("careforall: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    raise_file_limit();
    match cli.command {
        Command::Up(settings) => {
            telemetry::init_logs(settings.log_format);
            up(settings, shutdown_on_signal()?).await
        }
        Command::One(role) => {
            telemetry::init_logs(role.settings().log_format);
            run_role(role, shutdown_on_signal()?).await
        }
        Command::Migrate(settings) => {
            telemetry::init_logs(LogFormat::Auto);
            migrate(&settings.database_url()?).await
        }
    }
}

async fn up(settings: Settings, shutdown: Shutdown) -> anyhow::Result<()> {
    let up = tokio::select! {
        up = Up::start(settings, shutdown.clone()) => up?,
        // Ctrl-C while starting: what was started is tied to this process and ends with it.
        () = shutdown.cancelled() => return Ok(()),
    };
    println!("{}", up.banner());
    up.finish().await
}

/// Watchers hold a connection each, and the usual limit of open files is low.
fn raise_file_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err()
    {
        tracing::debug!("the limit of open files stays as it is");
    }
}
