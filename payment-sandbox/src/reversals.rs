//! Reversals: a visitor's bank takes money back without a dispute, as of a direct debit that bounces. They
//! are kept as facts alone.

use axum::extract::State as Shared;
use axum::http::StatusCode;
use domain::Money;
use serde::{Deserialize, Serialize};
use service::{Json, NoBody, Path, Problem, ProblemKind};
use sqlx::PgPool;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::State;
use crate::facts::FactType;
use crate::merchant::Merchant;
use crate::money::Amount;
use crate::refunds::Payment;

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(reverse_payment)).routes(routes!(cancel_reversal))
}

/// A reversal to make.
#[derive(Debug, Deserialize, ToSchema)]
struct ReversalRequest {
    /// Whatever the bank takes; all that is left of the payment where it is left out.
    #[schema(value_type = Option<Amount>)]
    amount: Option<Money>,
}

/// A reversal.
#[derive(Debug, Serialize, ToSchema)]
struct Reversed {
    reversal_id: String,
}

/// Reverse a payment
///
/// As the visitor's bank does. It may take more than is left.
#[utoipa::path(
    post, path = "/sandbox/payments/{payment_id}/reversals", tag = "sandbox provider",
    security(("sandbox_key" = [])), params(("payment_id" = String, Path)), request_body = ReversalRequest,
    responses(
        (status = 201, body = Reversed), (status = 404),
        (status = 422, description = "It was not captured, or nothing is left and no amount is given"),
    ),
)]
async fn reverse_payment(
    _: Merchant,
    Shared(pool): Shared<PgPool>,
    Path(payment_id): Path<String>,
    Json(ReversalRequest { amount }): Json<ReversalRequest>,
) -> Result<(StatusCode, Json<Reversed>), Problem> {
    let payment = Payment::load(&pool, &payment_id, "").await?;
    let amount = amount.or_else(|| payment.left()).ok_or_else(|| payment.refusal())?;
    let reversal_id: Option<String> = sqlx::query_scalar(
        "with claimed as (
             update sandbox.sessions set claimed_minor = claimed_minor + $2, fact_count = fact_count + 1
             where payment_id = $1 and status = 'approved' and captured_at <= clock_timestamp()
                 and currency = $3
             returning session_id, fact_count
         )
         insert into sandbox.facts (session_id, number, type, amount_minor, subject_id, occurs_at)
         select session_id, fact_count, $4, $2, 'rev_' || replace(gen_random_uuid()::text, '-', ''),
             clock_timestamp()
         from claimed
         returning subject_id",
    )
    .bind(&payment_id)
    .bind(amount.amount_minor())
    .bind(amount.currency().code())
    .bind(FactType::Reversed.name())
    .fetch_optional(&pool)
    .await?;
    let reversal_id = reversal_id.ok_or_else(|| payment.refusal())?;
    Ok((StatusCode::CREATED, Json(Reversed { reversal_id })))
}

/// Cancel a reversal
///
/// The bank gives the money back. Cancelling twice is as good as once.
#[utoipa::path(
    post, path = "/sandbox/reversals/{reversal_id}/cancel", tag = "sandbox provider",
    security(("sandbox_key" = [])), params(("reversal_id" = String, Path)),
    responses((status = 200, body = Reversed), (status = 404)),
)]
async fn cancel_reversal(
    _: Merchant,
    Shared(pool): Shared<PgPool>,
    Path(reversal_id): Path<String>,
    _: NoBody,
) -> Result<Json<Reversed>, Problem> {
    cancel(&pool, &reversal_id).await?;
    let is_known: bool = sqlx::query_scalar(
        "select exists (select from sandbox.facts where subject_id = $1 and type = 'payment.reversed')",
    )
    .bind(&reversal_id)
    .fetch_one(&pool)
    .await?;
    if is_known {
        Ok(Json(Reversed { reversal_id }))
    } else {
        Err(Problem::new(ProblemKind::NotFound, "there is no such reversal"))
    }
}

/// Cancels a reversal; one that is cancelled stays as it is.
async fn cancel(pool: &PgPool, reversal_id: &str) -> Result<(), sqlx::Error> {
    let cancelled = sqlx::query(
        "with freed as (
             update sandbox.sessions s
             set claimed_minor = claimed_minor - f.amount_minor, fact_count = fact_count + 1
             from sandbox.facts f
             where s.session_id = f.session_id and f.subject_id = $1 and f.type = 'payment.reversed'
                 and not exists (
                     select from sandbox.facts where subject_id = $1 and type = 'reversal.cancelled'
                 )
             returning s.session_id, s.fact_count, f.amount_minor
         )
         insert into sandbox.facts (session_id, number, type, amount_minor, subject_id, occurs_at)
         select session_id, fact_count, 'reversal.cancelled', amount_minor, $1, clock_timestamp() from freed",
    )
    .bind(reversal_id)
    .execute(pool)
    .await;
    match cancelled {
        // The same request at the same time was first, and all of this one is undone.
        Err(sqlx::Error::Database(error)) if error.constraint() == Some("facts_reverse_once") => Ok(()),
        cancelled => cancelled.map(drop),
    }
}
