//! The sandbox provider's settings.

use clap::Args;
use reqwest::Url;

use super::Sandbox;
use crate::set_up::parse_url;
use crate::{BuildContext, Provider, SetUpError, WebhookSecrets};

/// The file in the data folder in which `careforall up` keeps the key that it made.
pub const API_KEY_FILE: &str = "sandbox-api.key";

pub(super) const API_KEY: &str = "CAREFORALL_SANDBOX_API_KEY";
const WEBHOOK_SECRET: &str = "CAREFORALL_SANDBOX_WEBHOOK_SECRET";
const URL: &str = "CAREFORALL_SANDBOX_URL";

/// The settings of the sandbox provider.
#[derive(Args, Clone, Debug)]
pub struct SandboxSettings {
    /// Secrets that the sandbox provider's webhooks are signed with: whsec_ and base64, several
    /// separated by commas. The provider signs with the first. `up` makes one where none is set.
    #[arg(long, env = WEBHOOK_SECRET, hide_env_values = true)]
    pub sandbox_webhook_secret: Option<WebhookSecrets>,

    /// Key of the sandbox provider's API. `up` makes one where none is set.
    #[arg(long, env = API_KEY, hide_env_values = true)]
    pub sandbox_api_key: Option<String>,

    /// Address of the sandbox provider's API. [default: this process]
    #[arg(long, env = URL, value_parser = parse_url)]
    pub sandbox_url: Option<Url>,
}

impl SandboxSettings {
    pub(super) fn build(&self, context: &BuildContext<'_>) -> Result<Option<Box<dyn Provider>>, SetUpError> {
        let made_by_up = || {
            let key = std::fs::read_to_string(context.data_dir?.join(API_KEY_FILE)).ok()?;
            Some(key.trim().to_owned())
        };
        let Some(api_key) = self.sandbox_api_key.clone().or_else(made_by_up) else { return Ok(None) };
        let url = self.sandbox_url.as_ref().or(context.local_url).ok_or(SetUpError::NotSet(URL))?;
        let secrets = context.webhook_secret(&self.sandbox_webhook_secret, WEBHOOK_SECRET)?;
        let secrets = secrets.map(|secrets| secrets.all().to_vec()).unwrap_or_default();
        Ok(Some(Box::new(Sandbox::new(url.clone(), api_key, secrets)?)))
    }
}
