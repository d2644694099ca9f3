//! Reading the whole ledger.

use std::time::Instant;

use anyhow::{Context, ensure};
use event_store::EventReader;
use futures_util::StreamExt;
use sqlx::PgPool;

use super::Scenario;
use crate::Options;
use crate::report::Entry;
use crate::rounds::{Sample, alternate};
use crate::seed;
use crate::stage::Stage;

/// As many events at once as a projector takes.
const PAGE: i64 = 2_000;

/// By position, every event understood, against COPY of the same columns.
pub(super) async fn run(stage: &Stage, options: &Options, scenario: Scenario) -> anyhow::Result<Entry> {
    let database = stage.create_ledger("reading").await?;
    seed::fill(&database.pool, options.growth_events).await?;
    stage.checkpoint().await?;
    // Both sides find the table in memory.
    copy(&database.pool, options.growth_events).await?;
    let samples = alternate(
        options.rounds,
        async || page_through(&database.pool, options.growth_events).await,
        async || copy(&database.pool, options.growth_events).await,
    )
    .await?;
    stage.drop_database(database).await?;
    let note = format!(
        "{} events read in pages of {PAGE} and decoded; baseline: COPY of the same columns, bytes thrown away",
        options.growth_events
    );
    Entry::new(scenario, "events/s", &samples, note)
}

async fn page_through(pool: &PgPool, expected: i64) -> anyhow::Result<Sample> {
    let started = Instant::now();
    let mut position = 0;
    loop {
        let page = EventReader::default().read_after(pool, position, PAGE).await?;
        let Some(last) = page.last() else { break };
        position = last.position;
    }
    let took = started.elapsed();
    // Positions have no holes, so the last one is the number of events.
    ensure!(position == expected, "read up to {position} instead of {expected}");
    Ok(Sample::new(expected.cast_unsigned(), took, None))
}

/// COPY of every event, bytes thrown away.
pub(super) async fn copy(pool: &PgPool, expected: i64) -> anyhow::Result<Sample> {
    let mut connection = pool.acquire().await?;
    let started = Instant::now();
    let mut rows = connection
        .copy_out_raw(
            "copy (select position, aggregate_type, aggregate_id, sequence, event_type, payload, metadata,
                 recorded_at from events) to stdout",
        )
        .await?;
    let mut copied = 0;
    // Each row comes in a message of its own.
    while let Some(row) = rows.next().await {
        row.context("COPY was interrupted")?;
        copied += 1;
    }
    let took = started.elapsed();
    ensure!(copied == expected, "COPY gave {copied} rows instead of {expected}");
    Ok(Sample::new(expected.cast_unsigned(), took, None))
}
