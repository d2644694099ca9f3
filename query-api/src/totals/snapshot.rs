//! Totals at one position, ready to be sent.

use axum::body::Bytes;
use axum::http::HeaderValue;
use read_model::Totals;
use service::Problem;

use super::reply::{self, Source};
use crate::etag;

/// A campaign's totals at one position, written once for everybody who asks or watches.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) position: i64,
    /// Whether the public may see it.
    pub(crate) published: bool,
    pub(crate) etag: HeaderValue,
    /// The answer as a server-sent event.
    pub(crate) frame: Bytes,
    /// The answer, which says that it comes from the cache.
    json: Bytes,
}

impl Snapshot {
    /// # Errors
    /// The totals cannot be written as JSON.
    pub(crate) fn new(totals: Totals) -> Result<Self, Problem> {
        let (position, published) = (totals.position, totals.published);
        let mut frame = format!("event: totals\nid: {position}\ndata: ").into_bytes();
        let start = frame.len();
        reply::write(&mut frame, totals, Source::Cache)?;
        let end = frame.len();
        frame.extend_from_slice(b"\n\n");
        // The answer is a part of the event: both share the memory.
        let frame = Bytes::from(frame);
        let json = frame.slice(start..end);
        // Weak, since the answer may also say another source of the same figures.
        let etag = etag::weak(&json);
        Ok(Self { position, published, etag, frame, json })
    }

    /// The answer, saying where it was read.
    pub(crate) fn json(&self, source: Source) -> Bytes {
        reply::with_source(&self.json, Source::Cache, source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::totals::reply::tests::totals;

    #[test]
    fn an_event_holds_the_answer() {
        let snapshot = Snapshot::new(totals(7)).unwrap();
        let frame = String::from_utf8(snapshot.frame.to_vec()).unwrap();
        let json = std::str::from_utf8(&snapshot.json).unwrap();
        assert_eq!(frame, format!("event: totals\nid: 7\ndata: {json}\n\n"));
        assert!(json.contains(r#""source":"cache""#) && !json.contains('\n'), "{json}");
    }
}
