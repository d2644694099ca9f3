//! Payment providers: what we ask of them, and what they tell us.
//!
//! An adapter turns a provider's own messages into the domain's facts and nothing else: whether a
//! fact is new, late or contradictory is decided by the pledge.

mod provider;
pub mod sandbox;
mod signature;

pub use provider::{CheckOut, Notice, ParseError, Provider, ProviderError};
pub use signature::{SignatureError, Signed, WebhookSecret, sign, verify};
