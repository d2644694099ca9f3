//! One token that every task watches.

pub use tokio_util::sync::CancellationToken as Shutdown;

/// A token that is cancelled by Ctrl-C or SIGTERM.
///
/// # Errors
/// The signal handlers cannot be installed.
pub fn shutdown_on_signal() -> std::io::Result<Shutdown> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let shutdown = Shutdown::new();
    let cancelled = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        cancelled.cancel();
    });
    Ok(shutdown)
}
