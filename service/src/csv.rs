//! Comma-separated values for spreadsheets (RFC 4180).
//!
//! A row is written as its JSON object is: the names of the object are the columns, in their order, so
//! the two forms of an export cannot differ. Numbers stand as they are. Every text is quoted, and is
//! disarmed: a spreadsheet runs a cell that begins like a formula, and whoever opens the file may choose
//! another separator than the comma, which makes cells begin anywhere in a text. Texts that are JSON are
//! disarmed so that they mean the same as before.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Tells a spreadsheet that the file is UTF-8.
pub const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Appends the line of names of rows like `row`.
///
/// # Errors
/// The row is not an object.
pub fn write_heading<R: Serialize>(row: &R, out: &mut Vec<u8>) -> io::Result<()> {
    write_line(row, out, |(name, _), out| write_text(name, out))
}

/// Appends the line of a row.
///
/// # Errors
/// The row is not an object of numbers, texts, truth values and nulls.
pub fn write_row<R: Serialize>(row: &R, out: &mut Vec<u8>) -> io::Result<()> {
    write_line(row, out, |(_, value), out| write_value(value, out))
}

fn write_line<R: Serialize>(
    row: &R,
    out: &mut Vec<u8>,
    mut write: impl FnMut(&(&str, &RawValue), &mut Vec<u8>) -> io::Result<()>,
) -> io::Result<()> {
    let json = serde_json::to_string(row)?;
    let Fields(fields) = serde_json::from_str(&json)?;
    for (at, field) in fields.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(field, out)?;
    }
    out.write_all(b"\r\n")
}

/// Appends the cell of a text.
///
/// # Errors
/// None, since it writes to memory.
pub fn write_cell(text: &str, out: &mut Vec<u8>) -> io::Result<()> {
    write_text(&disarm(text), out)
}

/// Appends the cell of a text that is JSON.
///
/// # Errors
/// None, since it writes to memory.
pub fn write_json_cell(json: &str, out: &mut Vec<u8>) -> io::Result<()> {
    write_text(&disarm_json(json), out)
}

fn write_value(value: &RawValue, out: &mut Vec<u8>) -> io::Result<()> {
    let json = value.get();
    match json.as_bytes().first() {
        Some(b'"') => write_cell(&serde_json::from_str::<String>(json)?, out),
        Some(b'{' | b'[') => Err(io::Error::other("a cell holds one value")),
        Some(b'n') => Ok(()),
        _ => out.write_all(json.as_bytes()),
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) -> io::Result<()> {
    write!(out, "\"{}\"", text.replace('"', "\"\""))
}

/// `text` with a `'` before whatever would begin a formula, at its start or behind anything that could
/// separate cells.
fn disarm(text: &str) -> Cow<'_, str> {
    let armed = armed(text);
    if armed.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut disarmed = String::with_capacity(text.len() + armed.len());
    let mut kept = 0;
    for at in armed {
        disarmed.push_str(&text[kept..at]);
        disarmed.push('\'');
        kept = at;
    }
    disarmed.push_str(&text[kept..]);
    Cow::Owned(disarmed)
}

/// `json` with an escape for whatever would begin a formula in its strings. Outside of them are numbers, and
/// nothing that anybody has typed.
fn disarm_json(json: &str) -> Cow<'_, str> {
    let armed = armed(json);
    if armed.is_empty() {
        return Cow::Borrowed(json);
    }
    let mut disarmed = String::with_capacity(json.len() + 5 * armed.len());
    let mut armed = armed.into_iter().peekable();
    let (mut in_string, mut is_escaped) = (false, false);
    for (at, character) in json.char_indices() {
        if armed.next_if_eq(&at).is_some() && in_string {
            disarmed.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            disarmed.push(character);
        }
        in_string ^= character == '"' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
    }
    Cow::Owned(disarmed)
}

/// Where a formula would begin.
fn armed(text: &str) -> Vec<usize> {
    let mut before = None;
    let is_armed = |&(_, character): &(usize, char)| {
        let before: Option<char> = before.replace(character);
        begins_formula(character) && !before.is_some_and(char::is_alphanumeric)
    };
    text.char_indices().filter(is_armed).map(|(at, _)| at).collect()
}

/// The characters by which spreadsheets know a formula, also in their wide forms.
fn begins_formula(character: char) -> bool {
    matches!(character, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠')
}

/// The fields of an object, in its order.
struct Fields<'a>(Vec<(&'a str, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a row")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(24);
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Row<'a> {
        position: i64,
        name: Option<&'a str>,
        anonymous: bool,
    }

    fn written(row: &Row<'_>) -> String {
        let mut out = Vec::new();
        write_row(row, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn cell(name: &str) -> String {
        let line = written(&Row { position: 1, name: Some(name), anonymous: false });
        let cell = line.strip_prefix("1,\"").and_then(|line| line.strip_suffix("\",false\r\n"));
        cell.unwrap().replace("\"\"", "\"")
    }

    #[test]
    fn columns_are_named_and_in_order() {
        let mut out = Vec::new();
        write_heading(&Row { position: 0, name: None, anonymous: false }, &mut out).unwrap();
        assert_eq!(out, b"\"position\",\"name\",\"anonymous\"\r\n");
    }

    #[test]
    fn texts_are_quoted_and_numbers_are_not() {
        let row = Row { position: -7, name: Some("12"), anonymous: true };
        assert_eq!(written(&row), "-7,\"12\",true\r\n");
        assert_eq!(written(&Row { name: None, ..row }), "-7,,true\r\n");
        assert_eq!(cell("a\"b, c\nd"), "a\"b, c\nd");
    }

    #[test]
    fn json_is_disarmed_and_means_the_same() {
        for (json, kept) in [
            (r#"{"a":"=1+1"}"#, r#"{"a":"\u003d1+1"}"#),
            (r#"{"a":"b;=1","c":-5}"#, r#"{"a":"b;\u003d1","c":-5}"#),
            (r#"{"a\\":"\"@b","c":"＝1"}"#, r#"{"a\\":"\"\u0040b","c":"\uff1d1"}"#),
            (r#"{"a":"well-known 2026-11-28"}"#, r#"{"a":"well-known 2026-11-28"}"#),
        ] {
            assert_eq!(disarm_json(json), kept);
            let parse = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
            assert_eq!(parse(json), parse(kept));
        }
    }

    #[test]
    fn formulas_are_text_whatever_separates_cells() {
        for (typed, kept) in [
            ("=1+1", "'=1+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "\t'=1"),
            ("＝1", "'＝1"),
            ("thanks;=1+1", "thanks;'=1+1"),
            ("a;@SUM(1+1)", "a;'@SUM(1+1)"),
            ("a|+1 b\n-1", "a|'+1 b\n'-1"),
            ("a;\"=1\"", "a;\"'=1\""),
            ("a; =1", "a; '=1"),
            // A starter may be what separates cells.
            ("x-=1+1", "x-'=1+1"),
            ("x=@SUM(1)", "x='@SUM(1)"),
        ] {
            assert_eq!(cell(typed), kept);
        }
        for harmless in ["For water", "1=1", "", "well-known", "ada@example.org", "2026-11-28T22:50:13+00:00"]
        {
            assert_eq!(cell(harmless), harmless);
        }
    }
}
