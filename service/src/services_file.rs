//! `services.json` in the data folder: the addresses of a running CareForAll.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// The addresses of a running CareForAll, for tools that are given its data folder. They contain
/// passwords, so only the folder's owner may read the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicesFile {
    /// The address that it listens on, such as `127.0.0.1:8080`.
    pub listen: String,
    /// Its Postgres.
    pub database_url: String,
    /// Its Redis.
    pub redis_url: String,
    /// Its process.
    pub pid: u32,
}

impl ServicesFile {
    fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("services.json")
    }

    /// Reads the file below `data_dir`.
    ///
    /// # Errors
    /// It is not there, because nothing runs on that folder, or cannot be read.
    pub fn read(data_dir: &Path) -> anyhow::Result<Self> {
        let path = Self::path(data_dir);
        let json = fs::read(&path).with_context(|| {
            format!("{} cannot be read; is `careforall up` running on that folder?", path.display())
        })?;
        serde_json::from_slice(&json).with_context(|| format!("{} is damaged", path.display()))
    }

    /// Writes the file below `data_dir`, whole or not at all.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn write(&self, data_dir: &Path) -> anyhow::Result<()> {
        let (path, fresh) = (Self::path(data_dir), data_dir.join("services.json.new"));
        let write = || {
            let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).to_owned();
            let mut file = options.open(&fresh)?;
            serde_json::to_writer_pretty(&file, self)?;
            writeln!(file)?;
            fs::rename(&fresh, &path)
        };
        write().with_context(|| format!("{} cannot be written", path.display()))
    }

    /// Removes the file, because nothing runs any more.
    pub fn remove(data_dir: &Path) {
        // A file that stays behind names a process that is gone: a nuisance, not a fault.
        let _ = fs::remove_file(Self::path(data_dir));
    }
}
