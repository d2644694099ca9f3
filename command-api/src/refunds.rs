//! Refunds: money that was taken goes back to the donor.
//!
//! Here the provider is only asked. The ledger and the totals move when the provider reports that
//! the money has gone back, as with everything that it does.

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use domain::pledge::{Payment, PledgePayment, PledgeRecord, Usage};
use domain::{Money, PaymentId, Pledge, PledgeId, RefundId, Text};
use payments::store::refund_requests::{self, RefundRequest};
use payments::{ProviderError, Refund};
use serde::{Deserialize, Serialize};
use service::auth::Organiser;
use service::{FieldErrors, Json, Path, Problem, ProblemKind};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::State;
use crate::input::{MoneyInput, RequiredKey};
use crate::replies::load_problem;

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(refund_pledge))
}

/// The refund that is asked for.
#[derive(Debug, Deserialize, ToSchema)]
struct RefundInput {
    /// The amount; by default all that is left of the payment.
    amount: Option<MoneyInput>,
    /// The payment; by default the pledge's own. It may name money that is held apart.
    #[schema(pattern = "^[!-~]{1,200}$")]
    payment_id: Option<String>,
    /// The reason, for the record; at most 500 characters.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

/// A refund that the provider was asked for.
#[derive(Serialize, ToSchema)]
struct RefundAsked {
    /// The provider's id of the refund.
    refund_id: String,
    payment_id: String,
    #[schema(value_type = Object)]
    amount: Money,
}

impl IntoResponse for RefundAsked {
    fn into_response(self) -> Response {
        let mut response = Json(self).into_response();
        *response.status_mut() = StatusCode::ACCEPTED;
        response
    }
}

/// Refund a pledge's payment
///
/// 202 says that the provider will give the money back; totals move when it reports that it has. A
/// retry with the same `Idempotency-Key` and body gets the first answer again, however late; with another
/// amount or payment it gets 422. Refunds that are on their way lessen what can be asked for.
#[utoipa::path(
    post, path = "/api/pledges/{id}/refunds", tag = "pledges", security(("admin_token" = [])),
    params(
        ("id" = Uuid, Path),
        ("idempotency-key" = String, Header, description = "Your own name for this request"),
    ),
    request_body = RefundInput,
    responses((status = 202, body = RefundAsked), (status = 404), (status = 422)),
)]
async fn refund_pledge(
    _: Organiser,
    Shared(state): Shared<State>,
    Path(id): Path<Uuid>,
    RequiredKey(key): RequiredKey,
    Json(input): Json<RefundInput>,
) -> Result<RefundAsked, Problem> {
    let pledge_id = PledgeId(id);
    let key = state.id_key.refund_key(pledge_id, &key);
    let pool = state.ledger.pool();
    let request = match refund_requests::find(pool, pledge_id, &key).await? {
        Some(request) => request,
        None => {
            let (amount, reason) = input.wishes()?;
            let loaded = state.ledger.load::<Pledge>(id).await.map_err(load_problem)?;
            let record = loaded.aggregate.record().ok_or(ProblemKind::NotFound)?;
            let (payment_id, taken) = input.taken_payment(record)?;
            let under_way =
                refund_requests::under_way(pool, pledge_id, payment_id, taken.ended_refunds()).await?;
            let left = left_to_refund(taken, under_way)?;
            let amount = amount.unwrap_or(left);
            require_at_most(left, amount)?;
            let payment = Payment { payment_id: payment_id.clone(), amount };
            let request = RefundRequest { payment, reason, refund_id: None };
            refund_requests::keep(pool, pledge_id, &key, request).await?
        }
    };
    let RefundRequest { payment: Payment { payment_id, amount }, refund_id, .. } = input.repeats(request)?;
    let refund_id = match refund_id {
        Some(refund_id) => refund_id,
        None => {
            let refund = Refund { payment_id: payment_id.clone(), amount, idempotency_key: key.clone() };
            ask_provider(&state, pledge_id, refund).await?
        }
    };
    Ok(RefundAsked { refund_id: refund_id.to_string(), payment_id: payment_id.to_string(), amount })
}

