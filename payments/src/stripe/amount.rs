//! Stripe's units of money. They are not ISO 4217's in every currency:
//! <https://docs.stripe.com/currencies#minor-units>.

use domain::{Currency, Money, MoneyError};

use crate::PayableAmounts;

/// Currencies whose amounts Stripe takes in whole units. Not all are without decimals in ISO 4217:
/// the ariary (MGA) has two there.
const ZERO_DECIMAL: [&str; 15] =
    ["BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"];

/// Currencies with three decimals, the last of which must be zero: card networks know only two.
const THREE_DECIMAL: [&str; 5] = ["BHD", "JOD", "KWD", "OMR", "TND"];

/// The currencies that Stripe takes: <https://docs.stripe.com/currencies#presentment-currencies>.
const TAKEN: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BWP BYN BZD \
    CAD CDF CHF CLP CNY COP CRC CVE CZK DJF DKK DOP DZD EGP ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD \
    HNL HTG HUF IDR ILS INR ISK JMD JOD JPY KES KGS KHR KMF KRW KWD KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD \
    MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB \
    RWF SAR SBD SCR SEK SGD SHP SLE SOS SRD STN SZL THB TJS TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VND VUV \
    WST XAF XCD XCG XOF XPF YER ZAR ZMW";

/// Currencies that lost their decimals. Stripe still takes them with two, and both must be zero.
const ONCE_TWO_DECIMAL: [&str; 2] = ["ISK", "UGX"];

/// The least amounts that Stripe publishes, in its units. What is paid out in another currency must come to
/// at least that currency's amount, at the rate of the day, which only Stripe knows:
/// <https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts>.
const LEAST: [(&str, i64); 31] = [
    ("AED", 200),
    ("ARS", 50),
    ("AUD", 50),
    ("BRL", 50),
    ("CAD", 50),
    ("CHF", 50),
    ("COP", 50),
    ("CZK", 1500),
    ("DKK", 250),
    ("EUR", 50),
    ("GBP", 30),
    ("HKD", 400),
    ("HUF", 17_500),
    ("IDR", 50),
    ("ILS", 50),
    ("INR", 50),
    ("JPY", 50),
    ("KRW", 50),
    ("MXN", 1000),
    ("MYR", 200),
    ("NOK", 300),
    ("NZD", 50),
    ("PHP", 50),
    ("PLN", 200),
    ("RON", 200),
    ("RUB", 50),
    ("SEK", 300),
    ("SGD", 50),
    ("THB", 1000),
    ("USD", 50),
    ("ZAR", 50),
];

/// The most that every way to pay takes, in Stripe's units: eight digits, and more in three currencies. Some
/// cards take more.
const MOST: i64 = 99_999_999;
const MOST_IN: [(&str, i64); 3] = [("COP", 9_999_999_999), ("IDR", 999_999_999_999), ("INR", 999_999_999)];

/// Why an amount cannot be put into Stripe's units, or out of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AmountError {
    #[error("Stripe takes {currency} only in steps of {step_minor} minor units")]
    Step { currency: Currency, step_minor: i64 },
    #[error("{currency} has no such fraction")]
    Fraction { currency: Currency },
    #[error(transparent)]
    Money(#[from] MoneyError),
}

/// The decimals of Stripe's unit.
fn decimals(currency: Currency) -> u32 {
    let code = currency.code();
    if ZERO_DECIMAL.contains(&code) {
        0
    } else if THREE_DECIMAL.contains(&code) {
        3
    } else {
        2
    }
}

/// The smallest step of an amount, in Stripe's units.
fn step(currency: Currency) -> i64 {
    let code = currency.code();
    if ONCE_TWO_DECIMAL.contains(&code) {
        100
    } else if THREE_DECIMAL.contains(&code) {
        10
    } else {
        1
    }
}

/// The amounts that Stripe takes in a currency.
pub(super) fn payable(currency: Currency) -> PayableAmounts {
    if !TAKEN.split(' ').any(|code| code == currency.code()) {
        return PayableAmounts::new(1, 0, 1);
    }
    let find = |table: &[(&str, i64)]| {
        table.iter().find(|(code, _)| *code == currency.code()).map(|(_, amount)| *amount)
    };
    let (least, most) = (find(&LEAST).unwrap_or(1), find(&MOST_IN).unwrap_or(MOST));
    let (up, down) = factors(currency);
    PayableAmounts::new((least * down - 1) / up + 1, most * down / up, step(currency) * down / up)
}

/// By what our amounts are multiplied, and then divided, to be in Stripe's units. One scale divides the
/// other, so one of the two is 1.
fn factors(currency: Currency) -> (i64, i64) {
    let (ours, theirs) = (scale(u32::from(currency.exponent())), scale(decimals(currency)));
    ((theirs / ours).max(1), (ours / theirs).max(1))
}

/// An amount in Stripe's units.
pub(super) fn to_stripe(amount: Money) -> Result<i64, AmountError> {
    let currency = amount.currency();
    let (up, down) = factors(currency);
    let in_their_units = amount.amount_minor() * up;
    let step = down * step(currency);
    if in_their_units % step == 0 {
        Ok(in_their_units / down)
    } else {
        Err(AmountError::Step { currency, step_minor: (step / up).max(1) })
    }
}

