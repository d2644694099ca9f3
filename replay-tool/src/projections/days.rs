//! `campaign_days` and `overall_days`: what each day (UTC) changed of every pledge.

use std::io;

use chrono::{DateTime, NaiveDate};
use domain::pledge::{PledgeState, Usage};
use domain::{Currency, Pledge, PledgeEvent};
use uuid::Uuid;

use super::steps::Steps;
use super::{Audit, Projection};
use crate::figures::Figures;
use crate::grouping::Grouping;
use crate::occurrence::{FinalState, Moment, Occurrence};
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
                ("reversed_minor", ColumnType::Int),
                ("charged_back_minor", ColumnType::Int),
                ("unapplied_minor", ColumnType::Int),
                ("net_minor", ColumnType::Int),
                ("revised_at", ColumnType::Time),
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
                ("reversed_minor", ColumnType::Int),
                ("charged_back_minor", ColumnType::Int),
                ("unapplied_minor", ColumnType::Int),
                ("net_minor", ColumnType::Int),
                ("revised_at", ColumnType::Time),
            ],
        },
    ],
    make: |room| Box::new(Days::new(room)),
};

/// The numbers of a day, in the order of the tables. The last is the latest, the others are sums.
const CREATED: usize = 0;
const CREATED_MINOR: usize = 1;
const CAPTURED: usize = 2;
const CAPTURED_MINOR: usize = 3;
const COMPLETED: usize = 4;
const FAILED: usize = 5;
const EXPIRED: usize = 6;
const CANCELLED: usize = 7;
const REFUNDED: usize = 8;
const REVERSED: usize = 9;
const CHARGED_BACK: usize = 10;
const HELD_APART: usize = 11;
const NET: usize = 12;
/// When the last change was recorded that came after the day had ended, in microseconds; 0 if none did.
const REVISED_AT: usize = 13;
const NUMBERS: usize = 14;

type Numbers = [i64; NUMBERS];

/// Campaign, currency and day; the nil campaign stands for all of them.
const KEY_BYTES: usize = 23;

struct Days {
    days: Option<Grouping<KEY_BYTES, NUMBERS>>,
    /// The numbers of the present pledge.
    steps: Steps<NUMBERS>,
    /// How much was promised when it was made, whatever was promised later.
    created_minor: i64,
}

impl Days {
    fn new(room: &Room) -> Self {
        let days = Grouping::new(room.clone(), |sum: &mut Numbers, more| {
            for n in CREATED..REVISED_AT {
                sum[n] += more[n];
            }
            sum[REVISED_AT] = sum[REVISED_AT].max(more[REVISED_AT]);
        });
        Self { days: Some(days), steps: Steps::new(), created_minor: 0 }
    }

    fn add(&mut self, pledge: &Pledge, step: Option<(Moment, Numbers)>) -> io::Result<()> {
        let (Some(days), Some(record)) = (&mut self.days, pledge.record()) else { return Ok(()) };
        let Some((at, change)) = step.filter(|(_, change)| *change != [0; NUMBERS]) else { return Ok(()) };
        // Money moves when it is recorded, so no day changes after its end.
        let day = at.recorded_at.date_naive();
        for campaign_id in [record.campaign_id.0, Uuid::nil()] {
            days.add(key(campaign_id, record.amount.currency(), day), change)?;
        }
        Ok(())
    }

    /// The numbers of a pledge; none before it was made.
    fn numbers(&self, pledge: &Pledge) -> Option<Numbers> {
        let record = pledge.record()?;
        let mut numbers = [0; NUMBERS];
        numbers[CREATED] = 1;
        numbers[CREATED_MINOR] = self.created_minor;
        match &record.state {
            PledgeState::Pending | PledgeState::Authorized(_) | PledgeState::Captured(_) => {}
            PledgeState::Completed(_) => numbers[COMPLETED] = 1,
            PledgeState::Failed(_) => numbers[FAILED] = 1,
            PledgeState::Expired => numbers[EXPIRED] = 1,
            PledgeState::Cancelled => numbers[CANCELLED] = 1,
        }
        for taken in record.taken.values() {
            let figures = Figures::of(taken);
            match taken.usage {
                Usage::Applied => {
                    numbers[CAPTURED] += 1;
                    numbers[CAPTURED_MINOR] += figures.captured;
                    numbers[REFUNDED] += figures.refunded;
                    numbers[REVERSED] += figures.reversed;
                    numbers[CHARGED_BACK] += figures.charged_back;
                    numbers[NET] += figures.left;
                }
                Usage::Unapplied => numbers[HELD_APART] += figures.left,
                Usage::Accepted(_) => {}
            }
        }
        Some(numbers)
    }
}

impl Projection for Days {
    fn pledge_event(&mut self, occurrence: &Occurrence<'_, Pledge>, _: &mut Rows) -> io::Result<()> {
        let step = self.steps.event(self.numbers(occurrence.before), occurrence.at);
        if let PledgeEvent::PledgeCreated { amount, .. } = occurrence.event {
            self.created_minor = amount.amount_minor();
        }
        self.add(occurrence.before, step)
    }

    fn pledge(&mut self, end: &FinalState<'_, Pledge>, _: &mut Rows) -> io::Result<()> {
        let step = self.steps.end(self.numbers(end.state));
        self.add(end.state, step)
    }

    fn finish(&mut self, rows: &mut Rows) -> io::Result<()> {
        let Some(days) = self.days.take() else { return Ok(()) };
        days.finish(|key, [numbers @ .., revised_at]| {
            if numbers == [0; REVISED_AT] {
                return Ok(());
            }
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
                row.push((revised_at > 0).then(|| DateTime::from_timestamp_micros(revised_at)).flatten())
            })
        })
    }
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
