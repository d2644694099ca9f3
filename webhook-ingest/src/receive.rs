//! `POST /webhooks/{provider}`.

use axum::extract::{FromRequest, Request, State as Shared};
use axum::http::HeaderMap;
use chrono::Utc;
use domain::Text;
use event_store::GroupCommit;
use payments::{Notice, Signed, WebhookSecret, sandbox, verify};
use serde::Serialize;
use service::{Json, Problem, ProblemKind, read_body};
use std::str::FromStr;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::State;
use crate::inbox::{Delivery, InboxWriter};

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(receive_sandbox))
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
        (status = 400, body = Problem), (status = 401, body = Problem), (status = 413, body = Problem),
        (status = 503, body = Problem),
    ),
)]
async fn receive_sandbox(
    Shared(secrets): Shared<Arc<Vec<WebhookSecret>>>,
    Shared(inbox): Shared<GroupCommit<InboxWriter>>,
    request: Request,
) -> Result<Json<Received>, Problem> {
    let outcome = match SignedRequest::from_request(request, &()).await {
        Ok(request) => store_sandbox(&secrets, &inbox, &request).await,
        Err(problem) => Err(problem),
    };
    let label = match &outcome {
        Ok(Received { new: true }) => "accepted",
        Ok(Received { new: false }) => "duplicate",
        Err(_) => "refused",
    };
    metrics::counter!("webhook_deliveries_total", "provider" => sandbox::NAME, "outcome" => label)
        .increment(1);
    outcome.map(Json)
}

async fn store_sandbox(
    secrets: &[WebhookSecret],
    inbox: &GroupCommit<InboxWriter>,
    request: &SignedRequest,
) -> Result<Received, Problem> {
    let message = request.message()?;
    verify(secrets, message, Utc::now()).map_err(|error| Problem::new(ProblemKind::BadSignature, error))?;
    let body = std::str::from_utf8(message.body).map_err(malformed)?;
    let (parsed, notice) = sandbox::parse(message.body).map_err(malformed)?;
    Text::<200>::from_str(&parsed.r#type).map_err(|error| malformed(format!("type: {error}")))?;
    let delivery = Delivery {
        provider: sandbox::NAME,
        webhook_id: message.id.to_owned(),
        event_type: parsed.r#type,
        pledge_id: match notice {
            Notice::Fact { pledge_id, .. } => Some(pledge_id.0),
            Notice::Ignored => None,
        },
        body: body.to_owned(),
    };
    let new =
        inbox.submit(delivery).await.map_err(|error| Problem::new(ProblemKind::Overloaded, error))??;
    Ok(Received { new })
}

fn malformed(detail: impl ToString) -> Problem {
    Problem::new(ProblemKind::Malformed, detail)
}

/// The headers and the raw bytes of a signed request.
struct SignedRequest {
    headers: HeaderMap,
    body: axum::body::Bytes,
}

impl<S: Send + Sync> FromRequest<S> for SignedRequest {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let headers = request.headers().clone();
        Ok(Self { headers, body: read_body(request).await? })
    }
}

impl SignedRequest {
    fn message(&self) -> Result<Signed<'_>, Problem> {
        let id = self.header("webhook-id")?;
        if id.is_empty() || id.len() > 200 {
            return Err(malformed("webhook-id: must be 1 to 200 characters"));
        }
        Ok(Signed {
            id,
            timestamp: self.header("webhook-timestamp")?,
            signatures: self.header("webhook-signature")?,
            body: &self.body,
        })
    }

    fn header(&self, name: &'static str) -> Result<&str, Problem> {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .ok_or_else(|| Problem::new(ProblemKind::BadSignature, format!("the header {name} is missing")))
    }
}
