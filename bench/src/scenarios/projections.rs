//! How far the projections are behind, and how fast they catch up.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chrono::Utc;
use domain::campaign::CampaignDetails;
use domain::payment::{Stated, Statement};
use domain::pledge::Settlement;
use domain::{
    Campaign, CampaignCommand, CampaignId, DonorId, Money, PaymentFact, Pledge, PledgeCommand, Rules,
};
use event_store::{Ledger, Metadata};
use read_model::{Projection, RedisTotals};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{Scenario, WARM_UP_SECONDS};
use crate::Options;
use crate::report::Entry;
use crate::rounds::{Latency, Sample, repeat};
use crate::seed;
use crate::stage::Stage;
use crate::subject::{Extent, Ours, start_service};

/// Events per second while the lag is measured; a life of a pledge has four.
const RATE: u64 = 5_000;
const EVENTS_OF_A_LIFE: u64 = 4;
/// Lives begin in groups, this far apart.
const TICK: Duration = Duration::from_millis(10);
/// The lag is measured this often.
const PROBE: Duration = Duration::from_millis(20);
/// Between two looks into Redis.
const LOOK: Duration = Duration::from_micros(500);
/// Events in the ledger before the projectors start.
const BEHIND: i64 = 400_000;
const PATIENCE: Duration = Duration::from_secs(300);

/// From the answer of an append to its position in Redis, while the whole system folds.
pub(super) async fn lag(stage: &Stage, options: &Options, scenario: Scenario) -> anyhow::Result<Entry> {
    let ours = Ours::start(stage, "projection_lag", Extent::Whole).await?;
    let pool = PgPoolOptions::new().max_connections(16).connect(&ours.database.url).await?;
    let redis = RedisTotals::open(stage.redis_url(), read_model::ledger_id(&pool).await?)?;
    let ledger = Ledger::start(pool.clone());
    let campaign = CampaignId(ours.campaign_id);
    stage.checkpoint().await?;
    lag_round(&ledger, &redis, campaign, WARM_UP_SECONDS).await?;
    let round = async || lag_round(&ledger, &redis, campaign, options.seconds).await;
    let samples = repeat(options.rounds, round).await?;
    pool.close().await;
    ours.finish(stage).await?;
    let note =
        format!("{RATE} events/s are wanted; latency: from the append's answer to its position in Redis");
    Entry::new(scenario, "events/s", &samples, note)
}

async fn lag_round(
    ledger: &Ledger,
    redis: &RedisTotals,
    campaign: CampaignId,
    seconds: u64,
) -> anyhow::Result<Sample> {
    let started = Instant::now();
    let end = started + Duration::from_secs(seconds);
    let (done, took) = tokio::try_join!(load(ledger, campaign, end), probe(ledger, redis, campaign, end))?;
    Ok(Sample::new(done + took.len() as u64, started.elapsed(), Latency::of(took)))
}

/// Appends whole lives at an even rate; returns how many events.
async fn load(ledger: &Ledger, campaign: CampaignId, end: Instant) -> anyhow::Result<u64> {
    let started = Instant::now();
    let (mut begun, mut tasks) = (0, JoinSet::new());
    while Instant::now() < end {
        let due = RATE * started.elapsed().as_millis() as u64 / 1_000 / EVENTS_OF_A_LIFE;
        while begun < due {
            tasks.spawn(live(ledger.clone(), campaign));
            begun += 1;
        }
        tokio::time::sleep(TICK).await;
    }
    while let Some(task) = tasks.join_next().await {
        task.context("a life panicked")??;
    }
    Ok(begun * EVENTS_OF_A_LIFE)
}

async fn live(ledger: Ledger, campaign_id: CampaignId) -> anyhow::Result<()> {
    let (id, donor_id) = (Uuid::new_v4(), DonorId(Uuid::new_v4()));
    let (amount, now) = (Money::new(2_500, "EUR".parse()?)?, Utc::now());
    let payment_id: domain::PaymentId = format!("pay_{id}").parse()?;
    create(&ledger, id, campaign_id, donor_id).await?;
    let create = PledgeCommand::Create { campaign_id, donor_id, amount, anonymous: false, made_at: now };
    let mut pledge = Pledge::default();
    pledge.decide(&create)?.into_iter().for_each(|event| pledge.apply_event(event));
    let captured = Statement::told(Stated::payment(Some(amount), None), now);
    let captured = PaymentFact::stated(payment_id.clone(), captured);
    let settled = PaymentFact::settled(payment_id, Settlement { amount, at: now });
    let mut sequence = 1;
    for fact in [captured, settled] {
        let events = pledge.decide(&PledgeCommand::record(fact, now))?;
        events.iter().cloned().for_each(|event| pledge.apply_event(event));
        let events: Vec<_> = events.into_iter().map(|event| (event, Metadata::default())).collect();
        ledger.append_events::<Pledge>(id, sequence, &events).await?;
        sequence += events.len() as i64;
    }
    Ok(())
}

