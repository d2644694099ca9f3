//! The figures, as a table and as JSON.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use crate::rounds::{Sample, Samples, median};

/// The figures of one scenario. All are medians over the rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) ours: f64,
    pub(crate) baseline: Option<f64>,
    /// Ours divided by the baseline.
    pub(crate) ratio: Option<f64>,
    pub(crate) unit: &'static str,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) baseline_p50_ms: Option<f64>,
    pub(crate) baseline_p99_ms: Option<f64>,
    /// The most resident memory that our service had at any time.
    pub(crate) rss_peak_mb: Option<f64>,
    /// Answers of 409 per second, where the scenario provokes them.
    pub(crate) conflicts_per_s: Option<f64>,
    pub(crate) baseline_conflicts_per_s: Option<f64>,
    /// The two figures that are compared.
    pub(crate) note: String,
    /// The single rounds.
    pub(crate) ours_rounds: Vec<f64>,
    pub(crate) baseline_rounds: Vec<f64>,
}

impl Entry {
    /// The figures of `samples`.
    pub(crate) fn new(
        name: impl ToString,
        unit: &'static str,
        samples: &Samples,
        note: impl Into<String>,
    ) -> anyhow::Result<Self> {
        let (ours, baseline) = (&samples.ours, &samples.baseline);
        let value = rate(ours).context("no round was run")?;
        Ok(Self {
            name: name.to_string(),
            ours: value,
            baseline: rate(baseline),
            ratio: rate(baseline).map(|baseline| value / baseline),
            unit,
            p50_ms: latency(ours, |sample| sample.latency.map(|l| l.p50_ms)),
            p99_ms: latency(ours, |sample| sample.latency.map(|l| l.p99_ms)),
            baseline_p50_ms: latency(baseline, |sample| sample.latency.map(|l| l.p50_ms)),
            baseline_p99_ms: latency(baseline, |sample| sample.latency.map(|l| l.p99_ms)),
            rss_peak_mb: None,
            conflicts_per_s: None,
            baseline_conflicts_per_s: None,
            note: note.into(),
            ours_rounds: ours.iter().map(|sample| sample.rate).collect(),
            baseline_rounds: baseline.iter().map(|sample| sample.rate).collect(),
        })
    }

    /// Adds our service's memory.
    pub(crate) fn with_rss(mut self, megabytes: f64) -> Self {
        self.rss_peak_mb = Some(megabytes);
        self
    }

    /// Adds the answers of 409.
    pub(crate) fn with_conflicts(mut self, samples: &Samples) -> Self {
        self.conflicts_per_s = median(samples.ours.iter().map(|sample| sample.conflicts));
        self.baseline_conflicts_per_s = median(samples.baseline.iter().map(|sample| sample.conflicts));
        self
    }
}

fn rate(samples: &[Sample]) -> Option<f64> {
    median(samples.iter().map(|sample| sample.rate))
}

fn latency(samples: &[Sample], of: fn(&Sample) -> Option<f64>) -> Option<f64> {
    median(samples.iter().filter_map(of))
}

/// All entries so far; the file always holds those that are done.
pub(crate) struct Report {
    entries: Vec<Entry>,
    path: PathBuf,
}

impl Report {
    /// An empty report that is kept in the file `path`.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { entries: Vec::new(), path }
    }

    /// Adds an entry and writes the file anew.
    pub(crate) fn add(&mut self, entry: Entry) -> anyhow::Result<()> {
        eprintln!("{}", Row(&entry));
        self.entries.push(entry);
        write_json(&self.path, &self.entries)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<17} {:>11} {:>11} {:>7}  {:<12} {:>8} {:>8} {:>9} {:>9} {:>7}",
            "scenario",
            "ours",
            "baseline",
            "ratio",
            "unit",
            "p50 ms",
            "p99 ms",
            "base p50",
            "base p99",
            "rss MB"
        )?;
        for entry in &self.entries {
            writeln!(f, "{}", Row(entry))?;
        }
        for entry in &self.entries {
            write!(f, "\n{}: {}", entry.name, entry.note)?;
        }
        writeln!(f)
    }
}

/// One line of the table.
struct Row<'a>(&'a Entry);

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = self.0;
        write!(
            f,
            "{:<17} {:>11.0} {:>11} {:>7}  {:<12} {:>8} {:>8} {:>9} {:>9} {:>7}",
            entry.name,
            entry.ours,
            cell(entry.baseline, 0),
            cell(entry.ratio, 2),
            entry.unit,
            cell(entry.p50_ms, 2),
            cell(entry.p99_ms, 2),
            cell(entry.baseline_p50_ms, 2),
            cell(entry.baseline_p99_ms, 2),
            cell(entry.rss_peak_mb, 0),
        )?;
        match (entry.conflicts_per_s, entry.baseline_conflicts_per_s) {
            (Some(ours), baseline) => {
                write!(f, "  409/s: {ours:.0}, baseline {}", cell(baseline, 0))
            }
            (None, _) => Ok(()),
        }
    }
}

fn cell(value: Option<f64>, decimals: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.decimals$}"))
}

/// Writes `value` into the file `path`.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let mut json = serde_json::to_string_pretty(value)?;
    json.push('\n');
    fs::write(path, json).with_context(|| format!("{} cannot be written", path.display()))
}
