//! Asks providers what no message told: what happened on payment sessions, and whether refunds that
//! were asked for have been made.
//!
//! Each question is asked again after pauses that grow with the age of what it is about. So a
//! provider is not hammered, nothing starves, and what was lost is found at the latest when the
//! session is about twice as old as it was then.

use std::collections::HashMap;
use std::time::Duration;

use domain::{PaymentFact, Pledge, PledgeStatus};
use event_store::{GroupCommit, Ledger};
use futures_util::future::join_all;
use payments::{PaymentReport, Provider, ProviderError, Providers, SessionId};
use service::Shutdown;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use crate::Config;
use crate::asked::{AskError, Found, store_unknown};
use crate::inbox::{InboxWriter, start_writer};

/// Sessions or refunds taken at once.
const BATCH: usize = 100;
/// Questions to providers under way at once.
const AT_ONCE: usize = 16;
/// What is taken is not due again for this long, should the process die meanwhile. A session may
/// cost three questions, each of five seconds.
const CLAIM_SECONDS: f64 = 20.0;
/// How often it looks for what is due, at most.
const LOOK: Duration = Duration::from_secs(5);
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// The longest pause while the pledge can still move, and after that.
const MAX_PAUSES: (Duration, Duration) = (DAY, Duration::from_secs(30 * 24 * 3_600));
/// A payment is watched for this long: banks accept disputes for about four months.
const WATCHED_FOR: Duration = Duration::from_secs(180 * 24 * 3_600);
/// A refund is watched for this long, and for a day where the provider has not even said that it
/// will make it.
const REFUND_WATCHED_FOR: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Asks until `shutdown`.
pub(crate) async fn run(config: &Config, shutdown: &Shutdown) {
    let reconciler = Reconciler {
        pool: config.worker_pool.clone(),
        ledger: config.ledger.clone(),
        providers: config.providers.clone(),
        inbox: start_writer(config.pool.clone()),
        reconcile_after: config.reconcile_after,
        pledge_ttl: config.pledge_ttl,
    };
    tokio::join!(reconciler.check(Subject::Sessions, shutdown), reconciler.check(Subject::Refunds, shutdown));
}

/// What providers are asked about.
#[derive(Clone, Copy, Debug)]
enum Subject {
    Sessions,
    Refunds,
}

struct Reconciler {
    pool: PgPool,
    ledger: Ledger,
    providers: Providers,
    inbox: GroupCommit<InboxWriter>,
    /// The first question is asked after this, and no pause is shorter.
    reconcile_after: Duration,
    pledge_ttl: Duration,
}

/// A session on which something may have happened that nobody told.
#[derive(Debug, FromRow)]
struct Session {
    provider: String,
    session_id: String,
    pledge_id: Uuid,
    age_seconds: f64,
    /// Whether its pledge has been pending for too long: it is closed before anything else.
    is_overdue: bool,
}

/// A refund that nobody has confirmed.
#[derive(Debug, FromRow)]
struct AskedRefund {
    pledge_id: Uuid,
    request_key: String,
    payment_id: String,
    refund_id: Option<String>,
    age_seconds: f64,
}

/// What the answer to a question is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// There was none.
    Unanswered,
    /// Something new, which is in the inbox now.
    Found,
    /// Nothing new. The pledge can still move by itself.
    Open,
    /// Nothing new, and the pledge is finished: only its money can still move.
    Finished,
    /// Nothing new, and nothing can happen any more.
    Over,
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Unanswered => "unanswered",
            Self::Found => "found",
            Self::Open | Self::Finished | Self::Over => "nothing_new",
        }
    }

    /// After what pause to ask again; none when there is no need to.
    fn pause(self, age: Duration, reconcile_after: Duration, watched_for: Duration) -> Option<Duration> {
        if age > watched_for && self != Self::Found {
            return None;
        }
        match self {
            Self::Over => None,
            // The provider's circuit breaker, and not this, keeps one that is down from being asked.
            Self::Unanswered | Self::Found => Some(reconcile_after),
            Self::Open => Some((age / 2).min(MAX_PAUSES.0).max(reconcile_after)),
            Self::Finished => Some(age.min(MAX_PAUSES.1).max(reconcile_after)),
        }
    }
}

