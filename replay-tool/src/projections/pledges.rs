//! `pledges`, `pledge_history`, `donations`, `pledge_captures` and `unapplied_payments`.

use std::io;

use domain::pledge::{UnappliedReason, Usage};
use domain::{PaymentId, Pledge, PledgeEvent};

use super::{Audit, Projection};
use crate::figures::Figures;
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

/// Where money of the present pledge was held apart.
#[derive(Default)]
struct Pledges {
    held_apart: Vec<(PaymentId, UnappliedReason, Moment)>,
}

impl Projection for Pledges {
    fn pledge_event(&mut self, occurrence: &Occurrence<'_, Pledge>, rows: &mut Rows) -> io::Result<()> {
        let (event, at) = (occurrence.event, occurrence.at);
        if occurrence.sequence == 1 {
            self.held_apart.clear();
        }
        rows.put(HISTORY, |row| {
            row.push(occurrence.id)
                .push(at.position)
                .push(occurrence.event_type)
                .push(event.edge().map(|(_, to)| to.as_str()))
                .push(amount_of_its_own(event))
                .push(at.recorded_at)
        })?;
        if let PledgeEvent::PaymentUnapplied { payment_id, reason, .. } = event {
            self.held_apart.push((payment_id.clone(), *reason, at));
        }
        if let (PledgeEvent::PledgeCaptured { amount, .. }, Some(record)) =
            (event, occurrence.before.record())
        {
            rows.put(DONATIONS, |row| {
                row.push(at.position)
                    .push(occurrence.id)
                    .push(record.campaign_id.0)
                    .push(record.donor_id.0)
                    .push(amount.amount_minor())
                    .push(amount.currency().code())
                    .push(record.anonymous)
                    .push(at.recorded_at)
            })?;
            rows.put(CAPTURES, |row| {
                row.push(occurrence.id).push(at.recorded_at).push(amount.amount_minor())
            })?;
        }
        Ok(())
    }

    fn pledge(&mut self, end: &FinalState<'_, Pledge>, rows: &mut Rows) -> io::Result<()> {
        let Some(record) = end.state.record() else { return Ok(()) };
        let applied = record.applied().map(Figures::of);
        let Figures { refunded, reversed, charged_back, .. } = applied.unwrap_or_default();
        let loss: i64 = record.taken.values().map(|taken| Figures::of(taken).loss).sum();
        rows.put(PLEDGES, |row| {
            row.push(end.id)
                .push(record.campaign_id.0)
                .push(record.donor_id.0)
                .push(record.state.status().as_str())
                .push(record.amount.amount_minor())
                .push(applied.map(|figures| figures.captured))
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
        for (payment_id, reason, at) in &self.held_apart {
            let Some(taken) = record.taken.get(payment_id) else { continue };
            let (status, accepted_as) = match taken.usage {
                Usage::Accepted(pledge_id) => ("accepted", Some(pledge_id.0)),
                Usage::Unapplied if taken.left_minor() == 0 => ("refunded", None),
                Usage::Unapplied => ("held", None),
                Usage::Applied => ("accepted", Some(end.id)),
            };
            // What goes back of accepted money is a matter of the pledge that it pays.
            let given_back_minor = if accepted_as.is_none() { taken.given_back_minor() } else { 0 };
            rows.put(UNAPPLIED, |row| {
                row.push(end.id)
                    .push(payment_id.as_str())
                    .push(record.campaign_id.0)
                    .push(record.donor_id.0)
                    .push(taken.amount.amount_minor())
                    .push(given_back_minor)
                    .push(taken.amount.currency().code())
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
    (!is_end).then(|| event.amount().amount_minor())
}
