//! Dead letters and review: the list of all messages, and operators' decisions about those that the
//! worker has given up or cannot judge. Every decision is recorded in the same statement.

use axum::extract::State as Shared;
use chrono::{DateTime, Utc};
use domain::Text;
use serde::{Deserialize, Serialize};
use service::auth::Organiser;
use service::paging::{Page, PageQuery, PageRequest};
use service::{FieldErrors, Json, NoBody, Path, Problem, ProblemKind, Query};
use sha2::{Digest, Sha256};
use sqlx::{FromRow, PgPool};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::State;
use crate::operator::Operator;

/// Most messages that one request sends back to the worker.
const MAX_RETRIED: i64 = 10_000;

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list_messages))
        .routes(routes!(show_message))
        .routes(routes!(retry_message))
        .routes(routes!(retry_all))
        .routes(routes!(discard_message))
}

/// The state of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Status {
    /// The worker will try it, for the first time or again.
    Pending,
    /// It is in the ledger.
    Processed,
    /// It means nothing to the ledger.
    Ignored,
    /// It contradicts the ledger.
    Review,
    /// The worker has given it up.
    Dead,
    /// An operator has put it aside.
    Discarded,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processed => "processed",
            Self::Ignored => "ignored",
            Self::Review => "review",
            Self::Dead => "dead",
            Self::Discarded => "discarded",
        }
    }
}

/// A message of a provider.
#[derive(Debug, Serialize, FromRow, ToSchema)]
struct MessageReply {
    inbox_id: i64,
    provider: String,
    /// The provider's id of the message.
    webhook_id: String,
    event_type: String,
    pledge_id: Option<Uuid>,
    /// `pending`, `processed`, `ignored`, `review`, `dead` or `discarded`.
    status: String,
    /// How often the worker has taken it.
    attempts: i32,
    /// Why it waits, needs review, is dead or was.
    why: Option<String>,
    received_at: DateTime<Utc>,
    /// When it is due, while it is pending.
    next_attempt_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

/// Filters of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct MessageQuery {
    /// Only those with this status.
    #[param(inline)]
    status: Option<Status>,
    /// Only those of this provider.
    provider: Option<String>,
    /// Only those about this pledge.
    pledge_id: Option<Uuid>,
}

/// List messages of providers
///
/// For operators. Newest first.
#[utoipa::path(
    get, path = "/webhooks/inbox", tag = "webhooks", security(("admin_token" = [])),
    params(MessageQuery, PageQuery),
    responses((status = 200, body = Page<MessageReply>)),
)]
async fn list_messages(
    _: Organiser,
    Shared(pool): Shared<PgPool>,
    Query(query): Query<MessageQuery>,
    page: PageRequest<i64>,
) -> Result<Json<Page<MessageReply>>, Problem> {
    let rows: Vec<MessageReply> = sqlx::query_as(
        "select inbox_id, provider, webhook_id, event_type, pledge_id, status, attempts, reason as why,
             received_at, case when status = 'pending' then next_attempt_at end as next_attempt_at,
             finished_at
         from webhook_inbox
         where ($1::bigint is null or inbox_id < $1) and ($2::text is null or status = $2)
             and ($3::text is null or provider = $3) and ($4::uuid is null or pledge_id = $4)
         order by inbox_id desc limit $5",
    )
    .bind(page.after)
    .bind(query.status.map(Status::as_str))
    .bind(query.provider.map(|name| name.replace('\0', "")))
    .bind(query.pledge_id)
    .bind(page.rows())
    // Planned for what is asked: each filter has an index of its own.
    .persistent(false)
    .fetch_all(&pool)
    .await?;
    page.page(rows, |row| row.inbox_id, |row| row)
}

/// An operator's decision about a message.
#[derive(Debug, Serialize, FromRow, ToSchema)]
struct ActReply {
    act_id: i64,
    /// `retry`, `discard`, or `correct` where a correction settled it.
    act: String,
    reason: Option<String>,
    acted_at: DateTime<Utc>,
    /// The header `x-operator` of the request, `admin` without one.
    acted_by: String,
}

