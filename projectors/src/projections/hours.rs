//! Hourly series: the table `campaign_hours`. An hour is an hour in UTC, and that of the event.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use domain::{Campaign, CampaignId, Event, PledgeEvent, Rules};
use event_store::RecordedEvent;
use read_model::Projection;
use sqlx::PgConnection;

use crate::rows::{Rows, row};
use crate::runner::{ProjectError, Projector};

const MICROSECONDS_OF_AN_HOUR: i64 = 3_600_000_000;

#[derive(Default)]
pub(crate) struct CampaignHours;

#[async_trait]
impl Projector for CampaignHours {
    const PROJECTION: Option<Projection> = Some(Projection::CampaignHours);
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
        let mut hours: BTreeMap<Hour, Figures> = BTreeMap::new();
        for recorded in events {
            let Event::Pledge(_, event) = &recorded.event else { continue };
            let Some(figures) = Figures::of(event) else { continue };
            let (campaign_id, currency) = (event.campaign_id(), event.amount().currency().code());
            let hour = Hour { campaign_id, hour: hour_of(recorded.recorded_at), currency };
            hours.entry(hour).or_default().add(&figures);
        }
        if hours.is_empty() {
            return Ok(());
        }
        let hours: Vec<(Hour, Figures)> = hours.into_iter().collect();
        let sql = "insert into campaign_hours as t ({columns}) select {columns} from {rows}
            on conflict (campaign_id, hour) do update set {sums}";
        Rows::of(&hours)?.with_sums::<Figures>("excluded").execute(connection, sql).await?;
        Ok(())
    }
}

row! {
    /// A campaign has one currency.
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    struct Hour {
        campaign_id: CampaignId,
        hour: DateTime<Utc>,
        currency: &'static str,
    }
}

row! {
    /// Growth of an hour's figures.
    #[derive(Default)]
    struct Figures {
        created: i64,
        captured: i64,
        captured_minor: i64,
    }
}

impl Figures {
    /// The growth by one event; none if it adds nothing.
    fn of(event: &PledgeEvent) -> Option<Self> {
        if let Some((None, _)) = event.edge() {
            return Some(Self { created: 1, ..Self::default() });
        }
        let captured_minor = event.money_move()?.captured_minor;
        (captured_minor != 0).then_some(Self {
            created: 0,
            captured: captured_minor.signum(),
            captured_minor,
        })
    }

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
