//! Many callers, one write: whatever waits while one batch is written goes into the next.

use std::future::Future;
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};

/// Writes batches for a [`GroupCommit`].
pub trait BatchWriter: Send + 'static {
    /// One caller's item.
    type Item: Send + 'static;
    /// The result for one caller.
    type Outcome: Send + 'static;

    /// Writes `batch` and says what became of each item, in the same order.
    fn write(&mut self, batch: &[Self::Item]) -> impl Future<Output = Vec<Self::Outcome>>;
}

/// A bounded queue in front of one [`BatchWriter`], which has a thread of its own: among the tasks that
/// serve requests, the database's answer would wait behind whatever they have to do, and the database
/// for the next batch.
///
/// No timer is involved: while a batch is in flight the next one gathers by itself. A caller that
/// stops waiting changes nothing about what is written. The thread ends, after writing what is
/// still queued, when every clone is dropped.
pub struct GroupCommit<W: BatchWriter> {
    queue: mpsc::Sender<Waiting<W>>,
}

/// An item, and who waits for what becomes of it.
type Waiting<W> = (<W as BatchWriter>::Item, oneshot::Sender<Written<W>>);

/// Outcome of an item. The item comes back with it, because memory is given back faster by the thread that
/// took it, and the writer's next batch does not wait for that.
type Written<W> = (<W as BatchWriter>::Outcome, <W as BatchWriter>::Item);

impl<W: BatchWriter> Clone for GroupCommit<W> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

/// Why nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// As many items wait as may.
    #[error("too much is waiting to be written")]
    Full,
    /// The writer has stopped.
    #[error("the writer has stopped")]
    Stopped,
}

impl<W: BatchWriter> GroupCommit<W> {
    /// Starts the writer's thread. At most `max_waiting` items wait, at most `max_batch` are written
    /// at once. Where the system refuses the thread, the log says so and every item is refused.
    pub fn start(writer: W, max_waiting: usize, max_batch: usize) -> Self {
        let (queue, waiting) = mpsc::channel(max_waiting);
        let write = move || match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(write_all(writer, waiting, max_batch)),
            Err(error) => tracing::error!(%error, "nothing can be written"),
        };
        if let Err(error) = thread::Builder::new().name("group-commit".to_owned()).spawn(write) {
            tracing::error!(%error, "nothing can be written");
        }
        Self { queue }
    }

    /// Hands in `item` and waits until its batch is written.
    ///
    /// # Errors
    /// [`QueueError::Full`] at once when the queue is at its limit: nothing was taken.
    pub async fn submit(&self, item: W::Item) -> Result<W::Outcome, QueueError> {
        let (caller, outcome) = oneshot::channel();
        self.queue.try_send((item, caller)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => QueueError::Full,
            mpsc::error::TrySendError::Closed(_) => QueueError::Stopped,
        })?;
        outcome.await.map(|(outcome, _item)| outcome).map_err(|_| QueueError::Stopped)
    }
}

async fn write_all<W: BatchWriter>(mut writer: W, mut waiting: mpsc::Receiver<Waiting<W>>, max_batch: usize) {
    let mut taken = Vec::with_capacity(max_batch);
    while waiting.recv_many(&mut taken, max_batch).await > 0 {
        let (items, callers): (Vec<_>, Vec<_>) = taken.drain(..).unzip();
        let outcomes = writer.write(&items).await;
        debug_assert_eq!(outcomes.len(), callers.len());
        for (caller, written) in callers.into_iter().zip(outcomes.into_iter().zip(items)) {
            // A caller that has gone away no longer wants to know.
            let _ = caller.send(written);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tokio::sync::Semaphore;

    /// Doubles its items once a permit allows it, and remembers the sizes of its batches.
    struct Doubler {
        entered: Arc<Semaphore>,
        permits: Arc<Semaphore>,
        batches: Arc<Mutex<Vec<usize>>>,
    }

    impl BatchWriter for Doubler {
        type Item = u32;
        type Outcome = u32;

        async fn write(&mut self, batch: &[u32]) -> Vec<u32> {
            self.entered.add_permits(1);
            self.permits.acquire().await.unwrap().forget();
            self.batches.lock().unwrap().push(batch.len());
            batch.iter().map(|n| n * 2).collect()
        }
    }

    #[tokio::test]
    async fn what_waits_goes_together_up_to_the_limits() {
        let (entered, permits) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let batches = Arc::new(Mutex::new(Vec::new()));
        let doubler =
            Doubler { entered: entered.clone(), permits: permits.clone(), batches: batches.clone() };
        let commit = GroupCommit::start(doubler, 5, 4);
        let submit = |n: u32| {
            let commit = commit.clone();
            tokio::spawn(async move { commit.submit(n).await })
        };

        let first = submit(1);
        entered.acquire().await.unwrap().forget(); // the first is taken, and waits for its permit
        let rest: Vec<_> = (2..=6).map(submit).collect();
        tokio::task::yield_now().await;
        assert_eq!(commit.submit(7).await, Err(QueueError::Full));

        permits.add_permits(3);
        assert_eq!(first.await.unwrap(), Ok(2));
        for (n, task) in (2..=6).zip(rest) {
            assert_eq!(task.await.unwrap(), Ok(n * 2));
        }
        assert_eq!(*batches.lock().unwrap(), [1, 4, 1]);
    }
}
