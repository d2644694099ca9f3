//! The read tables `pledges`, `pledge_history` and `donations`; and `unapplied_payments`, which
//! [`crate::unapplied`] writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use domain::{Campaign, Event, PledgeEvent, PledgeId, PledgeStatus};
use event_store::RecordedEvent;
use read_model::Projection;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::runner::{ProjectError, Projector};
use crate::unapplied;

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

pub(crate) type PledgeEvents<'a> = [(PledgeId, &'a PledgeEvent, &'a RecordedEvent)];

async fn insert_created(connection: &mut PgConnection, events: &PledgeEvents<'_>) -> Result<(), sqlx::Error> {
    let mut ids = Vec::new();
    let mut campaigns = Vec::new();
    let mut donors = Vec::new();
    let mut amounts = Vec::new();
    let mut currencies = Vec::new();
    let mut anonymous = Vec::new();
    let mut instants = Vec::new();
    let mut positions = Vec::new();
    for (id, event, recorded) in events {
        if let PledgeEvent::PledgeCreated { campaign_id, donor_id, amount, anonymous: nameless } = event {
            ids.push(id.0);
            campaigns.push(campaign_id.0);
            donors.push(donor_id.0);
            amounts.push(amount.amount_minor());
            currencies.push(amount.currency().code());
            anonymous.push(*nameless);
            instants.push(recorded.recorded_at);
            positions.push(recorded.position);
        }
    }
    sqlx::query(
        "insert into pledges (pledge_id, campaign_id, donor_id, status, amount_minor, currency, anonymous,
             created_at, updated_at, created_position, position)
         select id, campaign, donor, 'pending', amount, currency, anonymous, instant, instant, position, position
         from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::bool[],
                 $7::timestamptz[], $8::bigint[])
             as c (id, campaign, donor, amount, currency, anonymous, instant, position)",
    )
    .bind(ids)
    .bind(campaigns)
    .bind(donors)
    .bind(amounts)
    .bind(currencies)
    .bind(anonymous)
    .bind(instants)
    .bind(positions)
    .execute(connection)
    .await?;
    Ok(())
}

/// What the later events of a batch change in one pledge's row.
struct Change {
    status: Option<PledgeStatus>,
    amount_minor: Option<i64>,
    captured_minor: Option<i64>,
    refunded_minor: i64,
    charged_back_minor: i64,
    updated_at: DateTime<Utc>,
    position: i64,
}

impl Change {
    /// What an event says about money that pays the pledge; money held apart is no part of its row.
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
    let mut changes: BTreeMap<Uuid, Change> = BTreeMap::new();
    for (id, event, recorded) in events {
        if matches!(event, PledgeEvent::PledgeCreated { .. }) {
            continue;
        }
        let change = changes.entry(id.0).or_insert(Change {
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
    let column = |of: fn(&Change) -> Option<i64>| changes.values().map(of).collect::<Vec<_>>();
    sqlx::query(
        "update pledges p
         set status = coalesce(c.status, p.status), amount_minor = coalesce(c.amount, p.amount_minor),
             captured_minor = coalesce(c.captured, p.captured_minor),
             refunded_minor = p.refunded_minor + c.refunded,
             charged_back_minor = p.charged_back_minor + c.charged_back, updated_at = c.instant,
             position = c.position
         from unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
                 $7::timestamptz[], $8::bigint[])
             as c (id, status, amount, captured, refunded, charged_back, instant, position)
         where p.pledge_id = c.id",
    )
    .bind(changes.keys().copied().collect::<Vec<_>>())
    .bind(changes.values().map(|c| c.status.map(PledgeStatus::as_str)).collect::<Vec<_>>())
    .bind(column(|c| c.amount_minor))
    .bind(column(|c| c.captured_minor))
    .bind(column(|c| Some(c.refunded_minor)))
    .bind(column(|c| Some(c.charged_back_minor)))
    .bind(changes.values().map(|c| c.updated_at).collect::<Vec<_>>())
    .bind(changes.values().map(|c| c.position).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert_history(connection: &mut PgConnection, events: &PledgeEvents<'_>) -> Result<(), sqlx::Error> {
    let status = |event: &PledgeEvent| event.edge().map(|(_, to)| to.as_str());
    sqlx::query(
        "insert into pledge_history (pledge_id, position, event_type, status, amount_minor, recorded_at)
         select * from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::bigint[],
             $6::timestamptz[])",
    )
    .bind(events.iter().map(|(id, _, _)| id.0).collect::<Vec<_>>())
    .bind(events.iter().map(|(_, _, r)| r.position).collect::<Vec<_>>())
    .bind(events.iter().map(|(_, _, r)| r.event_type.as_str()).collect::<Vec<_>>())
    .bind(events.iter().map(|(_, event, _)| status(event)).collect::<Vec<_>>())
    .bind(events.iter().map(|(_, event, _)| history_amount(event)).collect::<Vec<_>>())
    .bind(events.iter().map(|(_, _, r)| r.recorded_at).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// The end of a pledge brings no amount of its own.
fn history_amount(event: &PledgeEvent) -> Option<i64> {
    use PledgeStatus::{Authorized, Cancelled, Captured, Completed, Expired, Failed, Pending};
    match event.edge() {
        Some((_, Completed | Failed | Expired | Cancelled)) => None,
        Some((_, Pending | Authorized | Captured)) | None => Some(event.amount().amount_minor()),
    }
}

/// A captured pledge is a donation. Whether it is anonymous stands in the pledge's row.
async fn insert_donations(
    connection: &mut PgConnection,
    events: &PledgeEvents<'_>,
) -> Result<(), sqlx::Error> {
    let mut positions = Vec::new();
    let mut ids = Vec::new();
    let mut amounts = Vec::new();
    let mut instants = Vec::new();
    for (id, event, recorded) in events {
        if let PledgeEvent::PledgeCaptured { amount, .. } = event {
            positions.push(recorded.position);
            ids.push(id.0);
            amounts.push(amount.amount_minor());
            instants.push(recorded.recorded_at);
        }
    }
    sqlx::query(
        "insert into donations (position, pledge_id, campaign_id, donor_id, amount_minor, currency,
             anonymous, captured_at)
         select c.position, p.pledge_id, p.campaign_id, p.donor_id, c.amount, p.currency, p.anonymous,
             c.instant
         from unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::timestamptz[])
             as c (position, pledge_id, amount, instant)
         join pledges p using (pledge_id)",
    )
    .bind(positions)
    .bind(ids)
    .bind(amounts)
    .bind(instants)
    .execute(connection)
    .await?;
    Ok(())
}
