//! One pledge and its history, for whoever holds its id.

use std::sync::Arc;

use axum::extract::State as Shared;
use chrono::{DateTime, Utc};
use read_model::{HistoryEntry, PledgeView, Projection};
use serde::Serialize;
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
    OpenApiRouter::new().routes(routes!(get_pledge)).routes(routes!(get_history))
}

/// A pledge.
#[derive(Debug, Serialize, ToSchema)]
struct PledgeReply {
    pledge_id: Uuid,
    campaign_id: Uuid,
    /// `pending`, `authorized`, `captured`, `completed`, `failed`, `expired` or `cancelled`.
    status: String,
    /// The amount that is promised.
    amount: MoneyReply,
    /// The amount that was captured, in minor units; null where none was.
    captured_minor: Option<i64>,
    /// The part that was refunded, in minor units.
    refunded_minor: i64,
    /// The part that was taken back without a dispute, in minor units.
    reversed_minor: i64,
    /// The part that was lost in disputes, in minor units.
    charged_back_minor: i64,
    anonymous: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    /// The position of the pledge's last event in the ledger.
    position: i64,
}

impl From<PledgeView> for PledgeReply {
    fn from(row: PledgeView) -> Self {
        Self {
            pledge_id: row.pledge_id,
            campaign_id: row.campaign_id,
            status: row.status,
            amount: MoneyReply { amount_minor: row.amount_minor, currency: row.currency },
            captured_minor: row.captured_minor,
            refunded_minor: row.refunded_minor,
            reversed_minor: row.reversed_minor,
            charged_back_minor: row.charged_back_minor,
            anonymous: row.anonymous,
            created_at: row.created_at,
            updated_at: row.updated_at,
            position: row.position,
        }
    }
}

/// Show a pledge
#[utoipa::path(
    get, path = "/api/pledges/{id}", tag = "pledges", params(("id" = Uuid, Path), MinPosition),
    extensions(("x-cross-origin" = json!(true))),
    responses((status = 200, body = PledgeReply), (status = 404)),
)]
async fn get_pledge(
    Shared(pool): Shared<PgPool>,
    Shared(progress): Shared<Arc<Progress>>,
    Path(id): Path<Uuid>,
    Query(wanted): Query<MinPosition>,
) -> Result<Json<PledgeReply>, Problem> {
    progress.reach(Projection::Pledges, wanted).await?;
    let row: Option<PledgeView> =
        sqlx::query_as("select * from pledges where pledge_id = $1").bind(id).fetch_optional(&pool).await?;
    row.map(|row| Json(row.into())).ok_or_else(no_such_pledge)
}

fn no_such_pledge() -> Problem {
    Problem::new(ProblemKind::NotFound, "there is no such pledge")
}

/// The history of a pledge.
#[derive(Debug, Serialize, ToSchema)]
struct HistoryReply {
    pledge_id: Uuid,
    /// In the order in which it happened.
    items: Vec<HistoryItem>,
}

/// An event of a pledge.
#[derive(Debug, Serialize, ToSchema)]
struct HistoryItem {
    /// Its position in the ledger.
    position: i64,
    /// The event's name.
    event_type: String,
    /// The state it led to; none where it changed no state.
    status: Option<String>,
    /// What the provider said of a payment, in a word such as `refunded`, `dispute_opened` or `settled`; none
    /// where it said nothing.
    said: Option<String>,
    /// Its amount, in minor units.
    amount_minor: Option<i64>,
    recorded_at: DateTime<Utc>,
}

/// Show a pledge's history
#[utoipa::path(
    get, path = "/api/pledges/{id}/history", tag = "pledges", params(("id" = Uuid, Path), MinPosition),
    extensions(("x-cross-origin" = json!(true))),
    responses((status = 200, body = HistoryReply), (status = 404)),
)]
async fn get_history(
    Shared(pool): Shared<PgPool>,
    Shared(progress): Shared<Arc<Progress>>,
    Path(id): Path<Uuid>,
    Query(wanted): Query<MinPosition>,
) -> Result<Json<HistoryReply>, Problem> {
    progress.reach(Projection::Pledges, wanted).await?;
    let rows: Vec<HistoryEntry> = sqlx::query_as(
        "select position, event_type, status, said, amount_minor, recorded_at from pledge_history
         where pledge_id = $1 order by position",
    )
    .bind(id)
    .fetch_all(&pool)
    .await?;
    if rows.is_empty() {
        return Err(no_such_pledge());
    }
    let items = rows
        .into_iter()
        .map(|row| HistoryItem {
            position: row.position,
            event_type: row.event_type,
            status: row.status,
            said: row.said,
            amount_minor: row.amount_minor,
            recorded_at: row.recorded_at,
        })
        .collect();
    Ok(Json(HistoryReply { pledge_id: id, items }))
}
