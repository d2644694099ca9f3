//! Payment providers: the port to them, their adapters, and the registry.
//!
//! An adapter turns a provider's own messages into the domain's facts and nothing else: whether a
//! fact is new, late or contradictory is decided by the pledge. Programs know adapters by the port
//! [`Provider`], and find them in the [`Registry`].
//!
//! A webhook counts if it is signed, over its bytes as they came:
//!
//! ```
//! use payments::{SignedMessage, SignatureError, WebhookSecret, sign, verify};
//!
//! let secret: WebhookSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".parse()?;
//! let (now, body) = (chrono::Utc::now(), br#"{"type":"payment.captured"}"#);
//! let timestamp = now.timestamp().to_string();
//! let signatures = sign(&secret, "msg_1", now.timestamp(), body);
//!
//! let message = SignedMessage { id: "msg_1", timestamp: &timestamp, signatures: &signatures, body };
//! assert_eq!(verify(&[secret.clone()], message, now), Ok(()));
//! let forged = SignedMessage { body: b"{}", ..message };
//! assert_eq!(verify(&[secret], forged, now), Err(SignatureError::NoMatch));
//! # Ok::<(), String>(())
//! ```

#[cfg(feature = "guarded")]
mod descriptor;
#[cfg(feature = "guarded")]
mod guarded;
mod http;
mod json;
mod payable;
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
pub use guarded::{CallLimits, Guarded};
pub use http::http_client_builder;
pub use payable::PayableAmounts;
pub use provider::{
    CheckOut, MessageError, Notice, ParseError, PaymentReport, PaymentSession, Provider, ProviderError,
    Refund, ReportPage, SessionId, VerifiedMessage,
};
pub use providers::Providers;
#[cfg(feature = "guarded")]
pub use registry::{Registry, RegistryError};
#[cfg(feature = "guarded")]
pub use set_up::{BuildContext, SetUpError};
pub use signature::{SignatureError, SignedMessage, WebhookSecret, WebhookSecrets, sign, verify};
