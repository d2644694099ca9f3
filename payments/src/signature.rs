//! Signatures of webhooks by the Standard Webhooks specification:
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.
//!
//! The specification's own crate is not used for verifying: it subtracts a timestamp that it has
//! not bounded, which a hostile header can make overflow.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac};
use reqwest::header::HeaderMap;
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// How far a message's timestamp may be from our clock.
const TOLERANCE_SECONDS: u64 = 5 * 60;

/// Secrets are copied by hand, and some tools leave the padding off.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A secret that is shared with a provider: `whsec_` and base64.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Vec<u8>);

impl FromStr for WebhookSecret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let malformed = || "must be whsec_ followed by base64 (24 random bytes are a good secret)".to_owned();
        let encoded = text.strip_prefix("whsec_").ok_or_else(malformed)?;
        let key = LENIENT.decode(encoded).map_err(|_| malformed())?;
        if key.is_empty() { Err(malformed()) } else { Ok(Self(key)) }
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

/// The live secrets of a provider, separated by commas: several during a rotation. The first is the
/// one to sign with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookSecrets(Vec<WebhookSecret>);

impl WebhookSecrets {
    /// The one to sign with.
    pub fn first(&self) -> &WebhookSecret {
        &self.0[0]
    }

    /// All of them, at least one.
    pub fn all(&self) -> &[WebhookSecret] {
        &self.0
    }
}

impl FromStr for WebhookSecrets {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let secrets: Result<Vec<_>, _> = text.split(',').map(|secret| secret.trim().parse()).collect();
        secrets.map(Self)
    }
}

/// The headers that sign a message by the specification, or by the names that they had at Svix, where it
/// comes from.
pub(crate) struct StandardHeaders<'a> {
    pub(crate) id: &'a str,
    pub(crate) timestamp: &'a str,
    /// Of every line of the header.
    pub(crate) signatures: String,
}

impl<'a> StandardHeaders<'a> {
    /// Finds them among `headers`.
    ///
    /// # Errors
    /// [`SignatureError::MissingHeader`] or [`SignatureError::RepeatedHeader`].
    pub(crate) fn of(headers: &'a HeaderMap) -> Result<Self, SignatureError> {
        let standard = ["webhook-id", "webhook-timestamp", "webhook-signature"];
        let svix = ["svix-id", "svix-timestamp", "svix-signature"];
        let is_there = |names: [&str; 3]| names.iter().any(|name| headers.contains_key(*name));
        let [id, timestamp, signature] = if is_there(svix) && !is_there(standard) { svix } else { standard };
        let lines: Vec<&str> =
            headers.get_all(signature).iter().filter_map(|line| line.to_str().ok()).collect();
        if lines.is_empty() {
            return Err(SignatureError::MissingHeader(signature));
        }
        let (id, timestamp) = (required(headers, id)?, required(headers, timestamp)?);
        Ok(Self { id, timestamp, signatures: lines.join(" ") })
    }
}

/// The headers and the body of a message, as they came.
#[derive(Clone, Copy, Debug)]
pub struct SignedMessage<'a> {
    /// `webhook-id`: the message's own id, the same for every delivery of it.
    pub id: &'a str,
    /// `webhook-timestamp`: seconds since 1970.
    pub timestamp: &'a str,
    /// `webhook-signature`: signatures of the form `v1,base64`, separated by spaces.
    pub signatures: &'a str,
    /// The bytes of the body.
    pub body: &'a [u8],
}

/// Why a message is not taken for genuine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A header that every genuine message has is not there.
    #[error("the header {0} is missing")]
    MissingHeader(&'static str),
    /// A header stands there several times, and each time could mean another message.
    #[error("the header {0} stands there several times")]
    RepeatedHeader(&'static str),
    /// The timestamp is not a number of seconds.
    #[error("the timestamp of the signature must be whole seconds since 1970")]
    MalformedTimestamp,
    /// Too old, or too far in the future: it may be a replay.
    #[error("the timestamp of the signature is more than {TOLERANCE_SECONDS} s away from our clock")]
    TimestampOutOfTolerance,
    /// None of the signatures is by any of the secrets.
    #[error("no signature matches the body and a secret")]
    NoMatch,
}

/// The value of a header that every genuine message has, once.
pub(crate) fn required<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, SignatureError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().and_then(|value| value.to_str().ok());
    match values.next() {
        None => value.ok_or(SignatureError::MissingHeader(name)),
        Some(_) => Err(SignatureError::RepeatedHeader(name)),
    }
}

