//! The amounts that a pledge may have: those that its provider takes, from a least one on that the operator
//! may set.

use std::collections::HashMap;
use std::str::FromStr;

use domain::{Currency, Money};
use payments::{PayableAmounts, Providers};
use service::{FieldErrors, NumberRange, Problem};

/// The least amounts of pledges, by currency.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeastPledges(HashMap<Currency, i64>);

impl FromStr for LeastPledges {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut least = HashMap::new();
        for part in text.split(',') {
            let (code, amount) = part.trim().split_once(':').ok_or_else(|| malformed(part))?;
            let currency: Currency = code.parse().map_err(|_| malformed(part))?;
            let amount = amount.parse().ok().and_then(|minor| Money::new(minor, currency).ok());
            let amount = amount.ok_or_else(|| malformed(part))?;
            if least.insert(currency, amount.amount_minor()).is_some() {
                return Err(format!("{currency} stands there twice"));
            }
        }
        Ok(Self(least))
    }
}

fn malformed(part: &str) -> String {
    format!(
        "{part:?} is no least amount; write currencies and whole minor units, such as EUR:100,JPY:100 for \
         1.00 EUR and 100 JPY"
    )
}

impl LeastPledges {
    /// The amounts that a pledge may have in a currency.
    pub(crate) fn possible(&self, providers: &Providers, currency: Currency) -> PayableAmounts {
        let payable = providers.for_check_outs().payable(currency);
        self.0.get(&currency).map_or(payable, |least| payable.from_least(*least))
    }

    /// Checks that something is left to pay.
    ///
    /// # Errors
    /// Which least amount is more than the provider takes.
    pub fn check(&self, providers: &Providers) -> Result<(), String> {
        let excessive = self.0.iter().find(|(currency, _)| self.possible(providers, **currency).is_empty());
        let Some((currency, least)) = excessive else { return Ok(()) };
        let provider = providers.for_check_outs();
        Err(format!(
            "{currency}:{least} is more than {} takes: {}",
            provider.name(),
            provider.payable(*currency)
        ))
    }

    /// Checks that a pledge may have this amount.
    ///
    /// # Errors
    /// 422 with the amounts that are possible.
    pub(crate) fn require(&self, providers: &Providers, amount: Money) -> Result<(), Problem> {
        let possible = self.possible(providers, amount.currency());
        if possible.contain(amount) {
            return Ok(());
        }
        let mut errors = FieldErrors::default();
        if possible.is_empty() {
            let provider = providers.for_check_outs().name();
            errors.add("amount.currency", format!("{} cannot be paid by {provider}", amount.currency()));
            return Err(errors.problem());
        }
        let PayableAmounts { least_minor, most_minor, step_minor } = possible;
        let range = NumberRange { least: least_minor, most: most_minor, step: step_minor };
        errors.add_range(
            "amount.amount_minor",
            format!("must be {possible} of {}", amount.currency()),
            range,
        );
        Err(errors.problem())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_amounts_are_of_currencies_and_in_minor_units() {
        let least: LeastPledges = "EUR:100, JPY:500".parse().unwrap();
        let of = |code: &str| least.0.get(&code.parse().unwrap()).copied();
        assert_eq!((of("EUR"), of("JPY"), of("USD")), (Some(100), Some(500), None));
        for bad in ["", "100", "EUR", "EUR:", "EUR:1.00", "EUR:0", "EUR:-1", "eur:100", "XXX:1", "EUR:100,"] {
            assert!(bad.parse::<LeastPledges>().unwrap_err().contains("no least amount"), "{bad}");
        }
        assert_eq!("EUR:1,EUR:2".parse::<LeastPledges>(), Err("EUR stands there twice".to_owned()));
    }
}
