//! The newest snapshot of each campaign's totals that this process has seen, for readers, for watchers
//! and for callers who wait for a position.
//!
//! Redis Pub/Sub keeps it fresh. Messages may be lost, so a snapshot is trusted for [`TTL`] only;
//! after that whoever asks looks again. A snapshot is never replaced by an older one: whatever Redis
//! or a read table says later, this process does not answer an older position than it answered before.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use read_model::Totals;
use service::Problem;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::snapshot::Snapshot;

/// How long a snapshot is answered without looking again.
const TTL: Duration = Duration::from_secs(1);
/// A campaign that nobody has asked about for this long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(600);
/// Campaigns that are remembered at once, about a kilobyte each; others are read each time.
const MAX_CAMPAIGNS: usize = 50_000;

/// The newest totals of one campaign, and who asks for them.
pub(crate) struct CacheEntry {
    pub(crate) campaign_id: Uuid,
    newest: watch::Sender<Option<Arc<Snapshot>>>,
    /// The newest, at the pace of watchers.
    shown: watch::Sender<Option<Arc<Snapshot>>>,
    /// Milliseconds on the cache's clock.
    fresh_until: AtomicU64,
    asked_at: AtomicU64,
    /// Held by whoever reads again; the others wait for the result.
    pub(crate) lookup: tokio::sync::Mutex<()>,
}

impl CacheEntry {
    fn new(campaign_id: Uuid, now: u64) -> Self {
        Self {
            campaign_id,
            newest: watch::Sender::new(None),
            shown: watch::Sender::new(None),
            fresh_until: AtomicU64::new(0),
            asked_at: AtomicU64::new(now),
            lookup: tokio::sync::Mutex::new(()),
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

/// The campaigns of which something is entry.
pub(crate) struct TotalsCache {
    started: Instant,
    campaigns: RwLock<HashMap<Uuid, Arc<CacheEntry>>>,
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

    /// A campaign's entry, if it is remembered.
    pub(crate) fn get(&self, campaign_id: Uuid) -> Option<Arc<CacheEntry>> {
        self.campaigns.read().unwrap_or_else(PoisonError::into_inner).get(&campaign_id).cloned()
    }

    /// A campaign's entry, a new one if it is not remembered. It is remembered once it has a snapshot:
    /// ids that somebody makes up take no memory.
    pub(crate) fn entry(&self, campaign_id: Uuid) -> Arc<CacheEntry> {
        self.get(campaign_id).unwrap_or_else(|| Arc::new(CacheEntry::new(campaign_id, self.now())))
    }

    /// The snapshot of a campaign, unless it must be looked up.
    pub(crate) fn fresh(&self, entry: &CacheEntry) -> Option<Arc<Snapshot>> {
        let now = self.now();
        // Written once a second at most, so that many readers do not fight for the memory.
        if entry.asked_at.load(Ordering::Relaxed) + 1_000 < now {
            entry.asked_at.store(now, Ordering::Relaxed);
        }
        if now < entry.fresh_until.load(Ordering::Acquire) { entry.newest() } else { None }
    }

    /// Takes in totals that were looked up, and returns the newest snapshot.
    ///
    /// # Errors
    /// The totals cannot be written as JSON.
    pub(crate) fn insert_read(
        &self,
        entry: &Arc<CacheEntry>,
        totals: Totals,
    ) -> Result<Arc<Snapshot>, Problem> {
        let position = totals.position;
        let newest = self.take(entry, totals, |current, read| current <= read)?;
        if newest.position <= position {
            entry.fresh_until.store(self.now() + as_millis(TTL), Ordering::Release);
        }
        self.remember(entry);
        Ok(newest)
    }

    /// Takes in news from Redis, if the campaign is one of those that somebody asked about.
    ///
    /// # Errors
    /// The totals cannot be written as JSON.
    pub(crate) fn insert_news(&self, totals: Totals) -> Result<(), Problem> {
        let Some(entry) = self.get(totals.campaign_id) else { return Ok(()) };
        let position = totals.position;
        let newest = self.take(&entry, totals, |current, news| current < news)?;
        // An old message is no proof that nothing newer was written.
        if newest.position == position {
            entry.fresh_until.store(self.now() + as_millis(TTL), Ordering::Release);
        }
        Ok(())
    }

    /// Replaces the newest snapshot if `replaces` says so of the two positions.
    fn take(
        &self,
        entry: &CacheEntry,
        totals: Totals,
        replaces: impl Fn(i64, i64) -> bool,
    ) -> Result<Arc<Snapshot>, Problem> {
        let snapshot = Arc::new(Snapshot::new(totals)?);
        let mut newest = snapshot.clone();
        let mut is_news = false;
        entry.newest.send_if_modified(|kept| match kept {
            Some(current) if !replaces(current.position, snapshot.position) => {
                newest = current.clone();
                false
            }
            _ => {
                is_news = kept.as_ref().is_none_or(|current| current.position < snapshot.position);
                *kept = Some(snapshot);
                is_news
            }
        });
        if is_news && entry.is_watched() {
            self.news.lock().unwrap_or_else(PoisonError::into_inner).insert(entry.campaign_id);
            self.has_news.notify_one();
        }
        Ok(newest)
    }

    fn remember(&self, entry: &Arc<CacheEntry>) {
        if self.get(entry.campaign_id).is_some() {
            return;
        }
        let mut campaigns = self.campaigns.write().unwrap_or_else(PoisonError::into_inner);
        if campaigns.len() < MAX_CAMPAIGNS {
            campaigns.entry(entry.campaign_id).or_insert_with(|| entry.clone());
        }
    }

    /// A campaign that is going to be watched is remembered in any case; watchers have a limit of
    /// their own.
    pub(crate) fn remember_watched(&self, entry: Arc<CacheEntry>) -> Arc<CacheEntry> {
        let mut campaigns = self.campaigns.write().unwrap_or_else(PoisonError::into_inner);
        campaigns.entry(entry.campaign_id).or_insert(entry).clone()
    }

    /// Shows watchers what is new.
    pub(crate) fn show_news(&self) {
        let news = std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner));
        for entry in news.into_iter().filter_map(|campaign_id| self.get(campaign_id)) {
            entry.show();
        }
    }

    /// Forgets what nobody asks about any more, and returns the watched campaigns that must be looked up.
    pub(crate) fn watched_and_stale(&self) -> Vec<Uuid> {
        let now = self.now();
        let mut campaigns = self.campaigns.write().unwrap_or_else(PoisonError::into_inner);
        campaigns.retain(|_, entry| {
            let asked_at = entry.asked_at.load(Ordering::Relaxed);
            entry.is_watched() || now < asked_at + as_millis(FORGET_AFTER)
        });
        let stale =
            |entry: &&Arc<CacheEntry>| entry.is_watched() && entry.fresh_until.load(Ordering::Acquire) <= now;
        campaigns.values().filter(stale).map(|entry| entry.campaign_id).collect()
    }
}

fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::totals::reply::tests::totals;

