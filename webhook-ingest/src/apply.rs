//! Applying what the messages of a batch say of their pledges: one read, decisions one after the other, one
//! round of appends.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use domain::payment::Outcome;
use domain::pledge::{CaptureLimit, Recording, Report, UnappliedReason};
use domain::{PaymentFact, PaymentId, Pledge, PledgeError, PledgeEvent, Rules};
use event_store::{AppendError, Appended, Ledger, LoadedAggregate, Metadata, pledge_of_payment};
use futures_util::future::join_all;
use payments::ProviderError;
use uuid::Uuid;

/// Most times that a pledge is loaded and decided while other commands change it.
const MAX_ROUNDS: u32 = 3;

/// What one message says of one payment.
#[derive(Clone, Debug)]
pub(crate) struct Hearing {
    /// Which message of the batch it is from.
    pub(crate) message: usize,
    /// The pledge it is about.
    pub(crate) pledge_id: Uuid,
    /// The payment it is about.
    pub(crate) payment_id: PaymentId,
    /// What the message says: about this payment, at least one.
    pub(crate) facts: Vec<PaymentFact>,
    /// What the provider answered since, each time that it was asked.
    pub(crate) answers: Vec<Vec<PaymentFact>>,
    /// Whether its payment is asked for if it waits for a capture.
    pub(crate) may_ask: bool,
    /// Metadata of its events, which names the message.
    pub(crate) metadata: Metadata,
}

impl Hearing {
    /// What one message says, payment by payment.
    pub(crate) fn of_facts(
        message: usize,
        pledge_id: Uuid,
        facts: Vec<PaymentFact>,
        metadata: &Metadata,
    ) -> Vec<Self> {
        let mut hearings: Vec<Self> = Vec::with_capacity(1);
        for fact in facts {
            match hearings.iter_mut().find(|hearing| hearing.payment_id == fact.payment_id) {
                Some(hearing) => hearing.facts.push(fact),
                None => hearings.push(Self {
                    message,
                    pledge_id,
                    payment_id: fact.payment_id.clone(),
                    facts: vec![fact],
                    answers: vec![],
                    may_ask: true,
                    metadata: metadata.clone(),
                }),
            }
        }
        hearings
    }

    fn report(&self, limit: CaptureLimit, now: DateTime<Utc>) -> Report {
        let told = Report::of_facts(self.facts.iter().cloned(), limit, now);
        self.answers.iter().fold(told, |report, answer| report.answer(answer.iter().cloned()))
    }
}

/// The verdict on what a message says. Where it says several things the worst one counts, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// It means nothing to the ledger.
    #[default]
    Ignored,
    /// It is in the ledger, now or before.
    Processed,
    /// It contradicts the ledger, and no try would help.
    Review(String),
    /// It waits for a fact that must have come before it. If that never comes, it needs review.
    Await(String),
    /// The provider is asked first.
    Ask(String),
    /// It cannot be applied yet.
    Retry(String),
    /// The provider cannot be reached: that is no try.
    Unreachable(String),
}

impl From<ProviderError> for Verdict {
    /// For a message that the provider did not complete.
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::Unavailable(_) => Self::Unreachable(error.to_string()),
            ProviderError::Refused(_) => Self::Review(error.to_string()),
        }
    }
}

/// The outcome of what a message says of one payment.
#[derive(Debug)]
pub(crate) struct HearingOutcome {
    pub(crate) message: usize,
    pub(crate) verdict: Verdict,
    /// The payment that the provider must be asked to void before the message is done.
    pub(crate) to_void: Option<PaymentId>,
    /// What the provider must be asked about before the message is done.
    pub(crate) to_ask: Option<Hearing>,
}

impl HearingOutcome {
    fn of(hearing: &Hearing, verdict: Verdict) -> Self {
        Self { message: hearing.message, verdict, to_void: None, to_ask: None }
    }
}

/// The outcome of a batch.
#[derive(Debug, Default)]
pub(crate) struct BatchOutcome {
    pub(crate) outcomes: Vec<HearingOutcome>,
    /// The pledges that have new events, so that what waits for them may go on.
    pub(crate) moved: HashSet<Uuid>,
}

