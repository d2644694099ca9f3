//! How tests wait: for a condition, never for a fixed time, and as long as a busy machine may need.

use std::fmt::{Debug, Display};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Longest wait for what must happen sooner or later, far longer than any of it takes: a test fails because
/// something does not happen, not because the machine is busy.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(10);

/// Asks until `check` holds, and returns the answer that it holds for. Panics when [`PATIENCE`] is over, and
/// says what was awaited and what was seen last.
pub async fn eventually<T: Debug>(
    what: impl Display,
    ask: impl AsyncFnMut() -> T,
    check: impl Fn(&T) -> bool,
) -> T {
    eventually_within(PATIENCE, what, ask, check).await
}

/// The same for what takes longer by design.
pub(crate) async fn eventually_within<T: Debug>(
    patience: Duration,
    what: impl Display,
    mut ask: impl AsyncFnMut() -> T,
    check: impl Fn(&T) -> bool,
) -> T {
    let deadline = Instant::now() + patience;
    let mut last = None;
    while Instant::now() < deadline {
        // A question that is never answered must not hold the test up for ever.
        let Ok(seen) = timeout_at(deadline, ask()).await else { break };
        if check(&seen) {
            return seen;
        }
        last = Some(seen);
        sleep(PAUSE).await;
    }
    match last {
        Some(last) => panic!("{what}: not within {patience:?}; last seen: {last:?}"),
        None => panic!("{what}: no answer within {patience:?}"),
    }
}

/// The output of `future`. Panics when [`PATIENCE`] is over, and says what was awaited.
pub async fn completes<F: Future>(what: impl Display, future: F) -> F::Output {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}
