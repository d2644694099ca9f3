//! Events, one line each for people, one object each for programs.

use domain::pledge::UnappliedReason;
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
        Event::Pledge(_, event) => (event.edge().map_or("", |(_, to)| to.as_str()), pledge_details(event)),
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
    let Metadata { webhook_id, request_id, cause, .. } = recorded.metadata();
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

fn pledge_details(event: &PledgeEvent) -> String {
    match event {
        PledgeEvent::PledgeCreated { campaign_id, donor_id, amount, anonymous } => {
            let nameless = if *anonymous { ", anonymous" } else { "" };
            format!("{amount} for campaign {campaign_id} by donor {donor_id}{nameless}")
        }
        PledgeEvent::PledgeAmended { amount, .. } => amount.to_string(),
        PledgeEvent::PledgeAuthorized { payment_id, amount, .. }
        | PledgeEvent::PledgeCaptured { payment_id, amount, was_unapplied: false, .. } => {
            format!("{amount} by payment {payment_id}")
        }
        PledgeEvent::PledgeCaptured { payment_id, amount, was_unapplied: true, .. } => {
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
        PledgeEvent::PaymentRefunded { payment_id, refund_id, amount, .. } => {
            format!("{amount} of payment {payment_id} by refund {refund_id}")
        }
        PledgeEvent::PaymentDisputed { payment_id, dispute_id, amount, .. }
        | PledgeEvent::DisputeWon { payment_id, dispute_id, amount, .. }
        | PledgeEvent::DisputeLost { payment_id, dispute_id, amount, .. } => {
            format!("{amount} of payment {payment_id} in dispute {dispute_id}")
        }
        PledgeEvent::UnappliedAccepted { payment_id, amount, accepted_as, .. } => {
            format!("{amount} by payment {payment_id} as pledge {accepted_as}")
        }
    }
}
