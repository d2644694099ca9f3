//! Reading totals: from the cache, else from Redis, else from the read table.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::HeaderValue;
use metrics::Counter;
use read_model::{Projection, RedisTotals, RedisTotalsError, Totals, load_totals};
use service::auth::Visitor;
use service::breaker::Breaker;
use service::{Problem, ProblemKind};
use sqlx::PgPool;
use tokio::time::timeout;
use uuid::Uuid;

use super::cache::{CacheEntry, TotalsCache};
use super::reply::Source;
use super::snapshot::Snapshot;
use crate::as_of::AsOf;
use crate::progress::{MAX_WAIT, MinPosition, Progress, behind};

/// Circuit breaker of Redis: consecutive failures before it opens, and how long it stays open.
const FAILURES_TO_OPEN: u32 = 3;
const OPEN_FOR: Duration = Duration::from_secs(1);

/// A snapshot, and where it was read.
pub(crate) struct Answer {
    snapshot: Arc<Snapshot>,
    source: Source,
}

impl Answer {
    fn cached(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot, source: Source::Cache }
    }

    pub(crate) fn etag(&self) -> HeaderValue {
        self.snapshot.etag.clone()
    }

    pub(crate) fn json(&self) -> Bytes {
        self.snapshot.json(self.source)
    }
}

/// Reads totals from where they can be had.
pub(crate) struct TotalsReader {
    pub(crate) cache: Arc<TotalsCache>,
    redis: RedisTotals,
    breaker: Breaker,
    pool: PgPool,
    progress: Arc<Progress>,
    answers: [Counter; 3],
}

impl TotalsReader {
    pub(crate) fn new(redis: RedisTotals, pool: PgPool, progress: Arc<Progress>) -> Self {
        let answers = |source: Source| metrics::counter!("totals_answers_total", "source" => source.as_str());
        Self {
            cache: Arc::new(TotalsCache::new()),
            redis,
            breaker: Breaker::new("redis_totals", FAILURES_TO_OPEN, OPEN_FOR),
            pool,
            progress,
            answers: [Source::Cache, Source::Redis, Source::ReadTable].map(answers),
        }
    }

    /// The totals of a campaign, if `visitor` may see it.
    ///
    /// # Errors
    /// 404 when there is no such campaign for them, 503 when no source answers or none has come to
    /// the position that is wanted.
    pub(crate) async fn read_for(
        &self,
        visitor: Visitor,
        campaign_id: Uuid,
        wanted: MinPosition,
        no_cache: bool,
    ) -> Result<Answer, Problem> {
        let mut answer = self.read(campaign_id, no_cache).await?;
        if let Some(position) = wanted.min_position
            && answer.as_ref().is_none_or(|answer| answer.snapshot.position < position)
        {
            answer = self.wait_for(campaign_id, position).await?;
        }
        let answer = answer
            .filter(|answer| visitor == Visitor::Organiser || answer.snapshot.published)
            .ok_or_else(|| Problem::new(ProblemKind::NotFound, "there is no such campaign"))?;
        self.answers[answer.source as usize].increment(1);
        Ok(answer)
    }

    /// The cache's entry of a campaign that `visitor` may see, for watching it.
    ///
    /// # Errors
    /// As [`Self::read_for`].
    pub(crate) async fn watched(
        &self,
        visitor: Visitor,
        campaign_id: Uuid,
        wanted: MinPosition,
    ) -> Result<Arc<CacheEntry>, Problem> {
        self.read_for(visitor, campaign_id, wanted, false).await?;
        Ok(self.cache.remember_watched(self.cache.entry(campaign_id)))
    }

    /// The totals of a campaign, whoever asks; none if there is no such campaign.
    ///
    /// # Errors
    /// No source answers.
    pub(crate) async fn read(&self, campaign_id: Uuid, no_cache: bool) -> Result<Option<Answer>, Problem> {
        let entry = self.cache.entry(campaign_id);
        if no_cache {
            return self.look_up(&entry).await;
        }
        if let Some(snapshot) = self.cache.fresh(&entry) {
            return Ok(Some(Answer::cached(snapshot)));
        }
        let _lookup = entry.lookup.lock().await;
        match self.cache.fresh(&entry) {
            // Somebody else has looked meanwhile.
            Some(snapshot) => Ok(Some(Answer::cached(snapshot))),
            None => self.look_up(&entry).await,
        }
    }

