use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    FailureReason, News, PledgeCommand, PledgeError, PledgeEvent, PledgePayment, PledgeStatus, Usage,
};
use crate::rules::Rules;
use crate::{CampaignId, DonorId, Money, PaymentId};

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
    /// When it was made.
    pub made_at: DateTime<Utc>,
    /// Where it stands.
    pub state: PledgeState,
    /// Every payment of which anything was heard, whatever it is used for. By id, so that the order of
    /// arrival leaves no trace.
    pub payments: BTreeMap<PaymentId, PledgePayment>,
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
            (_, PledgeEvent::PledgeCreated { campaign_id, donor_id, amount, anonymous, made_at }) => {
                Self::Made(Box::new(PledgeRecord::new(campaign_id, donor_id, amount, anonymous, made_at)))
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
    pub(super) fn new(
        campaign_id: CampaignId,
        donor_id: DonorId,
        amount: Money,
        anonymous: bool,
        made_at: DateTime<Utc>,
    ) -> Self {
        let (state, payments) = (PledgeState::Pending, BTreeMap::new());
        Self { campaign_id, donor_id, amount, anonymous, made_at, state, payments }
    }

    /// The payment that pays this pledge; none before its money was taken.
    pub fn applied(&self) -> Option<&PledgePayment> {
        self.payments.values().find(|payment| payment.is_applied())
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
        let is_held = |payment: &PledgePayment| payment.is_held_apart() && payment.left_minor() > 0;
        let held = self.payments.iter().find(|(_, payment)| self.waits_for_money() && is_held(payment));
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
            PledgeEvent::PledgeAuthorized { payment_id, amount, news, .. } => {
                // It may be no more than the way to a capture, which tells what is known.
                if !news.is_empty() {
                    self.hear(&payment_id, news);
                }
                self.state = PledgeState::Authorized(Payment { payment_id, amount });
            }
            PledgeEvent::PledgeCaptured { payment_id, amount, accepted, news, .. } => {
                let known = self.payments.remove(&payment_id);
                let payment = match (known, accepted) {
                    (known, None) => {
                        let mut payment = known.unwrap_or_else(|| self.payment(&payment_id));
                        payment.hear(news);
                        payment.usage = Usage::Applied;
                        payment
                    }
                    (Some(mut payment), Some(accepted)) => {
                        payment.hear(news);
                        payment.usage = Usage::AppliedSince(accepted.at);
                        payment
                    }
                    (None, Some(accepted)) => {
                        let mut payment = PledgePayment::new(self.amount.currency(), accepted.held_since);
                        payment.hear(news);
                        payment.accepted_at(accepted.at)
                    }
                };
                self.payments.insert(payment_id.clone(), payment);
                self.state = PledgeState::Captured(Payment { payment_id, amount });
            }
            PledgeEvent::PledgeCompleted { payment_id, amount, news, .. } => {
                self.hear(&payment_id, news);
                self.state = PledgeState::Completed(Payment { payment_id, amount });
            }
            PledgeEvent::PledgeFailed { payment_id, reason, news, .. } => {
                self.hear(&payment_id, news);
                self.state = PledgeState::Failed(reason);
            }
            PledgeEvent::PledgeExpired { .. } => self.state = PledgeState::Expired,
            PledgeEvent::PledgeCancelled { .. } => self.state = PledgeState::Cancelled,
            PledgeEvent::PaymentUnapplied { payment_id, reason, news, .. } => {
                self.hear(&payment_id, news).usage = Usage::Unapplied(reason);
                self.note_ended();
            }
            PledgeEvent::PaymentRecorded { payment_id, captured, news, .. } => {
                self.hear(&payment_id, news);
                self.note_captured(&payment_id, captured);
                self.note_ended();
            }
            PledgeEvent::UnappliedAccepted { payment_id, accepted_as, .. } => {
                self.hear(&payment_id, News::default()).usage = Usage::AcceptedAs(accepted_as);
            }
        }
    }

    /// The payment, with what an event tells of it.
    fn hear(&mut self, payment_id: &PaymentId, news: News) -> &mut PledgePayment {
        let nothing = || PledgePayment::new(self.amount.currency(), self.made_at);
        let payment = self.payments.entry(payment_id.clone()).or_insert_with(nothing);
        if !news.is_empty() {
            payment.hear(news);
        }
        payment
    }

    /// More, or by a person's word less, was captured by the payment that pays.
    fn note_captured(&mut self, payment_id: &PaymentId, captured: Option<Money>) {
        match &mut self.state {
            PledgeState::Captured(payment) | PledgeState::Completed(payment)
                if payment.payment_id == *payment_id =>
            {
                payment.amount = captured.unwrap_or(payment.amount);
            }
            PledgeState::Pending
            | PledgeState::Authorized(_)
            | PledgeState::Captured(_)
            | PledgeState::Completed(_)
            | PledgeState::Failed(_)
            | PledgeState::Expired
            | PledgeState::Cancelled => {}
        }
    }

    /// Where the payment that was reserved for the pledge will not pay it any more, another one that is
    /// reserved takes its place.
    fn note_ended(&mut self) {
        let PledgeState::Authorized(payment) = &self.state else { return };
        let may_pay = |payment: &PledgePayment| payment.is_reserved() || payment.left_minor() > 0;
        if self.payments.get(&payment.payment_id).is_some_and(may_pay) {
            return;
        }
        let reserved = self.payments.iter().find(|(_, payment)| payment.is_reserved());
        if let Some((payment_id, payment)) = reserved {
            let amount = payment.history.authorized().unwrap_or(self.amount);
            self.state = PledgeState::Authorized(Payment { payment_id: payment_id.clone(), amount });
        }
    }

    /// Whether the moves of `event` follow from what it tells, and the amounts that it names are those of
    /// the pledge after it.
    fn has_money_for(&self, event: &PledgeEvent) -> bool {
        let names_its_amount = match event {
            PledgeEvent::PledgeFailed { amount, .. }
            | PledgeEvent::PledgeExpired { amount, .. }
            | PledgeEvent::PledgeCancelled { amount, .. } => *amount == self.latest_amount(),
            PledgeEvent::UnappliedAccepted { payment_id, amount, .. } => {
                self.payments.get(payment_id).is_some_and(|payment| {
                    payment.is_held_apart() && payment.left_minor() == amount.amount_minor()
                })
            }
            PledgeEvent::PledgeCreated { .. }
            | PledgeEvent::PledgeAmended { .. }
            | PledgeEvent::PledgeAuthorized { .. }
            | PledgeEvent::PledgeCaptured { .. }
            | PledgeEvent::PledgeCompleted { .. }
            | PledgeEvent::PaymentUnapplied { .. }
            | PledgeEvent::PaymentRecorded { .. } => true,
        };
        let Some((payment_id, news)) = event.payment_id().zip(event.news()) else { return names_its_amount };
        let is_free = |payment: Option<&PledgePayment>| {
            payment.is_none_or(|payment| payment.usage == Usage::Uncaptured)
        };
        let known = self.payments.get(payment_id);
        let (is_its_turn, captured) = match event {
            PledgeEvent::PledgeCaptured { accepted: Some(_), amount, .. } => {
                (known.is_none_or(PledgePayment::is_held_apart), Some(*amount))
            }
            PledgeEvent::PledgeCaptured { accepted: None, amount, .. }
            | PledgeEvent::PaymentUnapplied { amount, .. } => (is_free(known), Some(*amount)),
            PledgeEvent::PledgeCompleted { amount, .. } => {
                (known.is_some_and(PledgePayment::is_applied), Some(*amount))
            }
            PledgeEvent::PaymentRecorded { captured, .. } => (true, *captured),
            PledgeEvent::PledgeCreated { .. }
            | PledgeEvent::PledgeAmended { .. }
            | PledgeEvent::PledgeAuthorized { .. }
            | PledgeEvent::PledgeFailed { .. }
            | PledgeEvent::PledgeExpired { .. }
            | PledgeEvent::PledgeCancelled { .. }
            | PledgeEvent::UnappliedAccepted { .. } => (true, known.and_then(PledgePayment::captured)),
        };
        let stated = news.heard.iter().flat_map(|said| [said.content().amount(), said.authorized_amount()]);
        let settled = news.settled.map(|settled| settled.amount);
        let corrected = news.corrected.iter().filter_map(|corrected| corrected.correction.content().amount());
        let is_its_currency = stated
            .flatten()
            .chain(settled)
            .chain(corrected)
            .all(|amount| amount.currency() == self.amount.currency());
        names_its_amount && is_its_turn && is_its_currency && {
            let mut after = self.clone();
            after.apply(event.clone());
            let after = after.payment(payment_id);
            let moves = after.postings().minus(self.payment(payment_id).postings()).into_moves();
            after.captured() == captured && moves == news.moves
        }
    }
}
