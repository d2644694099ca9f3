//! Campaigns: one of them, the list, and the search. Drafts are for organisers.

use std::sync::Arc;

use axum::extract::State as Shared;
use chrono::{DateTime, Utc};
use read_model::{CampaignView, Projection};
use serde::{Deserialize, Serialize};
use service::auth::Visitor;
use service::paging::{Page, PageQuery, PageRequest};
use service::{Json, Path, Problem, ProblemKind, Query};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::QueryAs;
use sqlx::{Encode, FromRow, PgPool, Postgres, Type};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::State;
use crate::progress::{MinPosition, Progress};

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(list_campaigns)).routes(routes!(get_campaign))
}

const MAX_SEARCH_BYTES: usize = 200;
const MAX_CURRENCY_BYTES: usize = 10;

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

impl From<CampaignView> for CampaignReply {
    fn from(row: CampaignView) -> Self {
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

/// The filter and the order of campaigns.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct CampaignQuery {
    /// Words to look for in title and description, in any of their forms; part of the title; or
    /// what looks like it, so that typing errors do no harm.
    q: Option<String>,
    /// Only those with this status. Drafts are for organisers.
    #[param(inline)]
    status: Option<CampaignStatus>,
    /// Only those in this currency, an ISO 4217 code.
    currency: Option<String>,
    /// The order: `newest` by default, `relevance` where `q` is given, which is the only order then.
    #[param(inline)]
    sort: Option<Sort>,
}

/// The state of a campaign.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum CampaignStatus {
    Draft,
    Published,
    Closed,
}

impl CampaignStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Published => "published",
            Self::Closed => "closed",
        }
    }
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Sort {
    /// The latest draft first.
    Newest,
    /// The next to end first; campaigns without an end are left out, and those that have ended.
    EndingSoon,
    /// The one with most money first, counted in minor units: best with `currency`.
    MostRaised,
    /// The best match first.
    Relevance,
}

/// The last campaign of a page, valid for one order.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Cursor {
    Newest(DateTime<Utc>, Uuid),
    EndingSoon(DateTime<Utc>, Uuid),
    MostRaised(i64, Uuid),
    Relevance(f32, Uuid),
}

/// A campaign with its key in the order of the list.
#[derive(FromRow)]
struct KeyedCampaign<K> {
    #[sqlx(flatten)]
    campaign: CampaignView,
    key: K,
}

/// The campaigns that are asked for, in whatever order.
struct Selection {
    drafts: bool,
    status: Option<&'static str>,
    currency: Option<String>,
    page: PageRequest<Cursor>,
}

/// List campaigns
///
/// Newest first, unless another order is asked for. Drafts are listed for organisers only.
#[utoipa::path(
    get, path = "/api/campaigns", tag = "campaigns", params(CampaignQuery, MinPosition, PageQuery),
    extensions(("x-cross-origin" = json!(true))),
    responses((status = 200, body = Page<CampaignReply>)),
)]
async fn list_campaigns(
    visitor: Visitor,
    Shared(pool): Shared<PgPool>,
    Shared(progress): Shared<Arc<Progress>>,
    Query(query): Query<CampaignQuery>,
    Query(wanted): Query<MinPosition>,
    page: PageRequest<Cursor>,
) -> Result<Json<Page<CampaignReply>>, Problem> {
    let selection = Selection {
        drafts: visitor == Visitor::Organiser,
        status: query.status.map(CampaignStatus::as_str),
        currency: checked(query.currency, "currency", MAX_CURRENCY_BYTES)?,
        page,
    };
    let q = checked(query.q, "q", MAX_SEARCH_BYTES)?.filter(|q| !q.trim().is_empty());
    progress.reach(Projection::Campaigns, wanted).await?;
    match (query.sort, q) {
        (None | Some(Sort::Relevance), Some(q)) => search(&pool, &selection, q.trim()).await,
        (Some(_), Some(_)) => Err(malformed("what is searched by q is sorted by relevance only")),
        (Some(Sort::Relevance), None) => Err(malformed("sort=relevance needs q")),
        (None | Some(Sort::Newest), None) => newest(&pool, &selection).await,
        (Some(Sort::EndingSoon), None) => ending_soon(&pool, &selection).await,
        (Some(Sort::MostRaised), None) => most_raised(&pool, &selection).await,
    }
}