async fn create(
    ledger: &Ledger,
    id: Uuid,
    campaign_id: CampaignId,
    donor_id: DonorId,
) -> anyhow::Result<i64> {
    let amount = Money::new(2_500, "EUR".parse()?)?;
    let command =
        PledgeCommand::Create { campaign_id, donor_id, amount, anonymous: false, made_at: Utc::now() };
    Ok(ledger.create::<Pledge>(id, &command, vec![], &Metadata::default(), None).await?.position)
}

/// Appends an event now and then, and waits until Redis has counted it.
async fn probe(
    ledger: &Ledger,
    redis: &RedisTotals,
    campaign: CampaignId,
    end: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let mut took = Vec::new();
    while Instant::now() < end {
        let position = create(ledger, Uuid::new_v4(), campaign, DonorId(Uuid::new_v4())).await?;
        let committed = Instant::now();
        while redis.read(campaign.0).await?.is_none_or(|totals| totals.position < position) {
            ensure!(committed.elapsed() < PATIENCE, "position {position} does not reach Redis");
            tokio::time::sleep(LOOK).await;
        }
        took.push(committed.elapsed());
        tokio::time::sleep(PROBE).await;
    }
    Ok(took)
}

/// From position 1 to the end: the totals alone with their mirror, or all projections at once.
pub(super) async fn catch_up(
    stage: &Stage,
    options: &Options,
    scenario: Scenario,
    only: Option<Projection>,
) -> anyhow::Result<Entry> {
    let samples = repeat(options.rounds, async || catch_up_round(stage, only).await).await?;
    let what = only.map_or("all projections", |_| "campaign_totals and Redis");
    let note = format!("{BEHIND} events from position 1, {what}, start of the process included");
    Entry::new(scenario, "events/s", &samples, note)
}

async fn catch_up_round(stage: &Stage, only: Option<Projection>) -> anyhow::Result<Sample> {
    let database = stage.create_ledger("catch_up").await?;
    let pool = &database.pool;
    let campaign: Uuid = sqlx::query_scalar("select md5('campaign')::uuid").fetch_one(pool).await?;
    open_campaign(&Ledger::start(pool.clone()), campaign).await?;
    seed::fill(pool, BEHIND).await?;
    if let Some(only) = only {
        let (names, versions): (Vec<_>, Vec<_>) = projectors::checkpoints().unzip();
        // The others have nothing to do.
        sqlx::query(
            "insert into projector_checkpoints (name, version, position)
             select name, version, position from ledger_head, unnest($1, $2) as c (name, version) where name <> $3",
        )
        .bind(names)
        .bind(versions)
        .bind(only.name())
        .execute(pool)
        .await?;
    }
    stage.checkpoint().await?;
    let redis = RedisTotals::open(stage.redis_url(), read_model::ledger_id(pool).await?)?;
    let head = event_store::head(pool).await?;
    let started = Instant::now();
    let service = start_service(stage, &database, "serve-projectors").await?;
    while !is_done(pool, head).await? || redis.read(campaign).await?.is_none_or(|t| t.position < head) {
        ensure!(started.elapsed() < PATIENCE, "the projectors do not reach {head}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = started.elapsed();
    service.stop().await?;
    stage.drop_database(database).await?;
    Ok(Sample::new(BEHIND.cast_unsigned(), took, None))
}

async fn is_done(pool: &PgPool, head: i64) -> anyhow::Result<bool> {
    let done: i64 = sqlx::query_scalar("select count(*) from projector_checkpoints where position = $1")
        .bind(head)
        .fetch_one(pool)
        .await?;
    Ok(usize::try_from(done)? == projectors::checkpoints().count())
}

/// The campaign of the seed.
async fn open_campaign(ledger: &Ledger, id: Uuid) -> anyhow::Result<()> {
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
    Ok(())
}