/// Checks that a message is recent: it was signed at `timestamp`, in seconds since 1970.
pub(crate) fn require_recent(timestamp: &str, now: DateTime<Utc>) -> Result<(), SignatureError> {
    let seconds: i64 = timestamp.parse().map_err(|_| SignatureError::MalformedTimestamp)?;
    if seconds.abs_diff(now.timestamp()) > TOLERANCE_SECONDS {
        return Err(SignatureError::TimestampOutOfTolerance);
    }
    Ok(())
}

/// Checks that a message was signed with one of `secrets`, and recently.
///
/// # Errors
/// [`SignatureError`].
pub fn verify(
    secrets: &[WebhookSecret],
    message: SignedMessage<'_>,
    now: DateTime<Utc>,
) -> Result<(), SignatureError> {
    require_recent(message.timestamp, now)?;
    // Once for each secret, not for each signature: a hostile header may hold thousands.
    let expected: Vec<_> =
        secrets.iter().map(|secret| mac(secret, message.id, message.timestamp, message.body)).collect();
    // Whoever joins lines on the way puts commas between them (RFC 9110, section 5.3).
    let given = message.signatures.split(' ').map(|signature| signature.trim_end_matches(','));
    let given = given.filter_map(|signature| signature.strip_prefix("v1,"));
    let matches = given
        .flat_map(|signature| STANDARD.decode(signature))
        .any(|signature| expected.iter().any(|mac| mac.as_slice().ct_eq(&signature).into()));
    if matches { Ok(()) } else { Err(SignatureError::NoMatch) }
}

/// The value of `webhook-signature` for a message.
pub fn sign(secret: &WebhookSecret, id: &str, timestamp: i64, body: &[u8]) -> String {
    format!("v1,{}", STANDARD.encode(mac(secret, id, &timestamp.to_string(), body)))
}

