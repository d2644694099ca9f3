//! Stripe's settings.

use clap::Args;
use reqwest::Url;

use super::{EndpointSecrets, Stripe};
use crate::set_up::parse_url;
use crate::{BuildContext, Provider, SetUpError};

pub(super) const API_KEY: &str = "CAREFORALL_STRIPE_API_KEY";
const WEBHOOK_SECRET: &str = "CAREFORALL_STRIPE_WEBHOOK_SECRET";

/// The settings of Stripe.
#[derive(Args, Clone, Debug)]
pub struct StripeSettings {
    /// Secret or restricted key of Stripe's API. Without one, Stripe is not used.
    #[arg(long, env = API_KEY, hide_env_values = true)]
    pub stripe_api_key: Option<String>,

    /// Signing secrets of the webhook endpoint at Stripe: whsec_…, several separated by commas.
    #[arg(long, env = WEBHOOK_SECRET, hide_env_values = true)]
    pub stripe_webhook_secret: Option<EndpointSecrets>,

    /// Address of Stripe's API.
    #[arg(
        long, env = "CAREFORALL_STRIPE_API_BASE", default_value = "https://api.stripe.com",
        value_parser = parse_url,
    )]
    pub stripe_api_base: Url,
}

impl StripeSettings {
    pub(super) fn build(&self, context: &BuildContext<'_>) -> Result<Option<Box<dyn Provider>>, SetUpError> {
        let Some(api_key) = self.stripe_api_key.clone() else { return Ok(None) };
        let secrets = context.webhook_secret(&self.stripe_webhook_secret, WEBHOOK_SECRET)?;
        Ok(Some(Box::new(Stripe::new(self.stripe_api_base.clone(), api_key, secrets)?)))
    }
}
