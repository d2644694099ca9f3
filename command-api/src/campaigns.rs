//! Campaigns: create, edit while draft, publish, close. For organisers.

use axum::Extension;
use axum::extract::State as Shared;
use chrono::{DateTime, Datelike, Utc};
use domain::campaign::{CampaignDetails, CampaignEdit};
use domain::{Campaign, CampaignCommand, CampaignId, CampaignStatus, IdKey, Text};
use event_store::{AppendError, ExecuteError, Ledger};
use serde::{Deserialize, Deserializer, Serialize};
use service::auth::Organiser;
use service::{FieldErrors, Json, NoBody, Path, Problem, ProblemKind, RequestId};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::State;
use crate::input::{MoneyInput, OptionalKey};
use crate::replies::{Created, campaign_problem, made_before, metadata};

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(create_campaign))
        .routes(routes!(edit_campaign))
        .routes(routes!(publish_campaign))
        .routes(routes!(close_campaign))
}

/// A new campaign.
#[derive(Debug, Deserialize, ToSchema)]
struct NewCampaign {
    /// The headline, at most 120 characters.
    #[schema(min_length = 1, max_length = 120)]
    title: String,
    /// The purpose of the money, at most 5,000 characters.
    #[schema(max_length = 5000)]
    description: Option<String>,
    /// The goal. Its currency is the campaign's only currency.
    goal: MoneyInput,
    /// From this instant on no pledge is taken (RFC 3339).
    ends_at: Option<DateTime<Utc>>,
}

impl NewCampaign {
    fn parse(&self) -> Result<CampaignDetails, Problem> {
        let mut errors = FieldErrors::default();
        let title = errors.take("title", self.title.parse());
        let description = errors.take("description", Text::optional(self.description.clone())).flatten();
        let goal = self.goal.parse("goal", &mut errors);
        let ends_at = self.ends_at.and_then(|at| errors.take("ends_at", calendar_instant(at)));
        match (title, goal, errors.into_problem()) {
            (Some(title), Some(goal), None) => Ok(CampaignDetails { title, description, goal, ends_at }),
            (_, _, problem) => Err(problem.unwrap_or_else(|| ProblemKind::Validation.into())),
        }
    }
}

/// Changes of a draft: a field that is left out stays, `null` clears it.
#[derive(Debug, Deserialize, ToSchema)]
struct CampaignChanges {
    /// The headline, at most 120 characters.
    #[schema(min_length = 1, max_length = 120)]
    title: Option<String>,
    /// The purpose of the money, at most 5,000 characters.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, max_length = 5000)]
    description: Option<Option<String>>,
    /// The goal, with its currency.
    goal: Option<MoneyInput>,
    /// When it ends (RFC 3339).
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<DateTime<Utc>>)]
    ends_at: Option<Option<DateTime<Utc>>>,
}

/// Tells `null` from a field that is left out.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(d).map(Some)
}

impl CampaignChanges {
    fn parse(&self) -> Result<CampaignEdit, Problem> {
        let mut errors = FieldErrors::default();
        let title = self.title.as_ref().and_then(|text| errors.take("title", text.parse()));
        let description = self
            .description
            .clone()
            .and_then(|description| errors.take("description", Text::optional(description)));
        let goal = self.goal.as_ref().and_then(|goal| goal.parse("goal", &mut errors));
        let ends_at =
            self.ends_at.map(|ends_at| ends_at.and_then(|at| errors.take("ends_at", calendar_instant(at))));
        match errors.into_problem() {
            None => Ok(CampaignEdit { title, description, goal, ends_at }),
            Some(problem) => Err(problem),
        }
    }
}

/// An instant that every calendar and database can hold.
fn calendar_instant(at: DateTime<Utc>) -> Result<DateTime<Utc>, &'static str> {
    if (1970..=9999).contains(&at.year()) { Ok(at) } else { Err("must be in the years 1970 to 9999") }
}

/// A campaign after a command.
#[derive(Serialize, ToSchema)]
struct CampaignReply {
    campaign_id: Uuid,
    /// `draft`, `published` or `closed`.
    #[schema(value_type = String)]
    status: CampaignStatus,
    /// The position of the campaign's last event in the ledger.
    position: i64,
}

