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

    /// Money as a person types it: major units, with a point or a comma before the decimals and nothing
    /// between thousands, such as `12`, `12.5` or `12,50`.
    ///
    /// ```
    /// let eur: domain::Currency = "EUR".parse()?;
    /// assert_eq!(domain::Money::from_major("12,50", eur)?.amount_minor(), 1250);
    /// assert!(domain::Money::from_major("1,250", eur).is_err(), "a cent has two decimals");
    /// # Ok::<(), domain::MoneyError>(())
    /// ```
    ///
    /// # Errors
    /// [`MoneyError::NotANumber`], [`MoneyError::NotPositive`] or [`MoneyError::TooLarge`].
    pub fn from_major(text: &str, currency: Currency) -> Result<Self, MoneyError> {
        let decimals = usize::from(currency.exponent());
        let not_a_number = MoneyError::NotANumber { decimals };
        let text = text.trim();
        let (major, minor) = text.split_once(['.', ',']).unwrap_or((text, ""));
        let is_shaped =
            !major.is_empty() && minor.len() <= decimals && (minor.is_empty() == (major.len() == text.len()));
        if !is_shaped || !major.bytes().chain(minor.bytes()).all(|byte| byte.is_ascii_digit()) {
            return Err(not_a_number);
        }
        // Of digits alone, only too many are no number.
        let amount_minor = format!("{major}{minor:0<decimals$}").parse().map_err(|_| MoneyError::TooLarge)?;
        Self::new(amount_minor, currency)
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
    /// Not an amount in major units, as a person types it.
    #[error("{}", not_a_number(*decimals))]
    NotANumber {
        /// The decimals of the currency.
        decimals: usize,
    },
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

fn not_a_number(decimals: usize) -> String {
    match decimals {
        0 => "must be a number without decimals, such as 1250".to_owned(),
        _ => format!("must be a number with at most {decimals} decimals, such as 12.{:0>decimals$}", 5),
    }
}

/// Amounts of several currencies, such as `EUR:100,JPY:100` for 1.00 EUR and 100 JPY: whole minor units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AmountsByCurrency(Vec<(Currency, i64)>);

impl AmountsByCurrency {
    /// The amount of a currency in minor units, if it is listed.
    pub fn of(&self, currency: Currency) -> Option<i64> {
        self.iter().find(|(listed, _)| *listed == currency).map(|(_, minor)| minor)
    }

    /// Every currency, with its amount in minor units.
    pub fn iter(&self) -> impl Iterator<Item = (Currency, i64)> {
        self.0.iter().copied()
    }
}

impl FromStr for AmountsByCurrency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut amounts = Self::default();
        for part in text.split(',') {
            let malformed = || {
                format!(
                    "{part:?} is no amount of a currency; write currencies and whole minor units, such as \
                     EUR:100,JPY:100 for 1.00 EUR and 100 JPY"
                )
            };
            let (code, amount) = part.trim().split_once(':').ok_or_else(malformed)?;
            let currency: Currency = code.parse().map_err(|_| malformed())?;
            let amount = amount.parse().ok().and_then(|minor| Money::new(minor, currency).ok());
            let amount = amount.ok_or_else(malformed)?;
            if amounts.of(currency).is_some() {
                return Err(format!("{currency} stands there twice"));
            }
            amounts.0.push((currency, amount.amount_minor()));
        }
        Ok(amounts)
    }
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
    fn typed_amounts_are_never_misread() {
        let typed = |text, code: &str| Money::from_major(text, code.parse().unwrap());
        for (text, code, minor) in [
            ("12", "EUR", 1200),
            (" 12.5 ", "EUR", 1250),
            ("12,50", "EUR", 1250),
            ("0.05", "EUR", 5),
            ("007", "EUR", 700),
            ("1250", "JPY", 1250),
            ("1.250", "KWD", 1250),
        ] {
            assert_eq!(typed(text, code), money(minor, code), "{text} {code}");
        }
        let malformed =
            ["", ".", "12.", ".5", "1.250", "1,250.00", "1 250", "1'250", "-1", "+1", "1e3", "EUR 1", "١"];
        for text in malformed {
            assert_eq!(typed(text, "EUR"), Err(MoneyError::NotANumber { decimals: 2 }), "{text}");
        }
        assert_eq!(typed("1.0", "JPY"), Err(MoneyError::NotANumber { decimals: 0 }));
        assert_eq!(typed("0.00", "EUR"), Err(MoneyError::NotPositive));
        for much in ["10000000000.01", "99999999999999999999999"] {
            assert_eq!(typed(much, "EUR"), Err(MoneyError::TooLarge), "{much}");
        }
        assert!(typed("x", "EUR").unwrap_err().to_string().contains("at most 2 decimals, such as 12.05"));
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_typed(minor in 1..=Money::MAX_MINOR, code in "EUR|JPY|KWD") {
            let shown = money(minor, &code).unwrap();
            let number = shown.to_string().split(' ').next().unwrap().to_owned();
            prop_assert_eq!(Money::from_major(&number, shown.currency()), Ok(shown));
        }
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

    #[test]
    fn amounts_are_of_currencies_and_in_minor_units() {
        let amounts: AmountsByCurrency = "EUR:100, JPY:500".parse().unwrap();
        let of = |code: &str| amounts.of(code.parse().unwrap());
        assert_eq!((of("EUR"), of("JPY"), of("USD")), (Some(100), Some(500), None));
        for bad in ["", "100", "EUR", "EUR:", "EUR:1.00", "EUR:0", "EUR:-1", "eur:100", "XXX:1", "EUR:100,"] {
            assert!(
                bad.parse::<AmountsByCurrency>().unwrap_err().contains("no amount of a currency"),
                "{bad}"
            );
        }
        assert_eq!("EUR:1,EUR:2".parse::<AmountsByCurrency>(), Err("EUR stands there twice".to_owned()));
    }
}
