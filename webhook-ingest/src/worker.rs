//! The worker: takes what is due from the inbox, decides, appends, marks.
//!
//! A batch costs four statements however many messages are in it: take, load, append, mark.
//! Running any message again does no harm, because decisions are idempotent by payment id. So a
//! worker that dies between the append and the mark loses nothing and doubles nothing, and only
//! the append waits for the disk.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::{PaymentFact, PaymentId, PledgeId};
use event_store::{Metadata, Wakeup};
use futures_util::future::join_all;
use payments::{Notice, Provider, ProviderError, Providers};
use rand::Rng;
use service::Shutdown;
use sha2::{Digest, Sha256};
use sqlx::{FromRow, PgPool};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::Config;
use crate::apply::{Hearing, Verdict, apply};
use crate::ask;
use crate::expiry;
use crate::inbox::Origin;
use crate::payouts;
use crate::polled;
use crate::reconcile;
use crate::upkeep::{prune_hourly, record_depth};

/// How long an idle worker waits, unless it is woken, before it looks again.
const POLL: Duration = Duration::from_millis(250);
/// A row that is taken is not due again for this long, so that a worker that dies gives it back soon.
/// One that merely takes longer does no harm: whoever is second finds nothing new.
const CLAIM_SECONDS: f64 = 5.0;
/// Rows taken at once.
const MAX_BATCH: i32 = 500;
/// After this many tries, over about half an hour, a message goes to the dead letters, or to review
/// where it waited for another fact.
const MAX_ATTEMPTS: i32 = 12;
/// The pauses between tries double from 1 s up to this.
const MAX_PAUSE_SECONDS: f64 = 600.0;
/// Messages for which the provider is being asked to do something, at once.
const MAX_ERRANDS: usize = 32;
/// A message that waits for its void is due again after this, should the worker die meanwhile.
const VOID_SECONDS: f64 = 15.0;
/// The same for a question about a payment, which may have to be asked three times.
const ASK_SECONDS: f64 = 30.0;
/// The same for a payout, of which many pages may have to be read.
const PAYOUT_SECONDS: f64 = 600.0;
/// A message for which there is no room to ask is due again after this.
const WITHOUT_ROOM_SECONDS: f64 = 1.0;

#[derive(Debug, FromRow)]
struct InboxRow {
    inbox_id: i64,
    provider: String,
    origin: Origin,
    webhook_id: String,
    pledge_id: Option<Uuid>,
    body: String,
    attempts: i32,
}

/// The consequences of a message.
#[derive(Debug)]
struct Conclusion {
    verdict: Verdict,
    /// Payments to void before the verdict holds.
    to_void: Vec<PaymentId>,
    /// What to ask before there is a verdict.
    to_ask: Vec<(Hearing, Verdict)>,
    /// The payout to read before the verdict holds.
    payout_id: Option<String>,
}

impl From<Verdict> for Conclusion {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, to_void: Vec::new(), to_ask: Vec::new(), payout_id: None }
    }
}

/// Works on the inbox, asks providers for what is missing in it, and lets pledges expire, until
/// `shutdown`.
pub async fn run_worker(config: Config, shutdown: Shutdown) {
    tokio::join!(
        work(&config, &shutdown),
        reconcile::run(&config, &shutdown),
        expiry::run(&config, &shutdown),
        record_depth(&config.worker_pool, &shutdown),
        prune_hourly(&config.worker_pool, config.retention, &shutdown),
    );
}

async fn work(config: &Config, shutdown: &Shutdown) {
    let mut wakeup = Wakeup::listen(config.worker_pool.clone(), Wakeup::WEBHOOK_INBOX);
    let mut worker = Worker {
        config: config.clone(),
        errand_permits: Arc::new(Semaphore::new(MAX_ERRANDS)),
        errands: JoinSet::new(),
    };
    while !shutdown.is_cancelled() {
        let pause = match worker.work_once().await {
            Ok(0) => POLL,
            Ok(_) => continue,
            Err(error) => {
                tracing::warn!(%error, "the inbox cannot be worked on; trying again");
                Duration::from_secs(1)
            }
        };
        tokio::select! {
            () = wakeup.wait(pause) => {}
            () = shutdown.cancelled() => {}
        }
    }
    while worker.errands.join_next().await.is_some() {}
}

struct Worker {
    config: Config,
    errand_permits: Arc<Semaphore>,
    /// Questions to providers that run beside the work on other messages.
    errands: JoinSet<()>,
}

