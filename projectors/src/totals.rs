//! The read tables `campaign_totals` and `campaign_donors`, and their mirror in Redis.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{CampaignEvent, Event, MoneyMove, PledgeEvent, PledgeStatus};
use event_store::RecordedEvent;
use read_model::{Projection, Totals};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::mirror::Mirror;
use crate::runner::{Held, ProjectError, Projector};

#[derive(Default)]
pub(crate) struct CampaignTotals {
    /// Where the rows are mirrored to; nowhere while the tables are being rebuilt.
    mirror: Option<Mirror>,
    /// What the last fold changed, until it is committed.
    changed: Vec<Totals>,
}

impl CampaignTotals {
    pub(crate) fn mirrored(mirror: Mirror) -> Self {
        Self { mirror: Some(mirror), changed: Vec::new() }
    }
}

#[async_trait]
impl Projector for CampaignTotals {
    const PROJECTION: Option<Projection> = Some(Projection::CampaignTotals);
    /// Donors watch these.
    const GATHER: Duration = Duration::from_millis(8);

    fn lease_taken(&mut self, held: Held) {
        if let Some(mirror) = &self.mirror {
            mirror.lead(held);
        }
    }

    fn lease_lost(&mut self) {
        if let Some(mirror) = &self.mirror {
            mirror.follow();
        }
    }

    async fn fold(
        &mut self,
        connection: &mut PgConnection,
        events: &[Arc<RecordedEvent>],
    ) -> Result<(), ProjectError> {
        let batch = Batch::of(events);
        write_goals(connection, &batch).await?;
        let new_donors = add_captures(connection, &batch).await?;
        add_returns(connection, &batch).await?;
        self.changed = add_deltas(connection, &batch, &new_donors).await?;
        Ok(())
    }

    fn committed(&mut self, position: i64) {
        if let Some(mirror) = &self.mirror {
            mirror.write(std::mem::take(&mut self.changed), position);
        }
    }
}

/// What a batch of events changes, summed up per campaign.
#[derive(Default)]
struct Batch {
    goals: BTreeMap<Uuid, Goal>,
    published: BTreeSet<Uuid>,
    deltas: BTreeMap<Uuid, Delta>,
    /// What was captured, per campaign and donor.
    captures: BTreeMap<(Uuid, Uuid), Captured>,
    /// What went back of captured money, per campaign and donor.
    returns: BTreeMap<(Uuid, Uuid), Returned>,
}

struct Captured {
    pledges: i64,
    amount_minor: i64,
    first_at: DateTime<Utc>,
    last_at: DateTime<Utc>,
}

#[derive(Default)]
struct Returned {
    refunded_minor: i64,
    charged_back_minor: i64,
}

struct Goal {
    currency: &'static str,
    goal_minor: i64,
}

#[derive(Default)]
struct Delta {
    raised_minor: i64,
    refunded_minor: i64,
    charged_back_minor: i64,
    unapplied_minor: i64,
    /// In the order of [`PledgeStatus::ALL`].
    pledges: [i64; PledgeStatus::ALL.len()],
    position: i64,
    as_of: DateTime<Utc>,
}

impl Batch {
    fn of(events: &[Arc<RecordedEvent>]) -> Self {
        let mut batch = Self::default();
        for recorded in events {
            let campaign_id = match &recorded.event {
                Event::Campaign(id, event) => {
                    batch.add_campaign_event(id.0, event);
                    id.0
                }
                Event::Pledge(_, event) => {
                    batch.add_pledge_event(event, recorded.recorded_at);
                    event.campaign_id().0
                }
            };
            let delta = batch.deltas.entry(campaign_id).or_default();
            delta.position = recorded.position;
            delta.as_of = recorded.recorded_at;
        }
        batch
    }

