//! Money that is held apart is accepted.

use chrono::{DateTime, SubsecRound, Utc};

use super::command::Decision;
use super::{
    Acceptance, News, Pledge, PledgeCommand, PledgeError, PledgeEvent, PledgePayment, PledgeRecord, Usage,
};
use crate::{Money, PaymentId, PledgeId};

impl Pledge {
    /// The command that makes the pledge which money held apart here becomes: of the same donor, for
    /// the same campaign. The payment goes there with all that is known of it.
    ///
    /// # Errors
    /// [`PledgeError::NotUnapplied`] for a payment that is not and was not held apart here.
    pub fn create_accepted(
        &self,
        payment_id: &PaymentId,
        at: DateTime<Utc>,
    ) -> Result<PledgeCommand, PledgeError> {
        let record = self.record().ok_or(PledgeError::NotFound)?;
        let not_unapplied = || PledgeError::NotUnapplied(payment_id.clone());
        let payment = record.payments.get(payment_id).filter(|payment| match payment.usage {
            Usage::Unapplied(_) | Usage::AcceptedAs(_) => true,
            Usage::Uncaptured | Usage::Applied | Usage::AppliedSince(_) => false,
        });
        let payment = payment.ok_or_else(not_unapplied)?;
        Ok(PledgeCommand::CreateAccepted {
            campaign_id: record.campaign_id,
            donor_id: record.donor_id,
            payment_id: payment_id.clone(),
            amount: payment.captured().ok_or_else(not_unapplied)?,
            anonymous: record.anonymous,
            payment: Box::new(payment.clone()),
            at,
        })
    }
}

/// The events of a pledge that is paid already.
pub(super) fn create_accepted(command: &PledgeCommand) -> Vec<PledgeEvent> {
    let PledgeCommand::CreateAccepted { campaign_id, donor_id, payment_id, amount, anonymous, payment, at } =
        command
    else {
        return vec![];
    };
    let (campaign_id, donor_id, amount, at) = (*campaign_id, *donor_id, *amount, at.trunc_subsecs(6));
    let held_since = payment.history.created_at();
    let news = News {
        heard: payment.history.statements().cloned().collect(),
        settled: payment.settled,
        corrected: payment.corrected.clone(),
        moves: PledgePayment::clone(payment).accepted_at(at).postings().into_moves(),
    };
    let is_settled = payment.settled.is_some();
    let created =
        PledgeEvent::PledgeCreated { campaign_id, donor_id, amount, anonymous: *anonymous, made_at: at };
    let pledge = PledgeRecord::new(campaign_id, donor_id, amount, *anonymous, at);
    let paid = pledge.paid_by(payment_id, amount, Some(Acceptance { at, held_since }), news);
    let completed = is_settled.then(|| pledge.completed_event(payment_id, amount, News::default()));
    [created].into_iter().chain(paid).chain(completed).collect()
}

impl PledgeRecord {
    pub(super) fn accept_unapplied(&self, payment_id: &PaymentId, accepted_as: PledgeId) -> Decision {
        let not_unapplied = || PledgeError::NotUnapplied(payment_id.clone());
        let payment = self.payments.get(payment_id).ok_or_else(not_unapplied)?;
        match payment.usage {
            Usage::Uncaptured | Usage::Applied | Usage::AppliedSince(_) => Err(not_unapplied()),
            Usage::AcceptedAs(pledge_id) if pledge_id == accepted_as => Ok(vec![]),
            Usage::AcceptedAs(pledge_id) => Err(PledgeError::MovedTo(pledge_id)),
            Usage::Unapplied(_) => Ok(vec![PledgeEvent::UnappliedAccepted {
                campaign_id: self.campaign_id,
                donor_id: self.donor_id,
                payment_id: payment_id.clone(),
                amount: left_of(payment_id, payment)?,
                accepted_as,
            }]),
        }
    }

    pub(super) fn apply_unapplied(&self, payment_id: &PaymentId, at: DateTime<Utc>) -> Decision {
        let not_unapplied = || PledgeError::NotUnapplied(payment_id.clone());
        let payment = self.payments.get(payment_id).ok_or_else(not_unapplied)?;
        match payment.usage {
            Usage::AppliedSince(_) if payment.came_as().is_none() => Ok(vec![]),
            Usage::Uncaptured | Usage::Applied | Usage::AppliedSince(_) => Err(not_unapplied()),
            Usage::AcceptedAs(_) | Usage::Unapplied(_) if !self.waits_for_money() => {
                Err(PledgeError::NotWaiting(self.state.status()))
            }
            Usage::AcceptedAs(pledge_id) => Err(PledgeError::MovedTo(pledge_id)),
            Usage::Unapplied(_) => {
                left_of(payment_id, payment)?;
                let at = at.trunc_subsecs(6);
                let mut after = payment.clone();
                after.usage = Usage::AppliedSince(at);
                let moves = after.postings().minus(payment.postings()).into_moves();
                let news = News { moves, ..News::default() };
                let amount = payment.captured().ok_or_else(not_unapplied)?;
                let accepted = Acceptance { at, held_since: self.made_at };
                let mut events = self.paid_by(payment_id, amount, Some(accepted), news);
                if payment.settled.is_some() {
                    events.push(self.completed_event(payment_id, amount, News::default()));
                }
                Ok(events)
            }
        }
    }
}

/// What is left of a payment that is held apart.
fn left_of(payment_id: &PaymentId, payment: &PledgePayment) -> Result<Money, PledgeError> {
    Money::new(payment.left_minor(), payment.history.currency())
        .map_err(|_| PledgeError::NothingLeft(payment_id.clone()))
}
