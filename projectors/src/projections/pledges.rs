//! The read tables `pledges`, `pledge_history` and `donations`; and `unapplied_payments`, which
//! [`unapplied`] writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{Campaign, CampaignId, DonorId, Event, PledgeEvent, PledgeId, PledgeStatus, Rules};
use event_store::RecordedEvent;
use read_model::Projection;
use sqlx::PgConnection;

use super::unapplied::{self, PledgeEvents};
use crate::rows::{Rows, row};
use crate::runner::{ProjectError, Projector};

#[derive(Default)]
pub(crate) struct Pledges;

#[async_trait]
impl Projector for Pledges {
    const PROJECTION: Option<Projection> = Some(Projection::Pledges);

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
        insert_donations(connection, &events).await?;
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
        if let PledgeEvent::PledgeCreated { campaign_id, donor_id, amount, anonymous } = event {
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
    /// Changes of one pledge's row by the later events of a batch.
    struct Change {
        pledge_id: PledgeId,
        status: Option<PledgeStatus>,
        amount_minor: Option<i64>,
        captured_minor: Option<i64>,
        refunded_minor: i64,
        charged_back_minor: i64,
        updated_at: DateTime<Utc>,
        position: i64,
    }
}

impl Change {
    /// Adds money that pays the pledge; money held apart is no part of its row.
    fn add_money(&mut self, event: &PledgeEvent) {
        if let PledgeEvent::PledgeAmended { amount, .. } = event {
            self.amount_minor = Some(amount.amount_minor());
        }
        if let Some(moved) = event.money_move() {
            if moved.captured_minor != 0 {
                self.captured_minor = Some(moved.captured_minor);
            }
            self.refunded_minor += moved.refunded_minor;
            self.charged_back_minor += moved.charged_back_minor;
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
        let change = changes.entry(*id).or_insert(Change {
            pledge_id: *id,
            status: None,
            amount_minor: None,
            captured_minor: None,
            refunded_minor: 0,
            charged_back_minor: 0,
            updated_at: recorded.recorded_at,
            position: recorded.position,
        });
        change.updated_at = recorded.recorded_at;
        change.position = recorded.position;
        change.status = event.edge().map(|(_, to)| to).or(change.status);
        change.add_money(event);
    }
    let sql = "update pledges p
        set status = coalesce(r.status, p.status), amount_minor = coalesce(r.amount_minor, p.amount_minor),
            captured_minor = coalesce(r.captured_minor, p.captured_minor),
            refunded_minor = p.refunded_minor + r.refunded_minor,
            charged_back_minor = p.charged_back_minor + r.charged_back_minor, updated_at = r.updated_at,
            position = r.position
        from {rows} where p.pledge_id = r.pledge_id";
    Rows::of(changes.values())?.execute(connection, sql).await
}

row! {
    struct HistoryRow<'a> {
        pledge_id: PledgeId,
        position: i64,
        event_type: &'a str,
        status: Option<PledgeStatus>,
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
        Some((_, Pending | Authorized | Captured)) | None => Some(event.amount().amount_minor()),
    }
}

row! {
    struct Capture {
        position: i64,
        pledge_id: PledgeId,
        amount_minor: i64,
        captured_at: DateTime<Utc>,
    }
}

/// A captured pledge is a donation. Whether it is anonymous stands in the pledge's row.
async fn insert_donations(
    connection: &mut PgConnection,
    events: &PledgeEvents<'_>,
) -> Result<(), sqlx::Error> {
    let mut rows = Vec::new();
    for (id, event, recorded) in events {
        if let PledgeEvent::PledgeCaptured { amount, .. } = event {
            rows.push(Capture {
                position: recorded.position,
                pledge_id: *id,
                amount_minor: amount.amount_minor(),
                captured_at: recorded.recorded_at,
            });
        }
    }
    let sql = "insert into donations ({columns}, campaign_id, donor_id, currency, anonymous)
        select r.*, p.campaign_id, p.donor_id, p.currency, p.anonymous
        from {rows} join pledges p using (pledge_id)";
    Rows::of(&rows)?.execute(connection, sql).await
}
