//! Does a full ledger slow down?

use std::time::Instant;

use super::{Scenario, WARM_UP_SECONDS};
use crate::Options;
use crate::report::Entry;
use crate::rounds::alternate;
use crate::seed;
use crate::stage::Stage;
use crate::subject::{Extent, Ours};
use crate::wrk::Request;

const CONNECTIONS: u64 = 64;

/// Durable creates with many events in the ledger, against an empty ledger.
pub(super) async fn run(stage: &Stage, options: &Options, scenario: Scenario) -> anyhow::Result<Entry> {
    let events = options.growth_events;
    let empty = Ours::start(stage, "growth_empty", Extent::CommandApi).await?;
    let started = Instant::now();
    let full = Ours::start(stage, "growth_full", Extent::CommandApi).await?;
    let full = full.restart_after(stage, async |database| seed::fill(&database.pool, events).await).await?;
    eprintln!("  {events} events loaded in {:.0} s", started.elapsed().as_secs_f64());

    let (to_full, to_empty) = (
        Request::Create { campaign_id: full.campaign_id },
        Request::Create { campaign_id: empty.campaign_id },
    );
    stage.checkpoint().await?;
    full.round(stage, &to_full, CONNECTIONS, WARM_UP_SECONDS).await?;
    empty.round(stage, &to_empty, CONNECTIONS, WARM_UP_SECONDS).await?;
    let samples = alternate(
        options.rounds,
        async || full.round(stage, &to_full, CONNECTIONS, options.seconds).await,
        async || empty.round(stage, &to_empty, CONNECTIONS, options.seconds).await,
    )
    .await?;
    let note =
        format!("creates with {events} events in the ledger; baseline: ours with a ledger that began empty");
    let entry = Entry::new(scenario, "creates/s", &samples, note)?.with_rss(full.rss_peak_mb()?);
    full.finish(stage).await?;
    empty.finish(stage).await?;
    Ok(entry)
}
