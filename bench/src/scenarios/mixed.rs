//! Whole lives of pledges.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use sqlx::PgPool;

use super::{Scenario, WARM_UP_SECONDS};
use crate::Options;
use crate::lifecycles;
use crate::report::Entry;
use crate::rounds::{Latency, Sample, repeat};
use crate::stage::Stage;
use crate::subject::{Extent, Ours, WEBHOOK_SECRET};

const CONNECTIONS: u64 = 64;

/// After the load ended, all pledges have this long to be completed.
const DRAIN_PATIENCE: Duration = Duration::from_secs(120);

/// Create, authorise, capture, settle. The clock stops when the read table says that every
/// pledge is completed.
pub(super) async fn run(stage: &Stage, options: &Options, scenario: Scenario) -> anyhow::Result<Entry> {
    let ours = Ours::start(stage, "mixed", Extent::Whole).await?;
    stage.checkpoint().await?;
    round(&ours, WARM_UP_SECONDS).await?;
    let samples = repeat(options.rounds, async || round(&ours, options.seconds).await).await?;
    let note = "create and three signed webhooks per pledge, until all are completed in the read table; \
                latency: from the request to the last acknowledgement";
    let entry = Entry::new(scenario, "lifecycles/s", &samples, note)?.with_rss(ours.rss_peak_mb()?);
    ours.finish(stage).await?;
    Ok(entry)
}

async fn round(ours: &Ours, seconds: u64) -> anyhow::Result<Sample> {
    let pool = &ours.database.pool;
    ours.settle().await?;
    let before = completed(pool).await?;
    let started = Instant::now();
    let seen =
        lifecycles::run(ours.address(), ours.campaign_id, WEBHOOK_SECRET, CONNECTIONS, seconds).await?;
    let due = before + seen.lifecycles;
    let deadline = Instant::now() + DRAIN_PATIENCE;
    // The totals are one row; counting the pledges themselves all the time would take the
    // processor away from what is measured, so that is done only at the end.
    while totalled(pool).await? < due || completed(pool).await? < due {
        if Instant::now() > deadline {
            bail!("of {} pledges only {} are completed", seen.lifecycles, completed(pool).await? - before);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let took = started.elapsed();
    ensure!(completed(pool).await? == due, "more pledges are completed than were made");
    let unhappy: i64 =
        sqlx::query_scalar("select count(*) from webhook_inbox where status not in ('pending', 'processed')")
            .fetch_one(pool)
            .await?;
    ensure!(unhappy == 0, "{unhappy} webhooks were not processed");
    Ok(Sample::new(seen.lifecycles, took, Latency::of(seen.took)))
}

async fn totalled(pool: &PgPool) -> anyhow::Result<u64> {
    let completed: i64 =
        sqlx::query_scalar("select coalesce(sum(completed), 0)::bigint from campaign_totals")
            .fetch_one(pool)
            .await?;
    Ok(completed.cast_unsigned())
}

async fn completed(pool: &PgPool) -> anyhow::Result<u64> {
    let completed: i64 =
        sqlx::query_scalar("select count(*) from pledges where status = 'completed'").fetch_one(pool).await?;
    Ok(completed.cast_unsigned())
}
