//! Rebuilds a projection: the one command that writes. The work is the projectors' own.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use projectors::{RebuildOptions, RebuildProgress, Rebuilt, rebuild};
use read_model::Projection;

use crate::connection::Connection;
use crate::projection_argument::ProjectionArgument;

/// Where output is no terminal, progress is a line this often.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Build a projection anew from the ledger, and switch over; readers notice nothing
///
/// The one command that writes. The new tables are built beside the live ones, both are compared at
/// one position, and the new ones take over in a moment in which nobody uses them. It may be
/// interrupted, and goes on where it was when it is run again. If the live tables turn out to be
/// wrong, it says how, keeps the new ones, and exits with 1.
///
/// Needs the user that owns the tables: the one that runs `careforall migrate`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    about: ProjectionArgument,

    /// Switch over even if the live tables differ.
    #[arg(long)]
    accept_differences: bool,
    /// Begin anew, even if an earlier run left something to go on from.
    #[arg(long)]
    restart: bool,
}

/// Rebuilds it and says what it did; false if the live tables differ and it did not switch over.
///
/// # Errors
/// It cannot be rebuilt.
pub(crate) async fn run(connection: &Connection, arguments: Arguments) -> anyhow::Result<bool> {
    let started = Instant::now();
    let Arguments { about: ProjectionArgument { projection }, accept_differences, restart } = arguments;
    let options = RebuildOptions { restart, accept_differences, reader: connection.reader };
    let mut shown = Shown::new();
    let pool = connection.pool().await?;
    let rebuilt = rebuild(&pool, projection, options, |progress| shown.show(&progress)).await?;
    shown.bar.finish_and_clear();
    say(projection, &rebuilt, started.elapsed());
    Ok(rebuilt.switched.is_some())
}

struct Shown {
    bar: ProgressBar,
    line_due: Instant,
}

impl Shown {
    fn new() -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template(
            "{msg} [{bar:32}] {human_pos} of {human_len} events, {per_sec}, {eta} left",
        );
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar, line_due: Instant::now() }
    }

    fn show(&mut self, progress: &RebuildProgress) {
        let message = match progress {
            RebuildProgress::Started { position: 0 } => "building".to_owned(),
            RebuildProgress::Started { position } => {
                self.bar.reset_eta();
                self.bar.set_position(position.unsigned_abs());
                format!("going on behind position {position}")
            }
            RebuildProgress::Folded { position, head } => {
                self.bar.set_length(head.unsigned_abs());
                self.bar.set_position(position.unsigned_abs());
                "building".to_owned()
            }
            RebuildProgress::Comparing { position } => format!("comparing at position {position}"),
            RebuildProgress::Switching => "switching over".to_owned(),
        };
        let is_new = self.bar.message() != message;
        self.bar.set_message(message);
        if !std::io::stderr().is_terminal() && (is_new || self.line_due <= Instant::now()) {
            let (at, of) = (self.bar.position(), self.bar.length().unwrap_or_default());
            eprintln!("{}: {at} of {of} events", self.bar.message());
            self.line_due = Instant::now() + LINE_EVERY;
        }
    }
}

fn say(name: Projection, rebuilt: &Rebuilt, took: Duration) {
    match rebuilt.compared_at {
        None => println!("{name}: the live projector is behind the new tables, so they were not compared"),
        Some(position) if rebuilt.differences.is_empty() => {
            println!("{name}: the new tables equal the live ones at position {position}");
        }
        Some(position) => println!("{name}: the new tables differ from the live ones at position {position}"),
    }
    for difference in &rebuilt.differences {
        println!(
            "  {}: {} rows live, {} built",
            difference.table, difference.live_rows, difference.built_rows
        );
        for example in &difference.examples {
            println!("    {example}");
        }
    }
    match rebuilt.switched {
        Some((position, held)) => println!(
            "switched over at position {position} after {:.1} s; readers waited {} ms at most",
            took.as_secs_f64(),
            held.as_millis()
        ),
        None => println!(
            "not switched over, and the new tables are kept: run it again with --accept-differences to do so"
        ),
    }
}
