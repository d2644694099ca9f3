//! The amounts that can be paid.

use std::fmt;

use domain::Money;

/// The amounts of one currency that can be paid: from the least to the most, in steps, in whole minor units
/// as [`Money`] has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayableAmounts {
    /// The least, a multiple of the step.
    pub least_minor: i64,
    /// The most, a multiple of the step.
    pub most_minor: i64,
    /// The step, at least 1.
    pub step_minor: i64,
}

impl PayableAmounts {
    /// Every amount there is.
    pub const ALL: Self = Self { least_minor: 1, most_minor: Money::MAX_MINOR, step_minor: 1 };

    /// Those multiples of `step_minor` that lie between the limits.
    pub fn new(least_minor: i64, most_minor: i64, step_minor: i64) -> Self {
        let step_minor = step_minor.max(1);
        let steps_below = most_minor.min(Money::MAX_MINOR) / step_minor;
        let steps_above = (least_minor.max(1) - 1) / step_minor + 1;
        Self { least_minor: steps_above * step_minor, most_minor: steps_below * step_minor, step_minor }
    }

    /// Those of them that are not below `least_minor`.
    #[must_use]
    pub fn from_least(self, least_minor: i64) -> Self {
        Self::new(self.least_minor.max(least_minor), self.most_minor, self.step_minor)
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.least_minor > self.most_minor
    }

    /// Whether an amount is one of them.
    pub fn contain(&self, amount: Money) -> bool {
        let amount_minor = amount.amount_minor();
        (self.least_minor..=self.most_minor).contains(&amount_minor) && amount_minor % self.step_minor == 0
    }
}

impl fmt::Display for PayableAmounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { least_minor, most_minor, step_minor } = self;
        write!(f, "{least_minor} to {most_minor} minor units")?;
        if *step_minor == 1 { Ok(()) } else { write!(f, " in steps of {step_minor}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_multiples_of_the_step() {
        let amounts = PayableAmounts::new(15, 99, 10);
        assert_eq!(amounts, PayableAmounts { least_minor: 20, most_minor: 90, step_minor: 10 });
        assert_eq!(amounts.to_string(), "20 to 90 minor units in steps of 10");
        assert_eq!(amounts.from_least(31).least_minor, 40);
        assert_eq!(amounts.from_least(1), amounts);
        assert!(amounts.from_least(91).is_empty() && !amounts.is_empty());
        assert_eq!(PayableAmounts::new(0, i64::MAX, 0), PayableAmounts::ALL);
        let contained =
            |amount_minor| amounts.contain(Money::new(amount_minor, "KWD".parse().unwrap()).unwrap());
        assert!(contained(20) && contained(90) && !contained(10) && !contained(25) && !contained(100));
    }
}
