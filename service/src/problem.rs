//! Errors as RFC 9457 problem documents.

use std::fmt::Display;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// The address that explains a kind of problem, which problem documents link to.
pub(crate) const HELP_ROUTE: &str = "/api/problems/{name}";

/// Every `type` begins with this.
const TYPE: &str = "urn:careforall:problem:";

/// Every kind of problem there is. Its name makes the stable `type`; docs/problems.md explains each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// The request cannot be read: broken JSON, a wrong type, a bad id or header.
    Malformed,
    /// No or a wrong credential.
    Unauthorized,
    /// The webhook's signature, secret or timestamp is not good.
    BadSignature,
    /// There is nothing here, or nothing for the caller.
    NotFound,
    /// The path exists, but not with this method.
    MethodNotAllowed,
    /// The present state does not allow it: another request changed it, or it is finished.
    Conflict,
    /// The body is larger than the limit.
    TooLarge,
    /// The body is not JSON.
    UnsupportedMediaType,
    /// Fields that are well-formed but not acceptable; `errors` lists every one.
    Validation,
    /// A rule of the campaign or the pledge refuses it.
    RuleBroken,
    /// The idempotency key was used for another request.
    IdempotencyKeyReused,
    /// Too much is going on; try again after `Retry-After`.
    Overloaded,
    /// The read tables have not reached the position that was asked for; try again after `Retry-After`.
    Behind,
    /// Something the service depends on is out of reach; try again after `Retry-After`.
    Unavailable,
    /// A fault of ours. The log has the details under the request's id. It stays the last, since
    /// [`ProblemKind::ALL`] counts by it.
    Internal,
}

impl ProblemKind {
    /// Every kind, for documents and tests.
    pub const ALL: [Self; Self::Internal as usize + 1] = [
        Self::Malformed,
        Self::Unauthorized,
        Self::BadSignature,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Conflict,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::Validation,
        Self::RuleBroken,
        Self::IdempotencyKeyReused,
        Self::Overloaded,
        Self::Behind,
        Self::Unavailable,
        Self::Internal,
    ];

    /// The last part of the problem's `type`.
    pub fn slug(self) -> &'static str {
        self.row().0
    }

    /// The status of the answer.
    pub(crate) fn status(self) -> StatusCode {
        self.row().1
    }

    /// The kind of problem, for people.
    pub(crate) fn title(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::Malformed => ("malformed", S::BAD_REQUEST, "The request cannot be read"),
            Self::Unauthorized => ("unauthorized", S::UNAUTHORIZED, "A valid bearer token is needed"),
            Self::BadSignature => ("bad-signature", S::UNAUTHORIZED, "The webhook is not genuine"),
            Self::NotFound => ("not-found", S::NOT_FOUND, "There is nothing here"),
            Self::MethodNotAllowed => ("method-not-allowed", S::METHOD_NOT_ALLOWED, "Not with this method"),
            Self::Conflict => ("conflict", S::CONFLICT, "In conflict with what is there now"),
            Self::TooLarge => ("too-large", S::PAYLOAD_TOO_LARGE, "The body is too large"),
            Self::UnsupportedMediaType => {
                ("unsupported-media-type", S::UNSUPPORTED_MEDIA_TYPE, "The body must be JSON")
            }
            Self::Validation => ("validation", S::UNPROCESSABLE_ENTITY, "Some fields are not acceptable"),
            Self::RuleBroken => ("rule-broken", S::UNPROCESSABLE_ENTITY, "A rule refuses this"),
            Self::IdempotencyKeyReused => (
                "idempotency-key-reused",
                S::UNPROCESSABLE_ENTITY,
                "The idempotency key was used for another request",
            ),
            Self::Overloaded => ("overloaded", S::SERVICE_UNAVAILABLE, "Too much is going on"),
            Self::Behind => ("behind", S::SERVICE_UNAVAILABLE, "The position is not reached yet"),
            Self::Unavailable => ("unavailable", S::SERVICE_UNAVAILABLE, "Something needed is out of reach"),
            Self::Internal => ("internal", S::INTERNAL_SERVER_ERROR, "Something went wrong on our side"),
        }
    }
}

/// One field that is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The path of the field, such as `amount.currency`.
    pub field: String,
    /// The reason.
    pub detail: String,
    /// The numbers that are possible, where they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub possible: Option<NumberRange>,
}

/// The numbers that a field can have: from the least to the most, in steps from 0 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct NumberRange {
    /// The least.
    pub least: i64,
    /// The most.
    pub most: i64,
    /// Every number is a multiple of it.
    pub step: i64,
}

