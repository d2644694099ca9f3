//! The read tables `donations`, the donation wall, and `pledge_captures`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::{MoneyMove, PledgeId};
use sqlx::PgConnection;

use super::unapplied::PledgeEvents;
use crate::rows::{Rows, add_up, row};

row! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Instant {
        pledge_id: PledgeId,
        captured_at: DateTime<Utc>,
    }
}

row! {
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    struct Captured {
        captured_minor: i64,
    }
}

row! {
    #[derive(Debug, PartialEq)]
    struct Begun {
        pledge_id: PledgeId,
        position: i64,
    }
}

row! {
    struct Changed {
        pledge_id: PledgeId,
    }
}

/// What a batch does to the gift of a pledge.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Gift {
    /// One that was there before is no more.
    is_over: bool,
    /// The event since which there is one, where it is in the batch.
    begun: Option<i64>,
}

/// Changes by a batch of events.
#[derive(Debug, Default, PartialEq)]
struct Batch {
    gifts: BTreeMap<PledgeId, Gift>,
    captures: BTreeMap<Instant, Captured>,
}

impl Batch {
    fn of(events: &PledgeEvents<'_>) -> Self {
        let mut batch = Self::default();
        for (id, event, recorded) in events {
            batch.add_moves(*id, recorded.position, event.money_moves());
        }
        batch
    }

    /// Adds what the event at `position` tells of.
    fn add_moves(&mut self, pledge_id: PledgeId, position: i64, moves: &[MoneyMove]) {
        for moved in moves.iter().filter(|moved| moved.captured_minor != 0) {
            let instant = Instant { pledge_id, captured_at: moved.at };
            self.captures.entry(instant).or_default().captured_minor += moved.captured_minor;
            self.gifts.entry(pledge_id).or_default();
        }
        match moves.iter().map(|moved| moved.gifts).sum::<i64>() {
            0 => {}
            1.. => self.gifts.entry(pledge_id).or_default().begun = Some(position),
            _ => {
                self.gifts.insert(pledge_id, Gift { is_over: true, begun: None });
            }
        }
    }
}

impl Batch {
    /// The gifts that begin.
    fn begun(&self) -> Vec<Begun> {
        let begun = self.gifts.iter().filter_map(|(id, gift)| Some((*id, gift.begun?)));
        begun.map(|(pledge_id, position)| Begun { pledge_id, position }).collect()
    }
}

/// Writes the gifts of a batch. The pledges and their histories must be written before.
pub(crate) async fn write(
    connection: &mut PgConnection,
    events: &PledgeEvents<'_>,
) -> Result<(), sqlx::Error> {
    let batch = Batch::of(events);
    add_captures(connection, &batch).await?;
    delete_over(connection, &batch).await?;
    insert_begun(connection, &batch).await?;
    update_changed(connection, &batch).await
}

async fn add_captures(connection: &mut PgConnection, batch: &Batch) -> Result<(), sqlx::Error> {
    let captures = batch.captures.iter().map(|(instant, captured)| (*instant, *captured));
    let insert = "insert into pledge_captures as t ({columns}) select {columns} from {rows}
        on conflict (pledge_id, captured_at) do update set {sums}";
    let delete = "delete from pledge_captures t using {rows}
        where t.pledge_id = r.pledge_id and t.captured_at = r.captured_at and {is_zero}";
    add_up::<Captured, _>(connection, &captures.collect::<Vec<_>>(), insert, delete).await
}

async fn delete_over(connection: &mut PgConnection, batch: &Batch) -> Result<(), sqlx::Error> {
    let over = batch.gifts.iter().filter(|(_, gift)| gift.is_over);
    let rows: Vec<Changed> = over.map(|(pledge_id, _)| Changed { pledge_id: *pledge_id }).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let sql = "delete from donations d using {rows} join pledge_history h using (pledge_id)
        where d.position = h.position";
    Rows::of(&rows)?.execute(connection, sql).await
}

