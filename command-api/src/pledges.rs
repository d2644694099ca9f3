//! Pledges: create, amend while pending, cancel.
//!
//! A guest has no account, so the pledge's id is the ticket: it cannot be guessed, is given to
//! nobody but the donor and the provider, and whoever holds it may change the pledge.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State as Shared;
use chrono::Utc;
use domain::{
    CampaignId, Email, IdKey, IdempotencyKey, Money, Pledge, PledgeCommand, PledgeId, PledgeStatus, Text,
};
use event_store::{AppendError, ExecuteError, Executed, Ledger, PledgeDonor};
use serde::{Deserialize, Serialize};
use service::{FieldErrors, Json, NoBody, Path, Problem, ProblemKind, RequestId};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::input::{MoneyInput, RequiredKey};
use crate::open_campaigns::OpenCampaigns;
use crate::replies::{Created, append_problem, load_problem, made_before, metadata, pledge_problem};
use crate::{PublicUrl, State};

/// Retries of a pledge whose campaign moved on.
const MAX_RETRIES: u32 = 3;

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(create_pledge))
        .routes(routes!(amend_pledge))
        .routes(routes!(cancel_pledge))
}

/// A new pledge.
#[derive(Debug, Deserialize, ToSchema)]
struct NewPledge {
    campaign_id: Uuid,
    /// The amount, in the campaign's currency.
    amount: MoneyInput,
    donor: DonorInput,
    /// Whether the donor wishes to stay nameless in public.
    #[serde(default)]
    anonymous: bool,
    /// A public message of the donor, at most 500 characters.
    #[schema(max_length = 500)]
    message: Option<String>,
}

/// The donor. Kept apart from the ledger.
#[derive(Debug, Deserialize, ToSchema)]
struct DonorInput {
    /// The name to thank by, at most 100 characters.
    #[schema(max_length = 100)]
    name: Option<String>,
    /// The address for the receipt: bare, without a name, quotes or a comment.
    #[schema(example = "ada@example.org", format = "email", max_length = 254)]
    email: String,
}

/// A request to pledge, parsed.
struct PledgeRequest {
    campaign_id: CampaignId,
    amount: Money,
    email: Email,
    name: Option<Text<100>>,
    anonymous: bool,
    message: Option<Text<500>>,
}

impl NewPledge {
    fn parse(self) -> Result<PledgeRequest, Problem> {
        let mut errors = FieldErrors::default();
        let amount = self.amount.parse("amount", &mut errors);
        let email = errors.take("donor.email", self.donor.email.parse());
        let name = errors.take("donor.name", Text::optional(self.donor.name)).flatten();
        let message = errors.take("message", Text::optional(self.message)).flatten();
        match (amount, email, errors.into_problem()) {
            (Some(amount), Some(email), None) => Ok(PledgeRequest {
                campaign_id: CampaignId(self.campaign_id),
                amount,
                email,
                name,
                anonymous: self.anonymous,
                message,
            }),
            (_, _, problem) => Err(problem.unwrap_or_else(|| ProblemKind::Validation.into())),
        }
    }
}

impl PledgeRequest {
    fn fingerprint(&self, id_key: &IdKey) -> String {
        id_key.fingerprint(&[
            &self.campaign_id.to_string(),
            &self.amount.amount_minor().to_string(),
            self.amount.currency().code(),
            if self.anonymous { "true" } else { "false" },
            self.name.as_ref().map_or("", Text::as_str),
            self.message.as_ref().map_or("", Text::as_str),
        ])
    }

    /// The pledge that is to be made for it under `key`.
    fn under(self, key: &IdempotencyKey, id_key: &IdKey) -> PledgeToMake {
        let fingerprint = self.fingerprint(id_key);
        let donor_id = id_key.donor_id(&self.email);
        let Self { campaign_id, amount, email, name, anonymous, message } = self;
        PledgeToMake {
            id: id_key.pledge_id(donor_id, key),
            fingerprint,
            campaign_id,
            amount,
            command: PledgeCommand::Create { campaign_id, donor_id, amount, anonymous, made_at: Utc::now() },
            donor: Arc::new(PledgeDonor {
                donor_id: donor_id.0,
                name: name.map(String::from),
                email: email.into(),
                message: message.map(String::from),
            }),
        }
    }
}

/// A pledge that is to be made, unless its key has made it already.
struct PledgeToMake {
    id: PledgeId,
    fingerprint: String,
    campaign_id: CampaignId,
    amount: Money,
    command: PledgeCommand,
    donor: Arc<PledgeDonor>,
}

/// A pledge that was made.
#[derive(Serialize, ToSchema)]
struct PledgeMade {
    pledge_id: Uuid,
    /// `pending`.
    #[schema(value_type = String)]
    status: PledgeStatus,
    /// The page where the donor pays.
    payment_url: String,
    /// The position of the pledge's first event in the ledger.
    position: i64,
}

/// A pledge after a command.
#[derive(Serialize, ToSchema)]
struct PledgeReply {
    pledge_id: Uuid,
    /// `pending`, `authorized`, `captured`, `completed`, `failed`, `expired` or `cancelled`.
    #[schema(value_type = String)]
    status: PledgeStatus,
    /// The position of the pledge's last event in the ledger.
    position: i64,
}

