//! Reading JSON with errors that say where.

use serde::de::DeserializeOwned;

use crate::ParseError;

/// Reads a value; `prefix` is where it stands in the message, with a dot at the end, or empty.
pub(crate) fn parse_json<T: DeserializeOwned>(json: &[u8], prefix: &str) -> Result<T, ParseError> {
    // Nearly all is well, and to know at every step where one is doubles the work.
    serde_json::from_slice(json).or_else(|_| parse_knowing_where(json, prefix))
}

fn parse_knowing_where<T: DeserializeOwned>(json: &[u8], prefix: &str) -> Result<T, ParseError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value: T = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = match error.path().to_string().as_str() {
            "." => prefix.trim_end_matches('.').to_owned(),
            path => format!("{prefix}{path}"),
        };
        ParseError { path, detail: error.into_inner().to_string() }
    })?;
    deserializer.end().map_err(|error| ParseError::at(prefix.trim_end_matches('.'), error))?;
    Ok(value)
}

/// A text that names or labels a message: 1 to 200 printable characters. It is refused and never mended,
/// because by such texts two messages are told apart.
pub(crate) fn short_text(path: &str, text: &str) -> Result<String, ParseError> {
    let is_printable = |character: char| !character.is_control() && !character.is_whitespace();
    let is_framed = text.starts_with(is_printable) && text.ends_with(is_printable);
    if is_framed && text.chars().count() <= 200 && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err(ParseError::at(path, "must be 1 to 200 printable characters"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_are_refused_and_never_mended() {
        let longest = "x".repeat(200);
        for text in ["evt_1", "two words", &longest] {
            assert_eq!(short_text("id", text).as_deref(), Ok(text));
        }
        let too_long = "x".repeat(201);
        for text in ["", " ", " evt_1", "evt_1 ", "evt_1\n", "evt\n1", &too_long] {
            assert!(short_text("id", text).is_err(), "{text:?}");
        }
    }
}
