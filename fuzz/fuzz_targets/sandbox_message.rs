//! Any bytes as the body of a genuine message of the sandbox provider.
#![no_main]

use domain::Money;
use libfuzzer_sys::fuzz_target;
use payments::sandbox::parse;
use payments::{Notice, ParseError};

fuzz_target!(|body: &[u8]| {
    match parse(body) {
        Ok((message, notice)) => {
            // What was read is read again in the same way.
            assert_eq!(parse(body).map(|(_, again)| again), Ok(notice.clone()));
            match notice {
                Notice::Facts { facts, .. } => assert!(!facts.is_empty(), "{}", message.r#type),
                Notice::Ignored => {}
                Notice::Unaddressed { .. } | Notice::Payout { .. } => panic!("the sandbox says all it knows"),
            }
        }
        Err(error @ ParseError { .. }) => assert!(!error.to_string().is_empty()),
    }
    // The amount alone, which is what counts.
    if let Ok(text) = std::str::from_utf8(body)
        && let Ok(amount_minor) = text.parse::<i64>()
        && let Ok(money) = Money::new(amount_minor, "EUR".parse().unwrap())
    {
        assert!((1..=Money::MAX_MINOR).contains(&money.amount_minor()));
    }
});
