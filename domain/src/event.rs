//! Any event of the ledger, read back from its stored form.

use cqrs_es::Aggregate;

use crate::{Campaign, CampaignEvent, CampaignId, Pledge, PledgeEvent, PledgeId};

/// An event of either aggregate, with the id of the aggregate it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Something that happened to a campaign.
    Campaign(CampaignId, CampaignEvent),
    /// Something that happened to a pledge.
    Pledge(PledgeId, PledgeEvent),
}

impl Event {
    /// Decodes a stored event.
    ///
    /// # Errors
    /// [`DecodeError`] when this version of the program does not know the event. A reader must stop
    /// there: skipping what it does not understand would make every figure after it wrong.
    pub fn decode(aggregate_type: &str, aggregate_id: &str, payload: &[u8]) -> Result<Self, DecodeError> {
        match aggregate_type {
            Campaign::TYPE => Ok(Self::Campaign(aggregate_id.parse()?, serde_json::from_slice(payload)?)),
            Pledge::TYPE => Ok(Self::Pledge(aggregate_id.parse()?, serde_json::from_slice(payload)?)),
            unknown => Err(DecodeError::AggregateType(unknown.to_owned())),
        }
    }
}

/// Why a stored event could not be understood.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No aggregate of this type is known.
    #[error("unknown aggregate type {0:?}")]
    AggregateType(String),
    /// The aggregate's id is not a UUID.
    #[error("aggregate id: {0}")]
    AggregateId(#[from] uuid::Error),
    /// The payload is none of the events this version knows.
    #[error("payload: {0}")]
    Payload(#[from] serde_json::Error),
}
