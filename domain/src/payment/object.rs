//! The history of one object: everything heard of it, the table that orders it, and what counts now.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::correction::Correction;
use super::statement::{
    Content, DisputeState, Origin, Over, PaymentState, RefundState, ReversalState, Stated, Statement,
};
use crate::Money;

/// The set of what was heard of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Object {
    /// In the table's order, each once.
    statements: Vec<Statement>,
    /// From the first to the last.
    corrections: Vec<Correction>,
}

/// Since when an object stood so: consecutive statements of one content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// How it stood.
    pub content: Content,
    /// Since when.
    pub at: DateTime<Utc>,
}

/// What was heard between one correction and the next.
struct Era<'a> {
    /// The correction that it begins with; none before the first.
    ground: Option<&'a Correction>,
    /// What counts after it, in the table's order.
    statements: Vec<&'a Statement>,
}

impl Content {
    /// The place of a content in the table, whenever it stood. Disputes and reversals have none: of them,
    /// the latest counts.
    fn rank(self) -> (i64, i64) {
        match self {
            Self::Payment(PaymentState { captured: Some(captured), .. }) => (captured.amount_minor(), 0),
            Self::Payment(PaymentState { captured: None, over: Some(Over::Failed | Over::Cancelled) }) => {
                (0, 1)
            }
            Self::Payment(PaymentState { captured: None, over: None }) => (0, 0),
            Self::Refund(RefundState::Asked) => (0, 0),
            Self::Refund(RefundState::Succeeded(_)) => (1, 0),
            Self::Refund(RefundState::Failed | RefundState::Cancelled) => (2, 0),
            Self::Dispute(_) | Self::Reversal(_) => (0, 0),
        }
    }

    /// The place of a content among those that stood in one second.
    fn rank_within_a_second(self) -> u8 {
        match self {
            Self::Dispute(DisputeState::Inquiry) => 0,
            Self::Dispute(DisputeState::Opened(_)) => 1,
            Self::Dispute(DisputeState::Lost(_) | DisputeState::Won | DisputeState::Reinstated) => 2,
            Self::Payment(_) | Self::Refund(_) | Self::Reversal(_) => 0,
        }
    }

    /// The content without what does not count: that a payment is over counts only where nothing was
    /// captured.
    pub(super) fn counted(self) -> Self {
        match self {
            Self::Payment(PaymentState { captured: captured @ Some(_), .. }) => {
                Self::Payment(PaymentState { captured, over: None })
            }
            Self::Payment(_) | Self::Refund(_) | Self::Dispute(_) | Self::Reversal(_) => self,
        }
    }

    /// A number per state, which orders what the table does not.
    fn number(self) -> u8 {
        match self {
            Self::Payment(PaymentState { over: None, .. })
            | Self::Refund(RefundState::Asked)
            | Self::Dispute(DisputeState::Inquiry)
            | Self::Reversal(ReversalState::Gone(_)) => 0,
            Self::Payment(PaymentState { over: Some(Over::Failed), .. })
            | Self::Refund(RefundState::Succeeded(_))
            | Self::Dispute(DisputeState::Opened(_))
            | Self::Reversal(ReversalState::Cancelled) => 1,
            Self::Payment(PaymentState { over: Some(Over::Cancelled), .. })
            | Self::Refund(RefundState::Failed)
            | Self::Dispute(DisputeState::Lost(_)) => 2,
            Self::Refund(RefundState::Cancelled) | Self::Dispute(DisputeState::Won) => 3,
            Self::Dispute(DisputeState::Reinstated) => 4,
        }
    }

    /// The state and the amount as numbers.
    fn numbers(self) -> (u8, Option<i64>) {
        (self.number(), self.amount().map(Money::amount_minor))
    }

    fn is_ordered_by_time_alone(self) -> bool {
        match self {
            Self::Dispute(_) | Self::Reversal(_) => true,
            Self::Payment(_) | Self::Refund(_) => false,
        }
    }
}

