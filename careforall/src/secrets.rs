//! Secrets that `up` makes where none are set, kept in the data folder so that a restart finds
//! them again.

use std::path::Path;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::embedded::{kept_secret, random_bytes};
use crate::settings::Settings;

/// The secrets of a running system.
pub(crate) struct Secrets {
    pub(crate) admin_token: String,
    /// Whether the token was made here, and so must be shown to whoever started the program.
    pub(crate) admin_token_is_ours: bool,
    pub(crate) sandbox_webhook_secret: String,
    pub(crate) sandbox_api_key: String,
}

impl Secrets {
    /// Those that are set, and for the others those in `data_dir`, made on first use.
    pub(crate) fn load_or_make(settings: &Settings, data_dir: &Path) -> anyhow::Result<Self> {
        let kept = |file: &str, make: fn() -> String| {
            kept_secret(&data_dir.join(file), make).context("a secret cannot be kept")
        };
        let token = || URL_SAFE_NO_PAD.encode(random_bytes::<24>());
        let admin_token = match &settings.admin_token {
            Some(token) => token.clone(),
            None => kept("admin.token", token)?,
        };
        let sandbox_api_key = match &settings.sandbox_api_key {
            Some(key) => key.clone(),
            None => kept("sandbox-api.key", token)?,
        };
        let sandbox_webhook_secret = match &settings.sandbox_webhook_secret {
            Some(secret) => secret.clone(),
            None => {
                kept("sandbox-webhook.secret", || format!("whsec_{}", STANDARD.encode(random_bytes::<24>())))?
            }
        };
        let admin_token_is_ours = settings.admin_token.is_none();
        Ok(Self { admin_token, admin_token_is_ours, sandbox_webhook_secret, sandbox_api_key })
    }
}
