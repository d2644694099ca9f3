//! A provider's row in the registry, and the settings of all providers.

use std::sync::Arc;

use clap::Args;

use crate::Provider;
use crate::sandbox::SandboxSettings;
use crate::set_up::{BuildContext, SetUpError};
use crate::stripe::StripeSettings;

/// The settings of all providers.
#[derive(Args, Clone, Debug)]
pub struct ProviderSettings {
    /// The sandbox provider.
    #[command(flatten)]
    pub sandbox: SandboxSettings,
    /// Stripe.
    #[command(flatten)]
    pub stripe: StripeSettings,
}

/// Makes the bare adapter from its settings; none if the operator has not set its key. The registry puts a
/// [`Guarded`](crate::Guarded) around it.
pub type Build = dyn Fn(&ProviderSettings, &BuildContext<'_>) -> Result<Option<Box<dyn Provider>>, SetUpError>
    + Send
    + Sync;

/// A provider as the registry lists it.
#[derive(Clone)]
pub struct ProviderDescriptor {
    /// The name in addresses, in the inbox, in metadata and in metrics: lower-case letters, digits and
    /// hyphens, at most 40.
    pub name: &'static str,
    /// One line for `--help`.
    pub summary: &'static str,
    /// The environment variable that the operator must set so that the provider is used.
    pub key_variable: &'static str,
    /// How its webhooks look, for the description of the API.
    pub webhooks: WebhookFormat,
    /// Makes it.
    pub build: Arc<Build>,
}

/// How a provider's webhooks look.
#[derive(Clone, Copy, Debug)]
pub struct WebhookFormat {
    /// The title of the route.
    pub summary: &'static str,
    /// How they are signed, as a sentence.
    pub signature: &'static str,
    /// The headers that carry the signature, each with a description.
    pub headers: &'static [(&'static str, &'static str)],
    /// The body.
    pub body: &'static str,
}
