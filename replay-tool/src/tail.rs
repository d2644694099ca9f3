//! Events as they come.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use event_store::{RecordedEvent, Wakeup, head};

use crate::connection::Connection;
use crate::events;

/// Events read at once.
const PAGE: i64 = 500;
/// A wake-up may be lost, so the ledger is looked at this often in any case.
const LOOK: Duration = Duration::from_secs(1);

/// Show events as they are appended, until Ctrl-C
///
/// Follows the ledger live, each event once and in order, beginning behind its end or at a position.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  replay tail
  replay tail --from 1 --events 100
  replay --json tail | jq -c 'select(.event_type == \"PledgeCaptured\")'

Exit codes: 0 ended by Ctrl-C or after --events, 2 the ledger cannot be read.")]
pub(crate) struct Arguments {
    /// Begin with this position. [default: the next one]
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(i64).range(1..))]
    from: Option<i64>,

    /// End after so many events.
    #[arg(long, value_name = "N")]
    events: Option<u64>,
}

/// Shows events until it is told to end.
///
/// # Errors
/// The ledger cannot be read, or holds an event that is not understood.
pub(crate) async fn run(connection: &Connection, arguments: Arguments, json: bool) -> anyhow::Result<bool> {
    tokio::select! {
        followed = follow(connection, arguments, json) => followed?,
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(true)
}

async fn follow(connection: &Connection, arguments: Arguments, json: bool) -> anyhow::Result<()> {
    let pool = connection.pool().await?;
    let mut wakeup = Wakeup::listen(pool.clone(), Wakeup::LEDGER);
    let mut position = match arguments.from {
        Some(from) => from - 1,
        None => head(&pool).await?,
    };
    let mut left = arguments.events.unwrap_or(u64::MAX);
    while left > 0 {
        let events = connection.reader.read_after(&pool, position, PAGE).await?;
        let Some(last) = events.last() else {
            wakeup.wait(LOOK).await;
            continue;
        };
        position = last.position;
        let shown = events.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        left -= shown as u64;
        match print(&events[..shown], json) {
            // Whoever read it has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            printed => printed?,
        }
    }
    Ok(())
}

fn print(events: &[RecordedEvent], json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for recorded in events {
        if json {
            writeln!(out, "{}", events::to_json(recorded)?)?;
        } else {
            let (aggregate_type, id) = events::aggregate(recorded);
            writeln!(out, "{}  {aggregate_type} {id}", events::line(recorded))?;
        }
    }
    out.flush()
}
