//! What providers reported, and what became of it. For operators; bodies are left out.

use axum::extract::State as Shared;
use chrono::{DateTime, Utc};
use read_model::LoggedWebhook;
use serde::{Deserialize, Serialize};
use service::auth::Organiser;
use service::paging::{Page, PageQuery, PageRequest};
use service::{Json, Problem, Query};
use sqlx::PgPool;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::State;

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(list_webhooks))
}

/// Which messages.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct WebhookQuery {
    /// Only of this provider.
    provider: Option<String>,
    /// Only with this outcome: `pending`, `processed`, `ignored`, `review`, `dead` or `discarded`.
    outcome: Option<String>,
    /// Only about this pledge.
    pledge_id: Option<Uuid>,
}

/// A genuine message of a provider.
#[derive(Debug, Serialize, ToSchema)]
struct WebhookReply {
    /// Its place in the inbox, in the order of arrival.
    inbox_id: i64,
    provider: String,
    /// The provider's id of the message.
    webhook_id: String,
    event_type: String,
    /// The pledge that it is about, where it says so.
    pledge_id: Option<Uuid>,
    received_at: DateTime<Utc>,
    /// `pending`, `processed`, `ignored`, `review`, `dead` or `discarded`.
    outcome: String,
    /// Why it waits, was ignored, needs review, is dead or was discarded.
    reason: Option<String>,
    /// How often it was tried.
    attempts: i32,
    finished_at: Option<DateTime<Utc>>,
}

impl From<LoggedWebhook> for WebhookReply {
    fn from(row: LoggedWebhook) -> Self {
        Self {
            inbox_id: row.inbox_id,
            provider: row.provider,
            webhook_id: row.webhook_id,
            event_type: row.event_type,
            pledge_id: row.pledge_id,
            received_at: row.received_at,
            outcome: row.outcome,
            reason: row.reason,
            attempts: row.attempts,
            finished_at: row.finished_at,
        }
    }
}

/// List messages of providers
///
/// Newest first. Messages that were processed or ignored are listed until the inbox is pruned. What
/// needs a decision is at `/webhooks/inbox`.
#[utoipa::path(
    get, path = "/api/webhook-log", tag = "webhooks", params(WebhookQuery, PageQuery),
    security(("admin_token" = [])),
    responses((status = 200, body = Page<WebhookReply>)),
)]
async fn list_webhooks(
    _: Organiser,
    Shared(pool): Shared<PgPool>,
    Query(filter): Query<WebhookQuery>,
    page: PageRequest<i64>,
) -> Result<Json<Page<WebhookReply>>, Problem> {
    let rows: Vec<LoggedWebhook> = sqlx::query_as(
        "select * from webhook_log
         where ($1::text is null or provider = $1) and ($2::text is null or outcome = $2)
             and ($3::uuid is null or pledge_id = $3) and ($4::bigint is null or inbox_id < $4)
         order by inbox_id desc
         limit $5",
    )
    .bind(filter.provider.map(|text| text.replace('\0', "")))
    .bind(filter.outcome.map(|text| text.replace('\0', "")))
    .bind(filter.pledge_id)
    .bind(page.after)
    .bind(page.rows())
    .fetch_all(&pool)
    .await?;
    page.page(rows, |row| row.inbox_id, WebhookReply::from)
}
