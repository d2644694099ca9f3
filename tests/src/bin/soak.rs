//! The long runs: see `make soak`. Each is seeded and can be repeated.

use std::time::Instant;

use careforall_tests::{faults, fresh_database, hostile, scale, watchers};
use clap::Parser;
use serde_json::json;

/// Runs the fault tests at full length and reports what each did.
#[derive(Parser)]
struct Arguments {
    /// The same seed makes the same choices.
    #[arg(long, env = "SOAK_SEED", default_value_t = 1)]
    seed: u64,
    /// Where the report goes.
    #[arg(long, default_value = "target/soak/latest.json")]
    out: std::path::PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { seed, out } = Arguments::parse();
    let mut report = Vec::new();
    let mut note = |name: &str, started: Instant, did: String| {
        let seconds = started.elapsed().as_secs_f64();
        println!("{name:<24} {seconds:>7.1} s  {did}");
        report.push(json!({"name": name, "seed": seed, "seconds": seconds, "did": did}));
    };
    println!("seed {seed}");
    let started = Instant::now();
    note(
        "writers_and_a_reader",
        started,
        faults::writers_and_a_reader(&fresh_database().await, 4, 100_000).await,
    );
    let started = Instant::now();
    note("a_killed_writer", started, faults::a_killed_writer(&fresh_database().await, 50, seed).await);
    let started = Instant::now();
    note("a_killed_postgres", started, faults::a_killed_postgres(5, seed).await);
    let started = Instant::now();
    note(
        "callers_that_leave",
        started,
        faults::callers_that_leave(&fresh_database().await, 10_000, seed).await,
    );
    let started = Instant::now();
    note("hostile_webhooks", started, hostile::webhooks(20_000, seed).await);
    let started = Instant::now();
    note("many_watchers", started, watchers::many_watchers(5_000, 50, 60).await);
    let started = Instant::now();
    note("reads_at_scale", started, scale::reads_at_scale(1_000_000).await);
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&out, serde_json::to_string_pretty(&report)?)?;
    println!("report in {}", out.display());
    Ok(())
}
