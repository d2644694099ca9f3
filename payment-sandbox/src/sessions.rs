//! Payment sessions: opened and closed by the merchant, approved or declined by a visitor, and
//! reported with all that happened on them.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::http::Uri;
use domain::Money;
use serde::{Deserialize, Serialize};
use service::{FieldErrors, Json, NoBody, Path, Problem, ProblemKind, Query};
use sqlx::{FromRow, PgPool};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::facts::{Fact, FactMessage, FactType};
use crate::merchant::Merchant;
use crate::money::Amount;
use crate::{PublicUrl, State};

/// The capture follows the authorisation after this.
const CAPTURE_AFTER: Duration = Duration::from_millis(200);
const DEFAULT_LIMIT: i64 = 100;
const MAX_LIMIT: i64 = 200;

pub(crate) fn merchant_router() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(open_session, list_sessions))
        .routes(routes!(show_session))
        .routes(routes!(close_session))
        .routes(routes!(show_payment))
}

pub(crate) fn visitor_router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(approve_session)).routes(routes!(decline_session))
}

/// A session that is to be opened.
#[derive(Debug, Deserialize, ToSchema)]
struct OpenSession {
    /// The merchant's reference.
    reference: Uuid,
    #[schema(value_type = Amount)]
    amount: Money,
    /// Where the visitor goes afterwards.
    #[schema(format = "uri")]
    return_url: String,
}

/// An open session.
#[derive(Debug, Serialize, ToSchema)]
struct OpenedSession {
    session_id: Uuid,
    /// The payment page.
    url: String,
}

/// A session and all its facts so far, whether or not their messages arrived.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Report {
    session_id: Uuid,
    reference: Uuid,
    payment_id: String,
    amount: Amount,
    /// `open`, `approved`, `declined`, `voided` or `closed`.
    status: String,
    /// In the order in which they happened; the same as the bodies of webhooks.
    facts: Vec<FactMessage>,
}

/// A page of reports.
#[derive(Debug, Serialize, ToSchema)]
struct Reports {
    items: Vec<Report>,
    /// `after` of the next page; none on the last one.
    next_cursor: Option<Uuid>,
}

/// Which sessions.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// The session after which the page starts; none for the first page.
    after: Option<Uuid>,
    /// Sessions per page: 1 to 200, 100 by default.
    limit: Option<i64>,
}

/// How many items a page has.
///
/// # Errors
/// The limit is out of bounds.
pub(crate) fn page_limit(limit: Option<i64>) -> Result<i64, Problem> {
    match limit {
        None => Ok(DEFAULT_LIMIT),
        Some(limit @ 1..=MAX_LIMIT) => Ok(limit),
        Some(_) => Err(Problem::new(ProblemKind::Malformed, format!("limit must be 1 to {MAX_LIMIT}"))),
    }
}

#[derive(FromRow)]
struct Session {
    session_id: Uuid,
    reference: Uuid,
    payment_id: String,
    amount_minor: i64,
    currency: String,
    status: String,
}

/// Open a session
///
/// Idempotent by the reference: until it is closed, a session is found again. While it is open, it
/// takes on the amount that is sent.
#[utoipa::path(
    post, path = "/sandbox/sessions", tag = "sandbox provider", security(("sandbox_key" = [])),
    request_body = OpenSession,
    responses(
        (status = 200, body = OpenedSession), (status = 422),
        (status = 503, description = "The dial asks for outages; ask again"),
    ),
)]
async fn open_session(
    _: Merchant,
    Shared(pool): Shared<PgPool>,
    Shared(PublicUrl(public_url)): Shared<PublicUrl>,
    Json(open): Json<OpenSession>,
) -> Result<Json<OpenedSession>, Problem> {
    let mut errors = FieldErrors::default();
    if errors.take("return_url", open.return_url.parse::<Uri>()).is_none() {
        return Err(errors.problem());
    }
    let session_id: Uuid = sqlx::query_scalar(
        "insert into sandbox.sessions as s (reference, amount_minor, currency, return_url)
         values ($1, $2, $3, $4)
         on conflict (reference) where status <> 'closed' do update set
             amount_minor = case when s.status = 'open' then excluded.amount_minor else s.amount_minor end,
             currency = case when s.status = 'open' then excluded.currency else s.currency end
         returning session_id",
    )
    .bind(open.reference)
    .bind(open.amount.amount_minor())
    .bind(open.amount.currency().code())
    .bind(&open.return_url)
    .fetch_one(&pool)
    .await?;
    Ok(Json(OpenedSession { session_id, url: format!("{public_url}/sandbox/pay/{session_id}") }))
}

