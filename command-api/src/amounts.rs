//! The amounts that a pledge may have: those that its provider takes, from a least one on that the operator
//! may set.

use std::str::FromStr;

use domain::{AmountsByCurrency, Currency, Money};
use payments::{PayableAmounts, Providers};
use service::{FieldErrors, NumberRange, Problem};

/// The least amounts of pledges, by currency.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeastPledges(AmountsByCurrency);

impl FromStr for LeastPledges {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

impl LeastPledges {
    /// The amounts that a pledge may have in a currency.
    pub(crate) fn possible(&self, providers: &Providers, currency: Currency) -> PayableAmounts {
        let payable = providers.for_check_outs().payable(currency);
        self.0.of(currency).map_or(payable, |least| payable.from_least(least))
    }

    /// Checks that something is left to pay.
    ///
    /// # Errors
    /// Which least amount is more than the provider takes.
    pub fn check(&self, providers: &Providers) -> Result<(), String> {
        let excessive = self.0.iter().find(|(currency, _)| self.possible(providers, *currency).is_empty());
        let Some((currency, least)) = excessive else { return Ok(()) };
        let provider = providers.for_check_outs();
        Err(format!(
            "{currency}:{least} is more than {} takes: {}",
            provider.name(),
            provider.payable(currency)
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
