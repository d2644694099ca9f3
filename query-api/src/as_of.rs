//! Figures as they were: at a position of the ledger, or at a time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use read_model::Projection;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use service::{Problem, ProblemKind};

use crate::progress::{MinPosition, Progress};

/// Clocks of different machines differ a little.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(5);

/// A position or a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum AsOf {
    Position(i64),
    Time(DateTime<Utc>),
}

impl<'de> Deserialize<'de> for AsOf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Ok(position) = text.parse() {
            return Ok(Self::Position(position));
        }
        let time = text.parse().map(Self::Time);
        time.map_err(|_| D::Error::custom("as_of must be a position, or a time such as 2026-11-25T09:30:00Z"))
    }
}

impl fmt::Display for AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Position(position) => write!(f, "position {position}"),
            Self::Time(time) => write!(f, "{}", time.to_rfc3339()),
        }
    }
}

impl AsOf {
    /// Waits until a projection has come as far as this.
    ///
    /// # Errors
    /// A time in the future, a position that is not reached in time, or `min_position` beside it.
    pub(crate) async fn reached(
        self,
        progress: &Arc<Progress>,
        projection: Projection,
        wanted: MinPosition,
    ) -> Result<(), Problem> {
        if wanted.min_position.is_some() {
            return Err(Problem::new(ProblemKind::Malformed, "send as_of or min_position, not both"));
        }
        match self {
            Self::Position(position) => {
                progress.reach(projection, MinPosition { min_position: Some(position) }).await
            }
            Self::Time(time) if time > Utc::now() + MAX_CLOCK_SKEW => {
                Err(Problem::new(ProblemKind::Malformed, "as_of must not be in the future"))
            }
            Self::Time(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_and_times_are_told_apart() {
        let parse = |text: &str| serde_json::from_value::<AsOf>(text.into()).ok();
        assert_eq!(parse("17"), Some(AsOf::Position(17)));
        let time = "2026-11-25T09:30:00Z";
        assert_eq!(parse(time), Some(AsOf::Time(time.parse().unwrap())));
        assert_eq!(parse("2026-11-25T10:30:00+01:00"), parse(time));
        for bad in ["", "yesterday", "2026-11-25", "1e5"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