/// Make a pledge
///
/// A retry with the same `Idempotency-Key` and body gets the first answer again, with the header
/// `Idempotency-Hit: true`; with another body it gets 422.
#[utoipa::path(
    post, path = "/api/pledges", tag = "pledges",
    params(("idempotency-key" = String, Header, description = "Your own name for this request")),
    request_body = NewPledge,
    extensions(("x-cross-origin" = json!(true))),
    responses((status = 201, body = PledgeMade), (status = 404), (status = 409), (status = 422)),
)]
async fn create_pledge(
    Shared(state): Shared<State>,
    Extension(request_id): Extension<RequestId>,
    RequiredKey(key): RequiredKey,
    Json(body): Json<NewPledge>,
) -> Result<Created<PledgeMade>, Problem> {
    let pledge = body.parse()?.under(&key, &state.id_key);
    let (position, hit) = match make(&state, &pledge, request_id).await {
        Ok(position) => (position, false),
        // The key may have made this pledge before, even if it could not be made any more.
        Err(problem) => match made_before::<Pledge>(&state.ledger, pledge.id.0, &pledge.fingerprint).await? {
            Some(position) => (position, true),
            None => return Err(problem),
        },
    };
    let payment_url = payment_url(&state.public_url, pledge.id);
    let body = PledgeMade { pledge_id: pledge.id.0, status: PledgeStatus::Pending, payment_url, position };
    Ok(Created { body, hit })
}

/// Appends the pledge's first event, under the condition that its campaign is still open.
async fn make(state: &State, pledge: &PledgeToMake, request_id: RequestId) -> Result<i64, Problem> {
    state.least_pledges.require(&state.providers, pledge.amount)?;
    let open: &OpenCampaigns = &state.open_campaigns;
    let metadata = metadata(request_id, Some(&pledge.fingerprint));
    for _ in 0..=MAX_RETRIES {
        let condition = open.condition_for(pledge.campaign_id, pledge.amount, Utc::now()).await?;
        let donor = Some(pledge.donor.clone());
        let conditions = vec![condition];
        let made = state.ledger.create(pledge.id.0, &pledge.command, conditions, &metadata, donor).await;
        match made {
            Ok(Executed::<Pledge> { position, .. }) => return Ok(position),
            Err(ExecuteError::Append(AppendError::Conflict)) => {
                if exists(&state.ledger, pledge.id).await? {
                    break;
                }
                open.forget(pledge.campaign_id);
            }
            Err(error) => return Err(pledge_problem(error)),
        }
    }
    Err(append_problem(AppendError::Conflict))
}

async fn exists(ledger: &Ledger, pledge_id: PledgeId) -> Result<bool, Problem> {
    let loaded = ledger.load::<Pledge>(pledge_id.0).await.map_err(load_problem)?;
    Ok(loaded.aggregate.record().is_some())
}

/// The page where a pledge is paid.
pub(crate) fn payment_url(public_url: &PublicUrl, pledge_id: PledgeId) -> String {
    format!("{}/pay/{pledge_id}", public_url.0)
}

/// Changes of a pending pledge.
#[derive(Debug, Deserialize, ToSchema)]
struct PledgeChanges {
    /// The new amount, in the same currency.
    amount: MoneyInput,
}

/// Amend a pending pledge
#[utoipa::path(
    put, path = "/api/pledges/{id}", tag = "pledges",
    params(("id" = Uuid, Path)),
    request_body = PledgeChanges,
    extensions(("x-cross-origin" = json!(true))),
    responses((status = 200, body = PledgeReply), (status = 404), (status = 409), (status = 422)),
)]
async fn amend_pledge(
    Shared(state): Shared<State>,
    Extension(request_id): Extension<RequestId>,
    Path(id): Path<Uuid>,
    Json(changes): Json<PledgeChanges>,
) -> Result<Json<PledgeReply>, Problem> {
    let mut errors = FieldErrors::default();
    let Some(amount) = changes.amount.parse("amount", &mut errors) else { return Err(errors.problem()) };
    state.least_pledges.require(&state.providers, amount)?;
    execute(&state.ledger, id, PledgeCommand::Amend { amount }, request_id).await
}

/// Cancel an authorised pledge
///
/// The provider is asked to release the money.
#[utoipa::path(
    post, path = "/api/pledges/{id}/cancel", tag = "pledges",
    params(("id" = Uuid, Path)),
    responses((status = 200, body = PledgeReply), (status = 404), (status = 409), (status = 422)),
)]
async fn cancel_pledge(
    Shared(ledger): Shared<Ledger>,
    Extension(request_id): Extension<RequestId>,
    Path(id): Path<Uuid>,
    _: NoBody,
) -> Result<Json<PledgeReply>, Problem> {
    execute(&ledger, id, PledgeCommand::Cancel, request_id).await
}

async fn execute(
    ledger: &Ledger,
    id: Uuid,
    command: PledgeCommand,
    request_id: RequestId,
) -> Result<Json<PledgeReply>, Problem> {
    let executed =
        ledger.execute::<Pledge>(id, &command, &metadata(request_id, None)).await.map_err(pledge_problem)?;
    let status = executed.aggregate.status().ok_or(ProblemKind::NotFound)?;
    Ok(Json(PledgeReply { pledge_id: id, status, position: executed.position }))
}
