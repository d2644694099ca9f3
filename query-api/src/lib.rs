//! Reads over HTTP and server-sent events, from the projections alone: this crate never sees the
//! ledger.
//!
//! The service needs Redis, and Postgres with the settings of [`SESSION`]:
//!
//! ```no_run
//! use query_api::{Config, SESSION};
//! use read_model::RedisTotals;
//! use service::{AllowedOrigins, auth::AdminToken, shutdown_on_signal};
//! use sqlx::postgres::{PgConnectOptions, PgPool};
//! use tokio::net::TcpListener;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let postgres: PgConnectOptions = "postgres://careforall@127.0.0.1/careforall".parse()?;
//! let pool = PgPool::connect_with(postgres.options(SESSION)).await?;
//! let redis = RedisTotals::open("redis://127.0.0.1:6379", read_model::ledger_id(&pool).await?)?;
//! let admin_token = AdminToken::new("the organisers' token");
//! let allowed_origins = AllowedOrigins::default();
//! let config = Config { pool, redis, admin_token, openapi: query_api::api(), allowed_origins };
//!
//! let listener = TcpListener::bind("127.0.0.1:8080").await?;
//! query_api::run(config, listener, shutdown_on_signal()?).await;
//! # Ok(())
//! # }
//! ```

mod accounts;
mod as_of;
mod campaigns;
mod days;
mod donations;
mod etag;
mod exports;
mod me;
mod pledges;
mod progress;
mod stream;
mod totals;
mod unapplied;

use std::sync::Arc;

use axum::middleware::from_fn;
use axum::routing::get;
use read_model::RedisTotals;
use service::auth::AdminToken;
use service::health::{Health, PostgresCheck};
use service::{AllowedOrigins, Json, Limits, Shutdown, harden, open_to, serve};
use sqlx::PgPool;
use tokio::net::TcpListener;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::exports::Exports;
use crate::progress::Progress;
use crate::stream::TotalsHub;
use crate::totals::TotalsReader;

/// Settings of the database sessions.
pub const SESSION: [(&str, &str); 2] = [
    // Every statement has an index that it is meant for, at whatever size the tables are.
    ("enable_seqscan", "off"),
    // A word with a typing error or two is still alike; at the usual 0.6 it is not.
    ("pg_trgm.word_similarity_threshold", "0.3"),
];

/// The dependencies of query-api.
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
    /// The sites whose pages may use the open operations.
    pub allowed_origins: AllowedOrigins,
}

struct Dependencies {
    pool: PgPool,
    totals: Arc<TotalsReader>,
    hub: Arc<TotalsHub>,
    progress: Arc<Progress>,
    exports: Exports,
    admin_token: AdminToken,
    shutdown: Shutdown,
}

service::state!(
    State(Dependencies):
    pool: PgPool,
    totals: Arc<TotalsReader>,
    hub: Arc<TotalsHub>,
    progress: Arc<Progress>,
    exports: Exports,
    admin_token: AdminToken,
    shutdown: Shutdown,
);

fn routes() -> OpenApiRouter<State> {
    let tagged = OpenApiRouter::new()
        .merge(campaigns::router())
        .merge(donations::router())
        .merge(pledges::router())
        .merge(me::router())
        .merge(unapplied::router())
        .merge(accounts::router())
        .merge(days::router());
    // Totals bring a tag of their own; streams have none.
    etag::tag_answers(tagged).merge(totals::router()).merge(stream::router()).merge(exports::router())
}

/// The description of this service's routes.
pub fn api() -> OpenApi {
    routes().into_openapi()
}

/// The service's routes. Event streams end at `shutdown`.
pub fn router(config: Config, shutdown: Shutdown) -> OpenApiRouter {
    let Config { pool, redis, admin_token, openapi, allowed_origins: _ } = config;
    let progress = Progress::start(pool.clone(), shutdown.clone());
    let totals = Arc::new(TotalsReader::new(redis.clone(), pool.clone(), progress.clone()));
    let hub = Arc::new(TotalsHub::start(redis, totals.clone(), shutdown.clone()));
    let exports = Exports::new();
    let state = State::new(Dependencies { pool, totals, hub, progress, exports, admin_token, shutdown });
    let openapi = Arc::new(openapi);
    let description = get(async move || Json(openapi.as_ref().clone())).layer(from_fn(etag::tagged));
    routes().with_state(state).route("/api/openapi.json", description)
}

/// The readiness checks of this service. Redis is not among them: without it the read table answers.
pub fn health(config: &Config) -> Health {
    Health::default().with(PostgresCheck(config.pool.clone()))
}

/// Serves until `shutdown`.
pub async fn run(config: Config, listener: TcpListener, shutdown: Shutdown) {
    let (health, origins) = (health(&config), config.allowed_origins.clone());
    let (routes, api) = router(config, shutdown.clone()).split_for_parts();
    let app = open_to(harden(routes, Limits::default()), &api, &origins).merge(health.router());
    serve(listener, app, shutdown).await;
}
