//! The read tables `campaign_totals` and `campaign_donors`, and their mirror in Redis.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{CampaignEvent, DonorId, Event, MoneyMove, PledgeEvent, PledgeStatus};
use event_store::RecordedEvent;
use read_model::{PledgeCounts, Projection, Totals};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::mirror::Mirror;
use crate::rows::{Rows, row};
use crate::runner::{Held, ProjectError, Projector};

#[derive(Default)]
pub(crate) struct CampaignTotals {
    /// Where the rows are mirrored to; nowhere while the tables are being rebuilt.
    mirror: Option<Mirror>,
    /// Rows that the last fold changed, until it is committed.
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
        let mut batch = Batch::of(events);
        write_goals(connection, &batch).await?;
        add_captures(connection, &mut batch).await?;
        add_returns(connection, &mut batch).await?;
        self.changed = add_deltas(connection, &batch).await?;
        Ok(())
    }

    fn committed(&mut self, position: i64) {
        if let Some(mirror) = &self.mirror {
            mirror.write(std::mem::take(&mut self.changed), position);
        }
    }
}

/// Changes by a batch of events, summed up per campaign.
#[derive(Default)]
struct Batch {
    goals: BTreeMap<Uuid, Goal>,
    deltas: BTreeMap<Uuid, Delta>,
    /// Captured money, per campaign and donor.
    captures: BTreeMap<Donor, Captured>,
    /// Captured money that went back, per campaign and donor.
    returns: BTreeMap<Donor, Returned>,
}

row! {
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    struct Donor {
        campaign_id: Uuid,
        donor_id: DonorId,
    }
}

row! {
    struct Captured {
        captured_pledges: i64,
        captured_minor: i64,
        first_captured_at: DateTime<Utc>,
        last_captured_at: DateTime<Utc>,
    }
}

row! {
    #[derive(Default)]
    struct Returned {
        refunded_minor: i64,
        charged_back_minor: i64,
    }
}

row! {
    struct Goal {
        campaign_id: Uuid,
        currency: &'static str,
        goal_minor: i64,
    }
}

row! {
    struct Delta {
        campaign_id: Uuid,
        figures: Figures,
        published: bool,
        position: i64,
        as_of: DateTime<Utc>,
    }
}

row! {
    #[derive(Default)]
    struct Figures {
        raised_minor: i64,
        refunded_minor: i64,
        charged_back_minor: i64,
        unapplied_minor: i64,
        donors: i64,
        pledges: PledgeCounts,
    }
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
            let delta = batch.delta(campaign_id);
            delta.position = recorded.position;
            delta.as_of = recorded.recorded_at;
        }
        batch
    }

    fn delta(&mut self, campaign_id: Uuid) -> &mut Delta {
        self.deltas.entry(campaign_id).or_insert(Delta {
            campaign_id,
            figures: Figures::default(),
            published: false,
            position: 0,
            as_of: DateTime::UNIX_EPOCH,
        })
    }

    fn add_campaign_event(&mut self, campaign_id: Uuid, event: &CampaignEvent) {
        match event {
            CampaignEvent::CampaignCreated(details) | CampaignEvent::CampaignEdited(details) => {
                let goal = Goal {
                    campaign_id,
                    currency: details.goal.currency().code(),
                    goal_minor: details.goal.amount_minor(),
                };
                self.goals.insert(campaign_id, goal);
            }
            CampaignEvent::CampaignPublished {} => {
                self.delta(campaign_id).published = true;
            }
            CampaignEvent::CampaignClosed {} => {}
        }
    }

    fn add_pledge_event(&mut self, event: &PledgeEvent, at: DateTime<Utc>) {
        let campaign_id = event.campaign_id().0;
        let figures = &mut self.delta(campaign_id).figures;
        if let Some((from, to)) = event.edge() {
            if let Some(from) = from {
                *count(&mut figures.pledges, from) -= 1;
            }
            *count(&mut figures.pledges, to) += 1;
        }
        let Some(moved) = event.money_move() else { return };
        figures.raised_minor += moved.raised_minor();
        figures.refunded_minor += moved.refunded_minor;
        figures.charged_back_minor += moved.charged_back_minor;
        figures.unapplied_minor += moved.unapplied_minor;
        if let Some(donor_id) = event.donor_id() {
            self.add_to_donor(Donor { campaign_id, donor_id }, &moved, at);
        }
    }

    fn add_to_donor(&mut self, donor: Donor, moved: &MoneyMove, at: DateTime<Utc>) {
        if moved.captured_minor != 0 {
            let captured = self.captures.entry(donor).or_insert(Captured {
                captured_pledges: 0,
                captured_minor: 0,
                first_captured_at: at,
                last_captured_at: at,
            });
            captured.captured_pledges += 1;
            captured.captured_minor += moved.captured_minor;
            captured.last_captured_at = at;
        }
        if moved.refunded_minor != 0 || moved.charged_back_minor != 0 {
            let returned = self.returns.entry(donor).or_default();
            returned.refunded_minor += moved.refunded_minor;
            returned.charged_back_minor += moved.charged_back_minor;
        }
    }
}

