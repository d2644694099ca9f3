//! The read table `campaign_totals_history`: a campaign's totals after each of its events.
//!
//! It adds events up one by one, while `totals.rs` adds up batches; the two must agree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use domain::{CampaignEvent, CampaignId, DonorId, Event, MoneyMove, PledgeEvent};
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
    const VERSION: i32 = 2;

    async fn fold(
        &mut self,
        connection: &mut PgConnection,
        events: &[Arc<RecordedEvent>],
    ) -> Result<(), ProjectError> {
        let mut running = load_last(connection, events).await?;
        let mut donors = Donors::load(connection, events).await?;
        let mut rows = Vec::with_capacity(events.len());
        for recorded in events {
            let totals = running.entry(campaign_id(recorded)).or_insert_with_key(|id| nothing_yet(*id));
            match &recorded.event {
                Event::Campaign(_, event) => add_campaign_event(totals, event),
                Event::Pledge(_, event) => {
                    let moves = event.money_moves();
                    add_edge(totals, event);
                    add_moves(totals, moves);
                    if let Some(donor_id) = event.donor_id() {
                        let donor = (event.campaign_id(), donor_id);
                        totals.donors += donors.add(donor, gifts(moves), recorded.position);
                    }
                }
            }
            totals.position = recorded.position;
            totals.as_of = recorded.recorded_at;
            rows.push(totals.clone());
        }
        let sql = "insert into campaign_totals_history ({columns}) select {columns} from {rows}";
        Rows::of(&rows)?.execute(connection, sql).await?;
        donors.write(connection).await?;
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
        reversed_minor: 0,
        charged_back_minor: 0,
        loss_minor: 0,
        in_dispute_minor: 0,
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

fn add_edge(totals: &mut Totals, event: &PledgeEvent) {
    if let Some((from, to)) = event.edge() {
        if let Some(from) = from {
            *count(&mut totals.pledges, from) -= 1;
        }
        *count(&mut totals.pledges, to) += 1;
    }
}

fn add_moves(totals: &mut Totals, moves: &[MoneyMove]) {
    for moved in moves {
        totals.raised_minor += moved.raised_minor();
        totals.refunded_minor += moved.refunded_minor;
        totals.reversed_minor += moved.reversed_minor;
        totals.charged_back_minor += moved.charged_back_minor;
        totals.loss_minor += moved.loss_minor;
        totals.in_dispute_minor += moved.in_dispute_minor;
        totals.unapplied_minor += moved.unapplied_minor;
    }
}

/// Captured pledges that an event adds, or takes away.
fn gifts(moves: &[MoneyMove]) -> i64 {
    moves.iter().map(|moved| moved.gifts).sum()
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
    /// A donor of a campaign, or one who is none any more.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct DonorRow {
        campaign_id: CampaignId,
        donor_id: DonorId,
        gifts: i64,
        position: i64,
    }
}

/// The rows of donors whose gifts a batch changes.
#[derive(Default)]
struct Donors(BTreeMap<(CampaignId, DonorId), DonorRow>);

impl Donors {
    async fn load(connection: &mut PgConnection, events: &[Arc<RecordedEvent>]) -> Result<Self, sqlx::Error> {
        let mut donors = Self::default();
        for recorded in events {
            let Event::Pledge(_, event) = &recorded.event else { continue };
            let Some(donor_id) = event.donor_id() else { continue };
            if event.money_moves().iter().any(|moved| moved.gifts != 0) {
                donors.row((event.campaign_id(), donor_id));
            }
        }
        if donors.0.is_empty() {
            return Ok(donors);
        }
        let sql = "select t.campaign_id, t.donor_id, t.gifts, t.position
            from {rows} join campaign_first_gifts t using (campaign_id, donor_id)";
        let known: Vec<(Uuid, Uuid, i64, i64)> = Rows::of(donors.0.values())?.fetch(connection, sql).await?;
        for (campaign_id, donor_id, gifts, position) in known {
            let row = donors.row((CampaignId(campaign_id), DonorId(donor_id)));
            (row.gifts, row.position) = (gifts, position);
        }
        Ok(donors)
    }

