//! The limits of one service, and bodies within them.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use bytes::BytesMut;
use http_body_util::BodyExt;

use crate::{Problem, ProblemKind};

/// Bytes past the limit that are still read and thrown away, so that a client that is still sending
/// gets the answer instead of a broken connection.
const MAX_DISCARDED_BYTES: usize = 8 * 1024 * 1024;

/// The limits of one service.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest body, in bytes.
    pub max_body_bytes: usize,
    /// Longest time until the answer's head, including a slow body.
    pub request_timeout: Duration,
    /// Most requests in flight; more are answered 503.
    pub max_in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_body_bytes: 64 * 1024, request_timeout: Duration::from_secs(10), max_in_flight: 2_048 }
    }
}

/// Reads a request's body, up to the service's limit.
///
/// # Errors
/// [`ProblemKind::TooLarge`] above the limit, [`ProblemKind::Malformed`] when the client stops in
/// the middle.
pub async fn read_body(request: Request) -> Result<Bytes, Problem> {
    let max_bytes = request.extensions().get::<Limits>().copied().unwrap_or_default().max_body_bytes;
    read_limited(request.into_body(), max_bytes).await
}

async fn read_limited(mut body: Body, max_bytes: usize) -> Result<Bytes, Problem> {
    let mut kept = Bytes::new();
    let mut total_bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Problem::new(ProblemKind::Malformed, error))?;
        let Ok(data) = frame.into_data() else { continue };
        total_bytes += data.len();
        kept = match total_bytes {
            // Most bodies come in one piece, which need not be copied.
            total if total <= max_bytes && kept.is_empty() => data,
            total if total <= max_bytes => {
                let mut joined = BytesMut::from(kept);
                joined.extend_from_slice(&data);
                joined.freeze()
            }
            _ => Bytes::new(),
        };
        if total_bytes > max_bytes + MAX_DISCARDED_BYTES {
            break;
        }
    }
    if total_bytes > max_bytes {
        return Err(Problem::new(ProblemKind::TooLarge, format!("at most {max_bytes} bytes are taken")));
    }
    Ok(kept)
}
