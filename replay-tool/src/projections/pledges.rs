//! `pledges`, `pledge_history`, `donations` and `unapplied_payments`.

use std::io;

use domain::pledge::{TakenPayment, Usage};
use domain::{PaymentId, Pledge, PledgeEvent};

use super::{Audited, Projection};
use crate::fold::{At, Happened, Settled};
use crate::rows::{Rows, Table};
use crate::tuple::Kind;

const PLEDGES: usize = 0;
const HISTORY: usize = 1;
const DONATIONS: usize = 2;
const UNAPPLIED: usize = 3;

pub(super) const AUDITED: Audited = Audited {
    projection: read_model::Projection::Pledges,
    tables: &[
        Table {
            name: "pledges",
            key: 1,
            columns: &[
                ("pledge_id", Kind::Uuid),
                ("campaign_id", Kind::Uuid),
                ("donor_id", Kind::Uuid),
                ("status", Kind::Text),
                ("amount_minor", Kind::Int),
                ("captured_minor", Kind::Int),
                ("refunded_minor", Kind::Int),
                ("charged_back_minor", Kind::Int),
                ("currency", Kind::Text),
                ("anonymous", Kind::Bool),
                ("created_at", Kind::Time),
                ("updated_at", Kind::Time),
                ("created_position", Kind::Int),
                ("position", Kind::Int),
            ],
        },
        Table {
            name: "pledge_history",
            key: 2,
            columns: &[
                ("pledge_id", Kind::Uuid),
                ("position", Kind::Int),
                ("event_type", Kind::Text),
                ("status", Kind::Text),
                ("amount_minor", Kind::Int),
                ("recorded_at", Kind::Time),
            ],
        },
        Table {
            name: "donations",
            key: 1,
            columns: &[
                ("position", Kind::Int),
                ("pledge_id", Kind::Uuid),
                ("campaign_id", Kind::Uuid),
                ("donor_id", Kind::Uuid),
                ("amount_minor", Kind::Int),
                ("currency", Kind::Text),
                ("anonymous", Kind::Bool),
                ("captured_at", Kind::Time),
            ],
        },
        Table {
            name: "unapplied_payments",
            key: 2,
            columns: &[
                ("pledge_id", Kind::Uuid),
                ("payment_id", Kind::Text),
                ("campaign_id", Kind::Uuid),
                ("donor_id", Kind::Uuid),
                ("amount_minor", Kind::Int),
                ("given_back_minor", Kind::Int),
                ("currency", Kind::Text),
                ("status", Kind::Text),
                ("accepted_as", Kind::Uuid),
                ("position", Kind::Int),
                ("received_at", Kind::Time),
            ],
        },
    ],
    make: |_| Box::new(Pledges::default()),
};

/// Where money of the present pledge was held apart.
#[derive(Default)]
struct Pledges {
    held_apart: Vec<(PaymentId, At)>,
}

impl Projection for Pledges {
    fn pledge_event(&mut self, happened: &Happened<'_, Pledge>, rows: &mut Rows) -> io::Result<()> {
        let (event, at) = (happened.event, happened.at);
        if happened.sequence == 1 {
            self.held_apart.clear();
        }
        rows.put(HISTORY, |row| {
            row.push(happened.id)
                .push(at.position)
                .push(happened.event_type)
                .push(event.edge().map(|(_, to)| to.as_str()))
                .push(amount_of_its_own(event))
                .push(at.recorded_at)
        })?;
        if let PledgeEvent::PaymentUnapplied { payment_id, .. } = event {
            self.held_apart.push((payment_id.clone(), at));
        }
        if let (PledgeEvent::PledgeCaptured { amount, .. }, Some(record)) = (event, happened.before.record())
        {
            rows.put(DONATIONS, |row| {
                row.push(at.position)
                    .push(happened.id)
                    .push(record.campaign_id.0)
                    .push(record.donor_id.0)
                    .push(amount.amount_minor())
                    .push(amount.currency().code())
                    .push(record.anonymous)
                    .push(at.recorded_at)
            })?;
        }
        Ok(())
    }

    fn pledge(&mut self, settled: &Settled<'_, Pledge>, rows: &mut Rows) -> io::Result<()> {
        let Some(record) = settled.state.record() else { return Ok(()) };
        let applied = record.applied();
        rows.put(PLEDGES, |row| {
            row.push(settled.id)
                .push(record.campaign_id.0)
                .push(record.donor_id.0)
                .push(record.state.status().as_str())
                .push(record.amount.amount_minor())
                .push(applied.map(|taken| taken.amount.amount_minor()))
                .push(applied.map_or(0, TakenPayment::refunded_minor))
                .push(applied.map_or(0, TakenPayment::charged_back_minor))
                .push(record.amount.currency().code())
                .push(record.anonymous)
                .push(settled.first.recorded_at)
                .push(settled.last.recorded_at)
                .push(settled.first.position)
                .push(settled.last.position)
        })?;
        for (payment_id, at) in &self.held_apart {
            let Some(taken) = record.taken.get(payment_id) else { continue };
            let (status, accepted_as) = match taken.usage {
                Usage::Accepted(pledge_id) => ("accepted", Some(pledge_id.0)),
                Usage::Unapplied if taken.left_minor() == 0 => ("refunded", None),
                Usage::Applied | Usage::Unapplied => ("held", None),
            };
            rows.put(UNAPPLIED, |row| {
                row.push(settled.id)
                    .push(payment_id.as_str())
                    .push(record.campaign_id.0)
                    .push(record.donor_id.0)
                    .push(taken.amount.amount_minor())
                    .push(taken.given_back_minor())
                    .push(taken.amount.currency().code())
                    .push(status)
                    .push(accepted_as)
                    .push(at.position)
                    .push(at.recorded_at)
            })?;
        }
        Ok(())
    }
}

/// Events that end a pledge repeat an amount, and the table shows none.
fn amount_of_its_own(event: &PledgeEvent) -> Option<i64> {
    match event {
        PledgeEvent::PledgeCreated { amount, .. }
        | PledgeEvent::PledgeAmended { amount, .. }
        | PledgeEvent::PledgeAuthorized { amount, .. }
        | PledgeEvent::PledgeCaptured { amount, .. }
        | PledgeEvent::PaymentUnapplied { amount, .. }
        | PledgeEvent::PaymentRefunded { amount, .. }
        | PledgeEvent::PaymentDisputed { amount, .. }
        | PledgeEvent::DisputeWon { amount, .. }
        | PledgeEvent::DisputeLost { amount, .. }
        | PledgeEvent::UnappliedAccepted { amount, .. } => Some(amount.amount_minor()),
        PledgeEvent::PledgeCompleted { .. }
        | PledgeEvent::PledgeFailed { .. }
        | PledgeEvent::PledgeExpired { .. }
        | PledgeEvent::PledgeCancelled { .. } => None,
    }
}
