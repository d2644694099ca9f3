//! Any headers over any body. Nobody guesses a signature; a good one is taken, and one over other
//! bytes is not.
#![no_main]

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use libfuzzer_sys::fuzz_target;
use payments::sandbox::Sandbox;
use payments::stripe::{self, Stripe};
use payments::{MessageError, Provider, WebhookSecret, sign};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const NOW: i64 = 1_700_000_000;

static KEY: LazyLock<WebhookSecret> = LazyLock::new(|| SECRET.parse().unwrap());

static SANDBOX: LazyLock<Sandbox> = LazyLock::new(|| {
    let url = "http://127.0.0.1:1".parse().unwrap();
    Sandbox::new(url, "key".to_owned(), vec![KEY.clone()]).unwrap()
});

static STRIPE: LazyLock<Stripe> = LazyLock::new(|| {
    let url = "http://127.0.0.1:1".parse().unwrap();
    Stripe::new(url, "sk_test".to_owned(), Some(SECRET.parse().unwrap())).unwrap()
});

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW, 0).unwrap()
}

/// Whether the signature of a message is refused; its body may be, too.
fn is_forged(provider: &dyn Provider, headers: &HeaderMap, body: &[u8]) -> bool {
    matches!(provider.verify_and_parse(headers, body, now()), Err(MessageError::NotGenuine(_)))
}

fn headers(fields: &[(&'static str, &[u8])]) -> Option<HeaderMap> {
    let pair = |(name, value): &(&'static str, &[u8])| {
        Some((HeaderName::from_static(name), HeaderValue::from_bytes(value).ok()?))
    };
    fields.iter().map(pair).collect()
}

// Lines are an id, a timestamp and a signature; the rest is the body.
fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(4, |byte| *byte == b'\n');
    let [id, timestamp, signature, body] = [(); 4].map(|()| parts.next().unwrap_or_default());

    let guessed = [("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature)];
    if let Some(headers) = headers(&guessed) {
        assert!(is_forged(&*SANDBOX, &headers, body));
    }
    if let Some(headers) = headers(&[("stripe-signature", signature)]) {
        assert!(is_forged(&*STRIPE, &headers, body));
    }

    let other = [body, b" "].concat();
    let good = stripe::sign(SECRET, NOW, body);
    let stripe_headers = headers(&[("stripe-signature", good.as_bytes())]).unwrap();
    assert!(!is_forged(&*STRIPE, &stripe_headers, body));
    assert!(is_forged(&*STRIPE, &stripe_headers, &other));

    let Ok(id) = std::str::from_utf8(id) else { return };
    let good = sign(&KEY, id, NOW, body);
    let fields = [
        ("webhook-id", id.as_bytes()),
        ("webhook-timestamp", b"1700000000"),
        ("webhook-signature", good.as_bytes()),
    ];
    // A header takes visible ASCII only.
    let Some(headers) = headers(&fields).filter(|headers| headers["webhook-id"].to_str().is_ok()) else {
        return;
    };
    // An empty value, or one with spaces at its ends, is the same over HTTP and here.
    assert!(!is_forged(&*SANDBOX, &headers, body));
    assert!(is_forged(&*SANDBOX, &headers, &other));
});
