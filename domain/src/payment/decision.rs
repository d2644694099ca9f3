//! What becomes of what is heard: recorded, known, asked about, waiting, or for a person.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::history::PaymentHistory;
use super::object::Object;
use super::statement::{Content, ObjectKey, Origin, Statement};
use super::timeline::Move;
use crate::MoneyError;

/// Answers to one question that settle nothing, after which a person looks at it.
pub const MAX_ANSWERS: u32 = 3;

/// What is heard at once: messages, and the answers to the question that they raised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    statements: Vec<Statement>,
    answers: u32,
}

impl Heard {
    /// Messages that nobody was asked about yet.
    pub fn messages(statements: Vec<Statement>) -> Self {
        Self { statements, answers: 0 }
    }

    /// With one more answer. It says nothing about an object that is not in it.
    #[must_use]
    pub fn answer(mut self, statements: Vec<Statement>) -> Self {
        self.statements.extend(statements);
        self.answers = self.answers.saturating_add(1);
        self
    }

    /// The statements: what a correction calls unrecorded, as long as it is.
    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }
}

/// What becomes of the statements about one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// They join the set, with the moves of the decision.
    Recorded,
    /// Nothing that is not known. The time of an answer that repeats what counts is kept nevertheless.
    Known,
    /// The provider is asked, and the statements are decided again together with its answer.
    Ask(AskReason),
    /// A return whose capture is unknown. The payment is asked for, unless it was.
    Wait,
    /// A person decides.
    Review(ReviewReason),
}

/// Why the provider is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskReason {
    /// It stood at a time that is still to come.
    #[error("a message is of a time that is still to come")]
    Ahead,
    /// It says that less is gone than was known.
    #[error("a message says that less is gone than was known")]
    Lessens,
    /// Two contents of equal place in the table.
    #[error("two messages of the same second say different things")]
    Tie,
    /// An answer ranks lower than what counts. It is asked once more, after a second.
    #[error("its answer is behind what it said before")]
    Contradiction,
}

/// Why a person decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviewReason {
    /// Two answers rank lower than what counts.
    #[error("the provider said {counts}, and now answers {answered}")]
    Contradiction {
        /// What counts.
        counts: Content,
        /// What the provider answers.
        answered: Content,
    },
    /// The provider says that money is gone, and that none was captured.
    #[error("the provider says that money is gone, and that none was captured")]
    GoneWithoutCapture,
    /// [`MAX_ANSWERS`] answers settled nothing.
    #[error("the provider was asked three times, and still: {0}")]
    Unsettled(AskReason),
}

/// What becomes of everything that was heard at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// By object.
    pub outcomes: BTreeMap<ObjectKey, Outcome>,
    /// What is new.
    pub recorded: Vec<Statement>,
    /// Answers that only repeat what counts. They are no news, but their times order what is heard later.
    pub kept: Vec<Statement>,
    /// The signed change of every figure.
    pub moves: Vec<Move>,
}

/// The outcome for one object, and what joins its set.
struct Judgement {
    outcome: Outcome,
    joins: Vec<Statement>,
}

impl From<Outcome> for Judgement {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, joins: vec![] }
    }
}

impl PaymentHistory {
    /// What becomes of what is heard at `now`.
    ///
    /// # Errors
    /// [`MoneyError::CurrencyMismatch`]; nothing of it is recorded.
    pub fn decide(&self, heard: &Heard, now: DateTime<Utc>) -> Result<Decision, MoneyError> {
        heard.statements.iter().try_for_each(|statement| statement.require_currency(self.currency()))?;
        let mut after = self.clone();
        let mut decision = Decision::default();
        // The payment comes first: its returns need its capture.
        let objects: BTreeSet<&ObjectKey> = heard.statements.iter().map(Statement::object).collect();
        for object in objects {
            let Judgement { outcome, joins } = after.judge(object, heard, now);
            for statement in &joins {
                after.hear(statement.clone())?;
            }
            let place = match outcome {
                Outcome::Known => &mut decision.kept,
                Outcome::Recorded | Outcome::Ask(_) | Outcome::Wait | Outcome::Review(_) => {
                    &mut decision.recorded
                }
            };
            place.extend(joins);
            decision.outcomes.insert(object.clone(), outcome);
        }
        decision.moves = after.timeline().moves_since(&self.timeline());
        Ok(decision)
    }

