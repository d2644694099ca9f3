//! A person's word on how an object stands.

use chrono::{DateTime, SubsecRound, Utc};

use super::statement::{Content, ObjectKey, Stated, Statement};

/// An object as it is, by an act of a person: the ground on which the object begins anew.
///
/// It is not ranked against what follows. It knows what had been heard when it was made, so that the same
/// said again does not undo it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    stated: Stated,
    stood_at: DateTime<Utc>,
    happened_at: Option<DateTime<Utc>>,
    heard: Vec<Content>,
}

impl Correction {
    pub(super) fn new(
        stated: Stated,
        stood_at: DateTime<Utc>,
        happened_at: Option<DateTime<Utc>>,
        heard: Vec<Content>,
    ) -> Self {
        let happened_at = happened_at.map(|at| at.trunc_subsecs(6)).filter(|at| *at <= stood_at);
        Self { stated, stood_at, happened_at, heard }
    }

    /// The object that it corrects.
    pub fn object(&self) -> &ObjectKey {
        self.stated.object()
    }

    /// How the object stands.
    pub fn content(&self) -> Content {
        self.stated.content()
    }

    /// When it was made. Whatever stood then or before is old news.
    pub fn stood_at(&self) -> DateTime<Utc> {
        self.stood_at
    }

    /// Since when the object stands so, if the correction names a time. Otherwise it always did.
    pub fn happened_at(&self) -> Option<DateTime<Utc>> {
        self.happened_at
    }

    /// What its maker had heard, each content once.
    pub fn heard(&self) -> &[Content] {
        &self.heard
    }

    pub(super) fn second(&self) -> i64 {
        self.stood_at.timestamp()
    }

    /// Whether its maker knew that the provider says so.
    pub(super) fn has_heard(&self, content: Content) -> bool {
        self.heard.contains(&content.counted())
    }

    /// Whether a statement that stood after it says something new: another content than those heard, or
    /// one of them that happened again.
    pub(super) fn gives_way_to(&self, statement: &Statement) -> bool {
        let happened_again = || statement.own_instant().is_some_and(|instant| instant > self.stood_at);
        statement.second() > self.second() && (!self.has_heard(statement.content()) || happened_again())
    }
}
