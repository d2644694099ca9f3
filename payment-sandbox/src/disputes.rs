//! Disputes: a visitor's bank asks for the money back, and somebody decides, sometimes more than once.

use axum::extract::State as Shared;
use axum::http::StatusCode;
use domain::Money;
use serde::{Deserialize, Serialize};
use service::{Json, Path, Problem, ProblemKind};
use sqlx::{FromRow, PgPool};
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

const INQUIRY: &str = "inquiry";
const OPEN: &str = "open";

/// How a dispute goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// The bank was not content with the answer to its inquiry, and asks for the money back.
    Escalated,
    /// The merchant keeps the money.
    Won,
    /// The bank takes it.
    Lost,
    /// The bank took it, and gives it back.
    Reinstated,
}

impl Outcome {
    /// The dispute's status afterwards.
    fn status(self) -> &'static str {
        match self {
            Self::Escalated => OPEN,
            Self::Won => "won",
            Self::Lost => "lost",
            Self::Reinstated => "reinstated",
        }
    }

    /// The dispute's status before; where it is decided again, one of the ends.
    fn after(self, again: bool) -> &'static [&'static str] {
        match (self, again) {
            (Self::Escalated, _) => &[INQUIRY],
            (Self::Won | Self::Lost, false) => &[INQUIRY, OPEN],
            (Self::Won, true) => &[INQUIRY, OPEN, "lost"],
            (Self::Lost, true) => &[INQUIRY, OPEN, "won", "lost"],
            (Self::Reinstated, _) => &["lost"],
        }
    }

    fn fact(self) -> FactType {
        match self {
            Self::Escalated => FactType::DisputeOpened,
            Self::Won => FactType::DisputeWon,
            Self::Lost => FactType::DisputeLost,
            Self::Reinstated => FactType::DisputeReinstated,
        }
    }
}

/// How much of an amount in question is withdrawn or lost in a status.
fn claim_of(status: &str, amount: Money) -> i64 {
    match status {
        OPEN | "lost" => amount.amount_minor(),
        _ => 0,
    }
}

/// A dispute to open.
#[derive(Debug, Deserialize, ToSchema)]
struct DisputeRequest {
    /// Whatever the bank asks for; all that is left of the payment where it is left out.
    #[schema(value_type = Option<Amount>)]
    amount: Option<Money>,
    /// Whether the bank only asks what the money was for.
    #[serde(default)]
    inquiry: bool,
    /// Decides the dispute at once.
    outcome: Option<Outcome>,
}

/// A dispute.
#[derive(Debug, Serialize, ToSchema)]
struct Disputed {
    dispute_id: String,
}

/// How a dispute is to go on.
#[derive(Debug, Deserialize, ToSchema)]
struct Resolution {
    outcome: Outcome,
    /// How much the bank takes of a lost dispute; all that was in question where it is left out.
    #[schema(value_type = Option<Amount>)]
    amount: Option<Money>,
    /// Whether it may be decided otherwise than before.
    #[serde(default)]
    again: bool,
}

/// A dispute after that.
#[derive(Debug, Serialize, ToSchema)]
struct Resolved {
    dispute_id: String,
    outcome: Outcome,
}

/// Dispute a payment
///
/// As the visitor's bank does: it may ask for more than was captured, and for what was refunded. Several
/// disputes together have no more than was captured. Money that is in dispute cannot be refunded; an inquiry
/// leaves it alone.
#[utoipa::path(
    post, path = "/sandbox/payments/{payment_id}/disputes", tag = "sandbox provider",
    security(("sandbox_key" = [])), params(("payment_id" = String, Path)), request_body = DisputeRequest,
    responses(
        (status = 201, body = Disputed), (status = 404),
        (status = 422, description = "It was not captured, or other disputes have it, or the outcome cannot \
                                      follow, or nothing is left and no amount is given"),
    ),
)]
async fn open_dispute(
    _: Merchant,
    Shared(pool): Shared<PgPool>,
    Path(payment_id): Path<String>,
    Json(request): Json<DisputeRequest>,
) -> Result<(StatusCode, Json<Disputed>), Problem> {
    let DisputeRequest { amount, inquiry, outcome } = request;
    let payment = Payment::load(&pool, &payment_id, "").await?;
    let amount = amount.or_else(|| payment.left()).ok_or_else(|| payment.refusal())?;
    let first = if inquiry { INQUIRY } else { OPEN };
    if outcome.is_some_and(|outcome| !outcome.after(false).contains(&first)) {
        return Err(Problem::new(ProblemKind::RuleBroken, format!("this cannot follow {first}")));
    }
    match dispute(&pool, &payment_id, amount, inquiry, outcome).await? {
        Some(dispute_id) => Ok((StatusCode::CREATED, Json(Disputed { dispute_id }))),
        None => Err(payment.refusal()),
    }
}

