//! Names and versions of events.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::PaymentId;

/// The name of an event, and the version of its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventKind {
    /// The name, as it stands beside the body and as its tag.
    pub name: &'static str,
    /// Counts up whenever the shape changes.
    pub version: &'static str,
}

/// The events of one aggregate, each with a version of its own.
pub trait VersionedEvent: Serialize + DeserializeOwned + Clone + PartialEq + Debug + Send + Sync {
    /// Every event, in the version that is written now.
    const KINDS: &'static [EventKind];

    /// Which of them it is.
    fn kind(&self) -> EventKind;

    /// The payment of which it tells, which is this aggregate's and no other's.
    fn claim(&self) -> Option<Claim<'_>> {
        None
    }
}

/// A payment that belongs to the aggregate of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The provider's payment.
    pub payment_id: &'a PaymentId,
    /// Whether it was another's until now.
    pub takes_over: bool,
}

/// Gives each event of an enum its version; the name is the variant's. This is the only place that
/// says either.
macro_rules! event_kinds {
    ($events:ident { $($name:ident: $version:literal,)+ } $($more:item)*) => {
        impl crate::VersionedEvent for $events {
            const KINDS: &'static [crate::EventKind] =
                &[$(crate::EventKind { name: stringify!($name), version: $version }),+];

            fn kind(&self) -> crate::EventKind {
                match self {
                    $(Self::$name { .. } => {
                        crate::EventKind { name: stringify!($name), version: $version }
                    })+
                }
            }

            $($more)*
        }
    };
}
pub(crate) use event_kinds;
