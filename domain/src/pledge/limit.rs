//! The limit of what is taken for a pledge without asking a person.

use std::fmt;
use std::str::FromStr;

use crate::Money;

/// The most that a payment may take for a pledge without asking a person: so many times the amount that
/// was promised. Read and shown as a number of at most two decimals, such as `1.5`; twice, unless it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureLimit {
    percent: u32,
}

impl CaptureLimit {
    /// Whether `captured` is more than that.
    pub fn is_exceeded(self, promised: Money, captured: Money) -> bool {
        let [promised, captured] = [promised, captured].map(|money| i128::from(money.amount_minor()));
        captured.saturating_mul(100) > promised.saturating_mul(i128::from(self.percent))
    }
}

impl Default for CaptureLimit {
    fn default() -> Self {
        Self { percent: 200 }
    }
}

impl FromStr for CaptureLimit {
    type Err = MalformedCaptureLimit;

    fn from_str(text: &str) -> Result<Self, MalformedCaptureLimit> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole) || !is_number(decimals) || decimals.len() > 2 {
            return Err(MalformedCaptureLimit);
        }
        let percent = format!("{whole}{decimals:0<2}").parse().map_err(|_| MalformedCaptureLimit)?;
        if (100..=1_000_000).contains(&percent) { Ok(Self { percent }) } else { Err(MalformedCaptureLimit) }
    }
}

impl fmt::Display for CaptureLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.percent / 100, self.percent % 100)
    }
}

/// The text is no limit of captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a number from 1 to 10000 with at most two decimals, such as 1.5")]
pub struct MalformedCaptureLimit;