/// Opens a dispute, and decides it at once if there is an outcome. None if there is no such captured money,
/// or other disputes have it.
async fn dispute(
    pool: &PgPool,
    payment_id: &str,
    amount: Money,
    inquiry: bool,
    outcome: Option<Outcome>,
) -> Result<Option<String>, sqlx::Error> {
    let (first, told) =
        if inquiry { (INQUIRY, FactType::DisputeInquiry) } else { (OPEN, FactType::DisputeOpened) };
    let status = outcome.map_or(first, Outcome::status);
    let facts: Vec<&str> =
        [Some(told), outcome.map(Outcome::fact)].into_iter().flatten().map(FactType::name).collect();
    sqlx::query_scalar(
        "with claimed as (
             update sandbox.sessions s
             set claimed_minor = claimed_minor + $6, fact_count = fact_count + cardinality($5::text[])
             where payment_id = $1 and status = 'approved' and captured_at <= clock_timestamp()
                 and currency = $3 and (
                     select coalesce(sum(d.claimed_minor), 0) = 0
                         or sum(d.claimed_minor) + $2 <= s.amount_minor
                     from sandbox.disputes d where d.session_id = s.session_id
                 )
             returning session_id, fact_count
         ), disputed as (
             insert into sandbox.disputes (session_id, amount_minor, status, claimed_minor)
             select session_id, $2, $4, $6 from claimed returning dispute_id
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
    .bind(status)
    .bind(facts)
    .bind(claim_of(status, amount))
    .fetch_optional(pool)
    .await
}

/// Decide a dispute
///
/// Deciding twice in the same way is as good as once. To decide otherwise afterwards, say `again`; a lost one
/// can be reinstated without.
#[utoipa::path(
    post, path = "/sandbox/disputes/{dispute_id}/resolve", tag = "sandbox provider",
    security(("sandbox_key" = [])), params(("dispute_id" = String, Path)), request_body = Resolution,
    responses(
        (status = 200, body = Resolved), (status = 404),
        (status = 409, description = "It was decided in another way"),
        (status = 422, description = "The amount is in another currency"),
    ),
)]
async fn resolve_dispute(
    _: Merchant,
    Shared(pool): Shared<PgPool>,
    Path(dispute_id): Path<String>,
    Json(Resolution { outcome, amount, again }): Json<Resolution>,
) -> Result<Json<Resolved>, Problem> {
    let currency = Dispute::load(&pool, &dispute_id).await?.currency;
    if amount.is_some_and(|amount| amount.currency().code() != currency) {
        return Err(Problem::new(ProblemKind::RuleBroken, format!("the dispute is in {currency}")));
    }
    let lost_minor = amount.filter(|_| outcome == Outcome::Lost).map(Money::amount_minor);
    resolve(&pool, &dispute_id, outcome, lost_minor, again).await?;
    let Dispute { status, claimed_minor, .. } = Dispute::load(&pool, &dispute_id).await?;
    if status == outcome.status() && lost_minor.is_none_or(|lost| lost == claimed_minor) {
        Ok(Json(Resolved { dispute_id, outcome }))
    } else {
        Err(Problem::new(ProblemKind::Conflict, format!("the dispute was {status} already")))
    }
}

#[derive(FromRow)]
struct Dispute {
    status: String,
    claimed_minor: i64,
    currency: String,
}

impl Dispute {
    async fn load(pool: &PgPool, dispute_id: &str) -> Result<Self, Problem> {
        let found: Option<Self> = sqlx::query_as(
            "select d.status, d.claimed_minor, s.currency
             from sandbox.disputes d join sandbox.sessions s using (session_id) where d.dispute_id = $1",
        )
        .bind(dispute_id)
        .fetch_optional(pool)
        .await?;
        found.ok_or_else(|| Problem::new(ProblemKind::NotFound, "there is no such dispute"))
    }
}

/// Decides a dispute; one that stands so already, or cannot go on so, stays as it is.
async fn resolve(
    pool: &PgPool,
    dispute_id: &str,
    outcome: Outcome,
    lost_minor: Option<i64>,
    again: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with old as (
             select dispute_id, claimed_minor from sandbox.disputes
             where dispute_id = $1 and status = any($4::text[])
                 and (status, claimed_minor) <> ($2, coalesce($5, amount_minor))
             for update
         ), resolved as (
             update sandbox.disputes d
             set status = $2,
                 claimed_minor = case when $2 in ('open', 'lost') then coalesce($5, d.amount_minor) else 0 end
             from old where d.dispute_id = old.dispute_id
             returning d.session_id, d.amount_minor, d.claimed_minor, old.claimed_minor as before_minor
         ), claimed as (
             update sandbox.sessions s
             set claimed_minor = s.claimed_minor + r.claimed_minor - r.before_minor,
                 fact_count = fact_count + 1
             from resolved r where s.session_id = r.session_id
             returning s.session_id, s.fact_count,
                 case when $2 = 'lost' then r.claimed_minor else r.amount_minor end as amount_minor
         )
         insert into sandbox.facts (session_id, number, type, amount_minor, subject_id, occurs_at)
         select session_id, fact_count, $3, amount_minor, $1, clock_timestamp() from claimed",
    )
    .bind(dispute_id)
    .bind(outcome.status())
    .bind(outcome.fact().name())
    .bind(outcome.after(again))
    .bind(lost_minor)
    .execute(pool)
    .await?;
    Ok(())
}
