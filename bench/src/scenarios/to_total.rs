//! From a provider's message over HTTP to the total in Redis.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use read_model::{RedisTotals, Totals};
use sqlx::PgPool;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::Scenario;
use crate::Options;
use crate::facts::{self, Sent, now_us};
use crate::report::Entry;
use crate::rounds::{Latency, Sample, repeat};
use crate::seed;
use crate::stage::Stage;
use crate::subject::{Extent, Ours, WEBHOOK_SECRET};

const CONNECTIONS: usize = 64;
/// The pace at which latency is measured, in facts per second.
const PACE: u64 = 1_000;
/// Facts of one round at full speed, for each second that a round is asked to last.
const FULL_SPEED: u64 = 5_000;
/// After the load ended, everything has this long to reach Redis.
const PATIENCE: Duration = Duration::from_secs(60);

/// Each fact captures a pledge of its own. The rate is that of a round at full speed, until the last
/// fact is in the total; the latencies are those of a round at a steady pace.
pub(super) async fn run(stage: &Stage, options: &Options, scenario: Scenario) -> anyhow::Result<Entry> {
    let ours = Ours::start(stage, "to_total", Extent::Whole).await?;
    let (fast, steady) = (options.seconds * FULL_SPEED, options.seconds * PACE);
    let needed = PACE + u64::from(options.rounds) * (fast + steady);
    let pledges = seed::pledges(&ours.database.pool, ours.campaign_id, needed.cast_signed()).await?;
    ours.settle().await?;
    let seen = TotalsLog::follow(stage, &ours.database.pool).await?;
    stage.checkpoint().await?;

    let mut rest = &pledges[..];
    let mut take = |count: u64| {
        let (taken, left) = rest.split_at((count as usize).min(rest.len()));
        rest = left;
        taken
    };
    round(stage, &ours, &seen, take(PACE), Some(PACE)).await?;
    let samples = repeat(options.rounds, async || -> anyhow::Result<Sample> {
        let at_full_speed = round(stage, &ours, &seen, take(fast), None).await?;
        let at_pace = round(stage, &ours, &seen, take(steady), Some(PACE)).await?;
        Ok(Sample { latency: at_pace.latency, ..at_full_speed })
    })
    .await?;
    let note = format!(
        "signed captures, until each is in the total in Redis; rate: {fast} facts on {CONNECTIONS} connections as fast \
         as they are taken; latency: at {PACE} facts/s, from when each was due"
    );
    let entry = Entry::new(scenario, "facts/s", &samples, note)?.with_rss(ours.rss_peak_mb()?);
    seen.task.abort();
    ours.finish(stage).await?;
    Ok(entry)
}

/// Sends one fact for each pledge, and finds out when each was in the total.
async fn round(
    stage: &Stage,
    ours: &Ours,
    seen: &TotalsLog,
    pledges: &[Uuid],
    rate: Option<u64>,
) -> anyhow::Result<Sample> {
    ours.settle().await?;
    let list = stage.file("pledges.json");
    let sent = facts::run(ours.address(), &list, pledges, WEBHOOK_SECRET, CONNECTIONS, rate).await?;
    ensure!(sent.len() == pledges.len(), "{} of {} facts were taken", sent.len(), pledges.len());
    let positions = captured_at(&ours.database.pool, pledges).await?;
    let last = positions.values().max().copied().context("nothing was captured")?;
    let totals = seen.up_to(last).await?;
    let begin = sent.iter().map(|sent| sent.due_us).min().unwrap_or_default();
    if let Some(rate) = rate {
        let took = sent.iter().map(|sent| sent.answered_us).max().unwrap_or_default() - begin;
        let planned = sent.len() as u64 * 1_000_000 / rate;
        ensure!(
            took < planned * 11 / 10,
            "the pace was not kept: {} ms instead of {}",
            took / 1_000,
            planned / 1_000
        );
    }
    let mut took = Vec::with_capacity(sent.len());
    let mut end = begin;
    for Sent { pledge_id, due_us, .. } in &sent {
        let position = positions[pledge_id];
        // The first total that counts this position.
        let index = totals.partition_point(|(_, counted)| *counted < position);
        let (at_us, _) = totals[index];
        end = end.max(at_us);
        took.push(Duration::from_micros(at_us.saturating_sub(*due_us)));
    }
    Ok(Sample::new(sent.len() as u64, Duration::from_micros(end - begin), Latency::of(took)))
}

/// Where in the ledger each pledge was captured, once all are.
async fn captured_at(pool: &PgPool, pledges: &[Uuid]) -> anyhow::Result<HashMap<Uuid, i64>> {
    let ids: Vec<String> = pledges.iter().map(Uuid::to_string).collect();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "select aggregate_id, position from events
             where aggregate_type = 'pledge' and aggregate_id = any ($1) and event_type = 'PledgeCaptured'",
        )
        .bind(&ids)
        .fetch_all(pool)
        .await?;
        if rows.len() == pledges.len() {
            return rows.into_iter().map(|(id, position)| Ok((id.parse()?, position))).collect();
        }
        let is_late = tokio::time::Instant::now() > deadline;
        ensure!(!is_late, "of {} pledges only {} were captured", pledges.len(), rows.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The totals in Redis over time: when, in microseconds since 1970, and up to which position.
struct TotalsLog {
    totals: watch::Receiver<Vec<(u64, i64)>>,
    task: JoinHandle<()>,
}

impl TotalsLog {
    /// Follows the totals of the one campaign. Redis tells of each change when it has made it.
    async fn follow(stage: &Stage, pool: &PgPool) -> anyhow::Result<Self> {
        let ledger_id = read_model::ledger_id(pool).await?;
        let mut messages = RedisTotals::open(stage.redis_url(), ledger_id)?.subscribe().await?;
        let (write, totals) = watch::channel(Vec::new());
        let task = tokio::spawn(async move {
            let mut messages = messages.on_message();
            while let Some(message) = messages.next().await {
                let at = now_us();
                let totals = serde_json::from_slice::<Totals>(message.get_payload_bytes());
                if let Ok(totals) = totals {
                    write.send_modify(|seen: &mut Vec<_>| seen.push((at, totals.position)));
                }
            }
        });
        Ok(Self { totals, task })
    }

    /// All that was said, once it reaches `position`.
    async fn up_to(&self, position: i64) -> anyhow::Result<Vec<(u64, i64)>> {
        let mut totals = self.totals.clone();
        let reached = totals.wait_for(|seen| seen.last().is_some_and(|(_, last)| *last >= position));
        let seen = tokio::time::timeout(PATIENCE, reached).await;
        let seen = seen.with_context(|| format!("Redis does not reach position {position}"))?;
        Ok(seen.context("Redis has hung up")?.clone())
    }
}
