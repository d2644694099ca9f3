//! What a campaign has raised: from this process's cache, else from Redis, else from the read table.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use metrics::Counter;
use read_model::{PledgeCounts, RedisTotals, RedisTotalsError, Totals, load_totals};
use serde::{Deserialize, Serialize};
use service::auth::Visitor;
use service::breaker::Breaker;
use service::{Path, Problem, ProblemKind, Query};
use sqlx::PgPool;
use tokio::time::timeout;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::State;
use crate::as_of::AsOf;
use crate::etag::{self, Conditions};
use crate::progress::{MAX_WAIT, MinPosition, Progress, behind};
use crate::totals_cache::{Known, Snapshot, TotalsCache};

/// Redis is left alone after so many failures in a row, for so long.
const FAILURES_TO_OPEN: u32 = 3;
const OPEN_FOR: Duration = Duration::from_secs(1);

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(get_totals))
}

/// Where totals were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    /// The memory of this process, at most a second old.
    Cache,
    /// The mirror in Redis.
    Redis,
    /// The read table in Postgres.
    ReadTable,
}

/// What a campaign has raised, up to one position of the ledger.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct TotalsReply {
    campaign_id: Uuid,
    /// ISO 4217 code of the campaign's only currency.
    currency: String,
    /// How much was captured and is still there, in minor units: without what went back.
    raised_minor: i64,
    /// How much of captured money was refunded, in minor units.
    refunded_minor: i64,
    /// How much of captured money was lost in disputes, in minor units.
    charged_back_minor: i64,
    /// Distinct donors whose money was captured, also where it went back.
    donors: i64,
    pledges: PledgeCountsReply,
    /// How much is wanted, in minor units.
    goal_minor: i64,
    /// The position of the last event counted.
    position: i64,
    /// The instant of that event.
    as_of: DateTime<Utc>,
    source: Source,
}

/// How many pledges are in each state.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
struct PledgeCountsReply {
    pending: i64,
    authorized: i64,
    captured: i64,
    completed: i64,
    failed: i64,
    expired: i64,
    cancelled: i64,
}

impl TotalsReply {
    pub(crate) fn new(totals: Totals, source: Source) -> Self {
        let PledgeCounts { pending, authorized, captured, completed, failed, expired, cancelled } =
            totals.pledges;
        Self {
            campaign_id: totals.campaign_id,
            currency: totals.currency,
            raised_minor: totals.raised_minor,
            refunded_minor: totals.refunded_minor,
            charged_back_minor: totals.charged_back_minor,
            donors: totals.donors,
            pledges: PledgeCountsReply {
                pending,
                authorized,
                captured,
                completed,
                failed,
                expired,
                cancelled,
            },
            goal_minor: totals.goal_minor,
            position: totals.position,
            as_of: totals.as_of,
            source,
        }
    }
}

/// Totals, ready to be sent, and where they were read.
pub(crate) struct Found {
    snapshot: Arc<Snapshot>,
    source: Source,
    body: Bytes,
}

impl Found {
    fn in_cache(snapshot: Arc<Snapshot>) -> Self {
        Self { body: snapshot.json.clone(), snapshot, source: Source::Cache }
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
        let answers = |source: &'static str| metrics::counter!("totals_answers_total", "source" => source);
        Self {
            cache: Arc::new(TotalsCache::new()),
            redis,
            breaker: Breaker::new("redis_totals", FAILURES_TO_OPEN, OPEN_FOR),
            pool,
            progress,
            answers: [answers("cache"), answers("redis"), answers("read_table")],
        }
    }

    /// The totals of a campaign, if `visitor` may see it.
    ///
    /// # Errors
    /// 404 when there is no such campaign for them, 503 when no source answers or none has come to
    /// the position that is wanted.
    async fn read_for(
        &self,
        visitor: Visitor,
        campaign_id: Uuid,
        wanted: MinPosition,
        no_cache: bool,
    ) -> Result<Found, Problem> {
        let found = self.read(campaign_id, no_cache).await?;
        let found = match (wanted.min_position, found) {
            (Some(position), found) if found.as_ref().is_none_or(|f| f.snapshot.position < position) => {
                self.wait_for(campaign_id, position).await?
            }
            (_, found) => found,
        };
        let found = found.filter(|found| visitor == Visitor::Organiser || found.snapshot.published);
        let found = found.ok_or_else(no_such_campaign)?;
        self.answers[found.source as usize].increment(1);
        Ok(found)
    }

    /// What is known of a campaign that `visitor` may see, for watching it.
    ///
    /// # Errors
    /// As [`Self::read_for`].
    pub(crate) async fn known_to(
        &self,
        visitor: Visitor,
        campaign_id: Uuid,
        wanted: MinPosition,
    ) -> Result<Arc<Known>, Problem> {
        self.read_for(visitor, campaign_id, wanted, false).await?;
        Ok(self.cache.remember_watched(self.cache.place_for(campaign_id)))
    }

