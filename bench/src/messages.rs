//! Signed messages of the sandbox provider.

use chrono::{SecondsFormat, Utc};
use payments::{WebhookSecret, sign};
use uuid::Uuid;

/// A signed message: its header lines and its body.
pub(crate) struct SignedMessage {
    pub(crate) headers: String,
    pub(crate) body: String,
}

/// A message of 25.00 EUR. Messages with ids of the same length are of the same length.
pub(crate) fn money(
    secret: &WebhookSecret,
    webhook_id: &str,
    kind: &str,
    pledge_id: Uuid,
    payment_id: &str,
) -> SignedMessage {
    let now = Utc::now();
    let at = now.to_rfc3339_opts(SecondsFormat::Micros, true);
    let body = format!(
        r#"{{"type":"{kind}","timestamp":"{at}","data":{{"pledge_id":"{pledge_id}","payment_id":"{payment_id}","amount":{{"amount_minor":2500,"currency":"EUR"}}}}}}"#
    );
    let signature = sign(secret, webhook_id, now.timestamp(), body.as_bytes());
    let headers = format!(
        "webhook-id: {webhook_id}\r\nwebhook-timestamp: {}\r\nwebhook-signature: {signature}\r\n",
        now.timestamp()
    );
    SignedMessage { headers, body }
}
