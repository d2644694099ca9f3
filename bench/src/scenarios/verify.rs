//! Checking the whole ledger, and every read table against it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use super::{Scenario, read};
use crate::Options;
use crate::lives::fill_with_lives;
use crate::machine;
use crate::report::Entry;
use crate::rounds::{Sample, alternate};
use crate::stage::Stage;

/// The report of `replay --json verify`, as far as it matters here.
#[derive(Deserialize)]
struct VerifyReport {
    well: bool,
    position: i64,
    tables: Vec<VerifiedTable>,
}

#[derive(Deserialize)]
struct VerifiedTable {
    rows: i64,
}

/// `replay verify` as a process of its own, against COPY of the same events.
pub(super) async fn run(stage: &Stage, options: &Options, scenario: Scenario) -> anyhow::Result<Entry> {
    let replay = replay_program()?;
    let database = stage.create_ledger("auditing").await?;
    let started = Instant::now();
    fill_with_lives(&database.pool, options.verify_events).await?;
    let events = event_store::head(&database.pool).await?;
    eprintln!("  {events} events and their read tables loaded in {:.0} s", started.elapsed().as_secs_f64());
    stage.checkpoint().await?;
    // Both sides find the table in memory.
    read::copy(&database.pool, events).await?;
    let mut peak_mb: f64 = 0.0;
    let mut rows = 0;
    let samples = alternate(
        options.rounds,
        async || {
            let started = Instant::now();
            let (verified, peak) = verify(&replay, &database.url).await?;
            let took = started.elapsed();
            ensure!(verified.well, "the ledger that was made is not what replay expects");
            ensure!(verified.position == events, "replay read up to {}", verified.position);
            peak_mb = peak_mb.max(peak);
            rows = verified.tables.iter().map(|table| table.rows).sum();
            Ok(Sample::new(events.cast_unsigned(), took, None))
        },
        async || read::copy(&database.pool, events).await,
    )
    .await?;
    stage.drop_database(database).await?;
    let note = format!(
        "replay verify of {events} events and {rows} rows of read tables, without Redis; baseline: COPY of the \
         events, bytes thrown away"
    );
    Ok(Entry::new(scenario, "events/s", &samples, note)?.with_rss(peak_mb))
}

/// The program stands beside this one.
fn replay_program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?.parent().unwrap_or(Path::new(".")).join("replay");
    ensure!(program.exists(), "{} is missing: cargo build --release -p replay-tool", program.display());
    Ok(program)
}

/// Its report, and its peak resident memory in megabytes.
async fn verify(program: &Path, database_url: &str) -> anyhow::Result<(VerifyReport, f64)> {
    let mut child = Command::new(program)
        .args(["--json", "verify"])
        .env_clear()
        .env("DATABASE_URL", database_url)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("replay cannot be started")?;
    let mut stdout = child.stdout.take().context("replay has no standard output")?;
    let mut said = Vec::new();
    let (read, peak_mb) = tokio::join!(stdout.read_to_end(&mut said), watch_memory(&mut child));
    read.context("replay says nothing")?;
    let peak_mb = peak_mb?;
    let verified = serde_json::from_slice(&said)
        .with_context(|| format!("replay says {}", String::from_utf8_lossy(&said)))?;
    Ok((verified, peak_mb))
}

/// Waits for its end. The kernel keeps the peak, so looking now and then is enough.
async fn watch_memory(child: &mut Child) -> anyhow::Result<f64> {
    let status = format!("/proc/{}/status", child.id().context("replay has ended")?);
    let mut peak_kb: f64 = 0.0;
    while child.try_wait()?.is_none() {
        let peak = machine::field(&status, "VmHWM");
        let peak = peak.and_then(|peak| peak.strip_suffix(" kB")?.trim().parse().ok());
        peak_kb = peak_kb.max(peak.unwrap_or(0.0));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(peak_kb / 1024.0)
}
