//! How much memory a command may use.

use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;

use crate::sorter::Room;

/// Memory besides that for sorting: the program itself, its connections, and rows under way.
const FIXED_MB: usize = 40;
/// Less is of no use.
const LEAST_MB: usize = 64;

/// How much memory and where temporary files.
#[derive(Args, Clone, Debug)]
pub(crate) struct Memory {
    /// The most memory to use, in megabytes; at least 64. It holds however large the ledger is: what
    /// does not fit is sorted in temporary files, of about the size of the ledger.
    #[arg(long, default_value_t = 160, value_name = "MB")]
    memory_mb: usize,

    /// Folder of the temporary files. They have no name there, and are gone when the program is.
    /// [default: the system's, such as /tmp]
    #[arg(long, value_name = "FOLDER")]
    temp_dir: Option<PathBuf>,
}

impl Memory {
    /// The room for sorting.
    ///
    /// # Errors
    /// It is too little.
    pub(crate) fn room(&self) -> anyhow::Result<Room> {
        ensure!(self.memory_mb >= LEAST_MB, "--memory-mb must be at least {LEAST_MB}");
        let folder = self.temp_dir.clone().unwrap_or_else(std::env::temp_dir);
        Ok(Room { bytes: (self.memory_mb - FIXED_MB) * 1024 * 1024, folder })
    }
}
