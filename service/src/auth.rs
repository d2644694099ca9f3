//! The organiser's bearer token.

use std::fmt;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{Problem, ProblemKind};

/// The token that organisers' routes need. Only its hash is kept.
#[derive(Clone)]
pub struct AdminToken([u8; 32]);

impl AdminToken {
    /// The token to compare with.
    pub fn new(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Whether `token` is the one; takes the same time whatever it is.
    pub fn matches(&self, token: &str) -> bool {
        let given: [u8; 32] = Sha256::digest(token).into();
        self.0.ct_eq(&given).into()
    }

    /// Whether the request carries it as `authorization: Bearer`.
    pub fn is_in(&self, parts: &Parts) -> bool {
        bearer(parts).is_some_and(|token| self.matches(token))
    }
}

/// The token in the header `authorization: Bearer`.
pub fn bearer(parts: &Parts) -> Option<&str> {
    let header = parts.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

/// Proof that the request carries the token. A handler that takes it is for organisers only.
#[derive(Clone, Copy, Debug)]
pub struct Organiser;

impl<S> FromRequestParts<S> for Organiser
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
                "send the header authorization: Bearer with the value of CAREFORALL_ADMIN_TOKEN",
            ))
        }
    }
}

/// The caller of a route that is open to all and shows more to organisers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visitor {
    /// Carries the token.
    Organiser,
    /// Anybody.
    Public,
}

impl<S> FromRequestParts<S> for Visitor
where
    S: Send + Sync,
    AdminToken: FromRef<S>,
{
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        Ok(if AdminToken::from_ref(state).is_in(parts) { Self::Organiser } else { Self::Public })
    }
}
