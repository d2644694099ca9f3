//! Voids: money that was reserved is released before it is taken.

use axum::extract::State as Shared;
use serde::Serialize;
use service::{Json, NoBody, Path, Problem, ProblemKind};
use sqlx::PgPool;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::State;
use crate::facts::FactType;
use crate::merchant::Merchant;

/// A capture that is this near cannot be stopped: nobody may have read of it when it is withdrawn.
const TOO_LATE_SECONDS: f64 = 0.05;

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(void_payment))
}

/// A payment after it was voided.
#[derive(Serialize, ToSchema)]
struct Voided {
    payment_id: String,
    /// `voided`; or `declined` or `closed`, where nothing was reserved.
    status: String,
}

/// Void a payment
///
/// Money that was reserved is released, and it will not be captured. Voiding twice is as good as once.
#[utoipa::path(
    post, path = "/sandbox/payments/{payment_id}/void", tag = "sandbox provider",
    security(("sandbox_key" = [])), params(("payment_id" = String, Path)),
    responses(
        (status = 200, body = Voided), (status = 404),
        (status = 409, description = "It was captured already"),
    ),
)]
async fn void_payment(
    _: Merchant,
    Shared(pool): Shared<PgPool>,
    Path(payment_id): Path<String>,
    _: NoBody,
) -> Result<Json<Voided>, Problem> {
    // The clock is asked again after a wait for the row, which now() is not. What was approved has its three
    // facts; of an open session there is nothing to be told.
    sqlx::query(
        "with voided as (
             update sandbox.sessions
             set status = 'voided', captured_at = null, decided_at = coalesce(decided_at, now()),
                 fact_count = case status when 'approved' then fact_count + 1 else 0 end
             where payment_id = $1 and status in ('open', 'approved')
                 and (captured_at is null or captured_at > clock_timestamp() + make_interval(secs => $2))
             returning session_id, fact_count
         )
         insert into sandbox.facts (session_id, number, type, occurs_at)
         select session_id, fact_count, $3, clock_timestamp() from voided where fact_count > 0",
    )
    .bind(&payment_id)
    .bind(TOO_LATE_SECONDS)
    .bind(FactType::Cancelled.name())
    .execute(&pool)
    .await?;
    let status: Option<String> =
        sqlx::query_scalar("select status from sandbox.sessions where payment_id = $1")
            .bind(&payment_id)
            .fetch_optional(&pool)
            .await?;
    match status.as_deref() {
        Some("approved") => Err(Problem::new(ProblemKind::Conflict, "the payment was captured already")),
        Some(status) => Ok(Json(Voided { status: status.to_owned(), payment_id })),
        None => Err(Problem::new(ProblemKind::NotFound, "there is no such payment")),
    }
}
