//! Workers that fold the ledger into Redis totals, read tables and reactions.
//!
//! Each projector has a name, a version, a checkpoint and a lease. Rows and checkpoint are
//! written in one transaction, under the token of the lease, so a row is written exactly once
//! whatever dies in between. Redis holds absolute values under their position, so it may be
//! written any number of times.
//!
//! All of them run in one process, which needs a pool of connections, Redis, and the payment providers:
//!
//! ```no_run
//! use event_store::EventReader;
//! use projectors::Config;
//! use read_model::RedisTotals;
//! use service::shutdown_on_signal;
//! use tokio::net::TcpListener;
//!
//! # async fn example(pool: sqlx::PgPool, providers: payments::Providers) -> anyhow::Result<()> {
//! let redis = RedisTotals::open("redis://127.0.0.1:6379", read_model::ledger_id(&pool).await?)?;
//! let config = Config { pool, reader: EventReader::default(), redis, providers };
//! // For health, metrics and `/projectors`.
//! let listener = TcpListener::bind("127.0.0.1:8080").await?;
//! projectors::run(config, listener, shutdown_on_signal()?).await;
//! # Ok(())
//! # }
//! ```

mod compare;
mod feed;
mod mirror;
mod projections;
mod rebuild;
mod rows;
mod runner;
mod status;
mod voids;

pub use compare::TableDifference;
pub use projections::rebuild;
pub use rebuild::{RebuildError, RebuildOptions, RebuildProgress, Rebuilt};
pub use status::status_router;

use anyhow::Context;
use async_trait::async_trait;
use axum::Router;
use event_store::{EventReader, Wakeup};
use payments::Providers;
use read_model::{Projection, RedisTotals};
use service::health::{Check, Health, PostgresCheck};
use service::{Limits, Shutdown, harden, serve};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::feed::Feed;
use crate::projections::registration;
use crate::runner::{Projector, Runner};
use crate::voids::VoidCancelled;

/// Connections and addresses of the projectors.
#[derive(Clone)]
pub struct Config {
    /// Connections for reading the ledger and writing the read tables.
    pub pool: PgPool,
    /// How they read the ledger.
    pub reader: EventReader,
    /// Where totals are mirrored to.
    pub redis: RedisTotals,
    /// The providers that are asked to void cancelled pledges.
    pub providers: Providers,
}

/// The checks that must pass for the projectors to be ready.
pub fn health(config: &Config) -> Health {
    Health::default().with(PostgresCheck(config.pool.clone())).with(RedisCheck(config.redis.clone()))
}

/// Redis answers.
struct RedisCheck(RedisTotals);

#[async_trait]
impl Check for RedisCheck {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn check(&self) -> anyhow::Result<()> {
        self.0.ping().await.context("no answer to PING")
    }
}

/// Names and versions of all projectors, those that only react included: each has a checkpoint of these.
pub fn checkpoints() -> impl Iterator<Item = (&'static str, i32)> {
    let of_projections = Projection::ALL.into_iter().map(registration).map(|one| (one.name, one.version));
    of_projections.chain([(VoidCancelled::NAME, VoidCancelled::VERSION)])
}

/// Runs all projectors and reactions until `shutdown`.
pub async fn run_workers(config: Config, shutdown: Shutdown) {
    let wakeup = Wakeup::listen(config.pool.clone(), Wakeup::LEDGER);
    let feed = Feed::new(config.pool.clone(), config.reader);
    let runner = Runner { pool: config.pool.clone(), feed, wakeup, shutdown: shutdown.clone() };
    let mut workers = JoinSet::new();
    for projection in Projection::ALL {
        workers.spawn((registration(projection).run)(runner.clone(), &config));
    }
    workers.spawn(status::observe(config.pool, shutdown));
    workers.spawn(runner.run(VoidCancelled { providers: config.providers }));
    workers.join_all().await;
}

/// Runs the workers, with health and metrics on `listener`, until `shutdown`.
pub async fn run(config: Config, listener: TcpListener, shutdown: Shutdown) {
    let app = harden(Router::new(), Limits::default())
        .merge(health(&config).router())
        .merge(status_router(config.pool.clone()));
    let workers = tokio::spawn(run_workers(config, shutdown.clone()));
    serve(listener, app, shutdown).await;
    let _ = workers.await;
}
