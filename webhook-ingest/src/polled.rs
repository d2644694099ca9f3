//! Polled facts: what a provider reports when it is asked. Each becomes a message of the inbox, and so
//! is processed like the provider's own webhooks.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use domain::pledge::CaptureLimit;
use domain::{PaymentFact, Pledge, PledgeCommand, PledgeError, PledgeId, Rules};
use event_store::{GroupCommit, Ledger, QueueError};
use payments::{PaymentReport, ProviderError};
use serde::{Deserialize, Serialize};
use service::Problem;
use sha2::{Digest, Sha256};
use uuid::Uuid;

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

/// Puts into the inbox what of a report the ledger does not have. The id of each message follows
/// from what it says, so that asking twice adds nothing.
pub(crate) async fn store_missing(
    ledger: &Ledger,
    inbox: &GroupCommit<InboxWriter>,
    limit: CaptureLimit,
    provider: &'static str,
    report: &PaymentReport,
) -> Result<MissingFacts, PollError> {
    let mut found = MissingFacts::default();
    for fact in unknown(ledger, limit, report).await? {
        let delivery = delivery(provider, report.pledge_id, fact)?;
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

fn delivery(
    provider: &'static str,
    pledge_id: PledgeId,
    fact: PaymentFact,
) -> Result<Delivery, serde_json::Error> {
    let event_type = format!("{PREFIX}{}", fact.name());
    let body = serde_json::to_string(&PolledFact { pledge_id, fact })?;
    Ok(Delivery {
        provider,
        origin: Origin::Poll,
        webhook_id: format!("{PREFIX}{:x}", Sha256::digest(body.as_bytes())),
        event_type,
        pledge_id: Some(pledge_id.0),
        is_ignored: false,
        body,
    })
}

/// The facts that would move the pledge, contradict it, or have the provider void a payment; in
/// order, each decided on what the ones before lead to.
async fn unknown(
    ledger: &Ledger,
    limit: CaptureLimit,
    report: &PaymentReport,
) -> Result<Vec<PaymentFact>, sqlx::Error> {
    let mut pledges: HashMap<Uuid, Pledge> = HashMap::new();
    let mut unknown = Vec::new();
    for fact in &report.facts {
        let mut id = report.pledge_id.0;
        let command = PledgeCommand::Record { fact: fact.clone(), limit };
        loop {
            if let Some(pledge) = load_once(ledger, &mut pledges, id).await? {
                match pledge.decide(&command) {
                    // The money is in another pledge, and so are its later facts.
                    Err(PledgeError::MovedTo(other)) if other.0 != id => {
                        id = other.0;
                        continue;
                    }
                    Ok(events) if events.is_empty() => {
                        if !pledge.asks_to_void(fact) || is_followed(report, fact) {
                            break;
                        }
                    }
                    Ok(events) => events.into_iter().for_each(|event| pledge.apply_event(event)),
                    Err(_) => {}
                }
            }
            unknown.push(fact.clone());
            break;
        }
    }
    Ok(unknown)
}

/// Whether the report says more of the fact's payment than that it was authorised.
fn is_followed(report: &PaymentReport, fact: &PaymentFact) -> bool {
    report.facts.iter().any(|other| {
        other.payment_id() == fact.payment_id() && !matches!(other, PaymentFact::Authorized { .. })
    })
}

/// The pledge, as the facts before left it; none where its events cannot be understood, which the
/// inbox's worker says.
async fn load_once<'a>(
    ledger: &Ledger,
    pledges: &'a mut HashMap<Uuid, Pledge>,
    id: Uuid,
) -> Result<Option<&'a mut Pledge>, sqlx::Error> {
    Ok(match pledges.entry(id) {
        Entry::Occupied(known) => Some(known.into_mut()),
        Entry::Vacant(place) => match ledger.load_many::<Pledge>(&[id]).await?.remove(&id) {
            Some(Ok(loaded)) => Some(place.insert(loaded.aggregate)),
            Some(Err(_)) | None => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use domain::Money;

    use super::*;

    fn captured(minor: i64) -> PaymentFact {
        let amount = Money::new(minor, "USD".parse().unwrap()).unwrap();
        PaymentFact::Captured { payment_id: "pay_1".parse().unwrap(), amount }
    }

    fn message(pledge: u128, fact: PaymentFact) -> Delivery {
        delivery("sandbox", PledgeId(Uuid::from_u128(pledge)), fact).unwrap()
    }

    #[test]
    fn the_same_answer_is_the_same_message_and_another_is_another() {
        let first = message(1, captured(5000));
        assert_eq!(first.webhook_id, message(1, captured(5000)).webhook_id);
        assert_ne!(first.webhook_id, message(2, captured(5000)).webhook_id);
        assert_ne!(first.webhook_id, message(1, captured(5001)).webhook_id);
        assert_eq!(first.event_type, "asked_captured");
    }

    #[test]
    fn answers_are_read_back_and_nothing_else_is_taken_for_one() {
        let Delivery { origin, body, .. } = message(1, captured(5000));
        let expected = (PledgeId(Uuid::from_u128(1)), captured(5000));
        assert_eq!((origin, parse(&body).unwrap()), (Origin::Poll, expected));
        let with_more = body.replacen('{', r#"{"type":"payment.captured","#, 1);
        assert!(parse(&with_more).is_err());
        assert!(parse(r#"{"type":"payment.captured","data":{}}"#).is_err());
    }
}