    fn row(&mut self, donor: (CampaignId, DonorId)) -> &mut DonorRow {
        let (campaign_id, donor_id) = donor;
        self.0.entry(donor).or_insert(DonorRow { campaign_id, donor_id, gifts: 0, position: 0 })
    }

    /// Adds gifts that the event at `position` tells of. Returns the change of the number of donors.
    fn add(&mut self, donor: (CampaignId, DonorId), gifts: i64, position: i64) -> i64 {
        if gifts == 0 {
            return 0;
        }
        let row = self.row(donor);
        let was_one = row.gifts > 0;
        row.gifts += gifts;
        if !was_one {
            row.position = position;
        }
        i64::from(row.gifts > 0) - i64::from(was_one)
    }

    async fn write(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let (present, gone): (Vec<DonorRow>, Vec<DonorRow>) = self.0.values().partition(|row| row.gifts > 0);
        if !present.is_empty() {
            let sql = "insert into campaign_first_gifts ({columns}) select {columns} from {rows}
                on conflict (campaign_id, donor_id)
                    do update set gifts = excluded.gifts, position = excluded.position";
            Rows::of(&present)?.execute(connection, sql).await?;
        }
        if !gone.is_empty() {
            let sql = "delete from campaign_first_gifts t using {rows}
                where t.campaign_id = r.campaign_id and t.donor_id = r.donor_id";
            Rows::of(&gone)?.execute(connection, sql).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::told::{CAMPAIGN, DONOR, Told, in_order, in_reverse, moved_away, on};
    use super::*;

    /// Raised, reversed, lost, in dispute, and donors, after each event.
    fn history(told: &[Told]) -> Vec<[i64; 5]> {
        let (mut totals, mut donors) = (nothing_yet(CAMPAIGN.0), Donors::default());
        let rows = (1..).zip(told).map(|(position, (_, moves))| {
            add_moves(&mut totals, moves);
            totals.donors += donors.add((CAMPAIGN, DONOR), gifts(moves), position);
            let Totals { raised_minor, reversed_minor, loss_minor, in_dispute_minor, donors, .. } = totals;
            [raised_minor, reversed_minor, loss_minor, in_dispute_minor, donors]
        });
        rows.collect()
    }

    #[test]
    fn totals_follow_every_move() {
        let expected =
            [[2000, 0, 0, 0, 1], [5000, 0, 0, 0, 1], [5000, 0, 0, 5000, 1], [1000, 4000, 0, 1000, 1]];
        assert_eq!(history(&in_order()), expected);
        assert_eq!(history(&in_reverse()), [[1000, 4000, 0, 1000, 1]; 2]);
        assert_eq!(history(&moved_away()).last(), Some(&[0; 5]));
    }

    #[test]
    fn every_figure_is_added_up() {
        let mut totals = nothing_yet(CAMPAIGN.0);
        let moved = MoneyMove {
            captured_minor: 1000,
            refunded_minor: 1,
            reversed_minor: 20,
            charged_back_minor: 300,
            loss_minor: 4000,
            in_dispute_minor: 50_000,
            unapplied_minor: 600_000,
            ..on(0)
        };
        add_moves(&mut totals, &[moved, moved]);
        let expected = Totals {
            raised_minor: 2 * (1000 - 321),
            refunded_minor: 2,
            reversed_minor: 40,
            charged_back_minor: 600,
            loss_minor: 8000,
            in_dispute_minor: 100_000,
            unapplied_minor: 1_200_000,
            ..nothing_yet(CAMPAIGN.0)
        };
        assert_eq!(totals, expected);
    }

    #[test]
    fn a_donor_is_one_as_long_as_there_is_a_gift() {
        let mut donors = Donors::default();
        let donor = (CAMPAIGN, DONOR);
        let changes = [(5, 1, 1), (6, 0, 0), (7, 1, 0), (8, -1, 0), (9, -1, -1), (10, 1, 1)];
        for (position, gifts, change) in changes {
            assert_eq!(donors.add(donor, gifts, position), change, "at {position}");
        }
        let expected = DonorRow { campaign_id: CAMPAIGN, donor_id: DONOR, gifts: 1, position: 10 };
        assert_eq!(donors.0[&donor], expected);
        donors.add(donor, 1, 11);
        assert_eq!((donors.0[&donor].gifts, donors.0[&donor].position), (2, 10));
    }
}
