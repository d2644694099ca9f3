//! Our append path against what Postgres itself can take.

use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::Utc;
use domain::campaign::CampaignDetails;
use domain::{Campaign, CampaignCommand, CampaignId, DonorId, Money, Pledge, PledgeCommand, Rules};
use event_store::{Condition, Ledger, Metadata};
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgConnection, PgPool};
use tokio::task::{JoinSet, spawn_blocking};
use uuid::Uuid;

use super::{Scenario, WARM_UP_SECONDS};
use crate::Options;
use crate::report::Entry;
use crate::rounds::{Latency, Sample, alternate};
use crate::stage::Stage;

/// Commands under way at once.
const TASKS: usize = 1_024;
/// Rows of one insert, as many as the ledger puts into one commit at most.
const BATCH: usize = 500;
/// As many connections as the program gives its ledger.
const POOL_SIZE: u32 = 16;

/// Appends in this process, against inserts of the same rows into the same table by one session.
pub(super) async fn run(stage: &Stage, options: &Options, scenario: Scenario) -> anyhow::Result<Entry> {
    let ours = stage.create_ledger("appends").await?;
    let limit = stage.create_ledger("inserts").await?;
    let pool = PgPoolOptions::new().max_connections(POOL_SIZE).connect(&ours.url).await?;
    let ledger = Ledger::start(pool.clone());
    let campaign = open_campaign(&ledger).await?;

    append(&ledger, &campaign, WARM_UP_SECONDS).await?;
    insert(&limit.pool, campaign.aggregate_id, WARM_UP_SECONDS).await?;
    let samples = alternate(
        options.rounds,
        async || -> anyhow::Result<Sample> {
            stage.checkpoint().await?;
            append(&ledger, &campaign, options.seconds).await
        },
        async || -> anyhow::Result<Sample> {
            stage.checkpoint().await?;
            insert(&limit.pool, campaign.aggregate_id, options.seconds).await
        },
    )
    .await?;
    pool.close().await;
    stage.drop_database(ours).await?;
    stage.drop_database(limit).await?;
    let note = format!(
        "{TASKS} tasks create pledges through the ledger; baseline: one session inserts the same rows by {BATCH}"
    );
    Entry::new(scenario, "events/s", &samples, note)
}

/// The condition that every new pledge rests on in production too.
async fn open_campaign(ledger: &Ledger) -> anyhow::Result<Condition> {
    let id = Uuid::now_v7();
    let details = CampaignDetails {
        title: "Bench".parse()?,
        description: None,
        goal: Money::new(100_000_000, "EUR".parse()?)?,
        ends_at: None,
    };
    let create = CampaignCommand::Create(details);
    ledger.create::<Campaign>(id, &create, vec![], &Metadata::default(), None).await?;
    ledger
        .execute::<Campaign>(id, &CampaignCommand::Publish { now: Utc::now() }, &Metadata::default())
        .await?;
    Ok(open_condition(id))
}

/// That a campaign is open, as it is once it was made and published.
pub(super) fn open_condition(campaign_id: Uuid) -> Condition {
    Condition { aggregate_type: Campaign::TYPE, aggregate_id: campaign_id, sequence: 2 }
}

/// Appends a new pledge.
pub(super) async fn append_pledge(ledger: &Ledger, campaign: Condition) -> anyhow::Result<()> {
    let command = create_command(campaign.aggregate_id)?;
    ledger.create::<Pledge>(Uuid::new_v4(), &command, vec![campaign], &metadata(), None).await?;
    Ok(())
}

/// A new pledge as the route makes it.
fn create_command(campaign_id: Uuid) -> anyhow::Result<PledgeCommand> {
    Ok(PledgeCommand::Create {
        campaign_id: CampaignId(campaign_id),
        donor_id: DonorId(Uuid::new_v4()),
        amount: Money::new(2_500, "EUR".parse()?)?,
        anonymous: false,
        made_at: chrono::Utc::now(),
    })
}

/// Metadata as the route makes it.
fn metadata() -> Metadata {
    Metadata {
        request_id: Some(Uuid::now_v7().to_string()),
        fingerprint: Some(Uuid::new_v4().simple().to_string()),
        ..Metadata::default()
    }
}

async fn append(ledger: &Ledger, campaign: &Condition, seconds: u64) -> anyhow::Result<Sample> {
    let started = Instant::now();
    let end = started + Duration::from_secs(seconds);
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        tasks.spawn(append_until(end, ledger.clone(), campaign.clone()));
    }
    let mut took = Vec::new();
    while let Some(task) = tasks.join_next().await {
        took.extend(task.context("a task panicked")??);
    }
    Ok(Sample::new(took.len() as u64, started.elapsed(), Latency::of(took)))
}

async fn append_until(end: Instant, ledger: Ledger, campaign: Condition) -> anyhow::Result<Vec<Duration>> {
    let mut took = Vec::new();
    while Instant::now() < end {
        let started = Instant::now();
        append_pledge(&ledger, campaign.clone()).await?;
        took.push(started.elapsed());
    }
    Ok(took)
}

/// Rows of the table `events`, column by column.
#[derive(Default)]
struct Rows {
    positions: Vec<i64>,
    ids: Vec<String>,
    payloads: Vec<String>,
    metadata: Vec<String>,
}

impl Rows {
    /// A batch behind `position`, of the same events as the ledger's.
    fn make(campaign_id: Uuid, position: i64) -> anyhow::Result<Self> {
        let mut rows = Self::default();
        for n in 1..=BATCH as i64 {
            let events = Pledge::default().decide(&create_command(campaign_id)?)?;
            let metadata = Metadata { command_id: Some(Uuid::now_v7()), ..metadata() };
            rows.positions.push(position + n);
            rows.ids.push(Uuid::new_v4().to_string());
            rows.payloads.push(serde_json::to_string(events.first().context("a new pledge has an event")?)?);
            rows.metadata.push(serde_json::to_string(&metadata)?);
        }
        Ok(rows)
    }

    async fn insert(self, session: &mut PgConnection) -> anyhow::Result<()> {
        sqlx::query(
            "insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version,
                 payload, metadata, recorded_at)
             select position, 'pledge', id, 1, 'PledgeCreated', '1', payload::json, metadata::json, now()
             from unnest($1::bigint[], $2::text[], $3::text[], $4::text[])
                 as r (position, id, payload, metadata)",
        )
        .bind(self.positions)
        .bind(self.ids)
        .bind(self.payloads)
        .bind(self.metadata)
        .execute(session)
        .await?;
        Ok(())
    }
}

/// One insert after the other, each committed. The next batch is put together meanwhile, so that
/// the session never waits for its rows.
async fn insert(pool: &PgPool, campaign_id: Uuid, seconds: u64) -> anyhow::Result<Sample> {
    let mut session = pool.acquire().await?;
    let mut position: i64 =
        sqlx::query_scalar("select coalesce(max(position), 0) from events").fetch_one(&mut *session).await?;
    let make = move |position| spawn_blocking(move || Rows::make(campaign_id, position));
    let mut rows = make(position).await??;
    let (started, mut inserted) = (Instant::now(), 0);
    while started.elapsed() < Duration::from_secs(seconds) {
        position += BATCH as i64;
        let (done, next) = tokio::join!(rows.insert(&mut session), make(position));
        done?;
        inserted += BATCH as u64;
        rows = next??;
    }
    Ok(Sample::new(inserted, started.elapsed(), None))
}