    /// Adds to the set what was decided.
    ///
    /// # Errors
    /// [`MoneyError::CurrencyMismatch`], if it was decided about another payment.
    pub fn apply(&mut self, decision: &Decision) -> Result<(), MoneyError> {
        for statement in decision.recorded.iter().chain(&decision.kept) {
            self.hear(statement.clone())?;
        }
        Ok(())
    }

    fn judge(&self, key: &ObjectKey, heard: &Heard, now: DateTime<Utc>) -> Judgement {
        let nothing = Object::default();
        let before = self.object(key).unwrap_or(&nothing);
        let about_it = heard.statements.iter().filter(|statement| statement.object() == key);
        let (ahead, believed): (Vec<&Statement>, Vec<&Statement>) =
            about_it.partition(|statement| statement.is_ahead_of(now));
        if !ahead.is_empty() && !believed.iter().any(|statement| is_answer(statement)) {
            return heard.ask(AskReason::Ahead).into();
        }
        if believed.iter().all(|statement| before.knows(statement)) {
            return Outcome::Known.into();
        }
        if *key != ObjectKey::Payment && !self.is_captured() {
            return heard.without_capture(&believed).into();
        }
        let mut after = before.clone();
        let is_new = |statement: &&&Statement| after.hear((**statement).clone());
        let joins: Vec<Statement> = believed.iter().filter(is_new).map(|said| (*said).clone()).collect();
        if let Some(outcome) = heard.trouble(before, &after, &believed) {
            return outcome.into();
        }
        let is_no_news = joins.iter().all(|said| is_answer(said) && before.is_repeated_by(said))
            && before.steps(self.created_at) == after.steps(self.created_at);
        Judgement { outcome: if is_no_news { Outcome::Known } else { Outcome::Recorded }, joins }
    }

    fn is_captured(&self) -> bool {
        self.counts(&ObjectKey::Payment).is_some_and(|content| content.captured_minor() > 0)
    }
}

impl Heard {
    fn ask(&self, reason: AskReason) -> Outcome {
        if self.answers < MAX_ANSWERS {
            Outcome::Ask(reason)
        } else {
            Outcome::Review(ReviewReason::Unsettled(reason))
        }
    }

    /// What becomes of a return while no capture is known.
    fn without_capture(&self, said: &[&Statement]) -> Outcome {
        let is_none = |said: &Statement| {
            *said.object() == ObjectKey::Payment && said.content().captured_minor() == 0 && is_answer(said)
        };
        let answered_none = self.statements.iter().any(is_none);
        let answered_gone = said.iter().any(|said| is_answer(said) && said.content().gone_minor() > 0);
        if answered_none && answered_gone {
            Outcome::Review(ReviewReason::GoneWithoutCapture)
        } else {
            Outcome::Wait
        }
    }

    /// Why the statements about one object cannot be recorded yet, if so.
    fn trouble(&self, before: &Object, after: &Object, said: &[&Statement]) -> Option<Outcome> {
        let contradicting = said.iter().filter(|said| is_answer(said) && after.is_contradicted_by(said));
        let contradicting: Vec<&&Statement> = contradicting.collect();
        if let (Some(counts), Some(answer)) = (after.counts(), contradicting.last()) {
            let times: BTreeSet<_> = contradicting.iter().map(|answer| answer.stood_at()).collect();
            let answered = answer.content();
            return Some(if times.len() > 1 {
                Outcome::Review(ReviewReason::Contradiction { counts, answered })
            } else {
                self.ask(AskReason::Contradiction)
            });
        }
        if after.is_tied() {
            return Some(self.ask(AskReason::Tie));
        }
        let gone = |object: &Object| object.counts().map_or(0, Content::gone_minor);
        if gone(after) < gone(before) && !is_confirmed(said) {
            return Some(self.ask(AskReason::Lessens));
        }
        None
    }
}

fn is_answer(statement: &Statement) -> bool {
    statement.origin() == Origin::Answered
}

/// Whether an answer stood no earlier than the last message.
fn is_confirmed(said: &[&Statement]) -> bool {
    let stood = |is_wanted: fn(&Statement) -> bool| {
        said.iter().filter(|said| is_wanted(said)).map(|said| said.second()).max()
    };
    stood(is_answer) >= stood(|said| !is_answer(said)) && stood(is_answer).is_some()
}