impl Reconciler {
    /// Asks about what is due until `shutdown`.
    async fn check(&self, subject: Subject, shutdown: &Shutdown) {
        // Overdue pledges wait for it as well.
        let look = (self.reconcile_after.min(self.pledge_ttl) / 4).clamp(Duration::from_millis(100), LOOK);
        while !shutdown.is_cancelled() {
            let checked = match subject {
                Subject::Sessions => self.check_sessions().await,
                Subject::Refunds => self.check_refunds().await,
            };
            match checked {
                Ok(BATCH..) => continue,
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, ?subject, "cannot be reconciled; trying again"),
            }
            tokio::select! {
                () = tokio::time::sleep(look) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// Returns how many sessions were due.
    async fn check_sessions(&self) -> Result<usize, sqlx::Error> {
        let sessions = claim_sessions(&self.pool, self.pledge_ttl).await?;
        let ids: Vec<Uuid> = sessions.iter().map(|session| session.pledge_id).collect();
        let mut statuses: HashMap<Uuid, PledgeStatus> = HashMap::new();
        for (id, loaded) in self.ledger.load_many::<Pledge>(&ids).await? {
            statuses.extend(loaded.ok().and_then(|loaded| Some((id, loaded.aggregate.status()?))));
        }
        let mut pauses = Vec::with_capacity(sessions.len());
        for some in sessions.chunks(AT_ONCE) {
            let asked = some
                .iter()
                .map(|session| self.check_session(session, statuses.get(&session.pledge_id).copied()));
            pauses.extend(join_all(asked).await);
        }
        schedule_sessions(&self.pool, &sessions, &pauses).await?;
        Ok(sessions.len())
    }

    /// Asks what happened on a session; after what pause to ask again.
    async fn check_session(&self, session: &Session, status: Option<PledgeStatus>) -> Option<Duration> {
        let outcome = self.ask_about_session(session, status).await.unwrap_or_else(|error| {
            let Session { provider, session_id, pledge_id, .. } = session;
            tracing::warn!(provider, session_id, %pledge_id, %error, "a session cannot be reconciled; trying again");
            Outcome::Unanswered
        });
        count(&session.provider, outcome);
        outcome.pause(seconds(session.age_seconds), self.reconcile_after, WATCHED_FOR)
    }

    /// A session on which nobody has paid is closed when its pledge does not wait for money any more, or
    /// has waited for too long; a payment that is found then counts.
    async fn ask_about_session(
        &self,
        session: &Session,
        status: Option<PledgeStatus>,
    ) -> Result<Outcome, AskError> {
        let provider = self.provider(&session.provider)?;
        let Some(status) = status else { return Err(AskError::NoPledge) };
        let session_id: SessionId =
            session.session_id.parse().map_err(|error| ProviderError::Refused(format!("{error}")))?;
        let mut report = provider.fetch(&session_id).await?;
        let waits = status == PledgeStatus::Pending && !session.is_overdue;
        if is_unpaid(&report) && !waits {
            provider.close(&session_id).await?;
            report = provider.fetch(&session_id).await?;
        }
        if report.pledge_id.0 != session.pledge_id {
            let other = format!("it says that {session_id} is for pledge {}", report.pledge_id);
            return Err(ProviderError::Refused(other).into());
        }
        Ok(match store_unknown(&self.ledger, &self.inbox, provider.name(), &report).await? {
            Found { new: 1.., .. } => Outcome::Found,
            Found { unknown: 0, .. } if is_unpaid(&report) && !waits => Outcome::Over,
            Found { .. } => match status {
                PledgeStatus::Pending | PledgeStatus::Authorized | PledgeStatus::Captured => Outcome::Open,
                PledgeStatus::Completed
                | PledgeStatus::Failed
                | PledgeStatus::Expired
                | PledgeStatus::Cancelled => Outcome::Finished,
            },
        })
    }

    /// Returns how many refunds were due.
    async fn check_refunds(&self) -> Result<usize, sqlx::Error> {
        let refunds = claim_refunds(&self.pool).await?;
        let mut pauses = Vec::with_capacity(refunds.len());
        for some in refunds.chunks(AT_ONCE) {
            pauses.extend(join_all(some.iter().map(|refund| self.check_refund(refund))).await);
        }
        schedule_refunds(&self.pool, &refunds, &pauses).await?;
        Ok(refunds.len())
    }

    /// Asks whether a refund was made; after what pause to ask again, none when it was.
    async fn check_refund(&self, refund: &AskedRefund) -> Option<Duration> {
        let AskedRefund { pledge_id, payment_id, refund_id, .. } = refund;
        let outcome = self.look_up_refund(refund).await.unwrap_or_else(|error| {
            tracing::warn!(%pledge_id, payment_id, %error, "a refund cannot be reconciled; trying again");
            Outcome::Unanswered
        });
        let watched_for = if refund_id.is_some() { REFUND_WATCHED_FOR } else { DAY };
        let pause = outcome.pause(seconds(refund.age_seconds), self.reconcile_after, watched_for);
        if pause.is_none() && outcome != Outcome::Over && refund_id.is_some() {
            tracing::error!(%pledge_id, payment_id, refund_id, "the provider has never confirmed a refund");
        }
        pause
    }

    async fn look_up_refund(&self, refund: &AskedRefund) -> Result<Outcome, AskError> {
        let payment_id =
            refund.payment_id.parse().map_err(|error| ProviderError::Refused(format!("{error}")))?;
        let provider = self.providers.of_payment(&payment_id)?;
        let report = provider.look_up(&payment_id).await?;
        let outcome = match &report {
            None => Outcome::Over,
            Some(report) => match store_unknown(&self.ledger, &self.inbox, provider.name(), report).await? {
                Found { new: 1.., .. } => Outcome::Found,
                Found { unknown: 0, .. } if is_made(report, refund) => Outcome::Over,
                Found { .. } => Outcome::Open,
            },
        };
        count(provider.name(), outcome);
        Ok(outcome)
    }

    fn provider(&self, name: &str) -> Result<&dyn Provider, ProviderError> {
        let not_set_up = || ProviderError::Refused(format!("the provider {name} is not set up"));
        self.providers.named(name).ok_or_else(not_set_up)
    }
}

/// Whether no money was moved or reserved on a session, and none is on its way.
fn is_unpaid(report: &PaymentReport) -> bool {
    !report.is_underway && report.facts.iter().all(|fact| matches!(fact, PaymentFact::Failed { .. }))
}

fn is_made(report: &PaymentReport, refund: &AskedRefund) -> bool {
    report.facts.iter().any(|fact| {
        matches!(fact, PaymentFact::Refunded { refund_id, .. } if Some(refund_id.as_str()) == refund.refund_id.as_deref())
    })
}

fn count(provider: &str, outcome: Outcome) {
    let (provider, outcome) = (provider.to_owned(), outcome.label());
    metrics::counter!("reconciler_questions_total", "provider" => provider, "outcome" => outcome)
        .increment(1);
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// Takes sessions that are due, those that have waited longest first. Another process takes others.
async fn claim_sessions(pool: &PgPool, pledge_ttl: Duration) -> Result<Vec<Session>, sqlx::Error> {
    sqlx::query_as(
        "with due as (
             select provider, session_id from payment_sessions
             where ended_at is null and next_check_at <= now()
             order by next_check_at limit $1 for update skip locked
         ), claimed as (
             update payment_sessions s
             set checks = s.checks + 1, checked_at = now(), next_check_at = now() + make_interval(secs => $2)
             from due where s.provider = due.provider and s.session_id = due.session_id
             returning s.provider, s.session_id, s.pledge_id, s.created_at
         )
         select c.provider, c.session_id, c.pledge_id,
             extract(epoch from now() - c.created_at)::float8 as age_seconds,
             coalesce(p.created_at < now() - make_interval(secs => $3), false) as is_overdue
         from claimed c left join pledges p on p.pledge_id = c.pledge_id",
    )
    .bind(BATCH as i64)
    .bind(CLAIM_SECONDS)
    .bind(pledge_ttl.as_secs_f64())
    // Planned anew each time: a plan from when the table was small would read all of it.
    .persistent(false)
    .fetch_all(pool)
    .await
}

/// Writes when sessions are asked about again; none means never.
async fn schedule_sessions(
    pool: &PgPool,
    sessions: &[Session],
    pauses: &[Option<Duration>],
) -> Result<(), sqlx::Error> {
    if sessions.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update payment_sessions s
         set next_check_at = now() + make_interval(secs => coalesce(c.pause_seconds, 0)),
             ended_at = case when c.pause_seconds is null then now() end
         from unnest($1::text[], $2::text[], $3::float8[]) as c (provider, session_id, pause_seconds)
         where s.provider = c.provider and s.session_id = c.session_id and s.ended_at is null",
    )
    .bind(sessions.iter().map(|session| session.provider.as_str()).collect::<Vec<_>>())
    .bind(sessions.iter().map(|session| session.session_id.as_str()).collect::<Vec<_>>())
    .bind(pauses.iter().map(|pause| pause.map(|pause| pause.as_secs_f64())).collect::<Vec<_>>())
    .execute(pool)
    .await?;
    Ok(())
}

async fn claim_refunds(pool: &PgPool) -> Result<Vec<AskedRefund>, sqlx::Error> {
    sqlx::query_as(
        "update refund_requests r
         set checks = r.checks + 1, next_check_at = now() + make_interval(secs => $2)
         from (
             select pledge_id, request_key from refund_requests
             where ended_at is null and next_check_at <= now()
             order by next_check_at limit $1 for update skip locked
         ) due
         where r.pledge_id = due.pledge_id and r.request_key = due.request_key
         returning r.pledge_id, r.request_key, r.payment_id, r.refund_id,
             extract(epoch from now() - r.requested_at)::float8 as age_seconds",
    )
    .bind(BATCH as i64)
    .bind(CLAIM_SECONDS)
    .persistent(false)
    .fetch_all(pool)
    .await
}

async fn schedule_refunds(
    pool: &PgPool,
    refunds: &[AskedRefund],
    pauses: &[Option<Duration>],
) -> Result<(), sqlx::Error> {
    if refunds.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update refund_requests r
         set next_check_at = now() + make_interval(secs => coalesce(c.pause_seconds, 0)),
             ended_at = case when c.pause_seconds is null then now() end
         from unnest($1::uuid[], $2::text[], $3::float8[]) as c (pledge_id, request_key, pause_seconds)
         where r.pledge_id = c.pledge_id and r.request_key = c.request_key and r.ended_at is null",
    )
    .bind(refunds.iter().map(|refund| refund.pledge_id).collect::<Vec<_>>())
    .bind(refunds.iter().map(|refund| refund.request_key.as_str()).collect::<Vec<_>>())
    .bind(pauses.iter().map(|pause| pause.map(|pause| pause.as_secs_f64())).collect::<Vec<_>>())
    .execute(pool)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn pauses_grow_with_age_up_to_a_limit() {
        let pause = |outcome: Outcome, age| outcome.pause(age, MINUTE, WATCHED_FOR);
        assert_eq!(pause(Outcome::Open, Duration::ZERO), Some(MINUTE));
        assert_eq!(pause(Outcome::Open, 30 * MINUTE), Some(15 * MINUTE));
        assert_eq!(pause(Outcome::Open, 9 * DAY), Some(DAY));
        assert_eq!(pause(Outcome::Finished, 30 * MINUTE), Some(30 * MINUTE));
        assert_eq!(pause(Outcome::Finished, 100 * DAY), Some(30 * DAY));
        assert_eq!(pause(Outcome::Unanswered, 9 * DAY), Some(MINUTE));
        assert_eq!(pause(Outcome::Found, 200 * DAY), Some(MINUTE));
        for outcome in [Outcome::Open, Outcome::Finished, Outcome::Unanswered] {
            assert_eq!(pause(outcome, 181 * DAY), None);
        }
        assert_eq!(pause(Outcome::Over, MINUTE), None);
    }

    #[test]
    fn a_payment_that_is_settled_soon_costs_few_questions() {
        let (mut age, mut questions) = (MINUTE, 0);
        while let Some(pause) = Outcome::Finished.pause(age, MINUTE, WATCHED_FOR) {
            age += pause;
            questions += 1;
        }
        assert!((15..30).contains(&questions), "{questions}");
    }
}
