//! Postgres in the data folder.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::task::spawn_blocking;

use super::child::{Launch, Log, ServerDir, Shutdown, end, end_leftover, identity, run};
use super::{Embedded, HOW_TO_GET_SERVICES, Running, ServerKind, kept_password};

const NAME: &str = "postgres";
const OLDEST_VERSION: u32 = 15;

/// SIGINT is Postgres's fast shutdown, which ends sessions and then writes a
/// checkpoint; SIGQUIT skips that and leaves the work to the next start.
const SHUTDOWN: Shutdown =
    &[(Signal::SIGINT, Duration::from_secs(30)), (Signal::SIGQUIT, Duration::from_secs(10))];

/// Recovery after a crash comes before the first connection and can be long: it flushes every file of
/// the data folder. A server that ends while it starts is noticed at once, whatever this says.
const PATIENCE: Duration = Duration::from_secs(600);

/// Settings that govern durability keep their safe defaults.
const SETTINGS: [(&str, &str); 8] = [
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_directories", ""),
    ("max_connections", "200"),
    ("max_wal_size", "4GB"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("log_destination", "stderr"),
    ("logging_collector", "off"),
];

/// Memory that glibc keeps in a server process, rather than returning it after each batch and having it
/// zeroed again for the next.
const KEPT_MEMORY: [(&str, &str); 2] =
    [("MALLOC_TRIM_THRESHOLD_", "16777216"), ("MALLOC_MMAP_THRESHOLD_", "16777216")];

/// Names the kind of [`EmbeddedPostgres`].
pub struct Postgres;

/// A Postgres server of our own, with the data folder as its home.
pub type EmbeddedPostgres = Embedded<Postgres>;

impl ServerKind for Postgres {
    const NAME: &'static str = "Postgres";

    async fn launch(data_dir: &Path) -> Result<Running> {
        launch(data_dir, &[]).await
    }
}

impl EmbeddedPostgres {
    /// Like [`Embedded::start`], with further settings, as in `postgresql.conf`.
    ///
    /// # Errors
    ///
    /// Those of [`Embedded::start`], and settings that Postgres refuses.
    pub async fn start_with(data_dir: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        Ok(Self { running: launch(data_dir, settings).await?, kind: PhantomData })
    }
}

/// Initialises the folder on first use, and starts the server.
async fn launch(data_dir: &Path, settings: &[(&str, &str)]) -> Result<Running> {
    let folder = data_dir.to_owned();
    let cluster = spawn_blocking(move || Cluster::prepare(&folder))
        .await
        .context("preparing Postgres was interrupted")??;
    let launch = Launch { name: NAME, data_dir, shutdown: SHUTDOWN, patience: PATIENCE };
    let lock = cluster.home.join("postmaster.pid");
    let command = |port| (cluster.command(port, settings), String::new());
    let (child, port) = launch.start(command, move |pid, _| is_ready(&lock, pid)).await?;
    let url = format!("postgres://careforall:{}@127.0.0.1:{port}/careforall", cluster.password);
    Ok(Running { child, url })
}

/// Postgres writes its state into its lock file: the process id comes first,
/// and the eighth line says when it accepts connections.
fn is_ready(lock: &Path, pid: u32) -> bool {
    let Ok(text) = fs::read_to_string(lock) else { return false };
    let mut lines = text.lines().map(str::trim);
    lines.next() == Some(pid.to_string().as_str()) && lines.nth(6) == Some("ready")
}

/// An initialised database folder that no server is using.
struct Cluster {
    programs: PathBuf,
    home: PathBuf,
    dir: ServerDir,
    password: String,
}

impl Cluster {
    fn prepare(data_dir: &Path) -> Result<Self> {
        end_leftover(data_dir, NAME, SHUTDOWN)?;
        let home = data_dir.join(NAME);
        let version = data_version(&home)?;
        let programs = find_programs(version)?;
        let password = data_dir.join("postgres.password");
        if version.is_some() && !password.exists() {
            bail!("{} is missing, and {} needs it: restore it", password.display(), home.display());
        }
        let password = kept_password(&password)?;
        if version.is_none() {
            initialise(data_dir, &home, &programs, &password)?;
        }
        let dir = ServerDir::open(&home)?;
        release(&dir, &home)?;
        Ok(Self { programs, home, dir, password })
    }

    fn command(&self, port: u16, settings: &[(&str, &str)]) -> Command {
        let mut command = self.dir.command(&self.programs.join("postgres"), Signal::SIGINT);
        command.envs(KEPT_MEMORY);
        command.args(["-D", &self.dir.inherited_path(), "-p", &port.to_string()]);
        command.arg("-c").arg(format!("shared_buffers={}MB", shared_buffers_mb()));
        for (name, value) in SETTINGS.iter().chain(settings) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command
    }
}

/// An eighth of the machine's memory, from 128 MB to 8 GB; it is taken only as it is filled. New pledges
/// fall anywhere in the index of streams. Where that does not fit, each of them has a page read and,
/// worse, another page written out first.
fn shared_buffers_mb() -> u64 {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let total_kb: u64 = total.and_then(|kilobytes| kilobytes.parse().ok()).unwrap_or_default();
    (total_kb / 1024 / 8).clamp(128, 8_192)
}

/// The major version of the Postgres that made the folder, if one did.
fn data_version(home: &Path) -> Result<Option<u32>> {
    let file = home.join("PG_VERSION");
    if !file.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let version = text.trim().parse().with_context(|| format!("{} holds no version", file.display()))?;
    Ok(Some(version))
}

/// Makes a new database folder beside its place and moves it there when it is
/// complete, so that an interrupted attempt leaves nothing that looks complete.
fn initialise(data_dir: &Path, home: &Path, programs: &Path, password: &str) -> Result<()> {
    let fresh = data_dir.join("postgres.new");
    remove_leftover(&fresh)?;
    let dir = ServerDir::open(&fresh)?;
    initdb(data_dir, &dir, programs)?;
    create_database(data_dir, &dir, programs, password)?;
    fs::rename(&fresh, home)
        .and_then(|()| File::open(data_dir)?.sync_all())
        .with_context(|| format!("cannot move the new database to {}", home.display()))
}

fn remove_leftover(fresh: &Path) -> Result<()> {
    // Processes of the earlier attempt may be about to end and still write.
    for _ in 0..50 {
        if !fresh.exists() || fs::remove_dir_all(fresh).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    bail!("cannot remove {}, left by an interrupted start; remove it by hand", fresh.display())
}

/// There are no Unix sockets, so local connections are refused altogether.
fn initdb(data_dir: &Path, dir: &ServerDir, programs: &Path) -> Result<()> {
    let log = Log::open(data_dir, NAME)?;
    for locale in ["C.UTF-8", "C"] {
        let mut command = dir.command(&programs.join("initdb"), Signal::SIGKILL);
        command.args(["-D", &dir.inherited_path(), "--username=careforall", "--data-checksums"]);
        command.args(["--auth-host=scram-sha-256", "--auth-local=reject"]);
        command.args(["--encoding=UTF8", &format!("--locale={locale}")]);
        if run(command, "", &log)?.success() {
            return Ok(());
        }
        if !log.text().contains("invalid locale name") {
            break;
        }
    }
    Err(log.error("initdb failed"))
}

/// Sets the password and creates the database before anyone can connect. The
/// password travels through a pipe: it is in no argument list and in no log.
fn create_database(data_dir: &Path, dir: &ServerDir, programs: &Path, password: &str) -> Result<()> {
    let log = Log::open(data_dir, NAME)?;
    let mut command = dir.command(&programs.join("postgres"), Signal::SIGINT);
    command.args(["--single", "-D", &dir.inherited_path()]);
    command.args(["-c", "exit_on_error=on", "-c", "log_min_error_statement=panic", "postgres"]);
    let statements = format!("alter user careforall password '{password}'\ncreate database careforall\n");
    if run(command, &statements, &log)?.success() {
        return Ok(());
    }
    Err(log.error("cannot create the database"))
}

/// Ends a server that still uses the folder, and removes a lock that would keep
/// Postgres from starting because its process id now belongs to another
/// program. Postgres itself copes with the lock of a process that is gone, and
/// its shared memory still tells it of sessions that outlived their server.
fn release(dir: &ServerDir, home: &Path) -> Result<()> {
    let lock = home.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&lock) else { return Ok(()) };
    let pid = text.lines().next().and_then(|line| line.trim().parse().ok()).map(Pid::from_raw);
    let Some((pid, process)) = pid.and_then(|pid| Some((pid, identity(pid)?))) else {
        return Ok(());
    };
    let is_postgres = process.contains("(postgres)");
    match dir.is_home_of(pid) {
        Some(true) if is_postgres => end(pid, SHUTDOWN),
        None if is_postgres => Ok(()),
        _ => fs::remove_file(&lock).with_context(|| format!("cannot remove {}", lock.display())),
    }
}

/// The folder of the server programs: of the version that made the data, or
/// else the newest.
pub(super) fn find_programs(data_version: Option<u32>) -> Result<PathBuf> {
    let folders = program_folders();
    let found: Vec<(u32, &PathBuf)> = folders
        .iter()
        .filter(|folder| folder.join("initdb").exists())
        .filter_map(|folder| Some((installed_version(folder)?, folder)))
        .collect();
    let suitable = found.iter().filter(|(version, _)| match data_version {
        Some(needed) => *version == needed,
        None => *version >= OLDEST_VERSION,
    });
    // Of equals the last would win: reversed, the folder named first does.
    if let Some((_, folder)) = suitable.rev().max_by_key(|(version, _)| *version) {
        return Ok(folder.to_path_buf());
    }
    let needed = match data_version {
        Some(version) => format!("the data folder was made by PostgreSQL {version}, which must open it"),
        None => format!("PostgreSQL {OLDEST_VERSION} or newer is needed"),
    };
    let found: Vec<String> = if found.is_empty() {
        folders.iter().map(|folder| format!("none in {}", folder.display())).collect()
    } else {
        found.iter().map(|(version, folder)| format!("{version} in {}", folder.display())).collect()
    };
    bail!("{needed}, but there is {}; {}", found.join(", "), HOW_TO_GET_SERVICES)
}

/// Where Postgres programs may be. Debian and Red Hat keep versions apart and
/// off the search path.
fn program_folders() -> Vec<PathBuf> {
    if let Some(folder) = std::env::var_os("CAREFORALL_POSTGRES_BIN") {
        return vec![folder.into()];
    }
    let versions = [
        entries("/usr/lib/postgresql", ""),
        entries("/usr", "pgsql-"),
        entries("/opt/homebrew/opt", "postgresql@"),
    ];
    let search_path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = versions.concat().iter().map(|version| version.join("bin")).collect();
    folders.extend(std::env::split_paths(&search_path));
    folders
}

fn entries(folder: &str, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .filter(|path| path.file_name().and_then(OsStr::to_str).is_some_and(|n| n.starts_with(prefix)))
        .collect()
}

/// The major version of the `postgres` in the folder, which answers as in
/// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)" or "... 17beta1".
fn installed_version(folder: &Path) -> Option<u32> {
    let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.split_once("(PostgreSQL) ")?.1;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
