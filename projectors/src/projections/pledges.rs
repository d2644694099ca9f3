//! The read tables `pledges` and `pledge_history`; `donations` and `pledge_captures`, which [`donations`]
//! writes; and `unapplied_payments`, which [`unapplied`] writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{
    Campaign, CampaignId, DonorId, Event, Money, MoneyMove, PledgeEvent, PledgeId, PledgeStatus, Rules,
};
use event_store::RecordedEvent;
use read_model::Projection;
use sqlx::PgConnection;

use super::donations;
use super::unapplied::{self, PledgeEvents};
use crate::rows::{Rows, row};
use crate::runner::{ProjectError, Projector};

#[derive(Default)]
pub(crate) struct Pledges;

#[async_trait]
impl Projector for Pledges {
    const PROJECTION: Option<Projection> = Some(Projection::Pledges);
    const VERSION: i32 = 2;

    fn needs(aggregate_type: &str, _event_type: &str) -> bool {
        aggregate_type != Campaign::TYPE
    }

    async fn fold(
        &mut self,
        connection: &mut PgConnection,
        events: &[Arc<RecordedEvent>],
    ) -> Result<(), ProjectError> {
        let events: Vec<(PledgeId, &PledgeEvent, &RecordedEvent)> = events
            .iter()
            .filter_map(|recorded| match &recorded.event {
                Event::Pledge(id, event) => Some((*id, event, recorded.as_ref())),
                Event::Campaign(..) => None,
            })
            .collect();
        if events.is_empty() {
            return Ok(());
        }
        insert_created(connection, &events).await?;
        update_changed(connection, &events).await?;
        insert_history(connection, &events).await?;
        donations::write(connection, &events).await?;
        unapplied::write(connection, &events).await?;
        Ok(())
    }
}

row! {
    struct Created {
        pledge_id: PledgeId,
        campaign_id: CampaignId,
        donor_id: DonorId,
        amount_minor: i64,
        currency: &'static str,
        anonymous: bool,
        created_at: DateTime<Utc>,
        position: i64,
    }
}

async fn insert_created(connection: &mut PgConnection, events: &PledgeEvents<'_>) -> Result<(), sqlx::Error> {
    let mut rows = Vec::new();
    for (id, event, recorded) in events {
        if let PledgeEvent::PledgeCreated { campaign_id, donor_id, amount, anonymous, .. } = event {
            rows.push(Created {
                pledge_id: *id,
                campaign_id: *campaign_id,
                donor_id: *donor_id,
                amount_minor: amount.amount_minor(),
                currency: amount.currency().code(),
                anonymous: *anonymous,
                created_at: recorded.recorded_at,
                position: recorded.position,
            });
        }
    }
    let sql = "insert into pledges ({columns}, status, updated_at, created_position)
        select {columns}, 'pending', created_at, position from {rows}";
    Rows::of(&rows)?.execute(connection, sql).await
}

row! {
    /// Changes of one pledge's row by the later events of a batch. Money held apart is no part of the row.
    #[derive(Debug, PartialEq)]
    struct Change {
        pledge_id: PledgeId,
        status: Option<PledgeStatus>,
        amount_minor: Option<i64>,
        captured_minor: i64,
        refunded_minor: i64,
        reversed_minor: i64,
        charged_back_minor: i64,
        loss_minor: i64,
        updated_at: DateTime<Utc>,
        position: i64,
    }
}

impl Change {
    fn new(pledge_id: PledgeId) -> Self {
        Self {
            pledge_id,
            status: None,
            amount_minor: None,
            captured_minor: 0,
            refunded_minor: 0,
            reversed_minor: 0,
            charged_back_minor: 0,
            loss_minor: 0,
            updated_at: DateTime::UNIX_EPOCH,
            position: 0,
        }
    }

    fn add(&mut self, event: &PledgeEvent, recorded: &RecordedEvent) {
        self.updated_at = recorded.recorded_at;
        self.position = recorded.position;
        self.status = event.edge().map(|(_, to)| to).or(self.status);
        if let PledgeEvent::PledgeAmended { amount, .. } = event {
            self.amount_minor = Some(amount.amount_minor());
        }
        self.add_moves(event.money_moves());
    }

