//! The read tables `campaign_totals`, `campaign_donors` and `campaign_captures`, and the mirror of totals in
//! Redis.

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
    const VERSION: i32 = 2;
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
        if add_captures(connection, &batch).await? || batch.takes_from_donors() {
            add_to_donors(connection, &mut batch).await?;
        } else {
            add_gifts(connection, &mut batch).await?;
            add_returns(connection, &batch).await?;
        }
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
#[derive(Debug, Default)]
struct Batch {
    goals: BTreeMap<Uuid, Goal>,
    deltas: BTreeMap<Uuid, Delta>,
    /// Captured money and what went back of it, per campaign and donor.
    donors: BTreeMap<Donor, Given>,
    /// Captured money, per campaign, donor and instant.
    captures: BTreeMap<Instant, Captured>,
}

row! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Donor {
        campaign_id: Uuid,
        donor_id: DonorId,
    }
}

row! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Instant {
        donor: Donor,
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
    #[derive(Debug, Default, PartialEq)]
    struct Given {
        captured_pledges: i64,
        captured_minor: i64,
        returned: Returned,
    }
}

row! {
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    struct Returned {
        refunded_minor: i64,
        reversed_minor: i64,
        charged_back_minor: i64,
    }
}

row! {
    /// What a donor's captures add, from the first to the last of them.
    #[derive(Debug, PartialEq)]
    struct Gifts {
        captured_pledges: i64,
        captured_minor: i64,
        first_captured_at: DateTime<Utc>,
        last_captured_at: DateTime<Utc>,
    }
}

row! {
    #[derive(Debug)]
    struct Goal {
        campaign_id: Uuid,
        currency: &'static str,
        goal_minor: i64,
    }
}

row! {
    #[derive(Debug)]
    struct Delta {
        campaign_id: Uuid,
        figures: Figures,
        published: bool,
        position: i64,
        as_of: DateTime<Utc>,
    }
}

