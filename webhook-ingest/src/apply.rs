//! Applying the facts of a batch to their pledges: one read, decisions one after the other, one
//! round of appends.

use std::collections::{BTreeMap, HashSet};

use domain::pledge::{CaptureLimit, UnappliedReason};
use domain::{PaymentFact, PaymentId, Pledge, PledgeCommand, PledgeError, PledgeEvent, Rules};
use event_store::{AppendError, Appended, Ledger, LoadedAggregate, Metadata};
use futures_util::future::join_all;
use payments::ProviderError;
use uuid::Uuid;

/// Most times that a pledge is loaded and decided while other commands change it.
const MAX_ROUNDS: u32 = 3;

/// One fact of a message.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    /// Which message of the batch it is from.
    pub(crate) message: usize,
    /// The pledge it is about.
    pub(crate) pledge_id: Uuid,
    pub(crate) fact: PaymentFact,
    /// Metadata of its events, which names the message.
    pub(crate) metadata: Metadata,
}

/// The verdict on a fact. Of a message with several facts the worst one counts, in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// It means nothing to the ledger.
    Ignored,
    /// It is in the ledger, now or before.
    Processed,
    /// It contradicts the ledger, and no try would help.
    Review(String),
    /// It waits for a fact that must have come before it. If that never comes, it needs review.
    Await(String),
    /// It cannot be applied yet.
    Retry(String),
}

impl From<ProviderError> for Verdict {
    /// For a message that the provider did not complete.
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::Unavailable(_) => Self::Retry(error.to_string()),
            ProviderError::Refused(_) => Self::Review(error.to_string()),
        }
    }
}

/// The outcome of one fact.
#[derive(Debug)]
pub(crate) struct FactOutcome {
    pub(crate) message: usize,
    pub(crate) verdict: Verdict,
    /// The payment that the provider must be asked to void before the message is done.
    pub(crate) to_void: Option<PaymentId>,
}

/// The outcome of a batch.
#[derive(Debug, Default)]
pub(crate) struct BatchOutcome {
    pub(crate) outcomes: Vec<FactOutcome>,
    /// The pledges that have new events, so that what waits for them may go on.
    pub(crate) moved: HashSet<Uuid>,
}

/// Applies facts, which are in the order of their arrival.
///
/// # Errors
/// The database's error when pledges cannot be read: then no fact has an outcome.
pub(crate) async fn apply(
    ledger: &Ledger,
    limit: CaptureLimit,
    facts: Vec<Fact>,
) -> Result<BatchOutcome, sqlx::Error> {
    let mut applied = BatchOutcome::default();
    let mut open = facts;
    for _ in 0..MAX_ROUNDS {
        if open.is_empty() {
            return Ok(applied);
        }
        let decisions = decide_all(ledger, limit, open, &mut applied).await?;
        let appended = join_all(decisions.iter().map(|decision| decision.append(ledger))).await;
        open = Vec::new();
        for (decision, appended) in decisions.into_iter().zip(appended) {
            open.extend(decision.conclude(&appended, &mut applied));
        }
        open.sort_by_key(|fact| fact.message);
    }
    applied.outcomes.extend(open.iter().map(|fact| FactOutcome {
        message: fact.message,
        verdict: Verdict::Retry(AppendError::Conflict.to_string()),
        to_void: None,
    }));
    Ok(applied)
}

/// Loads the pledges of all facts by one read, and decides.
async fn decide_all(
    ledger: &Ledger,
    limit: CaptureLimit,
    facts: Vec<Fact>,
    applied: &mut BatchOutcome,
) -> Result<Vec<Decision>, sqlx::Error> {
    let mut by_pledge: BTreeMap<Uuid, Vec<Fact>> = BTreeMap::new();
    for fact in facts {
        by_pledge.entry(fact.pledge_id).or_default().push(fact);
    }
    let ids: Vec<Uuid> = by_pledge.keys().copied().collect();
    let mut pledges = ledger.load_many::<Pledge>(&ids).await?;
    let mut decisions = Vec::with_capacity(ids.len());
    for (pledge_id, facts) in by_pledge {
        match pledges.remove(&pledge_id) {
            Some(Ok(loaded)) => decisions.push(Decision::make(pledge_id, loaded, limit, facts)),
            Some(Err(error)) => applied.conclude_all(facts, &Verdict::Retry(error.to_string())),
            None => applied.conclude_all(facts, &Verdict::Retry(PledgeError::NotFound.to_string())),
        }
    }
    Ok(decisions)
}

impl BatchOutcome {
    fn conclude_all(&mut self, facts: Vec<Fact>, verdict: &Verdict) {
        self.outcomes.extend(facts.into_iter().map(|fact| FactOutcome {
            message: fact.message,
            verdict: verdict.clone(),
            to_void: None,
        }));
    }
}

