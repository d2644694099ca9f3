use serde::{Deserialize, Serialize};

use super::{CaptureLimit, DisputeStatus, FailureReason, PledgeStatus};
use crate::{CampaignId, DisputeId, DonorId, Money, MoneyError, PaymentId, PledgeId, RefundId};

/// A command to a pledge.
#[derive(Clone, Debug, PartialEq)]
pub enum PledgeCommand {
    /// Make it. Whether the campaign takes it is asked of the campaign, and holds in the same append.
    Create {
        /// The campaign it is for.
        campaign_id: CampaignId,
        /// The donor's pseudonym.
        donor_id: DonorId,
        /// How much is promised.
        amount: Money,
        /// Whether the donor wishes to stay nameless in public.
        anonymous: bool,
    },
    /// Change the amount before paying.
    Amend {
        /// The new amount, in the same currency.
        amount: Money,
    },
    /// Withdraw an authorised pledge.
    Cancel,
    /// Its time is over.
    Expire,
    /// The provider reports something about its payment.
    Record {
        /// The report.
        fact: PaymentFact,
        /// The most that is taken for this pledge without asking a person.
        limit: CaptureLimit,
    },
    /// Pay the pledge, which waits for money, by money of it that is held apart.
    Apply {
        /// The payment that is held apart.
        payment_id: PaymentId,
    },
    /// Let go of money that is held apart: it becomes another pledge of the donor, which
    /// [`PledgeCommand::CreateAccepted`] makes in the same append.
    AcceptUnapplied {
        /// The payment that is held apart.
        payment_id: PaymentId,
        /// The pledge that it becomes.
        accepted_as: PledgeId,
    },
    /// Make a pledge that is paid already, by money that another pledge of the donor held apart.
    CreateAccepted {
        /// The campaign it is for.
        campaign_id: CampaignId,
        /// The donor's pseudonym.
        donor_id: DonorId,
        /// The payment that was held apart.
        payment_id: PaymentId,
        /// How much it took.
        amount: Money,
        /// Whether the donor wishes to stay nameless in public.
        anonymous: bool,
    },
}

impl PledgeCommand {
    /// Records a report under the usual limit of captures.
    pub fn record(fact: PaymentFact) -> Self {
        Self::Record { fact, limit: CaptureLimit::default() }
    }
}

/// A provider's fact about one payment of a pledge. It is never refused for coming early or late.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum PaymentFact {
    /// The money is reserved.
    Authorized {
        /// The provider's payment.
        payment_id: PaymentId,
        /// How much.
        amount: Money,
    },
    /// The money is taken.
    Captured {
        /// The provider's payment.
        payment_id: PaymentId,
        /// How much.
        amount: Money,
    },
    /// The money has arrived at the charity.
    Settled {
        /// The provider's payment.
        payment_id: PaymentId,
        /// How much was taken from the donor.
        amount: Money,
    },
    /// The payment failed for good; an attempt that can be repeated is no fact.
    Failed {
        /// The provider's payment.
        payment_id: PaymentId,
        /// The provider's reason, where it gave one.
        reason: Option<FailureReason>,
    },
    /// Money that was taken was given back to the donor, in part or whole.
    Refunded {
        /// The provider's payment.
        payment_id: PaymentId,
        /// The provider's refund; a payment may have several.
        refund_id: RefundId,
        /// How much was given back.
        amount: Money,
    },
    /// The donor's bank questions the payment. Nothing has moved for good yet.
    DisputeOpened {
        /// The provider's payment.
        payment_id: PaymentId,
        /// The provider's dispute.
        dispute_id: DisputeId,
        /// How much is in question.
        amount: Money,
    },
    /// The dispute ended for the charity: the money stays.
    DisputeWon {
        /// The provider's payment.
        payment_id: PaymentId,
        /// The provider's dispute.
        dispute_id: DisputeId,
        /// How much was in question.
        amount: Money,
    },
    /// The dispute ended for the donor: a chargeback, the money is gone.
    DisputeLost {
        /// The provider's payment.
        payment_id: PaymentId,
        /// The provider's dispute.
        dispute_id: DisputeId,
        /// How much is gone.
        amount: Money,
    },
}

