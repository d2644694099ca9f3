//! A campaign: what is collected for. Draft → published → closed.

mod command;
mod event;
mod state;
mod status;
#[cfg(test)]
mod tests;

pub use command::{CampaignCommand, CampaignEdit, CampaignError};
pub use event::{CampaignDetails, CampaignEvent, Description, Title};
pub use state::Campaign;
pub use status::CampaignStatus;
