//! Events, one line each for people, one object each for programs.

use domain::payment::{Content, ObjectKey, PaymentState, Statement};
use domain::pledge::{Corrected, News, UnappliedReason};
use domain::{Campaign, CampaignEvent, Event, Pledge, PledgeEvent, Rules};
use event_store::{Metadata, RecordedEvent};
use serde_json::{Value, json};

use crate::tuple::instant;

/// The headings above [`line()`].
pub(crate) const HEADINGS: &str =
    "  position  recorded at (UTC)            event                 state        details";

/// An event of an aggregate that is known already.
pub(crate) fn line(recorded: &RecordedEvent) -> String {
    let (state, details) = match &recorded.event {
        Event::Pledge(_, event) => {
            let details: Vec<String> = std::iter::once(pledge_details(event)).chain(told_of(event)).collect();
            (event.edge().map_or("", |(_, to)| to.as_str()), details.join(", "))
        }
        Event::Campaign(_, event) => campaign_details(event),
    };
    let parts = [details, source(recorded)].into_iter().filter(|part| !part.is_empty());
    format!(
        "{:>10}  {:<27}  {:<20}  {:<11}  {}",
        recorded.position,
        instant(recorded.recorded_at),
        recorded.event_type,
        state,
        parts.collect::<Vec<_>>().join(", ")
    )
}

/// The campaign or the pledge that an event belongs to.
pub(crate) fn aggregate(recorded: &RecordedEvent) -> (&'static str, String) {
    match &recorded.event {
        Event::Pledge(id, _) => (Pledge::TYPE, id.to_string()),
        Event::Campaign(id, _) => (Campaign::TYPE, id.to_string()),
    }
}

/// An event as the ledger has it.
///
/// # Errors
/// It cannot be written as JSON.
pub(crate) fn to_json(recorded: &RecordedEvent) -> Result<Value, serde_json::Error> {
    let (aggregate_type, aggregate_id) = aggregate(recorded);
    let payload = match &recorded.event {
        Event::Pledge(_, event) => serde_json::to_value(event)?,
        Event::Campaign(_, event) => serde_json::to_value(event)?,
    };
    Ok(json!({
        "position": recorded.position,
        "recorded_at": instant(recorded.recorded_at),
        "aggregate_type": aggregate_type,
        "aggregate_id": aggregate_id,
        "sequence": recorded.sequence,
        "event_type": recorded.event_type,
        "payload": payload,
        "metadata": recorded.metadata(),
    }))
}

/// What led to it.
fn source(recorded: &RecordedEvent) -> String {
    let Metadata { actor, webhook_id, request_id, cause, .. } = recorded.metadata();
    if let Some(actor) = actor {
        return format!("operator {actor}");
    }
    let webhook = webhook_id.map(|id| format!("webhook {id}"));
    webhook.or_else(|| request_id.map(|id| format!("request {id}"))).or(cause).unwrap_or_default()
}

fn campaign_details(event: &CampaignEvent) -> (&'static str, String) {
    match event {
        CampaignEvent::CampaignCreated(details) | CampaignEvent::CampaignEdited(details) => {
            let ends_at = details.ends_at.map(|at| format!(", until {}", instant(at))).unwrap_or_default();
            ("draft", format!("{}, {} wanted{ends_at}", details.title, details.goal))
        }
        CampaignEvent::CampaignPublished {} => ("published", String::new()),
        CampaignEvent::CampaignClosed {} => ("closed", String::new()),
    }
}

/// What is newly known of its payment. How the payment itself stands is in most events anyway.
fn told_of(event: &PledgeEvent) -> Vec<String> {
    let Some(News { heard, settled, corrected, .. }) = event.news() else { return Vec::new() };
    let is_new = |said: &&Statement| {
        matches!(event, PledgeEvent::PaymentRecorded { .. }) || *said.object() != ObjectKey::Payment
    };
    let heard = heard.iter().filter(is_new).map(statement);
    let settled = settled.map(|settled| format!("settled {}", settled.amount));
    let corrected = corrected.iter().map(|Corrected { correction, note }| {
        let (object, content) = (object(correction.object()), correction.content());
        format!("by correction {}: {content} ({object})", note.correction_id)
    });
    let mut told: Vec<String> = heard.chain(settled).chain(corrected).collect();
    told.dedup();
    told
}

