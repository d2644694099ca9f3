//! Who decides about messages and payments.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use domain::Text;
use service::{Problem, ProblemKind};

/// Who decides: the admin token has no name, so operators may give theirs.
pub(crate) struct Operator(pub(crate) Text<100>);

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let name = match parts.headers.get("x-operator") {
            Some(value) => std::str::from_utf8(value.as_bytes()).unwrap_or_default(),
            None => "admin",
        };
        name.parse()
            .map(Self)
            .map_err(|error| Problem::new(ProblemKind::Malformed, format!("the header x-operator {error}")))
    }
}
