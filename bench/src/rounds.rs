//! Rounds that alternate, and their medians.

use std::time::Duration;

/// Result of one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// How much per second.
    pub(crate) rate: f64,
    pub(crate) latency: Option<Latency>,
    /// Answers of 409 per second, where they are to be expected.
    pub(crate) conflicts: f64,
}

/// How long one request took, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

impl Sample {
    /// A round that did `count` things in `took`.
    pub(crate) fn new(count: u64, took: Duration, latency: Option<Latency>) -> Self {
        Self { rate: count as f64 / took.as_secs_f64(), latency, conflicts: 0.0 }
    }
}

impl Latency {
    /// Of single measurements, in any order; none of none.
    pub(crate) fn of(mut took: Vec<Duration>) -> Option<Self> {
        took.sort_unstable();
        let at = |share: f64| {
            let index = (took.len() as f64 * share) as usize;
            took.get(index.min(took.len().checked_sub(1)?)).map(|d| d.as_secs_f64() * 1e3)
        };
        Some(Self { p50_ms: at(0.50)?, p99_ms: at(0.99)? })
    }
}

/// The samples of both sides.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    pub(crate) ours: Vec<Sample>,
    pub(crate) baseline: Vec<Sample>,
}

/// Runs ours and the baseline by turns, so that whatever drifts on the machine meets both alike.
pub(crate) async fn alternate(
    rounds: u32,
    mut ours: impl AsyncFnMut() -> anyhow::Result<Sample>,
    mut baseline: impl AsyncFnMut() -> anyhow::Result<Sample>,
) -> anyhow::Result<Samples> {
    let mut samples = Samples::default();
    for _ in 0..rounds {
        samples.ours.push(ours().await?);
        samples.baseline.push(baseline().await?);
    }
    Ok(samples)
}

/// Runs ours alone, where nothing is there to compare it with.
pub(crate) async fn repeat(
    rounds: u32,
    mut ours: impl AsyncFnMut() -> anyhow::Result<Sample>,
) -> anyhow::Result<Samples> {
    let mut samples = Samples::default();
    for _ in 0..rounds {
        samples.ours.push(ours().await?);
    }
    Ok(samples)
}

/// The middle value, or the mean of the two in the middle; none of none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn percentiles_are_of_what_was_measured() {
        assert!(Latency::of(Vec::new()).is_none());
        let latency = Latency::of((1..=100).rev().map(Duration::from_millis).collect()).unwrap();
        assert_eq!((latency.p50_ms, latency.p99_ms), (51.0, 100.0));
    }
}
