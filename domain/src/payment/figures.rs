//! The figures of one payment, and the order in which what is gone is attributed.

/// Figures of one payment in minor units of its currency, or a signed change of them.
///
/// As figures, none is negative: every captured unit is left or went back in one of three ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Figures {
    /// Captured so far.
    pub captured_minor: i64,
    /// Gone by refunds, of what was captured.
    pub refunded_minor: i64,
    /// Gone by reversals, of what was captured.
    pub reversed_minor: i64,
    /// Gone by lost disputes, of what was captured.
    pub charged_back_minor: i64,
    /// Gone beyond what was captured: the same money twice, or more than was taken.
    pub loss_minor: i64,
    /// Withdrawn at the provider by disputes that are open. Totals are unmoved by it.
    pub in_dispute_minor: i64,
}

/// The sums over the objects of a payment, in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) captured: i64,
    pub(super) refunds: i64,
    pub(super) reversals: i64,
    pub(super) disputes: i64,
    pub(super) withdrawn: i64,
}

impl Sums {
    /// What is gone is attributed to refunds first, then to reversals, then to disputes. The rest is loss.
    ///
    /// While nothing is captured, returns wait and no figure moves.
    pub(super) fn figures(self) -> Figures {
        if self.captured == 0 {
            return Figures::default();
        }
        let mut left = self.captured;
        let mut loss = 0_i64;
        let mut attribute = |gone: i64| {
            let attributed = gone.min(left);
            left = left.saturating_sub(attributed);
            loss = loss.saturating_add(gone.saturating_sub(attributed));
            attributed
        };
        let refunded_minor = attribute(self.refunds);
        let reversed_minor = attribute(self.reversals);
        let charged_back_minor = attribute(self.disputes);
        Figures {
            captured_minor: self.captured,
            refunded_minor,
            reversed_minor,
            charged_back_minor,
            loss_minor: loss,
            in_dispute_minor: self.withdrawn,
        }
    }
}

impl Figures {
    /// Captured, less what went back: raised, or held apart where the pledge cannot use it.
    pub fn left_minor(&self) -> i64 {
        let given_back =
            self.refunded_minor.saturating_add(self.reversed_minor).saturating_add(self.charged_back_minor);
        self.captured_minor.saturating_sub(given_back)
    }

    /// The sum of each figure.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.each(other, i64::saturating_add)
    }

    /// The signed difference of each figure.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.each(other, i64::saturating_sub)
    }

    /// Whether no figure moves.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    fn each(self, other: Self, sum: impl Fn(i64, i64) -> i64) -> Self {
        Self {
            captured_minor: sum(self.captured_minor, other.captured_minor),
            refunded_minor: sum(self.refunded_minor, other.refunded_minor),
            reversed_minor: sum(self.reversed_minor, other.reversed_minor),
            charged_back_minor: sum(self.charged_back_minor, other.charged_back_minor),
            loss_minor: sum(self.loss_minor, other.loss_minor),
            in_dispute_minor: sum(self.in_dispute_minor, other.in_dispute_minor),
        }
    }
}
