//! Daily series: the tables `campaign_days` and `overall_days`. A day is a day in UTC, and that of the
//! event.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::NaiveDate;
use cqrs_es::Aggregate;
use domain::{Campaign, Currency, Event, PledgeEvent, PledgeStatus};
use event_store::RecordedEvent;
use read_model::Projection;
use sqlx::PgConnection;
use uuid::Uuid;

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
        let mut campaigns: BTreeMap<(Uuid, NaiveDate), (Currency, Figures)> = BTreeMap::new();
        let mut overall: BTreeMap<(&'static str, NaiveDate), Figures> = BTreeMap::new();
        for recorded in events {
            let Event::Pledge(_, event) = &recorded.event else { continue };
            let Some(figures) = Figures::of(event) else { continue };
            let (campaign_id, currency) = (event.campaign_id(), event.amount().currency());
            let day = recorded.recorded_at.date_naive();
            campaigns.entry((campaign_id.0, day)).or_insert((currency, Figures::default())).1.add(&figures);
            overall.entry((currency.code(), day)).or_default().add(&figures);
        }
        if campaigns.is_empty() {
            return Ok(());
        }
        write_campaigns(connection, &campaigns).await?;
        write_overall(connection, &overall).await?;
        Ok(())
    }
}

/// What events add to a day.
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

impl Figures {
    /// What an event adds; none for one that adds nothing.
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

    /// The figures as the statements below bind them, column by column.
    fn columns<'a>(figures: impl Iterator<Item = &'a Self> + Clone) -> [Vec<i64>; 11] {
        let column = |of: fn(&Self) -> i64| figures.clone().map(of).collect();
        [
            column(|f| f.created),
            column(|f| f.created_minor),
            column(|f| f.captured),
            column(|f| f.captured_minor),
            column(|f| f.completed),
            column(|f| f.failed),
            column(|f| f.expired),
            column(|f| f.cancelled),
            column(|f| f.refunded_minor),
            column(|f| f.charged_back_minor),
            column(|f| f.unapplied_minor),
        ]
    }
}

async fn write_campaigns(
    connection: &mut PgConnection,
    days: &BTreeMap<(Uuid, NaiveDate), (Currency, Figures)>,
) -> Result<(), sqlx::Error> {
    let (campaigns, dates): (Vec<Uuid>, Vec<NaiveDate>) = days.keys().copied().unzip();
    let mut query = sqlx::query(
        "insert into campaign_days as d (campaign_id, day, currency, created, created_minor, captured,
             captured_minor, completed, failed, expired, cancelled, refunded_minor, charged_back_minor,
             unapplied_minor)
         select * from unnest($1::uuid[], $2::date[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[],
             $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[],
             $13::bigint[], $14::bigint[])
         on conflict (campaign_id, day) do update
         set created = d.created + excluded.created, created_minor = d.created_minor + excluded.created_minor,
             captured = d.captured + excluded.captured,
             captured_minor = d.captured_minor + excluded.captured_minor,
             completed = d.completed + excluded.completed, failed = d.failed + excluded.failed,
             expired = d.expired + excluded.expired, cancelled = d.cancelled + excluded.cancelled,
             refunded_minor = d.refunded_minor + excluded.refunded_minor,
             charged_back_minor = d.charged_back_minor + excluded.charged_back_minor,
             unapplied_minor = d.unapplied_minor + excluded.unapplied_minor",
    )
    .bind(campaigns)
    .bind(dates)
    .bind(days.values().map(|(currency, _)| currency.code()).collect::<Vec<_>>());
    for column in Figures::columns(days.values().map(|(_, figures)| figures)) {
        query = query.bind(column);
    }
    query.execute(connection).await?;
    Ok(())
}

async fn write_overall(
    connection: &mut PgConnection,
    days: &BTreeMap<(&'static str, NaiveDate), Figures>,
) -> Result<(), sqlx::Error> {
    let (currencies, dates): (Vec<&str>, Vec<NaiveDate>) = days.keys().copied().unzip();
    let mut query = sqlx::query(
        "insert into overall_days as d (currency, day, created, created_minor, captured, captured_minor,
             completed, failed, expired, cancelled, refunded_minor, charged_back_minor, unapplied_minor)
         select * from unnest($1::text[], $2::date[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
             $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[],
             $13::bigint[])
         on conflict (currency, day) do update
         set created = d.created + excluded.created, created_minor = d.created_minor + excluded.created_minor,
             captured = d.captured + excluded.captured,
             captured_minor = d.captured_minor + excluded.captured_minor,
             completed = d.completed + excluded.completed, failed = d.failed + excluded.failed,
             expired = d.expired + excluded.expired, cancelled = d.cancelled + excluded.cancelled,
             refunded_minor = d.refunded_minor + excluded.refunded_minor,
             charged_back_minor = d.charged_back_minor + excluded.charged_back_minor,
             unapplied_minor = d.unapplied_minor + excluded.unapplied_minor",
    )
    .bind(currencies)
    .bind(dates);
    for column in Figures::columns(days.values()) {
        query = query.bind(column);
    }
    query.execute(connection).await?;
    Ok(())
}
