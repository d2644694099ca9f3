//! Money that is held apart is accepted: it pays its pledge, if that still waits for money, or else another
//! pledge of the same donor.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State as Shared;
use chrono::Utc;
use domain::pledge::PledgePayment;
use domain::{Money, PaymentId, Pledge, PledgeCommand, PledgeError, PledgeId, PledgeStatus};
use event_store::{ExecuteError, Executed, Ledger, PledgeDonor, donor_of};
use serde::Serialize;
use service::auth::Organiser;
use service::{NoBody, Path, Problem, ProblemKind, RequestId};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::State;
use crate::replies::{Created, metadata, pledge_problem};

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(accept_unapplied))
}

/// The pledge that the money pays.
#[derive(Serialize, ToSchema)]
struct AcceptedPledgeReply {
    /// This pledge, or the new one. Its id is the donor's ticket, as with every pledge.
    pledge_id: Uuid,
    /// `captured`: it is paid.
    #[schema(value_type = String)]
    status: PledgeStatus,
    campaign_id: Uuid,
    #[schema(value_type = Object)]
    amount: Money,
    /// The position in the ledger from which the money counts as raised.
    position: i64,
}

/// Accept money that is held apart
///
/// A pledge that waits for money is paid by it. A pledge that is finished or paid is not: the money becomes
/// another pledge of the same donor, for the same campaign, and is raised there, less what went back of it.
/// Something must be left of it. Accepting again gets the first answer again, with the header
/// `Idempotency-Hit: true`.
#[utoipa::path(
    post, path = "/api/pledges/{id}/unapplied/{payment_id}/accept", tag = "pledges",
    security(("admin_token" = [])),
    params(
        ("id" = Uuid, Path, description = "The pledge that holds the money apart"),
        (
            "payment_id" = String, Path,
            description = "The provider's payment, as in the list of money held apart",
        ),
    ),
    responses(
        (status = 201, body = AcceptedPledgeReply), (status = 404), (status = 409),
        (status = 422, description = "It is not held apart, or nothing is left of it"),
    ),
)]
async fn accept_unapplied(
    _: Organiser,
    Shared(state): Shared<State>,
    Extension(request_id): Extension<RequestId>,
    Path((id, payment_id)): Path<(Uuid, String)>,
    _: NoBody,
) -> Result<Created<AcceptedPledgeReply>, Problem> {
    let payment_id: PaymentId = payment_id
        .parse()
        .map_err(|error| Problem::new(ProblemKind::Malformed, format!("the payment's id {error}")))?;
    let at = Utc::now();
    let apply = PledgeCommand::Apply { payment_id: payment_id.clone(), at };
    let metadata = metadata(request_id, None);
    match state.ledger.execute::<Pledge>(id, &apply, &metadata).await {
        Ok(executed) => return accepted(&state.ledger, PledgeId(id), &payment_id, executed).await,
        // It is for another pledge, or the rules of that say what is wrong with it.
        Err(ExecuteError::Rule(PledgeError::NotWaiting(_) | PledgeError::NotUnapplied(_))) => {}
        Err(error) => return Err(pledge_problem(error)),
    }
    let accepted_as = state.id_key.accepted_pledge_id(PledgeId(id), &payment_id);
    // The donor's message belongs to the pledge that they made.
    let donor = donor_of(state.ledger.pool(), id).await?;
    let donor = donor.map(|donor| Arc::new(PledgeDonor { message: None, ..donor }));
    let command = PledgeCommand::AcceptUnapplied { payment_id: payment_id.clone(), accepted_as };
    let create = |pledge: &Pledge| pledge.create_accepted(&payment_id, at);
    let executed = state
        .ledger
        .execute_and_create::<Pledge>(id, &command, accepted_as.0, create, &metadata, donor)
        .await
        .map_err(pledge_problem)?;
    accepted(&state.ledger, accepted_as, &payment_id, executed).await
}

/// The answer after `executed`, which is of the pledge that held the money apart.
async fn accepted(
    ledger: &Ledger,
    accepted_as: PledgeId,
    payment_id: &PaymentId,
    executed: Executed<Pledge>,
) -> Result<Created<AcceptedPledgeReply>, Problem> {
    let record = executed.aggregate.record().ok_or(ProblemKind::NotFound)?;
    let captured = record.payments.get(payment_id).and_then(PledgePayment::captured);
    let amount = captured.ok_or(ProblemKind::NotFound)?;
    let hit = executed.events.is_empty();
    let body = AcceptedPledgeReply {
        pledge_id: accepted_as.0,
        status: PledgeStatus::Captured,
        campaign_id: record.campaign_id.0,
        amount,
        position: if hit { captured_at(ledger, accepted_as).await? } else { executed.position },
    };
    Ok(Created { body, hit })
}

/// The position from which the money of a pledge counts.
async fn captured_at(ledger: &Ledger, pledge_id: PledgeId) -> Result<i64, Problem> {
    let events = ledger
        .read_stream::<Pledge>(pledge_id.0)
        .await
        .map_err(|error| Problem::unavailable("the ledger", error))?;
    let captured = events.iter().find(|event| event.event_type == "PledgeCaptured");
    captured
        .map(|event| event.position)
        .ok_or_else(|| Problem::internal("an accepted pledge is not captured"))
}
