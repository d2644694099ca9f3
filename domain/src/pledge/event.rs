use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{MoneyHeld, PledgeStatus, UnappliedReason};
use crate::event_kind::event_kinds;
use crate::{CampaignId, DisputeId, DonorId, Money, PaymentId, PledgeId, RefundId, Text};

/// Why a payment failed, in the provider's words: at most 500 characters.
pub type FailureReason = Text<500>;

/// An event of a pledge.
///
/// Every event carries what a projection needs to fold it without looking anything up: the
/// campaign and an amount always, the donor where the donor's own figures change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub enum PledgeEvent {
    /// A donor pledged. Name, address and message are kept apart from the ledger.
    PledgeCreated {
        /// The campaign it is for.
        campaign_id: CampaignId,
        /// The donor's pseudonym.
        donor_id: DonorId,
        /// How much was promised.
        amount: Money,
        /// Whether the donor wishes to stay nameless in public.
        anonymous: bool,
    },
    /// The donor changed the amount before paying.
    PledgeAmended {
        /// The campaign it is for.
        campaign_id: CampaignId,
        /// The new amount.
        amount: Money,
    },
    /// PENDING → AUTHORIZED: the provider has reserved the money.
    PledgeAuthorized {
        /// The campaign it is for.
        campaign_id: CampaignId,
        /// The provider's payment.
        payment_id: PaymentId,
        /// How much was reserved.
        amount: Money,
    },
    /// AUTHORIZED → CAPTURED: the provider took the money. From here on it is raised.
    PledgeCaptured {
        /// The campaign it is for.
        campaign_id: CampaignId,
        /// The donor's pseudonym.
        donor_id: DonorId,
        /// The provider's payment.
        payment_id: PaymentId,
        /// How much was taken; this is the amount that counts.
        amount: Money,
        /// Whether it was held apart by this pledge until now.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        was_unapplied: bool,
    },
    /// CAPTURED → COMPLETED: the money was settled to the charity.
    PledgeCompleted {
        /// The campaign it is for.
        campaign_id: CampaignId,
        /// The provider's payment.
        payment_id: PaymentId,
        /// How much was captured so far.
        amount: Money,
    },
    /// PENDING or AUTHORIZED → FAILED: the payment failed for good.
    PledgeFailed {
        /// The campaign it is for.
        campaign_id: CampaignId,
        /// The state it failed in, so that a fold of counts needs no memory.
        from: PledgeStatus,
        /// The provider's payment.
        payment_id: PaymentId,
        /// How much was authorised or, if it failed before that, promised.
        amount: Money,
        /// The provider's reason, where it gave one.
        reason: Option<FailureReason>,
    },
    /// PENDING → EXPIRED: nobody paid in time.
    PledgeExpired {
        /// The campaign it is for.
        campaign_id: CampaignId,
        /// How much was promised.
        amount: Money,
    },
    /// AUTHORIZED → CANCELLED: the donor withdrew; the provider is asked to release the money.
    PledgeCancelled {
        /// The campaign it is for.
        campaign_id: CampaignId,
        /// The payment whose authorisation is to be voided.
        payment_id: PaymentId,
        /// How much was authorised.
        amount: Money,
    },
    /// No change of state: the provider took money that this pledge cannot use, or not without asking. It is
    /// held apart from the totals.
    PaymentUnapplied {
        /// The campaign the pledge is for.
        campaign_id: CampaignId,
        /// The donor's pseudonym.
        donor_id: DonorId,
        /// The provider's payment.
        payment_id: PaymentId,
        /// How much is held.
        amount: Money,
        /// Why.
        reason: UnappliedReason,
    },
    /// No change of state: money that was taken was given back, in part or whole.
    PaymentRefunded {
        /// The campaign the pledge is for.
        campaign_id: CampaignId,
        /// The donor's pseudonym.
        donor_id: DonorId,
        /// The provider's payment.
        payment_id: PaymentId,
        /// The provider's refund.
        refund_id: RefundId,
        /// How much was given back.
        amount: Money,
        /// Which figure the money is in.
        held: MoneyHeld,
    },
    /// No change of state: the donor's bank questions the payment. What is raised stays, and is in dispute.
    PaymentDisputed {
        /// The campaign the pledge is for.
        campaign_id: CampaignId,
        /// The donor's pseudonym.
        donor_id: DonorId,
        /// The provider's payment.
        payment_id: PaymentId,
        /// The provider's dispute.
        dispute_id: DisputeId,
        /// How much is in question.
        amount: Money,
        /// Which figure the money is in.
        held: MoneyHeld,
    },
    /// No change of state: the dispute ended for the charity. The money is in dispute no longer.
    DisputeWon {
        /// The campaign the pledge is for.
        campaign_id: CampaignId,
        /// The donor's pseudonym.
        donor_id: DonorId,
        /// The provider's payment.
        payment_id: PaymentId,
        /// The provider's dispute.
        dispute_id: DisputeId,
        /// How much was in question.
        amount: Money,
        /// Which figure the money is in.
        held: MoneyHeld,
    },
    /// No change of state: the dispute ended for the donor. A chargeback: the money is gone.
    DisputeLost {
        /// The campaign the pledge is for.
        campaign_id: CampaignId,
        /// The donor's pseudonym.
        donor_id: DonorId,
        /// The provider's payment.
        payment_id: PaymentId,
        /// The provider's dispute.
        dispute_id: DisputeId,
        /// How much is gone.
        amount: Money,
        /// Which figure the money is in.
        held: MoneyHeld,
    },
    /// No change of state: money held apart was accepted as another pledge of the donor, whose own
    /// events follow in the same append. It is held apart no longer.
    UnappliedAccepted {
        /// The campaign the pledge is for.
        campaign_id: CampaignId,
        /// The donor's pseudonym.
        donor_id: DonorId,
        /// The provider's payment.
        payment_id: PaymentId,
        /// How much.
        amount: Money,
        /// The pledge that it became.
        accepted_as: PledgeId,
    },
}

