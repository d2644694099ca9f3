//! Provider webhooks: verify, store durably, acknowledge; a worker turns them into commands.
//!
//! Nothing unverified is stored, and nothing is answered with 200 before it is stored. Whether a
//! message was seen before is decided by the inbox's unique constraint alone.

mod inbox;
mod receive;
mod worker;

use axum::extract::FromRef;
use event_store::{GroupCommit, Ledger};
use payments::Providers;
use service::health::{Health, PostgresCheck};
use service::{Limits, Shutdown, harden, serve};
use sqlx::PgPool;
use tokio::net::TcpListener;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

pub use worker::run_worker;

/// What webhook-ingest needs.
#[derive(Clone)]
pub struct Config {
    /// Connections for the inbox.
    pub pool: PgPool,
    /// The ledger that facts go to.
    pub ledger: Ledger,
    /// The providers whose messages are taken. They are also asked for what a message leaves out, and
    /// to void what a finished pledge cannot take.
    pub providers: Providers,
}

/// What the handlers share.
#[derive(Clone, FromRef)]
pub(crate) struct State {
    inbox: GroupCommit<inbox::InboxWriter>,
    providers: Providers,
}

/// The description of this service's routes.
pub fn api() -> OpenApi {
    receive::router().into_openapi()
}

/// The service's routes.
pub fn router(config: &Config) -> OpenApiRouter {
    let state =
        State { inbox: inbox::start_writer(config.pool.clone()), providers: config.providers.clone() };
    receive::router().with_state(state)
}

/// What must work for this service to be ready.
pub fn health(config: &Config) -> Health {
    Health::default().with(PostgresCheck(config.pool.clone()))
}

/// Serves the webhooks and runs the worker until `shutdown`.
pub async fn run(config: Config, listener: TcpListener, shutdown: Shutdown) {
    let (routes, _) = router(&config).split_for_parts();
    let app = harden(routes, Limits::default()).merge(health(&config).router());
    let worker = tokio::spawn(run_worker(config, shutdown.clone()));
    serve(listener, app, shutdown).await;
    let _ = worker.await;
}
