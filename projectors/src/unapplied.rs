//! The read table `unapplied_payments`: money that was taken and held apart, and what became of it.

use std::collections::BTreeMap;

use domain::{MoneyHeld, PaymentId, PledgeEvent};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::pledges::PledgeEvents;

/// What the events of a batch change in one payment's row.
#[derive(Default)]
struct Change {
    given_back_minor: i64,
    accepted_as: Option<Uuid>,
}

/// Writes what a batch says about money held apart; nearly always nothing.
pub(crate) async fn write(
    connection: &mut PgConnection,
    events: &PledgeEvents<'_>,
) -> Result<(), sqlx::Error> {
    insert_taken(connection, events).await?;
    update_changed(connection, events).await
}

async fn insert_taken(connection: &mut PgConnection, events: &PledgeEvents<'_>) -> Result<(), sqlx::Error> {
    let mut pledges = Vec::new();
    let mut payments = Vec::new();
    let mut campaigns = Vec::new();
    let mut donors = Vec::new();
    let mut amounts = Vec::new();
    let mut currencies = Vec::new();
    let mut positions = Vec::new();
    let mut instants = Vec::new();
    for (id, event, recorded) in events {
        if let PledgeEvent::PaymentUnapplied { campaign_id, donor_id, payment_id, amount } = event {
            pledges.push(id.0);
            payments.push(payment_id.as_str());
            campaigns.push(campaign_id.0);
            donors.push(donor_id.0);
            amounts.push(amount.amount_minor());
            currencies.push(amount.currency().code());
            positions.push(recorded.position);
            instants.push(recorded.recorded_at);
        }
    }
    if pledges.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into unapplied_payments (pledge_id, payment_id, campaign_id, donor_id, amount_minor,
             currency, position, received_at)
         select * from unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::bigint[], $6::text[],
             $7::bigint[], $8::timestamptz[])",
    )
    .bind(pledges)
    .bind(payments)
    .bind(campaigns)
    .bind(donors)
    .bind(amounts)
    .bind(currencies)
    .bind(positions)
    .bind(instants)
    .execute(connection)
    .await?;
    Ok(())
}

/// One update per payment, however many of its events are in the batch.
async fn update_changed(connection: &mut PgConnection, events: &PledgeEvents<'_>) -> Result<(), sqlx::Error> {
    let mut changes: BTreeMap<(Uuid, &PaymentId), Change> = BTreeMap::new();
    for (id, event, _) in events {
        match event {
            PledgeEvent::PaymentRefunded { payment_id, amount, held: MoneyHeld::Unapplied, .. }
            | PledgeEvent::DisputeLost { payment_id, amount, held: MoneyHeld::Unapplied, .. } => {
                changes.entry((id.0, payment_id)).or_default().given_back_minor += amount.amount_minor();
            }
            PledgeEvent::UnappliedAccepted { payment_id, accepted_as, .. } => {
                changes.entry((id.0, payment_id)).or_default().accepted_as = Some(accepted_as.0);
            }
            PledgeEvent::PaymentRefunded { held: MoneyHeld::Raised, .. }
            | PledgeEvent::DisputeLost { held: MoneyHeld::Raised, .. }
            | PledgeEvent::PledgeCreated { .. }
            | PledgeEvent::PledgeAmended { .. }
            | PledgeEvent::PledgeAuthorized { .. }
            | PledgeEvent::PledgeCaptured { .. }
            | PledgeEvent::PledgeCompleted { .. }
            | PledgeEvent::PledgeFailed { .. }
            | PledgeEvent::PledgeExpired { .. }
            | PledgeEvent::PledgeCancelled { .. }
            | PledgeEvent::PaymentUnapplied { .. }
            | PledgeEvent::PaymentDisputed { .. }
            | PledgeEvent::DisputeWon { .. } => {}
        }
    }
    if changes.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update unapplied_payments u
         set given_back_minor = u.given_back_minor + c.given_back,
             accepted_as = coalesce(c.accepted_as, u.accepted_as),
             status = case
                 when c.accepted_as is not null then 'accepted'
                 when u.given_back_minor + c.given_back = u.amount_minor then 'refunded'
                 else u.status
             end
         from unnest($1::uuid[], $2::text[], $3::bigint[], $4::uuid[])
             as c (pledge_id, payment_id, given_back, accepted_as)
         where u.pledge_id = c.pledge_id and u.payment_id = c.payment_id",
    )
    .bind(changes.keys().map(|(pledge_id, _)| *pledge_id).collect::<Vec<_>>())
    .bind(changes.keys().map(|(_, payment_id)| payment_id.as_str()).collect::<Vec<_>>())
    .bind(changes.values().map(|change| change.given_back_minor).collect::<Vec<_>>())
    .bind(changes.values().map(|change| change.accepted_as).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
