//! Which crate may name which table in its SQL: the owner, who alone writes it, and those who read it.
//!
//! A name counts where it follows `from`, `join`, `into` and the like in a source file. Two ways are not
//! seen: a second table behind a comma, which is not written here, and names that are put into a statement at
//! run time, as the rebuilt tables and the auditor's `Table`s are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::MetadataCommand;
use read_model::Projection;

use crate::architecture::root;

/// Every table and view, its owner, and who else reads it. A view is written by nobody, so its owner is
/// merely whom it is made for; those of the schema `analytics` are made for people.
const TABLES: &[(&str, &str, &[&str])] = &[
    // 0001_ledger
    ("ledger_identity", "event-store", &["read-model"]),
    ("ledger_head", "event-store", &[]),
    // The auditor reads what stands there, and not what the event store makes of it.
    ("events", "event-store", &["replay-tool"]),
    // ledger_append writes it, and pledge_donor_of reads it; no service may do either by itself.
    ("pledge_donors", SQL, &["query-api"]),
    // ledger_append writes it, and pledge_of_payment reads it.
    ("payment_claims", SQL, &[]),
    // 0002_inbox
    ("webhook_inbox", "webhook-ingest", &[]),
    ("webhook_inbox_acts", "webhook-ingest", &[]),
    ("corrections", "webhook-ingest", &[]),
    // 0003_payments
    ("payment_sessions", "payments", &[]),
    ("refund_requests", "payments", &[]),
    // 0004_read_tables; those of projections are not listed here
    ("projector_checkpoints", "projectors", &["read-model"]),
    ("projection_rebuilds", "projectors", &[]),
    ("account_entries", SQL, &["query-api"]),
    ("account_balances", SQL, &["query-api"]),
    // 0005_analytics
    ("analytics.campaigns", SQL, &[]),
    ("analytics.donations", SQL, &[]),
    ("analytics.refunds", SQL, &[]),
    ("analytics.pledge_funnel", SQL, &[]),
    ("analytics.funnel", SQL, &[]),
    ("analytics.daily_totals", SQL, &[]),
    ("analytics.top_campaigns", SQL, &[]),
    ("analytics.donor_cohorts", SQL, &[]),
    ("analytics.unapplied", SQL, &[]),
    // 0006_sandbox
    ("sandbox.sessions", "payment-sandbox", &[]),
    ("sandbox.facts", "payment-sandbox", &[]),
    ("sandbox.true_facts", "payment-sandbox", &[]),
    ("sandbox.refunds", "payment-sandbox", &[]),
    ("sandbox.disputes", "payment-sandbox", &[]),
    ("sandbox.deliveries", "payment-sandbox", &[]),
    ("sandbox.dial", "payment-sandbox", &[]),
];

/// Projectors write the tables of projections, and these crates may read them.
const READERS_OF_PROJECTIONS: [&str; 2] = ["query-api", "read-model"];

/// The owner of what only the schema's own views and functions write.
const SQL: &str = "migrations";

/// Measurements and tests look at everything, and tamper with it.
const UNBOUND: [&str; 2] = ["bench", "careforall-tests"];

/// Words before the name of a table that is read, and of one that is written or locked.
const READS: [&str; 3] = ["from", "join", "copy"];
const WRITES: [&str; 4] = ["into", "update", "truncate", "table"];

/// The tables that a source names, and whether it writes them.
fn named(source: &str, tables: &BTreeSet<&str>) -> BTreeSet<(String, bool)> {
    let code = source.lines().map(|line| line.split("//").next().unwrap_or_default());
    let words: Vec<String> = code.flat_map(str::split_whitespace).map(str::to_lowercase).collect();
    let mut named = BTreeSet::new();
    for (n, pair) in words.windows(2).enumerate() {
        let keyword = pair[0].trim_start_matches(['"', '(']);
        let is_deleted = keyword == "from" && n > 0 && words[n - 1].ends_with("delete");
        let writes = WRITES.contains(&keyword) || is_deleted;
        if writes || READS.contains(&keyword) {
            named.extend(table_at(&pair[1], tables).map(|table| (table, writes)));
        }
    }
    for word in &words {
        let quoted = word.split('\'').zip(word.split('\'').skip(1));
        let classes = quoted.filter(|(_, behind)| behind.starts_with("::regclass"));
        named.extend(classes.filter_map(|(name, _)| table_at(name, tables)).map(|table| (table, false)));
    }
    named
}

/// The table that a word begins with.
fn table_at(word: &str, tables: &BTreeSet<&str>) -> Option<String> {
    let word = word.strip_prefix("public.").unwrap_or(word);
    let end = word.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '.'));
    let name = word[..end.unwrap_or(word.len())].trim_end_matches('.');
    tables.contains(name).then(|| name.to_owned())
}

/// Every table and view that the migrations make.
fn made(migrations: &str) -> BTreeSet<&str> {
    let words: Vec<&str> = migrations
        .lines()
        .map(|line| line.split("--").next().unwrap_or_default())
        .flat_map(str::split_whitespace)
        .collect();
    let is_made = |words: &&[&str]| words[0] == "create" && matches!(words[1], "table" | "view");
    words.windows(3).filter(is_made).map(|words| words[2]).collect()
}

fn migrations() -> String {
    files(&root().join("migrations"), "sql")
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect()
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, mut files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.extend(folders.iter().flat_map(|folder| self::files(folder, extension)));
    files
}

