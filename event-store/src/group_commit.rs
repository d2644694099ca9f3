//! Many callers, one write: whatever waits while one batch is written goes into the next.

use std::future::Future;

use tokio::sync::{mpsc, oneshot};

/// Writes batches for a [`GroupCommit`].
pub trait BatchWriter: Send + 'static {
    /// What one caller hands in.
    type Item: Send + 'static;
    /// What one caller gets back.
    type Outcome: Send + 'static;

    /// Writes `batch` and says what became of each item, in the same order.
    fn write(&mut self, batch: Vec<Self::Item>) -> impl Future<Output = Vec<Self::Outcome>> + Send;
}

/// A bounded queue in front of one [`BatchWriter`] task.
///
/// No timer is involved: while a batch is in flight the next one gathers by itself. A caller that
/// stops waiting changes nothing about what is written. The task ends, after writing what is
/// still queued, when every clone is dropped.
pub struct GroupCommit<W: BatchWriter> {
    queue: mpsc::Sender<(W::Item, oneshot::Sender<W::Outcome>)>,
}

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
    /// Starts the writer's task. At most `max_waiting` items wait, at most `max_batch` are written
    /// at once.
    pub fn start(mut writer: W, max_waiting: usize, max_batch: usize) -> Self {
        let (queue, mut waiting) = mpsc::channel::<(W::Item, oneshot::Sender<W::Outcome>)>(max_waiting);
        tokio::spawn(async move {
            let mut taken = Vec::with_capacity(max_batch);
            while waiting.recv_many(&mut taken, max_batch).await > 0 {
                let (items, callers): (Vec<_>, Vec<_>) = taken.drain(..).unzip();
                let outcomes = writer.write(items).await;
                debug_assert_eq!(outcomes.len(), callers.len());
                for (caller, outcome) in callers.into_iter().zip(outcomes) {
                    // A caller that has gone away no longer wants to know.
                    let _ = caller.send(outcome);
                }
            }
        });
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
        outcome.await.map_err(|_| QueueError::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tokio::sync::Semaphore;

    /// Doubles its items once a permit allows it, and remembers the sizes of its batches.
    struct Doubler {
        permits: Arc<Semaphore>,
        batches: Arc<Mutex<Vec<usize>>>,
    }

    impl BatchWriter for Doubler {
        type Item = u32;
        type Outcome = u32;

        async fn write(&mut self, batch: Vec<u32>) -> Vec<u32> {
            self.permits.acquire().await.unwrap().forget();
            self.batches.lock().unwrap().push(batch.len());
            batch.into_iter().map(|n| n * 2).collect()
        }
    }

    #[tokio::test]
    async fn what_waits_goes_together_up_to_the_limits() {
        let permits = Arc::new(Semaphore::new(0));
        let batches = Arc::new(Mutex::new(Vec::new()));
        let commit = GroupCommit::start(Doubler { permits: permits.clone(), batches: batches.clone() }, 5, 4);
        let submit = |n: u32| {
            let commit = commit.clone();
            tokio::spawn(async move { commit.submit(n).await })
        };

        let first = submit(1);
        tokio::task::yield_now().await; // the first is taken, and waits for its permit
        tokio::task::yield_now().await;
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
