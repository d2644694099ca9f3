//! Asking a provider about a payment whose messages do not settle how it stands.
//!
//! Message and answer are decided together, and appended together. A question stands at a time of its own, a
//! second after everything that it is about, so that its answer has the last word.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::PaymentFact;
use domain::payment::Statement;
use domain::pledge::CaptureLimit;
use event_store::{Ledger, pledge_of_payment};
use payments::{PaymentReport, Provider, ProviderError};

use crate::apply::{BatchOutcome, Hearing, Verdict, apply, load_holder};

/// A question that stands later than this is asked another time.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Asks until it is settled, or a person has to decide. The rules say when that is.
///
/// # Errors
/// The database's error when the pledge cannot be read.
pub(crate) async fn settle(
    ledger: &Ledger,
    limit: CaptureLimit,
    provider: &dyn Provider,
    mut hearing: Hearing,
) -> Result<(Verdict, BatchOutcome), sqlx::Error> {
    let mut settled = BatchOutcome::default();
    loop {
        let stands_at = question_stands_at(ledger, &mut hearing).await?;
        let wait = (stands_at - Utc::now()).to_std().unwrap_or(Duration::ZERO);
        if wait > MAX_WAIT {
            // The provider's clock is ahead. Nobody waits for it here, where others want to ask.
            let reason = format!("payment {} is asked about at {stands_at}", hearing.payment_id);
            return Ok((Verdict::Unreachable(reason), settled));
        }
        tokio::time::sleep(wait).await;
        tracing::info!(payment_id = %hearing.payment_id, provider = provider.name(), "the provider is asked");
        // That the provider does not know a payment, or refuses to speak of it, is an answer without content.
        let report = match provider.look_up(&hearing.payment_id).await {
            Ok(report) => report,
            Err(ProviderError::Refused(reason)) => {
                tracing::warn!(payment_id = %hearing.payment_id, reason, "the provider does not say");
                None
            }
            Err(error @ ProviderError::Unavailable(_)) => return Ok((error.into(), settled)),
        };
        metrics::counter!("payment_questions_total", "provider" => provider.name()).increment(1);
        if let Some(review) = find_owner(ledger, &mut hearing, report.as_ref()).await? {
            return Ok((Verdict::Review(review), settled));
        }
        let facts = report.map(|report| report.facts).unwrap_or_default();
        hearing.answers.push(answer_of(facts, stands_at));
        let applied = apply(ledger, limit, vec![hearing.clone()]).await?;
        settled.moved.extend(applied.moved);
        let Some(outcome) = applied.outcomes.into_iter().next() else {
            return Ok((Verdict::Retry("the answer has no outcome".to_owned()), settled));
        };
        match outcome.to_ask {
            Some(asked) => hearing = asked,
            None => {
                let verdict = outcome.verdict.clone();
                settled.outcomes.push(outcome);
                return Ok((verdict, settled));
            }
        }
    }
}

fn answer_of(facts: Vec<PaymentFact>, stands_at: DateTime<Utc>) -> Vec<PaymentFact> {
    facts.into_iter().map(|fact| fact.answered_at(stands_at)).collect()
}

/// When the answer to a question stands that is sent now. The money may be in another pledge by now.
async fn question_stands_at(ledger: &Ledger, hearing: &mut Hearing) -> Result<DateTime<Utc>, sqlx::Error> {
    let facts = hearing.facts.iter().chain(hearing.answers.iter().flatten());
    let waiting: Vec<Statement> = facts.filter_map(|fact| fact.statement().cloned()).collect();
    let holder = load_holder(ledger, hearing.pledge_id, &hearing.payment_id).await?;
    let Some((pledge_id, pledge)) = holder else { return Ok(Utc::now()) };
    hearing.pledge_id = pledge_id;
    Ok(pledge.question_stands_at(&hearing.payment_id, Utc::now(), &waiting))
}

/// A payment that is another pledge's is decided there, if the provider says so too. Otherwise a person
/// decides: this is why.
async fn find_owner(
    ledger: &Ledger,
    hearing: &mut Hearing,
    report: Option<&PaymentReport>,
) -> Result<Option<String>, sqlx::Error> {
    let payment_id = &hearing.payment_id;
    let holder = pledge_of_payment(ledger.pool(), payment_id.as_str()).await?;
    let Some(holder) = holder.filter(|holder| *holder != hearing.pledge_id) else { return Ok(None) };
    if let Some(report) = report {
        // The provider knows the pledge that the money was given for; it may have been accepted as another.
        let named = load_holder(ledger, report.pledge_id.0, payment_id).await?;
        if named.is_some_and(|(pledge_id, _)| pledge_id == holder) {
            hearing.pledge_id = holder;
            return Ok(None);
        }
    }
    let named = hearing.pledge_id;
    Ok(Some(format!("payment {payment_id} is pledge {holder}'s, and this was said of it for pledge {named}")))
}
