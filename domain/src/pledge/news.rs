//! What is newly known of a payment.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::MoneyMove;
use crate::Money;
use crate::payment::{Correction, Statement};

/// What is newly known of a payment, and the moves of money that follow from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct News {
    /// What its provider said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heard: Vec<Statement>,
    /// What people stated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub corrected: Vec<Corrected>,
    /// Its settlement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<Settlement>,
    /// The signed change of every figure, by instant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<MoneyMove>,
}

impl News {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        let Self { heard, corrected, settled, moves } = self;
        heard.is_empty() && corrected.is_empty() && settled.is_none() && moves.is_empty()
    }
}

/// How an object stands by a person's word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Corrected {
    /// The object, and how it stands.
    pub correction: Correction,
    /// Who said so, and where the reason is kept.
    pub note: CorrectionNote,
}

/// Names a correction. Its reason stands beside the ledger, where it can be erased.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CorrectionNote {
    /// Its own id.
    pub correction_id: Uuid,
    /// SHA-256 of its reason and evidence, in hexadecimal.
    pub text_sha256: String,
}

/// The money has arrived at the charity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Settlement {
    /// How much was taken from the donor.
    pub amount: Money,
    /// When it arrived.
    pub at: DateTime<Utc>,
}
