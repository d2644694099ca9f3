//! The table of facts and states.

use super::{
    CaptureLimit, Contradiction, FailureReason, PaymentFact, Pledge, PledgeCommand, PledgeError, PledgeEvent,
    PledgeRecord, PledgeState, UnappliedReason, Usage,
};
use crate::{Money, MoneyError, PaymentId, PledgeId};

pub(super) type Decision = Result<Vec<PledgeEvent>, PledgeError>;

impl Pledge {
    pub(super) fn decide_by_table(&self, command: &PledgeCommand) -> Decision {
        match (self, command) {
            (Self::Absent, &PledgeCommand::Create { campaign_id, donor_id, amount, anonymous }) => {
                Ok(vec![PledgeEvent::PledgeCreated { campaign_id, donor_id, amount, anonymous }])
            }
            (
                Self::Absent,
                PledgeCommand::CreateAccepted { campaign_id, donor_id, payment_id, amount, anonymous },
            ) => {
                let (campaign_id, donor_id, amount) = (*campaign_id, *donor_id, *amount);
                let payment_id = || payment_id.clone();
                Ok(vec![
                    PledgeEvent::PledgeCreated { campaign_id, donor_id, amount, anonymous: *anonymous },
                    PledgeEvent::PledgeAuthorized { campaign_id, payment_id: payment_id(), amount },
                    PledgeEvent::PledgeCaptured {
                        campaign_id,
                        donor_id,
                        payment_id: payment_id(),
                        amount,
                        was_unapplied: false,
                    },
                ])
            }
            (Self::Absent, _) => Err(PledgeError::NotFound),
            (Self::Made(_), PledgeCommand::Create { .. } | PledgeCommand::CreateAccepted { .. }) => {
                Err(PledgeError::AlreadyExists)
            }
            (Self::Made(pledge), PledgeCommand::Amend { amount }) => pledge.amend(*amount),
            (Self::Made(pledge), PledgeCommand::Cancel) => pledge.cancel(),
            (Self::Made(pledge), PledgeCommand::Expire) => Ok(pledge.expire()),
            (Self::Made(pledge), PledgeCommand::Record { fact, limit }) => pledge.record_fact(fact, *limit),
            (Self::Made(pledge), PledgeCommand::Apply { payment_id }) => pledge.apply_unapplied(payment_id),
            (Self::Made(pledge), PledgeCommand::AcceptUnapplied { payment_id, accepted_as }) => {
                pledge.accept_unapplied(payment_id, *accepted_as)
            }
        }
    }
}

impl Pledge {
    /// Whether the provider must be asked to void the payment of `fact`: it reserved money for a
    /// pledge that is finished and will not take it. Money that was taken meanwhile cannot be voided.
    pub fn asks_to_void(&self, fact: &PaymentFact) -> bool {
        let Some(record) = self.record() else { return false };
        let finished = match record.state {
            PledgeState::Failed(_) | PledgeState::Expired | PledgeState::Cancelled => true,
            PledgeState::Pending
            | PledgeState::Authorized(_)
            | PledgeState::Captured(_)
            | PledgeState::Completed(_) => false,
        };
        let is_taken = record.taken.contains_key(fact.payment_id());
        finished && !is_taken && matches!(fact, PaymentFact::Authorized { .. })
    }
}

impl PledgeRecord {
    fn amend(&self, amount: Money) -> Decision {
        if self.state != PledgeState::Pending {
            return Err(PledgeError::NotPending(self.state.status()));
        }
        self.require_no_question()?;
        self.require_currency(amount).map_err(PledgeError::Currency)?;
        if amount == self.amount {
            return Ok(vec![]);
        }
        Ok(vec![PledgeEvent::PledgeAmended { campaign_id: self.campaign_id, amount }])
    }

    fn cancel(&self) -> Decision {
        self.require_no_question()?;
        match &self.state {
            PledgeState::Authorized(payment) => Ok(vec![PledgeEvent::PledgeCancelled {
                campaign_id: self.campaign_id,
                payment_id: payment.payment_id.clone(),
                amount: payment.amount,
            }]),
            PledgeState::Cancelled => Ok(vec![]),
            PledgeState::Pending
            | PledgeState::Captured(_)
            | PledgeState::Completed(_)
            | PledgeState::Failed(_)
            | PledgeState::Expired => Err(PledgeError::NotAuthorized(self.state.status())),
        }
    }

    fn require_no_question(&self) -> Result<(), PledgeError> {
        self.in_question().map_or(Ok(()), |payment_id| Err(PledgeError::InQuestion(payment_id.clone())))
    }

