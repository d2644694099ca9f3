//! Daily series: the tables `campaign_days` and `overall_days`. A day is a day in UTC: of money the one on
//! which it moved, of all else the one on which the event was recorded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use domain::{Campaign, CampaignId, Currency, Event, Money, MoneyMove, PledgeEvent, PledgeStatus, Rules};
use event_store::RecordedEvent;
use read_model::Projection;
use sqlx::PgConnection;

use crate::rows::{add_up, row};
use crate::runner::{ProjectError, Projector};

#[derive(Default)]
pub(crate) struct Days;

#[async_trait]
impl Projector for Days {
    const PROJECTION: Option<Projection> = Some(Projection::Days);
    const VERSION: i32 = 2;
    /// Nobody watches these live.
    const GATHER: Duration = Duration::from_millis(100);

    fn needs(aggregate_type: &str, _event_type: &str) -> bool {
        aggregate_type != Campaign::TYPE
    }

    async fn fold(
        &mut self,
        connection: &mut PgConnection,
        events: &[Arc<RecordedEvent>],
    ) -> Result<(), ProjectError> {
        let mut batch = Batch::default();
        for recorded in events {
            let Event::Pledge(_, event) = &recorded.event else { continue };
            let (campaign_id, at) = (event.campaign_id(), recorded.recorded_at);
            if let Some(amount) = event.amount() {
                let of_pledge = [(at.date_naive(), Figures::of_pledge(event))];
                batch.add(campaign_id, amount.currency(), of_pledge, at);
            }
            batch.add_moves(campaign_id, event.money_moves(), at);
        }
        batch.write(connection).await?;
        Ok(())
    }
}

/// Changes by a batch of events.
#[derive(Debug, Default, PartialEq)]
struct Batch {
    campaigns: BTreeMap<CampaignDay, Change>,
    overall: BTreeMap<OverallDay, Change>,
}

impl Batch {
    /// Adds them to the rows. Days of which nothing is left go.
    async fn write(self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let campaigns: Vec<(CampaignDay, Change)> = self.campaigns.into_iter().collect();
        let insert = "insert into campaign_days as t ({columns}) select {columns} from {rows}
            on conflict (campaign_id, day)
                do update set {sums}, revised_at = greatest(t.revised_at, excluded.revised_at)";
        let delete = "delete from campaign_days t using {rows}
            where t.campaign_id = r.campaign_id and t.day = r.day and {is_zero}";
        add_up::<Figures, _>(connection, &campaigns, insert, delete).await?;
        let overall: Vec<(OverallDay, Change)> = self.overall.into_iter().collect();
        let insert = "insert into overall_days as t ({columns}) select {columns} from {rows}
            on conflict (currency, day)
                do update set {sums}, revised_at = greatest(t.revised_at, excluded.revised_at)";
        let delete = "delete from overall_days t using {rows}
            where t.currency = r.currency and t.day = r.day and {is_zero}";
        add_up::<Figures, _>(connection, &overall, insert, delete).await
    }

    /// Money counts on the day on which it moved. What an event moves within a day changes nothing.
    fn add_moves(&mut self, campaign_id: CampaignId, moves: &[MoneyMove], recorded_at: DateTime<Utc>) {
        let Some(MoneyMove { currency, .. }) = moves.first() else { return };
        let mut days: BTreeMap<NaiveDate, Figures> = BTreeMap::new();
        for moved in moves {
            days.entry(moved.at.date_naive()).or_default().add(&Figures::of_money(moved));
        }
        self.add(campaign_id, *currency, days, recorded_at);
    }

    fn add(
        &mut self,
        campaign_id: CampaignId,
        currency: Currency,
        days: impl IntoIterator<Item = (NaiveDate, Figures)>,
        recorded_at: DateTime<Utc>,
    ) {
        let currency = currency.code();
        for (day, figures) in days.into_iter().filter(|(_, figures)| *figures != Figures::default()) {
            let revised_at = (recorded_at.date_naive() > day).then_some(recorded_at);
            let of_campaign = self.campaigns.entry(CampaignDay { campaign_id, day, currency }).or_default();
            let overall = self.overall.entry(OverallDay { currency, day }).or_default();
            for change in [of_campaign, overall] {
                change.figures.add(&figures);
                // Events come in the order in which they were recorded.
                change.revised_at = revised_at.or(change.revised_at);
            }
        }
    }
}

row! {
    /// A campaign has one currency.
    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct CampaignDay {
        campaign_id: CampaignId,
        day: NaiveDate,
        currency: &'static str,
    }
}

row! {
    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct OverallDay {
        currency: &'static str,
        day: NaiveDate,
    }
}

row! {
    #[derive(Debug, Default, PartialEq)]
    struct Change {
        figures: Figures,
        revised_at: Option<DateTime<Utc>>,
    }
}

row! {
    /// Change of a day's figures.
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    struct Figures {
        created: i64,
        created_minor: i64,
        captured: i64,
        captured_minor: i64,
        completed: i64,
        failed: i64,
        expired: i64,
        cancelled: i64,
        refunded_minor: i64,
        reversed_minor: i64,
        charged_back_minor: i64,
        unapplied_minor: i64,
    }
}

