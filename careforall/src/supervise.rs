//! Keeps an embedded server running until it is told to stop.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use service::Shutdown;

use crate::embedded::{EmbeddedPostgres, EmbeddedRedis};

/// How long a server that ended is left alone before it is started again.
const PAUSE: Duration = Duration::from_millis(500);

/// What Postgres and Redis have in common here.
pub(crate) trait Server: Sized + Send + 'static {
    const NAME: &'static str;
    fn start(data_dir: &Path) -> impl Future<Output = anyhow::Result<Self>> + Send;
    fn url(&self) -> &str;
    fn exited(&mut self) -> impl Future<Output = std::process::ExitStatus> + Send;
    fn stop(self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

impl Server for EmbeddedPostgres {
    const NAME: &'static str = "Postgres";

    async fn start(data_dir: &Path) -> anyhow::Result<Self> {
        Self::start(data_dir).await
    }
    fn url(&self) -> &str {
        self.url()
    }
    async fn exited(&mut self) -> std::process::ExitStatus {
        self.exited().await
    }
    async fn stop(self) -> anyhow::Result<()> {
        self.stop().await
    }
}

impl Server for EmbeddedRedis {
    const NAME: &'static str = "Redis";

    async fn start(data_dir: &Path) -> anyhow::Result<Self> {
        Self::start(data_dir).await
    }
    fn url(&self) -> &str {
        self.url()
    }
    async fn exited(&mut self) -> std::process::ExitStatus {
        self.exited().await
    }
    async fn stop(self) -> anyhow::Result<()> {
        self.stop().await
    }
}

/// Starts `server` again whenever it ends unasked, where it was before; stops it at `shutdown`.
///
/// # Errors
/// It cannot be started again, or not where the services look for it.
pub(crate) async fn supervise<S: Server>(
    mut server: S,
    data_dir: PathBuf,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    loop {
        let status = tokio::select! {
            status = server.exited() => status,
            () = shutdown.cancelled() => return server.stop().await,
        };
        tracing::error!(server = S::NAME, %status, "ended unasked; starting it again");
        tokio::time::sleep(PAUSE).await;
        let again = S::start(&data_dir).await?;
        if again.url() != server.url() {
            again.stop().await?;
            bail!("{} lost its port to another program; start careforall again", S::NAME);
        }
        server = again;
    }
}
