//! Every version of every event has a JSON schema in `schemas/`, which follows from its type.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test -p domain` writes those of the versions that are
//! written now. The schema of a version that was released never changes: a new shape is a new version.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use domain::{CampaignEvent, PledgeEvent, VersionedEvent};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas")
}

/// The schemas of the events of one aggregate, by the names of their files.
fn schemas<E: VersionedEvent + ToSchema>() -> BTreeMap<String, Value> {
    let mut shared = Vec::new();
    E::schemas(&mut shared);
    let shared: BTreeMap<String, Value> =
        shared.into_iter().map(|(name, schema)| (name, serde_json::to_value(schema).unwrap())).collect();
    let events = serde_json::to_value(E::schema()).unwrap();
    let events: Vec<Value> = events["oneOf"].as_array().unwrap().clone();
    let of_name = |name: &str| events.iter().find(|event| event["properties"].get(name).is_some());
    let schema = |name: &str| {
        let mut event = of_name(name).unwrap_or_else(|| panic!("{name} has no schema")).clone();
        let definitions = definitions(&mut event, &shared);
        let mut schema = json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "title": name });
        let fields = schema.as_object_mut().unwrap();
        fields.extend(event.as_object().unwrap().clone());
        if !definitions.is_empty() {
            fields.insert("$defs".to_owned(), Value::Object(definitions));
        }
        schema
    };
    E::KINDS.iter().map(|kind| (format!("{}.v{}.json", kind.name, kind.version), schema(kind.name))).collect()
}

/// The shared schemas that `schema` refers to, directly or not; its references lead to `$defs` then.
fn definitions(schema: &mut Value, shared: &BTreeMap<String, Value>) -> Map<String, Value> {
    let mut found = Map::new();
    let mut names = refer_to_definitions(schema);
    while let Some(name) = names.pop_first() {
        if !found.contains_key(&name) {
            let mut definition = shared[&name].clone();
            names.append(&mut refer_to_definitions(&mut definition));
            found.insert(name, definition);
        }
    }
    found
}

/// Turns references to components into references to definitions, and names those.
fn refer_to_definitions(value: &mut Value) -> BTreeSet<String> {
    match value {
        Value::Object(fields) => {
            let mut names: BTreeSet<_> = fields.values_mut().flat_map(refer_to_definitions).collect();
            if let Some(Value::String(to)) = fields.get_mut("$ref") {
                let name = to.strip_prefix("#/components/schemas/").unwrap().to_owned();
                *to = format!("#/$defs/{name}");
                names.insert(name);
            }
            names
        }
        Value::Array(items) => items.iter_mut().flat_map(refer_to_definitions).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => BTreeSet::new(),
    }
}

/// A schema without the words for people.
fn shape(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(fields) => {
            fields.retain(|name, value| name != "description" || !value.is_string());
            fields.values_mut().for_each(|value| *value = shape(value.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = shape(item.take())),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    schema
}

#[test]
fn the_shape_of_an_event_changes_only_with_its_version() {
    let mut expected = schemas::<CampaignEvent>();
    expected.append(&mut schemas::<PledgeEvent>());
    for (name, schema) in &expected {
        let path = folder().join(name);
        let text = format!("{}\n", serde_json::to_string_pretty(schema).unwrap());
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            fs::write(&path, text).unwrap();
        } else {
            let committed = fs::read_to_string(&path).unwrap_or_default();
            let committed_shape = serde_json::from_str(&committed).map(shape).unwrap_or_default();
            assert!(
                committed_shape == shape(schema.clone()),
                "schemas/{name} is not the shape of this event any more. Give the event a new version and a \
                 step in upcast.rs; or, if this version was never released, write the schema again: \
                 UPDATE_SNAPSHOTS=1 cargo test -p domain"
            );
            assert!(
                committed == text,
                "schemas/{name} describes its fields in other words; write it again: \
                 UPDATE_SNAPSHOTS=1 cargo test -p domain"
            );
        }
    }
    let version =
        |name: &str| name.rsplit_once(".v").unwrap().1.trim_end_matches(".json").parse::<u32>().unwrap();
    let current: BTreeMap<&str, u32> =
        expected.keys().map(|name| (name.rsplit_once(".v").unwrap().0, version(name))).collect();
    let files: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    for (name, current) in current {
        for version in 1..=current {
            let file = format!("{name}.v{version}.json");
            assert!(files.contains(&file), "schemas/{file} is missing: its events stay readable for ever");
        }
    }
}
