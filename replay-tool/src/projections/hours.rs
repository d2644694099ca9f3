//! `campaign_hours`: what happened in each hour (UTC), event by event.

use std::io;

use chrono::DateTime;
use domain::{Money, Pledge, PledgeEvent};
use uuid::Uuid;

use super::{Audit, Projection};
use crate::grouping::Grouping;
use crate::occurrence::Occurrence;
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
struct Hours(Option<Grouping<KEY_BYTES, 3>>);

impl Hours {
    fn new(room: &Room) -> Self {
        Self(Some(Grouping::new(room.clone(), |sum: &mut [i64; 3], more| {
            for (sum, more) in sum.iter_mut().zip(more) {
                *sum += more;
            }
        })))
    }
}

impl Projection for Hours {
    fn pledge_event(&mut self, occurrence: &Occurrence<'_, Pledge>, _: &mut Rows) -> io::Result<()> {
        let (amount, numbers): (&Money, [i64; 3]) = match occurrence.event {
            PledgeEvent::PledgeCreated { amount, .. } => (amount, [1, 0, 0]),
            PledgeEvent::PledgeCaptured { amount, .. } => (amount, [0, 1, amount.amount_minor()]),
            PledgeEvent::PledgeAmended { .. }
            | PledgeEvent::PledgeAuthorized { .. }
            | PledgeEvent::PledgeCompleted { .. }
            | PledgeEvent::PledgeFailed { .. }
            | PledgeEvent::PledgeExpired { .. }
            | PledgeEvent::PledgeCancelled { .. }
            | PledgeEvent::PaymentUnapplied { .. }
            | PledgeEvent::PaymentRefunded { .. }
            | PledgeEvent::PaymentDisputed { .. }
            | PledgeEvent::DisputeWon { .. }
            | PledgeEvent::DisputeLost { .. }
            | PledgeEvent::UnappliedAccepted { .. } => return Ok(()),
        };
        let mut key = [0; KEY_BYTES];
        key[..16].copy_from_slice(occurrence.event.campaign_id().0.as_bytes());
        let hour = occurrence.at.recorded_at.timestamp().div_euclid(SECONDS);
        key[16..24].copy_from_slice(&hour.to_be_bytes());
        // A code has three letters.
        key[24..].copy_from_slice(&amount.currency().code().as_bytes()[..3]);
        self.0.as_mut().map_or(Ok(()), |hours| hours.add(key, numbers))
    }

    fn finish(&mut self, rows: &mut Rows) -> io::Result<()> {
        let Some(hours) = self.0.take() else { return Ok(()) };
        hours.finish(|key, [created, captured, captured_minor]| {
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
