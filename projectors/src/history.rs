//! The read table `campaign_totals_history`: a campaign's totals after each of its events.
//!
//! It adds events up one by one, while `totals.rs` adds up batches; the two must agree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use domain::{CampaignEvent, Event, PledgeEvent, PledgeStatus};
use event_store::RecordedEvent;
use read_model::{PledgeCounts, Projection, Totals};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::runner::{ProjectError, Projector};

#[derive(Default)]
pub(crate) struct TotalsHistory;

#[async_trait]
impl Projector for TotalsHistory {
    const PROJECTION: Option<Projection> = Some(Projection::TotalsHistory);

    async fn fold(
        &mut self,
        connection: &mut PgConnection,
        events: &[Arc<RecordedEvent>],
    ) -> Result<(), ProjectError> {
        let mut running = load_last(connection, events).await?;
        let first_gifts = insert_first_gifts(connection, events).await?;
        let mut rows = Vec::with_capacity(events.len());
        for recorded in events {
            let totals = running.entry(campaign_id(recorded)).or_insert_with_key(|id| nothing_yet(*id));
            match &recorded.event {
                Event::Campaign(_, event) => add_campaign_event(totals, event),
                Event::Pledge(_, event) => add_pledge_event(totals, event),
            }
            totals.donors += i64::from(first_gifts.contains(&recorded.position));
            totals.position = recorded.position;
            totals.as_of = recorded.recorded_at;
            rows.push(totals.clone());
        }
        insert_rows(connection, &rows).await?;
        Ok(())
    }
}

fn campaign_id(recorded: &RecordedEvent) -> Uuid {
    match &recorded.event {
        Event::Campaign(id, _) => id.0,
        Event::Pledge(_, event) => event.campaign_id().0,
    }
}

fn nothing_yet(campaign_id: Uuid) -> Totals {
    Totals {
        campaign_id,
        published: false,
        currency: String::new(),
        goal_minor: 0,
        raised_minor: 0,
        refunded_minor: 0,
        charged_back_minor: 0,
        unapplied_minor: 0,
        donors: 0,
        pledges: PledgeCounts::default(),
        position: 0,
        as_of: chrono::DateTime::UNIX_EPOCH,
    }
}

fn add_campaign_event(totals: &mut Totals, event: &CampaignEvent) {
    match event {
        CampaignEvent::CampaignCreated(details) | CampaignEvent::CampaignEdited(details) => {
            details.goal.currency().code().clone_into(&mut totals.currency);
            totals.goal_minor = details.goal.amount_minor();
        }
        CampaignEvent::CampaignPublished {} => totals.published = true,
        CampaignEvent::CampaignClosed {} => {}
    }
}

fn add_pledge_event(totals: &mut Totals, event: &PledgeEvent) {
    if let Some((from, to)) = event.edge() {
        if let Some(from) = from {
            *count(&mut totals.pledges, from) -= 1;
        }
        *count(&mut totals.pledges, to) += 1;
    }
    if let Some(moved) = event.money_move() {
        totals.raised_minor += moved.raised_minor();
        totals.refunded_minor += moved.refunded_minor;
        totals.charged_back_minor += moved.charged_back_minor;
        totals.unapplied_minor += moved.unapplied_minor;
    }
}

fn count(counts: &mut PledgeCounts, status: PledgeStatus) -> &mut i64 {
    match status {
        PledgeStatus::Pending => &mut counts.pending,
        PledgeStatus::Authorized => &mut counts.authorized,
        PledgeStatus::Captured => &mut counts.captured,
        PledgeStatus::Completed => &mut counts.completed,
        PledgeStatus::Failed => &mut counts.failed,
        PledgeStatus::Expired => &mut counts.expired,
        PledgeStatus::Cancelled => &mut counts.cancelled,
    }
}

/// The last rows of the campaigns in a batch.
async fn load_last(
    connection: &mut PgConnection,
    events: &[Arc<RecordedEvent>],
) -> Result<BTreeMap<Uuid, Totals>, sqlx::Error> {
    let ids: BTreeSet<Uuid> = events.iter().map(|recorded| campaign_id(recorded)).collect();
    let last: Vec<Totals> = sqlx::query_as(
        "select h.* from unnest($1::uuid[]) as c (id)
         cross join lateral (
             select * from campaign_totals_history h where h.campaign_id = c.id order by h.position desc limit 1
         ) h",
    )
    .bind(ids.into_iter().collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    Ok(last.into_iter().map(|totals| (totals.campaign_id, totals)).collect())
}

/// Remembers the captures that are a donor's first for a campaign, and returns their positions.
async fn insert_first_gifts(
    connection: &mut PgConnection,
    events: &[Arc<RecordedEvent>],
) -> Result<BTreeSet<i64>, sqlx::Error> {
    let mut firsts: BTreeMap<(Uuid, Uuid), i64> = BTreeMap::new();
    for recorded in events {
        if let Event::Pledge(_, PledgeEvent::PledgeCaptured { campaign_id, donor_id, .. }) = &recorded.event {
            firsts.entry((campaign_id.0, donor_id.0)).or_insert(recorded.position);
        }
    }
    if firsts.is_empty() {
        return Ok(BTreeSet::new());
    }
    let (campaigns, donors): (Vec<Uuid>, Vec<Uuid>) = firsts.keys().copied().unzip();
    let positions: Vec<i64> = sqlx::query_scalar(
        "insert into campaign_first_gifts (campaign_id, donor_id, position)
         select * from unnest($1::uuid[], $2::uuid[], $3::bigint[])
         on conflict (campaign_id, donor_id) do nothing
         returning position",
    )
    .bind(campaigns)
    .bind(donors)
    .bind(firsts.into_values().collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    Ok(positions.into_iter().collect())
}

async fn insert_rows(connection: &mut PgConnection, rows: &[Totals]) -> Result<(), sqlx::Error> {
    let column = |of: fn(&Totals) -> i64| rows.iter().map(of).collect::<Vec<_>>();
    sqlx::query(
        "insert into campaign_totals_history (campaign_id, position, as_of, published, currency, goal_minor,
             raised_minor, refunded_minor, charged_back_minor, unapplied_minor, donors, pending, authorized,
             captured, completed, failed, expired, cancelled)
         select * from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::bool[], $5::text[],
             $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[],
             $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[],
             $18::bigint[])",
    )
    .bind(rows.iter().map(|row| row.campaign_id).collect::<Vec<_>>())
    .bind(column(|row| row.position))
    .bind(rows.iter().map(|row| row.as_of).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.published).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.currency.as_str()).collect::<Vec<_>>())
    .bind(column(|row| row.goal_minor))
    .bind(column(|row| row.raised_minor))
    .bind(column(|row| row.refunded_minor))
    .bind(column(|row| row.charged_back_minor))
    .bind(column(|row| row.unapplied_minor))
    .bind(column(|row| row.donors))
    .bind(column(|row| row.pledges.pending))
    .bind(column(|row| row.pledges.authorized))
    .bind(column(|row| row.pledges.captured))
    .bind(column(|row| row.pledges.completed))
    .bind(column(|row| row.pledges.failed))
    .bind(column(|row| row.pledges.expired))
    .bind(column(|row| row.pledges.cancelled))
    .execute(connection)
    .await?;
    Ok(())
}