fn malformed(detail: &str) -> Problem {
    Problem::new(ProblemKind::Malformed, detail)
}

fn other_order() -> Problem {
    malformed("cursor belongs to another order; leave it out for the first page")
}

fn checked(text: Option<String>, name: &str, max_bytes: usize) -> Result<Option<String>, Problem> {
    if text.as_ref().is_some_and(|text| text.len() > max_bytes || text.contains('\0')) {
        return Err(malformed(&format!("{name} must be text of at most {max_bytes} bytes")));
    }
    Ok(text)
}

/// Binds the first parameters, which the statements of every order share: the filters, the end of the page
/// before, and the limit.
fn selected<'q, K, A>(
    statement: &'static str,
    selection: &'q Selection,
    after: Option<A>,
    after_id: Option<Uuid>,
) -> QueryAs<'q, Postgres, KeyedCampaign<K>, PgArguments>
where
    KeyedCampaign<K>: for<'r> FromRow<'r, PgRow>,
    A: Encode<'q, Postgres> + Type<Postgres> + 'q,
{
    sqlx::query_as(statement)
        .bind(selection.drafts)
        .bind(selection.status)
        .bind(&selection.currency)
        .bind(after)
        .bind(after_id)
        .bind(selection.page.rows())
}

fn page<K>(
    rows: Vec<KeyedCampaign<K>>,
    selection: &Selection,
    after: impl Fn(&K, Uuid) -> Cursor,
) -> Result<Json<Page<CampaignReply>>, Problem> {
    let key = |row: &KeyedCampaign<K>| after(&row.key, row.campaign.campaign_id);
    selection.page.page(rows, key, |row| row.campaign.into())
}

async fn newest(pool: &PgPool, selection: &Selection) -> Result<Json<Page<CampaignReply>>, Problem> {
    let (instant, id) = match selection.page.after {
        None => (None, None),
        Some(Cursor::Newest(instant, id)) => (Some(instant), Some(id)),
        Some(_) => return Err(other_order()),
    };
    let rows = selected(NEWEST, selection, instant, id).fetch_all(pool).await?;
    page(rows, selection, |key, id| Cursor::Newest(*key, id))
}

const NEWEST: &str = "
    select campaign_id, status, title, description, goal_minor, currency, ends_at, created_at, published_at,
        closed_at, position, created_at as key
    from campaigns
    where (status <> 'draft' or $1) and ($2::text is null or status = $2)
        and ($3::text is null or currency = $3)
        and ($4::timestamptz is null or (created_at, campaign_id) < ($4, $5::uuid))
    order by created_at desc, campaign_id desc
    limit $6";

async fn ending_soon(pool: &PgPool, selection: &Selection) -> Result<Json<Page<CampaignReply>>, Problem> {
    let (instant, id) = match selection.page.after {
        None => (Some(Utc::now()), Some(Uuid::nil())),
        Some(Cursor::EndingSoon(instant, id)) => (Some(instant), Some(id)),
        Some(_) => return Err(other_order()),
    };
    let rows = selected(ENDING_SOON, selection, instant, id).fetch_all(pool).await?;
    page(rows, selection, |key, id| Cursor::EndingSoon(*key, id))
}

const ENDING_SOON: &str = "
    select campaign_id, status, title, description, goal_minor, currency, ends_at, created_at, published_at,
        closed_at, position, ends_at as key
    from campaigns
    where (status <> 'draft' or $1) and ($2::text is null or status = $2)
        and ($3::text is null or currency = $3) and ends_at is not null
        and (ends_at, campaign_id) > ($4, $5)
    order by ends_at, campaign_id
    limit $6";

