//! Hourly series: the table `campaign_hours`. An hour is an hour in UTC: of captures the one in which the
//! money moved, of pledges made the one in which that was recorded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use domain::{Campaign, CampaignId, Currency, Event, MoneyMove, PledgeEvent, Rules};
use event_store::RecordedEvent;
use read_model::Projection;
use sqlx::PgConnection;

use crate::rows::{add_up, row};
use crate::runner::{ProjectError, Projector};

const MICROSECONDS_OF_AN_HOUR: i64 = 3_600_000_000;

#[derive(Default)]
pub(crate) struct CampaignHours;

#[async_trait]
impl Projector for CampaignHours {
    const PROJECTION: Option<Projection> = Some(Projection::CampaignHours);
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
            if let PledgeEvent::PledgeCreated { amount, .. } = event {
                let created = Figures { created: 1, ..Figures::default() };
                batch.add(campaign_id, at, amount.currency(), &created);
            }
            batch.add_moves(campaign_id, event.money_moves());
        }
        let hours: Vec<(Hour, Figures)> = batch.0.into_iter().collect();
        let insert = "insert into campaign_hours as t ({columns}) select {columns} from {rows}
            on conflict (campaign_id, hour) do update set {sums}";
        let delete = "delete from campaign_hours t using {rows}
            where t.campaign_id = r.campaign_id and t.hour = r.hour and {is_zero}";
        add_up::<Figures, _>(connection, &hours, insert, delete).await?;
        Ok(())
    }
}

/// Changes by a batch of events.
#[derive(Debug, Default, PartialEq)]
struct Batch(BTreeMap<Hour, Figures>);

impl Batch {
    /// Captures count in the hour in which the money moved.
    fn add_moves(&mut self, campaign_id: CampaignId, moves: &[MoneyMove]) {
        for moved in moves {
            let figures = Figures { created: 0, captured: moved.gifts, captured_minor: moved.captured_minor };
            self.add(campaign_id, moved.at, moved.currency, &figures);
        }
    }

    fn add(&mut self, campaign_id: CampaignId, at: DateTime<Utc>, currency: Currency, figures: &Figures) {
        if *figures != Figures::default() {
            let hour = Hour { campaign_id, hour: hour_of(at), currency: currency.code() };
            self.0.entry(hour).or_default().add(figures);
        }
    }
}

row! {
    /// A campaign has one currency.
    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Hour {
        campaign_id: CampaignId,
        hour: DateTime<Utc>,
        currency: &'static str,
    }
}

row! {
    /// Change of an hour's figures.
    #[derive(Debug, Default, PartialEq)]
    struct Figures {
        created: i64,
        captured: i64,
        captured_minor: i64,
    }
}

impl Figures {
    fn add(&mut self, other: &Self) {
        self.created += other.created;
        self.captured += other.captured;
        self.captured_minor += other.captured_minor;
    }
}

/// The beginning of the hour.
fn hour_of(at: DateTime<Utc>) -> DateTime<Utc> {
    at - TimeDelta::microseconds(at.timestamp_micros().rem_euclid(MICROSECONDS_OF_AN_HOUR))
}

#[cfg(test)]
mod tests {
    use super::super::told::{CAMPAIGN, Told, in_order, in_reverse, moved_away, noon};
    use super::*;

    /// The hours in which something is left: captured, and how much.
    fn hours(told: &[Told]) -> Vec<(DateTime<Utc>, i64, i64)> {
        let mut batch = Batch::default();
        told.iter().for_each(|(_, moves)| batch.add_moves(CAMPAIGN, moves));
        let left = batch.0.into_iter().filter(|(_, figures)| *figures != Figures::default());
        left.map(|(of, Figures { captured, captured_minor, .. })| (of.hour, captured, captured_minor))
            .collect()
    }

    #[test]
    fn captures_count_in_their_hour_whatever_was_heard_first() {
        let expected = [(noon(0), 1, 2000), (noon(1), 0, 3000)];
        assert_eq!(hours(&in_order()), expected);
        assert_eq!(hours(&in_reverse()), expected);
        assert_eq!(hours(&moved_away()), []);
    }

    #[test]
    fn an_hour_begins_at_its_first_microsecond() {
        let almost = noon(0) - TimeDelta::microseconds(1);
        assert_eq!(hour_of(noon(0)), noon(0));
        assert_eq!(hour_of(almost), noon(0) - TimeDelta::hours(1));
    }
}
