//! One service in a process of its own.

use clap::Subcommand;
use service::{Shutdown, telemetry};
use tokio::net::TcpListener;

use crate::parts::Parts;
use crate::settings::{Settings, local_url, required};

/// Which service.
#[derive(Clone, Debug, Subcommand)]
pub enum Role {
    /// Writes over HTTP: campaigns, pledges, the way to the payment page.
    CommandApi(Settings),
    /// Provider webhooks, and the worker that turns them into commands.
    WebhookIngest(Settings),
    /// Workers that fold the ledger into Redis totals, read tables and reactions.
    Projectors(Settings),
    /// Reads over HTTP and server-sent events.
    QueryApi(Settings),
    /// The stand-in payment provider.
    PaymentSandbox(Settings),
}

impl Role {
    /// The service's settings.
    pub fn settings(&self) -> &Settings {
        match self {
            Self::CommandApi(settings)
            | Self::WebhookIngest(settings)
            | Self::Projectors(settings)
            | Self::QueryApi(settings)
            | Self::PaymentSandbox(settings) => settings,
        }
    }
}

/// Runs one service on the address of its settings until `shutdown`. The schema must be up to date.
///
/// # Errors
/// A setting is missing, or Postgres cannot be reached.
pub async fn run_role(role: Role, shutdown: Shutdown) -> anyhow::Result<()> {
    let listener = TcpListener::bind(role.settings().listen).await?;
    serve_role(role, listener, shutdown).await
}

/// Runs one service on `listener` until `shutdown`.
///
/// # Errors
/// As [`run_role`].
pub async fn serve_role(role: Role, listener: TcpListener, shutdown: Shutdown) -> anyhow::Result<()> {
    telemetry::init_metrics()?;
    let parts = parts(role.settings().clone(), &listener)?;
    match role {
        Role::CommandApi(_) => {
            let config = parts.command_api(&parts.ledger().await?, &parts.providers()?).await?;
            command_api::run(config, listener, shutdown).await;
        }
        Role::WebhookIngest(_) => {
            let config = parts.webhook_ingest(&parts.ledger().await?, &parts.providers()?).await?;
            webhook_ingest::run(config, listener, shutdown).await;
        }
        Role::Projectors(_) => {
            let config = parts.projectors(&parts.providers()?).await?;
            projectors::run(config, listener, shutdown).await;
        }
        Role::QueryApi(_) => query_api::run(parts.query_api().await?, listener, shutdown).await,
        Role::PaymentSandbox(_) => {
            payment_sandbox::run(parts.payment_sandbox().await?, listener, shutdown).await;
        }
    }
    Ok(())
}

/// Serves the webhooks' routes of webhook-ingest on `listener` until `shutdown`, without its worker:
/// for measuring what it takes to take a webhook.
///
/// # Errors
/// As [`run_role`].
pub async fn serve_webhook_routes(
    settings: Settings,
    listener: TcpListener,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    telemetry::init_metrics()?;
    let parts = parts(settings, &listener)?;
    let config = parts.webhook_ingest(&parts.ledger().await?, &parts.providers()?).await?;
    webhook_ingest::serve_routes(&config, listener, shutdown).await;
    Ok(())
}

fn parts(settings: Settings, listener: &TcpListener) -> anyhow::Result<Parts> {
    let settings = settings.without_blanks();
    let local_url = local_url(listener.local_addr()?);
    tracing::info!(address = local_url, "listening");
    Ok(Parts {
        database_url: required(settings.database_url.clone(), "DATABASE_URL")?,
        redis_url: settings.redis_url.clone(),
        admin_token: settings.admin_token.clone(),
        sandbox_webhook_secret: settings.sandbox_webhook_secret.clone(),
        sandbox_api_key: settings.sandbox_api_key.clone(),
        settings,
        local_url,
    })
}