/// The table's order of the statements of one object. What the table leaves open is asked for; until then
/// an arbitrary order that depends on nothing but the statements keeps the order of hearing out.
fn place(statement: &Statement) -> impl Ord + use<> {
    let content = statement.content();
    let by_table = (content.rank(), statement.second(), content.rank_within_a_second());
    let arbitrary = (
        statement.origin(),
        statement.stood_at(),
        content.numbers(),
        statement.said_instant(),
        statement.authorized_amount().map(Money::amount_minor),
    );
    (by_table, arbitrary)
}

impl Object {
    /// Adds a statement; whether it was new.
    pub(super) fn hear(&mut self, statement: Statement) -> bool {
        match self.statements.binary_search_by(|known| place(known).cmp(&place(&statement))) {
            Ok(_) => false,
            Err(index) => {
                self.statements.insert(index, statement);
                true
            }
        }
    }

    pub(super) fn statements(&self) -> impl Iterator<Item = &Statement> {
        self.statements.iter()
    }

    pub(super) fn corrections(&self) -> impl Iterator<Item = &Correction> {
        self.corrections.iter()
    }

    pub(super) fn knows(&self, statement: &Statement) -> bool {
        self.statements.contains(statement)
    }

    /// What counts now.
    pub(super) fn counts(&self) -> Option<Content> {
        let era = self.present()?;
        let latest = era.statements.last().map(|statement| statement.content());
        latest.or(era.ground.map(Correction::content))
    }

    /// Whether a statement repeats what counts, or what a correction that counts has heard.
    pub(super) fn is_repeated_by(&self, statement: &Statement) -> bool {
        let content = statement.content().counted();
        let corrected = self.present().filter(|era| era.statements.is_empty()).and_then(|era| era.ground);
        self.counts().map(Content::counted) == Some(content)
            || corrected.is_some_and(|correction| correction.has_heard(content))
    }

    /// Whether what counts now is a person's word.
    pub(super) fn is_corrected(&self) -> bool {
        self.present().is_some_and(|era| era.ground.is_some() && era.statements.is_empty())
    }

    /// The amount that was authorised, by the latest statement that says so.
    pub(super) fn authorized(&self) -> Option<Money> {
        let latest = self.statements.iter().filter(|statement| statement.authorized_amount().is_some());
        latest.max_by_key(|statement| statement.stood_at())?.authorized_amount()
    }

    /// The latest time at which anything said of it stood.
    pub(super) fn newest(&self) -> Option<DateTime<Utc>> {
        let corrections = self.corrections.iter().map(Correction::stood_at);
        self.statements.iter().map(Statement::stood_at).chain(corrections).max()
    }

    /// A correction of it that is made at `at`. `unrecorded` is what was heard of it and waits, for an
    /// answer or for a person.
    pub(super) fn correction(
        &self,
        stated: Stated,
        at: DateTime<Utc>,
        happened_at: Option<DateTime<Utc>>,
        unrecorded: &[&Statement],
    ) -> Correction {
        let heard = self.statements.iter().chain(unrecorded.iter().copied());
        let contents = heard.clone().map(|statement| statement.content().counted());
        let contents = contents.map(|content| (content.numbers(), content)).collect::<BTreeMap<_, _>>();
        let believed = heard.filter(|statement| !statement.is_ahead_of(at)).map(Statement::stood_at);
        let after = self.corrections.last().map(|correction| later(correction.stood_at(), 1));
        let stood_at = believed.chain(after).fold(at, DateTime::max);
        Correction::new(stated, stood_at, happened_at, contents.into_values().collect())
    }

    pub(super) fn correct(&mut self, correction: Correction) {
        let place = |correction: &Correction| {
            let heard: Vec<_> = correction.heard().iter().map(|content| content.numbers()).collect();
            (correction.stood_at(), correction.content().numbers(), correction.happened_at(), heard)
        };
        match self.corrections.binary_search_by_key(&place(&correction), place) {
            Ok(_) => {}
            Err(index) => self.corrections.insert(index, correction),
        }
    }

