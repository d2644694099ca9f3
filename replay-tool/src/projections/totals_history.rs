//! `campaign_totals_history` and `campaign_first_gifts`: a campaign's totals after each of its events.
//!
//! Campaigns and pledges come one after the other, but each row counts all of them up to its position.
//! So what every event changed is sorted by campaign and position, and then added up. What it changed is
//! the difference between what its campaign or pledge counts for before and after it.

use std::io;

use chrono::DateTime;
use domain::{Campaign, Pledge, PledgeEvent};
use uuid::Uuid;

use super::campaign_totals::{
    AS_OF, DONORS, NUMBERS, Numbers, campaign_and_donor, of_campaign, of_pledge, push_figures, uuid,
};
use super::{Audited, Projection};
use crate::fold::{At, Happened, Settled};
use crate::grouping::Grouping;
use crate::rows::{Rows, Table};
use crate::sorter::{Room, Sorter};
use crate::tuple::{Kind, int};

const HISTORY: usize = 0;
const FIRST_GIFTS: usize = 1;

pub(super) const AUDITED: Audited = Audited {
    name: "totals_history",
    tables: &[
        Table {
            name: "campaign_totals_history",
            key: 2,
            columns: &[
                ("campaign_id", Kind::Uuid),
                ("position", Kind::Int),
                ("published", Kind::Bool),
                ("currency", Kind::Text),
                ("goal_minor", Kind::Int),
                ("raised_minor", Kind::Int),
                ("refunded_minor", Kind::Int),
                ("charged_back_minor", Kind::Int),
                ("unapplied_minor", Kind::Int),
                ("donors", Kind::Int),
                ("pending", Kind::Int),
                ("authorized", Kind::Int),
                ("captured", Kind::Int),
                ("completed", Kind::Int),
                ("failed", Kind::Int),
                ("expired", Kind::Int),
                ("cancelled", Kind::Int),
                ("as_of", Kind::Time),
            ],
        },
        Table {
            name: "campaign_first_gifts",
            key: 2,
            columns: &[("campaign_id", Kind::Uuid), ("donor_id", Kind::Uuid), ("position", Kind::Int)],
        },
    ],
    make: |room| Box::new(TotalsHistory::new(room)),
};

struct TotalsHistory {
    changes: Option<Changes>,
    /// The position of the first capture, by campaign and donor.
    first_gifts: Option<Grouping<32, 1>>,
    /// What the present campaign or pledge counted for before its last event.
    before: Numbers,
    /// Its last event.
    last: Option<At>,
}

impl TotalsHistory {
    fn new(room: &Room) -> Self {
        let first_gifts = Grouping::new(room.share(2), |[first], [other]| *first = (*first).min(*other));
        Self {
            changes: Some(Changes(Sorter::new(room.share(2)))),
            first_gifts: Some(first_gifts),
            before: [0; NUMBERS],
            last: None,
        }
    }

    /// The last event of the present campaign or pledge made it count for `after`.
    fn look(&mut self, campaign_id: Uuid, after: Numbers) -> io::Result<()> {
        let (Some(changes), Some(at)) = (&mut self.changes, self.last) else { return Ok(()) };
        let mut change = after;
        change.iter_mut().zip(self.before).for_each(|(after, before)| *after -= before);
        change[AS_OF] = at.recorded_at.timestamp_micros();
        self.before = after;
        changes.add(campaign_id, at.position, &change)
    }

    fn end(&mut self) {
        (self.before, self.last) = ([0; NUMBERS], None);
    }
}

impl Projection for TotalsHistory {
    fn campaign_event(&mut self, happened: &Happened<'_, Campaign>, _: &mut Rows) -> io::Result<()> {
        if let Some(after_the_last) = of_campaign(happened.before) {
            self.look(happened.id, after_the_last)?;
        }
        self.last = Some(happened.at);
        Ok(())
    }

    fn campaign(&mut self, settled: &Settled<'_, Campaign>, _: &mut Rows) -> io::Result<()> {
        if let Some(after_the_last) = of_campaign(settled.state) {
            self.look(settled.id, after_the_last)?;
        }
        self.end();
        Ok(())
    }

    fn pledge_event(&mut self, happened: &Happened<'_, Pledge>, _: &mut Rows) -> io::Result<()> {
        if let Some(after_the_last) = of_pledge(happened.before) {
            self.look(happened.event.campaign_id().0, after_the_last)?;
        }
        self.last = Some(happened.at);
        match (happened.event, &mut self.first_gifts) {
            (PledgeEvent::PledgeCaptured { campaign_id, donor_id, .. }, Some(first_gifts)) => {
                first_gifts.add(campaign_and_donor(*campaign_id, *donor_id), [happened.at.position])
            }
            _ => Ok(()),
        }
    }

    fn pledge(&mut self, settled: &Settled<'_, Pledge>, _: &mut Rows) -> io::Result<()> {
        if let (Some(record), Some(after_the_last)) = (settled.state.record(), of_pledge(settled.state)) {
            self.look(record.campaign_id.0, after_the_last)?;
        }
        self.end();
        Ok(())
    }

    fn finish(&mut self, rows: &mut Rows) -> io::Result<()> {
        let (Some(mut changes), Some(first_gifts)) = (self.changes.take(), self.first_gifts.take()) else {
            return Ok(());
        };
        first_gifts.finish(|key, [position]| {
            let (campaign_id, donor_id) = (uuid(&key[..16]), uuid(&key[16..]));
            let mut one_more = [0; NUMBERS];
            one_more[DONORS] = 1;
            changes.add(campaign_id, position, &one_more)?;
            rows.put(FIRST_GIFTS, |row| row.push(campaign_id).push(donor_id).push(position))
        })?;
        changes.add_up(|campaign_id, position, totals| {
            rows.put(HISTORY, |row| {
                push_figures(row.push(campaign_id).push(position), totals)
                    .push(DateTime::from_timestamp_micros(totals[AS_OF]))
            })
        })
    }
}

/// What events changed, by campaign and position.
struct Changes(Sorter);

impl Changes {
    /// An event changes three or four numbers, so only those are kept, each behind its place.
    fn add(&mut self, campaign_id: Uuid, position: i64, change: &Numbers) -> io::Result<()> {
        let mut key = [0; 24];
        key[..16].copy_from_slice(campaign_id.as_bytes());
        key[16..].copy_from_slice(&position.to_be_bytes());
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
        let (mut campaign_id, mut position, mut totals) = (Uuid::nil(), 0, [0; NUMBERS]);
        while let Some((key, change)) = records.next()? {
            let (campaign, at) = key.split_at(16);
            let (campaign, at) = (uuid(campaign), int(at).unwrap_or_default());
            if (campaign, at) != (campaign_id, position) && position > 0 {
                row(campaign_id, position, &totals)?;
            }
            if campaign != campaign_id {
                totals = [0; NUMBERS];
            }
            (campaign_id, position) = (campaign, at);
            for [place, number @ ..] in change.as_chunks::<9>().0 {
                let (number, place) = (i64::from_le_bytes(*number), usize::from(*place));
                // The instant is the event's own; all others are sums.
                totals[place] = if place == AS_OF { number } else { totals[place] + number };
            }
        }
        if position > 0 { row(campaign_id, position, &totals) } else { Ok(()) }
    }
}
