//! Read your own writes: waiting until the read tables have caught up with a position.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use read_model::{Projection, load_positions};
use serde::Deserialize;
use service::{Problem, ProblemKind, Shutdown};
use sqlx::PgPool;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};
use tokio::time::timeout;
use utoipa::IntoParams;

/// Longest a caller may wait.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(5);
/// Callers waiting at once; more are answered 503.
const MAX_WAITING: usize = 512;
/// Pause between two reads of the checkpoints, which serve everybody who waits.
const LOOK: Duration = Duration::from_millis(10);

/// The position that the answer must include.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct MinPosition {
    /// Wait until everything up to this position of the ledger is in the answer: the `position` that
    /// a write answered with. After five seconds the answer is 503 `behind`.
    #[param(minimum = 0)]
    pub(crate) min_position: Option<i64>,
}

type Positions = BTreeMap<Projection, i64>;

/// The projections' positions, and the callers who wait for them.
pub(crate) struct Progress {
    positions: watch::Sender<Positions>,
    wanted: Notify,
    places: Semaphore,
}

/// A caller who waits, until it is dropped.
pub(crate) struct Waiter<'a> {
    positions: watch::Receiver<Positions>,
    _place: SemaphorePermit<'a>,
}

impl Progress {
    pub(crate) fn start(pool: PgPool, shutdown: Shutdown) -> Arc<Self> {
        let progress = Arc::new(Self {
            positions: watch::Sender::new(Positions::new()),
            wanted: Notify::new(),
            places: Semaphore::new(MAX_WAITING),
        });
        let look = progress.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = look.run(pool) => {}
                () = shutdown.cancelled() => {}
            }
        });
        progress
    }

    async fn run(&self, pool: PgPool) {
        loop {
            while self.positions.receiver_count() == 0 {
                self.wanted.notified().await;
            }
            match load_positions(&pool).await {
                Ok(positions) => {
                    self.positions.send_replace(positions);
                }
                Err(error) => tracing::warn!(%error, "the checkpoints cannot be read"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Registers a caller who waits.
    ///
    /// # Errors
    /// [`ProblemKind::Overloaded`] when too many wait already.
    pub(crate) fn wait(&self) -> Result<Waiter<'_>, Problem> {
        let place = self.places.try_acquire().map_err(|_| {
            Problem::new(ProblemKind::Overloaded, "too many callers wait for a position; try again shortly")
        })?;
        let positions = self.positions.subscribe();
        self.wanted.notify_one();
        Ok(Waiter { positions, _place: place })
    }

    /// Waits until a projection has reached a position, if one is asked for.
    ///
    /// # Errors
    /// [`ProblemKind::Behind`] when it does not reach it in time.
    pub(crate) async fn reach(&self, projection: Projection, wanted: MinPosition) -> Result<(), Problem> {
        let Some(position) = wanted.min_position else { return Ok(()) };
        let mut waiting = self.wait()?;
        timeout(MAX_WAIT, waiting.reached(projection, position)).await.map_err(|_| behind(position))
    }
}

impl Waiter<'_> {
    /// Returns when a projection has reached a position.
    pub(crate) async fn reached(&mut self, projection: Projection, position: i64) {
        let far_enough =
            |positions: &Positions| positions.get(&projection).is_some_and(|reached| *reached >= position);
        if self.positions.wait_for(far_enough).await.is_err() {
            // Nobody looks any more, so nothing is reached any more.
            std::future::pending::<()>().await;
        }
    }
}

/// The problem of a caller whose wait timed out.
pub(crate) fn behind(position: i64) -> Problem {
    let detail = format!("what is shown here has not come to position {position} yet; try again shortly");
    Problem::new(ProblemKind::Behind, detail)
}
