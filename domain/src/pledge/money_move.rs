use chrono::{DateTime, Utc};

use super::{MoneyHeld, PledgeEvent};
use crate::{Currency, Money};

/// The signed change of every figure at one instant, in minor units of one currency.
///
/// Projections add these up and know no rule about money of their own. Moves come in any order: one that is
/// heard late may take money from a day that was counted already, and give it to an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoneyMove {
    /// When the money moved.
    pub at: DateTime<Utc>,
    /// The currency of all amounts.
    pub currency: Currency,
    /// Pledges whose own payment was first captured.
    pub gifts: i64,
    /// Taken by payments that pay their pledges.
    pub captured_minor: i64,
    /// Settled to the charity.
    pub settled_minor: i64,
    /// Gone by refunds, of what was captured.
    pub refunded_minor: i64,
    /// Gone by reversals, of what was captured.
    pub reversed_minor: i64,
    /// Gone by lost disputes, of what was captured.
    pub charged_back_minor: i64,
    /// Gone beyond what was captured.
    pub loss_minor: i64,
    /// Withdrawn at the provider by disputes that are open.
    pub in_dispute_minor: i64,
    /// Held apart: taken by payments that their pledges cannot use, less what went back of that.
    pub unapplied_minor: i64,
}

impl MoneyMove {
    /// Moves nothing.
    pub fn none(at: DateTime<Utc>, currency: Currency) -> Self {
        Self {
            at,
            currency,
            gifts: 0,
            captured_minor: 0,
            settled_minor: 0,
            refunded_minor: 0,
            reversed_minor: 0,
            charged_back_minor: 0,
            loss_minor: 0,
            in_dispute_minor: 0,
            unapplied_minor: 0,
        }
    }

    /// Raised: captured, less what went back.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "amounts are at most Money::MAX_MINOR, of which millions fit"
    )]
    pub fn raised_minor(&self) -> i64 {
        self.captured_minor - self.refunded_minor - self.reversed_minor - self.charged_back_minor
    }
}

impl PledgeEvent {
    /// The moves of money that this event tells of; none if it moves no money.
    ///
    /// Every event of today tells of one move at most, at the instant at which it was recorded.
    pub fn money_moves(&self, recorded_at: DateTime<Utc>) -> Vec<MoneyMove> {
        self.money_move(recorded_at).into_iter().collect()
    }

    #[expect(
        clippy::arithmetic_side_effects,
        reason = "amounts are at most Money::MAX_MINOR, of which millions fit"
    )]
    fn money_move(&self, at: DateTime<Utc>) -> Option<MoneyMove> {
        let of = |amount: &Money| (MoneyMove::none(at, amount.currency()), amount.amount_minor());
        match self {
            Self::PledgeCaptured { amount, was_unapplied, .. } => {
                let (none, captured_minor) = of(amount);
                let unapplied_minor = if *was_unapplied { -captured_minor } else { 0 };
                Some(MoneyMove { gifts: 1, captured_minor, unapplied_minor, ..none })
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
            Self::PaymentDisputed { amount, .. } => {
                let (none, in_dispute_minor) = of(amount);
                Some(MoneyMove { in_dispute_minor, ..none })
            }
            Self::DisputeWon { amount, .. } => {
                let (none, minor) = of(amount);
                Some(MoneyMove { in_dispute_minor: -minor, ..none })
            }
            Self::DisputeLost { amount, held: MoneyHeld::Raised, .. } => {
                let (none, minor) = of(amount);
                Some(MoneyMove { in_dispute_minor: -minor, charged_back_minor: minor, ..none })
            }
            Self::DisputeLost { amount, held: MoneyHeld::Unapplied, .. } => {
                let (none, minor) = of(amount);
                Some(MoneyMove { in_dispute_minor: -minor, unapplied_minor: -minor, ..none })
            }
            // Money held apart goes back to the donor, or is captured anew by another pledge, whose
            // own events follow.
            Self::PaymentRefunded { amount, held: MoneyHeld::Unapplied, .. }
            | Self::UnappliedAccepted { amount, .. } => {
                let (none, minor) = of(amount);
                Some(MoneyMove { unapplied_minor: -minor, ..none })
            }
            Self::PledgeCreated { .. }
            | Self::PledgeAmended { .. }
            | Self::PledgeAuthorized { .. }
            | Self::PledgeFailed { .. }
            | Self::PledgeExpired { .. }
            | Self::PledgeCancelled { .. } => None,
        }
    }
}
