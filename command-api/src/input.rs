//! Input as clients send it, before it is parsed into the domain's types.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use domain::{Currency, IdempotencyKey, Money};
use serde::Deserialize;
use service::{FieldErrors, Problem, ProblemKind};
use utoipa::ToSchema;

/// An amount of money.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(crate) struct MoneyInput {
    /// Whole minor units, such as cents; at least 1.
    #[schema(example = 2500, minimum = 1)]
    amount_minor: i64,
    /// ISO 4217 code.
    #[schema(example = "EUR", pattern = "^[A-Z]{3}$")]
    currency: String,
}

impl MoneyInput {
    /// The money, or none after noting every field that is wrong.
    pub(crate) fn parse(&self, field: &str, errors: &mut FieldErrors) -> Option<Money> {
        let currency = errors.take(format_args!("{field}.currency"), self.currency.parse::<Currency>());
        // The amount's limits are the same in every currency; note them even without one.
        let any_currency = currency.or_else(|| "EUR".parse().ok())?;
        let money =
            errors.take(format_args!("{field}.amount_minor"), Money::new(self.amount_minor, any_currency));
        currency.and(money)
    }
}

/// The header `Idempotency-Key`, where a request carries one.
pub(crate) struct OptionalKey(pub(crate) Option<IdempotencyKey>);

impl<S: Send + Sync> FromRequestParts<S> for OptionalKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get("idempotency-key") else { return Ok(Self(None)) };
        let key = value
            .to_str()
            .map_err(|error| error.to_string())
            .and_then(|text| text.parse().map_err(|error: domain::TextError| error.to_string()))
            .map_err(|detail| {
                Problem::new(ProblemKind::Malformed, format!("the header idempotency-key {detail}"))
            })?;
        Ok(Self(Some(key)))
    }
}

/// The header `Idempotency-Key`, which the request must carry.
pub(crate) struct RequiredKey(pub(crate) IdempotencyKey);

impl<S: Send + Sync> FromRequestParts<S> for RequiredKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match OptionalKey::from_request_parts(parts, state).await? {
            OptionalKey(Some(key)) => Ok(Self(key)),
            OptionalKey(None) => Err(Problem::new(
                ProblemKind::Malformed,
                "the header idempotency-key is missing: send a value of your own, and the same one when you retry",
            )),
        }
    }
}
