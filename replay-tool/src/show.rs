//! What the ledger holds, for people.

use clap::{Args, Subcommand};
use cqrs_es::Aggregate;
use domain::{Event, Pledge, PledgeEvent, PledgeId};
use event_store::{RecordedEvent, read_stream};
use sqlx::PgPool;

use crate::places::Places;

/// Show what the ledger holds.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The history of one pledge, with positions and times.
    Pledge {
        /// The pledge's id.
        id: PledgeId,
    },
}

/// Shows it; false when it does not exist.
///
/// # Errors
/// The ledger cannot be read.
pub(crate) async fn run(places: &Places, arguments: Arguments, _json: bool) -> anyhow::Result<bool> {
    let pool = places.pool().await?;
    match arguments.what {
        What::Pledge { id } => pledge(&pool, id).await,
    }
}

/// Prints the history of a pledge; false when there is none.
pub(crate) async fn pledge(pool: &PgPool, id: PledgeId) -> anyhow::Result<bool> {
    let events = read_stream(pool, Pledge::TYPE, &id.to_string()).await?;
    if events.is_empty() {
        eprintln!("the ledger holds no pledge {id}");
        return Ok(false);
    }
    println!("pledge {id}");
    println!("{:>10}  {:<27}  {:<20}  {:<11}  details", "position", "recorded at (UTC)", "event", "state");
    for recorded in &events {
        println!("{}", line(recorded));
    }
    Ok(true)
}

fn line(recorded: &RecordedEvent) -> String {
    let (state, details) = match &recorded.event {
        Event::Pledge(_, event) => (event.edge().map_or("", |(_, to)| to.as_str()), details(event)),
        Event::Campaign(..) => ("", String::new()),
    };
    let metadata = recorded.metadata();
    let source = metadata
        .get("webhook_id")
        .map(|id| format!("webhook {id}"))
        .or_else(|| metadata.get("request_id").map(|id| format!("request {id}")))
        .or_else(|| metadata.get("cause").cloned())
        .unwrap_or_default();
    let parts = [details, source].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
    format!(
        "{:>10}  {:<27}  {:<20}  {:<11}  {}",
        recorded.position,
        recorded.recorded_at.format("%Y-%m-%dT%H:%M:%S%.6fZ"),
        recorded.event_type,
        state,
        parts.join(", ")
    )
}

fn details(event: &PledgeEvent) -> String {
    match event {
        PledgeEvent::PledgeCreated { campaign_id, donor_id, amount, anonymous } => {
            let nameless = if *anonymous { ", anonymous" } else { "" };
            format!("{amount} for campaign {campaign_id} by donor {donor_id}{nameless}")
        }
        PledgeEvent::PledgeAmended { amount, .. } => amount.to_string(),
        PledgeEvent::PledgeAuthorized { payment_id, amount, .. }
        | PledgeEvent::PledgeCaptured { payment_id, amount, .. }
        | PledgeEvent::PaymentUnapplied { payment_id, amount, .. } => {
            format!("{amount} by payment {payment_id}")
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
