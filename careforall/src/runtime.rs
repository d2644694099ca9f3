//! The threads that everything runs on.

use std::thread::available_parallelism;

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

/// A runtime on half of the cores, at least one.
///
/// A request is a few short steps between waits for Postgres, which needs the other half, as do Redis
/// and the kernel's network work. With a thread per core they all take turns, tasks move from
/// core to core, and every request costs more. `TOKIO_WORKER_THREADS` sets another number.
///
/// # Errors
/// The system refuses the threads.
pub fn runtime() -> anyhow::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        builder.worker_threads(available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1)));
    }
    builder.enable_all().build().context("the program's threads cannot be started")
}
