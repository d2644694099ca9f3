use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Currency;
use crate::payment::Figures;

/// The signed change of every figure at one instant, in minor units of one currency.
///
/// Projections add these up and know no rule about money of their own. Moves come in any order: one that is
/// heard late may take money from a day that was counted already, and give it to an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoneyMove {
    /// When the money moved.
    pub at: DateTime<Utc>,
    /// The currency of all amounts.
    pub currency: Currency,
    /// Pledges whose own payment was first captured.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gifts: i64,
    /// Taken by payments that pay their pledges.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub captured_minor: i64,
    /// Settled to the charity.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub settled_minor: i64,
    /// Gone by refunds, of what was captured.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refunded_minor: i64,
    /// Gone by reversals, of what was captured.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reversed_minor: i64,
    /// Gone by lost disputes, of what was captured.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub charged_back_minor: i64,
    /// Gone beyond what was captured.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub loss_minor: i64,
    /// Withdrawn at the provider by disputes that are open.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub in_dispute_minor: i64,
    /// Held apart: taken by payments that their pledges cannot use, less what went back of that.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unapplied_minor: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &i64) -> bool {
    *number == 0
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

    /// The figures of a payment that pays its pledge.
    pub(super) fn raised(at: DateTime<Utc>, currency: Currency, figures: Figures) -> Self {
        Self {
            gifts: i64::from(figures.captured_minor > 0),
            captured_minor: figures.captured_minor,
            refunded_minor: figures.refunded_minor,
            reversed_minor: figures.reversed_minor,
            charged_back_minor: figures.charged_back_minor,
            loss_minor: figures.loss_minor,
            in_dispute_minor: figures.in_dispute_minor,
            ..Self::none(at, currency)
        }
    }

    /// The figures of a payment that is held apart.
    pub(super) fn held_apart(at: DateTime<Utc>, currency: Currency, figures: Figures) -> Self {
        Self {
            unapplied_minor: figures.left_minor(),
            loss_minor: figures.loss_minor,
            in_dispute_minor: figures.in_dispute_minor,
            ..Self::none(at, currency)
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

    /// The change from `before` to this, at the instant of this.
    #[must_use]
    pub(super) fn minus(self, before: Self) -> Self {
        self.each(before, i64::saturating_sub)
    }

    fn each(self, other: Self, of: impl Fn(i64, i64) -> i64) -> Self {
        Self {
            at: self.at,
            currency: self.currency,
            gifts: of(self.gifts, other.gifts),
            captured_minor: of(self.captured_minor, other.captured_minor),
            settled_minor: of(self.settled_minor, other.settled_minor),
            refunded_minor: of(self.refunded_minor, other.refunded_minor),
            reversed_minor: of(self.reversed_minor, other.reversed_minor),
            charged_back_minor: of(self.charged_back_minor, other.charged_back_minor),
            loss_minor: of(self.loss_minor, other.loss_minor),
            in_dispute_minor: of(self.in_dispute_minor, other.in_dispute_minor),
            unapplied_minor: of(self.unapplied_minor, other.unapplied_minor),
        }
    }
}

/// The moves of a payment, by instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Postings(BTreeMap<DateTime<Utc>, MoneyMove>);

impl Postings {
    pub(super) fn add(&mut self, moved: MoneyMove) {
        let none = MoneyMove::none(moved.at, moved.currency);
        let sum = self.0.remove(&moved.at).unwrap_or(none).each(moved, i64::saturating_add);
        if sum != none {
            self.0.insert(moved.at, sum);
        }
    }

    /// What has to be added to `other` to make it this.
    pub(super) fn minus(mut self, other: Self) -> Self {
        for moved in other.0.into_values() {
            self.add(MoneyMove::none(moved.at, moved.currency).minus(moved));
        }
        self
    }

    /// From the earliest to the latest.
    pub(super) fn into_moves(self) -> Vec<MoneyMove> {
        self.0.into_values().collect()
    }
}
