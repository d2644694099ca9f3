//! Signatures of Stripe's webhooks: <https://docs.stripe.com/webhooks#verify-manually>.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::SignatureError;
use crate::signature::require_recent;

/// The header that carries a signature.
pub(super) const HEADER: &str = "stripe-signature";

/// The live secrets of webhook endpoints at Stripe, separated by commas: several during a rotation.
/// Stripe signs with the text as it stands, `whsec_` included.
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointSecrets(Vec<String>);

impl FromStr for EndpointSecrets {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let secrets: Vec<String> = text.split(',').map(|secret| secret.trim().to_owned()).collect();
        let well_formed = |secret: &String| secret.strip_prefix("whsec_").is_some_and(|key| !key.is_empty());
        if secrets.iter().all(well_formed) {
            Ok(Self(secrets))
        } else {
            Err("must be a signing secret of a webhook endpoint, whsec_…; several separated by commas".into())
        }
    }
}

impl fmt::Debug for EndpointSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EndpointSecrets(…)")
    }
}

/// Checks that a message was signed with one of `secrets`, and recently. `header` is
/// `t=TIMESTAMP,v1=HEX`, with further signatures while Stripe rotates a secret.
pub(super) fn verify(
    secrets: &EndpointSecrets,
    header: &str,
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<(), SignatureError> {
    let fields = || header.split(',').filter_map(|field| field.trim().split_once('='));
    let timestamp = fields().find_map(|(name, value)| (name == "t").then_some(value)).unwrap_or_default();
    require_recent(timestamp, now)?;
    // Once for each secret, not for each signature: a hostile header may hold thousands.
    let expected: Vec<_> = secrets.0.iter().map(|secret| mac(secret, timestamp, body)).collect();
    let mut given = fields().filter(|(name, _)| *name == "v1").flat_map(|(_, value)| hex::decode(value));
    let matches = given.any(|signature| expected.iter().any(|mac| mac.as_slice().ct_eq(&signature).into()));
    if matches { Ok(()) } else { Err(SignatureError::NoMatch) }
}

/// The value of `Stripe-Signature` for a message, as Stripe makes it.
pub fn sign(secret: &str, timestamp: i64, body: &[u8]) -> String {
    format!("t={timestamp},v1={}", hex::encode(mac(secret, &timestamp.to_string(), body)))
}

fn mac(secret: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(secret.as_bytes())
        .unwrap_or_else(|_| unreachable!("HMAC takes a key of any length"));
    for part in [timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_the_present_one";
    const NOW: i64 = 1_700_000_000;
    const BODY: &[u8] = br#"{"id":"evt_1"}"#;

    fn secrets(text: &str) -> EndpointSecrets {
        text.parse().unwrap()
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn check(secrets_text: &str, header: &str, body: &[u8], now: i64) -> Result<(), SignatureError> {
        verify(&secrets(secrets_text), header, body, at(now))
    }

    /// Made with `printf '1700000000.{"id":"evt_1"}' | openssl dgst -sha256 -hmac whsec_the_present_one`.
    const BY_OPENSSL: &str =
        "t=1700000000,v1=c556e6a71c7db0b0eea880859b47798c9c0577e379ab1013810de708ac107187";

    #[test]
    fn a_signature_that_was_made_elsewhere() {
        assert_eq!(sign(SECRET, NOW, BODY), BY_OPENSSL);
        assert_eq!(check(SECRET, BY_OPENSSL, BODY, NOW), Ok(()));
    }

    #[test]
    fn one_good_signature_by_one_live_secret_is_enough() {
        let header = sign(SECRET, NOW, BODY);
        assert_eq!(check("whsec_new,whsec_the_present_one", &header, BODY, NOW), Ok(()));
        assert_eq!(check("whsec_new", &header, BODY, NOW), Err(SignatureError::NoMatch), "retired");
        let (time, signature) = header.split_once(',').unwrap();
        let several = format!("{time}, v0=00, v1={}, v1=zz, {signature}", "00".repeat(32));
        assert_eq!(check(SECRET, &several, BODY, NOW), Ok(()));
        let other_scheme = header.replace("v1=", "v0=");
        assert_eq!(check(SECRET, &other_scheme, BODY, NOW), Err(SignatureError::NoMatch));
    }

    #[test]
    fn an_altered_byte_is_noticed() {
        let header = sign(SECRET, NOW, BODY);
        let mut body = BODY.to_vec();
        body[3] ^= 1;
        assert_eq!(check(SECRET, &header, &body, NOW), Err(SignatureError::NoMatch));
        let later = header.replace("t=1700000000", "t=1700000001");
        assert_eq!(check(SECRET, &later, BODY, NOW), Err(SignatureError::NoMatch));
    }

    #[test]
    fn the_tolerance_has_two_sides() {
        let header = sign(SECRET, NOW, BODY);
        assert_eq!(check(SECRET, &header, BODY, NOW + 300), Ok(()));
        assert_eq!(check(SECRET, &header, BODY, NOW - 300), Ok(()));
        for now in [NOW + 301, NOW - 301] {
            assert_eq!(check(SECRET, &header, BODY, now), Err(SignatureError::TimestampOutOfTolerance));
        }
        for malformed in ["", "v1=00", "t=,v1=00", "t=soon,v1=00", "t"] {
            let expected = Err(SignatureError::MalformedTimestamp);
            assert_eq!(check(SECRET, malformed, BODY, NOW), expected, "{malformed}");
        }
    }

    #[test]
    fn secrets_are_checked() {
        for bad in ["", "whsec_", "sk_test_1", "whsec_a,", "whsec_a,b"] {
            assert!(bad.parse::<EndpointSecrets>().is_err(), "{bad}");
        }
    }
}
