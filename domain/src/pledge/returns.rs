//! What becomes of money that was taken: refunds, disputes, and acceptance as another pledge. None
//! of it changes the state of the pledge.

use super::decide::{Decision, require_same};
use super::{
    Contradiction, DisputeStatus, MoneyHeld, Pledge, PledgeCommand, PledgeError, PledgeEvent, PledgeRecord,
    TakenPayment, Usage,
};
use crate::{DisputeId, Money, PaymentId, PledgeId, RefundId};

impl Pledge {
    /// The command that makes the pledge which money held apart here becomes: of the same donor, for
    /// the same campaign.
    ///
    /// # Errors
    /// [`PledgeError::NotUnapplied`] for a payment that is not and was not held apart here.
    pub fn create_accepted(&self, payment_id: &PaymentId) -> Result<PledgeCommand, PledgeError> {
        let record = self.record().ok_or(PledgeError::NotFound)?;
        let taken = record.taken.get(payment_id).filter(|taken| taken.usage != Usage::Applied);
        let taken = taken.ok_or_else(|| PledgeError::NotUnapplied(payment_id.clone()))?;
        Ok(PledgeCommand::CreateAccepted {
            campaign_id: record.campaign_id,
            donor_id: record.donor_id,
            payment_id: payment_id.clone(),
            amount: taken.amount,
            anonymous: record.anonymous,
        })
    }
}

impl PledgeRecord {
    pub(super) fn refunded(&self, payment_id: &PaymentId, refund_id: &RefundId, amount: Money) -> Decision {
        let taken = self.taken_payment(payment_id, amount)?;
        if let Some(recorded) = taken.refunds.get(refund_id) {
            require_same(*recorded, amount)?;
            return Ok(vec![]);
        }
        require_left(taken, amount)?;
        let refunded = PledgeEvent::PaymentRefunded {
            campaign_id: self.campaign_id,
            donor_id: self.donor_id,
            payment_id: payment_id.clone(),
            refund_id: refund_id.clone(),
            amount,
            held: held(taken)?,
        };
        Ok(self.end_if_given_back(payment_id, vec![refunded]))
    }

    /// A dispute may be about money that was refunded meanwhile, so it is only held against what
    /// was taken. What it takes away is checked when it is lost.
    pub(super) fn dispute_opened(
        &self,
        payment_id: &PaymentId,
        dispute_id: &DisputeId,
        amount: Money,
    ) -> Decision {
        let taken = self.taken_payment(payment_id, amount)?;
        if let Some(dispute) = taken.disputes.get(dispute_id) {
            require_same(dispute.amount, amount)?;
            return Ok(vec![]);
        }
        if amount.amount_minor() > taken.amount.amount_minor() {
            return Err(above_capture(taken, amount));
        }
        Ok(vec![PledgeEvent::PaymentDisputed {
            campaign_id: self.campaign_id,
            donor_id: self.donor_id,
            payment_id: payment_id.clone(),
            dispute_id: dispute_id.clone(),
            amount,
            held: held(taken)?,
        }])
    }

    /// An outcome implies that the dispute was opened, so an opening whose own report is late or
    /// lost is recorded first.
    pub(super) fn dispute_won(
        &self,
        payment_id: &PaymentId,
        dispute_id: &DisputeId,
        amount: Money,
    ) -> Decision {
        let mut events = self.dispute_opened(payment_id, dispute_id, amount)?;
        let taken = self.taken_payment(payment_id, amount)?;
        match status(taken, dispute_id) {
            DisputeStatus::Open => events.push(PledgeEvent::DisputeWon {
                campaign_id: self.campaign_id,
                donor_id: self.donor_id,
                payment_id: payment_id.clone(),
                dispute_id: dispute_id.clone(),
                amount,
                held: held(taken)?,
            }),
            DisputeStatus::Won => {}
            recorded @ DisputeStatus::Lost => return Err(other_outcome(recorded, DisputeStatus::Won)),
        }
        Ok(events)
    }

