//! `POST /webhooks/{provider}`.

use axum::extract::{Request, State as Shared};
use chrono::Utc;
use event_store::GroupCommit;
use metrics::Counter;
use payments::{MessageError, Notice, Provider, ProviderDescriptor, Registry, SignatureError};
use serde::Serialize;
use service::{Json, Path, Problem, ProblemKind, read_body, require_json};
use utoipa::ToSchema;
use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::openapi::{OpenApi, PathItem, RefOr, Required};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::State;
use crate::inbox::{Delivery, InboxWriter, Origin};

const ROUTE: &str = "/webhooks/{provider}";

/// One route for all providers, described as one address for each of those in `registry`.
pub(crate) fn router(registry: &Registry) -> OpenApiRouter<State> {
    let mut router = OpenApiRouter::new().routes(routes!(receive));
    describe_each(router.get_openapi_mut(), registry);
    router
}

fn describe_each(openapi: &mut OpenApi, registry: &Registry) {
    let Some(template) = openapi.paths.paths.remove(ROUTE) else { return };
    for descriptor in registry.iter() {
        let path = ROUTE.replace("{provider}", descriptor.name);
        openapi.paths.paths.insert(path, describe(template.clone(), descriptor));
    }
}

fn describe(mut path: PathItem, descriptor: &ProviderDescriptor) -> PathItem {
    let ProviderDescriptor { name, webhooks, .. } = descriptor;
    if let Some(operation) = &mut path.post {
        operation.operation_id = Some(format!("receive_{name}"));
        operation.summary = Some(webhooks.summary.to_owned());
        operation.description =
            Some(format!("{} {}", webhooks.signature, operation.description.take().unwrap_or_default()));
        let header = |(name, description): &(&str, &str)| {
            ParameterBuilder::new()
                .name(*name)
                .parameter_in(ParameterIn::Header)
                .description(Some(*description))
                .required(Required::True)
                .schema(Some(<String as utoipa::PartialSchema>::schema()))
                .build()
        };
        operation.parameters = Some(webhooks.headers.iter().map(header).map(RefOr::T).collect());
        if let Some(RefOr::T(body)) = &mut operation.request_body {
            body.description = Some(webhooks.body.to_owned());
        }
    }
    path
}

/// Delivery counters of one provider by outcome, resolved once: looking a counter up by label costs
/// more than incrementing it.
pub(crate) struct DeliveryCounters {
    provider: &'static str,
    accepted: Counter,
    duplicate: Counter,
    refused: Counter,
}

impl DeliveryCounters {
    pub(crate) fn new(provider: &'static str) -> Self {
        let name = "webhook_deliveries_total";
        let counter = |outcome| metrics::counter!(name, "provider" => provider, "outcome" => outcome);
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

/// Take a message of a provider
///
/// 200 means: stored durably, now or before.
#[utoipa::path(
    post, path = ROUTE, tag = "webhooks",
    request_body(content = serde_json::Value),
    responses(
        (status = 200, body = Received), (status = 401),
        (status = 404, description = "The provider is not set up here"),
    ),
)]
async fn receive(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Received>, Problem> {
    let Some(counters) = state.deliveries.iter().find(|counters| counters.provider == name) else {
        return Err(Problem::new(ProblemKind::NotFound, "there is no payment provider of this name"));
    };
    let outcome = match state.providers.named(&name) {
        Some(provider) => store(provider, &state.inbox, request).await,
        None => Err(Problem::new(ProblemKind::NotFound, format!("{name} is not set up here"))),
    };
    let counter = match &outcome {
        Ok(Received { new: true }) => &counters.accepted,
        Ok(Received { new: false }) => &counters.duplicate,
        Err(_) => &counters.refused,
    };
    counter.increment(1);
    outcome.map(Json)
}

async fn store(
    provider: &dyn Provider,
    inbox: &GroupCommit<InboxWriter>,
    mut request: Request,
) -> Result<Received, Problem> {
    require_json(request.headers())?;
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
        // Refused before it is known whether the message is genuine.
        MessageError::NotGenuine(error @ SignatureError::RepeatedHeader(_)) => malformed(error),
        MessageError::NotGenuine(error) => Problem::new(ProblemKind::BadSignature, error),
        MessageError::Malformed(error) => malformed(error),
    }
}

fn malformed(detail: impl ToString) -> Problem {
    Problem::new(ProblemKind::Malformed, detail)
}
