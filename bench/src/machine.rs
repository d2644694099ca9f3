//! On what the figures were taken.

use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use crate::stage::Stage;

/// The machine, and what ran on it.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    memory_mb: u64,
    kernel: String,
    /// The kind of file system that the databases were on.
    filesystem: Option<String>,
    /// How long a flush of 8 kB to that file system takes: no commit can be faster.
    flush_p50_ms: f64,
    postgres: String,
    fsync: String,
    synchronous_commit: String,
    commit: Option<String>,
    /// Whether files differed from that commit.
    dirty: Option<bool>,
    command_line: String,
    date: String,
}

/// Looks at the machine, and flushes a small file some times.
pub(crate) async fn describe(stage: &Stage) -> anyhow::Result<Machine> {
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or("unknown".to_owned());
    let memory_kb = field("/proc/meminfo", "MemTotal");
    let memory_kb = memory_kb.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    Ok(Machine {
        cpu,
        cores: std::thread::available_parallelism().context("how many cores are there")?.get(),
        memory_mb: memory_kb.unwrap_or(0) / 1024,
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        filesystem: filesystem(stage),
        flush_p50_ms: flush_p50(stage)?.as_secs_f64() * 1e3,
        postgres: stage.setting("server_version").await?,
        fsync: stage.setting("fsync").await?,
        synchronous_commit: stage.setting("synchronous_commit").await?,
        commit: output("git", &["rev-parse", "HEAD"]),
        dirty: output("git", &["status", "--porcelain"]).map(|changes| !changes.is_empty()),
        command_line: std::env::args().collect::<Vec<_>>().join(" "),
        date: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
    })
}

/// The value of the first line `NAME : VALUE` of a file in /proc.
pub(crate) fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

fn filesystem(stage: &Stage) -> Option<String> {
    output("stat", &["--file-system", "--format=%T", stage.folder().to_str()?])
}

/// The median of some flushes of one block that is appended to a file.
fn flush_p50(stage: &Stage) -> anyhow::Result<Duration> {
    const FLUSHES: usize = 101;
    let path = stage.file("flush");
    let flush = || {
        let mut file = File::create(&path)?;
        let mut took = Vec::with_capacity(FLUSHES);
        for _ in 0..FLUSHES {
            let started = Instant::now();
            file.write_all(&[7; 8192])?;
            file.sync_data()?;
            took.push(started.elapsed());
        }
        took.sort_unstable();
        std::io::Result::Ok(took[FLUSHES / 2])
    };
    flush().context("a flush cannot be measured")
}

/// Output of a program, if it is installed and succeeds.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, {} cores, {} MB, Linux {}", self.cpu, self.cores, self.memory_mb, self.kernel)?;
        writeln!(
            f,
            "Postgres {} on {}, a flush takes {:.2} ms",
            self.postgres,
            self.filesystem.as_deref().unwrap_or("an unknown file system"),
            self.flush_p50_ms
        )?;
        writeln!(f, "fsync {}, synchronous_commit {}", self.fsync, self.synchronous_commit)?;
        let dirty = if self.dirty == Some(true) { " and changes" } else { "" };
        writeln!(f, "commit {}{dirty}", self.commit.as_deref().unwrap_or("unknown"))
    }
}
