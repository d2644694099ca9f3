//! Refunds: taken money is given back, several times if need be, and never more than was taken. One may fail
//! afterwards.

use axum::extract::State as Shared;
use axum::http::StatusCode;
use domain::Money;
use serde::{Deserialize, Serialize};
use service::{Json, NoBody, Path, Problem, ProblemKind};
use sqlx::{FromRow, PgPool};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::State;
use crate::facts::FactType;
use crate::merchant::{Merchant, RequestKey};
use crate::money::Amount;

pub(crate) fn merchant_router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(refund_payment))
}

pub(crate) fn bank_router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(fail_refund))
}

/// The amount to give back.
#[derive(Debug, Deserialize, ToSchema)]
struct RefundRequest {
    #[schema(value_type = Amount)]
    amount: Money,
}

/// A refund.
#[derive(Debug, Serialize, ToSchema)]
struct Refunded {
    refund_id: String,
    payment_id: String,
    amount: Amount,
}

/// Refund a payment
///
/// The whole or a part, several times if need be. The same `Idempotency-Key` is the same refund.
#[utoipa::path(
    post, path = "/sandbox/payments/{payment_id}/refunds", tag = "sandbox provider",
    security(("sandbox_key" = [])),
    params(("payment_id" = String, Path), ("Idempotency-Key" = String, Header)),
    request_body = RefundRequest,
    responses(
        (status = 201, body = Refunded), (status = 404),
        (status = 422, description = "It was not captured, or less of it is left"),
    ),
)]
async fn refund_payment(
    _: Merchant,
    Shared(pool): Shared<PgPool>,
    Path(payment_id): Path<String>,
    RequestKey(key): RequestKey,
    Json(RefundRequest { amount }): Json<RefundRequest>,
) -> Result<(StatusCode, Json<Refunded>), Problem> {
    let refund_id = match refund(&pool, &payment_id, &key, amount).await? {
        Some(refund_id) => refund_id,
        None => Payment::load(&pool, &payment_id, &key).await?.known_refund(amount)?,
    };
    let amount =
        Amount { amount_minor: amount.amount_minor(), currency: amount.currency().code().to_owned() };
    Ok((StatusCode::CREATED, Json(Refunded { refund_id, payment_id, amount })))
}

/// Gives money back, if so much of it is left and the key is a new one.
async fn refund(
    pool: &PgPool,
    payment_id: &str,
    key: &str,
    amount: Money,
) -> Result<Option<String>, sqlx::Error> {
    let refunded = sqlx::query_scalar(
        "with claimed as (
             update sandbox.sessions s
             set claimed_minor = claimed_minor + $3, fact_count = fact_count + 1
             where payment_id = $1 and status = 'approved' and captured_at <= clock_timestamp()
                 and currency = $4 and claimed_minor + $3 <= amount_minor
                 and not exists (
                     select from sandbox.refunds r where r.session_id = s.session_id and r.idempotency_key = $2
                 )
             returning session_id, fact_count
         ), refunded as (
             insert into sandbox.refunds (session_id, idempotency_key, amount_minor)
             select session_id, $2, $3 from claimed returning refund_id
         ), told as (
             insert into sandbox.facts (session_id, number, type, amount_minor, subject_id, occurs_at)
             select session_id, fact_count, $5, $3, refund_id, clock_timestamp() from claimed, refunded
         )
         select refund_id from refunded",
    )
    .bind(payment_id)
    .bind(key)
    .bind(amount.amount_minor())
    .bind(amount.currency().code())
    .bind(FactType::Refunded.name())
    .fetch_optional(pool)
    .await;
    match refunded {
        // The same request at the same time was first, and all of this one is undone.
        Err(sqlx::Error::Database(error)) if error.constraint() == Some("refunds_are_one_per_key") => {
            Ok(None)
        }
        refunded => refunded,
    }
}

/// A refund after it failed.
#[derive(Debug, Serialize, ToSchema)]
struct Failed {
    refund_id: String,
}