impl Worker {
    /// Takes a batch and works on it. Returns how many rows it took.
    async fn work_once(&mut self) -> Result<usize, sqlx::Error> {
        let rows = claim(&self.config.worker_pool).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let started = Instant::now();
        let taken = rows.len();
        let (mut conclusions, said) = read_all(&self.config.providers, &rows).await;
        let applied = apply(&self.config.ledger, self.config.capture_limit, said).await?;
        for outcome in applied.outcomes {
            let conclusion = &mut conclusions[outcome.message];
            conclusion.to_void.extend(outcome.to_void);
            match outcome.to_ask {
                Some(hearing) => conclusion.to_ask.push((hearing, outcome.verdict)),
                None => conclusion.verdict = std::mem::take(&mut conclusion.verdict).max(outcome.verdict),
            }
        }
        let mut marks = Vec::with_capacity(taken);
        let mut errands = Vec::new();
        let room = self.errand_permits.available_permits();
        for (row, conclusion) in rows.into_iter().zip(conclusions) {
            let is_errand = conclusion.payout_id.is_some()
                || !conclusion.to_ask.is_empty()
                || matches!(conclusion.verdict, Verdict::Processed | Verdict::Review(_))
                    && !conclusion.to_void.is_empty();
            if is_errand && errands.len() >= room {
                marks.push(Mark::without_room(&row));
                continue;
            }
            if conclusion.payout_id.is_some() {
                marks.push(Mark::until(
                    &row,
                    "waits for what the provider says of the payout",
                    PAYOUT_SECONDS,
                ));
                errands.push((row, conclusion));
                continue;
            }
            if let Some((_, Verdict::Ask(reason))) = conclusion.to_ask.first() {
                marks.push(Mark::until(&row, reason, ASK_SECONDS));
                errands.push((row, conclusion));
                continue;
            }
            match &conclusion.verdict {
                Verdict::Processed | Verdict::Review(_) if !conclusion.to_void.is_empty() => {
                    marks.push(Mark::until(&row, "waits for the provider to void the payment", VOID_SECONDS));
                    errands.push((row, conclusion));
                }
                verdict => marks.push(Mark::of(&row, verdict)),
            }
        }
        mark(&self.config.worker_pool, &marks, &applied.moved).await?;
        metrics::histogram!("webhook_worker_batch_rows").record(taken as f64);
        metrics::histogram!("webhook_worker_duration_seconds").record(started.elapsed().as_secs_f64());
        self.start_errands(errands);
        Ok(taken)
    }

    fn start_errands(&mut self, errands: Vec<(InboxRow, Conclusion)>) {
        while self.errands.try_join_next().is_some() {}
        for (row, conclusion) in errands {
            let Ok(permit) = self.errand_permits.clone().try_acquire_owned() else { return };
            let config = self.config.clone();
            self.errands.spawn(async move {
                if let Err(error) = run_errand(&config, &row, conclusion).await {
                    tracing::warn!(%error, "what the provider was asked for cannot be marked; it is asked again");
                }
                drop(permit);
            });
        }
    }
}

async fn run_errand(config: &Config, row: &InboxRow, conclusion: Conclusion) -> Result<(), sqlx::Error> {
    let (verdict, moved) = match (config.providers.named(&row.provider), &conclusion.payout_id) {
        (None, _) => (not_set_up(row), HashSet::new()),
        (Some(provider), Some(payout_id)) => {
            let paid_out =
                payouts::settle(&config.ledger, config.capture_limit, provider, payout_id, &metadata(row))
                    .await?;
            (paid_out.verdict, paid_out.moved)
        }
        (Some(provider), None) => {
            let (conclusion, moved) = ask_all(config, provider, conclusion).await?;
            (void(provider, conclusion).await, moved)
        }
    };
    mark(&config.worker_pool, &[Mark::of(row, &verdict)], &moved).await
}

/// Asks what has to be asked. What one payment comes to holds up no other one of the message.
async fn ask_all(
    config: &Config,
    provider: &dyn Provider,
    mut conclusion: Conclusion,
) -> Result<(Conclusion, HashSet<Uuid>), sqlx::Error> {
    let mut moved = HashSet::new();
    for (hearing, _) in std::mem::take(&mut conclusion.to_ask) {
        let (verdict, applied) = ask::settle(&config.ledger, config.capture_limit, provider, hearing).await?;
        moved.extend(applied.moved);
        conclusion.to_void.extend(applied.outcomes.into_iter().filter_map(|outcome| outcome.to_void));
        conclusion.verdict = conclusion.verdict.max(verdict);
    }
    Ok((conclusion, moved))
}

