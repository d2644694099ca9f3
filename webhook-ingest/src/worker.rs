//! The worker: takes what is due from the inbox, decides, appends, marks.
//!
//! Running any message again does no harm, because decisions are idempotent by payment id. So a
//! worker that dies between the append and the mark loses nothing and doubles nothing.

use std::time::Duration;

use domain::{PaymentFact, Pledge, PledgeCommand, PledgeError, PledgeId};
use event_store::{AppendError, ExecuteError, Executed, Metadata, Wakeup};
use futures_util::future::join_all;
use payments::{Notice, ProviderError};
use rand::Rng;
use service::Shutdown;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use crate::Config;

/// How long an idle worker waits, unless it is woken, before it looks again.
const POLL: Duration = Duration::from_millis(250);
/// A row that is taken is not due again for this long, so that a worker that dies gives it back soon.
/// One that merely takes longer does no harm: whoever is second finds nothing new.
const CLAIM_SECONDS: f64 = 5.0;
/// Rows taken at once.
const MAX_BATCH: i64 = 200;
/// After this many tries, over about half an hour, a message goes to the dead letters.
const MAX_ATTEMPTS: i32 = 12;
/// The pauses between tries double from 1 s up to this.
const MAX_PAUSE_SECONDS: f64 = 600.0;

#[derive(Debug, FromRow)]
struct InboxRow {
    inbox_id: i64,
    provider: String,
    webhook_id: String,
    pledge_id: Option<Uuid>,
    body: String,
    attempts: i32,
}

/// What becomes of a message.
enum Verdict {
    Processed,
    Ignored,
    Review(String),
    Retry(String),
}