    #[test]
    fn an_older_position_never_replaces_a_newer_one() {
        let cache = TotalsCache::new();
        let entry = cache.entry(Uuid::nil());
        assert_eq!(cache.insert_read(&entry, totals(5)).unwrap().position, 5);
        // An outdated snapshot of Redis.
        assert_eq!(cache.insert_read(&entry, totals(3)).unwrap().position, 5);
        cache.insert_news(totals(4)).unwrap();
        assert_eq!(entry.newest().unwrap().position, 5);
        cache.insert_news(totals(6)).unwrap();
        assert_eq!(entry.newest().unwrap().position, 6);
    }

    #[test]
    fn only_what_is_up_to_date_is_trusted() {
        let cache = TotalsCache::new();
        let entry = cache.entry(Uuid::nil());
        assert!(cache.fresh(&entry).is_none());
        cache.insert_read(&entry, totals(5)).unwrap();
        assert_eq!(cache.fresh(&entry).unwrap().position, 5);
        entry.fresh_until.store(0, Ordering::Release);
        // Neither an old message nor an old answer makes what is known fresh again.
        cache.insert_news(totals(4)).unwrap();
        cache.insert_read(&entry, totals(4)).unwrap();
        assert!(cache.fresh(&entry).is_none());
        cache.insert_news(totals(6)).unwrap();
        assert_eq!(cache.fresh(&entry).unwrap().position, 6);
    }

    #[test]
    fn what_is_not_there_is_not_remembered() {
        let cache = TotalsCache::new();
        let _made_up = cache.entry(Uuid::nil());
        assert!(cache.get(Uuid::nil()).is_none());
        cache.insert_news(totals(1)).unwrap();
        assert!(cache.get(Uuid::nil()).is_none());
    }
}
