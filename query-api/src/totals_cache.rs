//! What this process knows of each campaign's totals: the newest snapshot it has seen, ready to be
//! sent, for readers, for watchers and for those who wait for a position.
//!
//! Redis Pub/Sub keeps it fresh. Messages may be lost, so a snapshot is trusted for [`TTL`] only;
//! after that whoever asks looks again. A snapshot is never replaced by an older one: whatever Redis
//! or a read table says later, this process does not answer an older position than it answered before.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::HeaderValue;
use read_model::Totals;
use service::Problem;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::etag;
use crate::totals::{Source, TotalsReply};

/// For so long a snapshot is answered without looking again.
const TTL: Duration = Duration::from_secs(1);
/// A campaign that nobody asks about for so long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(600);
/// Campaigns that are remembered at once, about a kilobyte each; others are read each time.
const MAX_CAMPAIGNS: usize = 50_000;

/// A campaign's totals at one position, ready to be sent.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) position: i64,
    /// Whether the public may see it.
    pub(crate) published: bool,
    /// The answer, which says that it comes from the cache.
    pub(crate) json: Bytes,
    pub(crate) etag: HeaderValue,
    /// The answer as a server-sent event.
    pub(crate) frame: Bytes,
}

impl Snapshot {
    /// # Errors
    /// The totals cannot be written as JSON.
    pub(crate) fn new(totals: Totals) -> Result<Self, Problem> {
        let (position, published) = (totals.position, totals.published);
        let mut frame = format!("event: totals\nid: {position}\ndata: ").into_bytes();
        let start = frame.len();
        serde_json::to_writer(&mut frame, &TotalsReply::new(totals, Source::Cache))
            .map_err(Problem::internal)?;
        let end = frame.len();
        frame.extend_from_slice(b"\n\n");
        // The answer is a part of the event: both share the memory.
        let frame = Bytes::from(frame);
        let json = frame.slice(start..end);
        // Weak, since the answer may also say another source of the same figures.
        let etag = etag::weak(&json);
        Ok(Self { position, published, json, etag, frame })
    }
}

/// What is known of one campaign.
pub(crate) struct Known {
    pub(crate) campaign_id: Uuid,
    newest: watch::Sender<Option<Arc<Snapshot>>>,
    /// What watchers are shown: the newest, at most every so often.
    shown: watch::Sender<Option<Arc<Snapshot>>>,
    /// Milliseconds on the cache's clock.
    fresh_until: AtomicU64,
    asked_at: AtomicU64,
    /// Whoever looks again holds it; the others wait for what is found.
    pub(crate) looking: tokio::sync::Mutex<()>,
}

impl Known {
    fn new(campaign_id: Uuid, now: u64) -> Self {
        Self {
            campaign_id,
            newest: watch::Sender::new(None),
            shown: watch::Sender::new(None),
            fresh_until: AtomicU64::new(0),
            asked_at: AtomicU64::new(now),
            looking: tokio::sync::Mutex::new(()),
        }
    }

    /// The newest snapshot, however old.
    pub(crate) fn newest(&self) -> Option<Arc<Snapshot>> {
        self.newest.borrow().clone()
    }

    /// Tells of each newer snapshot.
    pub(crate) fn follow(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.newest.subscribe()
    }

    /// Tells of newer snapshots, at the pace of watchers.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.shown.subscribe()
    }

    /// Shows the newest snapshot to the watchers.
    pub(crate) fn show(&self) {
        let newest = self.newest();
        self.shown.send_if_modified(|shown| {
            let position = |snapshot: &Option<Arc<Snapshot>>| snapshot.as_ref().map(|s| s.position);
            let newer = position(shown) < position(&newest);
            if newer {
                *shown = newest;
            }
            newer
        });
    }

    fn is_watched(&self) -> bool {
        self.shown.receiver_count() > 0
    }
}

