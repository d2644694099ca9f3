//! Any event of the ledger, read back from its stored form.

use cqrs_es::{Aggregate, DomainEvent};
use serde_json::Value;

use crate::{Campaign, CampaignEvent, CampaignId, Pledge, PledgeEvent, PledgeId};

/// An event of either aggregate, with the id of the aggregate it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Something that happened to a campaign.
    Campaign(CampaignId, CampaignEvent),
    /// Something that happened to a pledge.
    Pledge(PledgeId, PledgeEvent),
}

/// An event as the ledger keeps it.
#[derive(Clone, Copy, Debug)]
pub struct StoredEvent<'a> {
    /// The type of its aggregate.
    pub aggregate_type: &'a str,
    /// The id of its aggregate.
    pub aggregate_id: &'a str,
    /// Its name.
    pub event_type: &'a str,
    /// The version of its shape.
    pub event_version: &'a str,
    /// Its body, JSON.
    pub payload: &'a str,
}

impl Event {
    /// Decodes a stored event.
    ///
    /// # Errors
    /// [`DecodeError`] when this version of the program does not know the event. A reader must stop
    /// there: skipping what it does not understand would make every figure after it wrong.
    pub fn decode(stored: StoredEvent<'_>) -> Result<Self, DecodeError> {
        match stored.aggregate_type {
            Campaign::TYPE => Ok(Self::Campaign(stored.aggregate_id.parse()?, decode_text(stored)?)),
            Pledge::TYPE => Ok(Self::Pledge(stored.aggregate_id.parse()?, decode_text(stored)?)),
            unknown => Err(DecodeError::AggregateType(unknown.to_owned())),
        }
    }
}

/// Decodes a payload that was parsed already, as postgres-es hands it out.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_value<E: DomainEvent>(
    event_type: &str,
    event_version: &str,
    payload: Value,
) -> Result<E, DecodeError> {
    let event: E = serde_json::from_value(upcast(event_type, event_version, payload)?)?;
    require_type(event, event_type)
}

/// Decodes the body of a stored event of a known aggregate. The way nearly every event goes: its shape is
/// the current one, is parsed once and needs no upcasting.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_text<E: DomainEvent>(stored: StoredEvent<'_>) -> Result<E, DecodeError> {
    if stored.event_version != CURRENT_VERSION {
        let payload = serde_json::from_str(stored.payload)?;
        return decode_value(stored.event_type, stored.event_version, payload);
    }
    require_type(serde_json::from_str(stored.payload)?, stored.event_type)
}

/// The version in which events are written now.
pub(crate) const CURRENT_VERSION: &str = "1";

/// Brings a payload of an earlier version into the current shape. Every version ever written stays
/// readable for ever: a new one adds its step here, and a golden file beside the old one's.
fn upcast(event_type: &str, event_version: &str, payload: Value) -> Result<Value, DecodeError> {
    match event_version {
        CURRENT_VERSION => Ok(payload),
        _ => Err(DecodeError::Version {
            event_type: event_type.to_owned(),
            event_version: event_version.to_owned(),
        }),
    }
}

/// The name beside the payload is what people search by, so the two must agree.
fn require_type<E: DomainEvent>(event: E, event_type: &str) -> Result<E, DecodeError> {
    if event.event_type() == event_type {
        Ok(event)
    } else {
        Err(DecodeError::EventType { named: event_type.to_owned(), found: event.event_type() })
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
    /// Written by a newer version of the program.
    #[error("{event_type} has version {event_version:?}, which this program does not know")]
    Version {
        /// The event's name.
        event_type: String,
        /// The version of its shape.
        event_version: String,
    },
    /// The payload is another event than the one named beside it.
    #[error("the event is called {named}, but its payload is a {found}")]
    EventType {
        /// The name beside the payload.
        named: String,
        /// What the payload is.
        found: String,
    },
}
