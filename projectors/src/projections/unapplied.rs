//! The read table `unapplied_payments`: money that was taken and held apart, and where it went.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::{CampaignId, DonorId, PledgeEvent, PledgeId};
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
        currency: &'static str,
        reason: &'static str,
        position: i64,
        received_at: DateTime<Utc>,
    }
}

row! {
    /// Changes of one payment's row by the events of a batch.
    struct Change<'a> {
        pledge_id: PledgeId,
        payment_id: &'a str,
        given_back_minor: i64,
        accepted_as: Option<PledgeId>,
    }
}

/// By pledge and payment.
type Changes<'a> = BTreeMap<(PledgeId, &'a str), Change<'a>>;

fn change<'c, 'a>(
    changes: &'c mut Changes<'a>,
    pledge_id: PledgeId,
    payment_id: &'a str,
) -> &'c mut Change<'a> {
    let new = Change { pledge_id, payment_id, given_back_minor: 0, accepted_as: None };
    changes.entry((pledge_id, payment_id)).or_insert(new)
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
    let mut rows = Vec::new();
    for (id, event, recorded) in events {
        if let PledgeEvent::PaymentUnapplied { campaign_id, donor_id, payment_id, amount, reason } = event {
            rows.push(Taken {
                pledge_id: *id,
                payment_id: payment_id.as_str(),
                campaign_id: *campaign_id,
                donor_id: *donor_id,
                amount_minor: amount.amount_minor(),
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
    let sql = "insert into unapplied_payments ({columns}) select {columns} from {rows}";
    Rows::of(&rows)?.execute(connection, sql).await
}

/// One update per payment, however many of its events are in the batch.
async fn update_changed(connection: &mut PgConnection, events: &PledgeEvents<'_>) -> Result<(), sqlx::Error> {
    let mut changes = Changes::new();
    for (id, event, recorded) in events {
        match event {
            PledgeEvent::PledgeCaptured { payment_id, was_unapplied: true, .. } => {
                change(&mut changes, *id, payment_id.as_str()).accepted_as = Some(*id);
            }
            // It was taken, and is not given back.
            PledgeEvent::PaymentUnapplied { .. } => {}
            PledgeEvent::UnappliedAccepted { payment_id, accepted_as, .. } => {
                change(&mut changes, *id, payment_id.as_str()).accepted_as = Some(*accepted_as);
            }
            event => {
                let moves = event.money_moves(recorded.recorded_at);
                let given_back = -moves.iter().map(|moved| moved.unapplied_minor).sum::<i64>();
                if given_back != 0
                    && let Some(payment_id) = event.payment_id()
                {
                    change(&mut changes, *id, payment_id.as_str()).given_back_minor += given_back;
                }
            }
        }
    }
    if changes.is_empty() {
        return Ok(());
    }
    let sql = "update unapplied_payments u
        set given_back_minor = u.given_back_minor + r.given_back_minor,
            accepted_as = coalesce(r.accepted_as, u.accepted_as),
            status = case
                when coalesce(r.accepted_as, u.accepted_as) is not null then 'accepted'
                when u.given_back_minor + r.given_back_minor = u.amount_minor then 'refunded'
                else 'held'
            end
        from {rows} where u.pledge_id = r.pledge_id and u.payment_id = r.payment_id";
    Rows::of(changes.values())?.execute(connection, sql).await
}
