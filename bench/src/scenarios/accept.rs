//! Taking webhooks over HTTP.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use payments::WebhookSecret;
use sqlx::PgPool;
use uuid::Uuid;

use super::{Scenario, WARM_UP_SECONDS};
use crate::Options;
use crate::baseline;
use crate::messages;
use crate::report::Entry;
use crate::rounds::{Sample, alternate};
use crate::server::Service;
use crate::stage::{Database, Stage};
use crate::subject::{self, WEBHOOK_SECRET};
use crate::wrk::{self, Request};

const CONNECTIONS: u64 = 256;
/// Requests that are signed before a round, for each second of it: more than either side can take.
const PER_SECOND: u64 = 60_000;

/// Verified, stored durably and answered, against a handler that verifies nothing and inserts one row
/// for each request. Neither side works on what it has stored.
pub(super) async fn run(stage: &Stage, options: &Options, scenario: Scenario) -> anyhow::Result<Entry> {
    let ours = stage.create_ledger("accept").await?;
    let service = subject::start_service(stage, &ours, "serve-webhook-routes").await?;
    let plain = stage.create_database("accept_baseline").await?;
    baseline::make_inbox(&plain.pool).await?;
    let environment = [("DATABASE_URL", plain.url.as_str())];
    let log = stage.file("accept_baseline.log");
    let plain_service = Service::start(&["serve-plain-webhooks"], &environment, log).await?;

    stage.checkpoint().await?;
    round(stage, &service, &ours, WARM_UP_SECONDS).await?;
    round(stage, &plain_service, &plain, WARM_UP_SECONDS).await?;
    let samples = alternate(
        options.rounds,
        async || round(stage, &service, &ours, options.seconds).await,
        async || round(stage, &plain_service, &plain, options.seconds).await,
    )
    .await?;
    let note = "signed captures, verified and stored durably, each round checked against the table; baseline: \
                axum and sqlx, one insert per request into the same columns and indexes, nothing verified";
    let entry = Entry::new(scenario, "accepts/s", &samples, note)?.with_rss(service.rss_peak_mb()?);
    plain_service.stop().await?;
    stage.drop_database(plain).await?;
    service.stop().await?;
    stage.drop_database(ours).await?;
    Ok(entry)
}

/// One round of load. The inbox must have grown by what was answered, and by no more than what was
/// still under way at the end.
async fn round(
    stage: &Stage,
    service: &Service,
    database: &Database,
    seconds: u64,
) -> anyhow::Result<Sample> {
    let request = Request::Signed { files: sign(stage, seconds)? };
    let before = stored(&database.pool).await?;
    let seen = wrk::run(stage, service.address(), &request, CONNECTIONS, seconds).await?;
    let sample = seen.sample()?;
    // Requests that were under way have finished by now.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let (grown, answered) = (stored(&database.pool).await? - before, seen.successes());
    ensure!(
        (answered..=answered + CONNECTIONS).contains(&grown),
        "{answered} webhooks were answered as stored, but {grown} are in the inbox"
    );
    Ok(sample)
}

async fn stored(pool: &PgPool) -> anyhow::Result<u64> {
    let stored: i64 = sqlx::query_scalar("select count(*) from webhook_inbox").fetch_one(pool).await?;
    Ok(stored.cast_unsigned())
}

/// Writes requests that were never sent before, in one file for each thread of the load: what makes
/// the load has no means to sign.
fn sign(stage: &Stage, seconds: u64) -> anyhow::Result<Vec<PathBuf>> {
    let secret: WebhookSecret = WEBHOOK_SECRET.parse().map_err(anyhow::Error::msg)?;
    let mut files = Vec::new();
    for thread in 0..wrk::THREADS {
        let mut requests = String::new();
        for _ in 0..seconds * PER_SECOND / wrk::THREADS {
            let (webhook_id, pledge_id) = (format!("msg_{}", Uuid::new_v4()), Uuid::new_v4());
            let payment_id = format!("pay_{pledge_id}");
            let message = messages::money(&secret, &webhook_id, "payment.captured", pledge_id, &payment_id);
            requests += &wrk::head("POST", "/webhooks/sandbox", message.body.len());
            requests += &message.headers;
            requests += "\r\n";
            requests += &message.body;
        }
        let file = stage.file(&format!("requests-{thread}"));
        std::fs::write(&file, requests).context("the signed requests cannot be written")?;
        files.push(file);
    }
    Ok(files)
}