/// Applies what was heard, which is in the order of its arrival.
///
/// # Errors
/// The database's error when pledges cannot be read: then nothing has an outcome.
pub(crate) async fn apply(
    ledger: &Ledger,
    limit: CaptureLimit,
    hearings: Vec<Hearing>,
) -> Result<BatchOutcome, sqlx::Error> {
    let mut applied = BatchOutcome::default();
    let mut open = hearings;
    for _ in 0..MAX_ROUNDS {
        if open.is_empty() {
            return Ok(applied);
        }
        let decisions = decide_all(ledger, limit, open, &mut applied).await?;
        let appended = join_all(decisions.iter().map(|decision| decision.append(ledger))).await;
        open = Vec::new();
        for (decision, appended) in decisions.into_iter().zip(appended) {
            let again = match appended {
                Some(Err(AppendError::ForeignPayment)) => decision.set_aside(ledger, &mut applied).await?,
                appended => decision.conclude(&appended, &mut applied),
            };
            open.extend(again);
        }
        open.sort_by_key(|hearing| hearing.message);
    }
    applied.conclude_all(open, &Verdict::Retry(AppendError::Conflict.to_string()));
    Ok(applied)
}

/// Loads the pledges of all hearings by one read, and decides.
async fn decide_all(
    ledger: &Ledger,
    limit: CaptureLimit,
    hearings: Vec<Hearing>,
    applied: &mut BatchOutcome,
) -> Result<Vec<Decision>, sqlx::Error> {
    let mut by_pledge: BTreeMap<Uuid, Vec<Hearing>> = BTreeMap::new();
    for hearing in hearings {
        by_pledge.entry(hearing.pledge_id).or_default().push(hearing);
    }
    let ids: Vec<Uuid> = by_pledge.keys().copied().collect();
    let mut pledges = ledger.load_many::<Pledge>(&ids).await?;
    let mut decisions = Vec::with_capacity(ids.len());
    for (pledge_id, hearings) in by_pledge {
        match pledges.remove(&pledge_id) {
            Some(Ok(loaded)) => decisions.push(Decision::make(pledge_id, loaded, limit, hearings)),
            Some(Err(error)) => applied.conclude_all(hearings, &Verdict::Retry(error.to_string())),
            None => applied.conclude_all(hearings, &Verdict::Retry(PledgeError::NotFound.to_string())),
        }
    }
    Ok(decisions)
}

/// The pledge that a payment is in by now, with its id: the one that it is said to be for, or the one that it
/// was accepted as. None where its events cannot be understood, which the worker says of its messages.
pub(crate) async fn load_holder(
    ledger: &Ledger,
    pledge_id: Uuid,
    payment_id: &PaymentId,
) -> Result<Option<(Uuid, Pledge)>, sqlx::Error> {
    let mut id = pledge_id;
    loop {
        let Some(Ok(loaded)) = ledger.load_many::<Pledge>(&[id]).await?.remove(&id) else { return Ok(None) };
        match loaded.aggregate.accepted_as(payment_id) {
            Some(other) => id = other.0,
            None => return Ok(Some((id, loaded.aggregate))),
        }
    }
}

impl BatchOutcome {
    fn conclude_all(&mut self, hearings: Vec<Hearing>, verdict: &Verdict) {
        let outcome = |hearing| HearingOutcome::of(&hearing, verdict.clone());
        self.outcomes.extend(hearings.into_iter().map(outcome));
    }
}

/// The events to which what is heard of one pledge leads, decided one after the other.
struct Decision {
    pledge_id: Uuid,
    /// Where the pledge stood.
    sequence: i64,
    /// Where it stands after the events.
    pledge: Pledge,
    limit: CaptureLimit,
    now: DateTime<Utc>,
    events: Vec<(PledgeEvent, Metadata)>,
    /// These hold if the events are appended.
    verdicts: Vec<(Hearing, Verdict)>,
    /// What is about money that was accepted as another pledge: it is decided there.
    moved: Vec<Hearing>,
}

impl Decision {
    /// What waits for something that came after it is decided again, as long as that brings events.
    fn make(
        pledge_id: Uuid,
        loaded: LoadedAggregate<Pledge>,
        limit: CaptureLimit,
        hearings: Vec<Hearing>,
    ) -> Self {
        let LoadedAggregate { aggregate: pledge, sequence } = loaded;
        let mut decision = Self {
            pledge_id,
            sequence,
            pledge,
            limit,
            now: Utc::now(),
            events: Vec::new(),
            verdicts: Vec::new(),
            moved: Vec::new(),
        };
        let mut waiting = hearings;
        loop {
            let known = decision.events.len();
            waiting.retain(|hearing| !decision.decide(hearing));
            if waiting.is_empty() || decision.events.len() == known {
                break;
            }
        }
        for hearing in waiting {
            let reason = PledgeError::AwaitsCapture(hearing.payment_id.clone()).to_string();
            let asks = hearing.may_ask && hearing.answers.is_empty();
            let verdict = if asks { Verdict::Ask(reason) } else { Verdict::Await(reason) };
            decision.verdicts.push((hearing, verdict));
        }
        decision
    }

