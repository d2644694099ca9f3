//! Campaigns that were seen open, so that a pledge need not load its campaign.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use chrono::{DateTime, Utc};
use domain::{Campaign, CampaignId, Money, Rules};
use event_store::{Condition, Ledger, LoadedAggregate};
use service::Problem;

use crate::replies::{campaign_rule_problem, load_problem};

/// Most campaigns remembered at once.
const MAX_REMEMBERED: usize = 10_000;

/// A memory that may be stale without harm: the sequence at which a campaign was seen is a
/// condition of the append, so a pledge to a campaign that was closed meanwhile, by whatever
/// process, is not appended.
#[derive(Clone)]
pub(crate) struct OpenCampaigns {
    ledger: Ledger,
    seen: Arc<RwLock<HashMap<CampaignId, Arc<LoadedAggregate<Campaign>>>>>,
}

impl OpenCampaigns {
    pub(crate) fn new(ledger: Ledger) -> Self {
        Self { ledger, seen: Arc::default() }
    }

    /// The condition under which `campaign_id` takes a pledge of `amount` at `now`.
    ///
    /// # Errors
    /// 404 or 422, after a look at the ledger itself.
    pub(crate) async fn condition_for(
        &self,
        campaign_id: CampaignId,
        amount: Money,
        now: DateTime<Utc>,
    ) -> Result<Condition, Problem> {
        if let Some(seen) = self.seen(campaign_id)
            && seen.aggregate.accepts(amount, now).is_ok()
        {
            return Ok(condition(campaign_id, &seen));
        }
        let loaded = self.ledger.load::<Campaign>(campaign_id.0).await.map_err(load_problem)?;
        loaded.aggregate.accepts(amount, now).map_err(campaign_rule_problem)?;
        let condition = condition(campaign_id, &loaded);
        self.remember(campaign_id, loaded);
        Ok(condition)
    }

    /// Forgets a campaign that has moved on.
    pub(crate) fn forget(&self, campaign_id: CampaignId) {
        self.seen.write().unwrap_or_else(PoisonError::into_inner).remove(&campaign_id);
    }

    fn seen(&self, campaign_id: CampaignId) -> Option<Arc<LoadedAggregate<Campaign>>> {
        self.seen.read().unwrap_or_else(PoisonError::into_inner).get(&campaign_id).cloned()
    }

    fn remember(&self, campaign_id: CampaignId, loaded: LoadedAggregate<Campaign>) {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MAX_REMEMBERED {
            seen.clear();
        }
        seen.insert(campaign_id, Arc::new(loaded));
    }
}

fn condition(campaign_id: CampaignId, loaded: &LoadedAggregate<Campaign>) -> Condition {
    Condition { aggregate_type: Campaign::TYPE, aggregate_id: campaign_id.0, sequence: loaded.sequence }
}
