//! Reads over HTTP and server-sent events, from the projections alone: this crate never sees the
//! ledger.

mod campaigns;
mod donations;
mod pledges;
mod stream;
mod totals;
mod unapplied;

use std::sync::Arc;

use axum::extract::FromRef;
use axum::routing::get;
use read_model::RedisTotals;
use service::auth::AdminToken;
use service::health::{Health, PostgresCheck};
use service::{Json, Limits, Shutdown, harden, serve};
use sqlx::PgPool;
use tokio::net::TcpListener;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::stream::TotalsHub;
use crate::totals::TotalsReader;

/// What query-api needs.
#[derive(Clone)]
pub struct Config {
    /// Connections for the read tables.
    pub pool: PgPool,
    /// Totals in Redis.
    pub redis: RedisTotals,
    /// The organisers' token: who carries it sees drafts.
    pub admin_token: AdminToken,
    /// The description of the whole API, which this service hands out.
    pub openapi: OpenApi,
}

/// What the handlers share.
#[derive(Clone, FromRef)]
pub(crate) struct State {
    pool: PgPool,
    totals: TotalsReader,
    hub: TotalsHub,
    admin_token: AdminToken,
    shutdown: Shutdown,
}

fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .merge(campaigns::router())
        .merge(totals::router())
        .merge(stream::router())
        .merge(donations::router())
        .merge(pledges::router())
        .merge(unapplied::router())
}

/// The description of this service's routes.
pub fn api() -> OpenApi {
    routes().into_openapi()
}

/// The service's routes. Event streams end at `shutdown`.
pub fn router(config: Config, shutdown: Shutdown) -> OpenApiRouter {
    let totals = TotalsReader::new(config.redis.clone(), config.pool.clone());
    let state = State {
        hub: TotalsHub::start(config.redis, totals.clone(), shutdown.clone()),
        totals,
        pool: config.pool,
        admin_token: config.admin_token,
        shutdown,
    };
    let openapi = Arc::new(config.openapi);
    routes().with_state(state).route("/api/openapi.json", get(async move || Json(openapi.as_ref().clone())))
}

/// What must work for this service to be ready. Redis is not among it: without it the read
/// table answers.
pub fn health(config: &Config) -> Health {
    Health::default().with(PostgresCheck(config.pool.clone()))
}

/// Serves until `shutdown`.
pub async fn run(config: Config, listener: TcpListener, shutdown: Shutdown) {
    let health = health(&config);
    let (routes, _) = router(config, shutdown.clone()).split_for_parts();
    serve(listener, harden(routes, Limits::default()).merge(health.router()), shutdown).await;
}
