//! "Something was appended": LISTEN, shared by all readers of a process.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::watch;

/// How long a listener that lost its connection waits before it tries again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// Wakes readers when the ledger grows. A wake-up may be lost, so readers also poll; it only makes
/// them fast.
#[derive(Clone, Debug)]
pub struct Wakeup {
    appended: watch::Receiver<()>,
}

impl Wakeup {
    /// Starts listening on one connection of `pool`'s database. Ends when every clone is dropped.
    pub fn listen(pool: PgPool) -> Self {
        let (notify, appended) = watch::channel(());
        tokio::spawn(async move {
            tokio::select! {
                () = forward(pool, &notify) => {}
                () = notify.closed() => {}
            }
        });
        Self { appended }
    }

    /// Returns when something was appended since the last call, or after `floor` at the latest.
    pub async fn wait(&mut self, floor: Duration) {
        // A closed channel cannot wake anybody: then the floor alone does.
        match tokio::time::timeout(floor, self.appended.changed()).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(_)) => tokio::time::sleep(floor).await,
        }
    }
}

async fn forward(pool: PgPool, notify: &watch::Sender<()>) {
    loop {
        if let Err(error) = forward_until_error(&pool, notify).await {
            tracing::warn!(%error, "listening to the ledger failed; readers poll until it is back");
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

async fn forward_until_error(pool: &PgPool, notify: &watch::Sender<()>) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen("ledger").await?;
    loop {
        listener.recv().await?;
        notify.send_replace(());
    }
}