/// A message with its body and its history.
#[derive(Debug, Serialize, ToSchema)]
struct WholeMessageReply {
    #[serde(flatten)]
    message: MessageReply,
    /// The JSON that the provider signed, byte for byte.
    body: String,
    /// SHA-256 of the body in hexadecimal, as in the metadata of the events that the message led to.
    webhook_sha256: String,
    /// Operators' decisions about it, oldest first.
    acts: Vec<ActReply>,
}

#[derive(FromRow)]
struct WholeMessage {
    #[sqlx(flatten)]
    message: MessageReply,
    body: String,
}

/// Show a message of a provider
///
/// For operators. With the body, why it is where it is, and what operators decided.
#[utoipa::path(
    get, path = "/webhooks/inbox/{inbox_id}", tag = "webhooks", security(("admin_token" = [])),
    params(("inbox_id" = i64, Path)),
    responses((status = 200, body = WholeMessageReply), (status = 404)),
)]
async fn show_message(
    _: Organiser,
    Shared(pool): Shared<PgPool>,
    Path(inbox_id): Path<i64>,
) -> Result<Json<WholeMessageReply>, Problem> {
    whole_message(&pool, inbox_id).await.map(Json)
}

async fn whole_message(pool: &PgPool, inbox_id: i64) -> Result<WholeMessageReply, Problem> {
    let row: Option<WholeMessage> = sqlx::query_as(
        "select inbox_id, provider, webhook_id, event_type, pledge_id, status, attempts, reason as why,
             received_at, case when status = 'pending' then next_attempt_at end as next_attempt_at,
             finished_at, body
         from webhook_inbox where inbox_id = $1",
    )
    .bind(inbox_id)
    .fetch_optional(pool)
    .await?;
    let WholeMessage { message, body } =
        row.ok_or_else(|| Problem::new(ProblemKind::NotFound, "there is no such message"))?;
    let acts = sqlx::query_as(
        "select act_id, act, reason, acted_at, acted_by from webhook_inbox_acts
         where inbox_id = $1 order by act_id",
    )
    .bind(inbox_id)
    .fetch_all(pool)
    .await?;
    let webhook_sha256 = format!("{:x}", Sha256::digest(body.as_bytes()));
    Ok(WholeMessageReply { message, body, webhook_sha256, acts })
}

/// Try a message again
///
/// For operators. It is due at once, with all its tries. A processed message is refused.
#[utoipa::path(
    post, path = "/webhooks/inbox/{inbox_id}/retry", tag = "webhooks", security(("admin_token" = [])),
    params(
        ("inbox_id" = i64, Path),
        ("x-operator" = Option<String>, Header, description = "Who decides, at most 100 characters"),
    ),
    responses((status = 200, body = WholeMessageReply), (status = 404), (status = 409)),
)]
async fn retry_message(
    _: Organiser,
    Shared(pool): Shared<PgPool>,
    Operator(operator): Operator,
    Path(inbox_id): Path<i64>,
    _: NoBody,
) -> Result<Json<WholeMessageReply>, Problem> {
    // The tries of a pending message go on, since a worker that has it marks it by their number.
    let retried = sqlx::query(
        "with retried as (
             update webhook_inbox
             set attempts = case when status = 'pending' then attempts else 0 end,
                 status = 'pending', next_attempt_at = now(), finished_at = null
             where inbox_id = $1 and status <> 'processed'
             returning inbox_id
         ), recorded as (
             insert into webhook_inbox_acts (inbox_id, act, acted_by)
             select inbox_id, 'retry', $2 from retried
         )
         select pg_notify('webhook_inbox', '') from retried",
    )
    .bind(inbox_id)
    .bind(operator.as_str())
    .fetch_optional(&pool)
    .await?;
    answer_act(&pool, inbox_id, retried.is_some(), "retry").await
}

/// Which messages to try again.
#[derive(Debug, Deserialize, ToSchema)]
struct RetryAll {
    /// `dead` or `review`.
    status: Status,
}

/// How many messages will be tried again.
#[derive(Debug, Serialize, ToSchema)]
struct RetriedReply {
    retried: u64,
}

