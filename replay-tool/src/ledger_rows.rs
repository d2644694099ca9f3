//! Rows of the ledger between two positions, exactly as they are.

use anyhow::Context;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::snapshot::copy;
use crate::tuple::{Fields, int, time};

/// An event as the ledger holds it.
pub(crate) struct LedgerRow<'a> {
    pub(crate) position: i64,
    pub(crate) aggregate_type: &'a str,
    pub(crate) aggregate_id: &'a str,
    pub(crate) sequence: i64,
    pub(crate) event_type: &'a str,
    pub(crate) event_version: &'a str,
    pub(crate) payload: &'a str,
    pub(crate) metadata: &'a str,
    pub(crate) recorded_at: DateTime<Utc>,
}

/// Gives every event from position `from` up to `to`, in order.
///
/// # Errors
/// The ledger cannot be read, or `row` fails.
pub(crate) async fn read_rows(
    connection: PgConnection,
    from: i64,
    to: i64,
    mut row: impl FnMut(LedgerRow<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    // A COPY takes no parameters; these are numbers.
    let select = format!(
        "select position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
             metadata, recorded_at
         from events where position between {from} and {to} order by position"
    );
    copy(connection, &select, |bytes| {
        row(LedgerRow::read(bytes).context("the database sends events in a strange form")?)?;
        Ok(true)
    })
    .await
}

impl<'a> LedgerRow<'a> {
    fn read(row: &'a [u8]) -> Option<Self> {
        let mut fields = Fields::of(row).map(Option::unwrap_or_default);
        let position = int(fields.next()?)?;
        let mut text = || std::str::from_utf8(fields.next()?).ok();
        let (aggregate_type, aggregate_id) = (text()?, text()?);
        let sequence = int(fields.next()?)?;
        let mut text = || std::str::from_utf8(fields.next()?).ok();
        Some(Self {
            position,
            aggregate_type,
            aggregate_id,
            sequence,
            event_type: text()?,
            event_version: text()?,
            payload: text()?,
            metadata: text()?,
            recorded_at: time(int(fields.next()?)?)?,
        })
    }
}
