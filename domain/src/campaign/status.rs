//! The names of a campaign's states.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of a campaign's state, as read tables and answers write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CampaignStatus {
    /// Written, not yet open.
    Draft,
    /// Open for pledges.
    Published,
    /// Takes no more pledges.
    Closed,
}

impl CampaignStatus {
    /// The name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Published => "published",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for CampaignStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
