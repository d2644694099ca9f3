//! What the ledger must survive, short; `make soak` runs the same at full length.

use std::time::Duration;

use careforall_tests::chaos::{Chaos, donations_through_a_broken_provider};
use careforall_tests::{faults, fresh_database};

const SEED: u64 = 1;

#[tokio::test(flavor = "multi_thread")]
async fn several_writer_processes_and_a_reader() {
    faults::writers_and_a_reader(&fresh_database().await, 3, 3_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_killed_at_random_moments() {
    faults::a_killed_writer(&fresh_database().await, 6, SEED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_killed_under_load() {
    faults::a_killed_postgres(2, SEED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_leave_at_random_moments() {
    faults::callers_that_leave(&fresh_database().await, 1_000, SEED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn donations_through_a_broken_provider_while_processes_are_killed() {
    let chaos = Chaos { donations: 150, kills: 2, seed: SEED, pledge_ttl: Duration::from_secs(8) };
    println!("{}", donations_through_a_broken_provider(chaos).await);
}
