use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Dispute, DisputeStatus, FailureReason, PledgeCommand, PledgeError, PledgeEvent, PledgeStatus,
    TakenPayment, Usage,
};
use crate::rules::Rules;
use crate::{CampaignId, DisputeId, DonorId, Money, PaymentId};

/// The state of a pledge, folded from its events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Pledge {
    /// Nothing has happened under this id.
    #[default]
    Absent,
    /// It was made.
    Made(Box<PledgeRecord>),
}

/// A pledge that was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PledgeRecord {
    /// The campaign it is for.
    pub campaign_id: CampaignId,
    /// The donor's pseudonym.
    pub donor_id: DonorId,
    /// How much is promised.
    pub amount: Money,
    /// Whether the donor wishes to stay nameless in public.
    pub anonymous: bool,
    /// Where it stands.
    pub state: PledgeState,
    /// Every payment whose money was taken, whatever it is used for. By id, so that the order of
    /// arrival leaves no trace.
    pub taken: BTreeMap<PaymentId, TakenPayment>,
}

/// One payment at the provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Payment {
    /// The provider's id.
    pub payment_id: PaymentId,
    /// How much was reserved or taken.
    pub amount: Money,
}

/// Where a pledge stands. Each state carries only its own data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PledgeState {
    /// Made, not paid.
    Pending,
    /// The money is reserved.
    Authorized(Payment),
    /// The money is taken.
    Captured(Payment),
    /// The money has arrived.
    Completed(Payment),
    /// The payment failed for good.
    Failed(Option<FailureReason>),
    /// Nobody paid in time.
    Expired,
    /// The donor withdrew.
    Cancelled,
}

impl PledgeState {
    /// The name of the state.
    pub fn status(&self) -> PledgeStatus {
        match self {
            Self::Pending => PledgeStatus::Pending,
            Self::Authorized(_) => PledgeStatus::Authorized,
            Self::Captured(_) => PledgeStatus::Captured,
            Self::Completed(_) => PledgeStatus::Completed,
            Self::Failed(_) => PledgeStatus::Failed,
            Self::Expired => PledgeStatus::Expired,
            Self::Cancelled => PledgeStatus::Cancelled,
        }
    }
}

impl Pledge {
    /// The pledge, or none before it was made.
    pub fn record(&self) -> Option<&PledgeRecord> {
        match self {
            Self::Absent => None,
            Self::Made(record) => Some(record),
        }
    }

    /// The status, or none before it was made.
    pub fn status(&self) -> Option<PledgeStatus> {
        self.record().map(|record| record.state.status())
    }
}

impl Rules for Pledge {
    const TYPE: &'static str = "pledge";
    type Command = PledgeCommand;
    type Event = PledgeEvent;
    type Error = PledgeError;

    fn decide(&self, command: &PledgeCommand) -> Result<Vec<PledgeEvent>, PledgeError> {
        self.decide_by_table(command)
    }

    /// It is an edge of the state machine from the present state, or changes no state of a pledge that
    /// exists; it stays with the pledge's campaign; and the money that it names is there.
    fn allows(&self, event: &PledgeEvent) -> bool {
        let Some(record) = self.record() else { return matches!(event.edge(), Some((None, _))) };
        let follows = match event.edge() {
            Some((None, _)) => false,
            Some((Some(from), to)) => {
                record.state.status() == from && PledgeStatus::EDGES.contains(&(from, to))
            }
            None => true,
        };
        follows && event.campaign_id() == record.campaign_id && record.has_money_for(event)
    }

    fn evolve(self, event: PledgeEvent) -> Self {
        match (self, event) {
            (_, PledgeEvent::PledgeCreated { campaign_id, donor_id, amount, anonymous }) => {
                Self::Made(Box::new(PledgeRecord {
                    campaign_id,
                    donor_id,
                    amount,
                    anonymous,
                    state: PledgeState::Pending,
                    taken: BTreeMap::new(),
                }))
            }
            (Self::Made(mut record), event) => {
                record.apply(event);
                Self::Made(record)
            }
            (Self::Absent, _) => Self::Absent,
        }
    }
}

impl PledgeRecord {
    /// The payment that pays this pledge; none before its money was taken.
    pub fn applied(&self) -> Option<&TakenPayment> {
        self.taken.values().find(|taken| taken.usage == Usage::Applied)
    }

    /// How much is captured or, before that, authorised or, before that, promised.
    pub(super) fn latest_amount(&self) -> Money {
        match &self.state {
            PledgeState::Authorized(payment)
            | PledgeState::Captured(payment)
            | PledgeState::Completed(payment) => payment.amount,
            PledgeState::Pending | PledgeState::Failed(_) | PledgeState::Expired | PledgeState::Cancelled => {
                self.amount
            }
        }
    }

    /// The payment for which this pledge waits for a person: it is held apart, and nothing else has paid.
    pub fn in_question(&self) -> Option<&PaymentId> {
        let is_held = |taken: &TakenPayment| taken.usage == Usage::Unapplied && taken.left_minor() > 0;
        let held = self.taken.iter().find(|(_, taken)| is_held(taken)).filter(|_| self.waits_for_money());
        held.map(|(payment_id, _)| payment_id)
    }

    pub(super) fn waits_for_money(&self) -> bool {
        match self.state {
            PledgeState::Pending | PledgeState::Authorized(_) => true,
            PledgeState::Captured(_)
            | PledgeState::Completed(_)
            | PledgeState::Failed(_)
            | PledgeState::Expired
            | PledgeState::Cancelled => false,
        }
    }

