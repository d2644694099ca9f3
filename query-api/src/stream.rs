//! Totals as server-sent events, for any number of watchers from one Redis subscription.
//!
//! A watcher is handed the newest totals and nothing else: one that reads slowly skips values in
//! between and holds up nobody. Messages of Redis may be lost, so watched campaigns are also read
//! now and then.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State as Shared;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};
use read_model::{RedisTotals, Totals};
use service::auth::Visitor;
use service::{Path, Problem, ProblemKind, Shutdown};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_stream::wrappers::WatchStream;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::State;
use crate::totals::{Source, TotalsReader, TotalsReply};

/// Watchers at once; more are answered 503.
const MAX_WATCHERS: usize = 10_000;
/// Every watched campaign is read this often, even if no message came.
const READ_ANYWAY: Duration = Duration::from_secs(2);
/// A connection without news is shown to be alive this often.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(watch_totals))
}

type Newest = watch::Sender<Option<Arc<TotalsReply>>>;

/// Spreads news of totals to those who watch.
#[derive(Clone)]
pub(crate) struct TotalsHub {
    watched: Arc<Mutex<HashMap<Uuid, Newest>>>,
    places: Arc<Semaphore>,
}

impl TotalsHub {
    pub(crate) fn start(redis: RedisTotals, totals: TotalsReader, shutdown: Shutdown) -> Self {
        let hub = Self { watched: Arc::default(), places: Arc::new(Semaphore::new(MAX_WATCHERS)) };
        let spread = hub.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = spread.listen(&redis) => {}
                () = spread.read_anyway(&totals) => {}
                () = shutdown.cancelled() => {}
            }
        });
        hub
    }

    fn watch(&self, campaign_id: Uuid) -> Result<Watcher, Problem> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            Problem::new(
                ProblemKind::Overloaded,
                "too many watchers; ask for the totals now and then instead",
            )
        })?;
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = watched.entry(campaign_id).or_insert_with(|| watch::channel(None).0).subscribe();
        Ok(Watcher { newest, _place: place })
    }

    /// Takes news in; older news than what is known is dropped.
    fn spread(&self, campaign_id: Uuid, reply: TotalsReply) {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(newest) = watched.get(&campaign_id) {
            newest.send_if_modified(|known| {
                let newer = known.as_ref().is_none_or(|known| known.position < reply.position);
                if newer {
                    *known = Some(Arc::new(reply));
                }
                newer
            });
        }
    }

    async fn listen(&self, redis: &RedisTotals) {
        loop {
            match redis.subscribe().await {
                Ok(mut messages) => {
                    let mut news = messages.on_message();
                    while let Some(message) = news.next().await {
                        if let Ok(totals) = serde_json::from_slice::<Totals>(message.get_payload_bytes()) {
                            self.spread(totals.campaign_id, TotalsReply::new(totals, Source::Redis));
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "no news from Redis; totals are read now and then"),
            }
            tokio::time::sleep(READ_ANYWAY).await;
        }
    }

    async fn read_anyway(&self, totals: &TotalsReader) {
        loop {
            tokio::time::sleep(READ_ANYWAY).await;
            for campaign_id in self.still_watched() {
                if let Ok(reply) = totals.read(campaign_id).await {
                    self.spread(campaign_id, reply);
                }
            }
        }
    }

    /// The campaigns that somebody watches; the others are forgotten.
    fn still_watched(&self) -> Vec<Uuid> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|_, newest| newest.receiver_count() > 0);
        watched.keys().copied().collect()
    }
}

/// One watcher, and the place it takes.
struct Watcher {
    newest: watch::Receiver<Option<Arc<TotalsReply>>>,
    _place: OwnedSemaphorePermit,
}

/// Watch what a campaign has raised
///
/// Server-sent events named `totals`, the first one at once; the data is what
/// `/api/campaigns/{id}/totals` answers, the id is the position.
#[utoipa::path(
    get, path = "/api/campaigns/{id}/totals/stream", tag = "campaigns", params(("id" = Uuid, Path)),
    responses(
        (status = 200, content_type = "text/event-stream", body = TotalsReply),
        (status = 404, body = Problem), (status = 503, body = Problem),
    ),
)]
async fn watch_totals(
    visitor: Visitor,
    Shared(hub): Shared<TotalsHub>,
    Shared(totals): Shared<TotalsReader>,
    Shared(shutdown): Shared<Shutdown>,
    Path(id): Path<Uuid>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    // Watching starts before the first read, so that nothing falls in between.
    let Watcher { newest, _place: place } = hub.watch(id)?;
    let first = Arc::new(totals.read_for(visitor, id).await?);
    let news = stream::once(async { first })
        .chain(WatchStream::new(newest).filter_map(async |newest| newest))
        .scan(0, |shown, reply| {
            let news = reply.position > *shown;
            *shown = reply.position.max(*shown);
            std::future::ready(Some(news.then_some(reply)))
        })
        .filter_map(async |reply| reply)
        .map(move |reply| {
            // The place is given back when the stream, and this closure with it, is dropped.
            let _ = &place;
            Ok(to_event(&reply))
        })
        .take_until(shutdown.cancelled_owned());
    Ok(Sse::new(news).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn to_event(reply: &TotalsReply) -> Event {
    let event = Event::default().event("totals").id(reply.position.to_string());
    event.json_data(reply).unwrap_or_else(|_| Event::default().comment("not available"))
}
