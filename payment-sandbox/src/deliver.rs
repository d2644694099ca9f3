//! Sends webhooks until the merchant answers 2xx.

use std::time::Duration;

use chrono::Utc;
use payments::{WebhookSecret, http_client_builder, sign};
use reqwest::Client;
use service::Shutdown;
use sqlx::{FromRow, PgPool};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::Config;
use crate::plan::DeliveryKind;

/// How often it looks for what is due.
const LOOK: Duration = Duration::from_millis(50);
/// After a failure of the database it waits for this.
const PAUSE: Duration = Duration::from_secs(1);
/// The merchant has this long to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A delivery that is taken is not due again for this long.
const CLAIM_SECONDS: f64 = 10.0;
/// Deliveries under way at once.
const MAX_UNDER_WAY: usize = 256;
/// The pauses between tries double from 1 s up to this.
const MAX_PAUSE_SECONDS: f64 = 300.0;
/// After three days it gives up.
const GIVE_UP_AFTER: &str = "3 days";

#[derive(FromRow)]
struct Delivery {
    delivery_id: i64,
    #[sqlx(try_from = "String")]
    kind: DeliveryKind,
    webhook_id: String,
    body: String,
    attempts: i32,
}

/// A delivery that was tried.
struct Attempt {
    delivery_id: i64,
    kind: DeliveryKind,
    attempts: i32,
    outcome: Result<(), String>,
}

/// Where messages go, and what they are signed with.
#[derive(Clone)]
struct Sender {
    http: Client,
    webhook_url: String,
    secret: WebhookSecret,
    /// Nobody knows it: what is signed with it is not genuine.
    forgers_secret: WebhookSecret,
}

/// Sends what is due until `shutdown`, and then finishes what is under way.
pub(crate) async fn run(config: Config, shutdown: Shutdown) {
    let Ok(forgers_secret) = format!("whsec_{}", Uuid::new_v4().simple()).parse() else {
        unreachable!("hexadecimal digits are base64")
    };
    let sender = Sender {
        http: http_client_builder().timeout(TIMEOUT).build().unwrap_or_default(),
        webhook_url: config.webhook_url,
        secret: config.webhook_secret,
        forgers_secret,
    };
    let mut under_way = JoinSet::new();
    while !shutdown.is_cancelled() {
        let pause = match send_due(&config.pool, &sender, &mut under_way).await {
            Ok(()) => LOOK,
            Err(error) => {
                tracing::warn!(%error, "webhooks cannot be sent; trying again");
                PAUSE
            }
        };
        let tried = tokio::select! {
            tried = finished(&mut under_way) => tried,
            () = tokio::time::sleep(pause) => Vec::new(),
            () = shutdown.cancelled() => Vec::new(),
        };
        record_or_warn(&config.pool, &tried).await;
    }
    while !under_way.is_empty() {
        let tried = finished(&mut under_way).await;
        record_or_warn(&config.pool, &tried).await;
    }
}

/// Takes what is due, as far as there is room, and starts sending it.
async fn send_due(
    pool: &PgPool,
    sender: &Sender,
    under_way: &mut JoinSet<Attempt>,
) -> Result<(), sqlx::Error> {
    let room = MAX_UNDER_WAY.saturating_sub(under_way.len());
    if room == 0 {
        return Ok(());
    }
    for delivery in claim(pool, room).await? {
        let sender = sender.clone();
        under_way.spawn(async move {
            let outcome = sender.send(&delivery).await;
            let Delivery { delivery_id, kind, attempts, .. } = delivery;
            Attempt { delivery_id, kind, attempts, outcome }
        });
    }
    Ok(())
}