/// The campaigns of which something is known.
pub(crate) struct TotalsCache {
    started: Instant,
    campaigns: RwLock<HashMap<Uuid, Arc<Known>>>,
    /// Watched campaigns whose news were not shown yet.
    news: Mutex<HashSet<Uuid>>,
    pub(crate) has_news: Notify,
}

impl TotalsCache {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            campaigns: RwLock::default(),
            news: Mutex::default(),
            has_news: Notify::new(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What is known of a campaign, as far as it is remembered.
    pub(crate) fn get(&self, campaign_id: Uuid) -> Option<Arc<Known>> {
        self.campaigns.read().unwrap_or_else(PoisonError::into_inner).get(&campaign_id).cloned()
    }

    /// A place for what will be found out about a campaign. It is remembered once there is
    /// something: ids that somebody makes up take no memory.
    pub(crate) fn place_for(&self, campaign_id: Uuid) -> Arc<Known> {
        self.get(campaign_id).unwrap_or_else(|| Arc::new(Known::new(campaign_id, self.now())))
    }

    /// The snapshot of a campaign, unless it must be looked up.
    pub(crate) fn fresh(&self, known: &Known) -> Option<Arc<Snapshot>> {
        let now = self.now();
        // Written once a second at most, so that many readers do not fight for the memory.
        if known.asked_at.load(Ordering::Relaxed) + 1_000 < now {
            known.asked_at.store(now, Ordering::Relaxed);
        }
        if now < known.fresh_until.load(Ordering::Acquire) { known.newest() } else { None }
    }

    /// Takes in what was found by looking, and returns the newest snapshot.
    ///
    /// # Errors
    /// The totals cannot be written as JSON.
    pub(crate) fn found(&self, known: &Arc<Known>, totals: Totals) -> Result<Arc<Snapshot>, Problem> {
        let position = totals.position;
        let newest = self.take(known, totals, |known, found| known <= found)?;
        if newest.position <= position {
            known.fresh_until.store(self.now() + as_millis(TTL), Ordering::Release);
        }
        self.remember(known);
        Ok(newest)
    }

    /// Takes in news from Redis, if the campaign is one of those that somebody asked about.
    ///
    /// # Errors
    /// The totals cannot be written as JSON.
    pub(crate) fn heard(&self, totals: Totals) -> Result<(), Problem> {
        let Some(known) = self.get(totals.campaign_id) else { return Ok(()) };
        let position = totals.position;
        let newest = self.take(&known, totals, |known, heard| known < heard)?;
        // An old message is no proof that nothing newer was written.
        if newest.position == position {
            known.fresh_until.store(self.now() + as_millis(TTL), Ordering::Release);
        }
        Ok(())
    }

    /// Replaces the newest snapshot if `replaces` says so of the two positions.
    fn take(
        &self,
        known: &Known,
        totals: Totals,
        replaces: impl Fn(i64, i64) -> bool,
    ) -> Result<Arc<Snapshot>, Problem> {
        let found = Arc::new(Snapshot::new(totals)?);
        let mut newest = found.clone();
        let mut is_news = false;
        known.newest.send_if_modified(|snapshot| match snapshot {
            Some(current) if !replaces(current.position, found.position) => {
                newest = current.clone();
                false
            }
            _ => {
                is_news = snapshot.as_ref().is_none_or(|current| current.position < found.position);
                *snapshot = Some(found);
                is_news
            }
        });
        if is_news && known.is_watched() {
            self.news.lock().unwrap_or_else(PoisonError::into_inner).insert(known.campaign_id);
            self.has_news.notify_one();
        }
        Ok(newest)
    }

    fn remember(&self, known: &Arc<Known>) {
        if self.get(known.campaign_id).is_some() {
            return;
        }
        let mut campaigns = self.campaigns.write().unwrap_or_else(PoisonError::into_inner);
        if campaigns.len() < MAX_CAMPAIGNS {
            campaigns.entry(known.campaign_id).or_insert_with(|| known.clone());
        }
    }

    /// A campaign that is going to be watched is remembered in any case; watchers have a limit of
    /// their own.
    pub(crate) fn remember_watched(&self, known: Arc<Known>) -> Arc<Known> {
        let mut campaigns = self.campaigns.write().unwrap_or_else(PoisonError::into_inner);
        campaigns.entry(known.campaign_id).or_insert(known).clone()
    }

    /// Shows watchers what is new.
    pub(crate) fn show_news(&self) {
        let news = std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner));
        for known in news.into_iter().filter_map(|campaign_id| self.get(campaign_id)) {
            known.show();
        }
    }

    /// The watched campaigns whose totals were not looked at lately; what nobody asks about any more is forgotten.
    pub(crate) fn watched_and_stale(&self) -> Vec<Uuid> {
        let now = self.now();
        let mut campaigns = self.campaigns.write().unwrap_or_else(PoisonError::into_inner);
        campaigns.retain(|_, known| {
            let asked_at = known.asked_at.load(Ordering::Relaxed);
            known.is_watched() || now < asked_at + as_millis(FORGET_AFTER)
        });
        let stale =
            |known: &&Arc<Known>| known.is_watched() && known.fresh_until.load(Ordering::Acquire) <= now;
        campaigns.values().filter(stale).map(|known| known.campaign_id).collect()
    }
}

fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use read_model::PledgeCounts;

    fn totals(position: i64) -> Totals {
        Totals {
            campaign_id: Uuid::nil(),
            published: true,
            currency: "EUR".to_owned(),
            goal_minor: 100,
            raised_minor: position * 10,
            refunded_minor: 0,
            charged_back_minor: 0,
            unapplied_minor: 0,
            donors: 1,
            pledges: PledgeCounts::default(),
            position,
            as_of: chrono::DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn an_older_position_never_replaces_a_newer_one() {
        let cache = TotalsCache::new();
        let known = cache.place_for(Uuid::nil());
        assert_eq!(cache.found(&known, totals(5)).unwrap().position, 5);
        // What an old snapshot of Redis says.
        assert_eq!(cache.found(&known, totals(3)).unwrap().position, 5);
        cache.heard(totals(4)).unwrap();
        assert_eq!(known.newest().unwrap().position, 5);
        cache.heard(totals(6)).unwrap();
        assert_eq!(known.newest().unwrap().position, 6);
    }

    #[test]
    fn only_what_is_up_to_date_is_trusted() {
        let cache = TotalsCache::new();
        let known = cache.place_for(Uuid::nil());
        assert!(cache.fresh(&known).is_none());
        cache.found(&known, totals(5)).unwrap();
        assert_eq!(cache.fresh(&known).unwrap().position, 5);
        known.fresh_until.store(0, Ordering::Release);
        // Neither an old message nor an old answer makes what is known fresh again.
        cache.heard(totals(4)).unwrap();
        cache.found(&known, totals(4)).unwrap();
        assert!(cache.fresh(&known).is_none());
        cache.heard(totals(6)).unwrap();
        assert_eq!(cache.fresh(&known).unwrap().position, 6);
    }

    #[test]
    fn what_is_not_there_is_not_remembered() {
        let cache = TotalsCache::new();
        let _made_up = cache.place_for(Uuid::nil());
        assert!(cache.get(Uuid::nil()).is_none());
        cache.heard(totals(1)).unwrap();
        assert!(cache.get(Uuid::nil()).is_none());
    }

    #[test]
    fn an_event_holds_the_answer() {
        let snapshot = Snapshot::new(totals(7)).unwrap();
        let frame = String::from_utf8(snapshot.frame.to_vec()).unwrap();
        let json = std::str::from_utf8(&snapshot.json).unwrap();
        assert_eq!(frame, format!("event: totals\nid: 7\ndata: {json}\n\n"));
        assert!(json.contains(r#""source":"cache""#) && !json.contains('\n'), "{json}");
    }
}