    /// The steps of the object in the table's order. At an instant the last one that had happened counts.
    /// Nothing happened before `created_at`.
    pub(super) fn steps(&self, created_at: DateTime<Utc>) -> Vec<Step> {
        let mut steps: Vec<Step> = vec![];
        for era in self.eras() {
            if let Some(ground) = era.ground {
                let first = steps.iter().map(|step| step.at).min();
                let at = ground.happened_at().or(first).unwrap_or(ground.stood_at()).max(created_at);
                steps.push(Step { content: ground.content(), at });
            }
            let begun = era.statements.iter().map(|statement| Step {
                content: statement.content().counted(),
                at: statement.instant().max(created_at),
            });
            steps.extend(merge(begun));
        }
        steps
    }

    /// Whether the table leaves open what counts now.
    pub(super) fn is_tied(&self) -> bool {
        let Some(era) = self.present() else { return false };
        let Some((latest, others)) = era.statements.split_last() else { return false };
        others.iter().any(|other| self.is_tie(latest, other))
    }

    fn is_tie(&self, latest: &Statement, other: &Statement) -> bool {
        let (content, rival) = (latest.content().counted(), other.content().counted());
        if content == rival || content.rank() != rival.rank() {
            return false;
        }
        if content.is_ordered_by_time_alone() {
            // A dispute begins with its opening, if it does not begin as an inquiry. But it may be opened
            // again, and only the provider knows which came first, an outcome or an opening.
            let is_open = rival.rank_within_a_second() == 1;
            return latest.second() == other.second()
                && (is_open || content.rank_within_a_second() == rival.rank_within_a_second());
        }
        latest.origin() != Origin::Answered || latest.second() == other.second()
    }

    /// Whether `answer` stood after what counts now, and ranks lower.
    pub(super) fn is_contradicted_by(&self, answer: &Statement) -> bool {
        let Some(era) = self.present() else { return false };
        let Some(latest) = era.statements.last() else { return false };
        era.statements.contains(&answer)
            && answer.second() > latest.second()
            && answer.content().rank() < latest.content().rank()
    }

    fn present(&self) -> Option<Era<'_>> {
        self.eras().pop().filter(|era| era.ground.is_some() || !era.statements.is_empty())
    }

    /// A correction begins an era. What stood at or before it belongs to the one before, whenever it was
    /// heard; what stood after it counts from the first statement on that it gives way to.
    fn eras(&self) -> Vec<Era<'_>> {
        let grounds = std::iter::once(None).chain(self.corrections.iter().map(Some));
        let ends = self.corrections.iter().map(Some).chain(std::iter::once(None));
        let era = |(ground, end): (Option<&'_ Correction>, Option<&'_ Correction>)| {
            let stood_before_its_end =
                |said: &&Statement| end.is_none_or(|end: &Correction| said.second() <= end.second());
            let within = || self.statements.iter().filter(stood_before_its_end);
            let is_new =
                |said: &&Statement| ground.is_none_or(|ground: &Correction| ground.gives_way_to(said));
            let first = within().filter(is_new).map(Statement::second).min();
            within().filter(|said| first.is_some_and(|first| said.second() >= first)).collect::<Vec<_>>()
        };
        let pairs = grounds.zip(ends);
        pairs.map(|(ground, end)| Era { ground, statements: era((ground, end)) }).collect()
    }
}

/// Consecutive steps of one content are one, which happened at the earliest of their instants.
fn merge(steps: impl Iterator<Item = Step>) -> Vec<Step> {
    let mut merged: Vec<Step> = vec![];
    for step in steps {
        match merged.last_mut() {
            Some(last) if last.content == step.content => last.at = last.at.min(step.at),
            Some(_) | None => merged.push(step),
        }
    }
    merged
}

/// So many seconds later, or the same time at the end of all times.
pub(super) fn later(time: DateTime<Utc>, seconds: i64) -> DateTime<Utc> {
    time.checked_add_signed(TimeDelta::seconds(seconds)).unwrap_or(time)
}
