//! The donation wall. It shows neither pledges nor donors' pseudonyms.

use std::sync::Arc;

use axum::extract::State as Shared;
use chrono::{DateTime, Utc};
use read_model::{Donation, Projection};
use serde::Serialize;
use service::paging::{Page, PageQuery, PageRequest};
use service::{Json, Path, Problem, ProblemKind, Query};
use sqlx::PgPool;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::State;
use crate::campaigns::MoneyReply;
use crate::progress::{MinPosition, Progress};

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(list_donations))
}

/// A gift.
#[derive(Debug, Serialize, ToSchema)]
struct DonationReply {
    /// The position of the capture in the ledger.
    position: i64,
    /// The gift, less what was given back.
    amount: MoneyReply,
    /// None where the donor wishes to stay nameless or gave no name.
    donor_name: Option<String>,
    anonymous: bool,
    message: Option<String>,
    /// When money of it was first captured.
    captured_at: DateTime<Utc>,
}

impl From<Donation> for DonationReply {
    fn from(row: Donation) -> Self {
        Self {
            position: row.position,
            amount: MoneyReply { amount_minor: row.amount_minor, currency: row.currency },
            donor_name: row.donor_name,
            anonymous: row.anonymous,
            message: row.message,
            captured_at: row.captured_at,
        }
    }
}

/// List a campaign's gifts
///
/// Newest first. What was given back is taken off, and a gift that was given back entirely is not shown.
#[utoipa::path(
    get, path = "/api/campaigns/{id}/donations", tag = "campaigns",
    params(("id" = Uuid, Path), MinPosition, PageQuery),
    extensions(("x-cross-origin" = json!(true))),
    responses((status = 200, body = Page<DonationReply>), (status = 404)),
)]
async fn list_donations(
    Shared(pool): Shared<PgPool>,
    Shared(progress): Shared<Arc<Progress>>,
    Path(id): Path<Uuid>,
    Query(wanted): Query<MinPosition>,
    page: PageRequest<i64>,
) -> Result<Json<Page<DonationReply>>, Problem> {
    progress.reach(Projection::Pledges, wanted).await?;
    let rows: Vec<Donation> = sqlx::query_as(
        "select d.position,
             d.amount_minor - p.refunded_minor - p.reversed_minor - p.charged_back_minor as amount_minor,
             d.currency, d.anonymous, d.captured_at, g.message,
             case when not d.anonymous then g.name end as donor_name
         from donations d
         join pledges p using (pledge_id)
         left join pledge_donors g on g.position = p.created_position
         where d.campaign_id = $1 and ($2::bigint is null or d.position < $2)
             and p.refunded_minor + p.reversed_minor + p.charged_back_minor < d.amount_minor
         order by d.position desc
         limit $3",
    )
    .bind(id)
    .bind(page.after)
    .bind(page.rows())
    .fetch_all(&pool)
    .await?;
    if rows.is_empty() && !exists(&pool, id).await? {
        return Err(Problem::new(ProblemKind::NotFound, "there is no such campaign"));
    }
    page.page(rows, |row| row.position, DonationReply::from)
}

async fn exists(pool: &PgPool, campaign_id: Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select exists (select from campaigns where campaign_id = $1 and status <> 'draft')")
        .bind(campaign_id)
        .fetch_one(pool)
        .await
}
