//! One service in a process of its own.

use clap::Subcommand;
use service::{Shutdown, telemetry};
use tokio::net::TcpListener;

use crate::parts::{PROJECTOR, Parts, WRITER};
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

/// Runs one service until `shutdown`. The schema must be up to date.
///
/// # Errors
/// A setting is missing, or Postgres cannot be reached.
pub async fn run_role(role: Role, shutdown: Shutdown) -> anyhow::Result<()> {
    telemetry::init_metrics()?;
    match role {
        Role::CommandApi(settings) => {
            let (parts, listener) = prepare(settings).await?;
            let config = parts.command_api(&parts.ledger(WRITER).await?, &parts.providers()?).await?;
            command_api::run(config, listener, shutdown).await;
        }
        Role::WebhookIngest(settings) => {
            let (parts, listener) = prepare(settings).await?;
            let config = parts.webhook_ingest(&parts.ledger(WRITER).await?, &parts.providers()?).await?;
            webhook_ingest::run(config, listener, shutdown).await;
        }
        Role::Projectors(settings) => {
            let (parts, listener) = prepare(settings).await?;
            let config = parts.projectors(&parts.ledger(PROJECTOR).await?, &parts.providers()?).await?;
            projectors::run(config, listener, shutdown).await;
        }
        Role::QueryApi(settings) => {
            let (parts, listener) = prepare(settings).await?;
            query_api::run(parts.query_api().await?, listener, shutdown).await;
        }
        Role::PaymentSandbox(settings) => {
            let (parts, listener) = prepare(settings).await?;
            payment_sandbox::run(parts.payment_sandbox().await?, listener, shutdown).await;
        }
    }
    Ok(())
}

async fn prepare(settings: Settings) -> anyhow::Result<(Parts, TcpListener)> {
    let settings = settings.without_blanks();
    let listener = TcpListener::bind(settings.listen).await?;
    let local_url = local_url(listener.local_addr()?);
    tracing::info!(address = local_url, "listening");
    let parts = Parts {
        database_url: required(settings.database_url.clone(), "DATABASE_URL")?,
        redis_url: settings.redis_url.clone(),
        admin_token: settings.admin_token.clone(),
        sandbox_webhook_secret: settings.sandbox_webhook_secret.clone(),
        sandbox_api_key: settings.sandbox_api_key.clone(),
        settings,
        local_url,
    };
    Ok((parts, listener))
}
