//! Polled facts: what a provider reports when it is asked. Each becomes a message of the inbox, and so
//! is processed like the provider's own webhooks.

use chrono::{DateTime, Utc};
use domain::payment::{Content, Origin as Source, Outcome, Statement, WrittenStanding};
use domain::pledge::{CaptureLimit, News, PledgePayment, Recording, Report, Said};
use domain::{PaymentFact, PaymentId, Pledge, PledgeId};
use event_store::{GroupCommit, Ledger, QueueError};
use payments::{PaymentReport, ProviderError};
use serde::{Deserialize, Serialize};
use service::Problem;
use sha2::{Digest, Sha256};

use crate::apply::load_holder;
use crate::inbox::{Delivery, InboxWriter, Origin};

/// Ids and types of such messages begin with this, for people; programs look at [`Origin`].
const PREFIX: &str = "asked_";

/// The body of such a message.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolledFact {
    pledge_id: PledgeId,
    fact: PaymentFact,
}

/// The pledge and the fact of such a message.
pub(crate) fn parse(body: &str) -> Result<(PledgeId, PaymentFact), serde_json::Error> {
    serde_json::from_str(body).map(|PolledFact { pledge_id, fact }| (pledge_id, fact))
}

/// Why a provider could not be polled, or its answer not be stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PollError {
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error("the ledger has no such pledge, or it cannot be understood")]
    NoPledge,
    #[error("the ledger cannot be read: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the inbox is full: {0}")]
    Queue(#[from] QueueError),
    #[error("the inbox cannot be written: {0:?}")]
    Inbox(Box<Problem>),
    #[error("an answer cannot be written down: {0}")]
    Json(#[from] serde_json::Error),
}

/// Facts of a report that the ledger does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MissingFacts {
    /// Facts that the ledger does not have, or that contradict it.
    pub(crate) unknown: usize,
    /// Those of them that the inbox has not heard of before.
    pub(crate) new: usize,
}

/// Puts into the inbox what of a report the ledger does not have. `asked_at` is when the question was sent.
///
/// The id of a message follows from what it says and, of an answer, from what counts in the ledger: asking
/// twice adds nothing, and what is said once more after something else is another message.
pub(crate) async fn store_missing(
    ledger: &Ledger,
    inbox: &GroupCommit<InboxWriter>,
    limit: CaptureLimit,
    provider: &'static str,
    report: &PaymentReport,
    asked_at: DateTime<Utc>,
) -> Result<MissingFacts, PollError> {
    let mut found = MissingFacts::default();
    let (missing, too_early) = unknown(ledger, limit, report, asked_at).await?;
    found.unknown += too_early;
    for (fact, replaced) in missing {
        let delivery = delivery(provider, report.pledge_id, fact, replaced)?;
        let what = &delivery.event_type;
        tracing::info!(provider, pledge_id = %report.pledge_id, what, "found by asking");
        let submitted = inbox.submit(delivery).await?;
        let is_new = submitted.map_err(|problem| PollError::Inbox(Box::new(problem)))?;
        found.unknown += 1;
        found.new += usize::from(is_new);
    }
    metrics::counter!("reconciler_facts_found_total", "provider" => provider).increment(found.new as u64);
    Ok(found)
}

/// What counts of an object in the ledger, and the latest time at which anything of it stood.
type Replaced = Option<(Content, DateTime<Utc>)>;

fn delivery(
    provider: &'static str,
    pledge_id: PledgeId,
    fact: PaymentFact,
    replaced: Replaced,
) -> Result<Delivery, serde_json::Error> {
    let event_type = format!("{PREFIX}{}", name_of(&fact));
    let said = match fact.statement().filter(|statement| statement.origin() == Source::Answered) {
        // When it was asked for is no part of what it says.
        Some(answer) => {
            let stands = WrittenStanding::from(answer.content());
            let replaced = replaced.map(|(content, at)| (WrittenStanding::from(content), at));
            serde_json::to_string(&(pledge_id, fact.payment_id.as_str(), answer.object(), stands, replaced))?
        }
        None => serde_json::to_string(&(pledge_id, &fact))?,
    };
    let webhook_id = format!("{PREFIX}{:x}", Sha256::digest(said.as_bytes()));
    let body = serde_json::to_string(&PolledFact { pledge_id, fact })?;
    Ok(Delivery {
        provider,
        origin: Origin::Poll,
        webhook_id,
        event_type,
        pledge_id: Some(pledge_id.0),
        is_ignored: false,
        body,
    })
}

/// A word for it, for people.
fn name_of(fact: &PaymentFact) -> &'static str {
    match &fact.said {
        Said::Stated(statement) | Said::Failed(statement, _) => statement.content().name(),
        Said::Settled(_) => "settled",
    }
}

