//! `campaign_days` and `overall_days`: what each day (UTC) changed of every pledge. Money counts on the day
//! on which it moved.

use std::collections::BTreeMap;
use std::io;

use chrono::{DateTime, NaiveDate};
use domain::pledge::{PledgeRecord, PledgeState};
use domain::{Currency, Pledge, PledgeEvent};
use uuid::Uuid;

use super::steps::Steps;
use super::{Audit, Projection};
use crate::figures::Counted;
use crate::grouping::Grouping;
use crate::occurrence::{Moment, Occurrence};
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

    /// Adds what an event at `at` changed of a day. Only that may be recorded after the day has ended.
    fn add(
        &mut self,
        record: &PledgeRecord,
        day: NaiveDate,
        mut change: Numbers,
        at: Moment,
    ) -> io::Result<()> {
        let Some(days) = self.days.as_mut().filter(|_| change != [0; NUMBERS]) else { return Ok(()) };
        if at.recorded_at.date_naive() > day {
            change[REVISED_AT] = at.recorded_at.timestamp_micros();
        }
        for campaign_id in [record.campaign_id.0, Uuid::nil()] {
            days.add(key(campaign_id, record.amount.currency(), day), change)?;
        }
        Ok(())
    }

    /// The numbers of a pledge without its money.
    fn numbers(&self, record: &PledgeRecord) -> Numbers {
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
        numbers
    }
}

fn add_money(numbers: &mut Numbers, money: Counted) {
    numbers[CAPTURED] += money.gifts;
    numbers[CAPTURED_MINOR] += money.captured;
    numbers[REFUNDED] += money.refunded;
    numbers[REVERSED] += money.reversed;
    numbers[CHARGED_BACK] += money.charged_back;
    numbers[HELD_APART] += money.held_apart;
    numbers[NET] += money.raised();
}

impl Projection for Days {
    fn pledge_event(&mut self, occurrence: &Occurrence<'_, Pledge>, _: &mut Rows) -> io::Result<()> {
        let (Some(record), at) = (occurrence.after.record(), occurrence.at) else { return Ok(()) };
        if let PledgeEvent::PledgeCreated { amount, .. } = occurrence.event {
            self.created_minor = amount.amount_minor();
        }
        let change = self.steps.to(occurrence.sequence, self.numbers(record));
        self.add(record, at.recorded_at.date_naive(), change, at)?;
        let mut days: BTreeMap<NaiveDate, Numbers> = BTreeMap::new();
        for (instant, money) in occurrence.changed.iter() {
            add_money(days.entry(instant.date_naive()).or_insert([0; NUMBERS]), money);
        }
        days.into_iter().try_for_each(|(day, change)| self.add(record, day, change, at))
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
