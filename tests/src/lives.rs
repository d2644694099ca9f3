//! Whole lives of pledges, appended to the ledger without the API: as many as wanted, of every kind.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::Utc;
use domain::campaign::CampaignDetails;
use domain::pledge::UnappliedReason;
use domain::{
    Campaign, CampaignCommand, CampaignId, DonorId, Money, MoneyHeld, Pledge, PledgeEvent, PledgeStatus,
};
use event_store::{Ledger, Metadata};
use futures_util::StreamExt;
use futures_util::stream;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sqlx::PgPool;
use uuid::Uuid;

/// Pledges appended at once.
const AT_ONCE: usize = 64;

/// A seeded source of pledges' lives.
pub struct Lives {
    ledger: Ledger,
    random: StdRng,
    pub campaigns: Vec<Uuid>,
    donors: Vec<Uuid>,
    /// Events that the ledger has confirmed.
    pub appended: AtomicI64,
}

/// One pledge, and what happens to it in two steps.
struct Life {
    id: Uuid,
    first: Vec<PledgeEvent>,
    second: Vec<PledgeEvent>,
}

fn usd(amount_minor: i64) -> Money {
    Money::new(amount_minor, "USD".parse().unwrap()).unwrap()
}

impl Lives {
    /// Opens `campaigns` campaigns.
    pub async fn start(pool: PgPool, seed: u64, campaigns: usize) -> Self {
        let ledger = Ledger::start(pool);
        let mut opened = Vec::new();
        for n in 0..campaigns {
            let id = Uuid::now_v7();
            let create = CampaignCommand::Create(CampaignDetails {
                title: format!("Campaign {n}").parse().unwrap(),
                description: None,
                goal: usd(100_000_000),
                ends_at: None,
            });
            ledger.create::<Campaign>(id, &create, vec![], &Metadata::default(), None).await.unwrap();
            let publish = CampaignCommand::Publish { now: Utc::now() };
            ledger.execute::<Campaign>(id, &publish, &Metadata::default()).await.unwrap();
            opened.push(id);
        }
        let mut random = StdRng::seed_from_u64(seed);
        let donors = (0..500).map(|_| Uuid::from_u128(random.random())).collect();
        Self { ledger, random, campaigns: opened, donors, appended: AtomicI64::new(0) }
    }

    /// Appends the lives of `pledges` pledges. Where Postgres is away, a pledge stays where it is.
    pub async fn append(&mut self, pledges: usize) {
        let lives: Vec<Life> = (0..pledges).map(|_| self.life()).collect();
        let this = &*self;
        stream::iter(lives).for_each_concurrent(AT_ONCE, |life| this.append_one(life)).await;
    }

    async fn append_one(&self, life: Life) {
        let first = life.first.len() as i64;
        for (sequence, events) in [(0, life.first), (first, life.second)] {
            if events.is_empty() {
                return;
            }
            let count = events.len() as i64;
            let events: Vec<_> = events.into_iter().map(|event| (event, Metadata::default())).collect();
            if self.ledger.append_events::<Pledge>(life.id, sequence, &events).await.is_err() {
                return;
            }
            self.appended.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn life(&mut self) -> Life {
        let id = Uuid::from_u128(self.random.random());
        let campaign_id = CampaignId(self.campaigns[self.random.random_range(0..self.campaigns.len())]);
        let donor_id = DonorId(self.donors[self.random.random_range(0..self.donors.len())]);
        let minor: i64 = self.random.random_range(100..10_000);
        let amount = usd(minor);
        let part = usd(self.random.random_range(1..=minor));
        let payment_id: domain::PaymentId = format!("pay_{id}").parse().unwrap();
        let payment = || payment_id.clone();
        let created =
            PledgeEvent::PledgeCreated { campaign_id, donor_id, amount, anonymous: self.random.random() };
        let authorized = PledgeEvent::PledgeAuthorized { campaign_id, payment_id: payment(), amount };
        let captured = PledgeEvent::PledgeCaptured {
            campaign_id,
            donor_id,
            payment_id: payment(),
            amount,
            was_unapplied: false,
        };
        let completed = PledgeEvent::PledgeCompleted { campaign_id, payment_id: payment(), amount };
        let reason = UnappliedReason::NotNeeded;
        let unapplied =
            PledgeEvent::PaymentUnapplied { campaign_id, donor_id, payment_id: payment(), amount, reason };
        let refunded = |amount, held| PledgeEvent::PaymentRefunded {
            campaign_id,
            donor_id,
            payment_id: payment(),
            refund_id: format!("re_{id}").parse().unwrap(),
            amount,
            held,
        };
        let held = MoneyHeld::Raised;
        let dispute_id: domain::DisputeId = format!("dp_{id}").parse().unwrap();
        let disputed = PledgeEvent::PaymentDisputed {
            campaign_id,
            donor_id,
            payment_id: payment(),
            dispute_id: dispute_id.clone(),
            amount: part,
            held,
        };
        let lost = PledgeEvent::DisputeLost {
            campaign_id,
            donor_id,
            payment_id: payment(),
            dispute_id,
            amount: part,
            held,
        };
        let from = PledgeStatus::Authorized;
        let failed =
            PledgeEvent::PledgeFailed { campaign_id, from, payment_id: payment(), amount, reason: None };
        let expired = PledgeEvent::PledgeExpired { campaign_id, amount };
        let (first, second) = match self.random.random_range(0..20) {
            0 => (vec![created, authorized], vec![failed]),
            1 => (vec![created, expired], vec![unapplied]),
            2 => (vec![created, expired, unapplied], vec![refunded(amount, MoneyHeld::Unapplied)]),
            3 => (vec![created, authorized, captured], vec![refunded(part, held), completed]),
            4 => (vec![created, authorized], vec![captured, completed, disputed, lost]),
            5 => (vec![created], vec![]),
            6 => (vec![created, expired], vec![]),
            _ => (vec![created, authorized], vec![captured, completed]),
        };
        Life { id, first, second }
    }
}
