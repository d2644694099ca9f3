//! Money: whole minor units of one ISO 4217 currency.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An ISO 4217 currency that money can be paid in: it has minor units (an exponent).
///
/// Serialised as its three-letter code. Codes without an exponent, such as gold (`XAU`) or the
/// test code (`XXX`), are refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "&'static str")]
#[schema(value_type = String, pattern = "^[A-Z]{3}$")]
pub struct Currency(iso_currency::Currency);

impl Currency {
    /// The three-letter code, for example `EUR`.
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    /// How many decimal digits the minor unit stands behind the major one: 2 for EUR, 0 for JPY.
    pub fn exponent(self) -> u16 {
        self.0.exponent().unwrap_or_default()
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(code: &str) -> Result<Self, MoneyError> {
        iso_currency::Currency::from_code(code)
            .filter(|currency| currency.exponent().is_some())
            .map(Self)
            .ok_or(MoneyError::UnknownCurrency)
    }
}

impl TryFrom<String> for Currency {
    type Error = MoneyError;

    fn try_from(code: String) -> Result<Self, MoneyError> {
        code.parse()
    }
}

impl From<Currency> for &'static str {
    fn from(currency: Currency) -> Self {
        currency.code()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// An amount of money that changes hands: at least one minor unit, in one currency.
///
/// Written as `{"amount_minor": 2500, "currency": "EUR"}`. Arithmetic is checked: two currencies
/// never mix and nothing wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "RawMoney")]
pub struct Money {
    #[schema(minimum = 1, maximum = 1_000_000_000_000_i64)]
    amount_minor: i64,
    currency: Currency,
}

impl Money {
    /// The largest single amount, in minor units. Nine million of these still fit an `i64` sum.
    pub const MAX_MINOR: i64 = 1_000_000_000_000;

    /// Money of `amount_minor` minor units.
    ///
    /// # Errors
    /// [`MoneyError::NotPositive`] below one unit, [`MoneyError::TooLarge`] above [`Self::MAX_MINOR`].
    pub fn new(amount_minor: i64, currency: Currency) -> Result<Self, MoneyError> {
        match amount_minor {
            ..=0 => Err(MoneyError::NotPositive),
            1..=Self::MAX_MINOR => Ok(Self { amount_minor, currency }),
            _ => Err(MoneyError::TooLarge),
        }
    }

    /// The amount in minor units, at least 1.
    pub fn amount_minor(self) -> i64 {
        self.amount_minor
    }

    /// The currency.
    pub fn currency(self) -> Currency {
        self.currency
    }

    /// The sum of two amounts of one currency.
    ///
    /// # Errors
    /// [`MoneyError::CurrencyMismatch`] or [`MoneyError::TooLarge`].
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        self.require_same_currency(other)?;
        let sum = self.amount_minor.checked_add(other.amount_minor).ok_or(MoneyError::TooLarge)?;
        Self::new(sum, self.currency)
    }

    /// This amount less `other`, which must be smaller.
    ///
    /// # Errors
    /// [`MoneyError::CurrencyMismatch`] or [`MoneyError::NotPositive`].
    pub fn checked_sub(self, other: Self) -> Result<Self, MoneyError> {
        self.require_same_currency(other)?;
        let rest = self.amount_minor.checked_sub(other.amount_minor).ok_or(MoneyError::NotPositive)?;
        Self::new(rest, self.currency)
    }

    fn require_same_currency(self, other: Self) -> Result<(), MoneyError> {
        if self.currency == other.currency {
            Ok(())
        } else {
            Err(MoneyError::CurrencyMismatch { expected: self.currency, found: other.currency })
        }
    }
}

/// For people: major units with the currency's own number of decimals, `12.50 EUR` or `1250 JPY`.
impl fmt::Display for Money {
    #[expect(clippy::arithmetic_side_effects, reason = "the divisor is a power of ten")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = usize::from(self.currency.exponent());
        let scale = 10_i64.pow(u32::from(self.currency.exponent()));
        let (major, minor) = (self.amount_minor / scale, self.amount_minor % scale);
        match digits {
            0 => write!(f, "{major} {}", self.currency),
            _ => write!(f, "{major}.{minor:0digits$} {}", self.currency),
        }
    }
}

