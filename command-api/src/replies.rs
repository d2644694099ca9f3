//! Responses to commands, in one place.

use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use domain::{CampaignError, PledgeError, Rules};
use event_store::{AppendError, ExecuteError, Ledger, LoadError, Metadata};
use serde::Serialize;
use service::{FieldErrors, Json, Problem, ProblemKind, RequestId};
use uuid::Uuid;

const IDEMPOTENCY_HIT: HeaderName = HeaderName::from_static("idempotency-hit");

/// Something was made, now or by an earlier request under the same key.
pub(crate) struct Created<T> {
    pub(crate) body: T,
    /// Whether this is the answer to an earlier request.
    pub(crate) hit: bool,
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.body).into_response();
        *response.status_mut() = StatusCode::CREATED;
        if self.hit {
            response.headers_mut().insert(IDEMPOTENCY_HIT, HeaderValue::from_static("true"));
        }
        response
    }
}

/// The metadata of a command that came by request.
pub(crate) fn metadata(request_id: RequestId, fingerprint: Option<&str>) -> Metadata {
    let fingerprint = fingerprint.map(str::to_owned);
    Metadata { request_id: Some(request_id.0), fingerprint, ..Metadata::default() }
}

/// The position at which the aggregate was made, if it was made by the same request as this.
///
/// # Errors
/// [`ProblemKind::IdempotencyKeyReused`] when another request made it.
pub(crate) async fn made_before<A: Rules>(
    ledger: &Ledger,
    id: Uuid,
    fingerprint: &str,
) -> Result<Option<i64>, Problem> {
    let events =
        ledger.read_stream::<A>(id).await.map_err(|error| Problem::unavailable("the ledger", error))?;
    let Some(first) = events.first() else { return Ok(None) };
    if first.metadata().fingerprint.as_deref() == Some(fingerprint) {
        Ok(Some(first.position))
    } else {
        Err(Problem::new(
            ProblemKind::IdempotencyKeyReused,
            "this idempotency-key was used with another body; use a new one for a new request",
        ))
    }
}

/// The response to a refused pledge command.
pub(crate) fn pledge_problem(error: ExecuteError<PledgeError>) -> Problem {
    execute_problem(error, |rule| match rule {
        PledgeError::NotFound => Problem::new(ProblemKind::NotFound, rule),
        PledgeError::Currency(error) => field_problem("amount.currency", error),
        PledgeError::AlreadyExists => Problem::new(ProblemKind::Conflict, rule),
        PledgeError::NotPending(_)
        | PledgeError::NotWaiting(_)
        | PledgeError::InQuestion(_)
        | PledgeError::NotAuthorized(_)
        | PledgeError::AwaitsCapture(_)
        | PledgeError::MovedTo(_)
        | PledgeError::NotUnapplied(_)
        | PledgeError::NothingLeft(_)
        | PledgeError::Asks(..)
        | PledgeError::NeedsReview(_) => Problem::new(ProblemKind::RuleBroken, rule),
    })
}

/// The response to a refused campaign command.
pub(crate) fn campaign_problem(error: ExecuteError<CampaignError>) -> Problem {
    execute_problem(error, campaign_rule_problem)
}

/// The response to a command that breaks a campaign's rule.
pub(crate) fn campaign_rule_problem(rule: CampaignError) -> Problem {
    match rule {
        CampaignError::NotFound => Problem::new(ProblemKind::NotFound, rule),
        CampaignError::AlreadyExists => Problem::new(ProblemKind::Conflict, rule),
        CampaignError::Currency(error) => field_problem("amount.currency", error),
        CampaignError::NotADraft(_)
        | CampaignError::NotPublished
        | CampaignError::Closed
        | CampaignError::Ended(_)
        | CampaignError::NotOpen => Problem::new(ProblemKind::RuleBroken, rule),
    }
}

fn field_problem(field: &str, error: impl ToString) -> Problem {
    let mut errors = FieldErrors::default();
    errors.add(field, error);
    errors.problem()
}

fn execute_problem<E: std::error::Error>(
    error: ExecuteError<E>,
    rule_problem: impl FnOnce(E) -> Problem,
) -> Problem {
    match error {
        ExecuteError::Rule(rule) => rule_problem(rule),
        ExecuteError::Append(error) => append_problem(error),
        ExecuteError::Load(error) => load_problem(error),
    }
}

/// The response to a failed append.
pub(crate) fn append_problem(error: AppendError) -> Problem {
    match error {
        AppendError::Conflict => {
            Problem::new(ProblemKind::Conflict, "it was changed at the same time; look at it and try again")
        }
        AppendError::ForeignPayment => Problem::new(ProblemKind::RuleBroken, error),
        AppendError::Refused(_) => Problem::internal(error),
        AppendError::Unavailable(_) => Problem::unavailable("the ledger", error),
        AppendError::Queue(_) => Problem::new(ProblemKind::Overloaded, error),
    }
}

/// The response to a failed load.
pub(crate) fn load_problem(error: LoadError) -> Problem {
    match error {
        LoadError::Decode(_) => Problem::internal(error),
        LoadError::Database(_) => Problem::unavailable("the ledger", error),
    }
}
