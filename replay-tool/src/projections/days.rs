//! `campaign_days` and `overall_days`: what happened on each day (UTC), event by event.

use std::io;

use chrono::NaiveDate;
use domain::{Currency, MoneyHeld, Pledge, PledgeEvent};
use uuid::Uuid;

use super::{Audit, Projection};
use crate::grouping::Grouping;
use crate::occurrence::Occurrence;
use crate::rows::{Rows, Table};
use crate::sorter::Room;
use crate::tuple::ColumnType;

const CAMPAIGN_DAYS: usize = 0;
const OVERALL_DAYS: usize = 1;

pub(super) const AUDIT: Audit = Audit {
    projection: read_model::Projection::Days,
    tables: &[
        Table {
            name: "campaign_days",
            key: 2,
            columns: &[
                ("campaign_id", ColumnType::Uuid),
                ("day", ColumnType::Date),
                ("currency", ColumnType::Text),
                ("created", ColumnType::Int),
                ("created_minor", ColumnType::Int),
                ("captured", ColumnType::Int),
                ("captured_minor", ColumnType::Int),
                ("completed", ColumnType::Int),
                ("failed", ColumnType::Int),
                ("expired", ColumnType::Int),
                ("cancelled", ColumnType::Int),
                ("refunded_minor", ColumnType::Int),
                ("charged_back_minor", ColumnType::Int),
                ("unapplied_minor", ColumnType::Int),
                ("net_minor", ColumnType::Int),
            ],
        },
        Table {
            name: "overall_days",
            key: 2,
            columns: &[
                ("currency", ColumnType::Text),
                ("day", ColumnType::Date),
                ("created", ColumnType::Int),
                ("created_minor", ColumnType::Int),
                ("captured", ColumnType::Int),
                ("captured_minor", ColumnType::Int),
                ("completed", ColumnType::Int),
                ("failed", ColumnType::Int),
                ("expired", ColumnType::Int),
                ("cancelled", ColumnType::Int),
                ("refunded_minor", ColumnType::Int),
                ("charged_back_minor", ColumnType::Int),
                ("unapplied_minor", ColumnType::Int),
                ("net_minor", ColumnType::Int),
            ],
        },
    ],
    make: |room| Box::new(Days::new(room)),
};

/// The numbers of a day, in the order of the tables.
const CREATED: usize = 0;
const CREATED_MINOR: usize = 1;
const CAPTURED: usize = 2;
const CAPTURED_MINOR: usize = 3;
const COMPLETED: usize = 4;
const FAILED: usize = 5;
const EXPIRED: usize = 6;
const CANCELLED: usize = 7;
const REFUNDED: usize = 8;
const CHARGED_BACK: usize = 9;
const HELD_APART: usize = 10;
const NET: usize = 11;
const NUMBERS: usize = 12;

type Numbers = [i64; NUMBERS];

/// Campaign, currency and day; the nil campaign stands for all of them.
const KEY_BYTES: usize = 23;

struct Days {
    days: Option<Grouping<KEY_BYTES, NUMBERS>>,
    /// The currency of the present pledge.
    currency: Option<Currency>,
}

impl Days {
    fn new(room: &Room) -> Self {
        let days = Grouping::new(room.clone(), |sum: &mut Numbers, more| {
            for (sum, more) in sum.iter_mut().zip(more) {
                *sum += more;
            }
        });
        Self { days: Some(days), currency: None }
    }
}

impl Projection for Days {
    fn pledge_event(&mut self, occurrence: &Occurrence<'_, Pledge>, _: &mut Rows) -> io::Result<()> {
        if let PledgeEvent::PledgeCreated { amount, .. } = occurrence.event {
            self.currency = Some(amount.currency());
        }
        let (Some(days), Some(currency)) = (&mut self.days, self.currency) else { return Ok(()) };
        let Some(mut numbers) = numbers(occurrence.event) else { return Ok(()) };
        numbers[NET] = numbers[CAPTURED_MINOR] - numbers[REFUNDED] - numbers[CHARGED_BACK];
        let day = occurrence.at.recorded_at.date_naive();
        for campaign_id in [occurrence.event.campaign_id().0, Uuid::nil()] {
            days.add(key(campaign_id, currency, day), numbers)?;
        }
        Ok(())
    }

    fn finish(&mut self, rows: &mut Rows) -> io::Result<()> {
        let Some(days) = self.days.take() else { return Ok(()) };
        days.finish(|key, numbers| {
            let campaign_id = Uuid::from_slice(&key[..16]).unwrap_or_default();
            let currency = std::str::from_utf8(&key[16..19]).unwrap_or_default();
            let day = NaiveDate::default() + chrono::Duration::days(i64::from(day_number(&key)));
            let table = if campaign_id.is_nil() { OVERALL_DAYS } else { CAMPAIGN_DAYS };
            rows.put(table, |row| {
                match table {
                    OVERALL_DAYS => row.push(currency).push(day),
                    _ => row.push(campaign_id).push(day).push(currency),
                };
                for number in numbers {
                    row.push(number);
                }
                row
            })
        })
    }
}

/// The numbers that an event adds to its day; none if days do not count it.
fn numbers(event: &PledgeEvent) -> Option<Numbers> {
    let mut numbers = [0; NUMBERS];
    match event {
        PledgeEvent::PledgeCreated { amount, .. } => {
            numbers[CREATED] = 1;
            numbers[CREATED_MINOR] = amount.amount_minor();
        }
        PledgeEvent::PledgeCaptured { amount, .. } => {
            numbers[CAPTURED] = 1;
            numbers[CAPTURED_MINOR] = amount.amount_minor();
        }
        PledgeEvent::PledgeCompleted { .. } => numbers[COMPLETED] = 1,
        PledgeEvent::PledgeFailed { .. } => numbers[FAILED] = 1,
        PledgeEvent::PledgeExpired { .. } => numbers[EXPIRED] = 1,
        PledgeEvent::PledgeCancelled { .. } => numbers[CANCELLED] = 1,
        PledgeEvent::PaymentUnapplied { amount, .. } => numbers[HELD_APART] = amount.amount_minor(),
        PledgeEvent::PaymentRefunded { amount, held: MoneyHeld::Raised, .. } => {
            numbers[REFUNDED] = amount.amount_minor();
        }
        PledgeEvent::DisputeLost { amount, held: MoneyHeld::Raised, .. } => {
            numbers[CHARGED_BACK] = amount.amount_minor();
        }
        PledgeEvent::PledgeAmended { .. }
        | PledgeEvent::PledgeAuthorized { .. }
        | PledgeEvent::PaymentRefunded { held: MoneyHeld::Unapplied, .. }
        | PledgeEvent::PaymentDisputed { .. }
        | PledgeEvent::DisputeWon { .. }
        | PledgeEvent::DisputeLost { held: MoneyHeld::Unapplied, .. }
        | PledgeEvent::UnappliedAccepted { .. } => return None,
    }
    Some(numbers)
}

fn key(campaign_id: Uuid, currency: Currency, day: NaiveDate) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..16].copy_from_slice(campaign_id.as_bytes());
    // A code has three letters.
    key[16..19].copy_from_slice(&currency.code().as_bytes()[..3]);
    let days = day.signed_duration_since(NaiveDate::default()).num_days();
    key[19..].copy_from_slice(&u32::try_from(days).unwrap_or_default().to_be_bytes());
    key
}

/// Days since 1970.
fn day_number(key: &[u8; KEY_BYTES]) -> u32 {
    let [.., a, b, c, d] = *key;
    u32::from_be_bytes([a, b, c, d])
}
