//! No two files of a crate need each other, directly or over others: what both need stands below both.
//!
//! A file needs another when it names something of it by a path from `crate` or `super`. What a parent
//! re-exports counts as the child's. A parent is made of its children, so it counts neither as needing them
//! nor as needed by them. Unit tests do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::architecture::root;

/// A module's path within its crate; the root's is empty.
type Module = Vec<String>;

/// The files of a crate and which of the others each needs.
type Needs = BTreeMap<Module, BTreeSet<Module>>;

#[test]
fn no_files_of_a_crate_need_each_other() {
    let mut circles = Vec::new();
    for (name, folder) in crates() {
        for circle in circles_of(&needs(&sources(&folder))) {
            let files: Vec<String> = circle.iter().map(|module| module.join("::")).collect();
            circles.push(format!("{name}: {}", files.join(", ")));
        }
    }
    assert!(circles.is_empty(), "files that need each other:\n{}", circles.join("\n"));
}

#[test]
fn circles_are_found_however_they_are_written() {
    let crate_of = |files: &[(&str, &str)]| -> BTreeMap<Module, String> {
        let module =
            |path: &str| path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        files.iter().map(|(path, text)| (module(path), (*text).to_owned())).collect()
    };
    let circle = |files: &[(&str, &str)]| circles_of(&needs(&crate_of(files))).len() == 1;
    let calls = [
        "use crate::b::B;",
        "use super::b::{self, B};",
        "use crate::{Other, b::B};",
        "use crate::B;",
        "fn f() { crate::b::f() }",
        "fn f(b: super::b::B) {}",
    ];
    for call in calls {
        let files =
            [("", "mod a; mod b; pub use b::{B, C}; pub use a::A;"), ("a", call), ("b", "use crate::A;")];
        assert!(circle(&files), "{call}");
    }
    for harmless in [
        "// use crate::b::B;",
        "const TEXT: &str = \"crate::b::B\";",
        "use other::b::B;",
        "#[cfg(test)]\nmod tests {\n    use crate::b::B;\n    fn f() { let x = '{'; }\n}",
    ] {
        assert!(!circle(&[("", "mod a; mod b;"), ("a", harmless), ("b", "use crate::a::A;")]), "{harmless}");
    }
    // Over a third file, and from one folder into another.
    let long = [
        ("a", "use crate::b::B;"),
        ("b", "use crate::c::D;"),
        ("c", "pub use d::D;"),
        ("c::d", "use crate::a::A;"),
    ];
    assert!(circle(&long));
    assert!(!circle(&[("", "mod a; struct State; use a::A;"), ("a", "use crate::State;")]));
}

/// Our crates and their folders of sources.
fn crates() -> Vec<(String, std::path::PathBuf)> {
    let folders = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap());
    folders
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path().join("src")))
        .filter(|(_, folder)| folder.is_dir())
        .collect()
}