/// Create a campaign
///
/// It starts as a draft. With an `Idempotency-Key` a retry finds the first one again.
#[utoipa::path(
    post, path = "/api/campaigns", tag = "campaigns", security(("admin_token" = [])),
    params(("idempotency-key" = Option<String>, Header, description = "Your own name for this request")),
    request_body = NewCampaign,
    responses((status = 201, body = CampaignReply), (status = 422)),
)]
async fn create_campaign(
    _: Organiser,
    Shared(ledger): Shared<Ledger>,
    Shared(id_key): Shared<IdKey>,
    Extension(request_id): Extension<RequestId>,
    OptionalKey(key): OptionalKey,
    Json(body): Json<NewCampaign>,
) -> Result<Created<CampaignReply>, Problem> {
    let details = body.parse()?;
    let campaign_id = key.map_or_else(|| CampaignId(Uuid::now_v7()), |key| id_key.campaign_id(&key));
    let json = serde_json::to_string(&details).map_err(Problem::internal)?;
    let fingerprint = id_key.fingerprint(&[&json]);
    let reply =
        |position| CampaignReply { campaign_id: campaign_id.0, status: CampaignStatus::Draft, position };
    let command = CampaignCommand::Create(details);
    let metadata = metadata(request_id, Some(&fingerprint));
    match ledger.create::<Campaign>(campaign_id.0, &command, vec![], &metadata, None).await {
        Ok(executed) => Ok(Created { body: reply(executed.position), hit: false }),
        Err(ExecuteError::Append(AppendError::Conflict)) => {
            match made_before::<Campaign>(&ledger, campaign_id.0, &fingerprint).await? {
                Some(position) => Ok(Created { body: reply(position), hit: true }),
                None => Err(ProblemKind::Conflict.into()),
            }
        }
        Err(error) => Err(campaign_problem(error)),
    }
}

/// Edit a draft
#[utoipa::path(
    patch, path = "/api/campaigns/{id}", tag = "campaigns", security(("admin_token" = [])),
    params(("id" = Uuid, Path)),
    request_body = CampaignChanges,
    responses((status = 200, body = CampaignReply), (status = 404), (status = 422)),
)]
async fn edit_campaign(
    _: Organiser,
    Shared(ledger): Shared<Ledger>,
    Extension(request_id): Extension<RequestId>,
    Path(id): Path<Uuid>,
    Json(changes): Json<CampaignChanges>,
) -> Result<Json<CampaignReply>, Problem> {
    let command = CampaignCommand::Edit(changes.parse()?);
    execute(&ledger, id, command, request_id).await
}

/// Publish a draft
#[utoipa::path(
    post, path = "/api/campaigns/{id}/publish", tag = "campaigns", security(("admin_token" = [])),
    params(("id" = Uuid, Path)),
    responses((status = 200, body = CampaignReply), (status = 404), (status = 422)),
)]
async fn publish_campaign(
    _: Organiser,
    Shared(ledger): Shared<Ledger>,
    Extension(request_id): Extension<RequestId>,
    Path(id): Path<Uuid>,
    _: NoBody,
) -> Result<Json<CampaignReply>, Problem> {
    execute(&ledger, id, CampaignCommand::Publish { now: Utc::now() }, request_id).await
}

/// Close a published campaign
///
/// It takes no more pledges; payments of earlier pledges still count.
#[utoipa::path(
    post, path = "/api/campaigns/{id}/close", tag = "campaigns", security(("admin_token" = [])),
    params(("id" = Uuid, Path)),
    responses((status = 200, body = CampaignReply), (status = 404), (status = 422)),
)]
async fn close_campaign(
    _: Organiser,
    Shared(ledger): Shared<Ledger>,
    Extension(request_id): Extension<RequestId>,
    Path(id): Path<Uuid>,
    _: NoBody,
) -> Result<Json<CampaignReply>, Problem> {
    execute(&ledger, id, CampaignCommand::Close, request_id).await
}

async fn execute(
    ledger: &Ledger,
    id: Uuid,
    command: CampaignCommand,
    request_id: RequestId,
) -> Result<Json<CampaignReply>, Problem> {
    let executed = ledger
        .execute::<Campaign>(id, &command, &metadata(request_id, None))
        .await
        .map_err(campaign_problem)?;
    let status = executed.aggregate.status().ok_or(ProblemKind::NotFound)?;
    Ok(Json(CampaignReply { campaign_id: id, status, position: executed.position }))
}
