//! E-mail addresses.

use std::fmt;
use std::str::FromStr;

use email_address::{EmailAddress, Options};
use icu_normalizer::ComposingNormalizerBorrowed;
use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

use crate::text::{TextError, is_stray_format, is_visible};

/// RFC 5321 section 4.5.3.1.3: a path has at most 256 octets with its angle brackets.
const MAX_BYTES: usize = 254;

/// An e-mail address in the one form by which it is compared, so that one donor has one pseudonym:
/// bare, trimmed, in lower case and Unicode's normalization form C, the domain in its ASCII form.
///
/// A display name, quotes, comments and address literals are refused, and so is whatever nobody sees.
///
/// ```
/// use domain::{Email, TextError};
///
/// let address: Email = " Ada@B\u{fc}cher.Example ".parse()?;
/// assert_eq!(address.as_str(), "ada@xn--bcher-kva.example");
/// assert_eq!("Ada <ada@example.org>".parse::<Email>(), Err(TextError::NotAnEmail));
/// # Ok::<(), TextError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// The normalised address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Email {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let text = text.trim_matches(' ');
        if text.is_empty() {
            return Err(TextError::Empty);
        }
        // What nobody sees may be dropped by the rules of domain names, and would be mended by that.
        if !text.chars().all(|character| is_visible(character) && !is_stray_format(character)) {
            return Err(TextError::NotAnEmail);
        }
        let (local, domain) = text.rsplit_once('@').ok_or(TextError::NotAnEmail)?;
        let domain = Uts46::new()
            .to_ascii(domain.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify)
            .map_err(|_| TextError::NotAnEmail)?;
        let address = format!("{}@{domain}", lower_case(local));
        if address.len() > MAX_BYTES {
            return Err(TextError::TooLong { max_chars: MAX_BYTES });
        }
        let options = Options::default().without_display_text().without_domain_literal();
        let is_quoted = local.contains(|character| r#""()<>\,;:[]"#.contains(character));
        if is_quoted || EmailAddress::parse_with_options(&address, options).is_err() {
            return Err(TextError::NotAnEmail);
        }
        Ok(Self(address))
    }
}

/// `text` in lower case and form C, in which letters that look alike are alike.
fn lower_case(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let composer = ComposingNormalizerBorrowed::new_nfc();
    composer.normalize(&composer.normalize(text).to_lowercase()).into_owned()
}

impl From<Email> for String {
    fn from(email: Email) -> Self {
        email.0
    }
}

/// An address is personal data: it does not print itself into logs.
impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Result<String, TextError> {
        text.parse().map(|email: Email| email.as_str().to_owned())
    }

    #[test]
    fn one_address_is_written_in_one_way() {
        for (typed, kept) in [
            ("ada@example.org", "ada@example.org"),
            ("  Ada@Example.ORG ", "ada@example.org"),
            ("x@bücher.example", "x@xn--bcher-kva.example"),
            ("x@BÜCHER.example", "x@xn--bcher-kva.example"),
            ("x@bu\u{308}cher.example", "x@xn--bcher-kva.example"),
            ("x@XN--bcher-KVA.example", "x@xn--bcher-kva.example"),
            ("Zoe\u{308}@example.org", "zo\u{eb}@example.org"),
            ("o'neil+gift@example.org", "o'neil+gift@example.org"),
        ] {
            assert_eq!(address(typed).as_deref(), Ok(kept), "{typed}");
        }
    }

    #[test]
    fn what_is_no_bare_address_is_refused() {
        let long = format!("{}@example.org", "x".repeat(250));
        for bad in [
            "no-at",
            "@x",
            "x@",
            "a b@example.org",
            "Donor One <donor1@example.org>",
            "<donor1@example.org>",
            "\"Donor\r\nBcc: x@example.org\" <donor1@example.org>",
            "\"a b\"@example.org",
            "a(comment)@example.org",
            "a@example.org (comment)",
            "a@[127.0.0.1]",
            "a@b@example.org",
            "a,b@example.org",
            "a;b@example.org",
            "a\0@example.org",
            "a@exam\0ple.org",
            "a\u{200b}@example.org",
            "a@exam\u{200b}ple.org",
            "a@exam\u{ad}ple.org",
            "a\u{fff9}@example.org",
            "a\u{fffe}@example.org",
            "a@example.org\r\n",
            "\ta@example.org",
            "a@example.org\u{85}",
            "a\u{202e}@example.org",
            "a@-x.example",
            "a@example..org",
            ".a@example.org",
            "a..b@example.org",
            "a@exa mple.org",
            "a@xn--\u{fc}.example",
            &long,
        ] {
            assert!(address(bad).is_err(), "{bad:?}");
        }
        assert_eq!(address(" "), Err(TextError::Empty));
    }
}
