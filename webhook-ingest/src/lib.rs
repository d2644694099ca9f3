//! The inbox of payment providers' messages. A webhook is verified, stored durably and acknowledged; a
//! worker turns it into commands, and operators decide about what the worker cannot. What no webhook
//! reported is polled.
//!
//! Nothing unverified is stored, and nothing is answered with 200 before it is stored. Whether a
//! message was seen before is decided by the inbox's unique index alone.
//!
//! The service runs until it is told to stop, and each provider of the registry has an address in it:
//!
//! ```
//! use payments::Registry;
//! use service::shutdown_on_signal;
//! use tokio::net::TcpListener;
//! use webhook_ingest::Config;
//!
//! async fn serve(config: Config) -> std::io::Result<()> {
//!     let listener = TcpListener::bind("127.0.0.1:8080").await?;
//!     webhook_ingest::run(config, listener, shutdown_on_signal()?).await;
//!     Ok(())
//! }
//!
//! let registry = Registry::default();
//! let paths = webhook_ingest::api(&registry).paths.paths;
//! for provider in registry.iter() {
//!     assert!(paths.contains_key(&format!("/webhooks/{}", provider.name)));
//! }
//! ```

mod apply;
mod ask;
mod corrections;
mod dead_letters;
mod expiry;
mod inbox;
mod operator;
mod payouts;
mod polled;
mod receive;
mod reconcile;
mod upkeep;
mod worker;

pub use domain::AmountsByCurrency;
pub use domain::pledge::CaptureLimit;
use event_store::{GroupCommit, Ledger};
use payments::{Providers, Registry};
use service::auth::AdminToken;
use service::health::{Health, PostgresCheck};
use service::{Limits, Shutdown, harden, serve};
use sqlx::PgPool;
use std::time::Duration;
use tokio::net::TcpListener;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use receive::DeliveryCounters;

pub use worker::run_worker;

/// Configuration of webhook-ingest.
#[derive(Clone)]
pub struct Config {
    /// Connections for the inbox and the operators' routes.
    pub pool: PgPool,
    /// Connections of the worker. Its commits need not wait for the disk: what it forgets in a crash
    /// it does again, and finds nothing new.
    pub worker_pool: PgPool,
    /// The ledger that facts go to.
    pub ledger: Ledger,
    /// Every provider that has an address for webhooks, set up or not.
    pub registry: Registry,
    /// The providers whose messages are taken. They are also asked for what a message leaves out, and
    /// to void what a finished pledge cannot take.
    pub providers: Providers,
    /// The token of the operators' routes.
    pub admin_token: AdminToken,
    /// Finished messages are deleted after this; at least seven days.
    pub retention: Duration,
    /// The shortest time from the opening of a payment session to the first poll, and between polls.
    pub reconcile_after: Duration,
    /// A payment that takes more than this for its pledge is held apart until a person accepts it.
    pub capture_limit: CaptureLimit,
    /// A correction that changes more than this needs a second person, and one of a currency that is not
    /// listed always does. Without it, none does.
    pub four_eyes_above: Option<AmountsByCurrency>,
    /// A pledge that is pending for longer than this expires, once nobody can pay it any more.
    pub pledge_ttl: Duration,
}

pub(crate) struct Resources {
    deliveries: Vec<DeliveryCounters>,
    inbox: GroupCommit<inbox::InboxWriter>,
    providers: Providers,
    pool: PgPool,
    admin_token: AdminToken,
    desk: corrections::Desk,
}

service::state!(State(Resources): pool: PgPool, admin_token: AdminToken);

/// The description of this service's routes, with an address for the webhooks of each provider.
pub fn api(registry: &Registry) -> OpenApi {
    routes(registry).into_openapi()
}

/// The service's routes.
pub fn router(config: &Config) -> OpenApiRouter {
    let state = State::new(Resources {
        deliveries: config.registry.iter().map(|provider| DeliveryCounters::new(provider.name)).collect(),
        inbox: inbox::start_writer(config.pool.clone()),
        providers: config.providers.clone(),
        pool: config.pool.clone(),
        admin_token: config.admin_token.clone(),
        desk: corrections::Desk {
            ledger: config.ledger.clone(),
            limit: config.capture_limit,
            four_eyes_above: config.four_eyes_above.clone(),
        },
    });
    routes(&config.registry).with_state(state)
}

fn routes(registry: &Registry) -> OpenApiRouter<State> {
    receive::router(registry).merge(dead_letters::router()).merge(corrections::router())
}

/// Readiness checks of this service.
pub fn health(config: &Config) -> Health {
    Health::default().with(PostgresCheck(config.pool.clone()))
}

/// Serves the webhooks and runs the worker until `shutdown`.
pub async fn run(config: Config, listener: TcpListener, shutdown: Shutdown) {
    let worker = tokio::spawn(run_worker(config.clone(), shutdown.clone()));
    serve_routes(&config, listener, shutdown).await;
    let _ = worker.await;
}

/// Serves the webhooks until `shutdown`, and leaves the work on them to others.
pub async fn serve_routes(config: &Config, listener: TcpListener, shutdown: Shutdown) {
    let (routes, _) = router(config).split_for_parts();
    let app = harden(routes, Limits::default()).merge(health(config).router());
    serve(listener, app, shutdown).await;
}