    /// The totals of a campaign, whoever asks; none if there is no such campaign.
    ///
    /// # Errors
    /// No source answers.
    pub(crate) async fn read(&self, campaign_id: Uuid, no_cache: bool) -> Result<Option<Found>, Problem> {
        let known = self.cache.place_for(campaign_id);
        if no_cache {
            return self.look(&known).await;
        }
        if let Some(snapshot) = self.cache.fresh(&known) {
            return Ok(Some(Found::in_cache(snapshot)));
        }
        let _looking = known.looking.lock().await;
        match self.cache.fresh(&known) {
            // Somebody else has looked meanwhile.
            Some(snapshot) => Ok(Some(Found::in_cache(snapshot))),
            None => self.look(&known).await,
        }
    }

    /// Looks behind the cache. What has not come as far as an answer that was given before, such as
    /// an old copy of Redis, is passed over.
    async fn look(&self, known: &Arc<Known>) -> Result<Option<Found>, Problem> {
        let answered = known.newest().map_or(0, |snapshot| snapshot.position);
        match self.ask_redis(known.campaign_id).await {
            Some(totals) if totals.position >= answered => self.found(known, totals, Source::Redis).map(Some),
            Some(_) | None => self.read_table(known).await,
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

    async fn read_table(&self, known: &Arc<Known>) -> Result<Option<Found>, Problem> {
        let answered = known.newest();
        match (load_totals(&self.pool, known.campaign_id).await?, answered) {
            (Some(totals), answered) if answered.as_ref().is_none_or(|a| a.position <= totals.position) => {
                self.found(known, totals, Source::ReadTable).map(Some)
            }
            // The table is being made anew, say. What was answered before stays true.
            (_, answered) => Ok(answered.map(Found::in_cache)),
        }
    }

    /// The totals of a campaign as they were, if `visitor` might see them then.
    async fn read_as_of(&self, visitor: Visitor, campaign_id: Uuid, as_of: AsOf) -> Result<Totals, Problem> {
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

    fn found(&self, known: &Arc<Known>, totals: Totals, source: Source) -> Result<Found, Problem> {
        let position = totals.position;
        let body =
            serde_json::to_vec(&TotalsReply::new(totals.clone(), source)).map_err(Problem::internal)?;
        let snapshot = self.cache.found(known, totals)?;
        // Something newer may have been heard while this was read.
        if snapshot.position > position {
            return Ok(Found::in_cache(snapshot));
        }
        Ok(Found { snapshot, source, body: body.into() })
    }

    /// Waits until a campaign's totals have come to a position: by hearing it, or because the read
    /// table has passed it, perhaps with events of other campaigns.
    async fn wait_for(&self, campaign_id: Uuid, position: i64) -> Result<Option<Found>, Problem> {
        let mut waiting = self.progress.wait()?;
        let known = self.cache.place_for(campaign_id);
        let mut newest = known.follow();
        let far_enough = |snapshot: &Option<Arc<Snapshot>>| {
            snapshot.as_ref().is_some_and(|snapshot| snapshot.position >= position)
        };
        let heard = async { newest.wait_for(far_enough).await.ok().and_then(|snapshot| snapshot.clone()) };
        let reached = async {
            tokio::select! {
                Some(snapshot) = heard => Ok(Some(Found::in_cache(snapshot))),
                () = waiting.reached("campaign_totals", position) => self.read_table(&known).await,
            }
        };
        timeout(MAX_WAIT, reached).await.map_err(|_| behind(position))?
    }
}

fn no_such_campaign() -> Problem {
    Problem::new(ProblemKind::NotFound, "there is no such campaign")
}

/// Which totals.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct TotalsQuery {
    /// The totals as they were after everything up to this position of the ledger, or up to this
    /// time (RFC 3339). What happened in the last second may be missing in an answer about now.
    #[param(value_type = Option<String>)]
    as_of: Option<AsOf>,
}

/// Show what a campaign has raised
///
/// The answer may come from the memory of the process that gives it, and is then at most a second
/// old. `cache-control: no-cache` in the request asks behind that memory.
#[utoipa::path(
    get, path = "/api/campaigns/{id}/totals", tag = "campaigns", params(("id" = Uuid, Path), TotalsQuery, MinPosition),
    responses(
        (status = 200, body = TotalsReply), (status = 304), (status = 400, body = Problem),
        (status = 404, body = Problem), (status = 503, body = Problem),
    ),
)]
async fn get_totals(
    visitor: Visitor,
    conditions: Conditions,
    Shared(totals): Shared<Arc<TotalsReader>>,
    Path(id): Path<Uuid>,
    Query(query): Query<TotalsQuery>,
    Query(wanted): Query<MinPosition>,
) -> Result<Response, Problem> {
    let (etag, body) = match query.as_of {
        None => {
            let found = totals.read_for(visitor, id, wanted, conditions.no_cache).await?;
            (found.snapshot.etag.clone(), found.body)
        }
        Some(as_of) => {
            as_of.reached(&totals.progress, "totals_history", wanted).await?;
            let then = totals.read_as_of(visitor, id, as_of).await?;
            let body = serde_json::to_vec(&TotalsReply::new(then, Source::ReadTable));
            let body = Bytes::from(body.map_err(Problem::internal)?);
            (etag::weak(&body), body)
        }
    };
    if conditions.know(&etag) {
        return Ok(etag::not_modified(etag, etag::REVALIDATE));
    }
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (ETAG, etag),
        (CACHE_CONTROL, etag::REVALIDATE),
    ];
    Ok((headers, body).into_response())
}
