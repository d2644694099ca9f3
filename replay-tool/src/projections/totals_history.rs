//! `campaign_totals_history` and `campaign_first_gifts`: a campaign's totals after each of its events.
//!
//! Campaigns and pledges come one after the other, but each row counts all of them up to its position.
//! So what every event changed is sorted by campaign and position, and then added up. What it changed is
//! the difference between what its campaign or pledge counts for before and after it.

use std::collections::BTreeMap;
use std::io;

use chrono::DateTime;
use domain::{Campaign, Pledge};
use uuid::Uuid;

use super::campaign_totals::{
    AS_OF, DONORS, NUMBERS, Numbers, add_money, of_campaign, of_pledge, push_figures, uuid,
};
use super::steps::Steps;
use super::{Audit, Projection};
use crate::occurrence::{Moment, Occurrence};
use crate::rows::{Rows, Table};
use crate::sorter::{Room, Sorter};
use crate::tuple::ColumnType;

const HISTORY: usize = 0;
const FIRST_GIFTS: usize = 1;

pub(super) const AUDIT: Audit = Audit {
    projection: read_model::Projection::TotalsHistory,
    tables: &[
        Table {
            name: "campaign_totals_history",
            key: 2,
            columns: &[
                ("campaign_id", ColumnType::Uuid),
                ("position", ColumnType::Int),
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
                ("as_of", ColumnType::Time),
            ],
        },
        Table {
            name: "campaign_first_gifts",
            key: 2,
            columns: &[
                ("campaign_id", ColumnType::Uuid),
                ("donor_id", ColumnType::Uuid),
                ("gifts", ColumnType::Int),
                ("position", ColumnType::Int),
            ],
        },
    ],
    make: |room| Box::new(TotalsHistory::new(room)),
};

struct TotalsHistory {
    changes: Option<Changes>,
    gifts: Option<Gifts>,
    /// Those of the present campaign or pledge.
    steps: Steps<NUMBERS>,
}

impl TotalsHistory {
    fn new(room: &Room) -> Self {
        Self {
            changes: Some(Changes(Sorter::new(room.share(2)))),
            gifts: Some(Gifts(Sorter::new(room.share(2)))),
            steps: Steps::new(),
        }
    }

    fn add(&mut self, campaign_id: Uuid, at: Moment, change: Numbers) -> io::Result<()> {
        self.changes.as_mut().map_or(Ok(()), |changes| changes.event(campaign_id, at, change))
    }
}

impl Projection for TotalsHistory {
    fn campaign_event(&mut self, occurrence: &Occurrence<'_, Campaign>, _: &mut Rows) -> io::Result<()> {
        let Some(numbers) = of_campaign(occurrence.after) else { return Ok(()) };
        let change = self.steps.to(occurrence.sequence, numbers);
        self.add(occurrence.id, occurrence.at, change)
    }

