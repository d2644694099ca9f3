//! Keeps the totals in Redis equal to the rows of `campaign_totals`.
//!
//! It runs beside the projector, so that a slow or missing Redis never holds up the read tables.
//! It leaves marks in Redis that say up to which position Redis has everything. When one is gone or
//! another, Redis was wiped, restarted, replaced by an old snapshot or out of reach, and everything is
//! written again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use read_model::{
    Mark, MarkState, Projection, RedisTotals, RedisTotalsError, Totals, load_position, load_totals_page,
};
use service::Shutdown;
use sqlx::PgPool;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::runner::Held;

/// How often the marks are looked at when there is nothing to write.
const CHECK: Duration = Duration::from_millis(100);
/// How long Redis is left alone after a failure.
const PAUSE: Duration = Duration::from_millis(500);
/// Campaigns written at once when everything is written again.
const PAGE: i64 = 500;

/// Hands rows to the mirror's task.
#[derive(Clone, Default)]
pub(crate) struct Mirror {
    news: Arc<Mutex<News>>,
    arrived: Arc<Notify>,
}

/// News that the task has not taken yet. Rows of one campaign replace one another, so a slow Redis costs
/// memory for as many rows as there are campaigns, and no more.
#[derive(Default)]
struct News {
    /// The lease, when it was taken or lost.
    lease: Option<Option<Held>>,
    changed: BTreeMap<Uuid, Totals>,
    /// The rows are durable up to here.
    position: i64,
}

impl Mirror {
    pub(crate) fn start(pool: PgPool, redis: RedisTotals, shutdown: Shutdown) -> Self {
        let mirror = Self::default();
        let task = MirrorTask { pool, redis, mirror: mirror.clone(), leading: None };
        tokio::spawn(async move {
            tokio::select! {
                () = task.run() => {}
                () = shutdown.cancelled() => {}
            }
        });
        mirror
    }

    /// Hands over rows that are durable, up to `position`.
    pub(crate) fn write(&self, totals: Vec<Totals>, position: i64) {
        self.tell(|news| {
            news.changed.extend(totals.into_iter().map(|totals| (totals.campaign_id, totals)));
            news.position = position;
        });
    }

    /// From now on this worker keeps Redis, and begins by writing everything, because it does not know
    /// what Redis has.
    pub(crate) fn lead(&self, held: Held) {
        self.tell(|news| *news = News { lease: Some(Some(held)), ..News::default() });
    }

    /// From now on another worker keeps Redis.
    pub(crate) fn follow(&self) {
        self.tell(|news| *news = News { lease: Some(None), ..News::default() });
    }

    fn tell(&self, change: impl FnOnce(&mut News)) {
        change(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner));
        self.arrived.notify_one();
    }

    fn take(&self) -> News {
        std::mem::take(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct MirrorTask {
    pool: PgPool,
    redis: RedisTotals,
    mirror: Mirror,
    leading: Option<Leading>,
}

/// This worker holds the lease.
#[derive(Clone, Copy)]
struct Leading {
    held: Held,
    /// The mark that it left; none as long as everything must be written.
    left: Option<Mark>,
}

impl MirrorTask {
    async fn run(mut self) {
        loop {
            tokio::select! {
                () = self.mirror.arrived.notified() => {}
                () = tokio::time::sleep(CHECK) => {}
            }
            let news = self.mirror.take();
            if let Some(lease) = news.lease {
                self.leading = lease.map(|held| Leading { held, left: None });
            }
            let Some(leading) = self.leading else { continue };
            match self.keep(leading, news).await {
                Ok(leading) => self.leading = leading,
                Err(error) => {
                    tracing::warn!(%error, "totals cannot be mirrored to Redis; the read table answers");
                    self.leading = Some(Leading { left: None, ..leading });
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Writes what has changed, or everything; says whether this worker still leads.
    async fn keep(&self, leading: Leading, news: News) -> Result<Option<Leading>, MirrorError> {
        let Leading { held, left } = leading;
        let Some(left) = left else { return self.write_all(held).await.map(Some) };
        if !news.changed.is_empty() {
            let changed: Vec<Totals> = news.changed.into_values().collect();
            self.redis.write(&changed, held.generation).await?;
        }
        let to = Mark { position: left.position.max(news.position), ..left };
        match self.redis.move_marks(left, to).await? {
            MarkState::Intact => Ok(Some(Leading { held, left: Some(to) })),
            MarkState::Replaced(mark) if mark.is_later_lease_than(left) => {
                tracing::info!("another worker keeps Redis now");
                Ok(None)
            }
            state @ (MarkState::Replaced(_) | MarkState::Missing) => {
                tracing::info!(?state, ?left, "Redis has lost totals; writing all of them");
                self.write_all(held).await.map(Some)
            }
        }
    }

    async fn write_all(&self, held: Held) -> Result<Leading, MirrorError> {
        let held = self.outdate_the_future(held).await?;
        // The checkpoint is read first: whatever is folded meanwhile is written twice at worst.
        let position =
            load_position(&self.pool, Projection::CampaignTotals, held.version).await?.unwrap_or(0);
        let mut after = Uuid::nil();
        loop {
            let page = load_totals_page(&self.pool, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.campaign_id;
            self.redis.write(&page, held.generation).await?;
        }
        let mark = Mark { generation: held.generation, token: held.token, position };
        self.redis.set_marks(mark).await?;
        Ok(Leading { held, left: Some(mark) })
    }

    /// If Redis is ahead of the ledger, the ledger was restored from a backup. Then a new generation
    /// begins, whose values replace those that never happened.
    async fn outdate_the_future(&self, held: Held) -> Result<Held, MirrorError> {
        let Some(found) = self.redis.mark().await? else { return Ok(held) };
        if found.position <= event_store::head(&self.pool).await? {
            return Ok(held);
        }
        tracing::warn!(?found, "Redis is ahead of the ledger, which was restored; replacing all totals");
        let generation: Option<i32> = sqlx::query_scalar(
            "update projector_checkpoints set generation = greatest(generation, $1) + 1
             where name = $2 and version = $3 and lease_token = $4
             returning generation",
        )
        .bind(found.generation)
        .bind(Projection::CampaignTotals.name())
        .bind(held.version)
        .bind(held.token)
        .fetch_optional(&self.pool)
        .await?;
        Ok(Held { generation: generation.unwrap_or(held.generation), ..held })
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
