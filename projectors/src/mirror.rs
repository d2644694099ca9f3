//! Keeps the totals in Redis equal to the rows of `campaign_totals`.
//!
//! It runs beside the projector, so that a slow or missing Redis never holds up the read tables.
//! It remembers up to which position Redis has everything; when Redis remembers something else it
//! was wiped, replaced by an old snapshot or out of reach, and everything is written again.

use std::time::Duration;

use read_model::{RedisTotals, RedisTotalsError, Totals, load_checkpoint, load_totals_page};
use service::Shutdown;
use sqlx::PgPool;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::runner::Projector;
use crate::totals::CampaignTotals;

/// Changes that may wait for Redis; beyond, everything is written again once it is back.
const MAX_WAITING: usize = 256;
/// How often Redis is asked what it remembers.
const CHECK: Duration = Duration::from_millis(100);
/// How long Redis is left alone after a failure.
const PAUSE: Duration = Duration::from_millis(500);
/// Campaigns written at once when everything is written again.
const PAGE: i64 = 500;

struct Change {
    totals: Vec<Totals>,
    position: i64,
}

/// The way to the mirror's task.
#[derive(Clone)]
pub(crate) struct Mirror {
    changes: mpsc::Sender<Change>,
    all: mpsc::Sender<()>,
}

impl Mirror {
    pub(crate) fn start(pool: PgPool, redis: RedisTotals, shutdown: Shutdown) -> Self {
        let (changes, waiting) = mpsc::channel(MAX_WAITING);
        let (all, wanted) = mpsc::channel(1);
        let task = MirrorTask { pool, redis, written_to: None, behind: false };
        tokio::spawn(async move {
            tokio::select! {
                () = task.run(waiting, wanted) => {}
                () = shutdown.cancelled() => {}
            }
        });
        Self { changes, all }
    }

    /// Hands over rows that are durable, up to `position`.
    pub(crate) fn write(&self, totals: Vec<Totals>, position: i64) {
        if self.changes.try_send(Change { totals, position }).is_err() {
            self.write_all();
        }
    }

    /// Asks for everything to be written, because this worker does not know what Redis has.
    pub(crate) fn write_all(&self) {
        // One request that waits already is enough.
        let _ = self.all.try_send(());
    }
}

struct MirrorTask {
    pool: PgPool,
    redis: RedisTotals,
    /// The position up to which this task knows Redis to have everything; none before this worker
    /// held the lease.
    written_to: Option<i64>,
    /// Something could not be written: only writing everything again will do.
    behind: bool,
}

impl MirrorTask {
    async fn run(mut self, mut changes: mpsc::Receiver<Change>, mut all: mpsc::Receiver<()>) {
        loop {
            let result = tokio::select! {
                biased;
                Some(()) = all.recv() => self.write_all().await,
                Some(change) = changes.recv() => self.write(change).await,
                () = tokio::time::sleep(CHECK) => self.check().await,
                else => return,
            };
            if let Err(error) = result {
                tracing::warn!(%error, "totals cannot be mirrored to Redis; the read table answers");
                self.behind = true;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn write(&mut self, change: Change) -> Result<(), MirrorError> {
        if self.behind {
            return self.check().await;
        }
        self.redis.write(&change.totals).await?;
        self.redis.set_written_to(change.position).await?;
        self.written_to = Some(change.position);
        Ok(())
    }

    async fn check(&mut self) -> Result<(), MirrorError> {
        let Some(position) = self.written_to else {
            return if self.behind { self.write_all().await } else { Ok(()) };
        };
        let remembered = self.redis.written_to().await?;
        if self.behind || remembered != Some(position) {
            tracing::info!(?remembered, position, "Redis has lost totals; writing all of them");
            self.write_all().await?;
        }
        Ok(())
    }

    async fn write_all(&mut self) -> Result<(), MirrorError> {
        // The checkpoint is read first: whatever is folded meanwhile is written twice at worst.
        let checkpoint = load_checkpoint(&self.pool, CampaignTotals::NAME, CampaignTotals::VERSION).await?;
        let position = checkpoint.map_or(0, |checkpoint| checkpoint.position);
        let mut after = Uuid::nil();
        loop {
            let page = load_totals_page(&self.pool, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.campaign_id;
            self.redis.write(&page).await?;
        }
        self.redis.set_written_to(position).await?;
        self.written_to = Some(position);
        self.behind = false;
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum MirrorError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Totals(#[from] RedisTotalsError),
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
}
