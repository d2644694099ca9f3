//! `careforall up`: everything in one process behind one address.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use axum::Router;
use payments::Registry;
use service::{Limits, ServicesFile, Shutdown, harden, open_to, serve, telemetry};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::embedded::{DataDir, Embedded, Postgres, Redis, ServerKind};
use crate::migrate::migrate;
use crate::secrets;
use crate::settings::{Settings, local_url};
use crate::supervise::supervise;
use crate::wiring::Wiring;

/// A running system.
pub struct Up {
    address: SocketAddr,
    admin_token: String,
    admin_token_is_ours: bool,
    data_dir: DataDir,
    services: JoinHandle<()>,
    redis: Option<Supervision>,
    postgres: Option<Supervision>,
}

/// A supervised server, and the token that stops it.
struct Supervision {
    task: JoinHandle<anyhow::Result<()>>,
    shutdown: Shutdown,
}

impl Supervision {
    async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        self.task.await?
    }
}

impl Up {
    /// Starts Postgres and Redis where none are set, migrates, and starts all services. They run
    /// until `shutdown`; then [`Up::finish`] cleans up.
    ///
    /// # Errors
    /// Something cannot be started; the message says what to do.
    pub async fn start(settings: Settings, shutdown: Shutdown) -> anyhow::Result<Self> {
        Self::start_with(Registry::default(), settings, shutdown).await
    }

    /// As [`Up::start`], with payment providers beside those of this build.
    ///
    /// # Errors
    /// As [`Up::start`].
    pub async fn start_with(
        registry: Registry,
        mut settings: Settings,
        shutdown: Shutdown,
    ) -> anyhow::Result<Self> {
        telemetry::init_metrics()?;
        let listener = TcpListener::bind(settings.listen).await.with_context(|| {
            format!(
                "cannot listen on {}; choose another address with --listen / CAREFORALL_LISTEN",
                settings.listen
            )
        })?;
        let address = listener.local_addr()?;
        let data_dir = DataDir::open(&settings.data_dir)?;
        let admin_token_is_ours = settings.admin_token.is_none();
        let admin_token = secrets::complete(&mut settings, data_dir.path())?;
        let (postgres, redis) = tokio::try_join!(
            server::<Postgres>(settings.database_url.clone(), data_dir.path(), &shutdown),
            server::<Redis>(settings.redis_url.clone(), data_dir.path(), &shutdown),
        )?;
        settings.redis_url = Some(redis.0.clone());
        let wiring = Wiring { settings, registry, database_url: postgres.0, local_url: local_url(address) };
        let services = start_services(&wiring, listener, &shutdown).await?;
        ServicesFile {
            listen: address.to_string(),
            database_url: wiring.database_url,
            redis_url: with_user(redis.0),
            pid: std::process::id(),
        }
        .write(data_dir.path())?;
        Ok(Self {
            address,
            admin_token,
            admin_token_is_ours,
            data_dir,
            services,
            redis: redis.1,
            postgres: postgres.1,
        })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The organisers' token.
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// The lines for whoever started it.
    pub fn banner(&self) -> String {
        let mut lines = format!(
            "\nCareForAll is up at {}\n  API     {0}/api/openapi.json\n  data    {}\n",
            local_url(self.address),
            self.data_dir.path().display(),
        );
        if self.admin_token_is_ours {
            lines += &format!("  token   {} (CAREFORALL_ADMIN_TOKEN)\n", self.admin_token);
        }
        lines + "Ctrl-C stops it.\n"
    }

    /// Waits for the end of the services after `shutdown`, then stops Redis and Postgres.
    ///
    /// # Errors
    /// A server does not stop, or could not be kept running.
    pub async fn finish(self) -> anyhow::Result<()> {
        self.services.await.context("the services ended badly")?;
        ServicesFile::remove(self.data_dir.path());
        for server in [self.redis, self.postgres].into_iter().flatten() {
            server.stop().await?;
        }
        Ok(())
    }
}

/// The address of a server: the one that is set, or that of one started here.
async fn server<K: ServerKind>(
    url: Option<String>,
    data_dir: &Path,
    services: &Shutdown,
) -> anyhow::Result<(String, Option<Supervision>)> {
    if let Some(url) = url {
        return Ok((url, None));
    }
    let server = Embedded::<K>::start(data_dir).await?;
    let url = server.url().to_owned();
    let (shutdown, services) = (Shutdown::new(), services.clone());
    let (stop, data_dir): (_, PathBuf) = (shutdown.clone(), data_dir.to_owned());
    let task = tokio::spawn(async move {
        let ended = supervise(server, data_dir, stop).await;
        if let Err(error) = &ended {
            tracing::error!(server = K::NAME, error = %format!("{error:#}"), "gone for good; stopping");
            services.cancel();
        }
        ended
    });
    Ok((url, Some(Supervision { task, shutdown })))
}

/// Migrates, and runs all services behind one router.
async fn start_services(
    wiring: &Wiring,
    listener: TcpListener,
    shutdown: &Shutdown,
) -> anyhow::Result<JoinHandle<()>> {
    migrate(&wiring.database_url).await?;
    // One ledger, and so one queue of appends, for all services of the process.
    let ledger = wiring.ledger().await?;
    let providers = wiring.providers(true)?;
    let command_api = wiring.command_api(&ledger, &providers).await?;
    let webhook_ingest = wiring.webhook_ingest(&ledger, &providers).await?;
    let projectors = wiring.projectors(&providers).await?;
    let query_api = wiring.query_api().await?;
    let payment_sandbox = wiring.payment_sandbox().await?;

    let health = command_api::health(&command_api)
        .merge(webhook_ingest::health(&webhook_ingest))
        .merge(projectors::health(&projectors))
        .merge(query_api::health(&query_api))
        .merge(payment_sandbox::health(&payment_sandbox));
    let (routes, api): (Router, _) = command_api::router(command_api)
        .merge(webhook_ingest::router(&webhook_ingest))
        .merge(query_api::router(query_api, shutdown.clone()))
        .merge(payment_sandbox::router(&payment_sandbox))
        .split_for_parts();
    let app = open_to(harden(routes, Limits::default()), &api, &wiring.allowed_origins())
        .merge(health.router())
        .merge(projectors::status_router(projectors.pool.clone()));

    let shutdown = shutdown.clone();
    Ok(tokio::spawn(async move {
        tokio::join!(
            webhook_ingest::run_worker(webhook_ingest, shutdown.clone()),
            projectors::run_workers(projectors, shutdown.clone()),
            payment_sandbox::run_deliveries(payment_sandbox, shutdown.clone()),
            serve(listener, app, shutdown),
        );
    }))
}

/// The address with Redis's first user where it has a password alone: `redis-cli -u` takes an empty name for
/// a name.
fn with_user(redis_url: String) -> String {
    redis_url.replacen("://:", "://default:", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_has_a_user() {
        for (given, written) in [
            ("redis://:secret@host:6379", "redis://default:secret@host:6379"),
            ("redis://ada:secret@host:6379", "redis://ada:secret@host:6379"),
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
        ] {
            assert_eq!(with_user(given.to_owned()), written);
        }
    }
}