/// The events to which the facts of one pledge lead, decided one after the other.
struct Decision {
    pledge_id: Uuid,
    /// Where the pledge stood.
    sequence: i64,
    /// Where it stands after the events.
    pledge: Pledge,
    limit: CaptureLimit,
    events: Vec<(PledgeEvent, Metadata)>,
    /// These hold if the events are appended.
    verdicts: Vec<(Fact, Verdict)>,
    /// Facts about money that was accepted as another pledge: they are decided there.
    moved: Vec<Fact>,
}

impl Decision {
    /// A fact that waits for one that came after it is decided again, as long as that brings events.
    fn make(pledge_id: Uuid, loaded: LoadedAggregate<Pledge>, limit: CaptureLimit, facts: Vec<Fact>) -> Self {
        let LoadedAggregate { aggregate: pledge, sequence } = loaded;
        let mut decision = Self {
            pledge_id,
            sequence,
            pledge,
            limit,
            events: Vec::new(),
            verdicts: Vec::new(),
            moved: Vec::new(),
        };
        let mut waiting = facts;
        loop {
            let known = decision.events.len();
            waiting.retain(|fact| !decision.decide(fact));
            if waiting.is_empty() || decision.events.len() == known {
                break;
            }
        }
        for fact in waiting {
            let reason = PledgeError::AwaitsCapture(fact.fact.payment_id().clone()).to_string();
            decision.verdicts.push((fact, Verdict::Await(reason)));
        }
        decision
    }

    /// Decides one fact; false when it waits for its capture.
    fn decide(&mut self, fact: &Fact) -> bool {
        let verdict =
            match self.pledge.decide(&PledgeCommand::Record { fact: fact.fact.clone(), limit: self.limit }) {
                Ok(events) => {
                    for event in events {
                        self.pledge.apply_event(event.clone());
                        self.events.push((event, fact.metadata.clone()));
                    }
                    Verdict::Processed
                }
                Err(PledgeError::AwaitsCapture(_)) => return false,
                Err(error @ PledgeError::NotFound) => Verdict::Retry(error.to_string()),
                Err(PledgeError::MovedTo(other)) => {
                    self.moved.push(Fact { pledge_id: other.0, ..fact.clone() });
                    return true;
                }
                Err(
                    error @ (PledgeError::AlreadyExists
                    | PledgeError::NotPending(_)
                    | PledgeError::NotWaiting(_)
                    | PledgeError::InQuestion(_)
                    | PledgeError::NotAuthorized(_)
                    | PledgeError::Currency(_)
                    | PledgeError::NotUnapplied(_)
                    | PledgeError::NotIntact(_)
                    | PledgeError::NeedsReview(_)),
                ) => Verdict::Review(error.to_string()),
            };
        self.verdicts.push((fact.clone(), verdict));
        true
    }

    /// Money that waits for a person must not wait unseen.
    fn raise_alarms(&self) {
        for (event, _) in &self.events {
            if let PledgeEvent::PaymentUnapplied {
                payment_id,
                amount,
                reason: UnappliedReason::AboveLimit,
                ..
            } = event
            {
                let pledge_id = self.pledge_id;
                tracing::error!(
                    %pledge_id, %payment_id, %amount, limit = %self.limit,
                    "a payment took more than the limit for its pledge; accept it or give it back"
                );
            }
        }
    }

    /// None when there is nothing to append.
    async fn append(&self, ledger: &Ledger) -> Option<Result<Appended, AppendError>> {
        if self.events.is_empty() {
            return None;
        }
        Some(ledger.append_events::<Pledge>(self.pledge_id, self.sequence, &self.events).await)
    }

    /// Concludes the facts; returns those that must be decided again, or elsewhere, in another round.
    fn conclude(
        self,
        appended: &Option<Result<Appended, AppendError>>,
        applied: &mut BatchOutcome,
    ) -> Vec<Fact> {
        let facts = |verdicts: Vec<(Fact, Verdict)>| verdicts.into_iter().map(|(fact, _)| fact);
        if let Some(Ok(_)) = appended {
            applied.moved.insert(self.pledge_id);
            self.raise_alarms();
        }
        let mut open = self.moved;
        match appended {
            Some(Err(AppendError::Conflict)) => open.extend(facts(self.verdicts)),
            Some(Err(error @ AppendError::Refused(_))) => {
                let verdict = Verdict::Review(error.to_string());
                applied.conclude_all(facts(self.verdicts).collect(), &verdict);
            }
            Some(Err(error @ (AppendError::Unavailable(_) | AppendError::Queue(_)))) => {
                let verdict = Verdict::Retry(error.to_string());
                applied.conclude_all(facts(self.verdicts).collect(), &verdict);
            }
            Some(Ok(_)) | None => {
                let pledge = &self.pledge;
                applied.outcomes.extend(self.verdicts.into_iter().map(|(fact, verdict)| {
                    FactOutcome {
                        message: fact.message,
                        to_void: (verdict == Verdict::Processed && pledge.asks_to_void(&fact.fact))
                            .then(|| fact.fact.payment_id().clone()),
                        verdict,
                    }
                }));
            }
        }
        open
    }
}