/// The unacceptable fields of one request.
#[derive(Debug, Default)]
pub struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    /// Notes that `field` is not acceptable.
    pub fn add(&mut self, field: impl Display, detail: impl ToString) {
        self.push(field, detail, None);
    }

    /// Notes that `field` is not acceptable, and which numbers are.
    pub fn add_range(&mut self, field: impl Display, detail: impl ToString, possible: NumberRange) {
        self.push(field, detail, Some(possible));
    }

    fn push(&mut self, field: impl Display, detail: impl ToString, possible: Option<NumberRange>) {
        self.0.push(FieldError { field: field.to_string(), detail: detail.to_string(), possible });
    }

    /// The value of `field`, or none after noting what is wrong with it.
    pub fn take<T, E: ToString>(&mut self, field: impl Display, value: Result<T, E>) -> Option<T> {
        value.map_err(|error| self.add(field, error)).ok()
    }

    /// The problem that lists them all, if there are any.
    pub fn into_problem(self) -> Option<Problem> {
        (!self.0.is_empty()).then(|| Problem { errors: self.0, ..ProblemKind::Validation.into() })
    }

    /// The problem that lists them all. For where a value is missing, so that there is at least one.
    pub fn problem(self) -> Problem {
        Problem { errors: self.0, ..ProblemKind::Validation.into() }
    }
}

/// A problem document, `application/problem+json`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// `urn:careforall:problem:` and the kind's stable name.
    #[serde(rename = "type")]
    #[schema(example = "urn:careforall:problem:validation")]
    kind: String,
    /// The kind of problem, for people.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// The reason in this case, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// Every field that is not acceptable.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// The cause, for the log only.
    #[serde(skip)]
    cause: Option<Box<Cause>>,
}

/// The cause of a problem, for the log. It travels with the answer to where the id of the
/// request is known.
#[derive(Clone, Debug)]
pub(crate) enum Cause {
    /// A fault of ours.
    Internal(String),
    /// The dependency out of reach, and the reason.
    Unavailable(String, String),
}

impl Cause {
    /// Writes it to the log, beside the request that it answers.
    pub(crate) fn log(&self, request_id: &str, method: &str, route: &str) {
        match self {
            Self::Internal(cause) => tracing::error!(request_id, method, route, cause, "internal error"),
            Self::Unavailable(what, cause) => {
                tracing::warn!(request_id, method, route, what, cause, "a dependency is out of reach");
            }
        }
    }
}

impl From<ProblemKind> for Problem {
    fn from(kind: ProblemKind) -> Self {
        Self {
            kind: format!("{TYPE}{}", kind.slug()),
            title: kind.title(),
            status: kind.status().as_u16(),
            detail: None,
            errors: Vec::new(),
            cause: None,
        }
    }
}

impl Problem {
    /// A problem of `kind` that says what is wrong in this case.
    pub fn new(kind: ProblemKind, detail: impl ToString) -> Self {
        Self { detail: Some(detail.to_string()), ..kind.into() }
    }

    /// A fault of ours: the cause goes to the log, not to the client.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Self { cause: Some(Box::new(Cause::Internal(cause.to_string()))), ..ProblemKind::Internal.into() }
    }

    /// A dependency is out of reach: the cause goes to the log.
    pub fn unavailable(what: &str, cause: impl std::fmt::Display) -> Self {
        let cause = Some(Box::new(Cause::Unavailable(what.to_owned(), cause.to_string())));
        let problem =
            Self::new(ProblemKind::Unavailable, format!("{what} cannot be reached; try again shortly"));
        Self { cause, ..problem }
    }
}

/// A database that does not answer is a reason to try again; anything else is a fault of ours.
impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        match error {
            // Class 22: a value that no column can hold, such as a year beyond the calendar.
            sqlx::Error::Database(ref database) if database.code().is_some_and(|c| c.starts_with("22")) => {
                Self::new(ProblemKind::Malformed, "a value is out of range")
            }
            sqlx::Error::Database(ref database)
                if !database.code().is_some_and(|c| c.starts_with("57") || c.starts_with("53")) =>
            {
                Self::internal(error)
            }
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Protocol(_)
            | sqlx::Error::Database(_) => Self::unavailable("the database", error),
            other => Self::internal(other),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(*cause);
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        let help = self.kind.trim_start_matches(TYPE);
        let help = format!("<{}>; rel=\"help\"", HELP_ROUTE.replace("{name}", help));
        if let Ok(help) = HeaderValue::from_str(&help) {
            headers.insert(header::LINK, help);
        }
        if self.kind.ends_with(":unauthorized") {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
