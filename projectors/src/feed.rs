//! One reader of the ledger for all projectors of a process.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use event_store::{EventReader, ReadError, RecordedEvent};
use sqlx::PgPool;
use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, timeout_at};

/// Number of latest events that are kept for projectors that come a little later.
const KEPT: usize = 10_000;
/// Longest a projector that is ahead waits for others to take what would be dropped. One that is stuck holds
/// up the others once: then it is behind what is kept, and nobody waits for it.
const PATIENCE: Duration = Duration::from_millis(250);

/// The ledger as projectors read it. What was read and decoded once is shared by all that come along
/// together, also while they catch up; one that is behind what is kept reads for itself.
#[derive(Clone)]
pub(crate) struct Feed {
    pool: PgPool,
    reader: EventReader,
    window: Arc<Mutex<Window<Arc<RecordedEvent>>>>,
    /// A projector came for more.
    moved: Arc<Notify>,
}

impl Feed {
    pub(crate) fn new(pool: PgPool, reader: EventReader) -> Self {
        Self { pool, reader, window: Arc::new(Mutex::new(Window::new(KEPT))), moved: Arc::default() }
    }

    /// At most `limit` events that follow `position`, in order, for the projector of this name.
    ///
    /// # Errors
    /// As [`EventReader::read_after`].
    pub(crate) async fn read_after(
        &self,
        projector: &'static str,
        position: i64,
        limit: i64,
    ) -> Result<Vec<Arc<RecordedEvent>>, ReadError> {
        let count = usize::try_from(limit).unwrap_or_default();
        let deadline = Instant::now() + PATIENCE;
        let mut waited = false;
        loop {
            // Held while reading, so that projectors that come to the end together read once.
            let mut window = self.window.lock().await;
            window.readers.insert(projector, position);
            self.moved.notify_waiters();
            match window.place_of(position) {
                Place::Within(missing) => {
                    return Ok(window.latest(missing).take(count).cloned().collect());
                }
                // Others need not wait for this read.
                Place::Elsewhere => {
                    drop(window);
                    let events = self.reader.read_after(&self.pool, position, limit).await?;
                    return Ok(events.into_iter().map(Arc::new).collect());
                }
                Place::End if waited || !window.leaves_behind(projector, count) => {
                    let events = self.reader.read_after(&self.pool, position, limit).await?;
                    let events: Vec<_> = events.into_iter().map(Arc::new).collect();
                    window.extend(position, &events);
                    return Ok(events);
                }
                Place::End => {
                    let moved = self.moved.notified();
                    drop(window);
                    waited = timeout_at(deadline, moved).await.is_err();
                }
            }
        }
    }

    /// The projector reads no more for now, so nobody waits for it.
    pub(crate) async fn leave(&self, projector: &'static str) {
        self.window.lock().await.readers.remove(projector);
        self.moved.notify_waiters();
    }
}

/// The latest events, without a hole, and who reads them.
struct Window<E> {
    kept: usize,
    events: VecDeque<E>,
    /// The position of the last of them; what they follow, if there are none.
    last: Option<i64>,
    /// The position after which each projector read last.
    readers: HashMap<&'static str, i64>,
}

/// A position, as seen from the window.
enum Place {
    /// Before the end: how many events follow.
    Within(usize),
    /// At the end: what follows has to be read, for all.
    End,
    /// Behind what is kept, or ahead of it.
    Elsewhere,
}

impl<E: Clone> Window<E> {
    fn new(kept: usize) -> Self {
        Self { kept, events: VecDeque::new(), last: None, readers: HashMap::new() }
    }

    fn place_of(&self, position: i64) -> Place {
        let Some(last) = self.last else { return Place::End };
        match last.checked_sub(position).map(usize::try_from) {
            Some(Ok(0)) => Place::End,
            Some(Ok(missing)) if missing <= self.events.len() => Place::Within(missing),
            _ => Place::Elsewhere,
        }
    }

    fn latest(&self, count: usize) -> impl Iterator<Item = &E> {
        self.events.iter().skip(self.events.len().saturating_sub(count))
    }

    /// Whether `count` more events would drop some that another projector has not read.
    fn leaves_behind(&self, projector: &'static str, count: usize) -> bool {
        let rest = self.kept.saturating_sub(count);
        let mut others = self.readers.iter().filter(|(name, _)| **name != projector);
        others.any(|(_, position)| match self.place_of(*position) {
            Place::Within(missing) => missing > rest,
            Place::End | Place::Elsewhere => false,
        })
    }

    /// Takes in the events that follow `position`, which is at the end.
    fn extend(&mut self, position: i64, events: &[E]) {
        self.events.extend(events.iter().cloned());
        self.events.drain(..self.events.len().saturating_sub(self.kept));
        self.last = i64::try_from(events.len()).ok().map(|count| position + count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(window: &Window<i64>, position: i64) -> Option<Vec<i64>> {
        match window.place_of(position) {
            Place::Within(missing) => Some(window.latest(missing).copied().collect()),
            Place::End | Place::Elsewhere => None,
        }
    }

    /// Events 3 to 8 of eight, of which six are kept.
    fn window() -> Window<i64> {
        let mut window = Window::new(6);
        assert!(matches!(window.place_of(7), Place::End), "the first reader begins it");
        window.extend(0, &[1, 2, 3, 4]);
        window.extend(4, &[5, 6, 7, 8]);
        window
    }

    #[test]
    fn what_is_kept_is_given_and_what_is_not_is_read() {
        let window = window();
        assert_eq!(within(&window, 2), Some(vec![3, 4, 5, 6, 7, 8]));
        assert_eq!(within(&window, 7), Some(vec![8]));
        assert!(matches!(window.place_of(8), Place::End));
        for elsewhere in [i64::MIN, 0, 1, 9, i64::MAX] {
            assert!(matches!(window.place_of(elsewhere), Place::Elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn reading_on_leaves_those_behind_who_have_not_read_what_is_dropped() {
        let mut window = window();
        window.readers.insert("first", 8);
        assert!(!window.leaves_behind("first", 6), "nobody else reads");
        window.readers.insert("second", 5);
        assert!(!window.leaves_behind("first", 3), "6, 7 and 8 stay");
        assert!(window.leaves_behind("first", 4), "6 would be dropped");
        assert!(!window.leaves_behind("second", 6), "nobody waits for itself");
        window.readers.insert("second", 1);
        assert!(!window.leaves_behind("first", 6), "it was left behind before");
    }
}
