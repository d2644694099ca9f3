//! One projection against a fold of the ledger.

use std::sync::Arc;

use clap::Args;
use read_model::Projection;
use serde_json::json;

use crate::compared::{Placed, compare};
use crate::connection::Connection;
use crate::ledger::read_sorted;
use crate::memory::Memory;
use crate::output;
use crate::progress::Progress;
use crate::projection_argument::ProjectionArgument;
use crate::projections::audit;
use crate::rows::{Difference, Differences};
use crate::snapshot::Snapshot;
use crate::verify::checkpoints;

/// Every difference between one projection and the ledger
///
/// Folds the ledger up to the projection's checkpoint and compares every row of its tables. verify
/// does the same for all projections, and names a few; this names them all, column by column.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  replay diff campaign_totals
  replay diff pledges --limit 100000
  replay --json diff pledges | jq -r '.differences[].row'

Exit codes: 0 they are equal, 1 they differ or the ledger is bad, 2 it could not be done.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    about: ProjectionArgument,

    /// Show at most this many differences.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    limit: usize,

    #[command(flatten)]
    memory: Memory,
}

/// Shows the differences; false if there are any.
///
/// # Errors
/// The comparison cannot be made.
pub(crate) async fn run(connection: &Connection, arguments: Arguments, json: bool) -> anyhow::Result<bool> {
    let (room, progress) = (arguments.memory.room()?, Progress::shown());
    let mut snapshot = Snapshot::take(connection.addresses()?.database()?).await?;
    let head = event_store::head(snapshot.connection()).await?;
    let checkpoints = checkpoints(snapshot.connection()).await?;
    let mut differences = Differences::new(arguments.limit);
    let projection = arguments.about.projection;
    let position = checkpoints.get(&projection).copied().unwrap_or(0);
    let placed = [Placed { audit: audit(projection), position }];
    if position > head {
        let what = format!("it stands at position {position}, and the ledger ends at {head}");
        differences.say(projection.name(), Some(position), what);
    }
    let up_to = position.min(head);
    let ledger = read_sorted(
        snapshot.open().await?,
        connection.reader.upcasts(),
        up_to,
        head,
        room.share(2),
        &progress,
    )
    .await?;
    let ledger = Arc::new(ledger);
    let rest = room.without(ledger.sorted.bytes());
    let compared = compare(&snapshot, &ledger, &placed, &rest, &progress, &mut differences).await?;
    for fault in &compared.folded.faults {
        differences.say("ledger", Some(fault.position), fault.what.clone());
    }
    if json {
        output::json(&json!({
            "projection": projection.name(),
            "position": position,
            "tables": compared.tables,
            "differences_found": differences.count,
            "differences": differences.list(),
        }))?;
    } else {
        print(projection, position, &differences);
    }
    Ok(differences.count == 0)
}

fn print(projection: Projection, position: i64, differences: &Differences) {
    if differences.count == 0 {
        println!("{projection} equals the ledger at position {position}");
        return;
    }
    let mut table = output::table(&["position", "table", "row", "column", "ledger", "found"]);
    for difference in differences.list() {
        let Difference { place, position, row, column, ledger, found, what } = difference;
        let shown = |value: &serde_json::Value| crate::tuple::Shown(value.clone()).to_string();
        let (row, column) = match column {
            Some(column) => (row.as_str(), column.as_str()),
            None => (what.as_str(), ""),
        };
        let position = position.map_or_else(|| output::text("-"), output::number);
        table.add_row([
            position,
            output::text(place),
            output::text(row),
            output::text(column),
            output::text(&shown(ledger)),
            output::text(&shown(found)),
        ]);
    }
    println!("{table}");
    println!("{} differences at position {position}", differences.count);
}