    /// Looks behind the cache. What has not come as far as an answer that was given before, such as
    /// an old copy of Redis, is passed over.
    async fn look_up(&self, entry: &Arc<CacheEntry>) -> Result<Option<Answer>, Problem> {
        let answered = entry.newest().map_or(0, |snapshot| snapshot.position);
        match self.ask_redis(entry.campaign_id).await {
            Some(totals) if totals.position >= answered => self.store(entry, totals, Source::Redis).map(Some),
            Some(_) | None => self.read_table(entry).await,
        }
    }

    /// Redis's answer; none if it has none or must be left alone.
    async fn ask_redis(&self, campaign_id: Uuid) -> Option<Totals> {
        let leave = self.breaker.enter().ok()?;
        match self.redis.read(campaign_id).await {
            Ok(totals) => {
                leave.succeeded();
                totals
            }
            Err(error) => {
                tracing::warn!(%error, "totals cannot be read from Redis; the read table answers");
                match error {
                    RedisTotalsError::Redis(_) => leave.failed(),
                    // It answers, though not what was expected.
                    RedisTotalsError::Malformed(_) => leave.succeeded(),
                }
                None
            }
        }
    }

    async fn read_table(&self, entry: &Arc<CacheEntry>) -> Result<Option<Answer>, Problem> {
        let answered = entry.newest();
        match (load_totals(&self.pool, entry.campaign_id).await?, answered) {
            (Some(totals), answered) if answered.as_ref().is_none_or(|a| a.position <= totals.position) => {
                self.store(entry, totals, Source::ReadTable).map(Some)
            }
            // The table is being made anew, say. What was answered before stays true.
            (_, answered) => Ok(answered.map(Answer::cached)),
        }
    }

    /// The totals of a campaign as they were, if `visitor` might see them then.
    ///
    /// # Errors
    /// 404 when there was no such campaign for them then, and as [`AsOf::reached`].
    pub(crate) async fn read_as_of(
        &self,
        visitor: Visitor,
        campaign_id: Uuid,
        as_of: AsOf,
        wanted: MinPosition,
    ) -> Result<Totals, Problem> {
        as_of.reached(&self.progress, Projection::TotalsHistory, wanted).await?;
        let totals: Option<Totals> = match as_of {
            AsOf::Position(position) => sqlx::query_as(
                "select * from campaign_totals_history where campaign_id = $1 and position <= $2
                 order by position desc limit 1",
            )
            .bind(campaign_id)
            .bind(position),
            AsOf::Time(time) => sqlx::query_as(
                "select * from campaign_totals_history where campaign_id = $1 and as_of <= $2
                 order by as_of desc, position desc limit 1",
            )
            .bind(campaign_id)
            .bind(time),
        }
        .fetch_optional(&self.pool)
        .await?;
        let totals = totals.filter(|totals| visitor == Visitor::Organiser || totals.published);
        totals.ok_or_else(|| {
            Problem::new(ProblemKind::NotFound, format!("there was no such campaign at {as_of}"))
        })
    }

    fn store(&self, entry: &Arc<CacheEntry>, totals: Totals, source: Source) -> Result<Answer, Problem> {
        let position = totals.position;
        let snapshot = self.cache.insert_read(entry, totals)?;
        // The cache may have heard of something newer while this was read.
        let source = if snapshot.position > position { Source::Cache } else { source };
        Ok(Answer { snapshot, source })
    }

    /// Waits until a campaign's totals have come to a position: by hearing it, or because the read
    /// table has passed it, perhaps with events of other campaigns.
    async fn wait_for(&self, campaign_id: Uuid, position: i64) -> Result<Option<Answer>, Problem> {
        let mut waiting = self.progress.wait()?;
        let entry = self.cache.entry(campaign_id);
        let mut newest = entry.follow();
        let far_enough = |snapshot: &Option<Arc<Snapshot>>| {
            snapshot.as_ref().is_some_and(|snapshot| snapshot.position >= position)
        };
        let heard = async { newest.wait_for(far_enough).await.ok().and_then(|snapshot| snapshot.clone()) };
        let reached = async {
            tokio::select! {
                Some(snapshot) = heard => Ok(Some(Answer::cached(snapshot))),
                () = waiting.reached(Projection::CampaignTotals, position) => self.read_table(&entry).await,
            }
        };
        timeout(MAX_WAIT, reached).await.map_err(|_| behind(position))?
    }
}