#[derive(Deserialize)]
struct RawMoney {
    amount_minor: i64,
    currency: Currency,
}

impl TryFrom<RawMoney> for Money {
    type Error = MoneyError;

    fn try_from(raw: RawMoney) -> Result<Self, MoneyError> {
        Self::new(raw.amount_minor, raw.currency)
    }
}

/// Why something is not an amount of money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Zero or negative.
    #[error("must be at least 1 minor unit")]
    NotPositive,
    /// Above the largest single amount.
    #[error("must be at most {} minor units", Money::MAX_MINOR)]
    TooLarge,
    /// Not an ISO 4217 code with minor units.
    #[error("must be an ISO 4217 currency code in capital letters, such as EUR")]
    UnknownCurrency,
    /// Two currencies in one sum.
    #[error("must be in {expected}, not in {found}")]
    CurrencyMismatch {
        /// The currency that was needed.
        expected: Currency,
        /// The currency that was given.
        found: Currency,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn money(amount_minor: i64, code: &str) -> Result<Money, MoneyError> {
        Money::new(amount_minor, code.parse()?)
    }

    #[test]
    fn amounts_have_both_limits() {
        assert_eq!(money(0, "EUR"), Err(MoneyError::NotPositive));
        assert_eq!(money(-1, "EUR"), Err(MoneyError::NotPositive));
        assert_eq!(money(Money::MAX_MINOR + 1, "EUR"), Err(MoneyError::TooLarge));
        assert!(money(1, "EUR").is_ok() && money(Money::MAX_MINOR, "EUR").is_ok());
    }

    #[test]
    fn only_payable_currencies() {
        for code in ["eur", "EURO", "", "XAU", "XXX", "ZZZ"] {
            assert_eq!(code.parse::<Currency>(), Err(MoneyError::UnknownCurrency), "{code}");
        }
        for code in ["EUR", "USD", "JPY", "KWD"] {
            assert!(code.parse::<Currency>().is_ok(), "{code}");
        }
    }

    #[test]
    fn shown_with_the_decimals_of_the_currency() {
        assert_eq!(money(1250, "EUR").unwrap().to_string(), "12.50 EUR");
        assert_eq!(money(5, "EUR").unwrap().to_string(), "0.05 EUR");
        assert_eq!(money(1250, "JPY").unwrap().to_string(), "1250 JPY");
        assert_eq!(money(1250, "KWD").unwrap().to_string(), "1.250 KWD");
    }

    #[test]
    fn json_is_checked_too() {
        let parsed: Money = serde_json::from_str(r#"{"amount_minor":2500,"currency":"EUR"}"#).unwrap();
        assert_eq!(parsed, money(2500, "EUR").unwrap());
        assert_eq!(serde_json::to_string(&parsed).unwrap(), r#"{"amount_minor":2500,"currency":"EUR"}"#);
        assert!(serde_json::from_str::<Money>(r#"{"amount_minor":0,"currency":"EUR"}"#).is_err());
    }

    proptest! {
        #[test]
        fn sums_are_exact_or_refused(a in 1..=Money::MAX_MINOR, b in 1..=Money::MAX_MINOR) {
            let (x, y) = (money(a, "USD").unwrap(), money(b, "USD").unwrap());
            match x.checked_add(y) {
                Ok(sum) => {
                    prop_assert_eq!(sum.amount_minor(), a + b);
                    prop_assert_eq!(sum.checked_sub(y), Ok(x));
                }
                Err(error) => {
                    prop_assert_eq!(error, MoneyError::TooLarge);
                    prop_assert!(a + b > Money::MAX_MINOR);
                }
            }
        }

        #[test]
        fn currencies_never_mix(a in 1..1000_i64, b in 1..1000_i64) {
            let (x, y) = (money(a, "USD").unwrap(), money(b, "EUR").unwrap());
            prop_assert!(x.checked_add(y).is_err() && x.checked_sub(y).is_err());
        }
    }
}
