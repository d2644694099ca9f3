//! `replay`: see `replay --help`.

mod ledger_fold;
mod places;
mod show;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::places::Places;

/// As in `careforall`: folding makes many small things.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The auditors' view of the ledger: everything is checked, and no projection is trusted.
///
/// It reads the ledger itself, from position 1, by rules of its own, and compares what it finds with
/// the read tables and with the totals in Redis. All that it needs is the address of the database and
/// a role that may read. The system may go on working meanwhile.
#[derive(Parser)]
#[command(
    version,
    disable_help_subcommand = true,
    after_long_help = "\
Exit codes:
  0  all is well
  1  a difference was found, or what was asked for does not exist
  2  it could not be done: wrong arguments, Postgres or Redis out of reach

Each command explains itself: replay verify --help. docs/auditing.md says what is proved."
)]
struct Cli {
    #[command(flatten)]
    places: Places,
    /// Print JSON for programs instead of tables for people.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// A subcommand is one file: its arguments, and `run`, which says whether all is well.
#[derive(Subcommand)]
enum Command {
    Show(show::Arguments),
    Verify(verify::Arguments),
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
        Command::Show(arguments) => show::run(&places, arguments, json).await,
        Command::Verify(arguments) => verify::run(&places, arguments, json).await,
    }
}
