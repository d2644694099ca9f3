//! Daily series: the tables `campaign_days` and `overall_days`. A day is a day in UTC, and that of the
//! event.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::NaiveDate;
use domain::{Campaign, CampaignId, Event, PledgeEvent, PledgeStatus, Rules};
use event_store::RecordedEvent;
use read_model::Projection;
use sqlx::PgConnection;

use crate::rows::{Rows, row};
use crate::runner::{ProjectError, Projector};

#[derive(Default)]
pub(crate) struct Days;

#[async_trait]
impl Projector for Days {
    const PROJECTION: Option<Projection> = Some(Projection::Days);
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
        let mut campaigns: BTreeMap<CampaignDay, Figures> = BTreeMap::new();
        let mut overall: BTreeMap<OverallDay, Figures> = BTreeMap::new();
        for recorded in events {
            let Event::Pledge(_, event) = &recorded.event else { continue };
            let Some(figures) = Figures::of(event) else { continue };
            let (campaign_id, currency) = (event.campaign_id(), event.amount().currency().code());
            let day = recorded.recorded_at.date_naive();
            campaigns.entry(CampaignDay { campaign_id, day, currency }).or_default().add(&figures);
            overall.entry(OverallDay { currency, day }).or_default().add(&figures);
        }
        if campaigns.is_empty() {
            return Ok(());
        }
        let campaigns: Vec<(CampaignDay, Figures)> = campaigns.into_iter().collect();
        let sql = "insert into campaign_days as t ({columns}) select {columns} from {rows}
            on conflict (campaign_id, day) do update set {sums}";
        Rows::of(&campaigns)?.with_sums::<Figures>("excluded").execute(connection, sql).await?;
        let overall: Vec<(OverallDay, Figures)> = overall.into_iter().collect();
        let sql = "insert into overall_days as t ({columns}) select {columns} from {rows}
            on conflict (currency, day) do update set {sums}";
        Rows::of(&overall)?.with_sums::<Figures>("excluded").execute(connection, sql).await?;
        Ok(())
    }
}

row! {
    /// A campaign has one currency.
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    struct CampaignDay {
        campaign_id: CampaignId,
        day: NaiveDate,
        currency: &'static str,
    }
}

row! {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    struct OverallDay {
        currency: &'static str,
        day: NaiveDate,
    }
}

row! {
    /// Growth of a day's figures.
    #[derive(Clone, Copy, Default, PartialEq)]
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
        charged_back_minor: i64,
        unapplied_minor: i64,
    }
}

impl Figures {
    /// The growth by one event; none if it adds nothing.
    fn of(event: &PledgeEvent) -> Option<Self> {
        let mut figures = Self::default();
        match event.edge().map(|(_, to)| to) {
            Some(PledgeStatus::Pending) => {
                figures.created = 1;
                figures.created_minor = event.amount().amount_minor();
            }
            Some(PledgeStatus::Captured) => figures.captured = 1,
            Some(PledgeStatus::Completed) => figures.completed = 1,
            Some(PledgeStatus::Failed) => figures.failed = 1,
            Some(PledgeStatus::Expired) => figures.expired = 1,
            Some(PledgeStatus::Cancelled) => figures.cancelled = 1,
            Some(PledgeStatus::Authorized) | None => {}
        }
        if let Some(moved) = event.money_move() {
            figures.captured_minor = moved.captured_minor;
            figures.refunded_minor = moved.refunded_minor;
            figures.charged_back_minor = moved.charged_back_minor;
            // A day shows what was newly held apart, whatever becomes of it.
            figures.unapplied_minor = moved.unapplied_minor.max(0);
        }
        (figures != Self::default()).then_some(figures)
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
        self.charged_back_minor += other.charged_back_minor;
        self.unapplied_minor += other.unapplied_minor;
    }
}