/// Money from Stripe's units, and its currency in lower case.
pub(super) fn from_stripe(amount: i64, currency: &str) -> Result<Money, AmountError> {
    let currency: Currency = currency.to_ascii_uppercase().parse()?;
    let (up, down) = factors(currency);
    if amount % up != 0 {
        return Err(AmountError::Fraction { currency });
    }
    let amount_minor = (amount / up).checked_mul(down).ok_or(MoneyError::TooLarge)?;
    Ok(Money::new(amount_minor, currency)?)
}

/// Ten to the power of a number of decimals; currencies have four at most.
fn scale(decimals: u32) -> i64 {
    10_i64.pow(decimals)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(amount_minor: i64, code: &str) -> Money {
        Money::new(amount_minor, code.parse().unwrap()).unwrap()
    }

    #[test]
    fn amounts_go_there_and_back() {
        for (amount_minor, code, theirs) in [
            (2550, "EUR", 2550),
            (1250, "JPY", 1250),
            // ISO 4217 has two decimals for the ariary, Stripe none.
            (1200, "MGA", 12),
            // ISO 4217 has none for these two, Stripe two.
            (5, "UGX", 500),
            (40, "ISK", 4000),
            (5120, "KWD", 5120),
            (100, "HUF", 100),
            (Money::MAX_MINOR, "USD", Money::MAX_MINOR),
        ] {
            assert_eq!(to_stripe(money(amount_minor, code)), Ok(theirs), "{code}");
            let lower = code.to_lowercase();
            assert_eq!(from_stripe(theirs, &lower), Ok(money(amount_minor, code)), "{code}");
        }
    }

    #[test]
    fn steps_that_are_too_small_for_stripe_are_refused() {
        for (amount_minor, code, step_minor) in [(5124, "KWD", 10), (1201, "MGA", 100)] {
            let currency = code.parse().unwrap();
            let expected = Err(AmountError::Step { currency, step_minor });
            assert_eq!(to_stripe(money(amount_minor, code)), expected, "{code}");
        }
        assert!(from_stripe(550, "ugx").is_err(), "half a shilling does not exist");
    }

    #[test]
    fn what_can_be_paid_is_in_our_minor_units() {
        for (code, least_minor, most_minor, step_minor) in [
            ("EUR", 50, 99_999_999, 1),
            ("GBP", 30, 99_999_999, 1),
            ("JPY", 50, 99_999_999, 1),
            ("KRW", 50, 99_999_999, 1),
            ("CLP", 1, 99_999_999, 1),
            // Stripe has no decimals of these, ISO 4217 has two.
            ("MGA", 100, 9_999_999_900, 100),
            // Stripe has two decimals of these, which are zero, and ISO 4217 has none.
            ("ISK", 1, 999_999, 1),
            ("UGX", 1, 999_999, 1),
            // Whole in payouts only.
            ("HUF", 17_500, 99_999_999, 1),
            ("TWD", 1, 99_999_999, 1),
            // The last of three decimals is zero.
            ("BHD", 10, 99_999_990, 10),
            ("JOD", 10, 99_999_990, 10),
            ("KWD", 10, 99_999_990, 10),
            ("OMR", 10, 99_999_990, 10),
            ("TND", 10, 99_999_990, 10),
            ("COP", 50, 9_999_999_999, 1),
            ("INR", 50, 999_999_999, 1),
            ("IDR", 50, 999_999_999_999, 1),
            ("THB", 1000, 99_999_999, 1),
        ] {
            let expected = PayableAmounts { least_minor, most_minor, step_minor };
            assert_eq!(payable(code.parse().unwrap()), expected, "{code}");
        }
    }

    /// Every limit can be put into Stripe's units, and nothing else than a whole step.
    #[test]
    fn what_can_be_paid_can_be_asked_for() {
        let codes = LEAST.iter().map(|(code, _)| *code).chain(ZERO_DECIMAL).chain(THREE_DECIMAL);
        for code in codes.chain(ONCE_TWO_DECIMAL).chain(["TWD"]) {
            let PayableAmounts { least_minor, most_minor, step_minor } = payable(code.parse().unwrap());
            for amount_minor in [least_minor, least_minor + step_minor, most_minor] {
                assert!(to_stripe(money(amount_minor, code)).is_ok(), "{amount_minor} {code}");
            }
            if step_minor > 1 {
                assert!(to_stripe(money(least_minor + 1, code)).is_err(), "{code}");
            }
        }
    }

    #[test]
    fn what_stripe_does_not_take_cannot_be_paid() {
        for code in ["IRR", "KPW", "CUP", "CLF", "UYW"] {
            assert!(payable(code.parse().unwrap()).is_empty(), "{code}");
        }
    }

    #[test]
    fn what_is_no_money_is_refused() {
        for (amount, code) in [(0, "usd"), (-1, "usd"), (1, "xxx"), (1, ""), (i64::MAX, "mga")] {
            assert!(from_stripe(amount, code).is_err(), "{amount} {code}");
        }
    }

    #[test]
    fn every_currency_we_know_has_scales_that_divide_each_other() {
        for currency in ["EUR", "JPY", "KWD", "CLF", "UYW", "MRU", "IQD", "ISK", "MGA"] {
            let major = 10_i64.pow(u32::from(currency.parse::<Currency>().unwrap().exponent()));
            let one = money(major, currency);
            let theirs = to_stripe(one).unwrap();
            assert_eq!(from_stripe(theirs, currency), Ok(one), "{currency}");
        }
    }
}
