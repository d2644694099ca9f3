//! A circuit breaker: calls that keep failing are not made for a while.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Calls go through; counts consecutive failures.
    Closed { failures: u32 },
    /// No call goes through until then.
    Open { until: Instant },
    /// One call is trying; all others are refused until it ends.
    HalfOpen,
}

/// Opens after consecutive failures. After a pause it lets one call through, which closes it
/// again, or opens it for another pause.
pub struct Breaker {
    name: &'static str,
    failures_to_open: u32,
    pause: Duration,
    state: Mutex<State>,
}

/// The error of a call while the breaker is open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerOpen;

impl Breaker {
    /// A closed breaker that opens for `pause` after `failures_to_open` consecutive failures. Its state is
    /// the gauge `circuit_breaker_state{name}`: 0 closed, 1 trying, 2 open.
    pub fn new(name: &'static str, failures_to_open: u32, pause: Duration) -> Self {
        let breaker =
            Self { name, failures_to_open, pause, state: Mutex::new(State::Closed { failures: 0 }) };
        breaker.show(State::Closed { failures: 0 });
        breaker
    }

    /// A permit to make one call.
    ///
    /// # Errors
    /// [`BreakerOpen`] while no call may be made.
    pub fn enter(&self) -> Result<Permit<'_>, BreakerOpen> {
        let mut state = self.lock();
        let tries = match *state {
            State::Closed { .. } => false,
            State::Open { until } if until <= Instant::now() => true,
            State::Open { .. } | State::HalfOpen => return Err(BreakerOpen),
        };
        if tries {
            self.change(&mut state, State::HalfOpen);
        }
        Ok(Permit { breaker: self, tries, is_over: false })
    }

    fn succeeded(&self) {
        self.change(&mut self.lock(), State::Closed { failures: 0 });
    }

    fn failed(&self) {
        let mut state = self.lock();
        let failures = match *state {
            State::Closed { failures } => failures.saturating_add(1),
            State::HalfOpen => self.failures_to_open,
            // A call that began before it opened.
            State::Open { .. } => return,
        };
        let next = if failures >= self.failures_to_open {
            State::Open { until: Instant::now() + self.pause }
        } else {
            State::Closed { failures }
        };
        self.change(&mut state, next);
    }

    /// The one that tried left without a verdict; whoever comes next may try.
    fn abandoned(&self) {
        self.change(&mut self.lock(), State::Open { until: Instant::now() });
    }

    fn change(&self, state: &mut State, next: State) {
        *state = next;
        self.show(next);
    }

    fn show(&self, state: State) {
        let shown = match state {
            State::Closed { .. } => 0.0,
            State::HalfOpen => 1.0,
            State::Open { .. } => 2.0,
        };
        metrics::gauge!("circuit_breaker_state", "name" => self.name).set(shown);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A permit to make one call. A call that is dropped, because its caller went away, gives no verdict.
pub struct Permit<'a> {
    breaker: &'a Breaker,
    tries: bool,
    is_over: bool,
}

impl Permit<'_> {
    /// The call was answered.
    pub fn succeeded(mut self) {
        self.is_over = true;
        self.breaker.succeeded();
    }

    /// The call failed.
    pub fn failed(mut self) {
        self.is_over = true;
        self.breaker.failed();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.tries && !self.is_over {
            self.breaker.abandoned();
        }
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);

    fn breaker() -> Breaker {
        Breaker::new("test", 3, PAUSE)
    }

    fn fail(breaker: &Breaker) {
        breaker.enter().ok().unwrap().failed();
    }

    fn is_open(breaker: &Breaker) -> bool {
        breaker.enter().is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn opens_after_failures_in_a_row_only() {
        let breaker = breaker();
        fail(&breaker);
        fail(&breaker);
        breaker.enter().ok().unwrap().succeeded();
        fail(&breaker);
        fail(&breaker);
        assert!(!is_open(&breaker));
        fail(&breaker);
        assert!(is_open(&breaker));
    }

    #[tokio::test(start_paused = true)]
    async fn lets_one_through_after_the_pause() {
        let breaker = breaker();
        (0..3).for_each(|_| fail(&breaker));
        tokio::time::advance(PAUSE - Duration::from_millis(1)).await;
        assert!(is_open(&breaker));
        tokio::time::advance(Duration::from_millis(1)).await;
        let trying = breaker.enter().ok().unwrap();
        assert!(is_open(&breaker), "only one may try");
        trying.failed();
        assert!(is_open(&breaker));
        tokio::time::advance(PAUSE).await;
        breaker.enter().ok().unwrap().succeeded();
        fail(&breaker);
        assert!(!is_open(&breaker), "closed again, and counting from nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_leaves_without_a_verdict_does_not_keep_it_open() {
        let breaker = breaker();
        (0..3).for_each(|_| fail(&breaker));
        tokio::time::advance(PAUSE).await;
        drop(breaker.enter().ok().unwrap());
        breaker.enter().ok().unwrap().succeeded();
        assert!(!is_open(&breaker));
    }

    #[test]
    fn every_state_is_a_metric() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = recorder.handle();
        let shows = |value: u8| {
            let shown = metrics.render();
            assert!(
                shown.contains(&format!("circuit_breaker_state{{name=\"stripe\"}} {value}\n")),
                "{shown}"
            );
        };
        metrics::with_local_recorder(&recorder, || {
            let breaker = Breaker::new("stripe", 2, Duration::ZERO);
            shows(0);
            fail(&breaker);
            shows(0);
            fail(&breaker);
            shows(2);
            let trying = breaker.enter().ok().unwrap();
            shows(1);
            trying.failed();
            shows(2);
            breaker.enter().ok().unwrap().succeeded();
            shows(0);
        });
    }
}
