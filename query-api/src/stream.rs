//! Totals as server-sent events, for any number of watchers from one Redis subscription.
//!
//! A watcher is handed the newest totals and nothing else: one that reads slowly skips values in
//! between and holds up nobody, and the server drops one that does not read at all. Messages of Redis
//! may be lost, so watched campaigns are also read now and then.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State as Shared;
use axum::http::HeaderName;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use metrics::{Gauge, gauge};
use read_model::{RedisTotals, Totals};
use service::auth::Visitor;
use service::{Path, Problem, ProblemKind, Query, Shutdown};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tokio_stream::wrappers::WatchStream;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::State;
use crate::progress::MinPosition;
use crate::totals::{CacheEntry, Snapshot, TotalsReader, TotalsReply};

/// Watchers at once; more are answered 503.
const MAX_WATCHERS: usize = 10_000;
/// Shortest pause between two events: more is lost on the eye, and much to send.
const SHOW_EVERY: Duration = Duration::from_millis(100);
/// How often watched campaigns without news are read.
const READ_ANYWAY: Duration = Duration::from_secs(1);
/// Pause before a broken subscription is renewed.
const SUBSCRIBE_AGAIN: Duration = Duration::from_millis(500);
/// How often a connection without news gets a sign of life.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Watchers come back between one and five seconds after the end of their stream, not all at once.
const COME_BACK_MS: (usize, usize) = (1_000, 4_000);

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(watch_totals))
}

/// Spreads news of totals to those who watch.
pub(crate) struct TotalsHub {
    places: Arc<Semaphore>,
    watchers: Gauge,
}

impl TotalsHub {
    pub(crate) fn start(redis: RedisTotals, totals: Arc<TotalsReader>, shutdown: Shutdown) -> Self {
        tokio::spawn(async move {
            tokio::select! {
                () = listen(&redis, &totals) => {}
                () = show_news(&totals) => {}
                () = read_anyway(&totals) => {}
                () = shutdown.cancelled() => {}
            }
        });
        Self { places: Arc::new(Semaphore::new(MAX_WATCHERS)), watchers: gauge!("totals_watchers") }
    }

    fn place(&self) -> Result<Place, Problem> {
        let permit = self.places.clone().try_acquire_owned().map_err(|_| {
            Problem::new(
                ProblemKind::Overloaded,
                "too many watchers; ask for the totals now and then instead",
            )
        })?;
        self.watchers.increment(1.0);
        let come_back_ms = COME_BACK_MS.0 + self.places.available_permits() % COME_BACK_MS.1;
        Ok(Place { _permit: permit, watchers: self.watchers.clone(), come_back_ms })
    }
}

/// Hears what changes, and forgets what it hears of campaigns that nobody asked about.
async fn listen(redis: &RedisTotals, totals: &TotalsReader) {
    loop {
        match redis.subscribe().await {
            Ok(mut messages) => {
                let mut news = messages.on_message();
                while let Some(message) = news.next().await {
                    if let Ok(news) = serde_json::from_slice::<Totals>(message.get_payload_bytes())
                        && let Err(error) = totals.cache.insert_news(news)
                    {
                        tracing::warn!(?error, "news of totals cannot be passed on");
                    }
                }
                tracing::warn!("the subscription to Redis ended; totals are read now and then");
            }
            Err(error) => tracing::warn!(%error, "no news from Redis; totals are read now and then"),
        }
        sleep(SUBSCRIBE_AGAIN).await;
    }
}

/// The first news after a pause is shown at once; what comes soon after is shown together.
async fn show_news(totals: &TotalsReader) {
    loop {
        totals.cache.has_news.notified().await;
        totals.cache.show_news();
        sleep(SHOW_EVERY).await;
    }
}

async fn read_anyway(totals: &TotalsReader) {
    loop {
        sleep(READ_ANYWAY).await;
        for campaign_id in totals.cache.watched_and_stale() {
            // Failures are logged where they happen, and the read is tried again.
            let _ = totals.read(campaign_id, false).await;
        }
    }
}

/// A watcher's place, given back when it is dropped.
struct Place {
    _permit: OwnedSemaphorePermit,
    watchers: Gauge,
    come_back_ms: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.watchers.decrement(1.0);
    }
}

/// One watcher.
struct Watcher {
    shown: WatchStream<Option<Arc<Snapshot>>>,
    position: i64,
    _place: Place,
}

impl Watcher {
    /// The next thing to send: news, or a sign of life.
    async fn next(&mut self) -> Bytes {
        loop {
            let snapshot = tokio::select! {
                Some(snapshot) = self.shown.next() => snapshot,
                () = sleep(KEEP_ALIVE) => return Bytes::from_static(b":\n\n"),
            };
            if let Some(news) = snapshot.filter(|snapshot| snapshot.position > self.position) {
                self.position = news.position;
                return news.frame.clone();
            }
        }
    }
}

/// The present totals, then each change.
fn events(entry: &CacheEntry, place: Place) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
    // Watching starts before the newest is taken, so that nothing falls in between.
    let shown = WatchStream::from_changes(entry.watch());
    let first = entry.newest();
    let retry = format!("retry: {}\n", place.come_back_ms).into_bytes();
    let start = first.as_ref().map_or(retry.clone(), |first| [retry, first.frame.to_vec()].concat());
    let position = first.map_or(0, |first| first.position);
    let rest = stream::unfold(Watcher { shown, position, _place: place }, async |mut watcher| {
        let next = watcher.next().await;
        Some((Ok(next), watcher))
    });
    stream::once(std::future::ready(Ok(Bytes::from(start)))).chain(rest)
}

/// Watch what a campaign has raised
///
/// Server-sent events named `totals`, the first one at once; the data is what
/// `/api/campaigns/{id}/totals` answers, the id is the position. Changes that follow each other
/// within a tenth of a second are one event.
#[utoipa::path(
    get, path = "/api/campaigns/{id}/totals/stream", tag = "campaigns",
    params(("id" = Uuid, Path), MinPosition),
    extensions(("x-cross-origin" = json!(true))),
    responses((status = 200, content_type = "text/event-stream", body = TotalsReply), (status = 404)),
)]
async fn watch_totals(
    visitor: Visitor,
    Shared(hub): Shared<Arc<TotalsHub>>,
    Shared(totals): Shared<Arc<TotalsReader>>,
    Shared(shutdown): Shared<Shutdown>,
    Path(id): Path<Uuid>,
    Query(wanted): Query<MinPosition>,
) -> Result<Response, Problem> {
    let place = hub.place()?;
    let entry = totals.watched(visitor, id, wanted).await?;
    let events = events(&entry, place).take_until(shutdown.cancelled_owned());
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
        // Proxies that gather answers must not gather this one.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(events)).into_response())
}
