//! `campaign_totals`, `campaign_donors` and `campaign_captures`: from the final state of every pledge, where
//! the projector adds up events.

use std::io;

use chrono::DateTime;
use domain::{Campaign, CampaignId, CampaignStatus, Currency, DonorId, Pledge};
use uuid::Uuid;

use super::{Audit, Projection};
use crate::figures::Counted;
use crate::grouping::Grouping;
use crate::occurrence::{FinalState, Moment};
use crate::rows::{Rows, Table};
use crate::sorter::Room;
use crate::tuple::{ColumnType, Tuple};

const TOTAL_ROWS: usize = 0;
const DONOR_ROWS: usize = 1;
const CAPTURE_ROWS: usize = 2;

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
                ("reversed_minor", ColumnType::Int),
                ("charged_back_minor", ColumnType::Int),
                ("loss_minor", ColumnType::Int),
                ("in_dispute_minor", ColumnType::Int),
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
                ("reversed_minor", ColumnType::Int),
                ("charged_back_minor", ColumnType::Int),
                ("first_captured_at", ColumnType::Time),
                ("last_captured_at", ColumnType::Time),
            ],
        },
        Table {
            name: "campaign_captures",
            key: 3,
            columns: &[
                ("campaign_id", ColumnType::Uuid),
                ("donor_id", ColumnType::Uuid),
                ("captured_at", ColumnType::Time),
                ("captured_minor", ColumnType::Int),
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
const REVERSED: usize = 5;
const CHARGED_BACK: usize = 6;
const LOSS: usize = 7;
const IN_DISPUTE: usize = 8;
const HELD_APART: usize = 9;
/// How many donors.
pub(super) const DONORS: usize = 10;
/// One for each state, in the order of `PledgeStatus::ALL`.
const STATES: usize = 11;
const POSITION: usize = 18;
/// When the last event was recorded, in microseconds.
pub(super) const AS_OF: usize = 19;
/// How many there are.
pub(super) const NUMBERS: usize = 20;

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

/// Figures of a pledge, apart from its donor and its money; none before it was made.
pub(super) fn of_pledge(pledge: &Pledge) -> Option<Numbers> {
    let mut numbers = [0; NUMBERS];
    numbers[STATES + pledge.status()? as usize] = 1;
    Some(numbers)
}

/// Adds what money counts for.
pub(super) fn add_money(numbers: &mut Numbers, money: Counted) {
    numbers[RAISED] += money.raised();
    numbers[REFUNDED] += money.refunded;
    numbers[REVERSED] += money.reversed;
    numbers[CHARGED_BACK] += money.charged_back;
    numbers[LOSS] += money.loss;
    numbers[IN_DISPUTE] += money.in_dispute;
    numbers[HELD_APART] += money.held_apart;
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
    /// By campaign and donor: pledges, captured, refunded, reversed, charged back, and the first and the last
    /// capture.
    donors: Option<Grouping<32, 7>>,
    /// By campaign, donor and instant: captured.
    captures: Option<Grouping<40, 1>>,
}

impl CampaignTotals {
    fn new(room: &Room) -> Self {
        let totals = Grouping::new(room.share(3), |sum: &mut Numbers, more| {
            for n in PUBLISHED..POSITION {
                sum[n] += more[n];
            }
            for n in [POSITION, AS_OF] {
                sum[n] = sum[n].max(more[n]);
            }
        });
        let donors = Grouping::new(room.share(3), |sum: &mut [i64; 7], more| {
            for n in 0..5 {
                sum[n] += more[n];
            }
            sum[5] = sum[5].min(more[5]);
            sum[6] = sum[6].max(more[6]);
        });
        let captures = Grouping::new(room.share(3), |[sum], [more]| *sum += more);
        Self { totals: Some(totals), donors: Some(donors), captures: Some(captures) }
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

    fn pledge(&mut self, end: &FinalState<'_, Pledge>, _: &mut Rows) -> io::Result<()> {
        let (Some(record), Some(mut numbers)) = (end.state.record(), of_pledge(end.state)) else {
            return Ok(());
        };
        let money = end.money.total();
        add_money(&mut numbers, money);
        if let (Some(donors), Some(captures)) = (&mut self.donors, &mut self.captures)
            && !end.money.is_empty()
        {
            let donor = campaign_and_donor(record.campaign_id, record.donor_id);
            let Counted { gifts, captured, refunded, reversed, charged_back, .. } = money;
            donors.add(donor, [gifts, captured, refunded, reversed, charged_back, i64::MAX, i64::MIN])?;
            for (at, Counted { captured, .. }) in end.money.iter().filter(|(_, change)| change.captured != 0)
            {
                let mut instant = [0; 40];
                instant[..32].copy_from_slice(&donor);
                instant[32..].copy_from_slice(&at.timestamp_micros().to_be_bytes());
                captures.add(instant, [captured])?;
            }
        }
        self.add(record.campaign_id.0, end.last, numbers)
    }

    fn finish(&mut self, rows: &mut Rows) -> io::Result<()> {
        let (Some(mut totals), Some(mut donors), Some(captures)) =
            (self.totals.take(), self.donors.take(), self.captures.take())
        else {
            return Ok(());
        };
        captures.finish(|key, [captured]| {
            let at = key.last_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes));
            if captured > 0 {
                donors.add(*key.first_chunk().unwrap_or(&[0; 32]), [0, 0, 0, 0, 0, at, at])?;
            }
            if captured == 0 {
                return Ok(());
            }
            rows.put(CAPTURE_ROWS, |row| {
                row.push(uuid(&key[..16]))
                    .push(uuid(&key[16..32]))
                    .push(DateTime::from_timestamp_micros(at))
                    .push(captured)
            })
        })?;
        donors.finish(|key, [pledges, captured, refunded, reversed, charged_back, first, last]| {
            if pledges == 0 {
                return Ok(());
            }
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
                    .push(reversed)
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
fn campaign_and_donor(campaign_id: CampaignId, donor_id: DonorId) -> [u8; 32] {
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