impl PaymentFact {
    /// The payment it is about.
    pub fn payment_id(&self) -> &PaymentId {
        match self {
            Self::Authorized { payment_id, .. }
            | Self::Captured { payment_id, .. }
            | Self::Settled { payment_id, .. }
            | Self::Failed { payment_id, .. }
            | Self::Refunded { payment_id, .. }
            | Self::DisputeOpened { payment_id, .. }
            | Self::DisputeWon { payment_id, .. }
            | Self::DisputeLost { payment_id, .. } => payment_id,
        }
    }

    /// Its name, as it is written down.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Authorized { .. } => "authorized",
            Self::Captured { .. } => "captured",
            Self::Settled { .. } => "settled",
            Self::Failed { .. } => "failed",
            Self::Refunded { .. } => "refunded",
            Self::DisputeOpened { .. } => "dispute_opened",
            Self::DisputeWon { .. } => "dispute_won",
            Self::DisputeLost { .. } => "dispute_lost",
        }
    }

    /// The dispute it is about, if it is about one.
    pub fn dispute_id(&self) -> Option<&DisputeId> {
        match self {
            Self::DisputeOpened { dispute_id, .. }
            | Self::DisputeWon { dispute_id, .. }
            | Self::DisputeLost { dispute_id, .. } => Some(dispute_id),
            Self::Authorized { .. }
            | Self::Captured { .. }
            | Self::Settled { .. }
            | Self::Failed { .. }
            | Self::Refunded { .. } => None,
        }
    }
}

/// Which rule a command would break.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PledgeError {
    /// There is no such pledge.
    #[error("there is no such pledge")]
    NotFound,
    /// It exists already.
    #[error("the pledge exists already")]
    AlreadyExists,
    /// The amount can be changed only while nobody has paid.
    #[error("only a pending pledge can be amended; this one is {0}")]
    NotPending(PledgeStatus),
    /// Only a pledge that waits for money can be paid by money that it holds apart.
    #[error("only a pledge that waits for money can be paid; this one is {0}")]
    NotWaiting(PledgeStatus),
    /// Money was taken for it that a person has to accept or give back first.
    #[error("payment {0} of the pledge is held apart until it is accepted or given back")]
    InQuestion(PaymentId),
    /// Only an authorised pledge can be cancelled.
    #[error("only an authorized pledge can be cancelled; this one is {0}")]
    NotAuthorized(PledgeStatus),
    /// The new amount is in another currency.
    #[error("amount.currency {0}")]
    Currency(MoneyError),
    /// A refund or dispute of a payment whose capture is not known yet: it waits for it.
    #[error("the capture of payment {0} is not known yet")]
    AwaitsCapture(PaymentId),
    /// The payment was accepted as another pledge: whoever has a fact about it repeats it there.
    #[error("the payment was accepted as pledge {0}")]
    MovedTo(PledgeId),
    /// Only money that is held apart can be accepted.
    #[error("payment {0} is not held apart")]
    NotUnapplied(PaymentId),
    /// Only whole money can be accepted: a refund or chargeback would be missing where it goes.
    #[error("payment {0} was given back in part, or is in dispute")]
    NotIntact(PaymentId),
    /// The fact contradicts what the ledger holds; a person must look at it.
    #[error("needs review: {0}")]
    NeedsReview(Contradiction),
}

/// How a provider's fact contradicts the ledger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// Reported as failed although its money was taken.
    #[error("the payment is reported as failed, but the pledge is {0}")]
    FailedAfterCapture(PledgeStatus),
    /// In another currency than the pledge.
    #[error("the payment {0}")]
    Currency(MoneyError),
    /// The same payment, refund or dispute, reported with two amounts.
    #[error("it was recorded with {recorded}, and is now reported with {reported}")]
    Amount {
        /// The amount in the ledger.
        recorded: Money,
        /// The amount that the provider reports now.
        reported: Money,
    },
    /// More would go back than was taken.
    #[error(
        "{reported} would go back of {captured}, of which {given_back_minor} minor units went back already"
    )]
    AboveCapture {
        /// The amount taken.
        captured: Money,
        /// The part of it that went back before, in minor units.
        given_back_minor: i64,
        /// The amount that went back too, or is disputed, by the provider's report.
        reported: Money,
    },
    /// The same dispute, reported with two outcomes.
    #[error("the dispute was recorded as {recorded}, and is now reported as {reported}")]
    Outcome {
        /// The status in the ledger.
        recorded: DisputeStatus,
        /// The status that the provider reports now.
        reported: DisputeStatus,
    },
}
