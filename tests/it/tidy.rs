//! Rules that no compiler holds: documents lead somewhere, lines fit on a screen, a public name means one
//! thing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::architecture::root;

/// Longest line of prose and of code.
const MAX_LINE_CHARS: usize = 110;

/// Public names with more than one meaning: a service's configuration is written with its crate, as in
/// `query_api::Config`.
const SHARED_NAMES: [&str; 1] = ["Config"];

/// Endings by which a document's `code` is known as a path.
const PATH_ENDINGS: [&str; 6] = [".rs", ".sql", ".md", ".toml", ".yml", ".json"];

/// Files that documents name and that are not in the repository.
const FILES_ELSEWHERE: [&str; 2] = ["services.json", "rust-toolchain.toml"];

/// Every file of ours with this ending, in folders that are neither hidden nor built.
fn files(ending: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (vec![], vec![root().to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !name.starts_with('.') && !["target", "corpus", "artifacts"].contains(&name) {
                folders.push(path);
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found
}

/// The lines of a document that are neither code nor part of a table.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().enumerate().filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence && !line.starts_with('|') && !line.starts_with("![")
    })
}

/// The text between each `opening` and the next `closing`.
fn between<'a>(text: &'a str, opening: &str, closing: char) -> Vec<&'a str> {
    text.split(opening).skip(1).filter_map(|rest| rest.split_once(closing)).map(|(inner, _)| inner).collect()
}

/// A heading as the last part of a link.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn check_link(document: &Path, link: &str) -> Result<(), String> {
    if link.contains("://") {
        return Ok(());
    }
    let (path, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() { document.to_owned() } else { document.parent().unwrap().join(path) };
    if !target.exists() {
        return Err(format!("{link} does not exist"));
    }
    let leads_there = || {
        let text = std::fs::read_to_string(&target).unwrap();
        prose(&text).any(|(_, line)| line.starts_with('#') && anchor(line) == heading)
    };
    if heading.is_empty() || leads_there() { Ok(()) } else { Err(format!("{link} has no such heading")) }
}

/// A path that is named in a document is one of the repository, of the document's folder, or ends like one.
fn check_path(document: &Path, code: &str, ours: &[PathBuf]) -> Result<(), String> {
    let is_path = PATH_ENDINGS.iter().any(|ending| code.ends_with(ending))
        && code.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c))
        && !code.starts_with(['.', '-', '/'])
        && !code.starts_with("target/");
    let exists = || {
        root().join(code).exists()
            || document.parent().unwrap().join(code).exists()
            || ours.iter().any(|path| path.ends_with(code))
    };
    if !is_path || exists() { Ok(()) } else { Err(format!("{code} does not exist")) }
}

#[test]
fn links_and_paths_in_documents_lead_somewhere() {
    let ours: Vec<PathBuf> = PATH_ENDINGS.iter().flat_map(|ending| files(ending)).collect();
    let (mut dead, documents) = (vec![], files(".md"));
    assert!(documents.len() > 10 && ours.len() > 200, "{documents:?}");
    for document in documents {
        let text = std::fs::read_to_string(&document).unwrap();
        let links = between(&text, "](", ')').into_iter().map(|link| check_link(&document, link));
        let lines = text.lines().filter(|line| !line.contains("```"));
        let code = lines.flat_map(|line| line.split('`').skip(1).step_by(2).collect::<Vec<_>>());
        let code = code.filter(|code| !FILES_ELSEWHERE.contains(code));
        let paths = code.map(|code| check_path(&document, code, &ours));
        let errors = links.chain(paths).filter_map(Result::err);
        dead.extend(errors.map(|error| format!("{}: {error}", document.display())));
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn lines_fit_on_a_screen() {
    let mut found = vec![];
    let mut check = |path: &Path, number: usize, line: &str| {
        if line.chars().count() > MAX_LINE_CHARS {
            found.push(format!("{}:{}", path.display(), number + 1));
        }
    };
    for path in files(".md") {
        let text = std::fs::read_to_string(&path).unwrap();
        prose(&text).for_each(|(number, line)| check(&path, number, line));
    }
    for (ending, quote) in [(".rs", '"'), (".sql", '\''), (".sh", '"')] {
        for path in files(ending) {
            let text = std::fs::read_to_string(&path).unwrap();
            let lines = text.lines().zip(quoted_chars(&text, quote)).enumerate();
            let code = lines.filter(|(_, (_, quoted))| *quoted < MAX_LINE_CHARS / 2);
            code.for_each(|(number, (line, _))| check(&path, number, line));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// How much of each line is text between quotes, which may run over many lines: to wrap it would change it.
fn quoted_chars(text: &str, quote: char) -> Vec<usize> {
    let mut is_inside = false;
    let count = |line: &str| {
        let begins_with = |sign: &&str| line.trim_start().starts_with(*sign);
        let is_comment = !is_inside && ["//", "--", "#"].iter().any(begins_with);
        let (mut count, mut is_escaped) = (0, false);
        for c in line.replace("'\"'", "' '").chars().filter(|_| !is_comment) {
            let is_quote = c == quote && !is_escaped;
            is_escaped = quote == '"' && c == '\\' && !is_escaped;
            is_inside ^= is_quote;
            count += usize::from(is_inside);
        }
        // A raw text has quotes of its own.
        if line.contains("r#\"") { line.len() } else { count }
    };
    text.lines().map(count).collect()
}

#[test]
fn a_public_name_means_one_thing() {
    let mut places: BTreeMap<String, BTreeSet<PathBuf>> = BTreeMap::new();
    for path in files(".rs") {
        let text = std::fs::read_to_string(&path).unwrap();
        let public = text.lines().filter_map(|line| line.trim_start().strip_prefix("pub "));
        for item in public {
            let mut words = item.split(|c: char| !c.is_alphanumeric() && c != '_');
            if let (Some("struct" | "enum" | "trait"), Some(name)) = (words.next(), words.next()) {
                places.entry(name.to_owned()).or_default().insert(path.clone());
            }
        }
    }
    assert!(places.len() > 100, "{}", places.len());
    let doubled =
        places.iter().filter(|(name, places)| places.len() > 1 && !SHARED_NAMES.contains(&name.as_str()));
    let doubled: Vec<_> = doubled.collect();
    assert!(doubled.is_empty(), "{doubled:#?}");
}
