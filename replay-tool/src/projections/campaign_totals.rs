//! `campaign_totals` and `campaign_donors`: from the final state of every pledge, where the projector
//! adds up events.

use std::io;

use chrono::DateTime;
use domain::pledge::Usage;
use domain::{Campaign, CampaignId, CampaignStatus, Currency, DonorId, Pledge, PledgeEvent};
use uuid::Uuid;

use super::{Audit, Projection};
use crate::grouping::Grouping;
use crate::occurrence::{FinalState, Moment, Occurrence};
use crate::rows::{Rows, Table};
use crate::sorter::Room;
use crate::tuple::{ColumnType, Tuple};

const TOTAL_ROWS: usize = 0;
const DONOR_ROWS: usize = 1;

pub(crate) const AUDIT: Audit = Audit {
    projection: read_model::Projection::CampaignTotals,
    tables: &[
        Table {
            name: "campaign_totals",
            key: 1,
            columns: &[
                ("campaign_id", ColumnType::Uuid),
                ("published", ColumnType::Bool),
                ("currency", ColumnType::Text),
                ("goal_minor", ColumnType::Int),
                ("raised_minor", ColumnType::Int),
                ("refunded_minor", ColumnType::Int),
                ("charged_back_minor", ColumnType::Int),
                ("unapplied_minor", ColumnType::Int),
                ("donors", ColumnType::Int),
                ("pending", ColumnType::Int),
                ("authorized", ColumnType::Int),
                ("captured", ColumnType::Int),
                ("completed", ColumnType::Int),
                ("failed", ColumnType::Int),
                ("expired", ColumnType::Int),
                ("cancelled", ColumnType::Int),
                ("position", ColumnType::Int),
                ("as_of", ColumnType::Time),
            ],
        },
        Table {
            name: "campaign_donors",
            key: 2,
            columns: &[
                ("campaign_id", ColumnType::Uuid),
                ("donor_id", ColumnType::Uuid),
                ("captured_pledges", ColumnType::Int),
                ("captured_minor", ColumnType::Int),
                ("refunded_minor", ColumnType::Int),
                ("charged_back_minor", ColumnType::Int),
                ("first_captured_at", ColumnType::Time),
                ("last_captured_at", ColumnType::Time),
            ],
        },
    ],
    make: |room| Box::new(CampaignTotals::new(room)),
};

/// The numbers of a campaign, in the order of the table. Those up to the last two are sums; the last
/// two are the latest.
const PUBLISHED: usize = 0;
const CURRENCY: usize = 1;
const GOAL: usize = 2;
const RAISED: usize = 3;
const REFUNDED: usize = 4;
const CHARGED_BACK: usize = 5;
const HELD_APART: usize = 6;
/// How many donors.
pub(super) const DONORS: usize = 7;
/// One for each state, in the order of `PledgeStatus::ALL`.
const STATES: usize = 8;
const POSITION: usize = 15;
/// When the last event was recorded, in microseconds.
pub(super) const AS_OF: usize = 16;
/// How many there are.
pub(super) const NUMBERS: usize = 17;

/// Figures of a campaign or a pledge by itself, or of a whole campaign with its pledges.
pub(super) type Numbers = [i64; NUMBERS];

/// Figures of a campaign by itself; none before it was made.
pub(super) fn of_campaign(campaign: &Campaign) -> Option<Numbers> {
    let details = campaign.details()?;
    let mut numbers = [0; NUMBERS];
    numbers[PUBLISHED] = i64::from(campaign.status() != Some(CampaignStatus::Draft));
    numbers[CURRENCY] = code_to_number(details.goal.currency());
    numbers[GOAL] = details.goal.amount_minor();
    Some(numbers)
}

/// Figures of a pledge, apart from its donor; none before it was made. Money that was accepted as
/// another pledge is in that pledge.
pub(super) fn of_pledge(pledge: &Pledge) -> Option<Numbers> {
    let record = pledge.record()?;
    let mut numbers = [0; NUMBERS];
    numbers[STATES + record.state.status() as usize] = 1;
    for taken in record.taken.values() {
        match taken.usage {
            Usage::Applied => {
                numbers[RAISED] += taken.left_minor();
                numbers[REFUNDED] += taken.refunded_minor();
                numbers[CHARGED_BACK] += taken.charged_back_minor();
            }
            Usage::Unapplied => numbers[HELD_APART] += taken.left_minor(),
            Usage::Accepted(_) => {}
        }
    }
    Some(numbers)
}

/// Writes the figures of a campaign: all numbers but the last two.
pub(super) fn push_figures<'t>(row: &'t mut Tuple, numbers: &Numbers) -> &'t mut Tuple {
    let currency = number_to_code(numbers[CURRENCY]);
    row.push(numbers[PUBLISHED] > 0).push(std::str::from_utf8(&currency).unwrap_or_default());
    for number in &numbers[GOAL..POSITION] {
        row.push(*number);
    }
    row
}