/// Close a session
///
/// Afterwards nobody can pay on it. A session that is paid, declined, voided or closed stays as it is.
#[utoipa::path(
    post, path = "/sandbox/sessions/{session_id}/close", tag = "sandbox provider",
    security(("sandbox_key" = [])), params(("session_id" = Uuid, Path)),
    responses((status = 200, body = Report), (status = 404)),
)]
async fn close_session(
    _: Merchant,
    Shared(pool): Shared<PgPool>,
    Path(session_id): Path<Uuid>,
    _: NoBody,
) -> Result<Json<Report>, Problem> {
    sqlx::query(
        "update sandbox.sessions set status = 'closed', decided_at = now()
         where session_id = $1 and status = 'open'",
    )
    .bind(session_id)
    .execute(&pool)
    .await?;
    report(&pool, session_id).await.map(Json)
}

/// Report a session
#[utoipa::path(
    get, path = "/sandbox/sessions/{session_id}", tag = "sandbox provider",
    security(("sandbox_key" = [])), params(("session_id" = Uuid, Path)),
    responses((status = 200, body = Report), (status = 404)),
)]
async fn show_session(
    _: Merchant,
    Shared(pool): Shared<PgPool>,
    Path(session_id): Path<Uuid>,
) -> Result<Json<Report>, Problem> {
    report(&pool, session_id).await.map(Json)
}

/// Report a payment
///
/// The session that it was made on.
#[utoipa::path(
    get, path = "/sandbox/payments/{payment_id}", tag = "sandbox provider",
    security(("sandbox_key" = [])), params(("payment_id" = String, Path)),
    responses((status = 200, body = Report), (status = 404)),
)]
async fn show_payment(
    _: Merchant,
    Shared(pool): Shared<PgPool>,
    Path(payment_id): Path<String>,
) -> Result<Json<Report>, Problem> {
    let session_id: Option<Uuid> =
        sqlx::query_scalar("select session_id from sandbox.sessions where payment_id = $1")
            .bind(payment_id)
            .fetch_optional(&pool)
            .await?;
    let session_id =
        session_id.ok_or_else(|| Problem::new(ProblemKind::NotFound, "there is no such payment"))?;
    report(&pool, session_id).await.map(Json)
}

/// Report all sessions
///
/// In the order in which they were opened.
#[utoipa::path(
    get, path = "/sandbox/sessions", tag = "sandbox provider", security(("sandbox_key" = [])),
    params(ListQuery),
    responses((status = 200, body = Reports)),
)]
async fn list_sessions(
    _: Merchant,
    Shared(pool): Shared<PgPool>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Reports>, Problem> {
    let limit = page_limit(query.limit)?;
    let mut sessions: Vec<Session> = sqlx::query_as(
        "select session_id, reference, payment_id, amount_minor, currency, status
         from sandbox.sessions
         where $1::uuid is null or number > (select number from sandbox.sessions where session_id = $1)
         order by number limit $2",
    )
    .bind(query.after)
    // One more than asked for tells whether another page follows.
    .bind(limit + 1)
    .fetch_all(&pool)
    .await?;
    let more = i64::try_from(sessions.len()).unwrap_or(i64::MAX) > limit;
    sessions.truncate(usize::try_from(limit).unwrap_or_default());
    let next_cursor = sessions.last().filter(|_| more).map(|last| last.session_id);
    Ok(Json(Reports { items: reports(&pool, sessions).await?, next_cursor }))
}

/// Approve a payment without a browser
#[utoipa::path(
    post, path = "/sandbox/sessions/{session_id}/approve", tag = "sandbox provider",
    security(("sandbox_key" = [])), params(("session_id" = Uuid, Path)),
    responses(
        (status = 200, body = Report), (status = 404),
        (status = 409, description = "It was declined, voided or closed"),
    ),
)]
async fn approve_session(
    _: Merchant,
    Shared(pool): Shared<PgPool>,
    Shared(settle_after): Shared<Duration>,
    Path(session_id): Path<Uuid>,
    _: NoBody,
) -> Result<Json<Report>, Problem> {
    approve(&pool, session_id, settle_after).await?;
    decided(&pool, session_id, "approved").await
}

