//! Amounts as they are stored and shown.

use serde::Serialize;
use utoipa::ToSchema;

/// An amount of money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Amount {
    /// Whole minor units, such as cents.
    #[schema(example = 2500, minimum = 1)]
    pub(crate) amount_minor: i64,
    /// ISO 4217 code.
    #[schema(example = "EUR", pattern = "^[A-Z]{3}$")]
    pub(crate) currency: String,
}