impl PledgeEvent {
    /// The campaign that the pledge is for.
    pub fn campaign_id(&self) -> CampaignId {
        match self {
            Self::PledgeCreated { campaign_id, .. }
            | Self::PledgeAmended { campaign_id, .. }
            | Self::PledgeAuthorized { campaign_id, .. }
            | Self::PledgeCaptured { campaign_id, .. }
            | Self::PledgeCompleted { campaign_id, .. }
            | Self::PledgeFailed { campaign_id, .. }
            | Self::PledgeExpired { campaign_id, .. }
            | Self::PledgeCancelled { campaign_id, .. }
            | Self::PaymentUnapplied { campaign_id, .. }
            | Self::PaymentRefunded { campaign_id, .. }
            | Self::PaymentDisputed { campaign_id, .. }
            | Self::DisputeWon { campaign_id, .. }
            | Self::DisputeLost { campaign_id, .. }
            | Self::UnappliedAccepted { campaign_id, .. } => *campaign_id,
        }
    }

    /// The amount that it is about.
    pub fn amount(&self) -> Money {
        match self {
            Self::PledgeCreated { amount, .. }
            | Self::PledgeAmended { amount, .. }
            | Self::PledgeAuthorized { amount, .. }
            | Self::PledgeCaptured { amount, .. }
            | Self::PledgeCompleted { amount, .. }
            | Self::PledgeFailed { amount, .. }
            | Self::PledgeExpired { amount, .. }
            | Self::PledgeCancelled { amount, .. }
            | Self::PaymentUnapplied { amount, .. }
            | Self::PaymentRefunded { amount, .. }
            | Self::PaymentDisputed { amount, .. }
            | Self::DisputeWon { amount, .. }
            | Self::DisputeLost { amount, .. }
            | Self::UnappliedAccepted { amount, .. } => *amount,
        }
    }

    /// The donor's pseudonym, where the event carries it.
    pub fn donor_id(&self) -> Option<DonorId> {
        match self {
            Self::PledgeCreated { donor_id, .. }
            | Self::PledgeCaptured { donor_id, .. }
            | Self::PaymentUnapplied { donor_id, .. }
            | Self::PaymentRefunded { donor_id, .. }
            | Self::PaymentDisputed { donor_id, .. }
            | Self::DisputeWon { donor_id, .. }
            | Self::DisputeLost { donor_id, .. }
            | Self::UnappliedAccepted { donor_id, .. } => Some(*donor_id),
            Self::PledgeAmended { .. }
            | Self::PledgeAuthorized { .. }
            | Self::PledgeCompleted { .. }
            | Self::PledgeFailed { .. }
            | Self::PledgeExpired { .. }
            | Self::PledgeCancelled { .. } => None,
        }
    }

    /// The provider's payment; none where the event is about none.
    pub fn payment_id(&self) -> Option<&PaymentId> {
        match self {
            Self::PledgeAuthorized { payment_id, .. }
            | Self::PledgeCaptured { payment_id, .. }
            | Self::PledgeCompleted { payment_id, .. }
            | Self::PledgeFailed { payment_id, .. }
            | Self::PledgeCancelled { payment_id, .. }
            | Self::PaymentUnapplied { payment_id, .. }
            | Self::PaymentRefunded { payment_id, .. }
            | Self::PaymentDisputed { payment_id, .. }
            | Self::DisputeWon { payment_id, .. }
            | Self::DisputeLost { payment_id, .. }
            | Self::UnappliedAccepted { payment_id, .. } => Some(payment_id),
            Self::PledgeCreated { .. } | Self::PledgeAmended { .. } | Self::PledgeExpired { .. } => None,
        }
    }

    /// The edge of the state machine that this event is: from where (none for the first event)
    /// and to where. No edge for events that change no state.
    pub fn edge(&self) -> Option<(Option<PledgeStatus>, PledgeStatus)> {
        use PledgeStatus::{Authorized, Cancelled, Captured, Completed, Expired, Failed, Pending};
        match self {
            Self::PledgeCreated { .. } => Some((None, Pending)),
            Self::PledgeAuthorized { .. } => Some((Some(Pending), Authorized)),
            Self::PledgeCaptured { .. } => Some((Some(Authorized), Captured)),
            Self::PledgeCompleted { .. } => Some((Some(Captured), Completed)),
            Self::PledgeFailed { from, .. } => Some((Some(*from), Failed)),
            Self::PledgeExpired { .. } => Some((Some(Pending), Expired)),
            Self::PledgeCancelled { .. } => Some((Some(Authorized), Cancelled)),
            Self::PledgeAmended { .. }
            | Self::PaymentUnapplied { .. }
            | Self::PaymentRefunded { .. }
            | Self::PaymentDisputed { .. }
            | Self::DisputeWon { .. }
            | Self::DisputeLost { .. }
            | Self::UnappliedAccepted { .. } => None,
        }
    }
}

event_kinds!(PledgeEvent {
    PledgeCreated: "1",
    PledgeAmended: "1",
    PledgeAuthorized: "1",
    PledgeCaptured: "1",
    PledgeCompleted: "1",
    PledgeFailed: "1",
    PledgeExpired: "1",
    PledgeCancelled: "1",
    PaymentUnapplied: "1",
    PaymentRefunded: "1",
    PaymentDisputed: "1",
    DisputeWon: "1",
    DisputeLost: "1",
    UnappliedAccepted: "1",
});
