//! The table of facts and states.

use chrono::SubsecRound;

use super::accept::create_accepted;
use super::command::Decision;
use super::{
    Acceptance, FailureReason, News, Pledge, PledgeCommand, PledgeError, PledgeEvent, PledgePayment,
    PledgeRecord, PledgeState,
};
use crate::{Money, MoneyError, PaymentId};

impl Pledge {
    pub(super) fn decide_by_table(&self, command: &PledgeCommand) -> Decision {
        match (self, command) {
            (Self::Absent, &PledgeCommand::Create { campaign_id, donor_id, amount, anonymous, made_at }) => {
                let made_at = made_at.trunc_subsecs(6);
                Ok(vec![PledgeEvent::PledgeCreated { campaign_id, donor_id, amount, anonymous, made_at }])
            }
            (Self::Absent, create @ PledgeCommand::CreateAccepted { .. }) => Ok(create_accepted(create)),
            (Self::Absent, _) => Err(PledgeError::NotFound),
            (Self::Made(_), PledgeCommand::Create { .. } | PledgeCommand::CreateAccepted { .. }) => {
                Err(PledgeError::AlreadyExists)
            }
            (Self::Made(pledge), PledgeCommand::Amend { amount }) => pledge.amend(*amount),
            (Self::Made(pledge), PledgeCommand::Cancel) => pledge.cancel(),
            (Self::Made(pledge), PledgeCommand::Expire) => Ok(pledge.expire()),
            (Self::Made(pledge), PledgeCommand::Record(report)) => pledge.record(report)?.into_events(),
            (Self::Made(pledge), PledgeCommand::Correct(correcting)) => pledge.correct(correcting),
            (Self::Made(pledge), PledgeCommand::Apply { payment_id, at }) => {
                pledge.apply_unapplied(payment_id, *at)
            }
            (Self::Made(pledge), PledgeCommand::AcceptUnapplied { payment_id, accepted_as }) => {
                pledge.accept_unapplied(payment_id, *accepted_as)
            }
        }
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

    pub(super) fn failed_event(
        &self,
        payment_id: &PaymentId,
        reason: Option<&FailureReason>,
        news: News,
    ) -> PledgeEvent {
        PledgeEvent::PledgeFailed {
            campaign_id: self.campaign_id,
            from: self.state.status(),
            payment_id: payment_id.clone(),
            amount: self.latest_amount(),
            reason: reason.cloned(),
            news,
        }
    }

    pub(super) fn authorized_event(&self, payment_id: &PaymentId, amount: Money, news: News) -> PledgeEvent {
        PledgeEvent::PledgeAuthorized {
            campaign_id: self.campaign_id,
            payment_id: payment_id.clone(),
            amount,
            news,
        }
    }

    /// The way of a pledge that waits for money, to where it is captured.
    pub(super) fn paid_by(
        &self,
        payment_id: &PaymentId,
        amount: Money,
        accepted: Option<Acceptance>,
        news: News,
    ) -> Vec<PledgeEvent> {
        let is_pending = self.state == PledgeState::Pending;
        let authorized = is_pending.then(|| self.authorized_event(payment_id, amount, News::default()));
        let captured = PledgeEvent::PledgeCaptured {
            campaign_id: self.campaign_id,
            donor_id: self.donor_id,
            payment_id: payment_id.clone(),
            amount,
            accepted,
            news,
        };
        authorized.into_iter().chain([captured]).collect()
    }

    pub(super) fn completed_event(&self, payment_id: &PaymentId, amount: Money, news: News) -> PledgeEvent {
        PledgeEvent::PledgeCompleted {
            campaign_id: self.campaign_id,
            donor_id: self.donor_id,
            payment_id: payment_id.clone(),
            amount,
            news,
        }
    }

    pub(super) fn require_currency(&self, amount: Money) -> Result<(), MoneyError> {
        let (expected, found) = (self.amount.currency(), amount.currency());
        if expected == found { Ok(()) } else { Err(MoneyError::CurrencyMismatch { expected, found }) }
    }

    /// What is known of a payment: nothing, if nobody has heard of it.
    pub(super) fn payment(&self, payment_id: &PaymentId) -> PledgePayment {
        let nothing = || PledgePayment::new(self.amount.currency(), self.made_at);
        self.payments.get(payment_id).cloned().unwrap_or_else(nothing)
    }
}