/// The text of every module below `folder`, without comments, texts and unit tests.
fn sources(folder: &Path) -> BTreeMap<Module, String> {
    let mut modules = BTreeMap::new();
    let mut folders = vec![(folder.to_owned(), Module::new())];
    while let Some((folder, parent)) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let child = [parent.as_slice(), std::slice::from_ref(&name)].concat();
            if path.is_dir() {
                folders.push((path, child));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let module =
                    if ["lib", "main", "mod"].contains(&name.as_str()) { parent.clone() } else { child };
                modules
                    .entry(module)
                    .or_insert_with(String::new)
                    .push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    modules
}

fn needs(sources: &BTreeMap<Module, String>) -> Needs {
    let sources: BTreeMap<&Module, Vec<String>> =
        sources.iter().map(|(module, text)| (module, without_tests(tokens(text)))).collect();
    let exports: BTreeMap<&Module, BTreeMap<String, Module>> =
        sources.iter().map(|(module, tokens)| (*module, exports(module, tokens))).collect();
    let need = |(module, tokens): (&&Module, &Vec<String>)| {
        let paths = paths(tokens).into_iter().filter_map(|path| absolute(module, &path));
        let needed = paths
            .map(|path| owner(&path, &exports))
            .filter(|needed| !module.starts_with(needed) && !needed.starts_with(module));
        ((*module).clone(), needed.collect())
    };
    sources.iter().map(need).collect()
}

/// Words, and signs one by one; `::` is one.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let rest = |at: usize, sign: &str| sign.chars().enumerate().all(|(n, c)| chars.get(at + n) == Some(&c));
    let (mut tokens, mut at) = (Vec::new(), 0);
    while at < chars.len() {
        let start = at;
        if rest(at, "//") {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if rest(at, "r\"") || rest(at, "r#\"") {
            let end = if chars[at + 1] == '#' { "\"#" } else { "\"" };
            at += 3;
            while at < chars.len() && !rest(at, end) {
                at += 1;
            }
            at += end.len();
        } else if chars[at] == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if chars[at] == '\'' && chars.get(at + 1) == Some(&'\\') {
            // From the sign behind the backslash to the end of the character.
            at += 3;
            while at < chars.len() && chars[at] != '\'' {
                at += 1;
            }
            at += 1;
        } else if chars[at] == '\'' && chars.get(at + 2) == Some(&'\'') {
            at += 3;
        } else if chars[at].is_alphanumeric() || chars[at] == '_' {
            while at < chars.len() && (chars[at].is_alphanumeric() || chars[at] == '_') {
                at += 1;
            }
            tokens.push(chars[start..at].iter().collect());
        } else {
            at += if rest(at, "::") { 2 } else { 1 };
            if !chars[start].is_whitespace() {
                tokens.push(chars[start..at].iter().collect());
            }
        }
    }
    tokens
}

/// Leaves out every item under `#[cfg(test)]`.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if tokens[at..].iter().take(TEST.len()).map(String::as_str).eq(TEST) {
            let mut depth = 0;
            while at < tokens.len() {
                match tokens[at].as_str() {
                    "{" => depth += 1,
                    "}" => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 && ["}", ";"].contains(&tokens[at - 1].as_str()) {
                    break;
                }
            }
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Every path from `crate`, `self` or `super`, those in braces one by one.
fn paths(tokens: &[String]) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for at in 0..tokens.len() {
        let begins = ["crate", "self", "super"].contains(&tokens[at].as_str());
        let goes_on = at > 0 && tokens[at - 1] == "::";
        if begins && !goes_on && tokens.get(at + 1).is_some_and(|next| next == "::") {
            paths.extend(tree(tokens, &mut { at }));
        }
    }
    paths
}

/// The paths of a tree of imports that starts at `at`, which is left behind its end.
fn tree(tokens: &[String], at: &mut usize) -> Vec<Vec<String>> {
    let mut prefix = Vec::new();
    while let Some(token) = tokens.get(*at) {
        *at += 1;
        if token == "{" {
            let mut paths = Vec::new();
            while tokens.get(*at).is_some_and(|token| token != "}") {
                paths.extend(tree(tokens, at).into_iter().map(|path| [prefix.clone(), path].concat()));
                // `as Name` and the comma.
                while tokens.get(*at).is_some_and(|token| token != "," && token != "}") {
                    *at += 1;
                }
                *at += usize::from(tokens.get(*at).is_some_and(|token| token == ","));
            }
            *at += 1;
            return paths;
        }
        prefix.push(token.clone());
        if tokens.get(*at).is_none_or(|token| token != "::") {
            break;
        }
        *at += 1;
    }
    vec![prefix]
}

/// A path from the root of the crate, as seen from `module`.
fn absolute(module: &Module, path: &[String]) -> Option<Module> {
    let mut from = module.clone();
    let mut path = path;
    match path.first()?.as_str() {
        "crate" => from.clear(),
        "super" => drop(from.pop()),
        _ => {}
    }
    path = &path[1..];
    while path.first().is_some_and(|part| part == "super") {
        from.pop();
        path = &path[1..];
    }
    Some([from.as_slice(), path].concat())
}

/// What a module takes from its children by `use`, and from which.
fn exports(module: &Module, tokens: &[String]) -> BTreeMap<String, Module> {
    let mut exports = BTreeMap::new();
    for at in 0..tokens.len() {
        let is_use = tokens[at] == "use" && at + 1 < tokens.len();
        if !is_use || ["crate", "super"].contains(&tokens[at + 1].as_str()) {
            continue;
        }
        for path in tree(tokens, &mut { at + 1 }) {
            let path = if path[0] == "self" { &path[1..] } else { &path };
            if let Some((name, from)) = path.split_last().filter(|(_, from)| !from.is_empty()) {
                exports.insert(name.clone(), [module.as_slice(), from].concat());
            }
        }
    }
    exports
}

/// The module in which something stands, behind all that pass it on.
fn owner(path: &[String], exports: &BTreeMap<&Module, BTreeMap<String, Module>>) -> Module {
    let mut length = path.len();
    while length > 0 && !exports.contains_key(&path[..length].to_vec()) {
        length -= 1;
    }
    let module = path[..length].to_vec();
    let passed_on = path.get(length).and_then(|name| exports[&module].get(name));
    match passed_on.filter(|from| exports.contains_key(from)) {
        Some(from) => owner(&[from.as_slice(), &path[length..]].concat(), exports),
        None => module,
    }
}

/// Groups of modules each of which leads to all others of its group.
fn circles_of(needs: &Needs) -> BTreeSet<BTreeSet<Module>> {
    let reached = |from: &Module| {
        let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(module) = open.pop() {
            open.extend(
                needs.get(module).into_iter().flatten().filter(|next| reached.insert((*next).clone())),
            );
        }
        reached
    };
    let reached: BTreeMap<&Module, BTreeSet<Module>> =
        needs.keys().map(|module| (module, reached(module))).collect();
    let both_ways = |a: &Module, b: &Module| reached[a].contains(b) && reached[b].contains(a);
    let circle = |module: &Module| needs.keys().filter(|other| both_ways(module, other)).cloned().collect();
    needs.keys().map(circle).filter(|circle: &BTreeSet<Module>| circle.len() > 1).collect()
}
