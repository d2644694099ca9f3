use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Acceptance, MoneyMove, News, PledgeStatus, UnappliedReason};
use crate::event_kind::{Claim, event_kinds};
use crate::{CampaignId, DonorId, Money, PaymentId, PledgeId, Text};

/// Why a payment failed, in the provider's words: at most 500 characters.
pub type FailureReason = Text<500>;

/// An event of a pledge.
///
/// Every event carries what a projection needs to fold it without looking anything up: the
/// campaign always, the moves of money, and the donor where the donor's own figures change.
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
        /// When. No money of it moved before.
        made_at: DateTime<Utc>,
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
        /// What is newly known of the payment.
        #[serde(default, skip_serializing_if = "News::is_empty")]
        news: News,
    },
    /// AUTHORIZED → CAPTURED: the provider took the money. From here on it is raised.
    PledgeCaptured {
        /// The campaign it is for.
        campaign_id: CampaignId,
        /// The donor's pseudonym.
        donor_id: DonorId,
        /// The provider's payment.
        payment_id: PaymentId,
        /// How much was taken so far; this is the amount that counts.
        amount: Money,
        /// Where it was held apart until now: when it was accepted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accepted: Option<Acceptance>,
        /// What is newly known of the payment.
        #[serde(default, skip_serializing_if = "News::is_empty")]
        news: News,
    },
    /// CAPTURED → COMPLETED: the money was settled to the charity.
    PledgeCompleted {
        /// The campaign it is for.
        campaign_id: CampaignId,
        /// The donor's pseudonym.
        donor_id: DonorId,
        /// The provider's payment.
        payment_id: PaymentId,
        /// How much was captured so far.
        amount: Money,
        /// What is newly known of the payment.
        #[serde(default, skip_serializing_if = "News::is_empty")]
        news: News,
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
        /// What is newly known of the payment.
        #[serde(default, skip_serializing_if = "News::is_empty")]
        news: News,
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
        /// How much was taken so far.
        amount: Money,
        /// Why.
        reason: UnappliedReason,
        /// What is newly known of the payment.
        #[serde(default, skip_serializing_if = "News::is_empty")]
        news: News,
    },
    /// No change of state: something else is newly known of a payment, such as a refund or a dispute.
    PaymentRecorded {
        /// The campaign the pledge is for.
        campaign_id: CampaignId,
        /// The donor's pseudonym.
        donor_id: DonorId,
        /// The provider's payment.
        payment_id: PaymentId,
        /// How much it took so far; none while nothing was taken.
        captured: Option<Money>,
        /// What is newly known.
        news: News,
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
            | Self::PaymentRecorded { campaign_id, .. }
            | Self::UnappliedAccepted { campaign_id, .. } => *campaign_id,
        }
    }

    /// The amount that it is about: of what is newly known of a payment, that of the last statement; none
    /// where that names none.
    pub fn amount(&self) -> Option<Money> {
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
            | Self::UnappliedAccepted { amount, .. } => Some(*amount),
            Self::PaymentRecorded { news, .. } => {
                let corrected = news.corrected.last().and_then(|said| said.correction.content().amount());
                let stated = news.heard.last().and_then(|statement| statement.content().amount());
                corrected.or(stated).or(news.settled.map(|settled| settled.amount))
            }
        }
    }

    /// The donor's pseudonym, where the event carries it.
    pub fn donor_id(&self) -> Option<DonorId> {
        match self {
            Self::PledgeCreated { donor_id, .. }
            | Self::PledgeCaptured { donor_id, .. }
            | Self::PledgeCompleted { donor_id, .. }
            | Self::PaymentUnapplied { donor_id, .. }
            | Self::PaymentRecorded { donor_id, .. }
            | Self::UnappliedAccepted { donor_id, .. } => Some(*donor_id),
            Self::PledgeAmended { .. }
            | Self::PledgeAuthorized { .. }
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
            | Self::PaymentRecorded { payment_id, .. }
            | Self::UnappliedAccepted { payment_id, .. } => Some(payment_id),
            Self::PledgeCreated { .. } | Self::PledgeAmended { .. } | Self::PledgeExpired { .. } => None,
        }
    }

    /// What is newly known of its payment; none where nothing is.
    pub fn news(&self) -> Option<&News> {
        match self {
            Self::PledgeAuthorized { news, .. }
            | Self::PledgeCaptured { news, .. }
            | Self::PledgeCompleted { news, .. }
            | Self::PledgeFailed { news, .. }
            | Self::PaymentUnapplied { news, .. }
            | Self::PaymentRecorded { news, .. } => Some(news),
            Self::PledgeCreated { .. }
            | Self::PledgeAmended { .. }
            | Self::PledgeExpired { .. }
            | Self::PledgeCancelled { .. }
            | Self::UnappliedAccepted { .. } => None,
        }
    }

    /// A word for what its payment's provider said last, such as `refunded`, or `corrected` where a person
    /// did; none where nobody said anything.
    pub fn said(&self) -> Option<&'static str> {
        let news = self.news()?;
        let stated = news.heard.last().map(|statement| statement.content().name());
        let corrected = news.corrected.last().map(|_| "corrected");
        corrected.or(news.settled.map(|_| "settled")).or(stated)
    }

    /// The moves of money that this event tells of; none if it moves no money.
    pub fn money_moves(&self) -> &[MoneyMove] {
        self.news().map_or(&[], |news| &news.moves)
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
            | Self::PaymentRecorded { .. }
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
    PaymentRecorded: "1",
    UnappliedAccepted: "1",
}
    fn claim(&self) -> Option<Claim<'_>> {
        let (payment_id, news) = self.payment_id().zip(self.news())?;
        let takes_over = match self {
            Self::PledgeCaptured { accepted, .. } => accepted.is_some(),
            Self::PledgeCreated { .. }
            | Self::PledgeAmended { .. }
            | Self::PledgeAuthorized { .. }
            | Self::PledgeCompleted { .. }
            | Self::PledgeFailed { .. }
            | Self::PledgeExpired { .. }
            | Self::PledgeCancelled { .. }
            | Self::PaymentUnapplied { .. }
            | Self::PaymentRecorded { .. }
            | Self::UnappliedAccepted { .. } => false,
        };
        (!news.is_empty()).then_some(Claim { payment_id, takes_over })
    }
);