/// The number of pledges in a state.
pub(crate) fn count(counts: &mut PledgeCounts, status: PledgeStatus) -> &mut i64 {
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

async fn write_goals(connection: &mut PgConnection, batch: &Batch) -> Result<(), sqlx::Error> {
    if batch.goals.is_empty() {
        return Ok(());
    }
    let sql = "insert into campaign_totals ({columns}, position, as_of)
        select {columns}, 0, 'epoch' from {rows}
        on conflict (campaign_id)
            do update set currency = excluded.currency, goal_minor = excluded.goal_minor";
    Rows::of(batch.goals.values())?.execute(connection, sql).await
}

/// Adds up captures per donor, and counts the donors that are new to their campaigns.
async fn add_captures(connection: &mut PgConnection, batch: &mut Batch) -> Result<(), sqlx::Error> {
    if batch.captures.is_empty() {
        return Ok(());
    }
    let rows: Vec<(Donor, Captured)> = std::mem::take(&mut batch.captures).into_iter().collect();
    // A row that was not there before has just these captures.
    let sql = "with counted as (
            insert into campaign_donors as d ({columns}) select {columns} from {rows}
            on conflict (campaign_id, donor_id)
                do update set captured_pledges = d.captured_pledges + excluded.captured_pledges,
                    captured_minor = d.captured_minor + excluded.captured_minor,
                    last_captured_at = excluded.last_captured_at
            returning campaign_id, xmax = 0 as is_new
        )
        select campaign_id, count(*) from counted where is_new group by campaign_id";
    let new: Vec<(Uuid, i64)> = Rows::of(&rows)?.fetch(connection, sql).await?;
    for (campaign_id, donors) in new {
        batch.delta(campaign_id).figures.donors = donors;
    }
    Ok(())
}

/// Subtracts what went back to donors; it was captured before, so their rows are there.
async fn add_returns(connection: &mut PgConnection, batch: &mut Batch) -> Result<(), sqlx::Error> {
    if batch.returns.is_empty() {
        return Ok(());
    }
    let rows: Vec<(Donor, Returned)> = std::mem::take(&mut batch.returns).into_iter().collect();
    let sql = "update campaign_donors t set {sums} from {rows}
        where t.campaign_id = r.campaign_id and t.donor_id = r.donor_id";
    Rows::of(&rows)?.with_sums::<Returned>("r").execute(connection, sql).await
}

/// Adds the sums to the rows and returns the rows as they are now.
async fn add_deltas(connection: &mut PgConnection, batch: &Batch) -> Result<Vec<Totals>, sqlx::Error> {
    let sql = "update campaign_totals t
        set {sums}, published = t.published or r.published, position = r.position, as_of = r.as_of
        from {rows} where t.campaign_id = r.campaign_id
        returning t.*";
    Rows::of(batch.deltas.values())?.with_sums::<Figures>("r").fetch(connection, sql).await
}
