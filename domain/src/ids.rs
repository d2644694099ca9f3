//! Ids, and the keyed hashes that make them.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::email::Email;
use crate::text::{TextError, token};

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }
    };
}

uuid_id!(
    /// A campaign: the id of its aggregate.
    CampaignId
);
uuid_id!(
    /// A pledge: the id of its aggregate. It is derived from who pledges and their idempotency
    /// key, cannot be guessed, and is never published: holding it is what lets a guest amend it.
    PledgeId
);
uuid_id!(
    /// A donor's pseudonym: a keyed hash of the e-mail address.
    DonorId
);

macro_rules! provider_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(try_from = "String")]
        #[schema(min_length = 1, max_length = 200, pattern = "^[!-~]+$")]
        pub struct $name(String);

        impl $name {
            /// The id as the provider writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = TextError;

            fn from_str(text: &str) -> Result<Self, TextError> {
                token(text, 200).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = TextError;

            fn try_from(text: String) -> Result<Self, TextError> {
                text.parse()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

provider_id!(
    /// The provider's own id of a payment: 1 to 200 visible ASCII characters.
    PaymentId
);
provider_id!(
    /// The provider's own id of a refund: 1 to 200 visible ASCII characters.
    RefundId
);
provider_id!(
    /// The provider's own id of a dispute: 1 to 200 visible ASCII characters.
    DisputeId
);
provider_id!(
    /// The provider's own id of a reversal, or the payment's where it gives a reversal none: 1 to 200
    /// visible ASCII characters.
    ReversalId
);

/// The caller's own name for a request, so that a repeat is recognised: 1 to 200 visible ASCII
/// characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl FromStr for IdempotencyKey {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        token(text, 200).map(Self)
    }
}

/// The secret under which pseudonyms and derived ids are made. Whoever lacks it can neither link
/// an address to a donor nor guess a pledge's id.
#[derive(Clone)]
pub struct IdKey {
    /// The key, worked in already: a derivation goes on from here.
    keyed: Hmac<Sha256>,
}

impl IdKey {
    /// The key from its 32 bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        let keyed = <Hmac<Sha256> as Mac>::new_from_slice(&bytes);
        Self { keyed: keyed.unwrap_or_else(|_| unreachable!("HMAC takes a key of any length")) }
    }

    /// The pseudonym of the donor behind an address.
    pub fn donor_id(&self, email: &Email) -> DonorId {
        DonorId(self.derive("donor", &[email.as_str()]))
    }

    /// The id of the pledge that `donor` makes under `key`: the same again for a retry.
    pub fn pledge_id(&self, donor: DonorId, key: &IdempotencyKey) -> PledgeId {
        PledgeId(self.derive("pledge", &[donor.0.hyphenated().encode_lower(&mut [0; 36]), &key.0]))
    }

    /// The id of the campaign that the organiser creates under `key`: the same again for a retry.
    pub fn campaign_id(&self, key: &IdempotencyKey) -> CampaignId {
        CampaignId(self.derive("campaign", &[&key.0]))
    }

    /// The name under which a provider is asked for the refund of `pledge` that the organiser asks for
    /// under `key`: the same again for a retry.
    pub fn refund_key(&self, pledge: PledgeId, key: &IdempotencyKey) -> String {
        self.derive("refund", &[&pledge.to_string(), &key.0]).to_string()
    }

    /// The id of the pledge that money of `payment`, which `pledge` holds apart, becomes when it is
    /// accepted: the same again for a retry, whoever accepts it.
    pub fn accepted_pledge_id(&self, pledge: PledgeId, payment: &PaymentId) -> PledgeId {
        PledgeId(self.derive("accepted", &[&pledge.to_string(), payment.as_str()]))
    }

    /// A fingerprint of a request, by which a repeat is told from another request under its key.
    pub fn fingerprint(&self, parts: &[&str]) -> String {
        self.derive("request", parts).simple().encode_lower(&mut [0; 32]).to_owned()
    }

    /// The first 122 bits of an HMAC-SHA-256 as a UUIDv8 (RFC 9562 section 5.8). Every part is
    /// preceded by its length, so that no two lists of parts run together.
    fn derive(&self, purpose: &str, parts: &[&str]) -> Uuid {
        let mut message = Vec::with_capacity(256);
        for part in std::iter::once(&purpose).chain(parts) {
            message.extend_from_slice(&(part.len() as u64).to_be_bytes());
            message.extend_from_slice(part.as_bytes());
        }
        let digest = self.keyed.clone().chain_update(message).finalize().into_bytes();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Uuid::new_v8(bytes)
    }
}

/// A secret does not print itself.
impl fmt::Debug for IdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_is_one_donor() {
        let key = IdKey::new([7; 32]);
        let plain: Email = "ada@example.org".parse().unwrap();
        let shouted: Email = "  Ada@Example.ORG ".parse().unwrap();
        assert_eq!(key.donor_id(&plain), key.donor_id(&shouted));
        assert_ne!(key.donor_id(&plain), IdKey::new([8; 32]).donor_id(&plain));
        assert_eq!(key.donor_id(&plain).0.get_version_num(), 8);
    }

    #[test]
    fn derived_ids_depend_on_caller_and_key() {
        let key = IdKey::new([7; 32]);
        let ada = key.donor_id(&"ada@example.org".parse().unwrap());
        let bob = key.donor_id(&"bob@example.org".parse().unwrap());
        let one: IdempotencyKey = "one".parse().unwrap();
        let two: IdempotencyKey = "two".parse().unwrap();
        assert_eq!(key.pledge_id(ada, &one), key.pledge_id(ada, &one));
        assert_ne!(key.pledge_id(ada, &one), key.pledge_id(ada, &two));
        assert_ne!(key.pledge_id(ada, &one), key.pledge_id(bob, &one));
        let (pledge, other) = (key.pledge_id(ada, &one), key.pledge_id(bob, &one));
        assert_eq!(key.refund_key(pledge, &one), key.refund_key(pledge, &one));
        assert_ne!(key.refund_key(pledge, &one), key.refund_key(pledge, &two));
        assert_ne!(key.refund_key(pledge, &one), key.refund_key(other, &one));
        let (a, b): (PaymentId, PaymentId) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert_eq!(key.accepted_pledge_id(pledge, &a), key.accepted_pledge_id(pledge, &a));
        assert_ne!(key.accepted_pledge_id(pledge, &a), key.accepted_pledge_id(pledge, &b));
        assert_ne!(key.accepted_pledge_id(pledge, &a), key.accepted_pledge_id(other, &a));
    }

    #[test]
    fn parts_do_not_run_together() {
        let key = IdKey::new([7; 32]);
        assert_ne!(key.fingerprint(&["ab", "c"]), key.fingerprint(&["a", "bc"]));
    }

    #[test]
    fn bad_texts_are_refused() {
        assert_eq!("a b".parse::<PaymentId>(), Err(TextError::NotPrintable));
        assert_eq!("".parse::<IdempotencyKey>(), Err(TextError::Empty));
        assert_eq!("x".repeat(201).parse::<IdempotencyKey>(), Err(TextError::TooLong { max_chars: 200 }));
    }
}
