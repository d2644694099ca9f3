//! The programs as a user starts them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use service::ServicesFile;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

use crate::client::Client;
use crate::credentials::{ADMIN_TOKEN, SANDBOX_API_KEY, WEBHOOK_SECRET};
use crate::ports::free_address;
use crate::servers::{build_dir, fresh_database, redis_url};
use crate::{completes, eventually};

static BUILT: OnceCell<()> = OnceCell::const_new();

/// The path of one of our programs, built if it is not there or older than its sources.
pub async fn program(name: &str) -> PathBuf {
    BUILT
        .get_or_init(|| async {
            let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
            let status = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
                // `--test it` asks for the features of the tests, with which all is compiled already.
                .args(["build", "--quiet", "--bins", "--test", "it", "--profile", profile])
                .args(["-p", "careforall", "-p", "replay-tool", "-p", "careforall-tests"])
                .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
                .status()
                .await
                .unwrap();
            assert!(status.success(), "the programs cannot be built");
        })
        .await;
    build_dir().join(name)
}

/// Runs `replay`: its exit code, and what it said.
pub async fn replay(arguments: &[&str]) -> (Option<i32>, String) {
    replay_by("replay", arguments).await
}

/// Runs a program that is used as `replay` is.
pub async fn replay_by(name: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(program(name).await)
        .args(arguments)
        .env_remove("DATABASE_URL")
        .env_remove("REDIS_URL")
        .output()
        .await
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), said)
}

/// Runs `replay`, which must succeed: what it printed, and the most memory that it had resident, in
/// megabytes.
pub async fn peak_memory_mb(arguments: &[&str]) -> (String, f64) {
    let mut child = Command::new(program("replay").await)
        .args(arguments)
        .env_remove("DATABASE_URL")
        .env_remove("REDIS_URL")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id().unwrap());
    let mut stdout = child.stdout.take().unwrap();
    let said = tokio::spawn(async move {
        let mut said = String::new();
        stdout.read_to_string(&mut said).await.unwrap();
        said
    });
    let mut peak_kb = 0_u64;
    let code = loop {
        // The kernel keeps the peak, so looking now and then is enough; the last look may be late.
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.trim().parse().ok());
        peak_kb = peak_kb.max(peak.unwrap_or(0));
        if let Some(code) = child.try_wait().unwrap() {
            break code;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(code.success(), "{code}");
    (said.await.unwrap(), peak_kb as f64 / 1024.0)
}

/// A running `careforall`.
pub struct Program {
    pub child: Child,
    pub client: Client,
    /// Its folder, if that goes with it.
    _data_dir: Option<TempDir>,
}

impl Program {
    /// Starts `careforall COMMAND FLAGS` listening on `listen`, with the tests' secrets.
    pub async fn start(command: &str, listen: &str, flags: &[&str]) -> Self {
        let child = Command::new(program("careforall").await)
            .arg(command)
            .args(["--listen", listen])
            .args(flags)
            .env_remove("DATABASE_URL")
            .env_remove("REDIS_URL")
            .env("CAREFORALL_ADMIN_TOKEN", ADMIN_TOKEN)
            .env("CAREFORALL_SANDBOX_WEBHOOK_SECRET", WEBHOOK_SECRET)
            .env("CAREFORALL_SANDBOX_API_KEY", SANDBOX_API_KEY)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child, client: Client::new(format!("http://{listen}")), _data_dir: None }
    }

    /// Starts `careforall up` with servers of its own below `data_dir`, and waits until it is ready.
    pub async fn up(listen: &str, data_dir: &Path) -> Self {
        let flags = ["--data-dir", data_dir.to_str().unwrap(), "--sandbox-settle-after=1"];
        let up = Self::start("up", listen, &flags).await;
        up.ready().await;
        up
    }

    /// Starts `careforall up` on the servers of all tests, and waits until it is ready; with the address of
    /// its database. Metrics and memory belong to a process, and this is one.
    pub async fn up_on_shared_servers() -> (Self, String) {
        let (database_url, redis_url) = (fresh_database().await, redis_url().await);
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().to_str().unwrap();
        let flags = ["--database-url", &database_url, "--redis-url", &redis_url, "--data-dir", data_dir];
        let up = Self::start("up", &free_address(), &flags).await;
        up.ready().await;
        (Self { _data_dir: Some(folder), ..up }, database_url)
    }

    /// Waits until `/readyz` answers 200.
    pub async fn ready(&self) {
        let ask = async || {
            let answer = self.client.request(reqwest::Method::GET, "/readyz").send().await;
            answer.map(|response| response.status().as_u16()).unwrap_or_default()
        };
        eventually(format!("{} is ready", self.client.base_url), ask, |status| *status == 200).await;
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("the program runs");
        kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
    }

    /// Ends it as Ctrl-C does and returns its exit code.
    pub async fn interrupt(mut self) -> Option<i32> {
        self.signal(Signal::SIGINT);
        completes("the program ends", self.child.wait()).await.unwrap().code()
    }

    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    pub fn services(data_dir: &Path) -> ServicesFile {
        ServicesFile::read(data_dir).unwrap()
    }
}