    /// A pledge that was paid in time does not expire: only a pending pledge has anything new to say. Where a
    /// person has to accept the money, it waits for them.
    fn expire(&self) -> Vec<PledgeEvent> {
        match self.state {
            PledgeState::Pending if self.in_question().is_some() => vec![],
            PledgeState::Pending => {
                vec![PledgeEvent::PledgeExpired { campaign_id: self.campaign_id, amount: self.amount }]
            }
            PledgeState::Authorized(_)
            | PledgeState::Captured(_)
            | PledgeState::Completed(_)
            | PledgeState::Failed(_)
            | PledgeState::Expired
            | PledgeState::Cancelled => vec![],
        }
    }

    fn record_fact(&self, fact: &PaymentFact, limit: CaptureLimit) -> Decision {
        if let Some(pledge_id) = self.moved_to(fact) {
            return Err(PledgeError::MovedTo(pledge_id));
        }
        match fact {
            PaymentFact::Authorized { payment_id, amount } => self.authorized(payment_id, *amount),
            PaymentFact::Captured { payment_id, amount } => self.captured(payment_id, *amount, limit),
            PaymentFact::Settled { payment_id, amount } => self.settled(payment_id, *amount, limit),
            PaymentFact::Failed { payment_id, reason } => self.failed(payment_id, reason.as_ref()),
            PaymentFact::Refunded { payment_id, refund_id, amount } => {
                self.refunded(payment_id, refund_id, *amount)
            }
            PaymentFact::DisputeOpened { payment_id, dispute_id, amount } => {
                self.dispute_opened(payment_id, dispute_id, *amount)
            }
            PaymentFact::DisputeWon { payment_id, dispute_id, amount } => {
                self.dispute_won(payment_id, dispute_id, *amount)
            }
            PaymentFact::DisputeLost { payment_id, dispute_id, amount } => {
                self.dispute_lost(payment_id, dispute_id, *amount)
            }
        }
    }

    /// The pledge that a fact belongs to, if its payment was accepted as another one. A dispute that
    /// was won before stays known here: the other pledge has never heard of it.
    fn moved_to(&self, fact: &PaymentFact) -> Option<PledgeId> {
        let taken = self.taken.get(fact.payment_id())?;
        match taken.usage {
            Usage::Accepted(_) if fact.dispute_id().is_some_and(|id| taken.disputes.contains_key(id)) => None,
            Usage::Accepted(pledge_id) => Some(pledge_id),
            Usage::Applied | Usage::Unapplied => None,
        }
    }

    fn authorized(&self, payment_id: &PaymentId, amount: Money) -> Decision {
        self.require_payment_currency(amount)?;
        match self.state {
            PledgeState::Pending if !self.taken.contains_key(payment_id) => {
                Ok(vec![self.authorized_event(payment_id, amount)])
            }
            PledgeState::Pending
            | PledgeState::Authorized(_)
            | PledgeState::Captured(_)
            | PledgeState::Completed(_)
            | PledgeState::Failed(_)
            | PledgeState::Expired
            | PledgeState::Cancelled => Ok(vec![]),
        }
    }

    fn captured(&self, payment_id: &PaymentId, amount: Money, limit: CaptureLimit) -> Decision {
        self.require_payment_currency(amount)?;
        if let Some(taken) = self.taken.get(payment_id) {
            require_same(taken.amount, amount)?;
            return Ok(vec![]);
        }
        let reason = if !self.waits_for_money() {
            UnappliedReason::NotNeeded
        } else if limit.is_exceeded(self.amount, amount) {
            UnappliedReason::AboveLimit
        } else {
            return Ok(self.paid_by(payment_id, amount));
        };
        Ok(vec![PledgeEvent::PaymentUnapplied {
            campaign_id: self.campaign_id,
            donor_id: self.donor_id,
            payment_id: payment_id.clone(),
            amount,
            reason,
        }])
    }

    /// The way of a pledge that waits for money, to where it is captured.
    pub(super) fn paid_by(&self, payment_id: &PaymentId, amount: Money) -> Vec<PledgeEvent> {
        let authorized =
            (self.state == PledgeState::Pending).then(|| self.authorized_event(payment_id, amount));
        authorized.into_iter().chain([self.captured_event(payment_id, amount)]).collect()
    }

