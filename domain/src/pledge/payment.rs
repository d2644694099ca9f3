//! A payment of a pledge: everything heard of it, the use of its money, and where that is posted.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::money_move::Postings;
use super::{Corrected, MoneyMove, News, Settlement};
use crate::payment::{Content, Figures, ObjectKey, PaymentHistory, PaymentState, RefundState};
use crate::{Currency, Money, PledgeId, RefundId};

/// A payment of which anything was heard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PledgePayment {
    /// Everything that the provider said of it.
    pub history: PaymentHistory,
    /// The use of its money.
    pub usage: Usage,
    /// Its settlement, once it is known.
    pub settled: Option<Settlement>,
    /// As another pledge held it apart, before it came here. What that pledge posted is not posted again.
    came_as: Option<Box<PledgePayment>>,
    /// What people stated about it, from the first to the last.
    pub corrected: Vec<Corrected>,
}

/// The use of a payment's money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Usage {
    /// None was captured yet.
    Uncaptured,
    /// It pays the pledge, and is raised.
    Applied,
    /// It was held apart, by this pledge or by another one of the donor, until it was accepted at this
    /// instant. From then on it pays the pledge.
    AppliedSince(DateTime<Utc>),
    /// It is held apart: the pledge cannot use it, or not without asking a person.
    Unapplied(UnappliedReason),
    /// It was held apart, and was accepted as another pledge of the donor, where it is raised.
    AcceptedAs(PledgeId),
}

/// Why money is held apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnappliedReason {
    /// The pledge is finished, or was paid by another payment.
    NotNeeded,
    /// It is more than the [`CaptureLimit`](super::CaptureLimit): a person has to accept it.
    AboveLimit,
}

impl UnappliedReason {
    /// Its name, as it is written down.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotNeeded => "not_needed",
            Self::AboveLimit => "above_limit",
        }
    }
}

/// Money that was held apart was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Acceptance {
    /// When. From then on it pays the pledge.
    pub at: DateTime<Utc>,
    /// When the pledge was made that held it apart.
    pub held_since: DateTime<Utc>,
}

impl PledgePayment {
    /// Nothing heard yet, of a payment of a pledge that was made at `made_at`.
    pub(super) fn new(currency: Currency, made_at: DateTime<Utc>) -> Self {
        let history = PaymentHistory::new(currency, made_at);
        Self { history, usage: Usage::Uncaptured, settled: None, came_as: None, corrected: Vec::new() }
    }

    /// The payment as it comes to a pledge that it pays from `at` on: another one of the donor held it.
    pub(super) fn accepted_at(self, at: DateTime<Utc>) -> Self {
        Self { usage: Usage::AppliedSince(at), came_as: Some(Box::new(self.clone())), ..self }
    }

    /// Adds what an event tells. An event of the ledger is in one currency, so nothing of it is lost.
    pub(super) fn hear(&mut self, news: News) {
        for statement in news.heard {
            let _ = self.history.hear(statement);
        }
        for corrected in news.corrected {
            let _ = self.history.correct(corrected.correction.clone());
            self.corrected.push(corrected);
        }
        self.settled = self.settled.or(news.settled);
    }

    /// Its figures, whatever it is used for.
    pub fn figures(&self) -> Figures {
        self.history.figures()
    }

    /// Captured so far; none before that.
    pub fn captured(&self) -> Option<Money> {
        match self.history.counts(&ObjectKey::Payment)? {
            Content::Payment(PaymentState { captured, .. }) => captured,
            Content::Refund(_) | Content::Dispute(_) | Content::Reversal(_) => None,
        }
    }

    /// Whether it ended, and nothing was captured.
    pub fn came_to_nothing(&self) -> bool {
        match self.history.counts(&ObjectKey::Payment) {
            Some(Content::Payment(PaymentState { captured, over })) => captured.is_none() && over.is_some(),
            Some(Content::Refund(_) | Content::Dispute(_) | Content::Reversal(_)) | None => false,
        }
    }

    /// Whether somebody may still pay by it: nothing was captured, and it has not ended.
    pub(super) fn is_open(&self) -> bool {
        self.captured().is_none() && !self.came_to_nothing()
    }

    /// Whether money is reserved by it, and nothing was captured yet.
    pub fn is_reserved(&self) -> bool {
        self.is_open() && self.history.authorized().is_some()
    }

    /// Whether it pays the pledge.
    pub fn is_applied(&self) -> bool {
        match self.usage {
            Usage::Applied | Usage::AppliedSince(_) => true,
            Usage::Uncaptured | Usage::Unapplied(_) | Usage::AcceptedAs(_) => false,
        }
    }

    /// Whether it is held apart.
    pub fn is_held_apart(&self) -> bool {
        match self.usage {
            Usage::Unapplied(_) => true,
            Usage::Uncaptured | Usage::Applied | Usage::AppliedSince(_) | Usage::AcceptedAs(_) => false,
        }
    }

    /// As another pledge held it apart, before it came here.
    pub fn came_as(&self) -> Option<&Self> {
        self.came_as.as_deref()
    }

    /// Captured, less what went back, in minor units: never negative.
    pub fn left_minor(&self) -> i64 {
        self.figures().left_minor()
    }

    /// The refunds of which the provider has said how they ended.
    pub fn ended_refunds(&self) -> impl Iterator<Item = &RefundId> {
        self.history.objects().filter_map(|key| match key {
            ObjectKey::Refund(id) => match self.history.counts(key) {
                Some(Content::Refund(RefundState::Asked)) | None => None,
                Some(_) => Some(id),
            },
            ObjectKey::Payment | ObjectKey::Dispute(_) | ObjectKey::Reversal(_) => None,
        })
    }

    /// How it is used at an instant.
    fn is_raised_at(&self, instant: DateTime<Utc>) -> bool {
        match self.usage {
            Usage::Applied => true,
            Usage::AppliedSince(accepted_at) => accepted_at <= instant,
            Usage::Uncaptured | Usage::Unapplied(_) | Usage::AcceptedAs(_) => false,
        }
    }

    /// Every move of its money, as this pledge posts it.
    pub(super) fn postings(&self) -> Postings {
        let currency = self.history.currency();
        let timeline = self.history.timeline();
        let mut instants: Vec<DateTime<Utc>> = timeline.moves().map(|moved| moved.at).collect();
        if let Usage::AppliedSince(accepted_at) = self.usage {
            instants.push(accepted_at);
            instants.sort_unstable();
            instants.dedup();
        }
        let mut postings = Postings::default();
        let mut before = MoneyMove::none(self.history.created_at(), currency);
        for at in instants {
            let figures = timeline.at(at);
            let after = if self.is_raised_at(at) {
                MoneyMove::raised(at, currency, figures)
            } else {
                MoneyMove::held_apart(at, currency, figures)
            };
            postings.add(after.minus(before));
            before = after;
        }
        if let Some(Settlement { amount, at }) = self.settled {
            let none = MoneyMove::none(at, amount.currency());
            postings.add(MoneyMove { settled_minor: amount.amount_minor(), ..none });
        }
        match &self.came_as {
            Some(came_as) => postings.minus(came_as.postings()),
            None => postings,
        }
    }
}
