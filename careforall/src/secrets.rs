//! Secrets that `up` makes where none are set, kept in the data folder so that a restart finds
//! them again.

use std::path::Path;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use payments::sandbox;

use crate::embedded::{kept_secret, random_bytes};
use crate::settings::Settings;

/// Completes `settings` by the secrets in `data_dir`, made on first use, where none are set. Returns
/// the organisers' token.
pub(crate) fn complete(settings: &mut Settings, data_dir: &Path) -> anyhow::Result<String> {
    let kept = |file: &str, make: fn() -> String| {
        kept_secret(&data_dir.join(file), make).context("a secret cannot be kept")
    };
    let token = || URL_SAFE_NO_PAD.encode(random_bytes::<24>());
    let webhook_secret = || format!("whsec_{}", STANDARD.encode(random_bytes::<24>()));
    let admin_token = match &settings.admin_token {
        Some(token) => token.clone(),
        None => kept("admin.token", token)?,
    };
    settings.admin_token = Some(admin_token.clone());
    let sandbox = &mut settings.providers.sandbox;
    if sandbox.sandbox_api_key.is_none() {
        sandbox.sandbox_api_key = Some(kept(sandbox::API_KEY_FILE, token)?);
    }
    if sandbox.sandbox_webhook_secret.is_none() {
        const FILE: &str = "sandbox-webhook.secret";
        let secret = kept(FILE, webhook_secret)?.parse().map_err(anyhow::Error::msg).context(FILE)?;
        sandbox.sandbox_webhook_secret = Some(secret);
    }
    Ok(admin_token)
}
