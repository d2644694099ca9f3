//! The test harness: real servers, a database per test, and a client that speaks as donors,
//! organisers and the payment provider do.
//!
//! A harness may panic: a test whose service is missing fails, and says why.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, missing_docs)]

mod acme;
mod app;
mod books;
pub mod chaos;
mod client;
mod credentials;
pub mod faults;
pub mod hostile;
mod lives;
#[path = "../../bench/src/lives.rs"]
mod lives_of_sql;
mod ports;
mod program;
pub mod projection_faults;
mod redis_cluster;
pub mod scale;
mod servers;
mod stripe;
pub mod upcasts;
mod waiting;
pub mod watchers;

pub use acme::Acme;
pub use app::TestApp;
pub use books::{all_folded, assert_books_agree};
pub use client::{Client, Totals, answer};
pub use credentials::SANDBOX_API_KEY;
pub use lives::Lives;
pub use ports::free_address;
pub use program::{Program, peak_memory_mb, program, replay, replay_by};
pub use redis_cluster::RedisCluster;
pub use servers::{PrivateRedis, copy_of, fresh_database, ledger_of, redis_url, settle_port};
pub use stripe::{RecordedRequest, STRIPE_API_KEY, STRIPE_SECRET, StripeStub};
pub use waiting::{PATIENCE, completes, eventually};
