//! The set of everything heard about one payment.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};

use super::correction::Correction;
use super::figures::{Figures, Sums};
use super::object::{Object, Step, later};
use super::statement::{Content, ObjectKey, Stated, Statement};
use super::timeline::{Move, Timeline};
use crate::{Currency, Money, MoneyError};

/// Everything heard about one payment and its returns: a set, in which the order of hearing leaves no trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentHistory {
    pub(super) created_at: DateTime<Utc>,
    currency: Currency,
    #[serde(with = "as_list")]
    objects: BTreeMap<ObjectKey, Object>,
}

impl PaymentHistory {
    /// Nothing heard yet about a payment in `currency`, of a pledge that was made at `created_at`: no money
    /// moved before.
    pub fn new(currency: Currency, created_at: DateTime<Utc>) -> Self {
        Self { created_at: created_at.trunc_subsecs(6), currency, objects: BTreeMap::new() }
    }

    /// The instant before which no money moved.
    pub fn created_at(&self) -> DateTime<Utc> {
        self.created_at
    }

    /// The currency of every amount.
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// Adds a statement to the set; whether it was new. Whether it may be added yet is
    /// [`PaymentHistory::decide`]'s to say.
    ///
    /// # Errors
    /// [`MoneyError::CurrencyMismatch`].
    pub fn hear(&mut self, statement: Statement) -> Result<bool, MoneyError> {
        statement.require_currency(self.currency)?;
        Ok(self.objects.entry(statement.object().clone()).or_default().hear(statement))
    }

    /// The correction that states an object as it is, made at `made_at`. `happened_at` says since when;
    /// without it, the object always stood so. `unrecorded` is what was heard and is not in the set: it waits
    /// for an answer or for a person.
    ///
    /// # Errors
    /// [`MoneyError::CurrencyMismatch`].
    pub fn correction(
        &self,
        stated: Stated,
        made_at: DateTime<Utc>,
        happened_at: Option<DateTime<Utc>>,
        unrecorded: &[Statement],
    ) -> Result<Correction, MoneyError> {
        stated.content().require_currency(self.currency)?;
        let about_it = unrecorded.iter().filter(|statement| statement.object() == stated.object());
        let about_it: Vec<&Statement> = about_it.collect();
        let nothing = Object::default();
        let object = self.object(stated.object()).unwrap_or(&nothing);
        Ok(object.correction(stated, made_at, happened_at, &about_it))
    }

    /// Adds a correction to the set, and gives the moves.
    ///
    /// # Errors
    /// [`MoneyError::CurrencyMismatch`].
    pub fn correct(&mut self, correction: Correction) -> Result<Vec<Move>, MoneyError> {
        correction.content().require_currency(self.currency)?;
        let before = self.timeline();
        self.objects.entry(correction.object().clone()).or_default().correct(correction);
        Ok(self.timeline().moves_since(&before))
    }

    /// How an object stands, as far as is known.
    pub fn counts(&self, object: &ObjectKey) -> Option<Content> {
        self.object(object)?.counts()
    }

    /// Whether an object stands as a person said, not as the provider does.
    pub fn is_corrected(&self, object: &ObjectKey) -> bool {
        self.object(object).is_some_and(Object::is_corrected)
    }

    /// The amount that was authorised, by the latest statement that says so. It moves nothing.
    pub fn authorized(&self) -> Option<Money> {
        self.object(&ObjectKey::Payment)?.authorized()
    }

    /// The objects of which something is known.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectKey> {
        self.objects.keys()
    }

    /// Everything heard, object by object.
    pub fn statements(&self) -> impl Iterator<Item = &Statement> {
        self.objects.values().flat_map(Object::statements)
    }

    /// Every correction, object by object.
    pub fn corrections(&self) -> impl Iterator<Item = &Correction> {
        self.objects.values().flat_map(Object::corrections)
    }

    /// The latest time at which anything said of an object stood.
    pub fn newest(&self, object: &ObjectKey) -> Option<DateTime<Utc>> {
        self.object(object)?.newest()
    }

    /// The steps of every object in the table's order. At an instant the last one that had happened counts.
    pub fn steps(&self) -> impl Iterator<Item = (&ObjectKey, Vec<Step>)> {
        self.objects.iter().map(|(key, object)| (key, object.steps(self.created_at)))
    }

    /// The figures, by what counts now of every object.
    pub fn figures(&self) -> Figures {
        let counts = self.objects.iter().filter_map(|(key, object)| Some((key, object.counts()?)));
        sum(counts).figures()
    }

    /// The figures at every instant.
    pub fn timeline(&self) -> Timeline {
        let steps: Vec<(&ObjectKey, Vec<Step>)> = self.steps().collect();
        let instants: BTreeSet<DateTime<Utc>> =
            steps.iter().flat_map(|(_, steps)| steps.iter().map(|step| step.at)).collect();
        Timeline::of(instants.into_iter().map(|instant| {
            let happened = |steps: &[Step]| steps.iter().rfind(|step| step.at <= instant).copied();
            let counted = steps.iter().filter_map(|(key, steps)| Some((*key, happened(steps)?.content)));
            (instant, sum(counted).figures())
        }))
    }

    /// The time at which the answer to a question stands that is sent at `sent_at`, by the provider's clock:
    /// at least a second after everything that it asks about, of what is known and of what waits for it.
    pub fn question_stands_at(&self, sent_at: DateTime<Utc>, waiting: &[Statement]) -> DateTime<Utc> {
        let known = self.objects.values().filter_map(Object::newest);
        let believed = waiting.iter().filter(|statement| !statement.is_ahead_of(sent_at));
        known
            .chain(believed.map(Statement::stood_at))
            .map(|newest| later(newest, 1))
            .fold(sent_at, DateTime::max)
    }

    pub(super) fn object(&self, key: &ObjectKey) -> Option<&Object> {
        self.objects.get(key)
    }
}

fn sum<'a>(counted: impl Iterator<Item = (&'a ObjectKey, Content)>) -> Sums {
    counted.fold(Sums::default(), |mut sums, (key, content)| {
        sums.captured = sums.captured.saturating_add(content.captured_minor());
        sums.withdrawn = sums.withdrawn.saturating_add(content.withdrawn_minor());
        let gone = match key {
            ObjectKey::Payment => return sums,
            ObjectKey::Refund(_) => &mut sums.refunds,
            ObjectKey::Reversal(_) => &mut sums.reversals,
            ObjectKey::Dispute(_) => &mut sums.disputes,
        };
        *gone = gone.saturating_add(content.gone_minor());
        sums
    })
}

/// JSON has no maps whose keys are objects.
mod as_list {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Object, ObjectKey};

    pub(super) fn serialize<S: Serializer>(
        objects: &BTreeMap<ObjectKey, Object>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(objects)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<ObjectKey, Object>, D::Error> {
        Ok(Vec::deserialize(deserializer)?.into_iter().collect())
    }
}