    fn pledge_event(&mut self, occurrence: &Occurrence<'_, Pledge>, _: &mut Rows) -> io::Result<()> {
        let (Some(record), Some(numbers)) = (occurrence.after.record(), of_pledge(occurrence.after)) else {
            return Ok(());
        };
        let (campaign_id, at, money) = (record.campaign_id.0, occurrence.at, occurrence.changed.total());
        let mut change = self.steps.to(occurrence.sequence, numbers);
        add_money(&mut change, money);
        self.add(campaign_id, at, change)?;
        match &mut self.gifts {
            Some(gifts) if money.gifts != 0 => {
                gifts.add(campaign_id, record.donor_id.0, at.position, money.gifts)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn finish(&mut self, rows: &mut Rows) -> io::Result<()> {
        let (Some(mut changes), Some(gifts)) = (self.changes.take(), self.gifts.take()) else {
            return Ok(());
        };
        gifts.add_up(|news| match news {
            News::Donors { campaign_id, position, change } => changes.donors(campaign_id, position, change),
            News::Donor { campaign_id, donor_id, gifts, position } => {
                rows.put(FIRST_GIFTS, |row| row.push(campaign_id).push(donor_id).push(gifts).push(position))
            }
        })?;
        changes.add_up(|campaign_id, position, totals| {
            rows.put(HISTORY, |row| {
                push_figures(row.push(campaign_id).push(position), totals)
                    .push(DateTime::from_timestamp_micros(totals[AS_OF]))
            })
        })
    }
}

/// Pledges that became gifts or are none any more, by donor, campaign and position. A donor's id, unlike a
/// campaign's, differs in its first bytes.
struct Gifts(Sorter);

/// What follows from the gifts of a donor.
enum News {
    /// At this position a campaign has a donor more, or less.
    Donors { campaign_id: Uuid, position: i64, change: i64 },
    /// A donor in the end, with the position since which they are one.
    Donor { campaign_id: Uuid, donor_id: Uuid, gifts: i64, position: i64 },
}

impl Gifts {
    fn add(&mut self, campaign_id: Uuid, donor_id: Uuid, position: i64, change: i64) -> io::Result<()> {
        let mut key = [0; 40];
        key[..16].copy_from_slice(donor_id.as_bytes());
        key[16..32].copy_from_slice(campaign_id.as_bytes());
        key[32..].copy_from_slice(&position.to_be_bytes());
        self.0.push(&key, &[&change.to_le_bytes()])
    }

    /// Goes through the gifts of one donor after the other.
    fn add_up(self, mut tell: impl FnMut(News) -> io::Result<()>) -> io::Result<()> {
        let sorted = self.0.finish()?;
        let mut records = sorted.records()?;
        let (mut of, mut gifts, mut since) = ([0; 32], 0, 0);
        let end = |of: &[u8; 32], gifts, position| match gifts {
            0 => None,
            _ => {
                Some(News::Donor { campaign_id: uuid(&of[16..]), donor_id: uuid(&of[..16]), gifts, position })
            }
        };
        while let Some((key, change)) = records.next()? {
            let (donor, position) = key.split_at(32);
            if donor != of {
                end(&of, gifts, since).map_or(Ok(()), &mut tell)?;
                of.copy_from_slice(donor);
                gifts = 0;
            }
            let position = i64::from_be_bytes(position.try_into().map_err(io::Error::other)?);
            let before = gifts;
            gifts += i64::from_le_bytes(change.try_into().map_err(io::Error::other)?);
            if before == 0 {
                since = position;
            }
            let change = i64::from(gifts > 0) - i64::from(before > 0);
            if change != 0 {
                tell(News::Donors { campaign_id: uuid(&of[16..]), position, change })?;
            }
        }
        end(&of, gifts, since).map_or(Ok(()), tell)
    }
}

/// Changes by events, by campaign and position.
///
/// Sorting is fast as long as keys differ in their first eight bytes. So a key begins with as much of the
/// campaign's id as tells most of them apart, and the position, of which a trillion fit. The rest of the
/// id follows, and what tells a change of donors from the event that brought it.
struct Changes(Sorter);

type Key = [u8; 25];
const CAMPAIGN_BYTES: usize = 3;
const POSITION_BYTES: usize = 5;
const OF_DONORS: u8 = 0;
/// Sorted behind: with the event itself the row is whole.
const EVENT: u8 = 1;

impl Changes {
    fn event(&mut self, campaign_id: Uuid, at: Moment, mut change: Numbers) -> io::Result<()> {
        change[AS_OF] = at.recorded_at.timestamp_micros();
        self.add(key(campaign_id, at.position, EVENT), &change)
    }

    /// So many donors more.
    fn donors(&mut self, campaign_id: Uuid, position: i64, donors: i64) -> io::Result<()> {
        let mut change = [0; NUMBERS];
        change[DONORS] = donors;
        self.add(key(campaign_id, position, OF_DONORS), &change)
    }

    /// An event changes three or four numbers, so only those are kept, each behind its place.
    fn add(&mut self, key: Key, change: &Numbers) -> io::Result<()> {
        let mut bytes = [0; 9 * NUMBERS];
        let mut length = 0;
        for (place, number) in (0..).zip(change).filter(|(_, number)| **number != 0) {
            bytes[length] = place;
            bytes[length + 1..length + 9].copy_from_slice(&number.to_le_bytes());
            length += 9;
        }
        self.0.push(&key, &[&bytes[..length]])
    }

    /// Gives the totals of each campaign after each of its events.
    fn add_up(self, mut row: impl FnMut(Uuid, i64, &Numbers) -> io::Result<()>) -> io::Result<()> {
        let sorted = self.0.finish()?;
        let mut records = sorted.records()?;
        // Campaigns whose keys begin alike come side by side; there are few of them.
        let mut side_by_side: BTreeMap<Uuid, Numbers> = BTreeMap::new();
        let mut beginning = [0; CAMPAIGN_BYTES];
        while let Some((key, change)) = records.next()? {
            let key: Key = key.try_into().map_err(io::Error::other)?;
            if !key.starts_with(&beginning) {
                beginning.copy_from_slice(&key[..CAMPAIGN_BYTES]);
                side_by_side.clear();
            }
            let (campaign_id, position, of) = read_key(&key);
            let totals = side_by_side.entry(campaign_id).or_insert([0; NUMBERS]);
            for [place, number @ ..] in change.as_chunks::<9>().0 {
                let (number, place) = (i64::from_le_bytes(*number), usize::from(*place));
                // The instant is the event's own; all others are sums.
                totals[place] = if place == AS_OF { number } else { totals[place] + number };
            }
            if of == EVENT {
                row(campaign_id, position, totals)?;
            }
        }
        Ok(())
    }
}

/// The end of an id differs more than its beginning, which may be a time.
fn key(campaign_id: Uuid, position: i64, of: u8) -> Key {
    let (rest, end) = campaign_id.as_bytes().split_at(16 - CAMPAIGN_BYTES);
    let position = &position.to_be_bytes()[8 - POSITION_BYTES..];
    let mut key = [of; size_of::<Key>()];
    for (byte, of) in key.iter_mut().zip(end.iter().chain(position).chain(rest)) {
        *byte = *of;
    }
    key
}

fn read_key(key: &Key) -> (Uuid, i64, u8) {
    let (end, others) = key.split_at(CAMPAIGN_BYTES);
    let (at, others) = others.split_at(POSITION_BYTES);
    let (rest, of) = others.split_at(16 - CAMPAIGN_BYTES);
    let (mut id, mut position) = ([0; 16], [0; 8]);
    id[..rest.len()].copy_from_slice(rest);
    id[rest.len()..].copy_from_slice(end);
    position[8 - POSITION_BYTES..].copy_from_slice(at);
    (Uuid::from_bytes(id), i64::from_be_bytes(position), of[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also of campaigns whose keys begin alike, and where not everything fits into memory.
    #[test]
    fn changes_are_added_up_campaign_by_campaign() {
        for bytes in [2_000, 10_000_000] {
            let mut changes = Changes(Sorter::new(Room { bytes, folder: std::env::temp_dir() }));
            let campaigns = [1_u128 << 100, 2 << 100, 7].map(Uuid::from_u128);
            let mut expected = Vec::new();
            for (n, campaign_id) in campaigns.into_iter().enumerate() {
                for k in 1..=100 {
                    let at = Moment { position: 3 * k + n as i64, recorded_at: DateTime::UNIX_EPOCH };
                    let mut change = [0; NUMBERS];
                    change[DONORS + 1] = -k;
                    changes.event(campaign_id, at, change).unwrap();
                    changes.donors(campaign_id, at.position, 1).unwrap();
                    expected.push((campaign_id, at.position, k, -k * (k + 1) / 2));
                }
            }
            let mut found = Vec::new();
            let row = |campaign_id, position, totals: &Numbers| {
                found.push((campaign_id, position, totals[DONORS], totals[DONORS + 1]));
                Ok(())
            };
            changes.add_up(row).unwrap();
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "with {bytes} bytes");
        }
    }
    /// A second gift makes no second donor; who has no gift left is none, and may become one again.
    #[test]
    fn donors_have_gifts() {
        let mut gifts = Gifts(Sorter::new(Room { bytes: 10_000, folder: std::env::temp_dir() }));
        let [campaign, ada, bob, carol] = [1, 2, 3, 4].map(Uuid::from_u128);
        for (donor, position, change) in [
            (ada, 9, 1),
            (ada, 5, 1),
            (bob, 6, 1),
            (carol, 2, 1),
            (bob, 7, -1),
            (carol, 3, -1),
            (carol, 8, 1),
        ] {
            gifts.add(campaign, donor, position, change).unwrap();
        }
        let (mut donors, mut changes) = (Vec::new(), Vec::new());
        let tell = |news| {
            match news {
                News::Donors { position, change, .. } => changes.push((position, change)),
                News::Donor { donor_id, gifts, position, .. } => donors.push((donor_id, gifts, position)),
            }
            Ok(())
        };
        gifts.add_up(tell).unwrap();
        changes.sort_unstable();
        assert_eq!(donors, [(ada, 2, 5), (carol, 1, 8)]);
        assert_eq!(changes, [(2, 1), (3, -1), (5, 1), (6, 1), (7, -1), (8, 1)]);
    }
}
