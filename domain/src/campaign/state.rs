use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{CampaignCommand, CampaignDetails, CampaignError, CampaignEvent, CampaignStatus};
use crate::rules::Rules;
use crate::{Money, MoneyError};

/// The state of a campaign, folded from its events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Campaign {
    /// Nothing has happened under this id.
    #[default]
    Absent,
    /// Written, not yet open.
    Draft(CampaignDetails),
    /// Open for pledges.
    Published(CampaignDetails),
    /// Takes no more pledges.
    Closed(CampaignDetails),
}

impl Campaign {
    /// The status, or none before the campaign exists.
    pub fn status(&self) -> Option<CampaignStatus> {
        match self {
            Self::Absent => None,
            Self::Draft(_) => Some(CampaignStatus::Draft),
            Self::Published(_) => Some(CampaignStatus::Published),
            Self::Closed(_) => Some(CampaignStatus::Closed),
        }
    }

    /// The details, or none before the campaign exists.
    pub fn details(&self) -> Option<&CampaignDetails> {
        match self {
            Self::Absent => None,
            Self::Draft(details) | Self::Published(details) | Self::Closed(details) => Some(details),
        }
    }

    /// Whether a pledge of `amount` may be made at `now`.
    ///
    /// # Errors
    /// The rule that it would break.
    pub fn accepts(&self, amount: Money, now: DateTime<Utc>) -> Result<(), CampaignError> {
        let details = match self {
            Self::Absent => return Err(CampaignError::NotFound),
            Self::Draft(_) => return Err(CampaignError::NotOpen),
            Self::Closed(_) => return Err(CampaignError::Closed),
            Self::Published(details) => details,
        };
        not_ended(details, now)?;
        let (expected, found) = (details.goal.currency(), amount.currency());
        if expected == found {
            Ok(())
        } else {
            Err(CampaignError::Currency(MoneyError::CurrencyMismatch { expected, found }))
        }
    }
}

fn not_ended(details: &CampaignDetails, now: DateTime<Utc>) -> Result<(), CampaignError> {
    match details.ends_at {
        Some(ends_at) if ends_at <= now => Err(CampaignError::Ended(ends_at)),
        Some(_) | None => Ok(()),
    }
}

impl Rules for Campaign {
    const TYPE: &'static str = "campaign";
    type Command = CampaignCommand;
    type Event = CampaignEvent;
    type Error = CampaignError;

    fn decide(&self, command: &CampaignCommand) -> Result<Vec<CampaignEvent>, CampaignError> {
        use CampaignCommand::{Close, Create, Edit, Publish};
        match (self, command) {
            (Self::Absent, Create(details)) => Ok(vec![CampaignEvent::CampaignCreated(details.clone())]),
            (Self::Absent, Edit(_) | Publish { .. } | Close) => Err(CampaignError::NotFound),

            (Self::Draft(old), Edit(edit)) => {
                let new = edit.apply_to(old);
                Ok(if new == *old { vec![] } else { vec![CampaignEvent::CampaignEdited(new)] })
            }
            (Self::Draft(details), Publish { now }) => {
                not_ended(details, *now)?;
                Ok(vec![CampaignEvent::CampaignPublished {}])
            }
            (Self::Draft(_), Close) => Err(CampaignError::NotPublished),

            (Self::Published(_), Publish { .. }) | (Self::Closed(_), Close) => Ok(vec![]),
            (Self::Published(_), Close) => Ok(vec![CampaignEvent::CampaignClosed {}]),
            (Self::Published(_), Edit(_)) => Err(CampaignError::NotADraft(CampaignStatus::Published)),

            (Self::Closed(_), Edit(_)) => Err(CampaignError::NotADraft(CampaignStatus::Closed)),
            (Self::Closed(_), Publish { .. }) => Err(CampaignError::Closed),

            (Self::Draft(_) | Self::Published(_) | Self::Closed(_), Create(_)) => {
                Err(CampaignError::AlreadyExists)
            }
        }
    }

    fn evolve(self, event: CampaignEvent) -> Self {
        use CampaignEvent::{CampaignClosed, CampaignCreated, CampaignEdited, CampaignPublished};
        match (self, event) {
            (_, CampaignCreated(details) | CampaignEdited(details)) => Self::Draft(details),
            (Self::Draft(details), CampaignPublished {}) => Self::Published(details),
            (Self::Published(details), CampaignClosed {}) => Self::Closed(details),
            (state, CampaignPublished {} | CampaignClosed {}) => state,
        }
    }

    fn allows(&self, event: &CampaignEvent) -> bool {
        match event {
            CampaignEvent::CampaignCreated(_) => matches!(self, Self::Absent),
            CampaignEvent::CampaignEdited(_) | CampaignEvent::CampaignPublished {} => {
                matches!(self, Self::Draft(_))
            }
            CampaignEvent::CampaignClosed {} => matches!(self, Self::Published(_)),
        }
    }
}