/// Have a refund fail
///
/// As the visitor's bank does, where it cannot take the money: it came back, and can be given back again by
/// another refund. Failing twice is as good as once.
#[utoipa::path(
    post, path = "/sandbox/refunds/{refund_id}/fail", tag = "sandbox provider",
    security(("sandbox_key" = [])), params(("refund_id" = String, Path)),
    responses((status = 200, body = Failed), (status = 404)),
)]
async fn fail_refund(
    _: Merchant,
    Shared(pool): Shared<PgPool>,
    Path(refund_id): Path<String>,
    _: NoBody,
) -> Result<Json<Failed>, Problem> {
    sqlx::query(
        "with failed as (
             update sandbox.refunds set failed = true where refund_id = $1 and not failed
             returning session_id, amount_minor
         ), freed as (
             update sandbox.sessions s
             set claimed_minor = claimed_minor - f.amount_minor, fact_count = fact_count + 1
             from failed f where s.session_id = f.session_id
             returning s.session_id, s.fact_count, f.amount_minor
         )
         insert into sandbox.facts (session_id, number, type, amount_minor, subject_id, occurs_at)
         select session_id, fact_count, $2, amount_minor, $1, clock_timestamp() from freed",
    )
    .bind(&refund_id)
    .bind(FactType::RefundFailed.name())
    .execute(&pool)
    .await?;
    let is_known: bool =
        sqlx::query_scalar("select exists (select from sandbox.refunds where refund_id = $1)")
            .bind(&refund_id)
            .fetch_one(&pool)
            .await?;
    if is_known {
        Ok(Json(Failed { refund_id }))
    } else {
        Err(Problem::new(ProblemKind::NotFound, "there is no such refund"))
    }
}

/// A payment, as refunds, disputes and reversals need it.
#[derive(FromRow)]
pub(crate) struct Payment {
    is_captured: bool,
    /// Money that is neither refunded, nor taken back, nor in dispute.
    left_minor: i64,
    currency: String,
    refund_id: Option<String>,
    refunded_minor: Option<i64>,
}

impl Payment {
    /// The payment, with the refund under `key` if there is one.
    ///
    /// # Errors
    /// There is no such payment, or the database does not answer.
    pub(crate) async fn load(pool: &PgPool, payment_id: &str, key: &str) -> Result<Self, Problem> {
        let found: Option<Self> = sqlx::query_as(
            "select s.status = 'approved' and s.captured_at <= clock_timestamp() as is_captured,
                 greatest(s.amount_minor - s.claimed_minor, 0) as left_minor, s.currency,
                 r.refund_id, r.amount_minor as refunded_minor
             from sandbox.sessions s
                 left join sandbox.refunds r on r.session_id = s.session_id and r.idempotency_key = $2
             where s.payment_id = $1",
        )
        .bind(payment_id)
        .bind(key)
        .fetch_optional(pool)
        .await?;
        found.ok_or_else(|| Problem::new(ProblemKind::NotFound, "there is no such payment"))
    }

    /// All that is left of it, if anything is.
    pub(crate) fn left(&self) -> Option<Money> {
        Money::new(self.left_minor, self.currency.parse().ok()?).ok()
    }

    /// Why nothing more can be taken out of it.
    pub(crate) fn refusal(&self) -> Problem {
        if self.is_captured {
            let detail = format!("{} minor units of {} are left", self.left_minor, self.currency);
            Problem::new(ProblemKind::RuleBroken, detail)
        } else {
            Problem::new(ProblemKind::RuleBroken, "nothing was captured")
        }
    }

    /// The refund that was made under the key before.
    fn known_refund(self, amount: Money) -> Result<String, Problem> {
        match &self.refund_id {
            Some(refund_id)
                if self.refunded_minor == Some(amount.amount_minor())
                    && self.currency == amount.currency().code() =>
            {
                Ok(refund_id.clone())
            }
            Some(_) => {
                Err(Problem::new(ProblemKind::IdempotencyKeyReused, "another refund was made under this key"))
            }
            None => Err(self.refusal()),
        }
    }
}
