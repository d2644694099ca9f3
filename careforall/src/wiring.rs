//! The configuration of each service, made from the settings in one place: `up` and the services that
//! run alone differ only in where the values come from.

use std::time::Duration;

use anyhow::{Context, anyhow};
use event_store::{EventReader, Ledger, load_id_key};
use payments::{BuildContext, Providers, Registry};
use read_model::RedisTotals;
use service::AllowedOrigins;
use service::auth::AdminToken;
use service::database::{self, Access};
use sqlx::PgPool;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, InfoBuilder, OpenApi, OpenApiBuilder};

use crate::settings::Settings;

/// No statement of a service runs longer than this.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Projectors write large batches.
const LONG_STATEMENT_TIMEOUT: Duration = Duration::from_secs(300);

/// The role of services that append commands.
const WRITER: &str = "careforall_writer";
/// The role of projectors.
const PROJECTOR: &str = "careforall_projector";

/// Settings that are complete, and what follows from them for each service.
#[derive(Clone)]
pub(crate) struct Wiring {
    pub(crate) settings: Settings,
    pub(crate) registry: Registry,
    pub(crate) database_url: String,
    /// Where this process is reached from this machine.
    pub(crate) local_url: String,
}

/// How most services use the database.
fn access(service: &'static str, role: &'static str, max_connections: u32) -> Access {
    Access {
        service,
        role: Some(role),
        max_connections,
        statement_timeout: STATEMENT_TIMEOUT,
        durable: true,
        settings: &[],
    }
}

impl Wiring {
    async fn pool(
        &self,
        service: &'static str,
        role: &'static str,
        max_connections: u32,
    ) -> anyhow::Result<PgPool> {
        database::connect(&self.database_url, access(service, role, max_connections)).await
    }

    /// The ledger for services that append, with connections of its own: appends never wait for
    /// readers.
    pub(crate) async fn ledger(&self) -> anyhow::Result<Ledger> {
        Ok(Ledger::start(self.pool("ledger", WRITER, 16).await?))
    }

    fn admin(&self) -> anyhow::Result<AdminToken> {
        Ok(AdminToken::new(needed(self.settings.admin_token.as_deref(), "CAREFORALL_ADMIN_TOKEN")?))
    }

    fn public_url(&self) -> String {
        let url = self.settings.public_url.as_ref().unwrap_or(&self.local_url);
        url.trim_end_matches('/').to_owned()
    }

    /// The sites whose pages may use the open operations.
    pub(crate) fn allowed_origins(&self) -> AllowedOrigins {
        self.settings.allowed_origins.clone().unwrap_or_default()
    }

    /// The payment providers, once for all services of the process, so that they share what is known
    /// of each provider's health.
    pub(crate) fn providers(&self, takes_webhooks: bool) -> anyhow::Result<Providers> {
        let local_url = self.local_url.parse()?;
        let context = BuildContext { local_url: Some(&local_url), data_dir: None, takes_webhooks };
        Ok(self.registry.build(&self.settings.payment_provider, &self.settings.providers, &context)?)
    }

    async fn redis(&self, pool: &PgPool) -> anyhow::Result<RedisTotals> {
        let url = needed(self.settings.redis_url.as_deref(), "REDIS_URL")?;
        let ledger_id = read_model::ledger_id(pool).await.context("run `careforall migrate` first")?;
        RedisTotals::open(url, ledger_id).context(
            "REDIS_URL must look like redis://host:6379, or redis+cluster://host:6379,host:6379 for a cluster",
        )
    }

    pub(crate) async fn command_api(
        &self,
        ledger: &Ledger,
        providers: &Providers,
    ) -> anyhow::Result<command_api::Config> {
        let least_pledges = self.settings.min_pledge.clone().unwrap_or_default();
        least_pledges.check(providers).map_err(|error| anyhow!("CAREFORALL_MIN_PLEDGE: {error}"))?;
        Ok(command_api::Config {
            id_key: load_id_key(ledger.pool()).await.context("run `careforall migrate` first")?,
            ledger: ledger.clone(),
            admin_token: self.admin()?,
            providers: providers.clone(),
            public_url: command_api::PublicUrl(self.public_url()),
            reconcile_after: self.settings.reconcile_after,
            allowed_origins: self.allowed_origins(),
            least_pledges,
        })
    }

