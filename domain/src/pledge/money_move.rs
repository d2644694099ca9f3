use super::{MoneyHeld, PledgeEvent};
use crate::{Currency, Money};

/// The signed change of every figure that one event makes, in minor units of one currency.
///
/// Projections add these up and know no rule about money of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoneyMove {
    /// The currency of all of them.
    pub currency: Currency,
    /// Taken by the payment that pays the pledge.
    pub captured_minor: i64,
    /// Settled to the charity.
    pub settled_minor: i64,
    /// Refunded, of what was captured.
    pub refunded_minor: i64,
    /// Charged back, of what was captured.
    pub charged_back_minor: i64,
    /// Held apart: taken by payments that their pledges cannot use.
    pub unapplied_minor: i64,
}

impl MoneyMove {
    fn none(currency: Currency) -> Self {
        Self {
            currency,
            captured_minor: 0,
            settled_minor: 0,
            refunded_minor: 0,
            charged_back_minor: 0,
            unapplied_minor: 0,
        }
    }

    /// Raised: captured, less what went back.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "amounts are at most Money::MAX_MINOR, of which millions fit"
    )]
    pub fn raised_minor(&self) -> i64 {
        self.captured_minor - self.refunded_minor - self.charged_back_minor
    }
}

impl PledgeEvent {
    /// The change of figures that this event makes; none if it moves no money.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "amounts are at most Money::MAX_MINOR, of which millions fit"
    )]
    pub fn money_move(&self) -> Option<MoneyMove> {
        let of = |amount: &Money| (MoneyMove::none(amount.currency()), amount.amount_minor());
        match self {
            Self::PledgeCaptured { amount, was_unapplied, .. } => {
                let (none, captured_minor) = of(amount);
                let unapplied_minor = if *was_unapplied { -captured_minor } else { 0 };
                Some(MoneyMove { captured_minor, unapplied_minor, ..none })
            }
            Self::PledgeCompleted { amount, .. } => {
                let (none, settled_minor) = of(amount);
                Some(MoneyMove { settled_minor, ..none })
            }
            Self::PaymentUnapplied { amount, .. } => {
                let (none, unapplied_minor) = of(amount);
                Some(MoneyMove { unapplied_minor, ..none })
            }
            Self::PaymentRefunded { amount, held: MoneyHeld::Raised, .. } => {
                let (none, refunded_minor) = of(amount);
                Some(MoneyMove { refunded_minor, ..none })
            }
            Self::DisputeLost { amount, held: MoneyHeld::Raised, .. } => {
                let (none, charged_back_minor) = of(amount);
                Some(MoneyMove { charged_back_minor, ..none })
            }
            // Money held apart goes back to the donor, or is captured anew by another pledge, whose
            // own events follow.
            Self::PaymentRefunded { amount, held: MoneyHeld::Unapplied, .. }
            | Self::DisputeLost { amount, held: MoneyHeld::Unapplied, .. }
            | Self::UnappliedAccepted { amount, .. } => {
                let (none, minor) = of(amount);
                Some(MoneyMove { unapplied_minor: -minor, ..none })
            }
            Self::PledgeCreated { .. }
            | Self::PledgeAmended { .. }
            | Self::PledgeAuthorized { .. }
            | Self::PledgeFailed { .. }
            | Self::PledgeExpired { .. }
            | Self::PledgeCancelled { .. }
            | Self::PaymentDisputed { .. }
            | Self::DisputeWon { .. } => None,
        }
    }
}