/// What would move the pledge, contradict it, or have the provider void a payment; and how many answers say
/// nothing, because they were asked for too soon after the latest news.
async fn unknown(
    ledger: &Ledger,
    limit: CaptureLimit,
    report: &PaymentReport,
    asked_at: DateTime<Utc>,
) -> Result<(Vec<(PaymentFact, Replaced)>, usize), sqlx::Error> {
    let (mut unknown, mut too_early) = (Vec::new(), 0);
    let mut payments: Vec<&PaymentId> = report.facts.iter().map(|fact| &fact.payment_id).collect();
    payments.sort();
    payments.dedup();
    for payment_id in payments {
        let facts = report.facts.iter().filter(|fact| fact.payment_id == *payment_id).cloned();
        let Some((_, pledge)) = load_holder(ledger, report.pledge_id.0, payment_id).await? else {
            unknown.extend(facts.map(|fact| (fact, None)));
            continue;
        };
        let stands_at = pledge.question_stands_at(payment_id, asked_at, &[]);
        let is_in_time = |fact: &PaymentFact| stands_at == asked_at || !is_answer(fact);
        let (facts, late): (Vec<PaymentFact>, Vec<PaymentFact>) = facts.partition(is_in_time);
        let facts: Vec<PaymentFact> = facts.into_iter().map(|fact| fact.answered_at(asked_at)).collect();
        too_early += late.len();
        if !facts.is_empty() {
            unknown.extend(unknown_of(&pledge, payment_id, facts, limit, asked_at));
        }
    }
    Ok((unknown, too_early))
}

fn unknown_of(
    pledge: &Pledge,
    payment_id: &PaymentId,
    facts: Vec<PaymentFact>,
    limit: CaptureLimit,
    now: DateTime<Utc>,
) -> Vec<(PaymentFact, Replaced)> {
    let payment = pledge.record().and_then(|record| record.payments.get(payment_id));
    let replaced = |fact: &PaymentFact| {
        let (history, object) = (&payment?.history, fact.statement()?.object());
        Some((history.counts(object)?, history.newest(object)?))
    };
    let recording = match pledge.record_report(&Report::of_facts(facts.clone(), limit, now)) {
        Ok(recording) => recording,
        // The inbox's worker says what is wrong with it.
        Err(_) => return facts.into_iter().map(|fact| (fact.clone(), replaced(&fact))).collect(),
    };
    let mut unknown: Vec<&PaymentFact> =
        facts.iter().filter(|fact| is_unknown(fact, &recording, payment)).collect();
    if unknown.is_empty() && pledge.asks_to_void(payment_id) {
        unknown.extend(facts.iter().find(|fact| is_answer(fact)));
    }
    // What a message would have said needs no answer beside it.
    let is_said = |answer: &PaymentFact| {
        let stated = answer.statement().map(Statement::stated);
        unknown.iter().any(|fact| !is_answer(fact) && fact.statement().map(Statement::stated) == stated)
    };
    let stored = unknown.iter().filter(|fact| !is_answer(fact) || !is_said(fact));
    stored.map(|fact| ((*fact).clone(), replaced(fact))).collect()
}

fn is_answer(fact: &PaymentFact) -> bool {
    fact.statement().is_some_and(|statement| statement.origin() == Source::Answered)
}

/// Whether a fact is not in the ledger yet.
fn is_unknown(fact: &PaymentFact, recording: &Recording, payment: Option<&PledgePayment>) -> bool {
    let news = || recording.events.iter().filter_map(|event| event.news());
    let Some(statement) = fact.statement() else {
        return news().any(|News { settled, .. }| settled.is_some());
    };
    match recording.outcomes.get(statement.object()) {
        None | Some(Outcome::Known) => false,
        Some(Outcome::Recorded) => news().any(|news| news.heard.contains(statement)),
        Some(Outcome::Ask(_) | Outcome::Wait | Outcome::Review(_)) => {
            payment.is_none_or(|payment| !payment.history.statements().any(|known| known == statement))
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use domain::Money;
    use domain::payment::Stated;
    use uuid::Uuid;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn so_far(minor: i64) -> Stated {
        Stated::payment(Some(Money::new(minor, "USD".parse().unwrap()).unwrap()), None)
    }

    /// As an answer to a question of this time.
    fn captured(minor: i64, asked_at: i64) -> PaymentFact {
        PaymentFact::stated("pay_1".parse().unwrap(), Statement::answered(so_far(minor), at(asked_at)))
    }

    fn message(pledge: u128, fact: PaymentFact, replaced: Replaced) -> Delivery {
        delivery("sandbox", PledgeId(Uuid::from_u128(pledge)), fact, replaced).unwrap()
    }

    #[test]
    fn the_same_answer_is_the_same_message_and_another_is_another() {
        let first = message(1, captured(5000, 9), None);
        assert_eq!(first.webhook_id, message(1, captured(5000, 20), None).webhook_id);
        assert_ne!(first.webhook_id, message(2, captured(5000, 9), None).webhook_id);
        assert_ne!(first.webhook_id, message(1, captured(5001, 9), None).webhook_id);
        // Once more, after something else was heard.
        let replaced = |minor, seconds| Some((so_far(minor).content(), at(seconds)));
        let again = message(1, captured(5000, 9), replaced(4000, 5));
        assert_ne!(first.webhook_id, again.webhook_id);
        assert_ne!(again.webhook_id, message(1, captured(5000, 9), replaced(4000, 6)).webhook_id);
        assert_eq!(first.event_type, "asked_captured");
    }

    #[test]
    fn answers_are_read_back_and_nothing_else_is_taken_for_one() {
        let Delivery { origin, body, .. } = message(1, captured(5000, 9), None);
        let expected = (PledgeId(Uuid::from_u128(1)), captured(5000, 9));
        assert_eq!((origin, parse(&body).unwrap()), (Origin::Poll, expected));
        let with_more = body.replacen('{', r#"{"type":"payment.captured","#, 1);
        assert!(parse(&with_more).is_err());
        assert!(parse(r#"{"type":"payment.captured","data":{}}"#).is_err());
    }
}
