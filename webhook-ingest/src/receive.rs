//! `POST /webhooks/{provider}`.

use std::sync::LazyLock;

use axum::extract::{Request, State as Shared};
use chrono::Utc;
use event_store::GroupCommit;
use metrics::Counter;
use payments::{MessageError, Notice, Provider, sandbox, stripe};
use serde::Serialize;
use service::{Json, Problem, ProblemKind, read_body};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::State;
use crate::inbox::{Delivery, InboxWriter, Origin};

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(receive_sandbox)).routes(routes!(receive_stripe))
}

/// How many deliveries of one provider became what. To find a counter among all metrics costs more than
/// to count, so it is done once.
struct Deliveries {
    provider: &'static str,
    accepted: Counter,
    duplicate: Counter,
    refused: Counter,
}

static SANDBOX: LazyLock<Deliveries> = LazyLock::new(|| Deliveries::of(sandbox::NAME));
static STRIPE: LazyLock<Deliveries> = LazyLock::new(|| Deliveries::of(stripe::NAME));

impl Deliveries {
    fn of(provider: &'static str) -> Self {
        let counter = |outcome| metrics::counter!("webhook_deliveries_total", "provider" => provider, "outcome" => outcome);
        Self {
            provider,
            accepted: counter("accepted"),
            duplicate: counter("duplicate"),
            refused: counter("refused"),
        }
    }
}

/// The answer to a message that is stored.
#[derive(Serialize, ToSchema)]
struct Received {
    /// Whether this delivery is the first of the message.
    new: bool,
}

/// Take a message of the sandbox provider
///
/// Signed by the Standard Webhooks specification. 200 means: stored durably, now or before.
#[utoipa::path(
    post, path = "/webhooks/sandbox", tag = "webhooks",
    params(
        ("webhook-id" = String, Header, description = "The message's id, the same for every delivery"),
        ("webhook-timestamp" = String, Header, description = "Seconds since 1970"),
        ("webhook-signature" = String, Header, description = "v1, and base64; several separated by spaces"),
    ),
    request_body(content = serde_json::Value, description = "{type, timestamp, data}"),
    responses(
        (status = 200, body = Received),
        (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem),
        (status = 413, body = Problem), (status = 503, body = Problem),
    ),
)]
async fn receive_sandbox(Shared(state): Shared<State>, request: Request) -> Result<Json<Received>, Problem> {
    receive(&state, &SANDBOX, request).await
}

/// Take an event of Stripe
///
/// Signed in the header Stripe-Signature. 200 means: stored durably, now or before.
#[utoipa::path(
    post, path = "/webhooks/stripe", tag = "webhooks",
    params(("stripe-signature" = String, Header, description = "t=TIMESTAMP,v1=HEX")),
    request_body(content = serde_json::Value, description = "An event, as Stripe describes it"),
    responses(
        (status = 200, body = Received),
        (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 404, description = "Stripe is not set up here", body = Problem),
        (status = 413, body = Problem), (status = 503, body = Problem),
    ),
)]
async fn receive_stripe(Shared(state): Shared<State>, request: Request) -> Result<Json<Received>, Problem> {
    receive(&state, &STRIPE, request).await
}

async fn receive(
    state: &State,
    deliveries: &Deliveries,
    request: Request,
) -> Result<Json<Received>, Problem> {
    let outcome = match state.providers.named(deliveries.provider) {
        Some(provider) => store(provider, &state.inbox, request).await,
        None => {
            let detail = format!("{} is not set up here", deliveries.provider);
            Err(Problem::new(ProblemKind::NotFound, detail))
        }
    };
    let counter = match &outcome {
        Ok(Received { new: true }) => &deliveries.accepted,
        Ok(Received { new: false }) => &deliveries.duplicate,
        Err(_) => &deliveries.refused,
    };
    counter.increment(1);
    outcome.map(Json)
}

async fn store(
    provider: &dyn Provider,
    inbox: &GroupCommit<InboxWriter>,
    mut request: Request,
) -> Result<Received, Problem> {
    let headers = std::mem::take(request.headers_mut());
    let bytes = read_body(request).await?;
    let message = provider.verify_and_parse(&headers, &bytes, Utc::now()).map_err(message_problem)?;
    let body = String::from_utf8(bytes.into()).map_err(malformed)?;
    let pledge_id = match &message.notice {
        Notice::Facts { pledge_id, .. } => Some(pledge_id.0),
        Notice::Unaddressed { .. } | Notice::Payout { .. } | Notice::Ignored => None,
    };
    let delivery = Delivery {
        provider: provider.name(),
        origin: Origin::Webhook,
        webhook_id: message.webhook_id,
        event_type: message.event_type,
        pledge_id,
        is_ignored: message.notice == Notice::Ignored,
        body,
    };
    let new =
        inbox.submit(delivery).await.map_err(|error| Problem::new(ProblemKind::Overloaded, error))??;
    Ok(Received { new })
}

fn message_problem(error: MessageError) -> Problem {
    match error {
        MessageError::NotGenuine(error) => Problem::new(ProblemKind::BadSignature, error),
        MessageError::Malformed(error) => malformed(error),
    }
}

fn malformed(detail: impl ToString) -> Problem {
    Problem::new(ProblemKind::Malformed, detail)
}
