//! The rules of CareForAll, and nothing else: money, ids and the two aggregates.
//!
//! Everything here is pure. There is no I/O, no clock and no randomness; whatever a rule needs
//! to know (the time, an id, what the provider said) arrives in the command. Each aggregate is a
//! `decide` (command to events) and an `evolve` (event to state), bridged to [`cqrs_es::Aggregate`].

// A new state or event must make every match over it stop compiling.
#![warn(clippy::wildcard_enum_match_arm)]

pub mod campaign;
mod email;
mod event;
mod event_kind;
mod ids;
mod money;
pub mod pledge;
mod text;
pub mod upcast;

pub use campaign::{Campaign, CampaignCommand, CampaignError, CampaignEvent, CampaignStatus};
pub use email::Email;
pub use event::{DecodeError, Event, StoredEvent};
pub use event_kind::{EventKind, VersionedEvent};
pub use ids::{CampaignId, DisputeId, DonorId, IdKey, IdempotencyKey, PaymentId, PledgeId, RefundId};
pub use money::{Currency, Money, MoneyError};
pub use pledge::{
    MoneyHeld, MoneyMove, PaymentFact, Pledge, PledgeCommand, PledgeError, PledgeEvent, PledgeStatus,
};
pub use text::{Text, TextError};
pub use upcast::UpcastTable;

/// An aggregate whose decisions are a pure function of its state and the command.
///
/// `cqrs_es::Aggregate::handle` is asynchronous and writes into a sink; this is the rule behind
/// it, which the ledger's own `execute` and the tests call directly.
pub trait Decide: cqrs_es::Aggregate<Event: VersionedEvent> + Clone {
    /// The events that carry out `command`; none when it has nothing new to say.
    ///
    /// # Errors
    /// The rule that the command would break.
    fn decide(&self, command: &Self::Command) -> Result<Vec<Self::Event>, Self::Error>;
}
