//! The auditors' command line. It is a library for one reason: tests run it with a table of upcasts of
//! their own:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use domain::upcast::{Upcast, rename};
//! use domain::{EventKind, UpcastTable};
//! use event_store::EventReader;
//!
//! /// `PledgeAmended` had another name once, and another field.
//! const STEPS: &[Upcast] = &[Upcast {
//!     from: EventKind { name: "PledgeChanged", version: "1" },
//!     to: EventKind { name: "PledgeAmended", version: "1" },
//!     step: |fields| rename(fields, "money", "amount"),
//! }];
//!
//! #[tokio::main]
//! async fn main() -> ExitCode {
//!     replay_tool::main(EventReader::new(UpcastTable(STEPS))).await
//! }
//! ```

mod as_of;
mod compared;
mod connection;
mod diff;
mod events;
mod export;
mod figures;
mod fold;
mod grouping;
mod ledger;
mod ledger_rows;
mod memory;
mod occurrence;
mod output;
mod past;
mod payments_once;
mod progress;
mod projection_argument;
mod projections;
mod rebuild;
mod reconcile;
mod redis_totals;
mod rows;
mod show;
mod snapshot;
mod sorter;
mod tail;
#[cfg(test)]
mod told;
mod totals;
mod trial_balance;
mod tuple;
mod verify;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use event_store::EventReader;

use crate::connection::Connection;

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
    connection: Connection,
    /// Print JSON for programs instead of tables for people.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// A subcommand is one file: its arguments, and `run`, which says whether all is well.
#[derive(Subcommand)]
enum Command {
    Verify(verify::Arguments),
    Diff(diff::Arguments),
    Show(show::Arguments),
    Totals(totals::Arguments),
    TrialBalance(trial_balance::Arguments),
    Export(export::Arguments),
    Tail(tail::Arguments),
    Rebuild(rebuild::Arguments),
    Reconcile(Box<reconcile::Arguments>),
}

/// The program: runs the command that its arguments name, and reads events by `reader`.
pub async fn main(reader: EventReader) -> ExitCode {
    let mut cli = service::parse::<Cli>();
    cli.connection.reader = reader;
    // As a task, it runs on a thread that looks after its own connections, and is not woken by another.
    let outcome = tokio::spawn(run(cli)).await;
    match outcome.context("it ended badly").flatten() {
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
    let Cli { connection, json, command } = cli;
    match command {
        Command::Verify(arguments) => verify::run(&connection, arguments, json).await,
        Command::Diff(arguments) => diff::run(&connection, arguments, json).await,
        Command::Show(arguments) => show::run(&connection, arguments, json).await,
        Command::Totals(arguments) => totals::run(&connection, arguments, json).await,
        Command::TrialBalance(arguments) => trial_balance::run(&connection, arguments, json).await,
        Command::Export(arguments) => export::run(&connection, arguments).await,
        Command::Tail(arguments) => tail::run(&connection, arguments, json).await,
        Command::Rebuild(arguments) => rebuild::run(&connection, arguments).await,
        Command::Reconcile(arguments) => reconcile::run(&connection, *arguments, json).await,
    }
}
