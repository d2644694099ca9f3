//! One service in a process of its own.

use clap::Subcommand;
use payments::Registry;
use service::{Shutdown, telemetry};
use tokio::net::TcpListener;

use crate::settings::{Settings, local_url, required};
use crate::wiring::Wiring;

/// One service.
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
    let wiring = wiring(role.settings().clone(), &listener)?;
    match role {
        Role::CommandApi(_) => {
            let config = wiring.command_api(&wiring.ledger().await?, &wiring.providers(false)?).await?;
            command_api::run(config, listener, shutdown).await;
        }
        Role::WebhookIngest(_) => {
            let config = wiring.webhook_ingest(&wiring.ledger().await?, &wiring.providers(true)?).await?;
            webhook_ingest::run(config, listener, shutdown).await;
        }
        Role::Projectors(_) => {
            let config = wiring.projectors(&wiring.providers(false)?).await?;
            projectors::run(config, listener, shutdown).await;
        }
        Role::QueryApi(_) => query_api::run(wiring.query_api().await?, listener, shutdown).await,
        Role::PaymentSandbox(_) => {
            payment_sandbox::run(wiring.payment_sandbox().await?, listener, shutdown).await;
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
    let wiring = wiring(settings, &listener)?;
    let config = wiring.webhook_ingest(&wiring.ledger().await?, &wiring.providers(true)?).await?;
    webhook_ingest::serve_routes(&config, listener, shutdown).await;
    Ok(())
}

fn wiring(settings: Settings, listener: &TcpListener) -> anyhow::Result<Wiring> {
    let local_url = local_url(listener.local_addr()?);
    tracing::info!(address = local_url, "listening");
    let database_url = required(settings.database_url.clone(), "DATABASE_URL")?;
    Ok(Wiring { settings, registry: Registry::default(), database_url, local_url })
}