/// Claims the rows that are due, in the order of arrival.
async fn claim(pool: &PgPool) -> Result<Vec<InboxRow>, sqlx::Error> {
    let mut rows: Vec<InboxRow> = sqlx::query_as(
        "select inbox_id, provider, origin, webhook_id, pledge_id, body, attempts
         from webhook_inbox_claim($1, $2)",
    )
    .bind(MAX_BATCH)
    .bind(CLAIM_SECONDS)
    .fetch_all(pool)
    .await?;
    rows.sort_by_key(|row| row.inbox_id);
    Ok(rows)
}

/// Reads all messages of a batch: what is concluded from each already, and what they say of payments.
async fn read_all(providers: &Providers, rows: &[InboxRow]) -> (Vec<Conclusion>, Vec<Hearing>) {
    let mut conclusions = Vec::with_capacity(rows.len());
    let mut said = Vec::with_capacity(rows.len());
    let read = join_all(rows.iter().map(|row| read(providers, row))).await;
    for (message, (row, read)) in rows.iter().zip(read).enumerate() {
        match read {
            Ok(Content::Nothing) => conclusions.push(Verdict::Ignored.into()),
            Ok(Content::Payout(payout_id)) => {
                let payout_id = Some(payout_id);
                conclusions.push(Conclusion { payout_id, ..Verdict::Processed.into() });
            }
            Err(verdict) => conclusions.push(verdict.into()),
            Ok(Content::Facts { pledge_id, facts }) => {
                conclusions.push(Verdict::Processed.into());
                let hearings = Hearing::of_facts(message, pledge_id.0, facts, &metadata(row));
                // Not at each try: the capture may well be on its way.
                let may_ask = row.attempts <= 1 || row.attempts % 4 == 0;
                said.extend(hearings.into_iter().map(|hearing| Hearing { may_ask, ..hearing }));
            }
        }
    }
    (conclusions, said)
}

/// The content of a message, completed by the provider where the message leaves something out.
enum Content {
    Facts {
        pledge_id: PledgeId,
        facts: Vec<PaymentFact>,
    },
    /// Of many payments, which are asked for one page after the other.
    Payout(String),
    /// It is nothing to the ledger.
    Nothing,
}

async fn read(providers: &Providers, row: &InboxRow) -> Result<Content, Verdict> {
    let Some(provider) = providers.named(&row.provider) else { return Err(not_set_up(row)) };
    if row.origin == Origin::Poll {
        return match polled::parse(&row.body) {
            Ok((pledge_id, fact)) => Ok(Content::Facts { pledge_id, facts: vec![fact] }),
            Err(error) => Err(Verdict::Review(error.to_string())),
        };
    }
    match provider.parse(row.body.as_bytes()) {
        Ok(Notice::Facts { pledge_id, facts }) => Ok(Content::Facts { pledge_id, facts }),
        Ok(Notice::Unaddressed { payment_id, facts }) => {
            let report = provider.look_up(&payment_id).await?;
            Ok(report.map_or(Content::Nothing, |report| Content::Facts {
                pledge_id: report.pledge_id,
                facts: [facts, report.facts].concat(),
            }))
        }
        Ok(Notice::Payout { payout_id }) => Ok(Content::Payout(payout_id)),
        Ok(Notice::Ignored) => Ok(Content::Nothing),
        Err(error) => Err(Verdict::Review(error.to_string())),
    }
}

fn not_set_up(row: &InboxRow) -> Verdict {
    Verdict::Retry(format!("the provider {} is not set up", row.provider))
}

/// Metadata of the events that a message leads to.
fn metadata(row: &InboxRow) -> Metadata {
    Metadata {
        provider: Some(row.provider.clone()),
        webhook_id: Some(row.webhook_id.clone()),
        webhook_sha256: Some(format!("{:x}", Sha256::digest(row.body.as_bytes()))),
        ..Metadata::default()
    }
}

/// Asks whoever reported the payments to void them. Asking twice is as good as once.
async fn void(provider: &dyn Provider, conclusion: Conclusion) -> Verdict {
    if !matches!(conclusion.verdict, Verdict::Processed | Verdict::Review(_)) {
        return conclusion.verdict;
    }
    for payment_id in &conclusion.to_void {
        if let Err(error) = provider.void(payment_id).await {
            return match error {
                ProviderError::Unavailable(_) => Verdict::Unreachable(error.to_string()),
                ProviderError::Refused(_) => Verdict::Retry(error.to_string()),
            };
        }
    }
    conclusion.verdict
}

