//! Making pledges over HTTP.

use uuid::Uuid;

use super::{Scenario, WARM_UP_SECONDS};
use crate::Options;
use crate::http::Client;
use crate::report::Entry;
use crate::rounds::alternate;
use crate::server::Service;
use crate::stage::Stage;
use crate::subject::{Baseline, Extent, Ours};
use crate::wrk::{self, Request, create_body};

/// Against the least that a service over HTTP can do.
pub(super) async fn route(stage: &Stage, options: &Options, scenario: Scenario) -> anyhow::Result<Entry> {
    const CONNECTIONS: u64 = 64;
    let ours = Ours::start(stage, "route", Extent::Whole).await?;
    let request = Request::Create { campaign_id: ours.campaign_id };
    let answer = answer_of(&ours).await?;
    let bare = Service::start(&["serve-bare", "--answer", &answer], &[], stage.file("bare.log")).await?;

    stage.checkpoint().await?;
    ours.round(stage, &request, CONNECTIONS, WARM_UP_SECONDS).await?;
    wrk::run(stage, bare.address(), &request, CONNECTIONS, WARM_UP_SECONDS).await?.sample()?;
    let samples = alternate(
        options.rounds,
        async || ours.round(stage, &request, CONNECTIONS, options.seconds).await,
        async || wrk::run(stage, bare.address(), &request, CONNECTIONS, options.seconds).await?.sample(),
    )
    .await?;
    let note = "POST /api/pledges, durable; baseline: axum answers the same bytes and stores nothing";
    let entry = Entry::new(scenario, "req/s", &samples, note)?.with_rss(ours.rss_peak_mb()?);
    bare.stop().await?;
    ours.finish(stage).await?;
    Ok(entry)
}

/// Our service's answer, so that the bare one's is as long.
async fn answer_of(ours: &Ours) -> anyhow::Result<String> {
    let id = Uuid::new_v4().to_string();
    let mut client = Client::connect(ours.address()).await?;
    let headers = format!("idempotency-key: {id}\r\n");
    let body = create_body(ours.campaign_id, &id);
    let answer = client.expect(201, "POST", "/api/pledges", &headers, &body).await?;
    Ok(String::from_utf8(answer.to_vec())?)
}

/// Against a plain postgres-es service.
pub(super) async fn pledge(
    stage: &Stage,
    options: &Options,
    scenario: Scenario,
    extent: Extent,
    connections: u64,
) -> anyhow::Result<Entry> {
    let ours = Ours::start(stage, "ours", extent).await?;
    let baseline = Baseline::start(stage, "baseline").await?;
    let request = Request::Create { campaign_id: ours.campaign_id };

    stage.checkpoint().await?;
    ours.round(stage, &request, connections, WARM_UP_SECONDS).await?;
    baseline.round(stage, &request, connections, WARM_UP_SECONDS).await?;
    let samples = alternate(
        options.rounds,
        async || ours.round(stage, &request, connections, options.seconds).await,
        async || baseline.round(stage, &request, connections, options.seconds).await,
    )
    .await?;
    let what = match extent {
        Extent::Whole => "everything runs, and folds what is appended at the same time",
        Extent::CommandApi => "command-api by itself",
    };
    let note = format!(
        "durable creates, each round checked against the table, {what}; baseline: plain postgres-es behind axum"
    );
    let entry = Entry::new(scenario, "creates/s", &samples, note)?.with_rss(ours.rss_peak_mb()?);
    baseline.finish(stage).await?;
    ours.finish(stage).await?;
    Ok(entry)
}
