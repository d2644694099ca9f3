//! "Something is new": LISTEN, shared by all readers of a process.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::watch;

/// How long a listener that lost its connection waits before it tries again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// Wakes readers when something is notified on a channel of Postgres. A wake-up may be lost, so readers also
/// poll; it only makes them fast.
#[derive(Clone, Debug)]
pub struct Wakeup {
    notified: watch::Receiver<()>,
}

impl Wakeup {
    /// The channel on which every append is notified.
    pub const LEDGER: &'static str = "ledger";
    /// The channel on which new webhooks are notified.
    pub const WEBHOOK_INBOX: &'static str = "webhook_inbox";

    /// Starts listening on one connection of `pool`'s database. Ends when every clone is dropped.
    pub fn listen(pool: PgPool, channel: &'static str) -> Self {
        let (notify, notified) = watch::channel(());
        tokio::spawn(async move {
            tokio::select! {
                () = forward(pool, channel, &notify) => {}
                () = notify.closed() => {}
            }
        });
        Self { notified }
    }

    /// Returns when something was notified since the last call, or after `floor` at the latest.
    pub async fn wait(&mut self, floor: Duration) {
        // A closed channel cannot wake anybody: then the floor alone does.
        match tokio::time::timeout(floor, self.notified.changed()).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(_)) => tokio::time::sleep(floor).await,
        }
    }
}

async fn forward(pool: PgPool, channel: &str, notify: &watch::Sender<()>) {
    loop {
        if let Err(error) = forward_until_error(&pool, channel, notify).await {
            tracing::warn!(%error, channel, "listening failed; readers poll until it is back");
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

async fn forward_until_error(
    pool: &PgPool,
    channel: &str,
    notify: &watch::Sender<()>,
) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(channel).await?;
    loop {
        listener.recv().await?;
        notify.send_replace(());
    }
}