    pub(super) fn dispute_lost(
        &self,
        payment_id: &PaymentId,
        dispute_id: &DisputeId,
        amount: Money,
    ) -> Decision {
        let mut events = self.dispute_opened(payment_id, dispute_id, amount)?;
        let taken = self.taken_payment(payment_id, amount)?;
        match status(taken, dispute_id) {
            DisputeStatus::Open => {
                require_left(taken, amount)?;
                events.push(PledgeEvent::DisputeLost {
                    campaign_id: self.campaign_id,
                    donor_id: self.donor_id,
                    payment_id: payment_id.clone(),
                    dispute_id: dispute_id.clone(),
                    amount,
                    held: held(taken)?,
                });
            }
            DisputeStatus::Lost => {}
            recorded @ DisputeStatus::Won => return Err(other_outcome(recorded, DisputeStatus::Lost)),
        }
        Ok(self.end_if_given_back(payment_id, events))
    }

    pub(super) fn accept_unapplied(&self, payment_id: &PaymentId, accepted_as: PledgeId) -> Decision {
        let not_unapplied = || PledgeError::NotUnapplied(payment_id.clone());
        let taken = self.taken.get(payment_id).ok_or_else(not_unapplied)?;
        match taken.usage {
            Usage::Applied => Err(not_unapplied()),
            Usage::Accepted(pledge_id) if pledge_id == accepted_as => Ok(vec![]),
            Usage::Accepted(pledge_id) => Err(PledgeError::MovedTo(pledge_id)),
            Usage::Unapplied if !taken.is_intact() => Err(PledgeError::NotIntact(payment_id.clone())),
            Usage::Unapplied => Ok(vec![PledgeEvent::UnappliedAccepted {
                campaign_id: self.campaign_id,
                donor_id: self.donor_id,
                payment_id: payment_id.clone(),
                amount: taken.amount,
                accepted_as,
            }]),
        }
    }

    pub(super) fn apply_unapplied(&self, payment_id: &PaymentId) -> Decision {
        let not_unapplied = || PledgeError::NotUnapplied(payment_id.clone());
        let taken = self.taken.get(payment_id).ok_or_else(not_unapplied)?;
        match taken.usage {
            Usage::Applied if taken.was_unapplied => Ok(vec![]),
            Usage::Applied => Err(not_unapplied()),
            Usage::Accepted(_) | Usage::Unapplied if !self.waits_for_money() => {
                Err(PledgeError::NotWaiting(self.state.status()))
            }
            Usage::Accepted(pledge_id) => Err(PledgeError::MovedTo(pledge_id)),
            Usage::Unapplied if !taken.is_intact() => Err(PledgeError::NotIntact(payment_id.clone())),
            Usage::Unapplied => Ok(self.paid_by(payment_id, taken.amount)),
        }
    }

    /// The payment that money of `amount` would go back from. What goes back before the capture is
    /// known waits for it.
    fn taken_payment(&self, payment_id: &PaymentId, amount: Money) -> Result<&TakenPayment, PledgeError> {
        self.require_payment_currency(amount)?;
        self.taken.get(payment_id).ok_or_else(|| PledgeError::AwaitsCapture(payment_id.clone()))
    }
}

fn held(taken: &TakenPayment) -> Result<MoneyHeld, PledgeError> {
    match taken.usage {
        Usage::Applied => Ok(MoneyHeld::Raised),
        Usage::Unapplied => Ok(MoneyHeld::Unapplied),
        Usage::Accepted(pledge_id) => Err(PledgeError::MovedTo(pledge_id)),
    }
}

/// How a dispute stands; one that was never heard of is being opened.
fn status(taken: &TakenPayment, dispute_id: &DisputeId) -> DisputeStatus {
    taken.disputes.get(dispute_id).map_or(DisputeStatus::Open, |dispute| dispute.status)
}

fn require_left(taken: &TakenPayment, amount: Money) -> Result<(), PledgeError> {
    if taken.can_give_back(amount) { Ok(()) } else { Err(above_capture(taken, amount)) }
}

fn above_capture(taken: &TakenPayment, reported: Money) -> PledgeError {
    PledgeError::NeedsReview(Contradiction::AboveCapture {
        captured: taken.amount,
        given_back_minor: taken.given_back_minor(),
        reported,
    })
}

fn other_outcome(recorded: DisputeStatus, reported: DisputeStatus) -> PledgeError {
    PledgeError::NeedsReview(Contradiction::Outcome { recorded, reported })
}