    /// A settlement implies that the money was taken, so a capture whose own report is late or
    /// lost is recorded first.
    fn settled(&self, payment_id: &PaymentId, amount: Money, limit: CaptureLimit) -> Decision {
        let mut events = self.captured(payment_id, amount, limit)?;
        let applies = match &self.state {
            PledgeState::Pending | PledgeState::Authorized(_) => {
                events.iter().any(|event| matches!(event, PledgeEvent::PledgeCaptured { .. }))
            }
            PledgeState::Captured(payment) => payment.payment_id == *payment_id,
            PledgeState::Completed(_)
            | PledgeState::Failed(_)
            | PledgeState::Expired
            | PledgeState::Cancelled => false,
        };
        if applies {
            events.push(PledgeEvent::PledgeCompleted {
                campaign_id: self.campaign_id,
                payment_id: payment_id.clone(),
                // As captured: any other amount would have needed review.
                amount,
            });
        }
        Ok(events)
    }

    /// That another payment than the one in use, or in question, has failed changes nothing: the donor tried
    /// twice.
    fn failed(&self, payment_id: &PaymentId, reason: Option<&FailureReason>) -> Decision {
        if self.waits_for_money() && self.taken.contains_key(payment_id) {
            return Err(PledgeError::NeedsReview(Contradiction::FailedAfterCapture(self.state.status())));
        }
        if self.state == PledgeState::Pending && self.in_question().is_some() {
            return Ok(vec![]);
        }
        match &self.state {
            PledgeState::Authorized(payment)
            | PledgeState::Captured(payment)
            | PledgeState::Completed(payment)
                if payment.payment_id != *payment_id =>
            {
                Ok(vec![])
            }
            PledgeState::Pending | PledgeState::Authorized(_) => {
                Ok(vec![self.failed_event(payment_id, reason)])
            }
            PledgeState::Captured(_) | PledgeState::Completed(_) => {
                Err(PledgeError::NeedsReview(Contradiction::FailedAfterCapture(self.state.status())))
            }
            PledgeState::Failed(_) | PledgeState::Expired | PledgeState::Cancelled => Ok(vec![]),
        }
    }

    /// What ends a pledge that waits for a person, if these events leave nothing of the money in question:
    /// it was paid, and the money has gone back.
    pub(super) fn end_if_given_back(
        &self,
        payment_id: &PaymentId,
        events: Vec<PledgeEvent>,
    ) -> Vec<PledgeEvent> {
        let is_its_own = match &self.state {
            PledgeState::Pending => true,
            PledgeState::Authorized(payment) => payment.payment_id == *payment_id,
            PledgeState::Captured(_)
            | PledgeState::Completed(_)
            | PledgeState::Failed(_)
            | PledgeState::Expired
            | PledgeState::Cancelled => false,
        };
        if !is_its_own || self.in_question().is_none() {
            return events;
        }
        let mut after = self.clone();
        events.iter().cloned().for_each(|event| after.apply(event));
        let failed = after.in_question().is_none().then(|| self.failed_event(payment_id, None));
        events.into_iter().chain(failed).collect()
    }

    fn failed_event(&self, payment_id: &PaymentId, reason: Option<&FailureReason>) -> PledgeEvent {
        PledgeEvent::PledgeFailed {
            campaign_id: self.campaign_id,
            from: self.state.status(),
            payment_id: payment_id.clone(),
            amount: self.latest_amount(),
            reason: reason.cloned(),
        }
    }

    fn authorized_event(&self, payment_id: &PaymentId, amount: Money) -> PledgeEvent {
        PledgeEvent::PledgeAuthorized {
            campaign_id: self.campaign_id,
            payment_id: payment_id.clone(),
            amount,
        }
    }

    fn captured_event(&self, payment_id: &PaymentId, amount: Money) -> PledgeEvent {
        PledgeEvent::PledgeCaptured {
            campaign_id: self.campaign_id,
            donor_id: self.donor_id,
            payment_id: payment_id.clone(),
            amount,
            was_unapplied: self.taken.contains_key(payment_id),
        }
    }

    pub(super) fn require_payment_currency(&self, amount: Money) -> Result<(), PledgeError> {
        self.require_currency(amount)
            .map_err(|error| PledgeError::NeedsReview(Contradiction::Currency(error)))
    }

    fn require_currency(&self, amount: Money) -> Result<(), MoneyError> {
        let (expected, found) = (self.amount.currency(), amount.currency());
        if expected == found { Ok(()) } else { Err(MoneyError::CurrencyMismatch { expected, found }) }
    }
}

/// The same payment, refund or dispute has one amount, however often it is reported.
pub(super) fn require_same(recorded: Money, reported: Money) -> Result<(), PledgeError> {
    if recorded == reported {
        Ok(())
    } else {
        Err(PledgeError::NeedsReview(Contradiction::Amount { recorded, reported }))
    }
}
