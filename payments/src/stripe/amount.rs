//! Stripe's units of money. They are not ISO 4217's in every currency:
//! <https://docs.stripe.com/currencies#minor-units>.

use domain::{Currency, Money, MoneyError};

/// Currencies whose amounts Stripe takes in whole units. Not all are without decimals in ISO 4217:
/// the ariary (MGA) has two there.
const ZERO_DECIMAL: [&str; 15] =
    ["BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"];

/// Currencies with three decimals, the last of which must be zero: card networks know only two.
const THREE_DECIMAL: [&str; 5] = ["BHD", "JOD", "KWD", "OMR", "TND"];

/// Currencies that lost their decimals. Stripe still takes them with two, and both must be zero.
const ONCE_TWO_DECIMAL: [&str; 2] = ["ISK", "UGX"];

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

/// An amount in Stripe's units.
pub(super) fn to_stripe(amount: Money) -> Result<i64, AmountError> {
    let currency = amount.currency();
    let (ours, theirs) = (scale(u32::from(currency.exponent())), scale(decimals(currency)));
    // One of the two scales divides the other, so one of these factors is 1.
    let (up, down) = ((theirs / ours).max(1), (ours / theirs).max(1));
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
    let (ours, theirs) = (scale(u32::from(currency.exponent())), scale(decimals(currency)));
    let (up, down) = ((ours / theirs).max(1), (theirs / ours).max(1));
    if amount % down != 0 {
        return Err(AmountError::Fraction { currency });
    }
    let amount_minor = (amount / down).checked_mul(up).ok_or(MoneyError::TooLarge)?;
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
