//! The merchant's API: open a session, void a payment.

use axum::extract::State as Shared;
use payments::sandbox::{OpenSession, OpenedSession};
use serde::Serialize;
use service::auth::Organiser;
use service::{Json, Path, Problem, ProblemKind};
use sqlx::PgPool;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::{PublicUrl, State};

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(open_session)).routes(routes!(void_payment))
}

/// Open a session at the sandbox provider
///
/// Idempotent by the reference: an open session is found again, with the amount as it is now.
#[utoipa::path(
    post, path = "/sandbox/sessions", tag = "sandbox provider", security(("sandbox_key" = [])),
    request_body(content = serde_json::Value, description = "{reference, amount, return_url}"),
    responses((status = 200, description = "{url}: the payment page"), (status = 401, body = Problem)),
)]
async fn open_session(
    _: Organiser,
    Shared(pool): Shared<PgPool>,
    Shared(PublicUrl(public_url)): Shared<PublicUrl>,
    Json(open): Json<OpenSession>,
) -> Result<Json<OpenedSession>, Problem> {
    let session_id: Uuid = sqlx::query_scalar(
        "insert into sandbox.sessions as s (reference, amount_minor, currency, return_url)
         values ($1, $2, $3, $4)
         on conflict on constraint sessions_are_one_per_reference do update set
             amount_minor = case when s.status = 'open' then excluded.amount_minor else s.amount_minor end
         returning session_id",
    )
    .bind(open.reference.0)
    .bind(open.amount.amount_minor())
    .bind(open.amount.currency().code())
    .bind(&open.return_url)
    .fetch_one(&pool)
    .await?;
    let url = format!("{public_url}/sandbox/pay/{session_id}");
    let session_id = session_id.to_string().parse().map_err(Problem::internal)?;
    Ok(Json(OpenedSession { session_id, url }))
}

/// A payment after it was voided.
#[derive(Serialize, ToSchema)]
struct Voided {
    payment_id: String,
    status: &'static str,
}

/// Void a payment at the sandbox provider
///
/// Money that was reserved is released, and a capture that was not sent yet will not be sent.
#[utoipa::path(
    post, path = "/sandbox/payments/{payment_id}/void", tag = "sandbox provider",
    security(("sandbox_key" = [])), params(("payment_id" = String, Path)),
    responses(
        (status = 200, body = Voided), (status = 401, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "It was captured already", body = Problem),
    ),
)]
async fn void_payment(
    _: Organiser,
    Shared(pool): Shared<PgPool>,
    Path(payment_id): Path<String>,
) -> Result<Json<Voided>, Problem> {
    // One statement: the capture is either still to be sent and withdrawn, or it is out.
    let outcome: Option<bool> = sqlx::query_scalar(
        "with captured as (
             select exists (
                 select from sandbox.deliveries d join sandbox.sessions s using (session_id)
                 where s.payment_id = $1 and d.body::json ->> 'type' = 'payment.captured' and d.attempts > 0
             ) as yes
         ), voided as (
             update sandbox.sessions set status = 'voided'
             where payment_id = $1 and not (select yes from captured) returning session_id
         ), withdrawn as (
             delete from sandbox.deliveries
             where session_id in (select session_id from voided) and attempts = 0
         )
         select exists (select from voided) from sandbox.sessions where payment_id = $1",
    )
    .bind(&payment_id)
    .fetch_optional(&pool)
    .await?;
    match outcome {
        Some(true) => Ok(Json(Voided { payment_id, status: "voided" })),
        Some(false) => Err(Problem::new(ProblemKind::Conflict, "the payment was captured already")),
        None => Err(Problem::new(ProblemKind::NotFound, "there is no such payment")),
    }
}
