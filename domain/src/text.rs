//! Text that a person types, with a limit on its length.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::CodePointSetData;
use icu_properties::props::DefaultIgnorableCodePoint;
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Text that a person types and people read: a name, a message, a title, a reason.
///
/// It is kept as Unicode's normalization form C, trimmed, with line breaks as `\n`. Characters that
/// nobody sees and that could mislead whoever reads it are left out: control characters, and controls
/// of writing direction that would reach beyond the text. Joiners and variation selectors stay, since
/// emoji and several scripts need them. What is left has something visible in it, and at most `MAX`
/// characters (Unicode scalar values).
///
/// ```
/// use domain::{Text, TextError};
///
/// let name: Text<100> = " Zoe\u{308}\u{202e} ".parse()?;
/// assert_eq!(name.as_str(), "Zo\u{eb}");
/// assert_eq!("\u{200b}\u{2066}".parse::<Text<100>>(), Err(TextError::Empty));
/// # Ok::<(), TextError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    /// The most characters.
    pub const MAX_CHARS: usize = MAX;

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text of a field that may be left empty, as forms send it: none where nothing visible is in it.
    ///
    /// # Errors
    /// [`TextError::TooLong`].
    pub fn optional(text: Option<String>) -> Result<Option<Self>, TextError> {
        match text.map(Self::try_from).transpose() {
            Err(TextError::Empty) => Ok(None),
            other => other,
        }
    }
}

impl<const MAX: usize> PartialSchema for Text<MAX> {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(MAX)).into()
    }
}

impl<const MAX: usize> ToSchema for Text<MAX> {
    fn name() -> Cow<'static, str> {
        format!("Text{MAX}").into()
    }
}

impl<const MAX: usize> FromStr for Text<MAX> {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        text.to_owned().try_into()
    }
}

impl<const MAX: usize> TryFrom<String> for Text<MAX> {
    type Error = TextError;

    /// Without a copy, where the text is clean already.
    fn try_from(text: String) -> Result<Self, TextError> {
        let clean = clean(&text);
        let kept = clean.trim();
        if !kept.chars().any(is_visible) {
            return Err(TextError::Empty);
        }
        if kept.chars().count() > MAX {
            return Err(TextError::TooLong { max_chars: MAX });
        }
        if kept.len() == text.len() && matches!(clean, Cow::Borrowed(_)) {
            return Ok(Self(text));
        }
        Ok(Self(kept.to_owned()))
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

/// `text` as it is kept, but for blanks around it.
fn clean(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte == b'\n' || byte == b'\t' || (b' '..=b'~').contains(&byte)) {
        return Cow::Borrowed(text);
    }
    let without_controls = without_controls(text);
    let kept = without_unpaired_isolates(&without_controls);
    Cow::Owned(ComposingNormalizerBorrowed::new_nfc().normalize(&kept).into_owned())
}

/// Leaves out control characters, and turns every kind of line break into `\n`.
fn without_controls(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\r' => {
                characters.next_if_eq(&'\n');
                kept.push('\n');
            }
            '\n' | '\u{85}' | '\u{2028}' | '\u{2029}' => kept.push('\n'),
            '\t' => kept.push('\t'),
            _ if character.is_control() || is_stray_format(character) => {}
            _ => kept.push(character),
        }
    }
    kept
}

/// Whether it is one of the format characters that have no place in what a person types: embeddings and
/// overrides of writing direction, which isolates have replaced (Unicode Standard Annex 9, section 2),
/// interlinear annotations, byte order marks, deprecated format characters and noncharacters.
pub(crate) fn is_stray_format(character: char) -> bool {
    let code = u32::from(character);
    matches!(
        character,
        '\u{202a}'..='\u{202e}'
            | '\u{206a}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{feff}'
            | '\u{fdd0}'..='\u{fdef}'
    ) || code & 0xfffe == 0xfffe
}

/// Leaves out isolates of writing direction that do not end, and ends of none: they would turn the text
/// around it.
fn without_unpaired_isolates(text: &str) -> Cow<'_, str> {
    const END: char = '\u{2069}';
    let is_start = |character| matches!(character, '\u{2066}'..='\u{2068}');
    if !text.contains(|character| is_start(character) || character == END) {
        return Cow::Borrowed(text);
    }
    let mut open = Vec::new();
    let mut unpaired = Vec::new();
    for (at, character) in text.char_indices() {
        if is_start(character) {
            open.push(at);
        } else if character == END && open.pop().is_none() {
            unpaired.push(at);
        }
    }
    unpaired.append(&mut open);
    // Sorted, since a hostile text may hold thousands of them.
    unpaired.sort_unstable();
    let is_kept = |at: &usize| unpaired.binary_search(at).is_err();
    text.char_indices().filter(|(at, _)| is_kept(at)).map(|(_, character)| character).collect()
}

