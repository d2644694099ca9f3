//! The whole ledger, and every projection against it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use read_model::{Projection, load_positions};
use serde::Serialize;
use sqlx::{PgExecutor, PgPool};

use crate::compared::{Compared, ComparedTable, Placed, compare};
use crate::connection::{Addresses, Connection};
use crate::ledger::read_sorted;
use crate::memory::Memory;
use crate::output;
use crate::progress::Progress;
use crate::projections::audit;
use crate::redis_totals;
use crate::rows::{Difference, Differences};
use crate::snapshot::Snapshot;

/// Projections that are behind have this long to catch up.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);

/// Check the whole ledger, and every projection against it
///
/// Reads the ledger from position 1 and checks that positions have no hole, that every event can be
/// understood, that every transition is an edge of the state machine, and that no two pledges have the
/// same payment without an acceptance. Then it compares what the ledger says with every row of every
/// read table at the same position, and with the totals in Redis, if a Redis is known. The system may go
/// on working meanwhile: all is read in one snapshot.
///
/// Every difference is named, those of the smallest positions first, and the first bad position is
/// said. If the ledger itself is bad, nothing is compared with it.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  replay verify
  replay --database-url postgres://ada:password@host/careforall verify --memory-mb 500
  replay --json verify | jq .differences

Exit codes: 0 all is well, 1 a difference was found, 2 the check could not be made.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    memory: Memory,

    /// Name at most this many differences; the rest are counted.
    #[arg(long, default_value_t = 20, value_name = "N")]
    max_differences: usize,
}

/// Result of the check.
#[derive(Serialize)]
struct Report {
    well: bool,
    /// The last position of the ledger.
    position: i64,
    campaigns: u64,
    pledges: u64,
    tables: Vec<ComparedTable>,
    redis: RedisReport,
    first_bad_position: Option<i64>,
    differences_found: u64,
    differences: Vec<Difference>,
    seconds: f64,
}

#[derive(Serialize)]
struct RedisReport {
    compared: bool,
    campaigns: u64,
    /// Why it was not compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<&'static str>,
}

/// Checks everything and says what it found; false if there is a difference.
///
/// # Errors
/// The check cannot be made.
pub(crate) async fn run(connection: &Connection, arguments: Arguments, json: bool) -> anyhow::Result<bool> {
    let report = check(&connection.addresses()?, &arguments).await?;
    if json {
        output::json(&report)?
    } else {
        print(&report)
    }
    Ok(report.well)
}

async fn check(addresses: &Addresses, arguments: &Arguments) -> anyhow::Result<Report> {
    let started = Instant::now();
    let (room, progress) = (arguments.memory.room()?, Progress::shown());
    let pool = addresses.pool().await?;
    let redis = addresses.redis(&pool).await?;
    let mut differences = Differences::new(arguments.max_differences);
    await_projections(&pool, &mut differences).await?;

    let mut snapshot = Snapshot::take(addresses.database()?).await?;
    let head = event_store::head(snapshot.connection()).await?;
    let placed = placed(checkpoints(snapshot.connection()).await?, head, &mut differences);
    let ledger =
        read_sorted(snapshot.open().await?, addresses.reader.upcasts(), head, head, room.share(2), &progress)
            .await?;
    let ledger = Arc::new(ledger);
    let rest = room.without(ledger.sorted.bytes());
    let Compared { folded, tables } =
        compare(&snapshot, &ledger, &placed, &rest, &progress, &mut differences).await?;
    let ledger_is_well = folded.faults.is_empty();
    for fault in folded.faults.into_iter().chain(folded.doubled) {
        differences.say("ledger", Some(fault.position), fault.what);
    }
    drop(snapshot);

    let mut compared_with = RedisReport { compared: false, campaigns: 0, why_not: None };
    match redis {
        Some(redis) if ledger_is_well => {
            compared_with.campaigns = redis_totals::compare(&pool, &redis, &mut differences).await?;
            compared_with.compared = true;
        }
        Some(_) => compared_with.why_not = Some("the ledger itself is bad"),
        None => compared_with.why_not = Some("no address of a Redis is known; name one by --redis-url"),
    }
    Ok(Report {
        well: differences.count == 0,
        position: head,
        campaigns: folded.campaigns,
        pledges: folded.pledges,
        tables,
        redis: compared_with,
        first_bad_position: differences.list().first().and_then(|first| first.position),
        differences_found: differences.count,
        differences: differences.list().to_vec(),
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// The position of each projection. One that was never folded stands at 0: its tables are then expected to
/// be empty.
///
/// # Errors
/// The database cannot be read.
pub(crate) async fn checkpoints(executor: impl PgExecutor<'_>) -> anyhow::Result<BTreeMap<Projection, i64>> {
    let folded = load_positions(executor).await?;
    let position = |projection| folded.get(&projection).copied().unwrap_or(0);
    Ok(Projection::ALL.into_iter().map(|projection| (projection, position(projection))).collect())
}

/// Every projection at its checkpoint.
fn placed(checkpoints: BTreeMap<Projection, i64>, head: i64, differences: &mut Differences) -> Vec<Placed> {
    let mut placed = Vec::new();
    for (projection, position) in checkpoints {
        if position > head {
            let what =
                format!("projection {projection} stands at position {position}, the ledger ends at {head}");
            differences.say(projection.name(), Some(position), what);
        }
        placed.push(Placed { audit: audit(projection), position });
    }
    placed
}

/// Gives projections that are behind a little time; they are compared where they are in any case.
async fn await_projections(pool: &PgPool, differences: &mut Differences) -> anyhow::Result<()> {
    let started = Instant::now();
    let head = event_store::head(pool).await?;
    loop {
        let mut checkpoints = checkpoints(pool).await?;
        checkpoints.retain(|_, position| *position < head);
        if checkpoints.is_empty() {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            for (projection, position) in checkpoints {
                let what = format!(
                    "projection {projection} stands at position {position} and does not reach {head}"
                );
                differences.say(projection.name(), Some(position + 1), what);
            }
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn print(report: &Report) {
    let mut table = output::table(&["compared", "projection", "position", "rows", ""]);
    for compared in &report.tables {
        table.add_row([
            compared.table,
            compared.projection,
            &compared.position.to_string(),
            &compared.rows.to_string(),
            if compared.equal { "equal" } else { "DIFFERENT" },
        ]);
    }
    if !report.tables.is_empty() {
        println!("{table}");
    }
    match report.redis.why_not {
        Some(why_not) => println!("Redis was not compared: {why_not}"),
        None => println!("Redis was compared: {} campaigns", report.redis.campaigns),
    }
    for difference in &report.differences {
        println!("DIFFERENCE: {}", difference.what);
    }
    let unnamed = report.differences_found - report.differences.len() as u64;
    if unnamed > 0 {
        println!("and {unnamed} more");
    }
    match report.first_bad_position {
        Some(position) => println!("the first bad position is {position}"),
        None if report.well => println!(
            "all is well at position {}: {} campaigns, {} pledges; positions contiguous, every transition an \
             edge; every table equals the fold of the ledger",
            report.position, report.campaigns, report.pledges
        ),
        None => {}
    }
}
