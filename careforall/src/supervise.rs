//! Keeps an embedded server running until it is told to stop.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use service::Shutdown;

use crate::embedded::{Embedded, ServerKind};

/// How long a server that ended is left alone before it is started again.
const PAUSE: Duration = Duration::from_millis(500);

/// Starts `server` again whenever it ends unasked, where it was before; stops it at `shutdown`.
///
/// # Errors
/// It cannot be started again, or not where the services look for it.
pub(crate) async fn supervise<K: ServerKind>(
    mut server: Embedded<K>,
    data_dir: PathBuf,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    loop {
        let status = tokio::select! {
            status = server.exited() => status,
            () = shutdown.cancelled() => return server.stop().await,
        };
        tracing::error!(server = K::NAME, %status, "ended unasked; starting it again");
        tokio::time::sleep(PAUSE).await;
        let again = Embedded::<K>::start(&data_dir).await?;
        if again.url() != server.url() {
            again.stop().await?;
            bail!("{} lost its port to another program; start careforall again", K::NAME);
        }
        server = again;
    }
}