/// Which crates name which table, and whether they write it.
fn uses(tables: &BTreeSet<&str>) -> BTreeMap<String, BTreeMap<String, bool>> {
    let mut uses: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
    for package in MetadataCommand::new().no_deps().exec().unwrap().packages {
        let name = package.name.to_string();
        if UNBOUND.contains(&name.as_str()) {
            continue;
        }
        for file in files(package.manifest_path.parent().unwrap().join("src").as_std_path(), "rs") {
            for (table, writes) in named(&std::fs::read_to_string(file).unwrap(), tables) {
                *uses.entry(table).or_default().entry(name.clone()).or_default() |= writes;
            }
        }
    }
    uses
}

/// Errors in a list of owners and readers.
fn faults(
    list: &[(&str, &str, &[&str])],
    tables: &BTreeSet<&str>,
    uses: &BTreeMap<String, BTreeMap<String, bool>>,
) -> Vec<String> {
    let mut faults = Vec::new();
    let listed: BTreeSet<&str> = list.iter().map(|(table, ..)| *table).collect();
    faults.extend(tables.difference(&listed).map(|table| format!("{table} has no owner")));
    faults.extend(listed.difference(tables).map(|table| format!("there is no table {table}")));
    for (table, owner, readers) in list {
        let found = uses.get(*table).cloned().unwrap_or_default();
        for (crate_name, writes) in &found {
            if crate_name == owner {
                continue;
            }
            if !readers.contains(&crate_name.as_str()) {
                faults.push(format!("{crate_name} names {table}, which is {owner}'s"));
            }
            if *writes {
                faults.push(format!("{crate_name} writes {table}, which is {owner}'s"));
            }
        }
        let listed = readers.iter().chain([owner]).filter(|name| **name != SQL);
        let unused = listed.filter(|name| !found.contains_key(**name));
        faults.extend(unused.map(|name| format!("{name} is listed for {table}, and does not name it")));
    }
    faults
}

#[test]
fn every_table_has_one_owner() {
    let migrations = migrations();
    let tables = made(&migrations);
    let uses = uses(&tables);
    let mut of_projections: Vec<(&str, Vec<&str>)> = Vec::new();
    for table in Projection::ALL.into_iter().flat_map(Projection::tables) {
        let reads = |reader: &&str| uses.get(*table).is_some_and(|by| by.contains_key(*reader));
        of_projections.push((table, READERS_OF_PROJECTIONS.into_iter().filter(reads).collect()));
    }
    let mut list: Vec<(&str, &str, &[&str])> = TABLES.to_vec();
    list.extend(of_projections.iter().map(|(table, readers)| (*table, "projectors", readers.as_slice())));
    let faults = faults(&list, &tables, &uses);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn names_of_tables_are_found_in_sources() {
    let tables = BTreeSet::from(["events", "pledges", "sandbox.dial"]);
    let found = |source| {
        let mut found: Vec<String> = Vec::new();
        for (table, writes) in named(source, &tables) {
            found.push(format!("{table}{}", if writes { " written" } else { "" }));
        }
        found.join(", ")
    };
    for (source, expected) in [
        ("\"select position from events\"", "events"),
        ("\"select 1\n   from public.events e\n   join pledges p using (x)\"", "events, pledges"),
        ("\"select (select count(*) from pledges)\"", "pledges"),
        ("\"insert into pledges (pledge_id) select 1\"", "pledges written"),
        ("\"update pledges set x = 1\"", "pledges written"),
        ("\"delete from sandbox.dial\"", "sandbox.dial written"),
        ("\"truncate events\"", "events written"),
        ("\"lock table events in share mode\"", "events written"),
        ("\"select 'events'::regclass, 'public.pledges'::regclass\"", "events, pledges"),
        ("\"select x from pledges_old, events.x\"", ""),
        ("// taken from events\nfn from(events: i32) {}", ""),
    ] {
        assert_eq!(found(source), expected, "{source}");
    }
}

#[test]
fn a_table_without_an_owner_and_uses_that_differ_from_the_list_are_named() {
    let tables = BTreeSet::from(["a", "b"]);
    let uses = |list: &[(&str, &str, bool)]| {
        let mut uses: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
        for (table, name, writes) in list {
            uses.entry((*table).to_owned()).or_default().insert((*name).to_owned(), *writes);
        }
        uses
    };
    let good = uses(&[("a", "one", true), ("a", "two", false), ("b", "two", true)]);
    let list: &[(&str, &str, &[&str])] = &[("a", "one", &["two"]), ("b", "two", &[])];
    assert_eq!(faults(list, &tables, &good), Vec::<String>::new());
    assert_eq!(faults(&list[..1], &tables, &good), ["b has no owner"]);
    assert_eq!(faults(list, &BTreeSet::from(["b"]), &good), ["there is no table a"]);
    let found = |uses| faults(list, &tables, &uses);
    let read = uses(&[("a", "one", true), ("a", "two", false), ("b", "one", false), ("b", "two", true)]);
    assert_eq!(found(read), ["one names b, which is two's"]);
    let written = uses(&[("a", "one", true), ("a", "two", true), ("b", "two", true)]);
    assert_eq!(found(written), ["two writes a, which is one's"]);
    let unused = uses(&[("a", "one", true), ("b", "two", true)]);
    assert_eq!(found(unused), ["two is listed for a, and does not name it"]);
}
