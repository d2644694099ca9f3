use chrono::{DateTime, Utc};

use super::{CampaignDetails, Description, Title};
use crate::{Money, MoneyError};

/// A command of an organiser to a campaign.
#[derive(Clone, Debug, PartialEq)]
pub enum CampaignCommand {
    /// Write a draft.
    Create(CampaignDetails),
    /// Change some of the draft's details.
    Edit(CampaignEdit),
    /// Open it for pledges.
    Publish {
        /// The instant of the request: a campaign whose end has passed cannot open.
        now: DateTime<Utc>,
    },
    /// Take no more pledges.
    Close,
}

/// Which details change: none of a field leaves it as it is, and an inner none clears it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CampaignEdit {
    /// The new headline.
    pub title: Option<Title>,
    /// The purpose of the money.
    pub description: Option<Option<Description>>,
    /// How much is wanted, and in which currency.
    pub goal: Option<Money>,
    /// When it ends.
    pub ends_at: Option<Option<DateTime<Utc>>>,
}

impl CampaignEdit {
    /// The details after the edit.
    #[must_use]
    pub fn apply_to(&self, details: &CampaignDetails) -> CampaignDetails {
        CampaignDetails {
            title: self.title.clone().unwrap_or_else(|| details.title.clone()),
            description: self.description.clone().unwrap_or_else(|| details.description.clone()),
            goal: self.goal.unwrap_or(details.goal),
            ends_at: self.ends_at.unwrap_or(details.ends_at),
        }
    }
}

/// Which rule a command or a pledge would break.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CampaignError {
    /// There is no such campaign.
    #[error("there is no such campaign")]
    NotFound,
    /// It exists already.
    #[error("the campaign exists already")]
    AlreadyExists,
    /// Only a draft can be edited.
    #[error("only a draft can be edited; this campaign is {0}")]
    NotADraft(super::CampaignStatus),
    /// A draft is discarded by leaving it; only a published campaign is closed.
    #[error("only a published campaign can be closed; this one is a draft")]
    NotPublished,
    /// A closed campaign stays closed.
    #[error("the campaign is closed and stays closed")]
    Closed,
    /// Its end has passed.
    #[error("the campaign ended at {0}")]
    Ended(DateTime<Utc>),
    /// Drafts take no pledges.
    #[error("the campaign is not published yet and takes no pledges")]
    NotOpen,
    /// The pledge is in another currency.
    #[error("amount.currency {0}")]
    Currency(MoneyError),
}
