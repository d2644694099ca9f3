//! `pledges`, `pledge_history`, `donations`, `pledge_captures` and `unapplied_payments`.

use std::io;

use domain::pledge::{UnappliedReason, Usage};
use domain::{Money, PaymentId, Pledge, PledgeEvent};

use super::{Audit, Projection};
use crate::figures::{Counted, Figures};
use crate::occurrence::{FinalState, Moment, Occurrence};
use crate::rows::{Rows, Table};
use crate::tuple::ColumnType;

const PLEDGES: usize = 0;
const HISTORY: usize = 1;
const DONATIONS: usize = 2;
const CAPTURES: usize = 3;
const UNAPPLIED: usize = 4;

pub(super) const AUDIT: Audit = Audit {
    projection: read_model::Projection::Pledges,
    tables: &[
        Table {
            name: "pledges",
            key: 1,
            columns: &[
                ("pledge_id", ColumnType::Uuid),
                ("campaign_id", ColumnType::Uuid),
                ("donor_id", ColumnType::Uuid),
                ("status", ColumnType::Text),
                ("amount_minor", ColumnType::Int),
                ("captured_minor", ColumnType::Int),
                ("refunded_minor", ColumnType::Int),
                ("reversed_minor", ColumnType::Int),
                ("charged_back_minor", ColumnType::Int),
                ("loss_minor", ColumnType::Int),
                ("currency", ColumnType::Text),
                ("anonymous", ColumnType::Bool),
                ("created_at", ColumnType::Time),
                ("updated_at", ColumnType::Time),
                ("created_position", ColumnType::Int),
                ("position", ColumnType::Int),
            ],
        },
        Table {
            name: "pledge_history",
            key: 2,
            columns: &[
                ("pledge_id", ColumnType::Uuid),
                ("position", ColumnType::Int),
                ("event_type", ColumnType::Text),
                ("status", ColumnType::Text),
                ("said", ColumnType::Text),
                ("amount_minor", ColumnType::Int),
                ("recorded_at", ColumnType::Time),
            ],
        },
        Table {
            name: "donations",
            key: 1,
            columns: &[
                ("position", ColumnType::Int),
                ("pledge_id", ColumnType::Uuid),
                ("campaign_id", ColumnType::Uuid),
                ("donor_id", ColumnType::Uuid),
                ("amount_minor", ColumnType::Int),
                ("currency", ColumnType::Text),
                ("anonymous", ColumnType::Bool),
                ("captured_at", ColumnType::Time),
            ],
        },
        Table {
            name: "pledge_captures",
            key: 2,
            columns: &[
                ("pledge_id", ColumnType::Uuid),
                ("captured_at", ColumnType::Time),
                ("captured_minor", ColumnType::Int),
            ],
        },
        Table {
            name: "unapplied_payments",
            key: 2,
            columns: &[
                ("pledge_id", ColumnType::Uuid),
                ("payment_id", ColumnType::Text),
                ("campaign_id", ColumnType::Uuid),
                ("donor_id", ColumnType::Uuid),
                ("amount_minor", ColumnType::Int),
                ("given_back_minor", ColumnType::Int),
                ("currency", ColumnType::Text),
                ("reason", ColumnType::Text),
                ("status", ColumnType::Text),
                ("accepted_as", ColumnType::Uuid),
                ("position", ColumnType::Int),
                ("received_at", ColumnType::Time),
            ],
        },
    ],
    make: |_| Box::new(Pledges::default()),
};

/// The present pledge.
#[derive(Default)]
struct Pledges {
    held_apart: Vec<HeldApart>,
    /// Pledges that are paid: one, or none.
    gifts: i64,
    /// Since which event there is a gift, if there is one.
    gift_since: i64,
}

/// A payment whose money was held apart.
struct HeldApart {
    payment_id: PaymentId,
    reason: UnappliedReason,
    /// Since when.
    at: Moment,
    captured: i64,
    left: i64,
}

