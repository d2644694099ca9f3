//! Events that were written in a shape of the past.

use serde_json::{Map, Value};

use crate::event_kind::EventKind;

/// The fields of an event.
pub type Fields = Map<String, Value>;

/// One step: from one version of an event to the next, or to the event that replaced it.
#[derive(Clone, Copy, Debug)]
pub struct Upcast {
    /// The name and the version that it reads.
    pub from: EventKind,
    /// The name and the version that it makes of them.
    pub to: EventKind,
    /// What changes in the fields.
    pub step: fn(&mut Fields),
}

/// How events of every version that was ever written become events of today: step by step, by name
/// and version.
///
/// Programs read by [`UpcastTable::CURRENT`]. It is a value, so that a test can bring events of its
/// own.
#[derive(Clone, Copy, Debug)]
pub struct UpcastTable(pub &'static [Upcast]);

impl UpcastTable {
    /// The steps of this version of the program. A step stays here for ever, since the events that it
    /// reads do.
    pub const CURRENT: Self = Self(&[]);

    pub(crate) fn step(self, name: &str, version: &str) -> Option<&'static Upcast> {
        self.0.iter().find(|upcast| upcast.from.name == name && upcast.from.version == version)
    }

    /// Takes a body as many steps as there are from its version on. A body of another form than
    /// `{"Name": {…}}` stays as it is, and is refused when it is parsed.
    pub(crate) fn upcast(self, name: &str, version: &str, mut body: Value) -> (Value, EventKind) {
        let mut fields = match body.get_mut(name).map(Value::take) {
            Some(Value::Object(fields)) => fields,
            Some(_) | None => Fields::new(),
        };
        let mut next = self.step(name, version);
        let mut kind = EventKind { name: "", version: "" };
        // Every step is taken once at most, so a table that leads in a circle ends too.
        for _ in 0..self.0.len() {
            let Some(upcast) = next else { break };
            (upcast.step)(&mut fields);
            kind = upcast.to;
            next = self.step(kind.name, kind.version);
        }
        (Value::Object(Fields::from_iter([(kind.name.to_owned(), Value::Object(fields))])), kind)
    }
}

impl Default for UpcastTable {
    fn default() -> Self {
        Self::CURRENT
    }
}

/// Gives a field another name.
pub fn rename(fields: &mut Fields, from: &str, to: &str) {
    if let Some(value) = fields.remove(from) {
        fields.insert(to.to_owned(), value);
    }
}
