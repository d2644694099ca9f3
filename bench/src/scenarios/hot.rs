//! Many clients at one pledge.

use std::net::SocketAddr;

use anyhow::Context;
use serde::Deserialize;
use uuid::Uuid;

use super::Scenario;
use crate::Options;
use crate::http::Client;
use crate::report::Entry;
use crate::rounds::{Sample, alternate};
use crate::stage::Stage;
use crate::subject::{Baseline, Extent, Ours};
use crate::wrk::{Request, create_body};

const CONNECTIONS: u64 = 64;

/// Amendments of one pledge. A pledge is loaded by folding all its events, so the figures fall with
/// the length of a round; each round therefore has a new pledge, and there is no warm-up.
pub(super) async fn run(stage: &Stage, options: &Options, scenario: Scenario) -> anyhow::Result<Entry> {
    let ours = Ours::start(stage, "hot", Extent::CommandApi).await?;
    let baseline = Baseline::start(stage, "hot_baseline").await?;
    let campaign_id = ours.campaign_id;
    stage.checkpoint().await?;
    let samples = alternate(
        options.rounds,
        async || -> anyhow::Result<Sample> {
            let request = amend_new_pledge(ours.address(), campaign_id).await?;
            ours.round(stage, &request, CONNECTIONS, options.seconds).await
        },
        async || -> anyhow::Result<Sample> {
            let request = amend_new_pledge(baseline.address(), campaign_id).await?;
            baseline.round(stage, &request, CONNECTIONS, options.seconds).await
        },
    )
    .await?;
    let note = "amendments that were made; 409 counted apart, and part of the latencies; \
                ours retries a conflict inside, plain postgres-es does not";
    let entry = Entry::new(scenario, "amends/s", &samples, note)?
        .with_conflicts(&samples)
        .with_rss(ours.rss_peak_mb()?);
    baseline.finish(stage).await?;
    ours.finish(stage).await?;
    Ok(entry)
}

#[derive(Deserialize)]
struct Created {
    pledge_id: Uuid,
}

async fn amend_new_pledge(address: SocketAddr, campaign_id: Uuid) -> anyhow::Result<Request> {
    let id = Uuid::new_v4().to_string();
    let mut client = Client::connect(address).await?;
    let headers = format!("idempotency-key: {id}\r\n");
    let answer = client.expect(201, "POST", "/api/pledges", &headers, &create_body(campaign_id, &id)).await?;
    let Created { pledge_id } = serde_json::from_slice(answer).context("a pledge's answer")?;
    Ok(Request::Amend { pledge_id })
}
