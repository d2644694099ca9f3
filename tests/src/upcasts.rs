//! An event of the tests' own, which was written in three shapes and is read as an event of today.

use domain::EventKind;
use domain::UpcastTable;
use domain::upcast::{Fields, Upcast, rename};
use event_store::EventReader;
use serde_json::json;

const fn changed(version: &'static str) -> EventKind {
    EventKind { name: "PledgeChanged", version }
}

/// From `cents` to `amount_minor`, to money in one field, to `PledgeAmended`.
pub const STEPS: &[Upcast] = &[
    Upcast { from: changed("1"), to: changed("2"), step: |fields| rename(fields, "cents", "amount_minor") },
    Upcast { from: changed("2"), to: changed("3"), step: into_money },
    Upcast {
        from: changed("3"),
        to: EventKind { name: "PledgeAmended", version: "1" },
        step: |fields| rename(fields, "money", "amount"),
    },
];

fn into_money(fields: &mut Fields) {
    let money = ["amount_minor", "currency"].map(|name| (name, fields.remove(name)));
    fields.insert("money".to_owned(), json!(std::collections::BTreeMap::from(money)));
}

/// Reads by them.
pub fn reader() -> EventReader {
    EventReader::new(UpcastTable(STEPS))
}
