//! The names of a pledge's states, and the edges between them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The name of a pledge's state, as events, read tables and answers write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PledgeStatus {
    /// Made, not paid.
    Pending,
    /// The money is reserved.
    Authorized,
    /// The money is taken.
    Captured,
    /// The money has arrived.
    Completed,
    /// The payment failed for good.
    Failed,
    /// Nobody paid in time.
    Expired,
    /// The donor withdrew.
    Cancelled,
}

impl PledgeStatus {
    /// Every status, in the order of a pledge's life.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Authorized,
        Self::Captured,
        Self::Completed,
        Self::Failed,
        Self::Expired,
        Self::Cancelled,
    ];

    /// The edges of the state machine, exactly. Every recorded transition is one of these.
    pub const EDGES: [(Self, Self); 7] = [
        (Self::Pending, Self::Authorized),
        (Self::Pending, Self::Failed),
        (Self::Pending, Self::Expired),
        (Self::Authorized, Self::Captured),
        (Self::Authorized, Self::Failed),
        (Self::Authorized, Self::Cancelled),
        (Self::Captured, Self::Completed),
    ];

    /// Whether no edge leads on from here.
    pub fn is_final(self) -> bool {
        Self::EDGES.iter().all(|(from, _)| *from != self)
    }

    /// The name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Authorized => "authorized",
            Self::Captured => "captured",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for PledgeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for PledgeStatus {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(UnknownStatus)
    }
}

/// The text names no state of a pledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a state of a pledge")]
pub struct UnknownStatus;
