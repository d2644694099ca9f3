//! The house: which crate may import which, and what stands at the top.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// The crates of ours that each crate may import. Imports run downwards only.
const MAY_IMPORT: [(&str, &[&str]); 14] = [
    ("domain", &[]),
    ("service", &[]),
    ("read-model", &[]),
    ("event-store", &["domain"]),
    ("payments", &["domain", "service"]),
    ("command-api", &["domain", "event-store", "payments", "service"]),
    ("webhook-ingest", &["domain", "event-store", "payments", "read-model", "service"]),
    ("projectors", &["domain", "event-store", "payments", "read-model", "service"]),
    ("query-api", &["read-model", "service"]),
    ("replay-tool", &["domain", "event-store", "payments", "projectors", "read-model", "service"]),
    ("payment-sandbox", &["domain", "payments", "service"]),
    (
        "careforall",
        &[
            "command-api",
            "event-store",
            "payment-sandbox",
            "payments",
            "projectors",
            "query-api",
            "read-model",
            "service",
            "webhook-ingest",
        ],
    ),
    ("bench", &["careforall", "domain", "event-store", "payments", "projectors", "read-model", "service"]),
    (
        "careforall-tests",
        &[
            "careforall",
            "domain",
            "event-store",
            "payments",
            "projectors",
            "read-model",
            "replay-tool",
            "service",
        ],
    ),
];

fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let ours: BTreeSet<String> = metadata.packages.iter().map(|p| p.name.to_string()).collect();
    metadata
        .packages
        .iter()
        .map(|package| {
            let imported = package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind != DependencyKind::Build)
                .map(|dependency| dependency.name.clone())
                .filter(|name| ours.contains(name))
                .collect();
            (package.name.to_string(), imported)
        })
        .collect()
}

#[test]
fn imports_run_downwards_only() {
    let imports = imports();
    let known: BTreeSet<&str> = MAY_IMPORT.iter().map(|(name, _)| *name).collect();
    assert_eq!(known, imports.keys().map(String::as_str).collect());
    for (name, allowed) in MAY_IMPORT {
        let allowed: BTreeSet<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        let forbidden: Vec<_> = imports[name].difference(&allowed).collect();
        assert!(forbidden.is_empty(), "{name} must not import {forbidden:?}");
    }
}

#[test]
fn the_pure_crate_has_no_io() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let domain = metadata.packages.iter().find(|p| p.name.as_str() == "domain").unwrap();
    let normal: Vec<&str> = domain
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind == DependencyKind::Normal)
        .map(|dependency| dependency.name.as_str())
        .collect();
    for io in ["tokio", "sqlx", "redis", "axum", "reqwest", "rand"] {
        assert!(!normal.contains(&io), "domain must not import {io}");
    }
}

#[test]
fn one_sqlx_in_the_lock_file() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    assert_eq!(lock.matches("name = \"sqlx\"").count(), 1);
}

#[test]
fn the_top_level_is_what_was_asked_for() {
    for path in [
        "Cargo.toml",
        "domain",
        "command-api",
        "projectors",
        "query-api",
        "webhook-ingest",
        "migrations",
        "docker-compose.yml",
        "replay-tool",
        "tests",
        "README.md",
    ] {
        assert!(root().join(path).exists(), "{path} is missing");
    }
}

/// It would agree with the projectors whatever sign is wrong there: it looks at states instead.
#[test]
fn the_auditor_does_not_add_up_what_the_projectors_add_up() {
    let mut files = 0;
    for path in sources(&root().join("replay-tool/src")) {
        let source = std::fs::read_to_string(&path).unwrap();
        for name in ["MoneyMove", "money_moves"] {
            assert!(!source.contains(name), "{} names {name}", path.display());
        }
        files += 1;
    }
    assert!(files > 20, "{files}");
}

/// Every file of Rust below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let files = files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files.chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}

pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
