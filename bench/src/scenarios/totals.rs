//! Reading a campaign's totals over HTTP.

use std::time::Duration;

use anyhow::{Context, ensure};
use event_store::{Condition, Ledger};
use service::Shutdown;
use sqlx::postgres::PgPoolOptions;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use super::append::{append_pledge, open_condition};
use super::{Scenario, WARM_UP_SECONDS};
use crate::Options;
use crate::http::Client;
use crate::report::Entry;
use crate::rounds::alternate;
use crate::server::Service;
use crate::stage::Stage;
use crate::subject::{Extent, Ours};
use crate::wrk::{self, Request};

const CONNECTIONS: u64 = 64;
/// How often the writer appends.
const TICK: Duration = Duration::from_millis(10);
/// A writer that does less than this share of what it should gives no figure.
const WRITTEN_ENOUGH: f64 = 0.95;

/// Against the least that a service over HTTP can do: axum that answers the same bytes. Everything of ours
/// runs. `events_per_s` events are written to the campaign that is asked about, and folded, while ours is
/// measured.
pub(super) async fn get(
    stage: &Stage,
    options: &Options,
    scenario: Scenario,
    events_per_s: u64,
) -> anyhow::Result<Entry> {
    let ours = Ours::start(stage, "totals", Extent::Whole).await?;
    ours.settle().await?;
    let request = Request::Totals { campaign_id: ours.campaign_id };
    let path = format!("/api/campaigns/{}/totals", ours.campaign_id);
    let mut client = Client::connect(ours.address()).await?;
    let answer = client.expect(200, "GET", &path, "", "").await?.to_vec();
    let answer = String::from_utf8(answer)?;
    let bare = Service::start(&["serve-bare", "--answer", &answer], &[], stage.file("bare.log")).await?;
    let pool = PgPoolOptions::new().max_connections(2).connect(&ours.database.url).await?;
    let ledger = Ledger::start(pool.clone());

    wrk::run(stage, ours.address(), &request, CONNECTIONS, WARM_UP_SECONDS).await?.sample()?;
    wrk::run(stage, bare.address(), &request, CONNECTIONS, WARM_UP_SECONDS).await?.sample()?;
    let samples = alternate(
        options.rounds,
        async || {
            let writer = Writer::start(&ledger, ours.campaign_id, events_per_s);
            let seen = wrk::run(stage, ours.address(), &request, CONNECTIONS, options.seconds).await?;
            writer.stop(options.seconds).await?;
            ours.settle().await?;
            seen.sample()
        },
        async || wrk::run(stage, bare.address(), &request, CONNECTIONS, options.seconds).await?.sample(),
    )
    .await?;
    let note = match events_per_s {
        0 => "GET of totals; everything runs and nothing is written; baseline: axum answers the same bytes"
            .to_owned(),
        n => format!(
            "the same while {n} events/s are written to the campaign and folded; baseline: as before, nothing is written"
        ),
    };
    let entry = Entry::new(scenario, "req/s", &samples, note)?.with_rss(ours.rss_peak_mb()?);
    pool.close().await;
    bare.stop().await?;
    ours.finish(stage).await?;
    Ok(entry)
}

/// Appends pledges at a steady rate.
struct Writer {
    stop: Shutdown,
    task: JoinHandle<anyhow::Result<u64>>,
    events_per_s: u64,
}

impl Writer {
    fn start(ledger: &Ledger, campaign_id: Uuid, events_per_s: u64) -> Self {
        let stop = Shutdown::new();
        let each = events_per_s / 100;
        let task = tokio::spawn(write(ledger.clone(), open_condition(campaign_id), each, stop.clone()));
        Self { stop, task, events_per_s }
    }

    /// Ends it; an error if it has written too little in `seconds`.
    async fn stop(self, seconds: u64) -> anyhow::Result<()> {
        self.stop.cancel();
        let written = self.task.await.context("the writer panicked")??;
        let wanted = self.events_per_s * seconds;
        ensure!(
            written as f64 >= wanted as f64 * WRITTEN_ENOUGH,
            "only {written} of {wanted} events were written"
        );
        Ok(())
    }
}

async fn write(ledger: Ledger, campaign: Condition, each: u64, stop: Shutdown) -> anyhow::Result<u64> {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut written = 0;
    while each > 0 && !stop.is_cancelled() {
        ticks.tick().await;
        let mut appends = JoinSet::new();
        for _ in 0..each {
            let (ledger, campaign) = (ledger.clone(), campaign.clone());
            appends.spawn(async move { append_pledge(&ledger, campaign).await });
        }
        while let Some(appended) = appends.join_next().await {
            appended.context("an append panicked")??;
            written += 1;
        }
    }
    Ok(written)
}