/// Decline a payment without a browser
#[utoipa::path(
    post, path = "/sandbox/sessions/{session_id}/decline", tag = "sandbox provider",
    security(("sandbox_key" = [])), params(("session_id" = Uuid, Path)),
    responses(
        (status = 200, body = Report), (status = 404),
        (status = 409, description = "It was approved, voided or closed"),
    ),
)]
async fn decline_session(
    _: Merchant,
    Shared(pool): Shared<PgPool>,
    Path(session_id): Path<Uuid>,
    _: NoBody,
) -> Result<Json<Report>, Problem> {
    decline(&pool, session_id).await?;
    decided(&pool, session_id, "declined").await
}

async fn decided(pool: &PgPool, session_id: Uuid, wanted: &str) -> Result<Json<Report>, Problem> {
    let report = report(pool, session_id).await?;
    if report.status == wanted {
        Ok(Json(report))
    } else {
        Err(Problem::new(ProblemKind::Conflict, format!("the session is {} already", report.status)))
    }
}

async fn report(pool: &PgPool, session_id: Uuid) -> Result<Report, Problem> {
    let session: Option<Session> = sqlx::query_as(
        "select session_id, reference, payment_id, amount_minor, currency, status
         from sandbox.sessions where session_id = $1",
    )
    .bind(session_id)
    .fetch_optional(pool)
    .await?;
    let found = reports(pool, session.into_iter().collect()).await?.pop();
    found.ok_or_else(|| Problem::new(ProblemKind::NotFound, "there is no such session"))
}

async fn reports(pool: &PgPool, sessions: Vec<Session>) -> Result<Vec<Report>, sqlx::Error> {
    let ids: Vec<Uuid> = sessions.iter().map(|session| session.session_id).collect();
    let mut facts: HashMap<Uuid, Vec<FactMessage>> = HashMap::new();
    for fact in Fact::of_sessions(pool, &ids).await? {
        facts.entry(fact.session_id).or_default().push(fact.message());
    }
    let report = |session: Session| Report {
        facts: facts.remove(&session.session_id).unwrap_or_default(),
        session_id: session.session_id,
        reference: session.reference,
        payment_id: session.payment_id,
        amount: Amount { amount_minor: session.amount_minor, currency: session.currency },
        status: session.status,
    };
    Ok(sessions.into_iter().map(report).collect())
}

/// Approves an open session; a session that is not open stays as it is.
pub(crate) async fn approve(
    pool: &PgPool,
    session_id: Uuid,
    settle_after: Duration,
) -> Result<(), sqlx::Error> {
    // The capture is true together with its fact: both are made from the same now().
    sqlx::query(
        "with decided as (
             update sandbox.sessions
             set status = 'approved', decided_at = now(), fact_count = 3,
                 captured_at = now() + make_interval(secs => $2)
             where session_id = $1 and status = 'open' returning session_id, amount_minor, captured_at
         )
         insert into sandbox.facts (session_id, number, type, amount_minor, occurs_at)
         select session_id, number, type, amount_minor, occurs_at
         from decided cross join lateral (values
             (1, $4, now()),
             (2, $5, captured_at),
             (3, $6, captured_at + make_interval(secs => $3))
         ) as f (number, type, occurs_at)",
    )
    .bind(session_id)
    .bind(CAPTURE_AFTER.as_secs_f64())
    .bind(settle_after.as_secs_f64())
    .bind(FactType::Authorized.name())
    .bind(FactType::Captured.name())
    .bind(FactType::Settled.name())
    .execute(pool)
    .await?;
    Ok(())
}

/// Declines an open session; a session that is not open stays as it is.
pub(crate) async fn decline(pool: &PgPool, session_id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with decided as (
             update sandbox.sessions set status = 'declined', decided_at = now(), fact_count = 1
             where session_id = $1 and status = 'open' returning session_id
         )
         insert into sandbox.facts (session_id, number, type, reason, occurs_at)
         select session_id, 1, $2, 'declined by the visitor', now() from decided",
    )
    .bind(session_id)
    .bind(FactType::Failed.name())
    .execute(pool)
    .await?;
    Ok(())
}