/// Try all dead letters, or all messages in review, again
///
/// For operators. The oldest 10,000 of them; repeat it until the answer is 0.
#[utoipa::path(
    post, path = "/webhooks/inbox/retry", tag = "webhooks", security(("admin_token" = [])),
    params(("x-operator" = Option<String>, Header, description = "Who decides, at most 100 characters")),
    request_body = RetryAll,
    responses((status = 200, body = RetriedReply), (status = 422)),
)]
async fn retry_all(
    _: Organiser,
    Shared(pool): Shared<PgPool>,
    Operator(operator): Operator,
    Json(body): Json<RetryAll>,
) -> Result<Json<RetriedReply>, Problem> {
    match body.status {
        Status::Dead | Status::Review => {}
        Status::Pending | Status::Processed | Status::Ignored | Status::Discarded => {
            let mut errors = FieldErrors::default();
            errors.add("status", "must be dead or review");
            return Err(errors.problem());
        }
    }
    let retried: i64 = sqlx::query_scalar(
        "with chosen as (
             select inbox_id from webhook_inbox where status = $1
             order by inbox_id limit $2 for update skip locked
         ), retried as (
             update webhook_inbox w
             set status = 'pending', attempts = 0, next_attempt_at = now(), finished_at = null
             from chosen where w.inbox_id = chosen.inbox_id
             returning w.inbox_id
         ), recorded as (
             insert into webhook_inbox_acts (inbox_id, act, acted_by)
             select inbox_id, 'retry', $3 from retried
         ), woken as (
             select pg_notify('webhook_inbox', '')
         )
         select (select count(*) from retried) from woken",
    )
    .bind(body.status.as_str())
    .bind(MAX_RETRIED)
    .bind(operator.as_str())
    .persistent(false)
    .fetch_one(&pool)
    .await?;
    Ok(Json(RetriedReply { retried: retried.unsigned_abs() }))
}

/// Why a message is put aside.
#[derive(Debug, Deserialize, ToSchema)]
struct Discard {
    /// At most 500 characters.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

/// Put a message aside for good
///
/// For operators. Only a dead letter or a message in review; it can still be tried again later.
#[utoipa::path(
    post, path = "/webhooks/inbox/{inbox_id}/discard", tag = "webhooks", security(("admin_token" = [])),
    params(
        ("inbox_id" = i64, Path),
        ("x-operator" = Option<String>, Header, description = "Who decides, at most 100 characters"),
    ),
    request_body = Discard,
    responses((status = 200, body = WholeMessageReply), (status = 404), (status = 409), (status = 422)),
)]
async fn discard_message(
    _: Organiser,
    Shared(pool): Shared<PgPool>,
    Operator(operator): Operator,
    Path(inbox_id): Path<i64>,
    Json(body): Json<Discard>,
) -> Result<Json<WholeMessageReply>, Problem> {
    let mut errors = FieldErrors::default();
    let Some(reason) = errors.take("reason", body.reason.parse::<Text<500>>()) else {
        return Err(errors.problem());
    };
    let discarded = sqlx::query(
        "with discarded as (
             update webhook_inbox set status = 'discarded', finished_at = now()
             where inbox_id = $1 and status in ('review', 'dead')
             returning inbox_id
         )
         insert into webhook_inbox_acts (inbox_id, act, reason, acted_by)
         select inbox_id, 'discard', $2, $3 from discarded",
    )
    .bind(inbox_id)
    .bind(reason.as_str())
    .bind(operator.as_str())
    .execute(&pool)
    .await?;
    answer_act(&pool, inbox_id, discarded.rows_affected() > 0, "discard").await
}

/// The message after an act, or the conflict that prevented it.
async fn answer_act(
    pool: &PgPool,
    inbox_id: i64,
    done: bool,
    act: &str,
) -> Result<Json<WholeMessageReply>, Problem> {
    let message = whole_message(pool, inbox_id).await?;
    if done {
        Ok(Json(message))
    } else {
        let status = message.message.status;
        Err(Problem::new(ProblemKind::Conflict, format!("cannot {act} a message that is {status}")))
    }
}
