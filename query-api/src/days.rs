//! Daily series, of a campaign and over all of them, and a campaign's hours. For organisers.

use std::sync::Arc;

use axum::extract::State as Shared;
use chrono::{DateTime, NaiveDate, Utc};
use read_model::{Day, Projection};
use serde::{Deserialize, Serialize};
use service::auth::Organiser;
use service::paging::{Page, PageQuery, PageRequest};
use service::{Json, Path, Problem, Query};
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use sqlx::{FromRow, PgPool, Postgres};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::State;
use crate::progress::{MinPosition, Progress};

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list_campaign_days))
        .routes(routes!(list_overall_days))
        .routes(routes!(list_campaign_hours))
}

/// The range of days.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct DaysQuery {
    /// The first day, such as 2026-11-01.
    #[param(value_type = Option<String>, format = Date)]
    from: Option<NaiveDate>,
    /// The last day.
    #[param(value_type = Option<String>, format = Date)]
    to: Option<NaiveDate>,
}

/// The currency of the days.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct CurrencyQuery {
    /// ISO 4217 code.
    currency: String,
}

/// The figures of a day (UTC). What becomes of pledges counts on the day on which it was recorded, and money
/// on the day on which it moved: news that comes late may change a day that has ended. Days of which nothing
/// is left are left out. Changes of money may be negative.
#[derive(Debug, Serialize, ToSchema)]
struct DayReply {
    #[schema(value_type = String, format = Date)]
    day: NaiveDate,
    /// ISO 4217 code.
    currency: String,
    /// Pledges made, and how much they promised then.
    created: i64,
    created_minor: i64,
    /// Pledges whose money was first taken on this day, and how much was taken.
    captured: i64,
    captured_minor: i64,
    completed: i64,
    failed: i64,
    expired: i64,
    cancelled: i64,
    /// Gone on this day by refunds, by reversals and by lost disputes, whenever it was captured.
    refunded_minor: i64,
    reversed_minor: i64,
    charged_back_minor: i64,
    /// The day's change of the money that is held apart.
    unapplied_minor: i64,
    /// The day's change of the raised money.
    net_minor: i64,
    /// When the last change was recorded that came after the day had ended; null if none did.
    revised_at: Option<DateTime<Utc>>,
}

impl From<Day> for DayReply {
    fn from(row: Day) -> Self {
        Self {
            day: row.day,
            currency: row.currency,
            created: row.created,
            created_minor: row.created_minor,
            captured: row.captured,
            captured_minor: row.captured_minor,
            completed: row.completed,
            failed: row.failed,
            expired: row.expired,
            cancelled: row.cancelled,
            refunded_minor: row.refunded_minor,
            reversed_minor: row.reversed_minor,
            charged_back_minor: row.charged_back_minor,
            unapplied_minor: row.unapplied_minor,
            net_minor: row.net_minor,
            revised_at: row.revised_at,
        }
    }
}

/// List a campaign's days
///
/// Newest first.
#[utoipa::path(
    get, path = "/api/campaigns/{id}/days", tag = "analysis",
    params(("id" = Uuid, Path), DaysQuery, MinPosition, PageQuery), security(("admin_token" = [])),
    responses((status = 200, body = Page<DayReply>)),
)]
async fn list_campaign_days(
    _: Organiser,
    Shared(pool): Shared<PgPool>,
    Shared(progress): Shared<Arc<Progress>>,
    Path(campaign_id): Path<Uuid>,
    Query(days): Query<DaysQuery>,
    Query(wanted): Query<MinPosition>,
    page: PageRequest<NaiveDate>,
) -> Result<Json<Page<DayReply>>, Problem> {
    let statement = sqlx::query_as(
        "select * from campaign_days
         where campaign_id = $1 and ($2::date is null or day >= $2) and ($3::date is null or day <= $3)
             and ($4::date is null or day < $4)
         order by day desc
         limit $5",
    );
    page_of_days(&pool, &progress, statement.bind(campaign_id), days, wanted, page).await
}

/// List the days of all campaigns of a currency
///
/// Newest first.
#[utoipa::path(
    get, path = "/api/days", tag = "analysis", params(CurrencyQuery, DaysQuery, MinPosition, PageQuery),
    security(("admin_token" = [])),
    responses((status = 200, body = Page<DayReply>)),
)]
async fn list_overall_days(
    _: Organiser,
    Shared(pool): Shared<PgPool>,
    Shared(progress): Shared<Arc<Progress>>,
    Query(CurrencyQuery { currency }): Query<CurrencyQuery>,
    Query(days): Query<DaysQuery>,
    Query(wanted): Query<MinPosition>,
    page: PageRequest<NaiveDate>,
) -> Result<Json<Page<DayReply>>, Problem> {
    let statement = sqlx::query_as(
        "select * from overall_days
         where currency = $1 and ($2::date is null or day >= $2) and ($3::date is null or day <= $3)
             and ($4::date is null or day < $4)
         order by day desc
         limit $5",
    );
    page_of_days(&pool, &progress, statement.bind(currency.replace('\0', "")), days, wanted, page).await
}

/// One page of what `statement` selects, which is given all but the days and the page.
async fn page_of_days(
    pool: &PgPool,
    progress: &Progress,
    statement: QueryAs<'_, Postgres, Day, PgArguments>,
    days: DaysQuery,
    wanted: MinPosition,
    page: PageRequest<NaiveDate>,
) -> Result<Json<Page<DayReply>>, Problem> {
    progress.reach(Projection::Days, wanted).await?;
    let statement = statement.bind(days.from).bind(days.to).bind(page.after).bind(page.rows());
    let rows: Vec<Day> = statement.fetch_all(pool).await?;
    page.page(rows, |row| row.day, DayReply::from)
}

/// The figures of an hour (UTC). Hours in which nothing happened are left out.
#[derive(Debug, FromRow, Serialize, ToSchema)]
struct HourReply {
    /// The beginning of the hour.
    hour: DateTime<Utc>,
    /// ISO 4217 code.
    currency: String,
    /// Pledges made.
    created: i64,
    /// Pledges whose money was first taken in this hour, and how much was taken.
    captured: i64,
    captured_minor: i64,
}

/// List a campaign's hours
///
/// Those of the last 30 days, newest first.
#[utoipa::path(
    get, path = "/api/campaigns/{id}/hours", tag = "analysis",
    params(("id" = Uuid, Path), MinPosition, PageQuery), security(("admin_token" = [])),
    responses((status = 200, body = Page<HourReply>)),
)]
async fn list_campaign_hours(
    _: Organiser,
    Shared(pool): Shared<PgPool>,
    Shared(progress): Shared<Arc<Progress>>,
    Path(campaign_id): Path<Uuid>,
    Query(wanted): Query<MinPosition>,
    page: PageRequest<DateTime<Utc>>,
) -> Result<Json<Page<HourReply>>, Problem> {
    progress.reach(Projection::CampaignHours, wanted).await?;
    let rows: Vec<HourReply> = sqlx::query_as(
        "select hour, currency, created, captured, captured_minor from campaign_hours
         where campaign_id = $1 and hour > now() - interval '30 days' and ($2::timestamptz is null or hour < $2)
         order by hour desc
         limit $3",
    )
    .bind(campaign_id)
    .bind(page.after)
    .bind(page.rows())
    .fetch_all(&pool)
    .await?;
    page.page(rows, |row| row.hour, |row| row)
}
