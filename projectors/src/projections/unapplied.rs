//! The read table `unapplied_payments`: money that was taken and held apart, and where it went.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::{CampaignId, DonorId, Money, PaymentId, PledgeEvent, PledgeId};
use event_store::RecordedEvent;
use sqlx::PgConnection;

use crate::rows::{Rows, row};

/// The events of a batch that are about pledges.
pub(crate) type PledgeEvents<'a> = [(PledgeId, &'a PledgeEvent, &'a RecordedEvent)];

row! {
    struct Taken<'a> {
        pledge_id: PledgeId,
        payment_id: &'a str,
        campaign_id: CampaignId,
        donor_id: DonorId,
        amount_minor: i64,
        given_back_minor: i64,
        currency: &'static str,
        reason: &'static str,
        position: i64,
        received_at: DateTime<Utc>,
    }
}

row! {
    /// Changes of one payment's row by the later events of a batch.
    struct Change<'a> {
        pledge_id: PledgeId,
        payment_id: &'a str,
        /// How much was taken so far, where it is said again.
        amount_minor: Option<i64>,
        /// The signed change of what is left.
        left_minor: i64,
        accepted_as: Option<PledgeId>,
    }
}

/// By pledge and payment.
type Changes<'a> = BTreeMap<(PledgeId, &'a str), Change<'a>>;

/// Writes what a batch says about money held apart; nearly always nothing.
pub(crate) async fn write(
    connection: &mut PgConnection,
    events: &PledgeEvents<'_>,
) -> Result<(), sqlx::Error> {
    insert_taken(connection, events).await?;
    update_changed(connection, events).await
}

/// The signed change of what is held apart.
fn unapplied_minor(event: &PledgeEvent) -> i64 {
    event.money_moves().iter().map(|moved| moved.unapplied_minor).sum()
}

async fn insert_taken(connection: &mut PgConnection, events: &PledgeEvents<'_>) -> Result<(), sqlx::Error> {
    let mut rows = Vec::new();
    for (id, event, recorded) in events {
        if let PledgeEvent::PaymentUnapplied { campaign_id, donor_id, payment_id, amount, reason, .. } = event
        {
            rows.push(Taken {
                pledge_id: *id,
                payment_id: payment_id.as_str(),
                campaign_id: *campaign_id,
                donor_id: *donor_id,
                amount_minor: amount.amount_minor(),
                given_back_minor: amount.amount_minor() - unapplied_minor(event),
                currency: amount.currency().code(),
                reason: reason.as_str(),
                position: recorded.position,
                received_at: recorded.recorded_at,
            });
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let sql = "insert into unapplied_payments ({columns}, status)
        select {columns}, case when given_back_minor = amount_minor then 'refunded' else 'held' end
        from {rows}";
    Rows::of(&rows)?.execute(connection, sql).await
}

/// One update per payment, however many of its events are in the batch. What goes back of accepted money is a
/// matter of the pledge that it pays.
async fn update_changed(connection: &mut PgConnection, events: &PledgeEvents<'_>) -> Result<(), sqlx::Error> {
    let mut changes = Changes::new();
    for (id, event, _) in events {
        let Some(payment_id) = event.payment_id().map(PaymentId::as_str) else { continue };
        let (amount_minor, left_minor, accepted_as) = match event {
            PledgeEvent::PledgeCaptured { accepted: Some(_), .. } => (None, 0, Some(*id)),
            PledgeEvent::UnappliedAccepted { accepted_as, .. } => (None, 0, Some(*accepted_as)),
            PledgeEvent::PaymentRecorded { captured, .. } => {
                (captured.map(Money::amount_minor), unapplied_minor(event), None)
            }
            _ => continue,
        };
        let new = Change { pledge_id: *id, payment_id, amount_minor: None, left_minor: 0, accepted_as: None };
        let change = changes.entry((*id, payment_id)).or_insert(new);
        if change.accepted_as.is_none() {
            change.amount_minor = amount_minor.or(change.amount_minor);
            change.left_minor += left_minor;
            change.accepted_as = accepted_as;
        }
    }
    if changes.is_empty() {
        return Ok(());
    }
    let sql = "update unapplied_payments u
        set amount_minor = n.amount_minor, given_back_minor = n.amount_minor - n.left_minor,
            accepted_as = r.accepted_as,
            status = case
                when r.accepted_as is not null then 'accepted'
                when n.left_minor = 0 then 'refunded'
                else 'held'
            end
        from {rows}
        join unapplied_payments o on o.pledge_id = r.pledge_id and o.payment_id = r.payment_id
        cross join lateral (
            select coalesce(r.amount_minor, o.amount_minor) as amount_minor,
                o.amount_minor - o.given_back_minor + r.left_minor as left_minor
        ) n
        where u.pledge_id = r.pledge_id and u.payment_id = r.payment_id and u.accepted_as is null";
    Rows::of(changes.values())?.execute(connection, sql).await
}
