//! Numbers the merchant's requests, so that the same seed of the dial breaks the same ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Requests of the merchant since the dial was turned.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestCount(Arc<AtomicU64>);

impl RequestCount {
    pub(crate) fn restart(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}
