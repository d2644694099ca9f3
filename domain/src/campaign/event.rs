use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::event_kind::event_kinds;
use crate::{Money, Text};

/// A campaign's title: at most 120 characters.
pub type Title = Text<120>;

/// A campaign's description: at most 5,000 characters.
pub type Description = Text<5_000>;

/// An organiser's description of a campaign.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CampaignDetails {
    /// The headline.
    pub title: Title,
    /// The purpose of the money.
    pub description: Option<Description>,
    /// How much is wanted. Its currency is the campaign's only currency.
    pub goal: Money,
    /// From this instant on no pledge is taken, if there is one.
    pub ends_at: Option<DateTime<Utc>>,
}

/// An event of a campaign.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub enum CampaignEvent {
    /// A draft was written.
    CampaignCreated(CampaignDetails),
    /// The draft was rewritten; these are the whole new details.
    CampaignEdited(CampaignDetails),
    /// It was opened for pledges.
    CampaignPublished {},
    /// It takes no more pledges. Payments of earlier pledges still count.
    CampaignClosed {},
}

event_kinds!(CampaignEvent {
    CampaignCreated: "1",
    CampaignEdited: "1",
    CampaignPublished: "1",
    CampaignClosed: "1",
});
