//! The long runs: see `make soak`. Each is seeded and can be repeated.

use std::time::{Duration, Instant};

use careforall_tests::chaos::{Chaos, donations_through_a_broken_provider};
use careforall_tests::projection_faults::{self, Fire, RebuildUnderLoad};
use careforall_tests::{faults, fresh_database, hostile, scale, watchers};
use clap::{Parser, ValueEnum};
use serde_json::json;

/// Runs the fault tests at full length and reports what each did.
#[derive(Parser)]
struct Arguments {
    /// The same seed makes the same choices.
    #[arg(long, env = "SOAK_SEED", default_value_t = 1)]
    seed: u64,
    /// Only these runs; all of them where none is named.
    #[arg(long, value_enum, num_args = 1.., value_delimiter = ',')]
    only: Vec<Run>,
    /// Where the report goes.
    #[arg(long, default_value = "target/soak/latest.json")]
    out: std::path::PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Run {
    WritersAndAReader,
    AKilledWriter,
    AKilledPostgres,
    CallersThatLeave,
    HostileWebhooks,
    Donations,
    DonationsAndKills,
    ExactlyOnceUnderFire,
    AStoppedWorkerThatGoesOn,
    RebuildWhileOthersWork,
    ManyWatchers,
    ReadsAtScale,
}

impl Run {
    /// Runs it, and says what it did. It panics where a promise is broken.
    async fn run(self, seed: u64) -> String {
        match self {
            Self::WritersAndAReader => {
                faults::writers_and_a_reader(&fresh_database().await, 4, 100_000).await
            }
            Self::AKilledWriter => faults::a_killed_writer(&fresh_database().await, 50, seed).await,
            Self::AKilledPostgres => faults::a_killed_postgres(5, seed).await,
            Self::CallersThatLeave => faults::callers_that_leave(&fresh_database().await, 10_000, seed).await,
            Self::HostileWebhooks => hostile::webhooks(20_000, seed).await,
            Self::Donations => donations(0, seed).await,
            Self::DonationsAndKills => donations(20, seed).await,
            Self::ExactlyOnceUnderFire => {
                let fire = Fire { events: 100_000, kills: 30, redis_restarts: 5, postgres_kills: 3 };
                projection_faults::exactly_once_under_fire(fire, seed).await
            }
            Self::AStoppedWorkerThatGoesOn => projection_faults::a_stopped_worker_that_goes_on(seed).await,
            Self::RebuildWhileOthersWork => {
                let at_least = Duration::from_secs(60);
                let load = RebuildUnderLoad { before: 100_000, rate: 2_000.0, at_least };
                projection_faults::rebuild_while_others_work(load, seed).await
            }
            Self::ManyWatchers => watchers::many_watchers(5_000, 50, 60).await,
            Self::ReadsAtScale => scale::reads_at_scale(1_000_000).await,
        }
    }
}

async fn donations(kills: usize, seed: u64) -> String {
    let pledge_ttl = Duration::from_secs(30);
    donations_through_a_broken_provider(Chaos { donations: 2_000, kills, seed, pledge_ttl }).await
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { seed, only, out } = Arguments::parse();
    let mut report = Vec::new();
    println!("seed {seed}");
    for run in Run::value_variants().iter().filter(|run| only.is_empty() || only.contains(run)) {
        let started = Instant::now();
        let did = run.run(seed).await;
        let seconds = started.elapsed().as_secs_f64();
        let name = format!("{run:?}");
        println!("{name:<24} {seconds:>7.1} s  {did}");
        report.push(json!({"name": name, "seed": seed, "seconds": seconds, "did": did}));
    }
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&out, serde_json::to_string_pretty(&report)?)?;
    println!("report in {}", out.display());
    Ok(())
}