/// Works on the inbox until `shutdown`.
pub async fn run_worker(config: Config, shutdown: Shutdown) {
    let mut wakeup = Wakeup::listen(config.pool.clone(), Wakeup::WEBHOOK_INBOX);
    let mut gauges_due = tokio::time::Instant::now();
    while !shutdown.is_cancelled() {
        if gauges_due <= tokio::time::Instant::now() {
            record_depth(&config.pool).await;
            gauges_due += Duration::from_secs(5);
        }
        match work_once(&config).await {
            Ok(0) => tokio::select! {
                () = wakeup.wait(POLL) => {}
                () = shutdown.cancelled() => {}
            },
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "the inbox cannot be worked on; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Takes a batch and works on it; the pledges of a batch differ, so all go at once and share
/// the ledger's commits. Returns how many rows it took.
async fn work_once(config: &Config) -> Result<usize, sqlx::Error> {
    let rows = claim(&config.pool).await?;
    let verdicts = join_all(rows.iter().map(|row| process(config, row))).await;
    if !rows.is_empty() {
        mark(&config.pool, &rows, &verdicts).await?;
    }
    Ok(rows.len())
}

/// Takes rows that are due, the earliest of each pledge only, and moves their time on so that no
/// other worker takes them while this one lives. A fact that waits for its turn does not hold up
/// those behind it: the pledge accepts them in any order.
async fn claim(pool: &PgPool) -> Result<Vec<InboxRow>, sqlx::Error> {
    sqlx::query_as(
        "with due as (
             select inbox_id from webhook_inbox w
             where status = 'pending' and next_attempt_at <= now()
                 and not exists (
                     select from webhook_inbox earlier
                     where earlier.status = 'pending' and earlier.pledge_id = w.pledge_id
                         and earlier.inbox_id < w.inbox_id and earlier.next_attempt_at <= now()
                 )
             order by next_attempt_at, inbox_id
             limit $1
             for update skip locked
         )
         update webhook_inbox w
         set attempts = attempts + 1, next_attempt_at = now() + make_interval(secs => $2)
         from due where w.inbox_id = due.inbox_id
         returning w.inbox_id, w.provider, w.webhook_id, w.pledge_id, w.body, w.attempts",
    )
    .bind(MAX_BATCH)
    .bind(CLAIM_SECONDS)
    .fetch_all(pool)
    .await
}

async fn process(config: &Config, row: &InboxRow) -> Verdict {
    match facts_of(config, row).await {
        Ok(Some((pledge_id, facts))) => apply_all(config, row, pledge_id, &facts).await,
        Ok(None) => Verdict::Ignored,
        Err(verdict) => verdict,
    }
}

/// What a message says, completed by the provider where the message leaves something out; none when
/// it is nothing to the ledger.
async fn facts_of(config: &Config, row: &InboxRow) -> Result<Option<(PledgeId, Vec<PaymentFact>)>, Verdict> {
    let Some(provider) = config.providers.named(&row.provider) else {
        return Err(Verdict::Retry(format!("the provider {} is not set up", row.provider)));
    };
    match provider.parse(row.body.as_bytes()) {
        Ok(Notice::Facts { pledge_id, facts }) => Ok(Some((pledge_id, facts))),
        Ok(Notice::Unaddressed { payment_id, facts }) => {
            let report = provider.look_up(&payment_id).await.map_err(|error| provider_verdict(&error))?;
            Ok(report.map(|report| (report.pledge_id, [report.facts, facts].concat())))
        }
        Ok(Notice::Ignored) => Ok(None),
        Err(error) => Err(Verdict::Review(error.to_string())),
    }
}

/// Applies the facts of one message in their order, up to the first that cannot be applied now.
async fn apply_all(config: &Config, row: &InboxRow, pledge_id: PledgeId, facts: &[PaymentFact]) -> Verdict {
    for fact in facts {
        match apply(config, row, pledge_id, fact).await {
            Verdict::Processed => {}
            verdict @ (Verdict::Ignored | Verdict::Review(_) | Verdict::Retry(_)) => return verdict,
        }
    }
    Verdict::Processed
}

async fn apply(config: &Config, row: &InboxRow, pledge_id: PledgeId, fact: &PaymentFact) -> Verdict {
    let metadata = Metadata::from([
        ("provider".to_owned(), row.provider.clone()),
        ("webhook_id".to_owned(), row.webhook_id.clone()),
    ]);
    match record(config, pledge_id, fact, metadata).await {
        Ok(executed) if executed.aggregate.asks_to_void(fact) => void(config, row, fact).await,
        Ok(_) => Verdict::Processed,
        Err(ExecuteError::Rule(error @ (PledgeError::NotFound | PledgeError::AwaitsCapture(_)))) => {
            Verdict::Retry(error.to_string())
        }
        Err(ExecuteError::Rule(error)) => Verdict::Review(error.to_string()),
        Err(ExecuteError::Append(error @ AppendError::Refused(_))) => Verdict::Review(error.to_string()),
        Err(error) => Verdict::Retry(error.to_string()),
    }
}

/// Records a fact on its pledge or, if the payment was accepted as another pledge, on that one. A
/// pledge that was made of accepted money uses it itself, so a fact moves once at most.
async fn record(
    config: &Config,
    pledge_id: PledgeId,
    fact: &PaymentFact,
    metadata: Metadata,
) -> Result<Executed<Pledge>, ExecuteError<PledgeError>> {
    let command = PledgeCommand::Record(fact.clone());
    match config.ledger.execute::<Pledge>(pledge_id.0, &command, metadata.clone()).await {
        Err(ExecuteError::Rule(PledgeError::MovedTo(accepted_as))) => {
            config.ledger.execute::<Pledge>(accepted_as.0, &command, metadata).await
        }
        result => result,
    }
}

/// Asks whoever reported the payment to release its money.
async fn void(config: &Config, row: &InboxRow, fact: &PaymentFact) -> Verdict {
    let Some(provider) = config.providers.named(&row.provider) else {
        return Verdict::Retry(format!("the provider {} is not set up", row.provider));
    };
    match provider.void(fact.payment_id()).await {
        Ok(()) => Verdict::Processed,
        Err(error) => Verdict::Retry(error.to_string()),
    }
}

/// What a provider that does not complete a message means for it.
fn provider_verdict(error: &ProviderError) -> Verdict {
    match error {
        ProviderError::Unavailable(_) => Verdict::Retry(error.to_string()),
        ProviderError::Refused(_) => Verdict::Review(error.to_string()),
    }
}

/// Writes all verdicts of a batch in one statement.
async fn mark(pool: &PgPool, rows: &[InboxRow], verdicts: &[Verdict]) -> Result<(), sqlx::Error> {
    let mut ids = Vec::new();
    let mut statuses = Vec::new();
    let mut reasons = Vec::new();
    let mut pauses_seconds = Vec::new();
    for (row, verdict) in rows.iter().zip(verdicts) {
        let (status, reason) = match verdict {
            Verdict::Processed => ("processed", None),
            Verdict::Ignored => ("ignored", None),
            Verdict::Review(reason) => ("review", Some(reason)),
            Verdict::Retry(reason) if row.attempts >= MAX_ATTEMPTS => ("dead", Some(reason)),
            Verdict::Retry(reason) => ("pending", Some(reason)),
        };
        if let Some(reason) = reason {
            tracing::warn!(webhook_id = row.webhook_id, pledge_id = ?row.pledge_id, status, reason, "webhook not applied");
        }
        ids.push(row.inbox_id);
        statuses.push(status);
        reasons.push(reason.map(|reason| reason.chars().take(1_000).collect::<String>()));
        pauses_seconds.push(pause_seconds(row.attempts));
    }
    sqlx::query(
        "update webhook_inbox w
         set status = v.status, reason = v.reason,
             finished_at = case when v.status <> 'pending' then now() end,
             next_attempt_at = now() + make_interval(secs => v.pause_seconds)
         from unnest($1::bigint[], $2::text[], $3::text[], $4::float8[])
             as v (inbox_id, status, reason, pause_seconds)
         where w.inbox_id = v.inbox_id",
    )
    .bind(ids)
    .bind(statuses)
    .bind(reasons)
    .bind(pauses_seconds)
    .execute(pool)
    .await?;
    Ok(())
}

/// 1, 2, 4 s … after the first, second, third try, each up to a quarter longer by chance.
fn pause_seconds(attempts: i32) -> f64 {
    let doubled = f64::powi(2.0, (attempts - 1).clamp(0, 30)).min(MAX_PAUSE_SECONDS);
    doubled * rand::rng().random_range(1.0..1.25)
}

async fn record_depth(pool: &PgPool) {
    let depth: Result<(i64, Option<f64>, i64, i64), _> = sqlx::query_as(
        "select count(*) filter (where status = 'pending'),
             extract(epoch from now() - min(received_at) filter (where status = 'pending'))::float8,
             count(*) filter (where status = 'dead'), count(*) filter (where status = 'review')
         from webhook_inbox where status in ('pending', 'review', 'dead')",
    )
    .fetch_one(pool)
    .await;
    if let Ok((pending, oldest_age_seconds, dead, review)) = depth {
        metrics::gauge!("webhook_inbox_depth").set(pending as f64);
        metrics::gauge!("webhook_inbox_oldest_age_seconds").set(oldest_age_seconds.unwrap_or(0.0));
        metrics::gauge!("dead_letters").set(dead as f64);
        metrics::gauge!("webhooks_in_review").set(review as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        for (attempts, least) in [(1, 1.0), (2, 2.0), (3, 4.0), (11, 600.0), (1000, 600.0)] {
            let pause = pause_seconds(attempts);
            assert!((least..least * 1.25).contains(&pause), "{attempts}: {pause}");
        }
    }
}