/// Whether people see something where this character stands.
pub(crate) fn is_visible(character: char) -> bool {
    /// They are letters or symbols by their properties, and are drawn as nothing.
    const BLANK: [char; 3] = ['\u{2800}', '\u{1d159}', '\u{16fe4}'];
    if character.is_ascii() {
        return character.is_ascii_graphic();
    }
    !character.is_whitespace()
        && !character.is_control()
        && !BLANK.contains(&character)
        && !CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character)
}

/// Why a text is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Nothing visible in it.
    #[error("must not be empty")]
    Empty,
    /// Longer than the limit, in characters.
    #[error("must be at most {max_chars} characters")]
    TooLong {
        /// The limit in characters.
        max_chars: usize,
    },
    /// An id or a key with something else in it than visible ASCII characters.
    #[error("must be printable text")]
    NotPrintable,
    /// Not an e-mail address.
    #[error("must be an e-mail address such as name@example.org, without a name, quotes or a comment")]
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
    use proptest::prelude::*;

    use super::*;

    fn kept(text: &str) -> Result<String, TextError> {
        text.parse::<Text<40>>().map(String::from)
    }

    #[test]
    fn texts_are_trimmed_and_limited_in_characters() {
        assert_eq!("  é é ".parse::<Text<3>>().unwrap().as_str(), "é é");
        assert_eq!(" \n ".parse::<Text<3>>(), Err(TextError::Empty));
        assert_eq!("éééé".parse::<Text<3>>(), Err(TextError::TooLong { max_chars: 3 }));
        assert!("a\nb".parse::<Text<3>>().is_ok());
        // Counted as they are kept: three letters with their accents.
        assert_eq!("e\u{301}e\u{301}e\u{301}".parse::<Text<3>>().unwrap().as_str(), "ééé");
    }

    #[test]
    fn control_characters_are_left_out_and_line_breaks_are_of_one_kind() {
        assert_eq!(kept("a\0b\u{7}c\u{9b}d"), Ok("abcd".to_owned()));
        assert_eq!(kept("a\r\nb\rc\u{2028}d\u{85}e"), Ok("a\nb\nc\nd\ne".to_owned()));
        assert_eq!(kept("\u{feff}a\u{fff9}b\u{fffe}"), Ok("ab".to_owned()));
    }

    #[test]
    fn nothing_reaches_beyond_the_text_by_its_direction() {
        assert_eq!(kept("a\u{202e}b\u{202c}c"), Ok("abc".to_owned()));
        assert_eq!(kept("a\u{2067}b"), Ok("ab".to_owned()));
        assert_eq!(kept("a\u{2069}b"), Ok("ab".to_owned()));
        assert_eq!(kept("\u{2067}a\u{2066}b\u{2069}"), Ok("a\u{2066}b\u{2069}".to_owned()));
        let paired = "\u{2067}שלום\u{2069} a";
        assert_eq!(kept(paired), Ok(paired.to_owned()));
    }

    #[test]
    fn nothing_visible_is_nothing() {
        for blank in [
            "",
            "\u{200b}",
            "\u{3164}",
            "\u{2800}",
            "\u{ad}\u{2060}",
            "\u{2066}\u{2069}",
            "\u{fe0f}",
            "\u{e0020}",
        ] {
            assert_eq!(kept(blank), Err(TextError::Empty), "{:?}", blank.escape_unicode().to_string());
            assert_eq!(Text::<40>::optional(Some(blank.to_owned())), Ok(None));
        }
        assert_eq!(Text::<40>::optional(None), Ok(None));
        assert!(Text::<40>::optional(Some("x".repeat(41))).is_err());
    }

    #[test]
    fn joiners_of_emoji_and_scripts_stay() {
        for text in [
            "👩\u{200d}👩\u{200d}👧",
            "नम\u{200d}स्ते",
            "می\u{200c}خواهم",
            "❤\u{fe0f}",
            "🏴\u{e0067}\u{e0062}\u{e007f}",
        ] {
            assert_eq!(kept(text), Ok(text.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_once_is_kept_unchanged(text in ".{0,40}", odd in proptest::collection::vec(
            prop_oneof![Just('\u{2066}'), Just('\u{2069}'), Just('\u{202e}'), Just('\u{301}'), Just('e'),
                Just('\r'), Just('\n'), Just('\u{85}'), Just('\u{feff}'), Just(' ')], 0..20)) {
            let text: String = text.chars().chain(odd).collect();
            if let Ok(once) = text.parse::<Text<100>>() {
                prop_assert_eq!(once.as_str().parse::<Text<100>>(), Ok(once.clone()));
            }
        }
    }
}