async fn claim(pool: &PgPool, room: usize) -> Result<Vec<Delivery>, sqlx::Error> {
    sqlx::query_as(
        "update sandbox.deliveries d
         set attempts = attempts + 1, next_attempt_at = now() + make_interval(secs => $1)
         from (
             select delivery_id from sandbox.deliveries
             where delivered_at is null and held_since is null and next_attempt_at <= now()
             order by next_attempt_at limit $2 for update skip locked
         ) due
         where d.delivery_id = due.delivery_id
         returning d.delivery_id, d.kind, d.webhook_id, d.body, d.attempts",
    )
    .bind(CLAIM_SECONDS)
    .bind(i64::try_from(room).unwrap_or(i64::MAX))
    .fetch_all(pool)
    .await
}

/// Finished attempts, at least one. Never returns while nothing is under way.
async fn finished(under_way: &mut JoinSet<Attempt>) -> Vec<Attempt> {
    let mut tried = Vec::new();
    match under_way.join_next().await {
        Some(first) => tried.extend(first.ok()),
        None => std::future::pending().await,
    }
    while let Some(next) = under_way.try_join_next() {
        tried.extend(next.ok());
    }
    tried
}

impl Sender {
    async fn send(&self, delivery: &Delivery) -> Result<(), String> {
        let secret = match delivery.kind {
            DeliveryKind::First | DeliveryKind::Again | DeliveryKind::Lost | DeliveryKind::Malformed => {
                &self.secret
            }
            DeliveryKind::Forged => &self.forgers_secret,
        };
        let timestamp = Utc::now().timestamp();
        let signature = sign(secret, &delivery.webhook_id, timestamp, delivery.body.as_bytes());
        let response = self
            .http
            .post(&self.webhook_url)
            .header("content-type", "application/json")
            .header("webhook-id", &delivery.webhook_id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(delivery.body.clone())
            .send()
            .await
            .map_err(|error| error.to_string())?;
        let status = response.status();
        // A body that was read to its end leaves the connection to the next message.
        let _ = response.bytes().await;
        if status.is_success() { Ok(()) } else { Err(format!("answered {status}")) }
    }
}

/// An attempt that could not be recorded is repeated when its claim ends. Merchants must cope with repeats
/// anyway.
async fn record_or_warn(pool: &PgPool, tried: &[Attempt]) {
    if tried.is_empty() {
        return;
    }
    let failed = tried.iter().filter(|tried| tried.kind.is_genuine());
    let failed: Vec<&String> = failed.filter_map(|tried| tried.outcome.as_ref().err()).collect();
    if let Some(reason) = failed.first() {
        tracing::warn!(reason, count = failed.len(), "webhooks not delivered; trying again");
    }
    if let Err(error) = record(pool, tried).await {
        tracing::warn!(%error, "the outcome of webhooks cannot be recorded; sending them again");
    }
}

async fn record(pool: &PgPool, tried: &[Attempt]) -> Result<(), sqlx::Error> {
    let pause_seconds = |tried: &Attempt| match tried.kind.is_genuine() {
        true => f64::powi(2.0, (tried.attempts - 1).clamp(0, 30)).min(MAX_PAUSE_SECONDS),
        // Forged and malformed messages are not retried.
        false => f64::INFINITY,
    };
    sqlx::query(
        "update sandbox.deliveries d
         set delivered_at = case when t.error is null then now() end, last_error = t.error,
             next_attempt_at = case
                 when t.pause_seconds = 'infinity' or d.created_at < now() - $4::interval then 'infinity'
                 else now() + make_interval(secs => t.pause_seconds)
             end
         from unnest($1::bigint[], $2::text[], $3::float8[]) as t (delivery_id, error, pause_seconds)
         where d.delivery_id = t.delivery_id",
    )
    .bind(tried.iter().map(|tried| tried.delivery_id).collect::<Vec<_>>())
    .bind(tried.iter().map(|tried| tried.outcome.as_ref().err()).collect::<Vec<_>>())
    .bind(tried.iter().map(pause_seconds).collect::<Vec<_>>())
    .bind(GIVE_UP_AFTER)
    .execute(pool)
    .await?;
    Ok(())
}
