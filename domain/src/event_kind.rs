//! Names and versions of events.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

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
}

/// Gives each event of an enum its version; the name is the variant's. This is the only place that
/// says either.
macro_rules! event_kinds {
    ($events:ident { $($name:ident: $version:literal,)+ }) => {
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
        }
    };
}
pub(crate) use event_kinds;
