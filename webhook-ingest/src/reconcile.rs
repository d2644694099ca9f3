//! Polls providers for what no message reported: what happened on payment sessions, and whether
//! requested refunds have been made.
//!
//! Each question is asked again after pauses that grow with the age of what it is about. So a
//! provider is not hammered, nothing starves, and what was lost is found at the latest when the
//! session is about twice as old as it was then.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::payment::{Content, ObjectKey, RefundState, Statement};
use domain::pledge::CaptureLimit;
use domain::{PaymentFact, Pledge, PledgeStatus};
use event_store::{GroupCommit, Ledger};
use futures_util::future::join_all;
use payments::store::refund_requests::{self, DueRefund};
use payments::store::sessions::{self, DueSession};
use payments::{PaymentReport, Provider, ProviderError, Providers, SessionId};
use read_model::overdue_among;
use service::Shutdown;
use sqlx::PgPool;
use uuid::Uuid;

use crate::Config;
use crate::inbox::{InboxWriter, start_writer};
use crate::polled::{MissingFacts, PollError, store_missing};

/// Sessions or refunds taken at once.
const BATCH: usize = 100;
/// Questions to providers under way at once.
const AT_ONCE: usize = 16;
/// How long a claim lasts if the process dies meanwhile. A session may cost three questions, each of five
/// seconds.
const CLAIM: Duration = Duration::from_secs(20);
/// How often it looks for what is due, at most.
const LOOK: Duration = Duration::from_secs(5);
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// The longest pause while the pledge can still move, and after that.
const MAX_PAUSES: (Duration, Duration) = (DAY, Duration::from_secs(30 * 24 * 3_600));
/// A payment is watched for this long: banks accept disputes for about four months.
const WATCHED_FOR: Duration = Duration::from_secs(180 * 24 * 3_600);

/// Asks until `shutdown`.
pub(crate) async fn run(config: &Config, shutdown: &Shutdown) {
    let reconciler = Reconciler {
        pool: config.worker_pool.clone(),
        ledger: config.ledger.clone(),
        providers: config.providers.clone(),
        inbox: start_writer(config.pool.clone()),
        reconcile_after: config.reconcile_after,
        pledge_ttl: config.pledge_ttl,
        capture_limit: config.capture_limit,
    };
    tokio::join!(reconciler.check(Subject::Sessions, shutdown), reconciler.check(Subject::Refunds, shutdown));
}

/// Subject of a question to a provider.
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
    capture_limit: CaptureLimit,
}