fn statement(said: &Statement) -> String {
    match (said.content(), said.authorized_amount()) {
        (Content::Payment(PaymentState { captured: None, over: None }), Some(amount)) => {
            format!("authorized {amount}")
        }
        (content @ Content::Payment(_), _) => content.to_string(),
        (content, _) => format!("{content} ({})", object(said.object())),
    }
}

/// The name of an object of a payment.
pub(crate) fn object(object: &ObjectKey) -> String {
    match object {
        ObjectKey::Payment => "payment".to_owned(),
        ObjectKey::Refund(id) => format!("refund {id}"),
        ObjectKey::Dispute(id) => format!("dispute {id}"),
        ObjectKey::Reversal(id) => format!("reversal {id}"),
    }
}

fn pledge_details(event: &PledgeEvent) -> String {
    match event {
        PledgeEvent::PledgeCreated { campaign_id, donor_id, amount, anonymous, .. } => {
            let nameless = if *anonymous { ", anonymous" } else { "" };
            format!("{amount} for campaign {campaign_id} by donor {donor_id}{nameless}")
        }
        PledgeEvent::PledgeAmended { amount, .. } => amount.to_string(),
        PledgeEvent::PledgeAuthorized { payment_id, amount, .. }
        | PledgeEvent::PledgeCaptured { payment_id, amount, accepted: None, .. } => {
            format!("{amount} by payment {payment_id}")
        }
        PledgeEvent::PledgeCaptured { payment_id, amount, accepted: Some(_), .. } => {
            format!("{amount} by payment {payment_id}, held apart until then")
        }
        PledgeEvent::PaymentUnapplied { payment_id, amount, reason, .. } => {
            let why = match reason {
                UnappliedReason::NotNeeded => "",
                UnappliedReason::AboveLimit => ", so much that a person has to accept it",
            };
            format!("{amount} by payment {payment_id}{why}")
        }
        PledgeEvent::PledgeCompleted { payment_id, .. } | PledgeEvent::PledgeCancelled { payment_id, .. } => {
            format!("payment {payment_id}")
        }
        PledgeEvent::PledgeFailed { payment_id, reason, .. } => match reason {
            Some(reason) => format!("payment {payment_id}: {reason}"),
            None => format!("payment {payment_id}"),
        },
        PledgeEvent::PledgeExpired { .. } => String::new(),
        PledgeEvent::PaymentRecorded { payment_id, .. } => format!("payment {payment_id}"),
        PledgeEvent::UnappliedAccepted { payment_id, amount, accepted_as, .. } => {
            format!("{amount} by payment {payment_id} as pledge {accepted_as}")
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::payment::{RefundState, Stated};

    use super::*;
    use crate::told::{captured, eur, noon, pay, told};

    #[test]
    fn what_is_newly_known_is_said() {
        let refund = Stated::refund("re_1".parse().unwrap(), RefundState::Succeeded(eur(1000)));
        let open = told(1, Stated::payment(None, None)).authorized(eur(5000));
        let settled = domain::pledge::Settlement { amount: eur(5000), at: noon(3) };
        let heard = vec![open, captured(1, 5000), captured(2, 5000), told(2, refund)];
        let news = News { heard, settled: Some(settled), ..News::default() };
        let (campaign_id, donor_id) = (crate::told::CAMPAIGN, crate::told::DONOR);
        let recorded = PledgeEvent::PaymentRecorded {
            campaign_id,
            donor_id,
            payment_id: pay(),
            captured: None,
            news: news.clone(),
        };
        let expected = ["authorized 50.00 EUR", "captured 50.00 EUR", "refunded 10.00 EUR (refund re_1)"];
        assert_eq!(told_of(&recorded), [&expected[..], &["settled 50.00 EUR"]].concat());
        let completed = PledgeEvent::PledgeCompleted {
            campaign_id,
            donor_id,
            payment_id: pay(),
            amount: eur(5000),
            news,
        };
        assert_eq!(told_of(&completed), ["refunded 10.00 EUR (refund re_1)", "settled 50.00 EUR"]);
    }
}
