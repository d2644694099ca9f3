//! A fold of the ledger that shares nothing with the projectors but the domain: they add up
//! events, this looks at the final state of every pledge.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use domain::pledge::{PledgeRecord, Usage};
use domain::{Campaign, CampaignId, CampaignStatus, DonorId, Event, Pledge, PledgeId, PledgeStatus};
use event_store::RecordedEvent;
use read_model::{PledgeCounts, Totals};

/// Everything that happened up to one position.
#[derive(Default)]
pub(crate) struct LedgerFold {
    /// The last position folded.
    pub(crate) position: i64,
    recorded_at: Option<DateTime<Utc>>,
    pub(crate) campaigns: HashMap<CampaignId, Folded<Campaign>>,
    pub(crate) pledges: HashMap<PledgeId, Folded<Pledge>>,
    /// The last event about each campaign, its pledges' included.
    last: HashMap<CampaignId, (i64, DateTime<Utc>)>,
}

/// An aggregate and where it stands.
#[derive(Default)]
pub(crate) struct Folded<A> {
    pub(crate) state: A,
    pub(crate) sequence: i64,
    /// The position of its own last event.
    pub(crate) position: i64,
}

impl LedgerFold {
    /// Folds the next event.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence: a hole in the positions or in its stream, time running
    /// backwards, or a transition that is no edge.
    pub(crate) fn fold(&mut self, recorded: RecordedEvent) -> Result<(), String> {
        let at = recorded.position;
        if at != self.position + 1 {
            return Err(format!("position {} is missing: {at} follows {}", self.position + 1, self.position));
        }
        if self.recorded_at.is_some_and(|before| recorded.recorded_at < before) {
            return Err(format!("position {at}: its time is before that of position {}", self.position));
        }
        self.position = at;
        self.recorded_at = Some(recorded.recorded_at);
        let campaign_id = match recorded.event {
            Event::Campaign(id, event) => {
                let folded = self.campaigns.entry(id).or_default();
                let allowed = folded.state.allows(&event);
                step(folded, at, recorded.sequence, &recorded.event_type, allowed)?;
                folded.state = std::mem::take(&mut folded.state).evolve(event);
                id
            }
            Event::Pledge(id, event) => {
                let campaign_id = event.campaign_id();
                let folded = self.pledges.entry(id).or_default();
                let same_campaign =
                    folded.state.record().is_none_or(|record| record.campaign_id == campaign_id);
                let allowed = same_campaign && folded.state.allows(&event);
                step(folded, at, recorded.sequence, &recorded.event_type, allowed)?;
                folded.state = std::mem::take(&mut folded.state).evolve(event);
                campaign_id
            }
        };
        if !self.campaigns.contains_key(&campaign_id) {
            return Err(format!("position {at}: campaign {campaign_id} does not exist"));
        }
        self.last.insert(campaign_id, (at, recorded.recorded_at));
        Ok(())
    }

    /// The totals of every campaign, by its id.
    pub(crate) fn totals(&self) -> Result<BTreeMap<CampaignId, Totals>, String> {
        let mut donors: HashMap<CampaignId, BTreeSet<DonorId>> = HashMap::new();
        let mut totals: BTreeMap<CampaignId, Totals> = BTreeMap::new();
        for (id, campaign) in &self.campaigns {
            let (Some(details), Some((position, as_of))) = (campaign.state.details(), self.last.get(id))
            else {
                continue;
            };
            totals.insert(
                *id,
                Totals {
                    campaign_id: id.0,
                    published: campaign.state.status() != Some(CampaignStatus::Draft),
                    currency: details.goal.currency().code().to_owned(),
                    goal_minor: details.goal.amount_minor(),
                    raised_minor: 0,
                    refunded_minor: 0,
                    charged_back_minor: 0,
                    unapplied_minor: 0,
                    donors: 0,
                    pledges: PledgeCounts::default(),
                    position: *position,
                    as_of: *as_of,
                },
            );
        }
        for record in self.pledges.values().filter_map(|pledge| pledge.state.record()) {
            let Some(total) = totals.get_mut(&record.campaign_id) else { continue };
            *count(&mut total.pledges, record.state.status()) += 1;
            add_money(total, record)?;
            if record.applied().is_some() {
                donors.entry(record.campaign_id).or_default().insert(record.donor_id);
            }
        }
        for (id, donors) in donors {
            if let Some(total) = totals.get_mut(&id) {
                total.donors = donors.len() as i64;
            }
        }
        Ok(totals)
    }
}

/// Adds what is left of a pledge's payments to the figure that it is in. Money that was accepted as
/// another pledge is in that pledge.
fn add_money(total: &mut Totals, record: &PledgeRecord) -> Result<(), String> {
    for taken in record.taken.values() {
        match taken.usage {
            Usage::Applied => {
                total.raised_minor = add(total.raised_minor, taken.left_minor())?;
                total.refunded_minor = add(total.refunded_minor, taken.refunded_minor())?;
                total.charged_back_minor = add(total.charged_back_minor, taken.charged_back_minor())?;
            }
            Usage::Unapplied => total.unapplied_minor = add(total.unapplied_minor, taken.left_minor())?,
            Usage::Accepted(_) => {}
        }
    }
    Ok(())
}

fn step<A>(
    folded: &mut Folded<A>,
    at: i64,
    sequence: i64,
    event_type: &str,
    allowed: bool,
) -> Result<(), String> {
    if sequence != folded.sequence + 1 {
        return Err(format!("position {at}: sequence {sequence} follows {} in its stream", folded.sequence));
    }
    if !allowed {
        return Err(format!("position {at}: {event_type} is no edge of the state machine from there"));
    }
    folded.sequence = sequence;
    folded.position = at;
    Ok(())
}

fn count(counts: &mut PledgeCounts, status: PledgeStatus) -> &mut i64 {
    match status {
        PledgeStatus::Pending => &mut counts.pending,
        PledgeStatus::Authorized => &mut counts.authorized,
        PledgeStatus::Captured => &mut counts.captured,
        PledgeStatus::Completed => &mut counts.completed,
        PledgeStatus::Failed => &mut counts.failed,
        PledgeStatus::Expired => &mut counts.expired,
        PledgeStatus::Cancelled => &mut counts.cancelled,
    }
}

fn add(sum: i64, amount: i64) -> Result<i64, String> {
    sum.checked_add(amount).ok_or_else(|| "a total is too large for 64 bits".to_owned())
}
