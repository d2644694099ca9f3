//! One reader of the ledger for all projectors of a process.

use std::collections::VecDeque;
use std::sync::Arc;

use event_store::{EventReader, ReadError, RecordedEvent};
use sqlx::PgPool;
use tokio::sync::Mutex;

/// Number of latest events that are kept for projectors that come a little later.
const KEPT: usize = 10_000;

/// The ledger as projectors read it. Those that keep up with its end share what was read and
/// decoded once; one that is behind reads for itself until it has caught up.
#[derive(Clone)]
pub(crate) struct Feed {
    pool: PgPool,
    reader: EventReader,
    /// The latest events, without a hole.
    latest: Arc<Mutex<VecDeque<Arc<RecordedEvent>>>>,
}

impl Feed {
    pub(crate) fn new(pool: PgPool, reader: EventReader) -> Self {
        Self { pool, reader, latest: Arc::default() }
    }

    /// At most `limit` events that follow `position`, in order.
    ///
    /// # Errors
    /// As [`EventReader::read_after`].
    pub(crate) async fn read_after(
        &self,
        position: i64,
        limit: i64,
    ) -> Result<Vec<Arc<RecordedEvent>>, ReadError> {
        // Held while reading, so that projectors that come to the end together read once.
        let mut latest = self.latest.lock().await;
        let ends = latest.front().zip(latest.back()).map(|(first, last)| (first.position, last.position));
        match ends {
            Some((first, last)) if first - 1 <= position && position < last => {
                let skipped = usize::try_from(position + 1 - first).unwrap_or_default();
                let limit = usize::try_from(limit).unwrap_or_default();
                return Ok(latest.iter().skip(skipped).take(limit).cloned().collect());
            }
            Some((_, last)) if last == position => {}
            // Behind what is kept, or ahead of it: others need not wait.
            Some(_) => {
                drop(latest);
                let events = self.reader.read_after(&self.pool, position, limit).await?;
                return Ok(events.into_iter().map(Arc::new).collect());
            }
            None => {}
        }
        let events: Vec<_> =
            self.reader.read_after(&self.pool, position, limit).await?.into_iter().map(Arc::new).collect();
        latest.extend(events.iter().cloned());
        let surplus = latest.len().saturating_sub(KEPT);
        latest.drain(..surplus);
        Ok(events)
    }
}