async fn most_raised(pool: &PgPool, selection: &Selection) -> Result<Json<Page<CampaignReply>>, Problem> {
    let (raised_minor, id) = match selection.page.after {
        None => (None, None),
        Some(Cursor::MostRaised(raised_minor, id)) => (Some(raised_minor), Some(id)),
        Some(_) => return Err(other_order()),
    };
    let rows = selected(MOST_RAISED, selection, raised_minor, id).fetch_all(pool).await?;
    page(rows, selection, |key, id| Cursor::MostRaised(*key, id))
}

const MOST_RAISED: &str = "
    select c.campaign_id, c.status, c.title, c.description, c.goal_minor, c.currency, c.ends_at, c.created_at,
        c.published_at, c.closed_at, c.position, t.raised_minor as key
    from campaign_totals t
    join campaigns c using (campaign_id)
    where (c.status <> 'draft' or $1) and ($2::text is null or c.status = $2)
        and ($3::text is null or c.currency = $3)
        and ($4::bigint is null or (t.raised_minor, t.campaign_id) < ($4, $5::uuid))
    order by t.raised_minor desc, t.campaign_id desc
    limit $6";

async fn search(pool: &PgPool, selection: &Selection, q: &str) -> Result<Json<Page<CampaignReply>>, Problem> {
    let (rank, id) = match selection.page.after {
        None => (None, None),
        Some(Cursor::Relevance(rank, id)) => (Some(rank), Some(id)),
        Some(_) => return Err(other_order()),
    };
    let rows = selected(SEARCH, selection, rank, id)
        .bind(q)
        .bind(format!("%{}%", escape_like(q)))
        .fetch_all(pool)
        .await?;
    page(rows, selection, |key, id| Cursor::Relevance(*key, id))
}

/// A part of the title and words anywhere count more than what only looks like the title. How alike
/// is alike enough (`<%`) is a setting of the session.
const SEARCH: &str = "
    select campaign_id, status, title, description, goal_minor, currency, ends_at, created_at, published_at,
        closed_at, position, key
    from (
        select c.*, (title ilike $8)::int::real
            + (words @@ websearch_to_tsquery('english', $7))::int::real
            + ts_rank(words, websearch_to_tsquery('english', $7)) + word_similarity($7, title) as key
        from campaigns c
        where (words @@ websearch_to_tsquery('english', $7) or $7 <% title or title ilike $8)
            and (status <> 'draft' or $1) and ($2::text is null or status = $2)
            and ($3::text is null or currency = $3)
    ) found
    where $4::real is null or (key, campaign_id) < ($4, $5::uuid)
    order by key desc, campaign_id desc
    limit $6";

/// Escapes what a pattern would read as a wildcard: people type text.
fn escape_like(text: &str) -> String {
    text.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_")
}

/// Show a campaign
#[utoipa::path(
    get, path = "/api/campaigns/{id}", tag = "campaigns", params(("id" = Uuid, Path), MinPosition),
    extensions(("x-cross-origin" = json!(true))),
    responses((status = 200, body = CampaignReply), (status = 404)),
)]
async fn get_campaign(
    visitor: Visitor,
    Shared(pool): Shared<PgPool>,
    Shared(progress): Shared<Arc<Progress>>,
    Path(id): Path<Uuid>,
    Query(wanted): Query<MinPosition>,
) -> Result<Json<CampaignReply>, Problem> {
    progress.reach(Projection::Campaigns, wanted).await?;
    let row: Option<CampaignView> = sqlx::query_as(
        "select campaign_id, status, title, description, goal_minor, currency, ends_at, created_at,
             published_at, closed_at, position
         from campaigns where campaign_id = $1 and (status <> 'draft' or $2)",
    )
    .bind(id)
    .bind(visitor == Visitor::Organiser)
    .fetch_optional(&pool)
    .await?;
    row.map(|row| Json(row.into()))
        .ok_or_else(|| Problem::new(ProblemKind::NotFound, "there is no such campaign"))
}
