//! What becomes of what a provider says of a payment.

use std::collections::BTreeMap;

use chrono::{DateTime, SubsecRound, Utc};

use super::command::Decision;
use super::{
    CaptureLimit, Contradiction, Corrected, Correcting, FailureReason, News, Pledge, PledgeError,
    PledgeEvent, PledgePayment, PledgeRecord, PledgeState, Report, UnappliedReason, Usage,
};
use crate::payment::{ObjectKey, Outcome, Statement};
use crate::{Money, PaymentId, PledgeId};

/// What becomes of a report: the events, and the outcome for each object that it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// The payment.
    pub payment_id: PaymentId,
    /// What is newly known; none where nothing is.
    pub events: Vec<PledgeEvent>,
    /// By object. What has to be asked, or is for a person, is not in the events.
    pub outcomes: BTreeMap<ObjectKey, Outcome>,
}

impl Recording {
    /// The events, or the reason why there are none.
    pub(super) fn into_events(self) -> Decision {
        match self.first_trouble() {
            Some(trouble) if self.events.is_empty() => Err(trouble),
            Some(_) | None => Ok(self.events),
        }
    }

    /// Why something of the report is not recorded, if so.
    pub fn first_trouble(&self) -> Option<PledgeError> {
        self.outcomes.values().find_map(|outcome| self.trouble(*outcome))
    }

    /// Why what is said of an object is not recorded, if so.
    pub fn trouble(&self, outcome: Outcome) -> Option<PledgeError> {
        match outcome {
            Outcome::Recorded | Outcome::Known => None,
            Outcome::Ask(reason) => Some(PledgeError::Asks(self.payment_id.clone(), reason)),
            Outcome::Wait => Some(PledgeError::AwaitsCapture(self.payment_id.clone())),
            Outcome::Review(reason) => Some(PledgeError::NeedsReview(Contradiction::Review(reason))),
        }
    }
}

impl Pledge {
    /// What becomes of a report.
    ///
    /// # Errors
    /// [`PledgeError::NotFound`], [`PledgeError::MovedTo`], and a contradiction in currencies.
    pub fn record_report(&self, report: &Report) -> Result<Recording, PledgeError> {
        self.record().ok_or(PledgeError::NotFound)?.record(report)
    }

    /// The pledge that a payment was accepted as, if it was.
    pub fn accepted_as(&self, payment_id: &PaymentId) -> Option<PledgeId> {
        self.record()?.moved_to(payment_id)
    }

    /// When the answer to a question about a payment stands that is sent at `sent_at`: after everything that
    /// is known of it, and that waits for the answer.
    pub fn question_stands_at(
        &self,
        payment_id: &PaymentId,
        sent_at: DateTime<Utc>,
        waiting: &[Statement],
    ) -> DateTime<Utc> {
        let asked =
            |record: &PledgeRecord| record.payment(payment_id).history.question_stands_at(sent_at, waiting);
        self.record().map_or(sent_at, asked)
    }

    /// Whether the provider must be asked to void a payment: it reserved money for a pledge that is
    /// finished and will not take it. Money that was taken meanwhile cannot be voided.
    pub fn asks_to_void(&self, payment_id: &PaymentId) -> bool {
        let Some(record) = self.record() else { return false };
        let finished = match record.state {
            PledgeState::Failed(_) | PledgeState::Expired | PledgeState::Cancelled => true,
            PledgeState::Pending
            | PledgeState::Authorized(_)
            | PledgeState::Captured(_)
            | PledgeState::Completed(_) => false,
        };
        finished && record.payments.get(payment_id).is_some_and(PledgePayment::is_reserved)
    }
}

