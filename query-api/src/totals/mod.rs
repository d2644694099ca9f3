//! A campaign's totals: from this process's cache, else from Redis, else from the read table.

mod cache;
mod reader;
mod reply;
mod routes;
mod snapshot;

pub(crate) use cache::CacheEntry;
pub(crate) use reader::TotalsReader;
pub(crate) use reply::TotalsReply;
pub(crate) use routes::router;
pub(crate) use snapshot::Snapshot;
