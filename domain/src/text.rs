//! Text from outside, with a limit on its length.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Text that people read: trimmed, not empty, at most `MAX` characters, without control
/// characters other than line breaks and tabs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is kept of `text`: all of it but the blanks around it.
    fn checked(text: &str) -> Result<&str, TextError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TextError::Empty);
        }
        if text.chars().count() > MAX {
            return Err(TextError::TooLong { max_chars: MAX });
        }
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            return Err(TextError::NotPrintable);
        }
        Ok(text)
    }
}

impl<const MAX: usize> FromStr for Text<MAX> {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        Self::checked(text).map(|text| Self(text.to_owned()))
    }
}

impl<const MAX: usize> TryFrom<String> for Text<MAX> {
    type Error = TextError;

    /// Without a copy, where there is nothing to trim.
    fn try_from(text: String) -> Result<Self, TextError> {
        if Self::checked(&text)?.len() == text.len() { Ok(Self(text)) } else { text.parse() }
    }
}

impl<const MAX: usize> From<Text<MAX>> for String {
    fn from(text: Text<MAX>) -> Self {
        text.0
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Nothing in it.
    #[error("must not be empty")]
    Empty,
    /// Longer than the limit, in characters.
    #[error("must be at most {max_chars} characters")]
    TooLong {
        /// The limit in characters.
        max_chars: usize,
    },
    /// Control characters, or what the kind of text does not allow.
    #[error("must be printable text")]
    NotPrintable,
    /// Not an e-mail address.
    #[error("must be an e-mail address such as name@example.org")]
    NotAnEmail,
}

/// A visible token of printable ASCII, as ids and keys from outside are.
pub(crate) fn token(text: &str, max_chars: usize) -> Result<String, TextError> {
    if text.is_empty() {
        return Err(TextError::Empty);
    }
    if text.len() > max_chars {
        return Err(TextError::TooLong { max_chars });
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TextError::NotPrintable);
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_trimmed_and_limited_in_characters() {
        assert_eq!("  é é ".parse::<Text<3>>().unwrap().as_str(), "é é");
        assert_eq!(" \n ".parse::<Text<3>>(), Err(TextError::Empty));
        assert_eq!("éééé".parse::<Text<3>>(), Err(TextError::TooLong { max_chars: 3 }));
        assert_eq!("a\0b".parse::<Text<3>>(), Err(TextError::NotPrintable));
        assert!("a\nb".parse::<Text<3>>().is_ok());
    }
}