    /// Decides one hearing; false when something of it waits for its capture.
    fn decide(&mut self, hearing: &Hearing) -> bool {
        let verdict = match self.pledge.record_report(&hearing.report(self.limit, self.now)) {
            Ok(recording) => {
                let waits = recording.outcomes.values().any(|outcome| *outcome == Outcome::Wait);
                let verdict = verdict_on(&recording);
                for event in recording.events {
                    self.pledge.apply_event(event.clone());
                    self.events.push((event, hearing.metadata.clone()));
                }
                if waits {
                    return false;
                }
                verdict
            }
            Err(PledgeError::MovedTo(other)) => {
                self.moved.push(Hearing { pledge_id: other.0, ..hearing.clone() });
                return true;
            }
            Err(error @ PledgeError::NotFound) => Verdict::Retry(error.to_string()),
            Err(error) => Verdict::Review(error.to_string()),
        };
        self.verdicts.push((hearing.clone(), verdict));
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

    /// Sets aside what names another pledge's payment: the provider is asked whose it is. Returns the rest,
    /// which must be decided again.
    async fn set_aside(
        self,
        ledger: &Ledger,
        applied: &mut BatchOutcome,
    ) -> Result<Vec<Hearing>, sqlx::Error> {
        let mut open = self.moved;
        for (hearing, _) in self.verdicts {
            let holder = pledge_of_payment(ledger.pool(), hearing.payment_id.as_str()).await?;
            match holder.filter(|holder| *holder != self.pledge_id) {
                None => open.push(hearing),
                Some(holder) => {
                    let reason = format!("payment {} is pledge {holder}'s", hearing.payment_id);
                    let verdict = Verdict::Ask(reason);
                    let to_ask = Some(hearing.clone());
                    applied.outcomes.push(HearingOutcome { to_ask, ..HearingOutcome::of(&hearing, verdict) });
                }
            }
        }
        Ok(open)
    }

    /// Concludes; returns what must be decided again, or elsewhere, in another round.
    fn conclude(
        self,
        appended: &Option<Result<Appended, AppendError>>,
        applied: &mut BatchOutcome,
    ) -> Vec<Hearing> {
        let hearings = |verdicts: Vec<(Hearing, Verdict)>| verdicts.into_iter().map(|(hearing, _)| hearing);
        if let Some(Ok(_)) = appended {
            applied.moved.insert(self.pledge_id);
            self.raise_alarms();
        }
        let mut open = self.moved;
        match appended {
            Some(Err(AppendError::Conflict | AppendError::ForeignPayment)) => {
                open.extend(hearings(self.verdicts));
            }
            Some(Err(error @ AppendError::Refused(_))) => {
                let verdict = Verdict::Review(error.to_string());
                applied.conclude_all(hearings(self.verdicts).collect(), &verdict);
            }
            Some(Err(error @ (AppendError::Unavailable(_) | AppendError::Queue(_)))) => {
                let verdict = Verdict::Retry(error.to_string());
                applied.conclude_all(hearings(self.verdicts).collect(), &verdict);
            }
            Some(Ok(_)) | None => {
                let pledge = &self.pledge;
                applied.outcomes.extend(self.verdicts.into_iter().map(|(hearing, verdict)| {
                    let asks_to_void =
                        verdict == Verdict::Processed && pledge.asks_to_void(&hearing.payment_id);
                    HearingOutcome {
                        to_void: asks_to_void.then(|| hearing.payment_id.clone()),
                        to_ask: matches!(verdict, Verdict::Ask(_)).then(|| hearing.clone()),
                        ..HearingOutcome::of(&hearing, verdict)
                    }
                }));
            }
        }
        open
    }
}

/// The worst of what becomes of the objects of a payment.
fn verdict_on(recording: &Recording) -> Verdict {
    let of_outcome = |outcome: &Outcome| {
        let reason = || recording.trouble(*outcome).map(|error| error.to_string()).unwrap_or_default();
        match outcome {
            Outcome::Recorded | Outcome::Known => Verdict::Processed,
            Outcome::Ask(_) => Verdict::Ask(reason()),
            Outcome::Wait => Verdict::Await(reason()),
            Outcome::Review(_) => Verdict::Review(reason()),
        }
    };
    recording.outcomes.values().map(of_outcome).max().unwrap_or(Verdict::Processed)
}
