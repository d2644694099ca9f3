//! Reading the ledger in its one global order.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use domain::{DecodeError, Event, StoredEvent};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, PgExecutor, Row};

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
    /// The command, the request and the webhook it came from.
    pub metadata: HashMap<String, String>,
    /// What happened, to which aggregate.
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
        /// What is wrong.
        error: DecodeError,
    },
}

/// A row before its payload is understood.
struct StoredRow {
    position: i64,
    aggregate_type: String,
    aggregate_id: String,
    sequence: i64,
    event_type: String,
    event_version: String,
    payload: String,
    metadata: HashMap<String, String>,
    recorded_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for StoredRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            position: row.try_get("position")?,
            aggregate_type: row.try_get("aggregate_type")?,
            aggregate_id: row.try_get("aggregate_id")?,
            sequence: row.try_get("sequence")?,
            event_type: row.try_get("event_type")?,
            event_version: row.try_get("event_version")?,
            payload: row.try_get_unchecked("payload")?,
            metadata: row.try_get::<Json<_>, _>("metadata")?.0,
            recorded_at: row.try_get("recorded_at")?,
        })
    }
}

impl TryFrom<StoredRow> for RecordedEvent {
    type Error = ReadError;

    fn try_from(row: StoredRow) -> Result<Self, ReadError> {
        let stored = StoredEvent {
            aggregate_type: &row.aggregate_type,
            aggregate_id: &row.aggregate_id,
            event_type: &row.event_type,
            event_version: &row.event_version,
            payload: &row.payload,
        };
        let event =
            Event::decode(stored).map_err(|error| ReadError::Decode { position: row.position, error })?;
        Ok(Self {
            position: row.position,
            sequence: row.sequence,
            event_type: row.event_type,
            recorded_at: row.recorded_at,
            metadata: row.metadata,
            event,
        })
    }
}

/// At most `limit` events that follow `position`, in order. Positions are contiguous and become
/// visible in order, so this is all a reader needs.
///
/// # Errors
/// [`ReadError`]. Events before one that cannot be understood are returned; the call that starts
/// at that one fails.
pub async fn read_after(
    executor: impl PgExecutor<'_>,
    position: i64,
    limit: i64,
) -> Result<Vec<RecordedEvent>, ReadError> {
    let rows: Vec<StoredRow> = sqlx::query_as(
        "select position, aggregate_type, aggregate_id, sequence, event_type, event_version,
                payload::text as payload, metadata, recorded_at
         from events where position > $1 order by position limit $2",
    )
    .bind(position)
    .bind(limit)
    .fetch_all(executor)
    .await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in rows {
        match RecordedEvent::try_from(row) {
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
    executor: impl PgExecutor<'_>,
    aggregate_type: &str,
    aggregate_id: &str,
) -> Result<Vec<RecordedEvent>, ReadError> {
    let rows: Vec<StoredRow> = sqlx::query_as(
        "select position, aggregate_type, aggregate_id, sequence, event_type, event_version,
                payload::text as payload, metadata, recorded_at
         from events where aggregate_type = $1 and aggregate_id = $2 order by sequence",
    )
    .bind(aggregate_type)
    .bind(aggregate_id)
    .fetch_all(executor)
    .await?;
    rows.into_iter().map(RecordedEvent::try_from).collect()
}

/// The last position given out; 0 in an empty ledger.
///
/// # Errors
/// What the database says.
pub async fn head(executor: impl PgExecutor<'_>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select position from ledger_head").fetch_one(executor).await
}