row! {
    #[derive(Debug, Default, PartialEq)]
    struct Figures {
        raised_minor: i64,
        refunded_minor: i64,
        reversed_minor: i64,
        charged_back_minor: i64,
        loss_minor: i64,
        in_dispute_minor: i64,
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
                    batch.add_pledge_event(event);
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

    fn add_pledge_event(&mut self, event: &PledgeEvent) {
        let campaign_id = event.campaign_id().0;
        let figures = &mut self.delta(campaign_id).figures;
        if let Some((from, to)) = event.edge() {
            if let Some(from) = from {
                *count(&mut figures.pledges, from) -= 1;
            }
            *count(&mut figures.pledges, to) += 1;
        }
        let donor = event.donor_id().map(|donor_id| Donor { campaign_id, donor_id });
        self.add_moves(campaign_id, donor, event.money_moves());
    }

    fn add_moves(&mut self, campaign_id: Uuid, donor: Option<Donor>, moves: &[MoneyMove]) {
        for moved in moves {
            self.delta(campaign_id).figures.add(moved);
            if let Some(donor) = donor {
                self.add_to_donor(donor, moved);
            }
        }
    }

    fn add_to_donor(&mut self, donor: Donor, moved: &MoneyMove) {
        let change = Given::by(moved);
        if change == Given::default() {
            return;
        }
        self.donors.entry(donor).or_default().add(&change);
        if moved.captured_minor != 0 {
            let instant = Instant { donor, captured_at: moved.at };
            self.captures.entry(instant).or_default().captured_minor += moved.captured_minor;
        }
    }
}

impl Batch {
    /// Whether a donor may have captured less than before, or fewer pledges, or the same at other instants.
    fn takes_from_donors(&self) -> bool {
        let is_new = |donor: &Donor| self.donors.get(donor).is_some_and(|given| given.captured_pledges > 0);
        let moves_on = self
            .captures
            .iter()
            .any(|(instant, captured)| captured.captured_minor <= 0 || !is_new(&instant.donor));
        moves_on || self.donors.values().any(|given| given.captured_pledges < 0 || given.captured_minor < 0)
    }

    /// Per donor, if nothing is taken from any.
    fn gifts(&self) -> BTreeMap<Donor, Gifts> {
        let mut gifts: BTreeMap<Donor, Gifts> = BTreeMap::new();
        for (Instant { donor, captured_at }, captured) in &self.captures {
            let (Some(given), 1..) = (self.donors.get(donor), captured.captured_minor) else { continue };
            let new = Gifts {
                captured_pledges: given.captured_pledges,
                captured_minor: given.captured_minor,
                first_captured_at: *captured_at,
                last_captured_at: *captured_at,
            };
            // Instants come in their order.
            gifts.entry(*donor).or_insert(new).last_captured_at = *captured_at;
        }
        gifts
    }
}

impl Figures {
    fn add(&mut self, moved: &MoneyMove) {
        self.raised_minor += moved.raised_minor();
        self.refunded_minor += moved.refunded_minor;
        self.reversed_minor += moved.reversed_minor;
        self.charged_back_minor += moved.charged_back_minor;
        self.loss_minor += moved.loss_minor;
        self.in_dispute_minor += moved.in_dispute_minor;
        self.unapplied_minor += moved.unapplied_minor;
    }
}

impl Given {
    fn by(moved: &MoneyMove) -> Self {
        Self {
            captured_pledges: moved.gifts,
            captured_minor: moved.captured_minor,
            returned: Returned {
                refunded_minor: moved.refunded_minor,
                reversed_minor: moved.reversed_minor,
                charged_back_minor: moved.charged_back_minor,
            },
        }
    }

    fn add(&mut self, other: &Self) {
        self.captured_pledges += other.captured_pledges;
        self.captured_minor += other.captured_minor;
        self.returned.refunded_minor += other.returned.refunded_minor;
        self.returned.reversed_minor += other.returned.reversed_minor;
        self.returned.charged_back_minor += other.returned.charged_back_minor;
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

/// Adds up captures per donor and instant. Returns whether nothing, or less than that, is captured now at any
/// of these instants.
async fn add_captures(connection: &mut PgConnection, batch: &Batch) -> Result<bool, sqlx::Error> {
    if batch.captures.is_empty() {
        return Ok(false);
    }
    let captures = batch.captures.iter().map(|(instant, captured)| (*instant, *captured));
    let rows: Vec<(Instant, Captured)> = captures.collect();
    let sql = "with added as (
            insert into campaign_captures as t ({columns}) select {columns} from {rows}
            on conflict (campaign_id, donor_id, captured_at) do update set {sums}
            returning captured_minor
        )
        select bool_or(captured_minor <= 0) from added";
    let adding = Rows::of(&rows)?.with_sums::<Captured>("excluded");
    let found: Vec<(bool,)> = adding.fetch(connection, sql).await?;
    let lessened = found == [(true,)];
    if lessened {
        let sql = "delete from campaign_captures t using {rows}
            where t.campaign_id = r.campaign_id and t.donor_id = r.donor_id and t.captured_at = r.captured_at
                and t.captured_minor = 0";
        Rows::of(&rows)?.execute(connection, sql).await?;
    }
    Ok(lessened)
}

/// Adds gifts, and counts the donors that are new to their campaigns. Only in a batch that takes nothing
/// away: then no first and no last instant is lost.
async fn add_gifts(connection: &mut PgConnection, batch: &mut Batch) -> Result<(), sqlx::Error> {
    let rows: Vec<(Donor, Gifts)> = batch.gifts().into_iter().collect();
    if rows.is_empty() {
        return Ok(());
    }
    // A row that was not there before has just these gifts.
    let sql = "with counted as (
            insert into campaign_donors as d ({columns}) select {columns} from {rows}
            on conflict (campaign_id, donor_id)
                do update set captured_pledges = d.captured_pledges + excluded.captured_pledges,
                    captured_minor = d.captured_minor + excluded.captured_minor,
                    first_captured_at = least(d.first_captured_at, excluded.first_captured_at),
                    last_captured_at = greatest(d.last_captured_at, excluded.last_captured_at)
            returning campaign_id, xmax = 0 as is_new
        )
        select campaign_id, count(*) from counted where is_new group by campaign_id";
    let new: Vec<(Uuid, i64)> = Rows::of(&rows)?.fetch(connection, sql).await?;
    for (campaign_id, donors) in new {
        batch.delta(campaign_id).figures.donors = donors;
    }
    Ok(())
}

/// Adds what went back to donors; it was captured before, so their rows are there.
async fn add_returns(connection: &mut PgConnection, batch: &Batch) -> Result<(), sqlx::Error> {
    let returns = batch.donors.iter().map(|(donor, given)| (*donor, given.returned));
    let rows: Vec<(Donor, Returned)> =
        returns.filter(|(_, returned)| *returned != Returned::default()).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let sql = "update campaign_donors t set {sums} from {rows}
        where t.campaign_id = r.campaign_id and t.donor_id = r.donor_id";
    Rows::of(&rows)?.with_sums::<Returned>("r").execute(connection, sql).await
}

/// Adds up money per donor, whatever is taken away, and counts the donors that are new to their campaigns or
/// are none any more.
async fn add_to_donors(connection: &mut PgConnection, batch: &mut Batch) -> Result<(), sqlx::Error> {
    let rows: Vec<(Donor, Given)> = std::mem::take(&mut batch.donors).into_iter().collect();
    if rows.is_empty() {
        return Ok(());
    }
    // A row that was not there before has just these sums. It cannot be an insert that becomes an update:
    // what went back of earlier gifts would not pass the check of rows by itself.
    let sql = "with given as materialized (
            select r.*, c.first_captured_at, c.last_captured_at, d.captured_pledges as captured_before
            from {rows}
            cross join lateral (
                select min(c.captured_at) as first_captured_at, max(c.captured_at) as last_captured_at
                from campaign_captures c
                where c.campaign_id = r.campaign_id and c.donor_id = r.donor_id and c.captured_minor > 0
            ) c
            left join campaign_donors d on d.campaign_id = r.campaign_id and d.donor_id = r.donor_id
        ), changed as (
            update campaign_donors t
            set {sums}, first_captured_at = r.first_captured_at, last_captured_at = r.last_captured_at
            from given r
            where t.campaign_id = r.campaign_id and t.donor_id = r.donor_id
                and r.captured_before + r.captured_pledges > 0
        ), gone as (
            delete from campaign_donors t using given r
            where t.campaign_id = r.campaign_id and t.donor_id = r.donor_id
                and r.captured_before + r.captured_pledges = 0
            returning t.campaign_id
        ), new as (
            insert into campaign_donors ({columns}, first_captured_at, last_captured_at)
            select {columns}, first_captured_at, last_captured_at from given
            where captured_before is null and captured_pledges > 0
            returning campaign_id
        )
        select campaign_id, sum(change)::bigint from (
            select campaign_id, 1 as change from new union all select campaign_id, -1 from gone
        ) counted
        group by campaign_id";
    let changes: Vec<(Uuid, i64)> = Rows::of(&rows)?.with_sums::<Given>("r").fetch(connection, sql).await?;
    for (campaign_id, donors) in changes {
        batch.delta(campaign_id).figures.donors = donors;
    }
    Ok(())
}

