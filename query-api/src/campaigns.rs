//! Campaigns: the list and one of them. Drafts are for organisers.

use axum::extract::State as Shared;
use chrono::{DateTime, Utc};
use read_model::Campaign;
use serde::{Deserialize, Serialize};
use service::auth::Visitor;
use service::paging::{Page, PageQuery};
use service::{Json, Path, Problem, ProblemKind, Query};
use sqlx::PgPool;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::State;

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(list_campaigns)).routes(routes!(get_campaign))
}

const MAX_SEARCH_BYTES: usize = 200;

/// Money, as answers write it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MoneyReply {
    /// Whole minor units, such as cents.
    pub(crate) amount_minor: i64,
    /// ISO 4217 code.
    pub(crate) currency: String,
}

/// A campaign.
#[derive(Debug, Serialize, ToSchema)]
struct CampaignReply {
    campaign_id: Uuid,
    /// `draft`, `published` or `closed`.
    status: String,
    title: String,
    description: Option<String>,
    goal: MoneyReply,
    ends_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    published_at: Option<DateTime<Utc>>,
    closed_at: Option<DateTime<Utc>>,
    /// The position of the campaign's last event in the ledger.
    position: i64,
}

impl From<Campaign> for CampaignReply {
    fn from(row: Campaign) -> Self {
        Self {
            campaign_id: row.campaign_id,
            status: row.status,
            title: row.title,
            description: row.description,
            goal: MoneyReply { amount_minor: row.goal_minor, currency: row.currency },
            ends_at: row.ends_at,
            created_at: row.created_at,
            published_at: row.published_at,
            closed_at: row.closed_at,
            position: row.position,
        }
    }
}

/// Which campaigns.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct CampaignQuery {
    /// Part of the title, in any case.
    q: Option<String>,
}

/// List campaigns
///
/// Newest first. Drafts are listed for organisers only.
#[utoipa::path(
    get, path = "/api/campaigns", tag = "campaigns", params(CampaignQuery, PageQuery),
    responses((status = 200, body = Page<CampaignReply>), (status = 400, body = Problem)),
)]
async fn list_campaigns(
    visitor: Visitor,
    Shared(pool): Shared<PgPool>,
    Query(filter): Query<CampaignQuery>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<CampaignReply>>, Problem> {
    let limit = page.limit()?;
    let after = page.after::<(DateTime<Utc>, Uuid)>()?;
    if filter.q.as_ref().is_some_and(|q| q.len() > MAX_SEARCH_BYTES || q.contains('\0')) {
        return Err(Problem::new(
            ProblemKind::Malformed,
            format!("q must be text of at most {MAX_SEARCH_BYTES} bytes"),
        ));
    }
    let rows: Vec<Campaign> = sqlx::query_as(
        r"select * from campaigns
          where (status <> 'draft' or $1)
              and ($2::text is null or title ilike '%' || $2 || '%')
              and ($3::timestamptz is null or (created_at, campaign_id) < ($3, $4))
          order by created_at desc, campaign_id desc
          limit $5",
    )
    .bind(visitor == Visitor::Organiser)
    .bind(filter.q.as_deref().map(escape_like))
    .bind(after.map(|(created_at, _)| created_at))
    .bind(after.map(|(_, id)| id))
    .bind(limit + 1)
    .fetch_all(&pool)
    .await?;
    Page::of(rows, limit, |row| (row.created_at, row.campaign_id), CampaignReply::from).map(Json)
}

/// What people type is text, not a pattern.
fn escape_like(text: &str) -> String {
    text.trim().replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_")
}

/// Show a campaign
#[utoipa::path(
    get, path = "/api/campaigns/{id}", tag = "campaigns", params(("id" = Uuid, Path)),
    responses((status = 200, body = CampaignReply), (status = 404, body = Problem)),
)]
async fn get_campaign(
    visitor: Visitor,
    Shared(pool): Shared<PgPool>,
    Path(id): Path<Uuid>,
) -> Result<Json<CampaignReply>, Problem> {
    let row: Option<Campaign> =
        sqlx::query_as("select * from campaigns where campaign_id = $1 and (status <> 'draft' or $2)")
            .bind(id)
            .bind(visitor == Visitor::Organiser)
            .fetch_optional(&pool)
            .await?;
    row.map(|row| Json(row.into()))
        .ok_or_else(|| Problem::new(ProblemKind::NotFound, "there is no such campaign"))
}
