//! Requests to providers, kept in the database so that their outcome can be asked for later.
//!
//! None of this is money: what happened to money is in the ledger, and only there. These rows say where to
//! ask. Whoever opens a session, asks for a refund, or comes back to one, does so here.

pub mod refund_requests;
pub mod sessions;

use std::time::Duration;

/// Pauses in seconds, as statements take them; none stays none.
fn in_seconds(pauses: &[Option<Duration>]) -> Vec<Option<f64>> {
    pauses.iter().map(|pause| pause.map(|pause| pause.as_secs_f64())).collect()
}
