//! Figures at instants.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::figures::Figures;

/// The signed change of every figure at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Move {
    /// When the money moved.
    pub at: DateTime<Utc>,
    /// How the figures changed.
    pub change: Figures,
}

/// The figures of one payment at every instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Never zero.
    changes: BTreeMap<DateTime<Utc>, Figures>,
}

impl Timeline {
    /// The figures from each of these instants on.
    pub(super) fn of(figures: impl IntoIterator<Item = (DateTime<Utc>, Figures)>) -> Self {
        let mut timeline = Self::default();
        let mut before = Figures::default();
        for (at, after) in figures {
            timeline.add(Move { at, change: after.minus(before) });
            before = after;
        }
        timeline
    }

    /// The figures at an instant: what changed then belongs to it.
    pub fn at(&self, instant: DateTime<Utc>) -> Figures {
        self.sum(self.changes.range(..=instant))
    }

    /// The figures after everything that is known has happened.
    pub fn last(&self) -> Figures {
        self.sum(self.changes.iter())
    }

    /// The changes, from the earliest to the latest.
    pub fn moves(&self) -> impl Iterator<Item = Move> {
        self.changes.iter().map(|(at, change)| Move { at: *at, change: *change })
    }

    /// What has to be added to `before` to make it this: the moves of a decision.
    pub fn moves_since(&self, before: &Self) -> Vec<Move> {
        let mut difference = self.clone();
        let taken_back = |moved: Move| Move { change: Figures::default().minus(moved.change), ..moved };
        difference.extend(before.moves().map(taken_back));
        difference.moves().collect()
    }

    fn add(&mut self, moved: Move) {
        let change = self.changes.remove(&moved.at).unwrap_or_default().plus(moved.change);
        if !change.is_zero() {
            self.changes.insert(moved.at, change);
        }
    }

    fn sum<'a>(&self, changes: impl Iterator<Item = (&'a DateTime<Utc>, &'a Figures)>) -> Figures {
        changes.fold(Figures::default(), |sum, (_, change)| sum.plus(*change))
    }
}

/// Adds up moves. No rule is needed for it.
impl Extend<Move> for Timeline {
    fn extend<T: IntoIterator<Item = Move>>(&mut self, moves: T) {
        moves.into_iter().for_each(|moved| self.add(moved));
    }
}
