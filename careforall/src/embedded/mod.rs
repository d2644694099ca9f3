//! A Postgres and a Redis of our own, run as child processes in a data folder.
//!
//! They serve whoever names no `DATABASE_URL` and `REDIS_URL`: all that is
//! needed is the server programs, no system service and no configuration.
//! Nothing but loopback is listened on, and both end when this process ends.
//! All this relies on Linux and its `/proc`.
//!
//! ```text
//! DATA_DIR/lock                one careforall at a time
//! DATA_DIR/postgres/           the database
//! DATA_DIR/postgres.password   belongs to it: a backup needs both
//! DATA_DIR/postgres.pid        the running server, to end it after a crash
//! DATA_DIR/postgres.port       where it listened last, and will again if it can
//! DATA_DIR/redis...            the same; all in Redis can be rebuilt
//! DATA_DIR/logs/               what the servers say
//! ```

mod child;
mod postgres;
mod redis;
#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::marker::PhantomData;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, bail};

use self::child::Child;

pub use self::postgres::{EmbeddedPostgres, Postgres};
pub use self::redis::{EmbeddedRedis, Redis};

const HOW_TO_GET_SERVICES: &str = "run scripts/install-services.sh or set DATABASE_URL / REDIS_URL";

/// A kind of server that runs in the data folder.
pub trait ServerKind: Send + Sync + 'static {
    /// Its name, for people.
    const NAME: &'static str;

    /// Starts one below `data_dir`.
    #[doc(hidden)]
    fn launch(data_dir: &Path) -> impl Future<Output = anyhow::Result<Running>> + Send;
}

/// A server's process, and its address with user and password.
#[doc(hidden)]
pub struct Running {
    child: Child,
    url: String,
}

/// A server of our own, which ends when this process ends.
pub struct Embedded<K: ServerKind> {
    running: Running,
    kind: PhantomData<K>,
}

impl<K: ServerKind> Embedded<K> {
    /// Starts the server below `data_dir`, and returns when it answers. One that a killed process
    /// left running there is ended first.
    ///
    /// # Errors
    ///
    /// No suitable programs are installed, the folder cannot be written, or the server does not
    /// start: then the error quotes its log.
    pub async fn start(data_dir: &Path) -> anyhow::Result<Self> {
        Ok(Self { running: K::launch(data_dir).await?, kind: PhantomData })
    }

    /// The address of the server, with user and password.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.running.url
    }

    /// The process id of the server.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.child.pid()
    }

    /// Resolves when the server has ended: unasked, since [`Self::stop`] consumes it.
    pub async fn exited(&mut self) -> ExitStatus {
        self.running.child.exited().await
    }

    /// Ends the server, and waits until it has ended.
    ///
    /// # Errors
    ///
    /// The server does not end even when told to at once.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.running.child.stop().await.with_context(|| format!("cannot stop {}", K::NAME))
    }
}

/// A data folder, locked for this process for as long as the value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    lock: File,
}

/// Closing the file is not enough: a child that is just being started holds a copy of it until it
/// runs its own program, and the lock with it.
impl Drop for DataDir {
    fn drop(&mut self) {
        // Should it fail, the lock ends with the last copy of the file all the same.
        let _ = self.lock.unlock();
    }
}

impl DataDir {
    /// Opens the data folder, creating it (mode 0700) if it is missing, and
    /// locks it against any other careforall.
    ///
    /// # Errors
    ///
    /// The folder cannot be created or written to, or another process uses it.
    pub fn open(path: impl AsRef<Path>) -> anyhow::Result<Self> {
        let path = path.as_ref();
        create_private_dir(path)?;
        let path = fs::canonicalize(path).with_context(|| format!("cannot resolve {}", path.display()))?;
        let lock = lock(&path)?;
        Ok(Self { path, lock })
    }

    /// The absolute path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Takes the lock and leaves our process id in it for the next one's message.
fn lock(data_dir: &Path) -> anyhow::Result<File> {
    let path = data_dir.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot write {}; choose another data folder", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).context("cannot read who holds the data folder")?;
            bail!(
                "another careforall (pid {}) is using {}; stop it or choose another folder \
                 with --data-dir / CAREFORALL_DATA_DIR",
                holder.trim(),
                data_dir.display()
            );
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(file)
}

/// Creates a folder only its owner can enter; one that exists stays as it is.
fn create_private_dir(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot create the folder {}", path.display()))
}

/// The password kept in the file `path`, made up when there is none yet.
fn kept_password(path: &Path) -> anyhow::Result<String> {
    kept_secret(path, || random_bytes::<16>().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The secret kept in the file `path` (mode 0600), made by `make` when there is none yet.
pub(crate) fn kept_secret(path: &Path, make: impl FnOnce() -> String) -> anyhow::Result<String> {
    if !path.exists() {
        replace_file(path, &make())?;
    }
    let secret = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(secret.trim().to_owned())
}

pub(crate) fn random_bytes<const N: usize>() -> [u8; N]
where
    rand::distr::StandardUniform: rand::distr::Distribution<[u8; N]>,
{
    rand::random()
}

/// Writes a small file, mode 0600, so that it is found whole or not at all.
fn replace_file(path: &Path, content: &str) -> anyhow::Result<()> {
    let fresh = with_suffix(path, ".new");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        writeln!(file, "{content}")?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
