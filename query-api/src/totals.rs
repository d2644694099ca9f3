//! What a campaign has raised: from Redis, or from the read table when Redis cannot say.

use axum::extract::State as Shared;
use chrono::{DateTime, Utc};
use read_model::{PledgeCounts, RedisTotals, Totals, load_totals};
use serde::Serialize;
use service::auth::Visitor;
use service::{Json, Path, Problem, ProblemKind};
use sqlx::PgPool;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::State;

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(get_totals))
}

/// Where totals were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
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
    pub(crate) position: i64,
    /// The instant of that event.
    as_of: DateTime<Utc>,
    source: Source,
    #[serde(skip)]
    published: bool,
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
            published: totals.published,
        }
    }
}

/// Reads totals from where they can be had.
#[derive(Clone)]
pub(crate) struct TotalsReader {
    redis: RedisTotals,
    pool: PgPool,
}

impl TotalsReader {
    pub(crate) fn new(redis: RedisTotals, pool: PgPool) -> Self {
        Self { redis, pool }
    }

    /// The totals of a campaign, if `visitor` may see it.
    ///
    /// # Errors
    /// 404 when there is no such campaign for them, 503 when neither source answers.
    pub(crate) async fn read_for(&self, visitor: Visitor, campaign_id: Uuid) -> Result<TotalsReply, Problem> {
        let totals = self.read(campaign_id).await?;
        match visitor {
            Visitor::Public if !totals.published => Err(no_such_campaign()),
            Visitor::Public | Visitor::Organiser => Ok(totals),
        }
    }

    /// The totals of a campaign, whoever asks.
    ///
    /// # Errors
    /// As [`Self::read_for`].
    pub(crate) async fn read(&self, campaign_id: Uuid) -> Result<TotalsReply, Problem> {
        match self.redis.read(campaign_id).await {
            Ok(Some(totals)) => return Ok(TotalsReply::new(totals, Source::Redis)),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "totals cannot be read from Redis; the read table answers"),
        }
        let totals = load_totals(&self.pool, campaign_id).await?;
        totals.map(|totals| TotalsReply::new(totals, Source::ReadTable)).ok_or_else(no_such_campaign)
    }
}

fn no_such_campaign() -> Problem {
    Problem::new(ProblemKind::NotFound, "there is no such campaign")
}

/// Show what a campaign has raised
#[utoipa::path(
    get, path = "/api/campaigns/{id}/totals", tag = "campaigns", params(("id" = Uuid, Path)),
    responses((status = 200, body = TotalsReply), (status = 404, body = Problem), (status = 503, body = Problem)),
)]
async fn get_totals(
    visitor: Visitor,
    Shared(totals): Shared<TotalsReader>,
    Path(id): Path<Uuid>,
) -> Result<Json<TotalsReply>, Problem> {
    totals.read_for(visitor, id).await.map(Json)
}