/// The new state of a row.
struct Mark {
    inbox_id: i64,
    /// As they were when the row was taken; if another worker has taken it since, that one marks it.
    attempts: i32,
    status: &'static str,
    reason: Option<String>,
    /// Whether this was no try.
    is_free: bool,
    /// Until it is due again, where it is.
    pause_seconds: f64,
}

impl Mark {
    fn of(row: &InboxRow, verdict: &Verdict) -> Self {
        let (status, reason) = match verdict {
            Verdict::Processed => ("processed", None),
            Verdict::Ignored => ("ignored", None),
            Verdict::Review(reason) => ("review", Some(reason)),
            Verdict::Await(reason) | Verdict::Ask(reason) if row.attempts >= MAX_ATTEMPTS => {
                ("review", Some(reason))
            }
            Verdict::Retry(reason) if row.attempts >= MAX_ATTEMPTS => ("dead", Some(reason)),
            Verdict::Await(reason)
            | Verdict::Ask(reason)
            | Verdict::Retry(reason)
            | Verdict::Unreachable(reason) => ("pending", Some(reason)),
        };
        if let Some(reason) = reason {
            tracing::warn!(
                webhook_id = row.webhook_id, pledge_id = ?row.pledge_id, status, reason,
                "webhook not applied"
            );
        }
        Self {
            inbox_id: row.inbox_id,
            attempts: row.attempts,
            status,
            reason: reason.map(|reason| reason.chars().take(1_000).collect()),
            is_free: matches!(verdict, Verdict::Unreachable(_)) && row.attempts >= MAX_ATTEMPTS,
            pause_seconds: pause_seconds(row.attempts),
        }
    }

    /// There is no room to ask the provider: that is no try.
    fn without_room(row: &InboxRow) -> Self {
        let reason = "waits until others have asked the provider";
        Self { is_free: true, ..Self::until(row, reason, WITHOUT_ROOM_SECONDS) }
    }

    /// The pledge is free for other facts while the provider is asked.
    fn until(row: &InboxRow, reason: &str, pause_seconds: f64) -> Self {
        Self {
            inbox_id: row.inbox_id,
            attempts: row.attempts,
            status: "pending",
            reason: Some(reason.to_owned()),
            is_free: false,
            pause_seconds,
        }
    }
}

/// Writes the new states of rows. What else waits on a pledge that has `moved` is due at once: the fact
/// that it waited for may be among those.
async fn mark(pool: &PgPool, marks: &[Mark], moved: &HashSet<Uuid>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with marked as (
             update webhook_inbox w
             set status = v.status, reason = v.reason, claimed_until = null,
                 attempts = w.attempts - v.is_free::int,
                 finished_at = case when v.status <> 'pending' then now() end,
                 next_attempt_at = now() + make_interval(secs => v.pause_seconds)
             from unnest($1::bigint[], $2::int[], $3::text[], $4::text[], $5::float8[], $7::bool[])
                 as v (inbox_id, attempts, status, reason, pause_seconds, is_free)
             where w.inbox_id = v.inbox_id and w.attempts = v.attempts and w.status = 'pending'
         )
         update webhook_inbox w set next_attempt_at = now()
         where w.pledge_id = any ($6::uuid[]) and w.status = 'pending' and w.next_attempt_at > now()
             and w.inbox_id <> all ($1::bigint[])",
    )
    .bind(marks.iter().map(|mark| mark.inbox_id).collect::<Vec<_>>())
    .bind(marks.iter().map(|mark| mark.attempts).collect::<Vec<_>>())
    .bind(marks.iter().map(|mark| mark.status).collect::<Vec<_>>())
    .bind(marks.iter().map(|mark| mark.reason.as_deref()).collect::<Vec<_>>())
    .bind(marks.iter().map(|mark| mark.pause_seconds).collect::<Vec<_>>())
    .bind(moved.iter().copied().collect::<Vec<_>>())
    .bind(marks.iter().map(|mark| mark.is_free).collect::<Vec<_>>())
    // Planned anew each time: a plan from when the inbox was small would read all of it.
    .persistent(false)
    .execute(pool)
    .await?;
    Ok(())
}

/// 1, 2, 4 s … after the first, second, third try, each up to a quarter longer by chance.
fn pause_seconds(attempts: i32) -> f64 {
    let doubled = f64::powi(2.0, (attempts - 1).clamp(0, 30)).min(MAX_PAUSE_SECONDS);
    doubled * rand::rng().random_range(1.0..1.25)
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