struct CampaignTotals {
    totals: Option<Grouping<16, NUMBERS>>,
    /// By campaign and donor: pledges, captured, refunded, charged back, and the first and the last
    /// capture.
    donors: Option<Grouping<32, 6>>,
    /// When the present pledge was captured, in microseconds.
    captured_at: i64,
}

impl CampaignTotals {
    fn new(room: &Room) -> Self {
        let totals = Grouping::new(room.share(2), |sum: &mut Numbers, more| {
            for n in PUBLISHED..POSITION {
                sum[n] += more[n];
            }
            for n in [POSITION, AS_OF] {
                sum[n] = sum[n].max(more[n]);
            }
        });
        let donors = Grouping::new(room.share(2), |sum: &mut [i64; 6], more| {
            for n in 0..4 {
                sum[n] += more[n];
            }
            sum[4] = sum[4].min(more[4]);
            sum[5] = sum[5].max(more[5]);
        });
        Self { totals: Some(totals), donors: Some(donors), captured_at: 0 }
    }

    fn add(&mut self, campaign_id: Uuid, last: Moment, mut numbers: Numbers) -> io::Result<()> {
        numbers[POSITION] = last.position;
        numbers[AS_OF] = last.recorded_at.timestamp_micros();
        self.totals.as_mut().map_or(Ok(()), |totals| totals.add(*campaign_id.as_bytes(), numbers))
    }
}

impl Projection for CampaignTotals {
    fn campaign(&mut self, end: &FinalState<'_, Campaign>, _: &mut Rows) -> io::Result<()> {
        let Some(numbers) = of_campaign(end.state) else { return Ok(()) };
        self.add(end.id, end.last, numbers)
    }

    fn pledge_event(&mut self, occurrence: &Occurrence<'_, Pledge>, _: &mut Rows) -> io::Result<()> {
        if let PledgeEvent::PledgeCaptured { .. } = occurrence.event {
            self.captured_at = occurrence.at.recorded_at.timestamp_micros();
        }
        Ok(())
    }

    fn pledge(&mut self, end: &FinalState<'_, Pledge>, _: &mut Rows) -> io::Result<()> {
        let (Some(record), Some(numbers)) = (end.state.record(), of_pledge(end.state)) else {
            return Ok(());
        };
        if let (Some(donors), Some(taken)) = (&mut self.donors, record.applied()) {
            let of = [
                1,
                taken.amount.amount_minor(),
                taken.refunded_minor(),
                taken.charged_back_minor(),
                self.captured_at,
                self.captured_at,
            ];
            donors.add(campaign_and_donor(record.campaign_id, record.donor_id), of)?;
        }
        self.add(record.campaign_id.0, end.last, numbers)
    }

    fn finish(&mut self, rows: &mut Rows) -> io::Result<()> {
        let (Some(mut totals), Some(donors)) = (self.totals.take(), self.donors.take()) else {
            return Ok(());
        };
        donors.finish(|key, [pledges, captured, refunded, charged_back, first, last]| {
            let (campaign_id, donor_id) = (uuid(&key[..16]), uuid(&key[16..]));
            let mut numbers = [0; NUMBERS];
            numbers[DONORS] = 1;
            totals.add(*campaign_id.as_bytes(), numbers)?;
            rows.put(DONOR_ROWS, |row| {
                row.push(campaign_id)
                    .push(donor_id)
                    .push(pledges)
                    .push(captured)
                    .push(refunded)
                    .push(charged_back)
                    .push(DateTime::from_timestamp_micros(first))
                    .push(DateTime::from_timestamp_micros(last))
            })
        })?;
        totals.finish(|key, numbers| {
            rows.put(TOTAL_ROWS, |row| {
                push_figures(row.push(Uuid::from_bytes(key)), &numbers)
                    .push(numbers[POSITION])
                    .push(DateTime::from_timestamp_micros(numbers[AS_OF]))
            })
        })
    }
}

/// The key of a donor of a campaign.
pub(super) fn campaign_and_donor(campaign_id: CampaignId, donor_id: DonorId) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(campaign_id.0.as_bytes());
    key[16..].copy_from_slice(donor_id.0.as_bytes());
    key
}

/// An id in a key.
pub(super) fn uuid(bytes: &[u8]) -> Uuid {
    Uuid::from_slice(bytes).unwrap_or_default()
}

/// The three letters of a currency as a number, so that it stands among numbers.
fn code_to_number(currency: Currency) -> i64 {
    currency.code().bytes().fold(0, |number, letter| number << 8 | i64::from(letter))
}

fn number_to_code(number: i64) -> [u8; 3] {
    let [.., a, b, c] = number.to_be_bytes();
    [a, b, c]
}
