//! Any bytes as the body of a genuine event of Stripe.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use payments::stripe::Stripe;
use payments::{Notice, Provider};

static STRIPE: LazyLock<Stripe> =
    LazyLock::new(|| Stripe::new("http://127.0.0.1:1".parse().unwrap(), "sk_test".to_owned(), None).unwrap());

fuzz_target!(|body: &[u8]| {
    match STRIPE.parse(body) {
        Ok(notice) => {
            assert_eq!(STRIPE.parse(body), Ok(notice.clone()));
            match notice {
                Notice::Facts { facts, .. } => assert!(!facts.is_empty(), "facts without any"),
                Notice::Payout { payout_id } => assert!((1..=200).contains(&payout_id.chars().count())),
                Notice::Unaddressed { .. } | Notice::Ignored => {}
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