impl Figures {
    /// What becomes of a pledge; captures count with their money.
    fn of_pledge(event: &PledgeEvent) -> Self {
        let none = Self::default();
        match event.edge().map(|(_, to)| to) {
            Some(PledgeStatus::Pending) => {
                let created_minor = event.amount().map_or(0, Money::amount_minor);
                Self { created: 1, created_minor, ..none }
            }
            Some(PledgeStatus::Completed) => Self { completed: 1, ..none },
            Some(PledgeStatus::Failed) => Self { failed: 1, ..none },
            Some(PledgeStatus::Expired) => Self { expired: 1, ..none },
            Some(PledgeStatus::Cancelled) => Self { cancelled: 1, ..none },
            Some(PledgeStatus::Authorized | PledgeStatus::Captured) | None => none,
        }
    }

    fn of_money(moved: &MoneyMove) -> Self {
        Self {
            captured: moved.gifts,
            captured_minor: moved.captured_minor,
            refunded_minor: moved.refunded_minor,
            reversed_minor: moved.reversed_minor,
            charged_back_minor: moved.charged_back_minor,
            unapplied_minor: moved.unapplied_minor,
            ..Self::default()
        }
    }

    fn add(&mut self, other: &Self) {
        self.created += other.created;
        self.created_minor += other.created_minor;
        self.captured += other.captured;
        self.captured_minor += other.captured_minor;
        self.completed += other.completed;
        self.failed += other.failed;
        self.expired += other.expired;
        self.cancelled += other.cancelled;
        self.refunded_minor += other.refunded_minor;
        self.reversed_minor += other.reversed_minor;
        self.charged_back_minor += other.charged_back_minor;
        self.unapplied_minor += other.unapplied_minor;
    }
}

#[cfg(test)]
mod tests {
    use super::super::told::{CAMPAIGN, Told, captured, in_order, in_reverse, moved_away, noon, on};
    use super::*;
    use chrono::TimeDelta;

    fn batch(told: &[Told]) -> Batch {
        let mut batch = Batch::default();
        told.iter().for_each(|(recorded_at, moves)| batch.add_moves(CAMPAIGN, moves, *recorded_at));
        batch
    }

    /// The days on which something is left.
    fn days(batch: &Batch) -> Vec<(NaiveDate, Figures)> {
        let days = batch.campaigns.iter().map(|(of, change)| (of.day, change.figures));
        let left: Vec<_> = days.filter(|(_, figures)| *figures != Figures::default()).collect();
        let overall = batch.overall.iter().map(|(of, change)| (of.day, change.figures));
        assert_eq!(left, overall.filter(|(_, figures)| *figures != Figures::default()).collect::<Vec<_>>());
        left
    }

    fn day(day: i64) -> NaiveDate {
        noon(day).date_naive()
    }

    #[test]
    fn money_counts_on_its_day_whatever_was_heard_first() {
        let none = Figures::default();
        let expected = [
            (day(0), Figures { captured: 1, captured_minor: 2000, ..none }),
            (day(1), Figures { captured_minor: 3000, ..none }),
            (day(2), Figures { reversed_minor: 4000, ..none }),
        ];
        assert_eq!(days(&batch(&in_order())), expected);
        assert_eq!(days(&batch(&in_reverse())), expected);
        assert_eq!(days(&batch(&moved_away())), []);
    }

    #[test]
    fn every_figure_of_money_is_added_up() {
        let moved = MoneyMove {
            refunded_minor: 1,
            reversed_minor: 20,
            charged_back_minor: 300,
            unapplied_minor: -600_000,
            ..captured(0, 1, 1000)
        };
        let expected = Figures {
            captured: 2,
            captured_minor: 2000,
            refunded_minor: 2,
            reversed_minor: 40,
            charged_back_minor: 600,
            unapplied_minor: -1_200_000,
            ..Figures::default()
        };
        assert_eq!(days(&batch(&[(noon(0), vec![moved, moved])])), [(day(0), expected)]);
        // No figure of a day says what open disputes have withdrawn, what was settled, or what is lost.
        let moved = MoneyMove { in_dispute_minor: 1, settled_minor: 1, loss_minor: 1, ..on(0) };
        assert_eq!(batch(&[(noon(1), vec![moved])]), Batch::default());
    }

    #[test]
    fn a_day_that_changes_after_its_end_says_when() {
        let revised = |told: &[Told]| {
            let batch = batch(told);
            let revised: Vec<_> = batch.campaigns.values().map(|change| change.revised_at).collect();
            assert_eq!(revised, batch.overall.values().map(|change| change.revised_at).collect::<Vec<_>>());
            revised
        };
        assert_eq!(revised(&in_order()), [None; 3]);
        assert_eq!(revised(&in_reverse()), [Some(noon(3)); 3]);
        assert_eq!(revised(&moved_away()), [Some(noon(4)); 3]);
        // The day ends at midnight, UTC.
        let midnight = noon(0) + TimeDelta::hours(12);
        let before = midnight - TimeDelta::microseconds(1);
        for (recorded_at, expected) in [(before, None), (midnight, Some(midnight))] {
            assert_eq!(revised(&[(recorded_at, vec![captured(0, 1, 2000)])]), [expected]);
        }
        // What only moves within the day is no change of it.
        let within = vec![captured(0, -1, -2000), captured(0, 1, 2000)];
        assert_eq!(revised(&[(noon(0), vec![captured(0, 1, 2000)]), (noon(1), within)]), [None]);
        // The last change counts.
        let told = [(noon(1), vec![captured(0, 1, 2000)]), (noon(2), vec![captured(0, 0, 1)])];
        assert_eq!(revised(&told), [Some(noon(2))]);
    }
}
