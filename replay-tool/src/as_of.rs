//! A place in the ledger's past: a position, or an instant.

use std::str::FromStr;

use anyhow::{Context, ensure};
use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;

/// Up to where the ledger is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AsOf {
    /// Up to and with this position.
    Position(i64),
    /// Up to and with everything that was recorded at this instant.
    Time(DateTime<Utc>),
}

impl FromStr for AsOf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(position) = text.parse() {
            return if position >= 0 { Ok(Self::Position(position)) } else { Err(MEANT.to_owned()) };
        }
        if let Ok(day) = text.parse::<NaiveDate>() {
            return Ok(Self::Time(day.and_time(chrono::NaiveTime::MIN).and_utc()));
        }
        let time = DateTime::parse_from_rfc3339(text).map_err(|_| MEANT.to_owned())?;
        Ok(Self::Time(time.to_utc()))
    }
}

const MEANT: &str = "give a position such as 1200, a time such as 2026-11-25T10:00:00Z, or a day such as \
                     2026-11-25, which means its first instant (UTC)";

impl AsOf {
    /// The position that is meant, of a ledger that ends at `head`.
    ///
    /// # Errors
    /// The ledger does not reach that position, or cannot be read.
    pub(crate) async fn position(self, connection: &mut PgConnection, head: i64) -> anyhow::Result<i64> {
        match self {
            Self::Position(position) => {
                ensure!(position <= head, "the ledger ends at position {head}");
                Ok(position)
            }
            Self::Time(time) => last_position_at(connection, head, time).await,
        }
    }
}

/// The last position recorded at `time` or before. Times never run backwards along the positions, so
/// halving finds it, without an index on times.
async fn last_position_at(
    connection: &mut PgConnection,
    head: i64,
    time: DateTime<Utc>,
) -> anyhow::Result<i64> {
    let (mut least, mut most) = (0, head);
    while least < most {
        let middle = least + (most - least + 1) / 2;
        let recorded_at: Option<DateTime<Utc>> =
            sqlx::query_scalar("select recorded_at from events where position = $1")
                .bind(middle)
                .fetch_optional(&mut *connection)
                .await?;
        let recorded_at = recorded_at.with_context(|| format!("position {middle} is missing"))?;
        if recorded_at <= time {
            least = middle;
        } else {
            most = middle - 1;
        }
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_times_and_days_are_understood() {
        assert_eq!("17".parse(), Ok(AsOf::Position(17)));
        let time = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().to_utc();
        assert_eq!("2026-11-25T10:00:00.5+01:00".parse(), Ok(AsOf::Time(time("2026-11-25T09:00:00.5Z"))));
        assert_eq!("2026-11-25".parse(), Ok(AsOf::Time(time("2026-11-25T00:00:00Z"))));
        for bad in ["-1", "yesterday", "2026-11-25 10:00", ""] {
            assert!(bad.parse::<AsOf>().is_err(), "{bad}");
        }
    }
}
