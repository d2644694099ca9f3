//! Any event of the ledger, read back from its stored form.

use crate::event_kind::VersionedEvent;
use crate::rules::Rules;
use crate::upcast::UpcastTable;
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

impl UpcastTable {
    /// Decodes a stored event.
    ///
    /// # Errors
    /// [`DecodeError`] when this version of the program does not know the event. A reader must stop
    /// there: skipping what it does not understand would make every figure after it wrong.
    pub fn decode(self, stored: StoredEvent<'_>) -> Result<Event, DecodeError> {
        match stored.aggregate_type {
            Campaign::TYPE => Ok(Event::Campaign(stored.aggregate_id.parse()?, self.decode_as(stored)?)),
            Pledge::TYPE => Ok(Event::Pledge(stored.aggregate_id.parse()?, self.decode_as(stored)?)),
            unknown => Err(DecodeError::AggregateType(unknown.to_owned())),
        }
    }

    /// Decodes the body of a stored event of a known aggregate. Nearly every event is of the version
    /// that is written now: its body is parsed once, and goes through no [`serde_json::Value`].
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode_as<E: VersionedEvent>(self, stored: StoredEvent<'_>) -> Result<E, DecodeError> {
        let StoredEvent { event_type, event_version, payload, .. } = stored;
        let (event, name, version): (E, _, _) = match self.step(event_type, event_version) {
            None => (parse(stored)?, event_type, event_version),
            Some(_) => {
                let (body, kind) = self.upcast(event_type, event_version, serde_json::from_str(payload)?);
                (serde_json::from_value(body)?, kind.name, kind.version)
            }
        };
        let kind = event.kind();
        // The name beside the payload is what people search by, so the two must agree.
        if kind.name != name {
            return Err(DecodeError::EventType { named: name.to_owned(), found: kind.name.to_owned() });
        }
        if kind.version != version {
            return Err(unknown_version(event_type, version));
        }
        Ok(event)
    }
}

/// Parses a body. One that is no event may be of a version that is not known, which says more.
fn parse<E: VersionedEvent>(stored: StoredEvent<'_>) -> Result<E, DecodeError> {
    serde_json::from_str(stored.payload).map_err(|error| {
        let known = E::KINDS.iter().find(|kind| kind.name == stored.event_type);
        match known {
            Some(kind) if kind.version != stored.event_version => {
                unknown_version(stored.event_type, stored.event_version)
            }
            Some(_) | None => DecodeError::Payload(error),
        }
    })
}

fn unknown_version(event_type: &str, event_version: &str) -> DecodeError {
    DecodeError::Version { event_type: event_type.to_owned(), event_version: event_version.to_owned() }
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
