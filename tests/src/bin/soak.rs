//! The long runs: see `make soak`. Each is seeded and can be repeated.

use std::time::{Duration, Instant};

use careforall_tests::projection_faults::{self, Fire, RebuildUnderLoad};
use careforall_tests::{faults, fresh_database, hostile, scale, watchers};
use clap::Parser;
use serde_json::json;

/// Runs the fault tests at full length and reports what each did.
#[derive(Parser)]
struct Arguments {
    /// The same seed makes the same choices.
    #[arg(long, env = "SOAK_SEED", default_value_t = 1)]
    seed: u64,
    /// Run only these.
    #[arg(long, num_args = 1.., value_delimiter = ',')]
    only: Vec<String>,
    /// Where the report goes.
    #[arg(long, default_value = "target/soak/latest.json")]
    out: std::path::PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { seed, only, out } = Arguments::parse();
    let mut report = Vec::new();
    println!("seed {seed}");
    for name in RUNS.into_iter().filter(|name| only.is_empty() || only.iter().any(|chosen| chosen == name)) {
        let started = Instant::now();
        let did = run(name, seed).await;
        let seconds = started.elapsed().as_secs_f64();
        println!("{name:<30} {seconds:>7.1} s  {did}");
        report.push(json!({"name": name, "seed": seed, "seconds": seconds, "did": did}));
    }
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&out, serde_json::to_string_pretty(&report)?)?;
    println!("report in {}", out.display());
    Ok(())
}

const RUNS: [&str; 10] = [
    "writers_and_a_reader",
    "a_killed_writer",
    "a_killed_postgres",
    "callers_that_leave",
    "hostile_webhooks",
    "many_watchers",
    "reads_at_scale",
    "exactly_once_under_fire",
    "a_stopped_worker_that_goes_on",
    "rebuild_while_others_work",
];

/// Runs one, and says what it did. It panics where a promise is broken.
async fn run(name: &str, seed: u64) -> String {
    match name {
        "writers_and_a_reader" => faults::writers_and_a_reader(&fresh_database().await, 4, 100_000).await,
        "a_killed_writer" => faults::a_killed_writer(&fresh_database().await, 50, seed).await,
        "a_killed_postgres" => faults::a_killed_postgres(5, seed).await,
        "callers_that_leave" => faults::callers_that_leave(&fresh_database().await, 10_000, seed).await,
        "hostile_webhooks" => hostile::webhooks(20_000, seed).await,
        "many_watchers" => watchers::many_watchers(5_000, 50, 60).await,
        "reads_at_scale" => scale::reads_at_scale(1_000_000).await,
        "exactly_once_under_fire" => {
            let fire = Fire { events: 100_000, kills: 30, redis_restarts: 5, postgres_kills: 3 };
            projection_faults::exactly_once_under_fire(fire, seed).await
        }
        "a_stopped_worker_that_goes_on" => projection_faults::a_stopped_worker_that_goes_on(seed).await,
        "rebuild_while_others_work" => {
            let load = RebuildUnderLoad { before: 100_000, rate: 2_000.0, at_least: Duration::from_secs(60) };
            projection_faults::rebuild_while_others_work(load, seed).await
        }
        unknown => unreachable!("there is no run {unknown}"),
    }
}
