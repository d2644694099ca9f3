//! Running a server as a child process that cannot outlive us.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid, getpid, getppid};
use tokio::sync::{oneshot, watch};
use tokio::task::spawn_blocking;

use super::{create_private_dir, replace_file, with_suffix};

const POLL: Duration = Duration::from_millis(50);
const START_ATTEMPTS: u32 = 5;
const LOG_LIMIT: u64 = 10 * 1024 * 1024;

/// Beginnings that fail for a reason which is gone with the next try: another
/// program took the port, or processes of a server that crashed still end.
const PASSING_TROUBLE: [&str; 2] = ["Address already in use", "is still in use"];

/// The signals that end a server, gentlest first, with the time each is given.
pub(super) type Shutdown = &'static [(Signal, Duration); 2];

/// A server's own folder, held open.
///
/// Postgres refuses to run as root, so root starts the servers as the folder's
/// owner: an unprivileged account. That account may be unable to reach the
/// folder by its path, as below `/root`. The servers therefore inherit the open
/// folder and name it `/proc/self/fd/N`, which works wherever the folder lies.
pub(super) struct ServerDir {
    handle: Arc<File>,
    uid: u32,
    gid: u32,
}

impl ServerDir {
    /// Opens the folder, creating it if it is missing. Root hands a folder of
    /// its own over to the unprivileged account.
    pub(super) fn open(path: &Path) -> Result<Self> {
        create_private_dir(path)?;
        let handle = File::open(path)
            .with_context(|| format!("cannot open {}; run as the user who owns it", path.display()))?;
        let mut owner = handle.metadata().context("cannot read the owner of a folder")?;
        if geteuid().is_root() && owner.uid() == 0 {
            let account = unprivileged_account()?;
            fchown(&handle, Some(account.uid.as_raw()), Some(account.gid.as_raw()))
                .with_context(|| format!("cannot give {} to user {}", path.display(), account.name))?;
            owner = handle.metadata().context("cannot read the owner of a folder")?;
        }
        Ok(Self { handle: Arc::new(handle), uid: owner.uid(), gid: owner.gid() })
    }

    /// The name of the folder for the processes that [`Self::command`] starts.
    pub(super) fn inherited_path(&self) -> String {
        format!("/proc/self/fd/{}", self.handle.as_raw_fd())
    }

    /// A command that runs as the folder's owner, inherits the folder and gets
    /// `death_signal` when this process dies. It sees none of our environment,
    /// which may hold secrets, and no Ctrl-C: we end it, in our order.
    pub(super) fn command(&self, program: &Path, death_signal: Signal) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs([("LC_ALL", "C"), ("TZ", "UTC")]);
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.current_dir("/").process_group(0);
        if geteuid().is_root() {
            command.uid(self.uid).gid(self.gid);
        }
        tie_to_parent(&mut command, Arc::clone(&self.handle), death_signal);
        command
    }

    /// Whether the process runs in this folder; `None` if we may not know, as
    /// in a container that takes the right to look from root.
    pub(super) fn is_home_of(&self, pid: Pid) -> Option<bool> {
        let cwd = fs::metadata(format!("/proc/{pid}/cwd")).ok()?;
        let own = self.handle.metadata().ok()?;
        Some(cwd.dev() == own.dev() && cwd.ino() == own.ino())
    }
}

/// Lets the child inherit the folder, and makes it die with its parent.
#[allow(unsafe_code)]
fn tie_to_parent(command: &mut Command, dir: Arc<File>, death_signal: Signal) {
    let parent = getpid();
    let in_child = move || {
        fcntl(&*dir, FcntlArg::F_SETFD(FdFlag::empty()))?;
        set_pdeathsig(death_signal)?;
        // A parent that died before the line above sends no signal any more.
        if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed.
    // The closure makes three system calls and neither allocates nor locks; its
    // folder stays open because the closure owns a share of it.
    unsafe { command.pre_exec(in_child) };
}

fn unprivileged_account() -> Result<User> {
    for name in ["postgres", "nobody"] {
        if let Some(account) = User::from_name(name).context("cannot look up system accounts")? {
            return Ok(account);
        }
    }
    bail!(
        "Postgres cannot run as root: create a system user named postgres or run careforall as another user"
    )
}

/// The log file of one server, and where in it the current run begins.
pub(super) struct Log {
    file: File,
    path: PathBuf,
    begin: u64,
}

impl Log {
    /// Opens `DATA_DIR/logs/NAME.log` to append; a long one is set aside.
    pub(super) fn open(data_dir: &Path, name: &str) -> Result<Self> {
        let folder = data_dir.join("logs");
        create_private_dir(&folder)?;
        let path = folder.join(format!("{name}.log"));
        if fs::metadata(&path).is_ok_and(|log| log.len() > LOG_LIMIT) {
            fs::rename(&path, with_suffix(&path, ".1"))
                .with_context(|| format!("cannot rename {}", path.display()))?;
        }
        let open = || {
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
            let begin = file.metadata()?.len();
            Ok::<_, io::Error>((file, begin))
        };
        let (file, begin) = open().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { file, path, begin })
    }

    /// Sends what the command prints into the log.
    pub(super) fn capture(&self, command: &mut Command) -> Result<()> {
        let output = || self.file.try_clone().context("cannot duplicate a log file");
        command.stdin(Stdio::piped()).stdout(output()?).stderr(output()?);
        Ok(())
    }

    /// The text logged since the log was opened.
    pub(super) fn text(&self) -> String {
        let mut bytes = Vec::new();
        // An unreadable log must not hide the error it would have explained.
        let _ = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.begin))?;
            file.read_to_end(&mut bytes)
        });
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// An error that ends with the last lines of the log.
    pub(super) fn error(&self, what: &str) -> anyhow::Error {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(20)..].join("\n");
        anyhow!("{what}; {} ends with:\n{last}", self.path.display())
    }
}

