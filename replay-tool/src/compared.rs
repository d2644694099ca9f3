//! Projections compared with a fold of the ledger.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use anyhow::Context;
use read_model::Projection;
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::fold::{Folded, Running, fold};
use crate::ledger::SortedLedger;
use crate::progress::Progress;
use crate::projections::Audit;
use crate::rows::{self, Differences, Fingerprint, Key, Rows};
use crate::snapshot::Snapshot;
use crate::sorter::{Room, Sorted};

/// A projection and the position at which it is compared.
#[derive(Clone, Copy)]
pub(crate) struct Placed {
    /// Which one.
    pub(crate) audit: &'static Audit,
    /// The position of its checkpoint.
    pub(crate) position: i64,
}

/// How a table compares.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ComparedTable {
    /// Its name.
    pub(crate) table: &'static str,
    /// The projection that it belongs to.
    pub(crate) projection: &'static str,
    /// The position at which it was compared.
    pub(crate) position: i64,
    /// How many rows it has.
    pub(crate) rows: u64,
    /// Whether it has the rows that the ledger expects, and no other.
    pub(crate) equal: bool,
}

/// The ledger, folded and compared.
pub(crate) struct Compared {
    /// Findings of the fold.
    pub(crate) folded: Folded,
    /// One for each table; none if the ledger itself has faults, since then it expects nothing.
    pub(crate) tables: Vec<ComparedTable>,
}

/// Folds the ledger, and compares the tables of `placed` with it: first by their fingerprints, which
/// needs no order and hardly any memory. Only tables that differ are sorted and compared row by row.
///
/// # Errors
/// The database cannot be read, or a temporary file not be written.
pub(crate) async fn compare(
    snapshot: &Snapshot,
    ledger: &Arc<SortedLedger>,
    placed: &[Placed],
    room: &Room,
    progress: &Progress,
    differences: &mut Differences,
) -> anyhow::Result<Compared> {
    let placed = if ledger.fault.is_some() { &[] } else { placed };
    let key = Key::default();
    let parts = placed.len() + 1;
    let running = placed.iter().map(|placed| Running {
        audit: placed.audit,
        position: placed.position,
        projection: (placed.audit.make)(&room.share(parts)),
        rows: Rows::fingerprints(placed.audit.tables, &key),
    });
    let folding = start_fold(ledger, running.collect(), room.share(parts), progress);
    let mut found = Vec::new();
    for Placed { audit, .. } in placed {
        for table in audit.tables {
            found.push(rows::fingerprint(snapshot.open().await?, table, &key).await?);
        }
    }
    let (folded, running) = folding.await.context("folding ended badly")??;
    let mut compared = Compared { folded, tables: Vec::new() };
    if !compared.folded.faults.is_empty() {
        return Ok(compared);
    }
    let mut expected: HashMap<Projection, Vec<Fingerprint>> = running
        .into_iter()
        .map(|running| (running.audit.projection, running.rows.into_fingerprints()))
        .collect();
    let mut found = found.into_iter();
    for placed in placed {
        let expected = expected.remove(&placed.audit.projection).unwrap_or_default();
        for (nth, (table, expected)) in placed.audit.tables.iter().zip(expected).enumerate() {
            let Some(found) = found.next() else { continue };
            let equal = expected == found;
            compared.tables.push(ComparedTable {
                table: table.name,
                projection: placed.audit.projection.name(),
                position: placed.position,
                rows: found.rows,
                equal,
            });
            if !equal {
                name_differences(snapshot, ledger, *placed, nth, room, progress, differences).await?;
            }
        }
    }
    Ok(compared)
}

type Folding = JoinHandle<io::Result<(Folded, Vec<Running>)>>;

fn start_fold(ledger: &Arc<SortedLedger>, running: Vec<Running>, room: Room, progress: &Progress) -> Folding {
    let (ledger, bar) = (ledger.clone(), progress.begin("folding", ledger.position.unsigned_abs()));
    tokio::task::spawn_blocking(move || {
        let folded = fold(&ledger, running, room, &bar);
        bar.end();
        folded
    })
}

/// The rows that the ledger expects in a projection's table, by their keys.
///
/// # Errors
/// A temporary file cannot be written or read.
pub(crate) async fn expected_rows(
    ledger: &Arc<SortedLedger>,
    placed: Placed,
    table: usize,
    room: &Room,
    progress: &Progress,
) -> anyhow::Result<(Folded, Sorted)> {
    let part = room.share(4);
    let running = Running {
        audit: placed.audit,
        position: placed.position,
        projection: (placed.audit.make)(&part),
        rows: Rows::sorted(placed.audit.tables, table, &part),
    };
    let (folded, running) =
        start_fold(ledger, vec![running], part, progress).await.context("folding ended badly")??;
    let running = running.into_iter().next().context("the fold lost its projection")?;
    Ok((folded, running.rows.into_sorted()?))
}

async fn name_differences(
    snapshot: &Snapshot,
    ledger: &Arc<SortedLedger>,
    placed: Placed,
    nth: usize,
    room: &Room,
    progress: &Progress,
    differences: &mut Differences,
) -> anyhow::Result<()> {
    let table = &placed.audit.tables[nth];
    let (_, expected) = expected_rows(ledger, placed, nth, room, progress).await?;
    let found = rows::sort(snapshot.open().await?, table, &room.share(4)).await?;
    let before = differences.count;
    rows::compare(table, &expected, &found, differences)?;
    if differences.count == before {
        differences.say(table.name, None, format!("{}: its rows are not those of the ledger", table.name));
    }
    Ok(())
}
