//! Sends webhooks until the merchant answers 2xx.

use std::time::Duration;

use chrono::Utc;
use futures_util::future::join_all;
use payments::{http_client_builder, sign};
use reqwest::Client;
use service::Shutdown;
use sqlx::{FromRow, PgPool};

use crate::Config;

/// How often it looks for what is due.
const LOOK: Duration = Duration::from_millis(50);
/// The merchant has this long to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A delivery that is taken is not due again for this long.
const CLAIM_SECONDS: f64 = 6.0;
/// Deliveries under way at once.
const MAX_BATCH: i64 = 64;
/// The pauses between tries double from 1 s up to this.
const MAX_PAUSE_SECONDS: f64 = 300.0;
/// After three days it gives up.
const GIVE_UP_AFTER: &str = "3 days";

#[derive(FromRow)]
struct Delivery {
    webhook_id: String,
    body: String,
    attempts: i32,
}

/// Sends what is due until `shutdown`.
pub async fn run_deliveries(config: Config, shutdown: Shutdown) {
    let http = http_client_builder().timeout(TIMEOUT).build().unwrap_or_default();
    while !shutdown.is_cancelled() {
        match deliver_due(&config, &http).await {
            Ok(0) => tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = shutdown.cancelled() => {}
            },
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "webhooks cannot be sent; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn deliver_due(config: &Config, http: &Client) -> Result<usize, sqlx::Error> {
    let due: Vec<Delivery> = sqlx::query_as(
        "update sandbox.deliveries d
         set attempts = attempts + 1, next_attempt_at = now() + make_interval(secs => $1)
         from (
             select webhook_id from sandbox.deliveries
             where delivered_at is null and next_attempt_at <= now()
             order by next_attempt_at limit $2 for update skip locked
         ) due
         where d.webhook_id = due.webhook_id
         returning d.webhook_id, d.body, d.attempts",
    )
    .bind(CLAIM_SECONDS)
    .bind(MAX_BATCH)
    .fetch_all(&config.pool)
    .await?;
    let sent = due.iter().map(|delivery| async {
        let outcome = send(config, http, delivery).await;
        record(&config.pool, delivery, outcome).await
    });
    for recorded in join_all(sent).await {
        recorded?;
    }
    Ok(due.len())
}

async fn send(config: &Config, http: &Client, delivery: &Delivery) -> Result<(), String> {
    let timestamp = Utc::now().timestamp();
    let signature = sign(&config.webhook_secret, &delivery.webhook_id, timestamp, delivery.body.as_bytes());
    let response = http
        .post(&config.webhook_url)
        .header("content-type", "application/json")
        .header("webhook-id", &delivery.webhook_id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signature)
        .body(delivery.body.clone())
        .send()
        .await
        .map_err(|error| error.to_string())?;
    if response.status().is_success() { Ok(()) } else { Err(format!("answered {}", response.status())) }
}

async fn record(pool: &PgPool, delivery: &Delivery, outcome: Result<(), String>) -> Result<(), sqlx::Error> {
    if let Err(reason) = &outcome {
        tracing::warn!(webhook_id = delivery.webhook_id, reason, "webhook not delivered; trying again");
    }
    let pause_seconds = f64::powi(2.0, (delivery.attempts - 1).clamp(0, 30)).min(MAX_PAUSE_SECONDS);
    sqlx::query(
        "update sandbox.deliveries d
         set delivered_at = case when $2::text is null then now() end, last_error = $2,
             next_attempt_at = case
                 when s.decided_at < now() - $4::interval then 'infinity'
                 else now() + make_interval(secs => $3)
             end
         from sandbox.sessions s
         where d.webhook_id = $1 and s.session_id = d.session_id",
    )
    .bind(&delivery.webhook_id)
    .bind(outcome.err())
    .bind(pause_seconds)
    .bind(GIVE_UP_AFTER)
    .execute(pool)
    .await?;
    Ok(())
}
