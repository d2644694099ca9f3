//! Writes over HTTP: campaigns and pledges.
//!
//! A handler reads as four lines: extract, build the command, execute, respond. No handler opens a
//! transaction; appends go through the ledger's queue, which finishes whatever the client does.
//!
//! The service needs a pool of connections and the payment providers:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use command_api::{Config, LeastPledges, PublicUrl};
//! use event_store::{Ledger, load_id_key};
//! use service::{AllowedOrigins, auth::AdminToken, shutdown_on_signal};
//! use tokio::net::TcpListener;
//!
//! # async fn example(
//! #     pool: sqlx::PgPool,
//! #     providers: payments::Providers,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config {
//!     id_key: load_id_key(&pool).await?,
//!     ledger: Ledger::start(pool),
//!     admin_token: AdminToken::new("the organisers' token"),
//!     providers,
//!     public_url: PublicUrl("https://give.example.org".to_owned()),
//!     least_pledges: LeastPledges::default(),
//!     reconcile_after: Duration::from_secs(60),
//!     allowed_origins: AllowedOrigins::default(),
//! };
//! let listener = TcpListener::bind("127.0.0.1:8080").await?;
//! command_api::run(config, listener, shutdown_on_signal()?).await;
//! # Ok(())
//! # }
//! ```

mod accept;
mod amounts;
mod campaigns;
mod input;
mod open_campaigns;
mod pay;
mod pledges;
mod refunds;
mod replies;

use std::time::Duration;

use domain::IdKey;
use event_store::Ledger;
use payments::Providers;
use service::auth::AdminToken;
use service::health::{Health, PostgresCheck};
use service::{AllowedOrigins, Limits, Shutdown, harden, open_to, serve};
use tokio::net::TcpListener;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::open_campaigns::OpenCampaigns;

pub use amounts::LeastPledges;

/// The dependencies of command-api.
#[derive(Clone)]
pub struct Config {
    /// The ledger.
    pub ledger: Ledger,
    /// The key that pseudonyms and pledge ids are made with.
    pub id_key: IdKey,
    /// The organisers' token.
    pub admin_token: AdminToken,
    /// The providers that payments are made and given back with.
    pub providers: Providers,
    /// The address that donors see, without a slash at the end.
    pub public_url: PublicUrl,
    /// The least amounts of pledges.
    pub least_pledges: LeastPledges,
    /// Age at which a payment or a refund is first polled.
    pub reconcile_after: Duration,
    /// The sites whose pages may use the open operations.
    pub allowed_origins: AllowedOrigins,
}

/// The address that donors see, without a slash at the end.
#[derive(Clone, Debug)]
pub struct PublicUrl(pub String);

pub(crate) struct Dependencies {
    ledger: Ledger,
    id_key: IdKey,
    admin_token: AdminToken,
    providers: Providers,
    public_url: PublicUrl,
    open_campaigns: OpenCampaigns,
    least_pledges: LeastPledges,
    reconcile_after: ReconcileAfter,
}

service::state!(
    State(Dependencies):
    ledger: Ledger,
    id_key: IdKey,
    admin_token: AdminToken,
    providers: Providers,
    public_url: PublicUrl,
);

/// Age at which a payment or a refund is first polled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReconcileAfter(pub(crate) Duration);

fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .merge(campaigns::router())
        .merge(pledges::router())
        .merge(pay::router())
        .merge(refunds::router())
        .merge(accept::router())
}

/// The description of this service's routes.
pub fn api() -> OpenApi {
    routes().into_openapi()
}

/// The service's routes.
pub fn router(config: Config) -> OpenApiRouter {
    let state = State::new(Dependencies {
        open_campaigns: OpenCampaigns::new(config.ledger.clone()),
        ledger: config.ledger,
        id_key: config.id_key,
        admin_token: config.admin_token,
        providers: config.providers,
        public_url: config.public_url,
        least_pledges: config.least_pledges,
        reconcile_after: ReconcileAfter(config.reconcile_after),
    });
    routes().with_state(state)
}

/// The readiness checks of this service.
pub fn health(config: &Config) -> Health {
    Health::default().with(PostgresCheck(config.ledger.pool().clone()))
}

/// Serves until `shutdown`.
pub async fn run(config: Config, listener: TcpListener, shutdown: Shutdown) {
    let (health, origins) = (health(&config), config.allowed_origins.clone());
    let (routes, api) = router(config).split_for_parts();
    let app = open_to(harden(routes, Limits::default()), &api, &origins).merge(health.router());
    serve(listener, app, shutdown).await;
}
