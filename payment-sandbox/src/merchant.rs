//! Who asks: the merchant, by the API key.

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use domain::IdempotencyKey;
use service::auth::AdminToken;
use service::{Problem, ProblemKind};

/// Proof that the request carries the API key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Merchant;

impl<S> FromRequestParts<S> for Merchant
where
    S: Send + Sync,
    AdminToken: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        if AdminToken::from_ref(state).is_in(parts) {
            Ok(Self)
        } else {
            Err(Problem::new(
                ProblemKind::Unauthorized,
                "send the header authorization: Bearer with the API key of the sandbox provider",
            ))
        }
    }
}

/// The header `Idempotency-Key`: 1 to 200 visible ASCII characters.
pub(crate) struct RequestKey(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for RequestKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let malformed = |detail: &str| {
            Problem::new(ProblemKind::Malformed, format!("the header idempotency-key {detail}"))
        };
        let value = parts.headers.get("idempotency-key").ok_or_else(|| malformed("is missing"))?;
        let text = value.to_str().map_err(|error| malformed(&error.to_string()))?;
        text.parse::<IdempotencyKey>().map_err(|error| malformed(&error.to_string()))?;
        Ok(Self(text.to_owned()))
    }
}