impl PledgeRecord {
    pub(super) fn record(&self, report: &Report) -> Result<Recording, PledgeError> {
        let payment_id = &report.payment_id;
        if let Some(pledge_id) = self.moved_to(payment_id) {
            return Err(PledgeError::MovedTo(pledge_id));
        }
        let currency_error = |error| PledgeError::NeedsReview(Contradiction::Currency(error));
        if let Some(settled) = &report.settled {
            self.require_currency(settled.amount).map_err(currency_error)?;
        }
        let before = self.payment(payment_id);
        let decision = before.history.decide(&report.heard, report.now).map_err(currency_error)?;
        let mut outcomes = decision.outcomes;
        // The times of answers that say nothing new are kept where there is an event anyway.
        let heard = match decision.recorded.is_empty() {
            true => Vec::new(),
            false => decision.recorded.into_iter().chain(decision.kept).collect(),
        };
        let settled = report.settled.filter(|_| before.settled.is_none());
        let mut news = News { heard, settled, ..News::default() };
        let mut after = before.clone();
        after.hear(news.clone());
        if news.settled.is_some() && after.captured().is_none() {
            // It waits for its capture.
            news.settled = None;
            after.settled = None;
            outcomes.entry(ObjectKey::Payment).or_insert(Outcome::Wait);
        }
        let events = if news.heard.is_empty() && news.settled.is_none() {
            Vec::new()
        } else {
            self.tell(payment_id, report.reason.as_ref(), report.limit, &before, after, news)
        };
        Ok(Recording { payment_id: payment_id.clone(), events, outcomes })
    }

    /// A person states how an object of a payment stands.
    pub(super) fn correct(&self, correcting: &Correcting) -> Decision {
        let Correcting { payment_id, stated, made_at, happened_at, unrecorded, note, limit } = correcting;
        if let Some(pledge_id) = self.moved_to(payment_id) {
            return Err(PledgeError::MovedTo(pledge_id));
        }
        let before = self.payment(payment_id);
        if before.corrected.iter().any(|known| known.note.correction_id == note.correction_id) {
            return Ok(vec![]);
        }
        if *stated.object() != ObjectKey::Payment && before.captured().is_none() {
            return Err(PledgeError::AwaitsCapture(payment_id.clone()));
        }
        let correction = before
            .history
            .correction(stated.clone(), made_at.trunc_subsecs(6), *happened_at, unrecorded)
            .map_err(|error| PledgeError::NeedsReview(Contradiction::Currency(error)))?;
        let corrected = vec![Corrected { correction, note: note.clone() }];
        let news = News { corrected, ..News::default() };
        let mut after = before.clone();
        after.hear(news.clone());
        Ok(self.tell(payment_id, None, *limit, &before, after, news))
    }

    /// The pledge that a payment was accepted as.
    fn moved_to(&self, payment_id: &PaymentId) -> Option<PledgeId> {
        match self.payments.get(payment_id)?.usage {
            Usage::AcceptedAs(pledge_id) => Some(pledge_id),
            Usage::Uncaptured | Usage::Applied | Usage::AppliedSince(_) | Usage::Unapplied(_) => None,
        }
    }

    /// The events by which a payment goes from `before` to `after`.
    fn tell(
        &self,
        payment_id: &PaymentId,
        reason: Option<&FailureReason>,
        limit: CaptureLimit,
        before: &PledgePayment,
        mut after: PledgePayment,
        mut news: News,
    ) -> Vec<PledgeEvent> {
        let captured = after.captured();
        let first_captured = captured.filter(|_| before.usage == Usage::Uncaptured);
        if let Some(amount) = first_captured {
            after.usage = self.use_of(amount, limit);
        }
        news.moves = after.postings().minus(before.postings()).into_moves();
        let mut events = match (first_captured, after.usage) {
            (Some(amount), Usage::Applied) => self.paid_by(payment_id, amount, None, news),
            (Some(amount), Usage::Unapplied(reason)) => vec![PledgeEvent::PaymentUnapplied {
                campaign_id: self.campaign_id,
                donor_id: self.donor_id,
                payment_id: payment_id.clone(),
                amount,
                reason,
                news,
            }],
            (Some(_) | None, _) => self.tell_of_known(payment_id, reason, before, &after, captured, news),
        };
        if first_captured.is_some() && after.usage == Usage::Applied && after.settled.is_some() {
            let amount = captured.unwrap_or(self.amount);
            events.push(self.completed_event(payment_id, amount, News::default()));
        }
        self.end_if_given_back(payment_id, events)
    }