/// Has the provider make a refund. It is asked later whether it has.
async fn ask_provider(state: &State, pledge_id: PledgeId, refund: Refund) -> Result<RefundId, Problem> {
    let (pool, key, payment_id) =
        (state.ledger.pool(), refund.idempotency_key.clone(), refund.payment_id.clone());
    let provider = state.providers.of_payment(&payment_id).map_err(provider_problem)?;
    let refund_id = match provider.refund(refund).await {
        Ok(refund_id) => refund_id,
        Err(error) => {
            if let ProviderError::Refused(_) = error {
                refund_requests::refused(pool, pledge_id, &key).await?;
            }
            return Err(provider_problem(error));
        }
    };
    refund_requests::expect(pool, pledge_id, &key, &refund_id, state.reconcile_after.0).await?;
    tracing::info!(%pledge_id, %payment_id, %refund_id, "a refund was asked for");
    Ok(refund_id)
}

impl RefundInput {
    /// The amount and the reason, where they are given.
    fn wishes(&self) -> Result<(Option<Money>, Option<Text<500>>), Problem> {
        let mut errors = FieldErrors::default();
        let amount = self.amount.as_ref().map(|amount| amount.parse("amount", &mut errors));
        let reason = errors.take("reason", Text::optional(self.reason.clone()));
        errors.into_problem().map_or(Ok((amount.flatten(), reason.flatten())), Err)
    }

    /// The payment that took money: the one of the id, or else the one that pays the pledge.
    fn taken_payment<'a>(
        &self,
        record: &'a PledgeRecord,
    ) -> Result<(&'a PaymentId, &'a PledgePayment), Problem> {
        let found = record.payments.iter().find(|(id, payment)| match &self.payment_id {
            Some(wanted) => id.as_str() == wanted && payment.captured().is_some(),
            None => payment.is_applied(),
        });
        found.ok_or_else(|| Problem::new(ProblemKind::RuleBroken, self.nothing_taken(record)))
    }

    fn nothing_taken(&self, record: &PledgeRecord) -> String {
        match &self.payment_id {
            Some(payment_id) => format!("no money of this pledge was taken by the payment {payment_id}"),
            None => format!(
                "only money that was taken can be given back; the pledge is {}",
                record.state.status()
            ),
        }
    }

    /// The request that was kept under the key, if this is the same again. What is left out matches
    /// whatever was chosen then.
    fn repeats(&self, kept: RefundRequest) -> Result<RefundRequest, Problem> {
        let mut errors = FieldErrors::default();
        let amount = self.amount.as_ref().and_then(|amount| amount.parse("amount", &mut errors));
        if let Some(problem) = errors.into_problem() {
            return Err(problem);
        }
        let is_other = amount.is_some_and(|amount| amount != kept.payment.amount)
            || self.payment_id.as_ref().is_some_and(|id| id != kept.payment.payment_id.as_str());
        if is_other {
            return Err(Problem::new(
                ProblemKind::IdempotencyKeyReused,
                "this idempotency-key was used for another refund; use a new one for a new refund",
            ));
        }
        Ok(kept)
    }
}

/// The refundable part of a payment, as far as the ledger knows, less what is on its way back. The provider
/// has the last word on it.
fn left_to_refund(taken: &PledgePayment, under_way: i64) -> Result<Money, Problem> {
    if let Usage::AcceptedAs(pledge_id) = taken.usage {
        let moved = format!("the money was accepted as the pledge {pledge_id}; ask for its refund there");
        return Err(Problem::new(ProblemKind::RuleBroken, moved));
    }
    Money::new(taken.left_minor().saturating_sub(under_way), taken.history.currency()).map_err(|_| {
        let nothing = if under_way > 0 {
            "what was left of the payment's money is on its way back already"
        } else {
            "all of the payment's money was given back already"
        };
        Problem::new(ProblemKind::RuleBroken, nothing)
    })
}

fn require_at_most(left: Money, amount: Money) -> Result<(), Problem> {
    let mut errors = FieldErrors::default();
    if amount.currency() != left.currency() {
        errors.add("amount.currency", format!("must be in {}, as the payment is", left.currency()));
    } else if amount.amount_minor() > left.amount_minor() {
        errors.add("amount.amount_minor", format!("only {left} of the payment can still be given back"));
    }
    errors.into_problem().map_or(Ok(()), Err)
}

fn provider_problem(error: ProviderError) -> Problem {
    match error {
        ProviderError::Unavailable(_) => Problem::unavailable("the payment provider", error),
        ProviderError::Refused(_) => Problem::new(ProblemKind::RuleBroken, error),
    }
}
