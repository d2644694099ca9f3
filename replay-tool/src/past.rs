//! A projection's table as the ledger expects it, at any position.

use std::sync::Arc;

use clap::Args;

use crate::as_of::AsOf;
use crate::compared::{Placed, expected_rows};
use crate::connection::Connection;
use crate::ledger::{Fault, read_sorted};
use crate::memory::Memory;
use crate::progress::Progress;
use crate::projections::Audit;
use crate::snapshot::Snapshot;
use crate::sorter::Sorted;
use crate::tuple;

/// Up to where, and with how much memory.
#[derive(Args)]
pub(crate) struct Past {
    /// A position, a time such as 2026-11-25T10:00:00Z, or a day (UTC), which means its first instant.
    /// [default: the end of the ledger]
    #[arg(long, value_name = "POSITION|TIME")]
    as_of: Option<AsOf>,

    #[command(flatten)]
    memory: Memory,
}

/// The expected rows of one table.
pub(crate) struct PastRows {
    /// The last position that they know of.
    pub(crate) position: i64,
    /// When that was recorded; none in an empty ledger.
    pub(crate) as_of: Option<String>,
    /// The rows, by their keys.
    pub(crate) rows: Sorted,
    /// Faults of the ledger up to there. If there are any, the rows mean nothing.
    pub(crate) faults: Vec<Fault>,
}

impl Past {
    /// Folds the ledger for one table of a projection.
    ///
    /// # Errors
    /// The ledger cannot be read, or ends before the position that was asked for.
    pub(crate) async fn rows(
        &self,
        connection: &Connection,
        audit: &'static Audit,
        table: usize,
    ) -> anyhow::Result<PastRows> {
        let (room, progress) = (self.memory.room()?, Progress::shown());
        let mut snapshot = Snapshot::take(connection.addresses()?.database()?).await?;
        let head = event_store::head(snapshot.connection()).await?;
        let position = match self.as_of {
            Some(as_of) => as_of.position(snapshot.connection(), head).await?,
            None => head,
        };
        let ledger = read_sorted(
            snapshot.open().await?,
            connection.reader.upcasts(),
            position,
            head,
            room.share(2),
            &progress,
        )
        .await?;
        let as_of = (position > 0).then_some(ledger.as_of).flatten().map(tuple::instant);
        let placed = Placed { audit, position };
        let rest = room.without(ledger.sorted.bytes());
        let (folded, rows) = expected_rows(&Arc::new(ledger), placed, table, &rest, &progress).await?;
        Ok(PastRows { position, as_of, rows, faults: folded.faults })
    }
}

/// Says what is wrong with the ledger.
pub(crate) fn print_faults(faults: &[Fault]) {
    for fault in faults {
        eprintln!("DIFFERENCE: {}", fault.what);
    }
    eprintln!("the ledger itself is bad, so it says nothing that counts; see replay verify");
}