    /// The same of a payment that is not captured for the first time.
    fn tell_of_known(
        &self,
        payment_id: &PaymentId,
        reason: Option<&FailureReason>,
        before: &PledgePayment,
        after: &PledgePayment,
        captured: Option<Money>,
        news: News,
    ) -> Vec<PledgeEvent> {
        match &self.state {
            PledgeState::Pending if before.usage == Usage::Uncaptured && after.is_reserved() => {
                let amount = after.history.authorized().unwrap_or(self.amount);
                vec![self.authorized_event(payment_id, amount, news)]
            }
            PledgeState::Pending | PledgeState::Authorized(_)
                if before.usage == Usage::Uncaptured
                    && after.came_to_nothing()
                    && !before.came_to_nothing()
                    && self.ends_with(payment_id) =>
            {
                vec![self.failed_event(payment_id, reason, news)]
            }
            PledgeState::Captured(payment) if payment.payment_id == *payment_id && news.settled.is_some() => {
                vec![self.completed_event(payment_id, captured.unwrap_or(payment.amount), news)]
            }
            PledgeState::Pending
            | PledgeState::Authorized(_)
            | PledgeState::Captured(_)
            | PledgeState::Completed(_)
            | PledgeState::Failed(_)
            | PledgeState::Expired
            | PledgeState::Cancelled => vec![PledgeEvent::PaymentRecorded {
                campaign_id: self.campaign_id,
                donor_id: self.donor_id,
                payment_id: payment_id.clone(),
                captured,
                news,
            }],
        }
    }

    /// The use of a payment's money when the first of it is captured.
    fn use_of(&self, amount: Money, limit: CaptureLimit) -> Usage {
        if !self.waits_for_money() {
            Usage::Unapplied(UnappliedReason::NotNeeded)
        } else if limit.is_exceeded(self.amount, amount) {
            Usage::Unapplied(UnappliedReason::AboveLimit)
        } else {
            Usage::Applied
        }
    }

    /// Whether a pledge that waits for money fails when nothing more comes of this payment: no person has to
    /// decide about another one, and none is open that may still pay.
    fn ends_with(&self, payment_id: &PaymentId) -> bool {
        let may_pay: fn(&PledgePayment) -> bool = match self.state {
            // Somebody may be about to pay. If not, the pledge expires.
            PledgeState::Pending => PledgePayment::is_open,
            PledgeState::Authorized(_) => PledgePayment::is_reserved,
            PledgeState::Captured(_)
            | PledgeState::Completed(_)
            | PledgeState::Failed(_)
            | PledgeState::Expired
            | PledgeState::Cancelled => return false,
        };
        let mut others = self.payments.iter().filter(|(other, _)| *other != payment_id);
        !others.any(|(_, payment)| may_pay(payment) || payment.is_held_apart() && payment.left_minor() > 0)
    }

    /// With the end of a pledge that waited for a person, if these events leave nothing of the money in
    /// question: it was paid, and the money has gone back.
    fn end_if_given_back(&self, payment_id: &PaymentId, events: Vec<PledgeEvent>) -> Vec<PledgeEvent> {
        let is_given_back = |record: &Self| {
            let payment = record.payments.get(payment_id);
            payment.is_some_and(|payment| payment.is_held_apart() && payment.left_minor() == 0)
        };
        let was_held = self.payments.get(payment_id).is_some_and(PledgePayment::is_held_apart);
        if !was_held && !events.iter().any(|event| matches!(event, PledgeEvent::PaymentUnapplied { .. })) {
            return events;
        }
        let mut after = self.clone();
        events.iter().cloned().for_each(|event| after.apply(event));
        let ends = is_given_back(&after) && !is_given_back(self) && after.ends_with(payment_id);
        let failed = ends.then(|| after.failed_event(payment_id, None, News::default()));
        events.into_iter().chain(failed).collect()
    }
}
