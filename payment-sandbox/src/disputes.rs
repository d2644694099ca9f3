//! Disputes: a visitor's bank asks for the money back, and somebody decides.

use axum::extract::State as Shared;
use axum::http::StatusCode;
use domain::{Currency, Money};
use serde::{Deserialize, Serialize};
use service::{Json, Path, Problem, ProblemKind};
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
    OpenApiRouter::new().routes(routes!(open_dispute)).routes(routes!(resolve_dispute))
}

/// How a dispute ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// The merchant keeps the money.
    Won,
    /// The bank takes it.
    Lost,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Won => "won",
            Self::Lost => "lost",
        }
    }

    fn fact(self) -> FactType {
        match self {
            Self::Won => FactType::DisputeWon,
            Self::Lost => FactType::DisputeLost,
        }
    }
}

/// A dispute to open.
#[derive(Debug, Deserialize, ToSchema)]
struct DisputeRequest {
    /// All that is left of the payment where it is left out.
    #[schema(value_type = Option<Amount>)]
    amount: Option<Money>,
    /// Ends the dispute at once.
    outcome: Option<Outcome>,
}

/// A dispute.
#[derive(Debug, Serialize, ToSchema)]
struct Disputed {
    dispute_id: String,
}

/// How a dispute is to end.
#[derive(Debug, Deserialize, ToSchema)]
struct Resolution {
    outcome: Outcome,
}

/// A dispute after its end.
#[derive(Debug, Serialize, ToSchema)]
struct Resolved {
    dispute_id: String,
    outcome: Outcome,
}

/// Dispute a payment
///
/// As the visitor's bank does. Money that is in dispute cannot be refunded.
#[utoipa::path(
    post, path = "/sandbox/payments/{payment_id}/disputes", tag = "sandbox provider",
    security(("sandbox_key" = [])), params(("payment_id" = String, Path)), request_body = DisputeRequest,
    responses(
        (status = 201, body = Disputed), (status = 404),
        (status = 422, description = "It was not captured, or less of it is left"),
    ),
)]
async fn open_dispute(
    _: Merchant,
    Shared(pool): Shared<PgPool>,
    Path(payment_id): Path<String>,
    Json(DisputeRequest { amount, outcome }): Json<DisputeRequest>,
) -> Result<(StatusCode, Json<Disputed>), Problem> {
    let payment = Payment::load(&pool, &payment_id, "").await?;
    let all_that_is_left = || -> Option<Money> {
        let currency: Currency = payment.currency.parse().ok()?;
        Money::new(payment.left_minor, currency).ok()
    };
    let amount = amount.or_else(all_that_is_left).ok_or_else(|| payment.refusal())?;
    match dispute(&pool, &payment_id, amount, outcome).await? {
        Some(dispute_id) => Ok((StatusCode::CREATED, Json(Disputed { dispute_id }))),
        None => Err(payment.refusal()),
    }
}

/// Opens a dispute, and ends it at once if there is an outcome. None if not so much of the
/// payment is left.
async fn dispute(
    pool: &PgPool,
    payment_id: &str,
    amount: Money,
    outcome: Option<Outcome>,
) -> Result<Option<String>, sqlx::Error> {
    let facts: Vec<&str> = [Some(FactType::DisputeOpened), outcome.map(Outcome::fact)]
        .into_iter()
        .flatten()
        .map(FactType::name)
        .collect();
    sqlx::query_scalar(
        "with claimed as (
             update sandbox.sessions
             set claimed_minor = claimed_minor + case when $4 = 'won' then 0 else $2 end,
                 fact_count = fact_count + cardinality($5::text[])
             where payment_id = $1 and status = 'approved' and captured_at <= clock_timestamp()
                 and currency = $3 and claimed_minor + $2 <= amount_minor
             returning session_id, fact_count
         ), disputed as (
             insert into sandbox.disputes (session_id, amount_minor, status)
             select session_id, $2, $4 from claimed returning dispute_id
         ), told as (
             insert into sandbox.facts (session_id, number, type, amount_minor, subject_id, occurs_at)
             select session_id, fact_count - cardinality($5::text[]) + f.number, f.type, $2, dispute_id, clock_timestamp()
             from claimed, disputed, unnest($5::text[]) with ordinality as f (type, number)
         )
         select dispute_id from disputed",
    )
    .bind(payment_id)
    .bind(amount.amount_minor())
    .bind(amount.currency().code())
    .bind(outcome.map_or("open", Outcome::name))
    .bind(facts)
    .fetch_optional(pool)
    .await
}

/// End a dispute
///
/// Ending it twice in the same way is as good as once.
#[utoipa::path(
    post, path = "/sandbox/disputes/{dispute_id}/resolve", tag = "sandbox provider",
    security(("sandbox_key" = [])), params(("dispute_id" = String, Path)), request_body = Resolution,
    responses(
        (status = 200, body = Resolved), (status = 404),
        (status = 409, description = "It ended in the other way"),
    ),
)]
async fn resolve_dispute(
    _: Merchant,
    Shared(pool): Shared<PgPool>,
    Path(dispute_id): Path<String>,
    Json(Resolution { outcome }): Json<Resolution>,
) -> Result<Json<Resolved>, Problem> {
    resolve(&pool, &dispute_id, outcome).await?;
    let status: Option<String> =
        sqlx::query_scalar("select status from sandbox.disputes where dispute_id = $1")
            .bind(&dispute_id)
            .fetch_optional(&pool)
            .await?;
    match status {
        Some(status) if status == outcome.name() => Ok(Json(Resolved { dispute_id, outcome })),
        Some(status) => Err(Problem::new(ProblemKind::Conflict, format!("the dispute was {status} already"))),
        None => Err(Problem::new(ProblemKind::NotFound, "there is no such dispute")),
    }
}

/// Ends an open dispute; one that has ended stays as it is.
async fn resolve(pool: &PgPool, dispute_id: &str, outcome: Outcome) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with resolved as (
             update sandbox.disputes set status = $2 where dispute_id = $1 and status = 'open'
             returning session_id, amount_minor
         ), freed as (
             update sandbox.sessions s
             set claimed_minor = claimed_minor - case when $2 = 'won' then r.amount_minor else 0 end,
                 fact_count = fact_count + 1
             from resolved r where s.session_id = r.session_id
             returning s.session_id, s.fact_count, r.amount_minor
         )
         insert into sandbox.facts (session_id, number, type, amount_minor, subject_id, occurs_at)
         select session_id, fact_count, $3, amount_minor, $1, clock_timestamp() from freed",
    )
    .bind(dispute_id)
    .bind(outcome.name())
    .bind(outcome.fact().name())
    .execute(pool)
    .await?;
    Ok(())
}
