//! The read table `campaign_totals_history`: a campaign's totals after each of its events.
//!
//! It adds events up one by one, while `totals.rs` adds up batches; the two must agree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use domain::{CampaignEvent, CampaignId, DonorId, Event, PledgeEvent};
use event_store::RecordedEvent;
use read_model::{PledgeCounts, Projection, Totals};
use sqlx::PgConnection;
use uuid::Uuid;

use super::totals::count;
use crate::rows::{Rows, row};
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
        let sql = "insert into campaign_totals_history ({columns}) select {columns} from {rows}";
        Rows::of(&rows)?.execute(connection, sql).await?;
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

row! {
    struct FirstGift {
        campaign_id: CampaignId,
        donor_id: DonorId,
        position: i64,
    }
}

/// Remembers the captures that are a donor's first for a campaign, and returns their positions.
async fn insert_first_gifts(
    connection: &mut PgConnection,
    events: &[Arc<RecordedEvent>],
) -> Result<BTreeSet<i64>, sqlx::Error> {
    let mut firsts: BTreeMap<(CampaignId, DonorId), FirstGift> = BTreeMap::new();
    for recorded in events {
        if let Event::Pledge(_, PledgeEvent::PledgeCaptured { campaign_id, donor_id, .. }) = &recorded.event {
            let (campaign_id, donor_id, position) = (*campaign_id, *donor_id, recorded.position);
            let first = FirstGift { campaign_id, donor_id, position };
            firsts.entry((campaign_id, donor_id)).or_insert(first);
        }
    }
    if firsts.is_empty() {
        return Ok(BTreeSet::new());
    }
    let sql = "insert into campaign_first_gifts ({columns}) select {columns} from {rows}
        on conflict (campaign_id, donor_id) do nothing
        returning position";
    let positions: Vec<(i64,)> = Rows::of(firsts.values())?.fetch(connection, sql).await?;
    Ok(positions.into_iter().map(|(position,)| position).collect())
}