/// Runs a command to its end; `input` is all it reads.
pub(super) fn run(mut command: Command, input: &str, log: &Log) -> Result<ExitStatus> {
    log.capture(&mut command)?;
    let program = command.get_program().to_owned();
    let mut finish = || {
        let mut child = command.spawn()?;
        feed(&mut child, input);
        child.wait()
    };
    finish().with_context(|| format!("cannot run {}", program.display()))
}

fn feed(child: &mut std::process::Child, input: &str) {
    if let Some(mut stdin) = child.stdin.take() {
        // A child that ends without reading says why by its exit and its log.
        let _ = stdin.write_all(input.as_bytes());
    }
}

/// A running server. Dropping it asks the server to end without waiting for it.
pub(super) struct Child {
    pid: Pid,
    shutdown: Shutdown,
    record: PathBuf,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Child {
    /// Starts the command. `record` is the file that names the process, for
    /// [`end_leftover`].
    async fn spawn(command: Command, input: String, shutdown: Shutdown, record: PathBuf) -> Result<Self> {
        let program = command.get_program().to_owned();
        let farewell = shutdown[0].0;
        let (started, pid) = oneshot::channel();
        let (ended, exit) = watch::channel(None);
        // The death signal is sent when the thread that forked ends, so that
        // thread stays until the child is gone. Runtime threads may not.
        thread::Builder::new()
            .name("server-parent".to_owned())
            .spawn(move || parent(command, &input, farewell, started, &ended))
            .context("cannot start a thread")?;
        let pid = pid
            .await
            .context("the thread that starts a server ended")?
            .with_context(|| format!("cannot run {}", program.display()))?;
        let child = Self { pid: Pid::from_raw(pid.cast_signed()), shutdown, record, exit };
        if let Some(identity) = identity(child.pid) {
            replace_file(&child.record, &identity)?;
        }
        Ok(child)
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    /// Resolves when the process has ended, however often it is asked.
    pub(super) async fn exited(&mut self) -> ExitStatus {
        let status = self.exit.wait_for(Option::is_some).await;
        status.ok().and_then(|status| *status).unwrap_or_else(unknown_exit)
    }

    fn has_exited(&self) -> bool {
        self.exit.borrow().is_some()
    }

    /// Ends the process, more and more firmly.
    pub(super) async fn stop(mut self) -> Result<()> {
        for (signal, patience) in *self.shutdown {
            if !self.has_exited() {
                send(self.pid, signal)?;
            }
            if tokio::time::timeout(patience, self.exited()).await.is_ok() {
                // A record left behind names a process that is gone: harmless.
                let _ = fs::remove_file(&self.record);
                return Ok(());
            }
        }
        bail!("process {} does not end; end it by hand", self.pid)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.has_exited() {
            let _ = send(self.pid, self.shutdown[0].0);
        }
    }
}

/// Starts the child, reports its process id, waits for it, reports its exit.
fn parent(
    mut command: Command,
    input: &str,
    farewell: Signal,
    started: oneshot::Sender<io::Result<u32>>,
    ended: &watch::Sender<Option<ExitStatus>>,
) {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    feed(&mut child, input);
    let pid = child.id();
    if started.send(Ok(pid)).is_err() {
        // Nobody waits for the server any more, so nobody would ever stop it.
        let _ = send(Pid::from_raw(pid.cast_signed()), farewell);
    }
    let status = child.wait().unwrap_or_else(|_| unknown_exit());
    ended.send_replace(Some(status));
}

/// Stands for the exit of a child that someone else has waited for.
fn unknown_exit() -> ExitStatus {
    ExitStatus::from_raw(255 << 8)
}

/// How to start one kind of server.
pub(super) struct Launch<'a> {
    /// Names the log and the process record.
    pub(super) name: &'static str,
    pub(super) data_dir: &'a Path,
    pub(super) shutdown: Shutdown,
    /// How long the server may take until it serves.
    pub(super) patience: Duration,
}

impl Launch<'_> {
    /// Starts the server on its last port or a free one, and waits until `ready(pid, port)`.
    /// `command` gives, for a port, what to run and what it reads.
    pub(super) async fn start<C, R>(&self, command: C, ready: R) -> Result<(Child, u16)>
    where
        C: Fn(u16) -> (Command, String),
        R: Fn(u32, u16) -> bool + Clone + Send + 'static,
    {
        for attempt in 1.. {
            let port = self.port(attempt)?;
            let log = Log::open(self.data_dir, self.name)?;
            let (mut command, input) = command(port);
            log.capture(&mut command)?;
            let record = process_record(self.data_dir, self.name);
            let mut child = Child::spawn(command, input, self.shutdown, record).await?;
            if self.became_ready(&mut child, port, ready.clone()).await? {
                replace_file(&self.port_record(), &port.to_string())?;
                return Ok((child, port));
            }
            let said = log.text();
            let worth_a_retry = PASSING_TROUBLE.iter().any(|trouble| said.contains(trouble));
            if !child.has_exited() {
                let error = log.error(&format!("{} does not become ready", self.name));
                child.stop().await?;
                return Err(error);
            } else if !worth_a_retry || attempt == START_ATTEMPTS {
                return Err(log.error(&format!("{} does not start", self.name)));
            }
            tracing::info!(server = self.name, attempt, "starting again");
            tokio::time::sleep(Duration::from_millis(250 << attempt)).await;
        }
        unreachable!("the last attempt returns")
    }