fn mac(secret: &WebhookSecret, id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&secret.0)
        .unwrap_or_else(|_| unreachable!("HMAC takes a key of any length"));
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    // A vector of the specification's own library.
    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const ID: &str = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
    const TIMESTAMP: i64 = 1_649_367_553;
    const BODY: &[u8] = br#"{"email":"test@example.com","username":"test_user"}"#;
    const SIGNATURE: &str = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";

    fn secret(text: &str) -> WebhookSecret {
        text.parse().unwrap()
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn signatures_are_in_every_line_under_either_name() {
        for [id, timestamp, signature] in [
            ["webhook-id", "webhook-timestamp", "webhook-signature"],
            ["svix-id", "svix-timestamp", "svix-signature"],
        ] {
            let [one_id, one_time] = [(id, ID), (timestamp, "1649367553")];
            let [good, bad] = [(signature, SIGNATURE), (signature, "v1,AAAA v2,xyz")];
            let joined = format!("{SIGNATURE}, v1,AAAA");
            let joined = (signature, joined.as_str());
            for lines in [
                vec![one_id, one_time, good],
                vec![bad, one_id, good, one_time],
                vec![one_id, one_time, joined],
            ] {
                let lines = headers(&lines);
                let StandardHeaders { id, timestamp, signatures } = StandardHeaders::of(&lines).unwrap();
                let message = SignedMessage { id, timestamp, signatures: &signatures, body: BODY };
                assert_eq!(verify(&[secret(SECRET)], message, at(TIMESTAMP)), Ok(()), "{lines:?}");
            }
            for (lines, refusal) in [
                (vec![one_time, good], SignatureError::MissingHeader(id)),
                (vec![one_id, good], SignatureError::MissingHeader(timestamp)),
                (vec![one_id, one_time], SignatureError::MissingHeader(signature)),
                (vec![one_id, one_time, good, one_id], SignatureError::RepeatedHeader(id)),
                (vec![one_id, one_time, good, (timestamp, "1")], SignatureError::RepeatedHeader(timestamp)),
            ] {
                let lines = headers(&lines);
                assert_eq!(StandardHeaders::of(&lines).err(), Some(refusal), "{lines:?}");
            }
        }
        assert_eq!(
            StandardHeaders::of(&headers(&[])).err(),
            Some(SignatureError::MissingHeader("webhook-signature"))
        );
    }

    #[test]
    fn the_names_of_the_specification_come_first() {
        let both = headers(&[
            ("svix-id", "another"),
            ("svix-timestamp", "1"),
            ("svix-signature", "v1,AAAA"),
            ("webhook-id", ID),
            ("webhook-timestamp", "1649367553"),
            ("webhook-signature", SIGNATURE),
        ]);
        let found = StandardHeaders::of(&both).unwrap();
        assert_eq!((found.id, found.timestamp, found.signatures.as_str()), (ID, "1649367553", SIGNATURE));
    }

    fn message<'a>(signatures: &'a str, timestamp: &'a str, body: &'a [u8]) -> SignedMessage<'a> {
        SignedMessage { id: ID, timestamp, signatures, body }
    }

    #[test]
    fn the_specifications_vector() {
        assert_eq!(sign(&secret(SECRET), ID, TIMESTAMP, BODY), SIGNATURE);
        let genuine = message(SIGNATURE, "1649367553", BODY);
        assert_eq!(verify(&[secret(SECRET)], genuine, at(TIMESTAMP)), Ok(()));
    }

    #[test]
    fn one_good_signature_by_one_live_secret_is_enough() {
        let other = secret("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let both = format!("v1,AAAA v2,xyz {SIGNATURE}");
        let genuine = message(&both, "1649367553", BODY);
        assert_eq!(verify(&[other.clone(), secret(SECRET)], genuine, at(TIMESTAMP)), Ok(()));
        assert_eq!(verify(&[other], genuine, at(TIMESTAMP)), Err(SignatureError::NoMatch));
        assert_eq!(verify(&[], genuine, at(TIMESTAMP)), Err(SignatureError::NoMatch));
    }

    #[test]
    fn an_altered_byte_is_noticed() {
        let secrets = [secret(SECRET)];
        let mut body = BODY.to_vec();
        body[3] ^= 1;
        let altered = message(SIGNATURE, "1649367553", &body);
        assert_eq!(verify(&secrets, altered, at(TIMESTAMP)), Err(SignatureError::NoMatch));
        let later = message(SIGNATURE, "1649367554", BODY);
        assert_eq!(verify(&secrets, later, at(TIMESTAMP)), Err(SignatureError::NoMatch));
    }

    #[test]
    fn the_tolerance_has_two_sides_and_no_overflow() {
        let secrets = [secret(SECRET)];
        let genuine = message(SIGNATURE, "1649367553", BODY);
        assert_eq!(verify(&secrets, genuine, at(TIMESTAMP + 300)), Ok(()));
        assert_eq!(verify(&secrets, genuine, at(TIMESTAMP - 300)), Ok(()));
        for now in [TIMESTAMP + 301, TIMESTAMP - 301] {
            assert_eq!(verify(&secrets, genuine, at(now)), Err(SignatureError::TimestampOutOfTolerance));
        }
        for hostile in ["-9223372036854775808", "9223372036854775807"] {
            let message = message(SIGNATURE, hostile, BODY);
            assert_eq!(
                verify(&secrets, message, at(TIMESTAMP)),
                Err(SignatureError::TimestampOutOfTolerance)
            );
        }
        for malformed in ["", "soon", "1e9", "99999999999999999999"] {
            let message = message(SIGNATURE, malformed, BODY);
            assert_eq!(verify(&secrets, message, at(TIMESTAMP)), Err(SignatureError::MalformedTimestamp));
        }
    }

    #[test]
    fn secrets_are_checked() {
        for bad in ["", "C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_", "whsec_!!"] {
            assert!(bad.parse::<WebhookSecret>().is_err(), "{bad}");
        }
        assert_eq!(secret("whsec_c2hvcnQ"), secret("whsec_c2hvcnQ="));
        let two: WebhookSecrets = format!("whsec_c2hvcnQ, {SECRET}").parse().unwrap();
        assert_eq!((two.first(), two.all().len()), (&secret("whsec_c2hvcnQ"), 2));
        for bad in ["", "whsec_c2hvcnQ,", "whsec_c2hvcnQ,short"] {
            assert!(bad.parse::<WebhookSecrets>().is_err(), "{bad}");
        }
    }
}