/// A captured pledge is a donation. Its amount, and whether it is anonymous, stand in the pledge's row.
async fn insert_begun(connection: &mut PgConnection, batch: &Batch) -> Result<(), sqlx::Error> {
    let rows = batch.begun();
    if rows.is_empty() {
        return Ok(());
    }
    // The first instant is that of all that was ever captured: a gift may end, and begin again.
    let sql = "insert into donations
            ({columns}, captured_at, campaign_id, donor_id, amount_minor, currency, anonymous)
        select r.*, c.captured_at, p.campaign_id, p.donor_id, p.captured_minor, p.currency, p.anonymous
        from {rows} join pledges p using (pledge_id)
        cross join lateral (
            select min(c.captured_at) as captured_at from pledge_captures c
            where c.pledge_id = r.pledge_id and c.captured_minor > 0
        ) c";
    Rows::of(&rows)?.execute(connection, sql).await
}

/// Gifts of pledges that had one before, and of which more or less was captured, or at another instant.
async fn update_changed(connection: &mut PgConnection, batch: &Batch) -> Result<(), sqlx::Error> {
    let changed = batch.gifts.iter().filter(|(_, gift)| gift.is_over == gift.begun.is_some());
    let rows: Vec<Changed> = changed.map(|(pledge_id, _)| Changed { pledge_id: *pledge_id }).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let sql = "update donations d set amount_minor = p.captured_minor, captured_at = c.captured_at
        from {rows} join pledges p using (pledge_id) join pledge_history h using (pledge_id)
        cross join lateral (
            select min(c.captured_at) as captured_at from pledge_captures c
            where c.pledge_id = r.pledge_id and c.captured_minor > 0
        ) c
        where d.position = h.position";
    Rows::of(&rows)?.execute(connection, sql).await
}

#[cfg(test)]
mod tests {
    use super::super::told::{PLEDGE, Told, captured, in_order, in_reverse, moved_away, noon};
    use super::*;

    /// The events stand at positions 1, 2 and so on.
    fn batch(told: &[Told]) -> Batch {
        let mut batch = Batch::default();
        for (position, (_, moves)) in (1..).zip(told) {
            batch.add_moves(PLEDGE, position, moves);
        }
        batch
    }

    fn captures(batch: &Batch) -> Vec<(DateTime<Utc>, i64)> {
        let captures = batch.captures.iter().filter(|(_, captured)| captured.captured_minor != 0);
        captures.map(|(instant, captured)| (instant.captured_at, captured.captured_minor)).collect()
    }

    #[test]
    fn a_gift_was_captured_at_the_same_instants_whatever_was_heard_first() {
        for told in [in_order(), in_reverse()] {
            let batch = batch(&told);
            assert_eq!(batch.gifts, BTreeMap::from([(PLEDGE, Gift { is_over: false, begun: Some(1) })]));
            assert_eq!(captures(&batch), [(noon(0), 2000), (noon(1), 3000)]);
            let begun = Begun { pledge_id: PLEDGE, position: 1 };
            assert_eq!(batch.begun(), [begun]);
        }
    }

    #[test]
    fn a_later_move_changes_a_gift_and_begins_none() {
        for (_, moves) in [&in_order()[1], &in_reverse()[1]] {
            let batch = batch(&[(noon(9), moves.clone())]);
            assert_eq!(batch.gifts, BTreeMap::from([(PLEDGE, Gift::default())]));
        }
        // Nothing was captured, so there is nothing to change.
        assert_eq!(batch(&[in_order()[2].clone()]), Batch::default());
    }

    #[test]
    fn a_gift_that_is_anothers_is_over_and_may_begin_anew() {
        let mut told = moved_away();
        let over = batch(&told);
        assert_eq!(over.gifts[&PLEDGE], Gift { is_over: true, begun: None });
        assert_eq!(captures(&over), []);
        told.push((noon(6), vec![captured(5, 1, 700)]));
        let again = batch(&told);
        assert_eq!(again.gifts[&PLEDGE], Gift { is_over: true, begun: Some(6) });
        assert_eq!(captures(&again), [(noon(5), 700)]);
    }
}