    /// The port of the last run if it is free, so that a server which is started again is found
    /// where it was; otherwise any free one.
    fn port(&self, attempt: u32) -> Result<u16> {
        let last = fs::read_to_string(self.port_record()).ok().and_then(|port| port.trim().parse().ok());
        match last {
            Some(port) if attempt == 1 && TcpListener::bind(("127.0.0.1", port)).is_ok() => Ok(port),
            Some(_) | None => free_port(),
        }
    }

    fn port_record(&self) -> PathBuf {
        self.data_dir.join(format!("{}.port", self.name))
    }

    /// Whether the server serves; it does not if it ended or took too long.
    async fn became_ready<R>(&self, child: &mut Child, port: u16, ready: R) -> Result<bool>
    where
        R: Fn(u32, u16) -> bool + Clone + Send + 'static,
    {
        let begin = Instant::now();
        while begin.elapsed() < self.patience && !child.has_exited() {
            let (ask, pid) = (ready.clone(), child.pid());
            if spawn_blocking(move || ask(pid, port)).await.context("asking the server failed")? {
                return Ok(true);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(false)
    }
}

fn free_port() -> Result<u16> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    Ok(free.context("cannot find a free port on 127.0.0.1")?.port())
}

fn process_record(data_dir: &Path, name: &str) -> PathBuf {
    data_dir.join(format!("{name}.pid"))
}

/// Ends the server that a killed careforall has left behind in the data folder.
pub(super) fn end_leftover(data_dir: &Path, name: &str, shutdown: Shutdown) -> Result<()> {
    let record = process_record(data_dir, name);
    let Ok(recorded) = fs::read_to_string(&record) else { return Ok(()) };
    let pid = recorded.split_whitespace().next().and_then(|pid| pid.parse().ok()).map(Pid::from_raw);
    if let Some(pid) = pid
        && identity(pid).as_deref() == Some(recorded.trim())
    {
        tracing::warn!(server = name, %pid, "ending the server of an earlier run");
        end(pid, shutdown)?;
    }
    fs::remove_file(&record).with_context(|| format!("cannot remove {}", record.display()))
}

/// Ends a process that is not our child, and waits until it is gone.
pub(super) fn end(pid: Pid, shutdown: Shutdown) -> Result<()> {
    let Some(process) = identity(pid) else { return Ok(()) };
    for (signal, patience) in *shutdown {
        send(pid, signal)?;
        let begin = Instant::now();
        while begin.elapsed() < patience {
            if identity(pid).as_deref() != Some(process.as_str()) {
                return Ok(());
            }
            thread::sleep(POLL);
        }
    }
    bail!("process {pid} of an earlier run does not end; end it by hand")
}

/// Distinguishes a process from any later one with the same id: "PID (NAME) START". `None` for a process
/// that is gone, even if nobody has waited for it yet.
pub(super) fn identity(pid: Pid) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses, so the fields count from its end.
    let (name, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let (state, start) = (fields.first()?, fields.get(19)?);
    (!matches!(*state, "Z" | "X")).then(|| format!("{name}) {start}"))
}

fn send(pid: Pid, signal: Signal) -> Result<()> {
    match kill(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot end process {pid}; end it by hand")),
    }
}