    pub(super) fn apply(&mut self, event: PledgeEvent) {
        match event {
            PledgeEvent::PledgeCreated { .. } => {}
            PledgeEvent::PledgeAmended { amount, .. } => self.amount = amount,
            PledgeEvent::PledgeAuthorized { payment_id, amount, .. } => {
                self.state = PledgeState::Authorized(Payment { payment_id, amount });
            }
            PledgeEvent::PledgeCaptured { payment_id, amount, .. } => {
                let taken = self.taken.entry(payment_id.clone());
                taken.or_insert_with(|| TakenPayment::new(amount, Usage::Applied)).usage = Usage::Applied;
                self.state = PledgeState::Captured(Payment { payment_id, amount });
            }
            PledgeEvent::PledgeCompleted { .. } => {
                if let PledgeState::Captured(payment) = &self.state {
                    self.state = PledgeState::Completed(payment.clone());
                }
            }
            PledgeEvent::PledgeFailed { reason, .. } => self.state = PledgeState::Failed(reason),
            PledgeEvent::PledgeExpired { .. } => self.state = PledgeState::Expired,
            PledgeEvent::PledgeCancelled { .. } => self.state = PledgeState::Cancelled,
            PledgeEvent::PaymentUnapplied { payment_id, amount, .. } => {
                self.taken.insert(payment_id, TakenPayment::new(amount, Usage::Unapplied));
            }
            PledgeEvent::PaymentRefunded { payment_id, refund_id, amount, .. } => {
                self.change(&payment_id, |taken| {
                    taken.refunds.insert(refund_id, amount);
                });
            }
            PledgeEvent::PaymentDisputed { payment_id, dispute_id, amount, .. } => {
                self.dispute(&payment_id, dispute_id, amount, DisputeStatus::Open);
            }
            PledgeEvent::DisputeWon { payment_id, dispute_id, amount, .. } => {
                self.dispute(&payment_id, dispute_id, amount, DisputeStatus::Won);
            }
            PledgeEvent::DisputeLost { payment_id, dispute_id, amount, .. } => {
                self.dispute(&payment_id, dispute_id, amount, DisputeStatus::Lost);
            }
            PledgeEvent::UnappliedAccepted { payment_id, accepted_as, .. } => {
                self.change(&payment_id, |taken| taken.usage = Usage::Accepted(accepted_as));
            }
        }
    }

    fn dispute(
        &mut self,
        payment_id: &PaymentId,
        dispute_id: DisputeId,
        amount: Money,
        status: DisputeStatus,
    ) {
        self.change(payment_id, |taken| {
            taken.disputes.insert(dispute_id, Dispute { amount, status });
        });
    }

    /// Events about money that was taken follow its capture, so the payment is there.
    fn change(&mut self, payment_id: &PaymentId, change: impl FnOnce(&mut TakenPayment)) {
        if let Some(taken) = self.taken.get_mut(payment_id) {
            change(taken);
        }
    }

    /// Whether the money that `event` names is where the event says it is, and is as much as that.
    fn has_money_for(&self, event: &PledgeEvent) -> bool {
        let taken = |payment_id| self.taken.get(payment_id);
        match event {
            PledgeEvent::PaymentUnapplied { payment_id, .. } => taken(payment_id).is_none(),
            PledgeEvent::PaymentRefunded { payment_id, refund_id, amount, held, .. } => taken(payment_id)
                .is_some_and(|taken| {
                    taken.held() == Some(*held)
                        && !taken.refunds.contains_key(refund_id)
                        && taken.can_give_back(*amount)
                }),
            PledgeEvent::PaymentDisputed { payment_id, dispute_id, held, .. } => taken(payment_id)
                .is_some_and(|taken| taken.held() == Some(*held) && !taken.disputes.contains_key(dispute_id)),
            PledgeEvent::DisputeWon { payment_id, dispute_id, amount, held, .. } => taken(payment_id)
                .is_some_and(|taken| taken.held() == Some(*held) && taken.has_open(dispute_id, *amount)),
            PledgeEvent::DisputeLost { payment_id, dispute_id, amount, held, .. } => taken(payment_id)
                .is_some_and(|taken| {
                    taken.held() == Some(*held)
                        && taken.has_open(dispute_id, *amount)
                        && taken.can_give_back(*amount)
                }),
            PledgeEvent::PledgeCaptured { payment_id, was_unapplied: false, .. } => {
                taken(payment_id).is_none()
            }
            PledgeEvent::PledgeCaptured { payment_id, amount, was_unapplied: true, .. }
            | PledgeEvent::UnappliedAccepted { payment_id, amount, .. } => {
                taken(payment_id).is_some_and(|taken| {
                    taken.usage == Usage::Unapplied && taken.is_intact() && taken.amount == *amount
                })
            }
            PledgeEvent::PledgeFailed { amount, .. }
            | PledgeEvent::PledgeExpired { amount, .. }
            | PledgeEvent::PledgeCancelled { amount, .. } => *amount == self.latest_amount(),
            // What was settled moves money, and is held against the accounts, which name its position.
            PledgeEvent::PledgeCreated { .. }
            | PledgeEvent::PledgeAmended { .. }
            | PledgeEvent::PledgeAuthorized { .. }
            | PledgeEvent::PledgeCompleted { .. } => true,
        }
    }
}