impl HeldApart {
    /// How it stands as long as it is held. If no money was taken after all, all of it has gone back.
    fn note(&mut self, figures: Figures) {
        self.captured = if figures.captured > 0 { figures.captured } else { self.captured };
        self.left = figures.left;
    }
}

impl Projection for Pledges {
    fn pledge_event(&mut self, occurrence: &Occurrence<'_, Pledge>, rows: &mut Rows) -> io::Result<()> {
        let (event, at) = (occurrence.event, occurrence.at);
        if occurrence.sequence == 1 {
            *self = Self::default();
        }
        rows.put(HISTORY, |row| {
            row.push(occurrence.id)
                .push(at.position)
                .push(occurrence.event_type)
                .push(event.edge().map(|(_, to)| to.as_str()))
                .push(event.said())
                .push(amount_of_its_own(event))
                .push(at.recorded_at)
        })?;
        if let PledgeEvent::PaymentUnapplied { payment_id, reason, .. } = event {
            let (payment_id, reason) = (payment_id.clone(), *reason);
            self.held_apart.push(HeldApart { payment_id, reason, at, captured: 0, left: 0 });
        }
        for held in &mut self.held_apart {
            let payment = occurrence.after.record().and_then(|record| record.payments.get(&held.payment_id));
            if let Some(payment) = payment.filter(|payment| payment.is_held_apart()) {
                held.note(Figures::of(payment));
            }
        }
        let gifts = self.gifts + occurrence.changed.total().gifts;
        if self.gifts == 0 && gifts > 0 {
            self.gift_since = at.position;
        }
        self.gifts = gifts;
        Ok(())
    }

    fn pledge(&mut self, end: &FinalState<'_, Pledge>, rows: &mut Rows) -> io::Result<()> {
        let Some(record) = end.state.record() else { return Ok(()) };
        let Counted { captured, refunded, reversed, charged_back, loss, .. } = end.money.total();
        rows.put(PLEDGES, |row| {
            row.push(end.id)
                .push(record.campaign_id.0)
                .push(record.donor_id.0)
                .push(record.state.status().as_str())
                .push(record.amount.amount_minor())
                .push((captured != 0).then_some(captured))
                .push(refunded)
                .push(reversed)
                .push(charged_back)
                .push(loss)
                .push(record.amount.currency().code())
                .push(record.anonymous)
                .push(end.first.recorded_at)
                .push(end.last.recorded_at)
                .push(end.first.position)
                .push(end.last.position)
        })?;
        let captures = || end.money.iter().filter(|(_, change)| change.captured != 0);
        for (at, change) in captures() {
            rows.put(CAPTURES, |row| row.push(end.id).push(at).push(change.captured))?;
        }
        if self.gifts > 0 {
            rows.put(DONATIONS, |row| {
                row.push(self.gift_since)
                    .push(end.id)
                    .push(record.campaign_id.0)
                    .push(record.donor_id.0)
                    .push(captured)
                    .push(record.amount.currency().code())
                    .push(record.anonymous)
                    .push(captures().find(|(_, change)| change.captured > 0).map(|(at, _)| at))
            })?;
        }
        for HeldApart { payment_id, reason, at, captured, left } in &self.held_apart {
            let Some(payment) = record.payments.get(payment_id) else { continue };
            let (status, accepted_as) = match payment.usage {
                Usage::AcceptedAs(pledge_id) => ("accepted", Some(pledge_id.0)),
                Usage::Applied | Usage::AppliedSince(_) => ("accepted", Some(end.id)),
                Usage::Uncaptured | Usage::Unapplied(_) if *left == 0 => ("refunded", None),
                Usage::Uncaptured | Usage::Unapplied(_) => ("held", None),
            };
            rows.put(UNAPPLIED, |row| {
                row.push(end.id)
                    .push(payment_id.as_str())
                    .push(record.campaign_id.0)
                    .push(record.donor_id.0)
                    .push(*captured)
                    .push(captured - left)
                    .push(record.amount.currency().code())
                    .push(reason.as_str())
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
    let is_end = event.edge().is_some_and(|(_, to)| to.is_final());
    event.amount().filter(|_| !is_end).map(Money::amount_minor)
}