    fn add_moves(&mut self, moves: &[MoneyMove]) {
        for moved in moves {
            self.captured_minor += moved.captured_minor;
            self.refunded_minor += moved.refunded_minor;
            self.reversed_minor += moved.reversed_minor;
            self.charged_back_minor += moved.charged_back_minor;
            self.loss_minor += moved.loss_minor;
        }
    }
}

/// One update per pledge, however many of its events are in the batch.
async fn update_changed(connection: &mut PgConnection, events: &PledgeEvents<'_>) -> Result<(), sqlx::Error> {
    let mut changes: BTreeMap<PledgeId, Change> = BTreeMap::new();
    for (id, event, recorded) in events {
        if matches!(event, PledgeEvent::PledgeCreated { .. }) {
            continue;
        }
        changes.entry(*id).or_insert_with(|| Change::new(*id)).add(event, recorded);
    }
    let sql = "update pledges p
        set status = coalesce(r.status, p.status), amount_minor = coalesce(r.amount_minor, p.amount_minor),
            captured_minor = nullif(coalesce(p.captured_minor, 0) + r.captured_minor, 0),
            refunded_minor = p.refunded_minor + r.refunded_minor,
            reversed_minor = p.reversed_minor + r.reversed_minor,
            charged_back_minor = p.charged_back_minor + r.charged_back_minor,
            loss_minor = p.loss_minor + r.loss_minor, updated_at = r.updated_at, position = r.position
        from {rows} where p.pledge_id = r.pledge_id";
    Rows::of(changes.values())?.execute(connection, sql).await
}

row! {
    struct HistoryRow<'a> {
        pledge_id: PledgeId,
        position: i64,
        event_type: &'a str,
        status: Option<PledgeStatus>,
        said: Option<&'static str>,
        amount_minor: Option<i64>,
        recorded_at: DateTime<Utc>,
    }
}

async fn insert_history(connection: &mut PgConnection, events: &PledgeEvents<'_>) -> Result<(), sqlx::Error> {
    let rows = events.iter().map(|(id, event, recorded)| HistoryRow {
        pledge_id: *id,
        position: recorded.position,
        event_type: &recorded.event_type,
        status: event.edge().map(|(_, to)| to),
        said: event.said(),
        amount_minor: history_amount(event),
        recorded_at: recorded.recorded_at,
    });
    let sql = "insert into pledge_history ({columns}) select {columns} from {rows}";
    Rows::of(&rows.collect::<Vec<_>>())?.execute(connection, sql).await
}

/// The end of a pledge brings no amount of its own.
fn history_amount(event: &PledgeEvent) -> Option<i64> {
    use PledgeStatus::{Authorized, Cancelled, Captured, Completed, Expired, Failed, Pending};
    match event.edge() {
        Some((_, Completed | Failed | Expired | Cancelled)) => None,
        Some((_, Pending | Authorized | Captured)) | None => event.amount().map(Money::amount_minor),
    }
}

#[cfg(test)]
mod tests {
    use super::super::told::{PLEDGE, Told, captured, in_order, in_reverse, moved_away};
    use super::*;

    fn change(told: &[Told]) -> Change {
        let mut change = Change::new(PLEDGE);
        told.iter().for_each(|(_, moves)| change.add_moves(moves));
        change
    }

    #[test]
    fn a_pledge_has_the_sum_of_all_moves() {
        for told in [in_order(), in_reverse()] {
            let expected = Change { captured_minor: 5000, reversed_minor: 4000, ..Change::new(PLEDGE) };
            assert_eq!(change(&told), expected);
        }
        assert_eq!(change(&moved_away()), Change::new(PLEDGE));
        let moved = MoneyMove {
            refunded_minor: 1,
            reversed_minor: 20,
            charged_back_minor: 300,
            loss_minor: 4000,
            unapplied_minor: 600_000,
            ..captured(0, 1, 1000)
        };
        let expected = Change {
            captured_minor: 2000,
            refunded_minor: 2,
            reversed_minor: 40,
            charged_back_minor: 600,
            loss_minor: 8000,
            ..Change::new(PLEDGE)
        };
        assert_eq!(change(&[(moved.at, vec![moved, moved])]), expected);
    }
}