    fn add_campaign_event(&mut self, campaign_id: Uuid, event: &CampaignEvent) {
        match event {
            CampaignEvent::CampaignCreated(details) | CampaignEvent::CampaignEdited(details) => {
                let goal = Goal {
                    currency: details.goal.currency().code(),
                    goal_minor: details.goal.amount_minor(),
                };
                self.goals.insert(campaign_id, goal);
            }
            CampaignEvent::CampaignPublished {} => {
                self.published.insert(campaign_id);
            }
            CampaignEvent::CampaignClosed {} => {}
        }
    }

    fn add_pledge_event(&mut self, event: &PledgeEvent, at: DateTime<Utc>) {
        let campaign_id = event.campaign_id().0;
        let delta = self.deltas.entry(campaign_id).or_default();
        if let Some((from, to)) = event.edge() {
            if let Some(from) = from {
                delta.pledges[from as usize] -= 1;
            }
            delta.pledges[to as usize] += 1;
        }
        let Some(moved) = event.money_move() else { return };
        delta.raised_minor += moved.raised_minor();
        delta.refunded_minor += moved.refunded_minor;
        delta.charged_back_minor += moved.charged_back_minor;
        delta.unapplied_minor += moved.unapplied_minor;
        if let Some(donor_id) = event.donor_id() {
            self.add_to_donor((campaign_id, donor_id.0), &moved, at);
        }
    }

    fn add_to_donor(&mut self, donor: (Uuid, Uuid), moved: &MoneyMove, at: DateTime<Utc>) {
        if moved.captured_minor != 0 {
            let new = Captured { pledges: 0, amount_minor: 0, first_at: at, last_at: at };
            let captured = self.captures.entry(donor).or_insert(new);
            captured.pledges += 1;
            captured.amount_minor += moved.captured_minor;
            captured.last_at = at;
        }
        if moved.refunded_minor != 0 || moved.charged_back_minor != 0 {
            let returned = self.returns.entry(donor).or_default();
            returned.refunded_minor += moved.refunded_minor;
            returned.charged_back_minor += moved.charged_back_minor;
        }
    }
}

async fn write_goals(connection: &mut PgConnection, batch: &Batch) -> Result<(), sqlx::Error> {
    if batch.goals.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into campaign_totals (campaign_id, currency, goal_minor, position, as_of)
         select id, currency, goal_minor, 0, 'epoch'
         from unnest($1::uuid[], $2::text[], $3::bigint[]) as g (id, currency, goal_minor)
         on conflict (campaign_id)
             do update set currency = excluded.currency, goal_minor = excluded.goal_minor",
    )
    .bind(batch.goals.keys().copied().collect::<Vec<_>>())
    .bind(batch.goals.values().map(|goal| goal.currency).collect::<Vec<_>>())
    .bind(batch.goals.values().map(|goal| goal.goal_minor).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds up captures per donor, and says how many donors of each campaign are new.
async fn add_captures(
    connection: &mut PgConnection,
    batch: &Batch,
) -> Result<BTreeMap<Uuid, i64>, sqlx::Error> {
    if batch.captures.is_empty() {
        return Ok(BTreeMap::new());
    }
    let (campaigns, donors): (Vec<Uuid>, Vec<Uuid>) = batch.captures.keys().copied().unzip();
    // A row that was not there before has just these captures.
    let new: Vec<(Uuid, i64)> = sqlx::query_as(
        "with counted as (
             insert into campaign_donors as d (campaign_id, donor_id, captured_pledges, captured_minor,
                 first_captured_at, last_captured_at)
             select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::timestamptz[],
                 $6::timestamptz[])
             on conflict (campaign_id, donor_id)
                 do update set captured_pledges = d.captured_pledges + excluded.captured_pledges,
                     captured_minor = d.captured_minor + excluded.captured_minor,
                     last_captured_at = excluded.last_captured_at
             returning campaign_id, xmax = 0 as is_new
         )
         select campaign_id, count(*) from counted where is_new group by campaign_id",
    )
    .bind(campaigns)
    .bind(donors)
    .bind(batch.captures.values().map(|c| c.pledges).collect::<Vec<_>>())
    .bind(batch.captures.values().map(|c| c.amount_minor).collect::<Vec<_>>())
    .bind(batch.captures.values().map(|c| c.first_at).collect::<Vec<_>>())
    .bind(batch.captures.values().map(|c| c.last_at).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    Ok(new.into_iter().collect())
}

