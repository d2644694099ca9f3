//! Money that the provider took, and what went back of it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{DisputeId, Money, PledgeId, RefundId};

/// A payment whose money was taken. Refunds and disputes are kept by their ids, so that the order
/// in which they are reported leaves no trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TakenPayment {
    /// How much was taken.
    pub amount: Money,
    /// Its use.
    pub usage: Usage,
    /// Whether it was held apart at first.
    pub was_unapplied: bool,
    /// Amounts given back, by refund.
    pub refunds: BTreeMap<RefundId, Money>,
    /// Amounts that the donor's bank disputes or has disputed, by dispute.
    pub disputes: BTreeMap<DisputeId, Dispute>,
}

/// The use of taken money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Usage {
    /// It pays the pledge, and is raised.
    Applied,
    /// It is held apart: the pledge cannot use it, or not without asking a person.
    Unapplied,
    /// It was held apart, and was accepted as another pledge of the donor, where it is raised.
    Accepted(PledgeId),
}

/// Which figure money is in. Events about money that was taken before carry it, so that a fold of
/// totals needs no memory of payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MoneyHeld {
    /// In what the campaign has raised.
    Raised,
    /// In what is held apart.
    Unapplied,
}

/// Why money is held apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnappliedReason {
    /// The pledge is finished, or was paid by another payment.
    NotNeeded,
    /// It is more than the [`CaptureLimit`]: a person has to accept it.
    AboveLimit,
}

impl UnappliedReason {
    /// Its name, as it is written down.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotNeeded => "not_needed",
            Self::AboveLimit => "above_limit",
        }
    }
}

/// The most that a payment may take for a pledge without asking a person: so many times the amount that
/// was promised. Read and shown as a number of at most two decimals, such as `1.5`; twice, unless it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureLimit {
    percent: u32,
}

impl CaptureLimit {
    /// Whether `captured` is more than that.
    pub fn is_exceeded(self, promised: Money, captured: Money) -> bool {
        let [promised, captured] = [promised, captured].map(|money| i128::from(money.amount_minor()));
        captured.saturating_mul(100) > promised.saturating_mul(i128::from(self.percent))
    }
}

impl Default for CaptureLimit {
    fn default() -> Self {
        Self { percent: 200 }
    }
}

impl FromStr for CaptureLimit {
    type Err = MalformedCaptureLimit;

    fn from_str(text: &str) -> Result<Self, MalformedCaptureLimit> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole) || !is_number(decimals) || decimals.len() > 2 {
            return Err(MalformedCaptureLimit);
        }
        let percent = format!("{whole}{decimals:0<2}").parse().map_err(|_| MalformedCaptureLimit)?;
        if (100..=1_000_000).contains(&percent) { Ok(Self { percent }) } else { Err(MalformedCaptureLimit) }
    }
}

impl fmt::Display for CaptureLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.percent / 100, self.percent % 100)
    }
}

/// The text is no limit of captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a number from 1 to 10000 with at most two decimals, such as 1.5")]
pub struct MalformedCaptureLimit;

/// A payment that the donor's bank questions or questioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispute {
    /// How much is in question.
    pub amount: Money,
    /// How it stands.
    pub status: DisputeStatus,
}

/// How a dispute stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DisputeStatus {
    /// Nothing has moved for good yet.
    Open,
    /// The money stays.
    Won,
    /// A chargeback: the money is gone.
    Lost,
}

impl fmt::Display for DisputeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Won => "won",
            Self::Lost => "lost",
        })
    }
}

impl TakenPayment {
    pub(super) fn new(amount: Money, usage: Usage) -> Self {
        let was_unapplied = usage == Usage::Unapplied;
        Self { amount, usage, was_unapplied, refunds: BTreeMap::new(), disputes: BTreeMap::new() }
    }

    /// How much was refunded, in minor units.
    pub fn refunded_minor(&self) -> i64 {
        self.refunds.values().map(|amount| amount.amount_minor()).sum()
    }

    /// How much was lost in disputes, in minor units.
    pub fn charged_back_minor(&self) -> i64 {
        let lost = self.disputes.values().filter(|dispute| dispute.status == DisputeStatus::Lost);
        lost.map(|dispute| dispute.amount.amount_minor()).sum()
    }

    /// How much went back in any way, in minor units: at most what was taken.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "amounts are at most Money::MAX_MINOR, of which millions fit"
    )]
    pub fn given_back_minor(&self) -> i64 {
        self.refunded_minor() + self.charged_back_minor()
    }

    /// How much is left of it, in minor units: never negative.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "amounts are at most Money::MAX_MINOR, of which millions fit"
    )]
    pub fn left_minor(&self) -> i64 {
        self.amount.amount_minor() - self.given_back_minor()
    }

    /// Which figure it is in here; none once it was accepted as another pledge.
    pub fn held(&self) -> Option<MoneyHeld> {
        match self.usage {
            Usage::Applied => Some(MoneyHeld::Raised),
            Usage::Unapplied => Some(MoneyHeld::Unapplied),
            Usage::Accepted(_) => None,
        }
    }

    /// Whether nothing went back and nobody questions it.
    pub fn is_intact(&self) -> bool {
        self.refunds.is_empty()
            && self.disputes.values().all(|dispute| match dispute.status {
                DisputeStatus::Won => true,
                DisputeStatus::Open | DisputeStatus::Lost => false,
            })
    }

    /// Whether `amount` could be the money of an open dispute under this id.
    pub(super) fn has_open(&self, dispute_id: &DisputeId, amount: Money) -> bool {
        self.disputes.get(dispute_id) == Some(&Dispute { amount, status: DisputeStatus::Open })
    }

    /// Whether so much is left that `amount` can go back.
    pub(super) fn can_give_back(&self, amount: Money) -> bool {
        amount.currency() == self.amount.currency() && amount.amount_minor() <= self.left_minor()
    }
}
