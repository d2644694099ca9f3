//! The ledger as projections are shown it: events with the states that they led to, and final states.

use chrono::{DateTime, Utc};
use domain::Rules;
use uuid::Uuid;

use crate::figures::ByInstant;

/// Position and instant of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// The position in the ledger.
    pub(crate) position: i64,
    /// The instant.
    pub(crate) recorded_at: DateTime<Utc>,
}

/// An event, and the state that it led to.
pub(crate) struct Occurrence<'a, A: Rules> {
    /// The id of its aggregate.
    pub(crate) id: Uuid,
    /// The event.
    pub(crate) event: &'a A::Event,
    /// Its name.
    pub(crate) event_type: &'a str,
    /// The aggregate after it.
    pub(crate) after: &'a A,
    /// What it changed of what money counts for.
    pub(crate) changed: &'a ByInstant,
    /// Its place in its aggregate's stream: the first is 1.
    pub(crate) sequence: i64,
    /// Where it stands.
    pub(crate) at: Moment,
}

/// An aggregate as it stands at the position of a projection.
pub(crate) struct FinalState<'a, A> {
    /// Its id.
    pub(crate) id: Uuid,
    /// Its state.
    pub(crate) state: &'a A,
    /// What its money counts for.
    pub(crate) money: &'a ByInstant,
    /// Its first event.
    pub(crate) first: Moment,
    /// Its last event.
    pub(crate) last: Moment,
}
