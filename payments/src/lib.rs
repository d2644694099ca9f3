//! Payment providers: what we ask of them, and what they tell us.
//!
//! An adapter turns a provider's own messages into the domain's facts and nothing else: whether a
//! fact is new, late or contradictory is decided by the pledge.

#[cfg(feature = "guarded")]
mod descriptor;
#[cfg(feature = "guarded")]
mod guarded;
mod http;
mod json;
mod provider;
mod providers;
#[cfg(feature = "guarded")]
mod registry;
pub mod sandbox;
#[cfg(feature = "guarded")]
mod set_up;
mod signature;
#[cfg(feature = "store")]
pub mod store;
pub mod stripe;

#[cfg(feature = "guarded")]
pub use descriptor::{Build, ProviderDescriptor, ProviderSettings, WebhookFormat};
#[cfg(feature = "guarded")]
pub use guarded::{Guarded, Limits};
pub use http::http_client_builder;
pub use provider::{
    CheckOut, CheckedOut, MessageError, Notice, Page, ParseError, PaymentReport, Provider, ProviderError,
    Refund, SessionId, VerifiedMessage,
};
pub use providers::Providers;
#[cfg(feature = "guarded")]
pub use registry::{Registry, RegistryError};
#[cfg(feature = "guarded")]
pub use set_up::{BuildContext, SetUpError};
pub use signature::{SignatureError, Signed, WebhookSecret, WebhookSecrets, sign, verify};
