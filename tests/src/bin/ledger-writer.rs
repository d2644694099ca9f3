//! A process that appends to a ledger and says what was answered, for tests that kill it.
//!
//! One line per answered command: the pledge's id and its position. What is not printed was not
//! answered, and may or may not be in the ledger.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::Context;
use careforall_tests::faults::new_pledge;
use clap::Parser;
use domain::Pledge;
use event_store::{Ledger, Metadata};
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinSet;
use uuid::Uuid;

#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    database_url: String,
    /// How many commands to append.
    #[arg(long, default_value_t = i64::MAX)]
    count: i64,
    /// How many are under way at once.
    #[arg(long, default_value_t = 32)]
    at_once: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { database_url, count, at_once } = Arguments::parse();
    let pool = PgPoolOptions::new().max_connections(4).connect(&database_url).await?;
    let ledger = Ledger::start(pool);
    let left = Arc::new(AtomicI64::new(count));
    let mut tasks = JoinSet::new();
    for _ in 0..at_once {
        tasks.spawn(append_until_none_left(ledger.clone(), left.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn append_until_none_left(ledger: Ledger, left: Arc<AtomicI64>) -> anyhow::Result<()> {
    while left.fetch_sub(1, Ordering::Relaxed) > 0 {
        let id = Uuid::new_v4();
        let made = ledger.create::<Pledge>(id, &new_pledge(), vec![], &Metadata::default(), None).await;
        let position = made.context("an append failed")?.position;
        writeln!(std::io::stdout(), "{id} {position}")?;
    }
    Ok(())
}
