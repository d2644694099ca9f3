//! `campaign_hours`: what each hour (UTC) changed of every pledge. Money counts in the hour in which it
//! moved.

use std::io;

use chrono::{DateTime, Utc};
use domain::Pledge;
use domain::pledge::PledgeRecord;
use uuid::Uuid;

use super::{Audit, Projection};
use crate::grouping::Grouping;
use crate::occurrence::FinalState;
use crate::rows::{Rows, Table};
use crate::sorter::Room;
use crate::tuple::ColumnType;

pub(super) const AUDIT: Audit = Audit {
    projection: read_model::Projection::CampaignHours,
    tables: &[Table {
        name: "campaign_hours",
        key: 2,
        columns: &[
            ("campaign_id", ColumnType::Uuid),
            ("hour", ColumnType::Time),
            ("currency", ColumnType::Text),
            ("created", ColumnType::Int),
            ("captured", ColumnType::Int),
            ("captured_minor", ColumnType::Int),
        ],
    }],
    make: |room| Box::new(Hours::new(room)),
};

const SECONDS: i64 = 3_600;

/// Campaign, hours since 1970, and currency.
const KEY_BYTES: usize = 27;

/// Created, captured, and how much.
type Numbers = [i64; 3];

struct Hours {
    hours: Option<Grouping<KEY_BYTES, 3>>,
}

impl Hours {
    fn new(room: &Room) -> Self {
        let hours = Grouping::new(room.clone(), |sum: &mut Numbers, more| {
            for (sum, more) in sum.iter_mut().zip(more) {
                *sum += more;
            }
        });
        Self { hours: Some(hours) }
    }

    fn add(&mut self, record: &PledgeRecord, at: DateTime<Utc>, numbers: Numbers) -> io::Result<()> {
        let Some(hours) = &mut self.hours else { return Ok(()) };
        let mut key = [0; KEY_BYTES];
        key[..16].copy_from_slice(record.campaign_id.0.as_bytes());
        let hour = at.timestamp().div_euclid(SECONDS);
        key[16..24].copy_from_slice(&hour.to_be_bytes());
        // A code has three letters.
        key[24..].copy_from_slice(&record.amount.currency().code().as_bytes()[..3]);
        hours.add(key, numbers)
    }
}

impl Projection for Hours {
    fn pledge(&mut self, end: &FinalState<'_, Pledge>, _: &mut Rows) -> io::Result<()> {
        let Some(record) = end.state.record() else { return Ok(()) };
        self.add(record, end.first.recorded_at, [1, 0, 0])?;
        for (at, change) in end.money.iter() {
            self.add(record, at, [0, change.gifts, change.captured])?;
        }
        Ok(())
    }

    fn finish(&mut self, rows: &mut Rows) -> io::Result<()> {
        let Some(hours) = self.hours.take() else { return Ok(()) };
        hours.finish(|key, numbers| {
            let [created, captured, captured_minor] = numbers;
            if numbers == [0; 3] {
                return Ok(());
            }
            let [hour @ .., _, _, _] = key.last_chunk::<11>().copied().unwrap_or_default();
            rows.put(0, |row| {
                row.push(Uuid::from_slice(&key[..16]).unwrap_or_default())
                    .push(DateTime::from_timestamp(i64::from_be_bytes(hour) * SECONDS, 0))
                    .push(std::str::from_utf8(&key[24..]).unwrap_or_default())
                    .push(created)
                    .push(captured)
                    .push(captured_minor)
            })
        })
    }
}
