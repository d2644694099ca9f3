//! What the documents and the compose file say is what the program does.

use std::collections::BTreeSet;

use clap::CommandFactory;
use serde_json::Value;

use crate::architecture::root;

#[derive(clap::Parser)]
struct SettingsOnly {
    #[command(flatten)]
    _settings: careforall::Settings,
}

/// The environment variables that the program understands.
fn variables() -> BTreeSet<String> {
    let command = SettingsOnly::command();
    let variables = command.get_arguments().filter_map(|argument| argument.get_env());
    variables.map(|name| name.to_str().unwrap().to_owned()).collect()
}

#[test]
fn the_operators_guide_lists_every_setting_and_no_other() {
    let guide = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let listed: BTreeSet<String> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .map(str::to_owned)
        .collect();
    assert_eq!(listed, variables());
}

#[test]
fn the_compose_file_runs_commands_and_sets_variables_that_exist() {
    let text = std::fs::read_to_string(root().join("docker-compose.yml")).unwrap();
    let compose: Value = serde_saphyr::from_str(&text).unwrap();
    let services = compose["services"].as_object().unwrap();
    let ours: Vec<_> = services.iter().filter(|(_, service)| !service["build"].is_null()).collect();
    let commands: BTreeSet<&str> =
        ours.iter().map(|(_, service)| service["command"][0].as_str().unwrap()).collect();
    let expected = ["command-api", "migrate", "payment-sandbox", "projectors", "query-api", "webhook-ingest"];
    assert_eq!(commands, BTreeSet::from(expected));
    let known = variables();
    for (name, service) in ours {
        for variable in service["environment"].as_object().unwrap().keys() {
            assert!(known.contains(variable), "{name}: {variable} is no setting");
        }
        for dependency in service["depends_on"].as_object().unwrap().keys() {
            assert!(services.contains_key(dependency), "{name} depends on {dependency}");
        }
    }
    let images: Vec<_> = services.values().filter_map(|service| service["image"].as_str()).collect();
    assert!(images.iter().any(|image| image.starts_with("postgres:15")), "{images:?}");
    assert!(images.iter().any(|image| image.starts_with("redis:7")), "{images:?}");
}

#[test]
fn the_api_description_has_every_route() {
    let description = serde_json::to_value(careforall::api_description()).unwrap();
    let paths = description["paths"].as_object().unwrap();
    for (path, methods) in [
        ("/api/campaigns", ["get", "post"].as_slice()),
        ("/api/campaigns/{id}", &["get", "patch"]),
        ("/api/campaigns/{id}/publish", &["post"]),
        ("/api/campaigns/{id}/close", &["post"]),
        ("/api/campaigns/{id}/totals", &["get"]),
        ("/api/campaigns/{id}/totals/stream", &["get"]),
        ("/api/campaigns/{id}/donations", &["get"]),
        ("/api/pledges", &["post"]),
        ("/api/pledges/{id}", &["get", "put"]),
        ("/api/pledges/{id}/cancel", &["post"]),
        ("/api/pledges/{id}/refunds", &["post"]),
        ("/api/pledges/{id}/unapplied/{payment_id}/accept", &["post"]),
        ("/api/pledges/{id}/history", &["get"]),
        ("/api/me/donations", &["get"]),
        ("/api/unapplied", &["get"]),
        ("/api/campaigns/{id}/accounts", &["get"]),
        ("/api/campaigns/{id}/journal", &["get"]),
        ("/api/campaigns/{id}/days", &["get"]),
        ("/api/days", &["get"]),
        ("/api/exports/donations", &["get"]),
        ("/api/exports/pledges", &["get"]),
        ("/api/exports/campaigns", &["get"]),
        ("/webhooks/sandbox", &["post"]),
        ("/webhooks/stripe", &["post"]),
        ("/webhooks/inbox", &["get"]),
        ("/webhooks/inbox/{inbox_id}", &["get"]),
        ("/webhooks/inbox/{inbox_id}/retry", &["post"]),
        ("/webhooks/inbox/retry", &["post"]),
        ("/webhooks/inbox/{inbox_id}/discard", &["post"]),
        ("/pay/{pledge_id}", &["get", "post"]),
        ("/sandbox/sessions", &["get", "post"]),
        ("/sandbox/sessions/{session_id}", &["get"]),
        ("/sandbox/sessions/{session_id}/close", &["post"]),
        ("/sandbox/sessions/{session_id}/approve", &["post"]),
        ("/sandbox/sessions/{session_id}/decline", &["post"]),
        ("/sandbox/payments/{payment_id}", &["get"]),
        ("/sandbox/payments/{payment_id}/refunds", &["post"]),
        ("/sandbox/payments/{payment_id}/void", &["post"]),
        ("/sandbox/payments/{payment_id}/disputes", &["post"]),
        ("/sandbox/disputes/{dispute_id}/resolve", &["post"]),
        ("/sandbox/dial", &["get", "put"]),
        ("/sandbox/books", &["get"]),
        ("/sandbox/books/payments", &["get"]),
        ("/sandbox/pay/{session_id}", &["get"]),
        ("/sandbox/pay/{session_id}/approve", &["post"]),
        ("/sandbox/pay/{session_id}/decline", &["post"]),
    ] {
        for method in methods {
            assert!(paths[path].get(method).is_some(), "{method} {path} is not described");
        }
    }
    for reference in references(&description) {
        let path = reference.trim_start_matches('#');
        assert!(description.pointer(path).is_some(), "{reference} is referred to and not described");
    }
}

/// Every part of the description that it refers to.
fn references(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| match (name.as_str(), value) {
                ("$ref", Value::String(path)) => BTreeSet::from([path.clone()]),
                _ => references(value),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(references).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => BTreeSet::new(),
    }
}