    pub(crate) async fn webhook_ingest(
        &self,
        ledger: &Ledger,
        providers: &Providers,
    ) -> anyhow::Result<webhook_ingest::Config> {
        let worker = Access {
            service: "webhook-worker",
            role: Some(WRITER),
            max_connections: 6,
            statement_timeout: STATEMENT_TIMEOUT,
            durable: false,
            settings: &[],
        };
        Ok(webhook_ingest::Config {
            pool: self.pool("webhook-ingest", WRITER, 8).await?,
            worker_pool: database::connect(&self.database_url, worker).await?,
            ledger: ledger.clone(),
            registry: self.registry.clone(),
            providers: providers.clone(),
            admin_token: self.admin()?,
            retention: self.settings.webhook_retention,
            reconcile_after: self.settings.reconcile_after,
            pledge_ttl: self.settings.pledge_ttl,
            capture_limit: self.settings.capture_limit,
            four_eyes_above: self.settings.four_eyes_above.clone(),
        })
    }

    pub(crate) async fn projectors(&self, providers: &Providers) -> anyhow::Result<projectors::Config> {
        let access = Access {
            service: "projectors",
            role: Some(PROJECTOR),
            max_connections: 10,
            statement_timeout: LONG_STATEMENT_TIMEOUT,
            // Rows and checkpoint are lost together or not at all, and then folded again.
            durable: false,
            settings: &[],
        };
        let pool = database::connect(&self.database_url, access).await?;
        Ok(projectors::Config {
            redis: self.redis(&pool).await?,
            pool,
            reader: EventReader::default(),
            providers: providers.clone(),
        })
    }

    pub(crate) async fn query_api(&self) -> anyhow::Result<query_api::Config> {
        let access = Access { settings: &query_api::SESSION, ..access("query-api", "careforall_reader", 16) };
        let pool = database::connect(&self.database_url, access).await?;
        Ok(query_api::Config {
            redis: self.redis(&pool).await?,
            pool,
            admin_token: self.admin()?,
            openapi: describe_api(&self.registry),
            allowed_origins: self.allowed_origins(),
        })
    }

    pub(crate) async fn payment_sandbox(&self) -> anyhow::Result<payment_sandbox::Config> {
        let sandbox = &self.settings.providers.sandbox;
        let api_key = needed(sandbox.sandbox_api_key.as_deref(), "CAREFORALL_SANDBOX_API_KEY")?;
        let secrets = sandbox.sandbox_webhook_secret.as_ref();
        let webhook_secret = needed(secrets, "CAREFORALL_SANDBOX_WEBHOOK_SECRET")?.first().clone();
        let webhook_url = self.settings.sandbox_webhook_url.clone();
        Ok(payment_sandbox::Config {
            pool: self.pool("payment-sandbox", "careforall_sandbox", 4).await?,
            api_key: api_key.to_owned(),
            webhook_secret,
            webhook_url: webhook_url.unwrap_or_else(|| format!("{}/webhooks/sandbox", self.local_url)),
            public_url: self.public_url(),
            settle_after: self.settings.sandbox_settle_after,
        })
    }
}

fn needed<'a, T: ?Sized>(value: Option<&'a T>, variable: &str) -> anyhow::Result<&'a T> {
    value.with_context(|| format!("{variable} is not set, and this service cannot do without it"))
}

/// The description of the whole API, with the webhooks of the providers of this build.
pub fn api_description() -> OpenApi {
    describe_api(&Registry::default())
}

/// Put together from the services' own descriptions.
fn describe_api(registry: &Registry) -> OpenApi {
    let bearer = || SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    let mut components = Components::new();
    components.add_security_scheme("admin_token", bearer());
    components.add_security_scheme("sandbox_key", bearer());
    let info = InfoBuilder::new()
        .title("CareForAll")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Campaigns, pledges and their payments. Money is whole minor units of an ISO 4217 currency, \
             times are RFC 3339 in UTC, errors are RFC 9457 problem documents.",
        ))
        .build();
    let services =
        [command_api::api(), query_api::api(), webhook_ingest::api(registry), payment_sandbox::api()];
    let mut whole = OpenApiBuilder::new().info(info).components(Some(components)).build();
    for service in services {
        whole.merge(service);
    }
    service::openapi::describe_problems(&mut whole);
    whole
}