/// Outcome of a question to a provider.
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
        let sessions = sessions::claim(&self.pool, BATCH, CLAIM).await?;
        let ids: Vec<Uuid> = sessions.iter().map(|session| session.pledge_id).collect();
        let overdue: HashSet<Uuid> =
            overdue_among(&self.pool, self.pledge_ttl, &ids).await?.into_iter().collect();
        let mut statuses: HashMap<Uuid, PledgeStatus> = HashMap::new();
        for (id, loaded) in self.ledger.load_many::<Pledge>(&ids).await? {
            statuses.extend(loaded.ok().and_then(|loaded| Some((id, loaded.aggregate.status()?))));
        }
        let mut pauses = Vec::with_capacity(sessions.len());
        for some in sessions.chunks(AT_ONCE) {
            let asked = some.iter().map(|session| {
                let status = statuses.get(&session.pledge_id).copied();
                self.check_session(session, status, overdue.contains(&session.pledge_id))
            });
            pauses.extend(join_all(asked).await);
        }
        sessions::schedule(&self.pool, &sessions, &pauses).await?;
        Ok(sessions.len())
    }

    /// Asks what happened on a session; after what pause to ask again.
    async fn check_session(
        &self,
        session: &DueSession,
        status: Option<PledgeStatus>,
        is_overdue: bool,
    ) -> Option<Duration> {
        let outcome = self.ask_about_session(session, status, is_overdue).await.unwrap_or_else(|error| {
            let DueSession { provider, session_id, pledge_id, .. } = session;
            tracing::warn!(
                provider, session_id, %pledge_id, %error,
                "a session cannot be reconciled; trying again"
            );
            Outcome::Unanswered
        });
        count(&session.provider, outcome);
        outcome.pause(seconds(session.age_seconds), self.reconcile_after, WATCHED_FOR)
    }

    /// A session on which nobody has paid is closed when its pledge does not wait for money any more, or
    /// has waited for too long; a payment that is found then counts.
    async fn ask_about_session(
        &self,
        session: &DueSession,
        status: Option<PledgeStatus>,
        is_overdue: bool,
    ) -> Result<Outcome, PollError> {
        let provider = self.provider(&session.provider)?;
        let Some(status) = status else { return Err(PollError::NoPledge) };
        let session_id: SessionId =
            session.session_id.parse().map_err(|error| ProviderError::Refused(format!("{error}")))?;
        let mut asked_at = Utc::now();
        let mut report = provider.fetch(&session_id).await?;
        let waits = status == PledgeStatus::Pending && !is_overdue;
        if !report.is_paid() && !waits {
            provider.close(&session_id).await?;
            asked_at = Utc::now();
            report = provider.fetch(&session_id).await?;
        }
        if report.pledge_id.0 != session.pledge_id {
            let other = format!("it says that {session_id} is for pledge {}", report.pledge_id);
            return Err(ProviderError::Refused(other).into());
        }
        Ok(match self.store_missing(provider.name(), &report, asked_at).await? {
            MissingFacts { new: 1.., .. } => Outcome::Found,
            MissingFacts { unknown: 0, .. } if !report.is_paid() && !waits => Outcome::Over,
            MissingFacts { .. } => match status {
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
        let refunds = refund_requests::claim(&self.pool, BATCH, CLAIM).await?;
        let mut pauses = Vec::with_capacity(refunds.len());
        for some in refunds.chunks(AT_ONCE) {
            pauses.extend(join_all(some.iter().map(|refund| self.check_refund(refund))).await);
        }
        refund_requests::schedule(&self.pool, &refunds, &pauses).await?;
        Ok(refunds.len())
    }

    /// Asks whether a refund was made; after what pause to ask again, none when it was.
    async fn check_refund(&self, refund: &DueRefund) -> Option<Duration> {
        let DueRefund { pledge_id, payment_id, refund_id, .. } = refund;
        let outcome = self.look_up_refund(refund).await.unwrap_or_else(|error| {
            tracing::warn!(%pledge_id, payment_id, %error, "a refund cannot be reconciled; trying again");
            Outcome::Unanswered
        });
        // A day is enough where the provider has not even said that it will make it.
        let watched_for = if refund_id.is_some() { WATCHED_FOR } else { DAY };
        let pause = outcome.pause(seconds(refund.age_seconds), self.reconcile_after, watched_for);
        if pause.is_none() && outcome != Outcome::Over && refund_id.is_some() {
            tracing::error!(%pledge_id, payment_id, refund_id, "the provider has never confirmed a refund");
        }
        pause
    }

    async fn look_up_refund(&self, refund: &DueRefund) -> Result<Outcome, PollError> {
        let payment_id =
            refund.payment_id.parse().map_err(|error| ProviderError::Refused(format!("{error}")))?;
        let provider = self.providers.of_payment(&payment_id)?;
        let asked_at = Utc::now();
        let report = provider.look_up(&payment_id).await?;
        let outcome = match &report {
            None => Outcome::Over,
            Some(report) => match self.store_missing(provider.name(), report, asked_at).await? {
                MissingFacts { new: 1.., .. } => Outcome::Found,
                MissingFacts { unknown: 0, .. } if is_over(report, refund) => Outcome::Over,
                MissingFacts { .. } => Outcome::Open,
            },
        };
        count(provider.name(), outcome);
        Ok(outcome)
    }

    async fn store_missing(
        &self,
        provider: &'static str,
        report: &PaymentReport,
        asked_at: DateTime<Utc>,
    ) -> Result<MissingFacts, PollError> {
        store_missing(&self.ledger, &self.inbox, self.capture_limit, provider, report, asked_at).await
    }

    fn provider(&self, name: &str) -> Result<&dyn Provider, ProviderError> {
        let not_set_up = || ProviderError::Refused(format!("the provider {name} is not set up"));
        self.providers.named(name).ok_or_else(not_set_up)
    }
}

/// Whether a refund was made, or came to nothing.
fn is_over(report: &PaymentReport, refund: &DueRefund) -> bool {
    let Some(wanted) = refund.refund_id.as_deref() else { return false };
    let is_end = |statement: &Statement| match (statement.object(), statement.content()) {
        (ObjectKey::Refund(id), Content::Refund(state)) => {
            id.as_str() == wanted && state != RefundState::Asked
        }
        _ => false,
    };
    report.facts.iter().filter_map(PaymentFact::statement).any(is_end)
}

fn count(provider: &str, outcome: Outcome) {
    let (provider, outcome) = (provider.to_owned(), outcome.label());
    metrics::counter!("reconciler_questions_total", "provider" => provider, "outcome" => outcome)
        .increment(1);
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
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