/// Adds the sums to the rows and returns the rows as they are now.
async fn add_deltas(connection: &mut PgConnection, batch: &Batch) -> Result<Vec<Totals>, sqlx::Error> {
    let sql = "update campaign_totals t
        set {sums}, published = t.published or r.published, position = r.position, as_of = r.as_of
        from {rows} where t.campaign_id = r.campaign_id
        returning t.*";
    Rows::of(batch.deltas.values())?.with_sums::<Figures>("r").fetch(connection, sql).await
}

#[cfg(test)]
mod tests {
    use super::super::told::{CAMPAIGN, DONOR, Told, captured, in_order, in_reverse, moved_away, noon};
    use super::*;

    const ADA: Donor = Donor { campaign_id: CAMPAIGN.0, donor_id: DONOR };

    fn batch(told: &[Told]) -> Batch {
        let mut batch = Batch::default();
        told.iter().for_each(|(_, moves)| batch.add_moves(CAMPAIGN.0, Some(ADA), moves));
        batch
    }

    #[test]
    fn totals_are_the_same_whatever_was_heard_first() {
        let figures = Figures {
            raised_minor: 1000,
            reversed_minor: 4000,
            in_dispute_minor: 1000,
            ..Figures::default()
        };
        for told in [in_order(), in_reverse()] {
            assert_eq!(batch(&told).deltas[&CAMPAIGN.0].figures, figures);
        }
        assert_eq!(batch(&moved_away()).deltas[&CAMPAIGN.0].figures, Figures::default());
    }

    #[test]
    fn every_figure_is_added_up() {
        let moved = MoneyMove {
            refunded_minor: 1,
            reversed_minor: 20,
            charged_back_minor: 300,
            loss_minor: 4000,
            in_dispute_minor: 50_000,
            unapplied_minor: 600_000,
            ..captured(0, 1, 1000)
        };
        let expected = Figures {
            raised_minor: 2 * (1000 - 321),
            refunded_minor: 2,
            reversed_minor: 40,
            charged_back_minor: 600,
            loss_minor: 8000,
            in_dispute_minor: 100_000,
            unapplied_minor: 1_200_000,
            ..Figures::default()
        };
        let batch = batch(&[(noon(0), vec![moved, moved])]);
        assert_eq!(batch.deltas[&CAMPAIGN.0].figures, expected);
        let given = Given {
            captured_pledges: 2,
            captured_minor: 2000,
            returned: Returned { refunded_minor: 2, reversed_minor: 40, charged_back_minor: 600 },
        };
        assert_eq!(batch.donors[&ADA], given);
    }

    #[test]
    fn a_donor_has_given_the_same_whatever_was_heard_first() {
        let at = |day| Instant { donor: ADA, captured_at: noon(day) };
        for told in [in_order(), in_reverse()] {
            let batch = batch(&told);
            let returned = Returned { reversed_minor: 4000, ..Returned::default() };
            let given = Given { captured_pledges: 1, captured_minor: 5000, returned };
            assert_eq!(batch.donors, BTreeMap::from([(ADA, given)]));
            let captures = [(at(0), 2000), (at(1), 3000)];
            let captures = captures.map(|(instant, captured_minor)| (instant, Captured { captured_minor }));
            assert_eq!(batch.captures, BTreeMap::from(captures));
            let gifts = Gifts {
                captured_pledges: 1,
                captured_minor: 5000,
                first_captured_at: noon(0),
                last_captured_at: noon(1),
            };
            assert_eq!(batch.gifts(), BTreeMap::from([(ADA, gifts)]));
            assert!(!batch.takes_from_donors());
        }
        assert!(batch(&moved_away()[4..]).takes_from_donors());
        assert!(batch(&[(noon(0), vec![captured(0, 0, -1)])]).takes_from_donors());
    }

    #[test]
    fn nothing_is_left_of_a_donor_whose_gift_is_anothers() {
        let batch = batch(&moved_away());
        assert_eq!(batch.donors[&ADA], Given::default());
        assert!(batch.captures.values().all(|captured| *captured == Captured::default()), "{batch:?}");
    }
}