/// Subtracts what went back to donors; it was captured before, so their rows are there.
async fn add_returns(connection: &mut PgConnection, batch: &Batch) -> Result<(), sqlx::Error> {
    if batch.returns.is_empty() {
        return Ok(());
    }
    let (campaigns, donors): (Vec<Uuid>, Vec<Uuid>) = batch.returns.keys().copied().unzip();
    sqlx::query(
        "update campaign_donors d
         set refunded_minor = d.refunded_minor + r.refunded_minor,
             charged_back_minor = d.charged_back_minor + r.charged_back_minor
         from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[])
             as r (campaign_id, donor_id, refunded_minor, charged_back_minor)
         where d.campaign_id = r.campaign_id and d.donor_id = r.donor_id",
    )
    .bind(campaigns)
    .bind(donors)
    .bind(batch.returns.values().map(|r| r.refunded_minor).collect::<Vec<_>>())
    .bind(batch.returns.values().map(|r| r.charged_back_minor).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds the sums to the rows and returns the rows as they are now.
async fn add_deltas(
    connection: &mut PgConnection,
    batch: &Batch,
    new_donors: &BTreeMap<Uuid, i64>,
) -> Result<Vec<Totals>, sqlx::Error> {
    let ids: Vec<Uuid> = batch.deltas.keys().copied().collect();
    let column = |of: &dyn Fn(&Delta) -> i64| batch.deltas.values().map(of).collect::<Vec<_>>();
    let count = |status: PledgeStatus| column(&|delta| delta.pledges[status as usize]);
    sqlx::query_as(
        "update campaign_totals t
         set raised_minor = t.raised_minor + d.raised_minor,
             refunded_minor = t.refunded_minor + d.refunded_minor,
             charged_back_minor = t.charged_back_minor + d.charged_back_minor,
             unapplied_minor = t.unapplied_minor + d.unapplied_minor,
             donors = t.donors + d.donors, pending = t.pending + d.pending,
             authorized = t.authorized + d.authorized, captured = t.captured + d.captured,
             completed = t.completed + d.completed, failed = t.failed + d.failed,
             expired = t.expired + d.expired, cancelled = t.cancelled + d.cancelled,
             published = t.published or d.published, position = d.position, as_of = d.as_of
         from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
                 $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[],
                 $13::bigint[], $14::bigint[], $15::timestamptz[], $16::bool[])
             as d (campaign_id, raised_minor, refunded_minor, charged_back_minor, unapplied_minor, donors,
                 pending, authorized, captured, completed, failed, expired, cancelled, position, as_of,
                 published)
         where t.campaign_id = d.campaign_id
         returning t.*",
    )
    .bind(&ids)
    .bind(column(&|delta| delta.raised_minor))
    .bind(column(&|delta| delta.refunded_minor))
    .bind(column(&|delta| delta.charged_back_minor))
    .bind(column(&|delta| delta.unapplied_minor))
    .bind(ids.iter().map(|id| new_donors.get(id).copied().unwrap_or(0)).collect::<Vec<_>>())
    .bind(count(PledgeStatus::Pending))
    .bind(count(PledgeStatus::Authorized))
    .bind(count(PledgeStatus::Captured))
    .bind(count(PledgeStatus::Completed))
    .bind(count(PledgeStatus::Failed))
    .bind(count(PledgeStatus::Expired))
    .bind(count(PledgeStatus::Cancelled))
    .bind(column(&|delta| delta.position))
    .bind(batch.deltas.values().map(|delta| delta.as_of).collect::<Vec<_>>())
    .bind(ids.iter().map(|id| batch.published.contains(id)).collect::<Vec<_>>())
    .fetch_all(connection)
    .await
}
