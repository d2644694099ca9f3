//! A stand-in payment provider: a payment page, signed webhooks, and books of its own.
//!
//! It is somebody else's system in miniature. The merchant opens sessions over its API, visitors
//! approve or decline on its page, and it reports by webhooks until it gets a 2xx. What happened
//! (facts) is kept apart from the messages that tell of it, and a dial decides how badly those
//! messages, and the API, behave.
//!
//! It needs a pool of connections for its books, and knows one merchant:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use payment_sandbox::Config;
//! use service::shutdown_on_signal;
//! use tokio::net::TcpListener;
//!
//! # async fn example(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config {
//!     pool,
//!     api_key: "the merchant's key".to_owned(),
//!     webhook_secret: "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".parse()?,
//!     webhook_url: "http://127.0.0.1:8080/webhooks/sandbox".to_owned(),
//!     public_url: "http://127.0.0.1:8084".to_owned(),
//!     settle_after: Duration::from_secs(10),
//! };
//! let listener = TcpListener::bind("127.0.0.1:8084").await?;
//! payment_sandbox::run(config, listener, shutdown_on_signal()?).await;
//! # Ok(())
//! # }
//! ```

mod books;
mod deliver;
mod dial;
mod disputes;
mod draws;
mod facts;
mod merchant;
mod money;
mod outage;
mod pages;
mod plan;
mod planner;
mod refunds;
mod request_count;
mod reversals;
mod sessions;
mod voids;

use std::time::Duration;

use axum::extract::FromRef;
use axum::middleware::from_fn_with_state;
use payments::WebhookSecret;
use service::auth::AdminToken;
use service::health::{Health, PostgresCheck};
use service::{Limits, Shutdown, harden, serve};
use sqlx::PgPool;
use tokio::net::TcpListener;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use request_count::RequestCount;

/// Configuration of the sandbox.
#[derive(Clone)]
pub struct Config {
    /// Connections for its books.
    pub pool: PgPool,
    /// The key that the merchant's requests carry.
    pub api_key: String,
    /// The secret that webhooks are signed with.
    pub webhook_secret: WebhookSecret,
    /// Where webhooks go.
    pub webhook_url: String,
    /// The address of this service that visitors see, without a slash at the end.
    pub public_url: String,
    /// How long after the capture the settlement is confirmed.
    pub settle_after: Duration,
}

/// State that the handlers share.
#[derive(Clone, FromRef)]
pub(crate) struct State {
    pool: PgPool,
    api_key: AdminToken,
    public_url: PublicUrl,
    settle_after: Duration,
    request_count: RequestCount,
}

#[derive(Clone)]
pub(crate) struct PublicUrl(String);

/// Routes that merchants call; an outage takes these down.
fn merchant_routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .merge(sessions::merchant_router())
        .merge(refunds::merchant_router())
        .merge(voids::router())
}

/// Routes of visitors, their banks and operators of the sandbox.
fn other_routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .merge(pages::router())
        .merge(sessions::visitor_router())
        .merge(disputes::router())
        .merge(refunds::bank_router())
        .merge(reversals::router())
        .merge(dial::router())
        .merge(books::router())
}

/// The description of this service's routes.
pub fn api() -> OpenApi {
    merchant_routes().merge(other_routes()).into_openapi()
}

/// The service's routes.
pub fn router(config: &Config) -> OpenApiRouter {
    let state = State {
        pool: config.pool.clone(),
        api_key: AdminToken::new(&config.api_key),
        public_url: PublicUrl(config.public_url.clone()),
        settle_after: config.settle_after,
        request_count: RequestCount::default(),
    };
    merchant_routes()
        .route_layer(from_fn_with_state(state.clone(), outage::break_down))
        .merge(other_routes())
        .with_state(state)
}

/// Readiness checks of this service.
pub fn health(config: &Config) -> Health {
    Health::default().with(PostgresCheck(config.pool.clone()))
}

/// Plans and sends webhooks until `shutdown`.
pub async fn run_deliveries(config: Config, shutdown: Shutdown) {
    tokio::join!(planner::run(config.pool.clone(), shutdown.clone()), deliver::run(config, shutdown));
}

/// Serves the pages and sends webhooks until `shutdown`.
pub async fn run(config: Config, listener: TcpListener, shutdown: Shutdown) {
    let (routes, _) = router(&config).split_for_parts();
    let app = harden(routes, Limits::default()).merge(health(&config).router());
    let deliveries = tokio::spawn(run_deliveries(config, shutdown.clone()));
    serve(listener, app, shutdown).await;
    let _ = deliveries.await;
}
