//! Reading the ledger in its one global order.

use chrono::{DateTime, Utc};
use domain::{DecodeError, Event, StoredEvent, UpcastTable};
use futures_util::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row};

use crate::metadata::Metadata;

/// An event as it stands in the ledger.
#[derive(Clone, Debug)]
pub struct RecordedEvent {
    /// Its place in the global order, from 1, without holes.
    pub position: i64,
    /// Its place in its aggregate's stream, from 1.
    pub sequence: i64,
    /// The name of the event.
    pub event_type: String,
    /// When it was appended. Never runs backwards along the positions.
    pub recorded_at: DateTime<Utc>,
    /// Metadata as it is stored; [`Self::metadata`] reads it.
    pub metadata_json: String,
    /// The event and its aggregate.
    pub event: Event,
}

/// Why the ledger could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database is out of reach or refuses the query.
    #[error("the ledger cannot be read: {0}")]
    Database(#[from] sqlx::Error),
    /// An event that this version of the program does not understand. A reader stops here.
    #[error("event at position {position} cannot be understood: {error}")]
    Decode {
        /// Where it stands.
        position: i64,
        /// The type of its aggregate.
        aggregate_type: String,
        /// Its name.
        event_type: String,
        /// The error.
        error: DecodeError,
    },
}

impl RecordedEvent {
    /// The command, the request and the webhook it came from, as far as they are known.
    pub fn metadata(&self) -> Metadata {
        serde_json::from_str(&self.metadata_json).unwrap_or_default()
    }

    /// Decodes a row as the statements below select it, borrowing from it whatever is not kept.
    fn from_row(row: &PgRow, upcasts: UpcastTable) -> Result<Self, ReadError> {
        let position = row.try_get(0)?;
        let event_type: &str = row.try_get(4)?;
        let stored = StoredEvent {
            aggregate_type: row.try_get(1)?,
            aggregate_id: row.try_get(2)?,
            event_type,
            event_version: row.try_get(5)?,
            // JSON is sent as its text; making it text first would cost the server a copy of each.
            payload: row.try_get_unchecked(6)?,
        };
        Ok(Self {
            position,
            sequence: row.try_get(3)?,
            event_type: event_type.to_owned(),
            recorded_at: row.try_get(8)?,
            metadata_json: row.try_get_unchecked(7)?,
            event: upcasts.decode(stored).map_err(|error| ReadError::Decode {
                position,
                aggregate_type: stored.aggregate_type.to_owned(),
                event_type: event_type.to_owned(),
                error,
            })?,
        })
    }
}

/// Reads events, and what was written in shapes of the past by a table of upcasts.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventReader {
    upcasts: UpcastTable,
}

impl EventReader {
    /// A reader by `upcasts`; that of programs is the default.
    pub fn new(upcasts: UpcastTable) -> Self {
        Self { upcasts }
    }

    /// The table that it reads by.
    pub fn upcasts(self) -> UpcastTable {
        self.upcasts
    }

    /// At most `limit` events that follow `position`, in order. Positions are contiguous and become
    /// visible in order, so this is all a reader needs.
    ///
    /// # Errors
    /// [`ReadError`]. Events before one that cannot be understood are returned; the call that starts
    /// at that one fails.
    pub async fn read_after(
        self,
        executor: impl PgExecutor<'_>,
        position: i64,
        limit: i64,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        // Rows are decoded as they come, while the server reads on.
        let mut rows = sqlx::query(
            "select position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
                    metadata, recorded_at
             from events where position > $1 order by position limit $2",
        )
        .bind(position)
        .bind(limit)
        .fetch(executor);
        let mut events = Vec::new();
        while let Some(row) = rows.try_next().await? {
            match RecordedEvent::from_row(&row, self.upcasts) {
                Ok(event) => events.push(event),
                Err(error) if events.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(events)
    }

    /// The whole history of one aggregate, in order.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read_stream(
        self,
        executor: impl PgExecutor<'_>,
        aggregate_type: &str,
        aggregate_id: &str,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        let rows = sqlx::query(
            "select position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
                    metadata, recorded_at
             from events where aggregate_type = $1 and aggregate_id = $2 order by sequence",
        )
        .bind(aggregate_type)
        .bind(aggregate_id)
        .fetch_all(executor)
        .await?;
        rows.iter().map(|row| RecordedEvent::from_row(row, self.upcasts)).collect()
    }
}

/// The last position given out; 0 in an empty ledger.
///
/// # Errors
/// Any error of the database.
pub async fn head(executor: impl PgExecutor<'_>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select position from ledger_head").fetch_one(executor).await
}

/// How far the ledger is ahead of a reader.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lag {
    /// How many events follow.
    pub events: i64,
    /// How long the next of them has waited.
    pub seconds: f64,
}

/// How far the ledger is ahead of readers that have come to `positions`, in the same order.
///
/// # Errors
/// Any error of the database.
pub async fn lag_behind(executor: impl PgExecutor<'_>, positions: &[i64]) -> Result<Vec<Lag>, sqlx::Error> {
    let rows: Vec<(i64, f64)> = sqlx::query_as(
        "select greatest(h.position - p.position, 0),
             coalesce(greatest(extract(epoch from now() - e.recorded_at), 0), 0)::float8
         from unnest($1::bigint[]) with ordinality as p (position, ordinal)
             cross join ledger_head h left join events e on e.position = p.position + 1
         order by p.ordinal",
    )
    .bind(positions)
    .fetch_all(executor)
    .await?;
    Ok(rows.into_iter().map(|(events, seconds)| Lag { events, seconds }).collect())
}
