//! Whole lives of pledges, appended to the ledger without the API: as many as wanted, of every kind.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{TimeDelta, Utc};
use domain::campaign::CampaignDetails;
use domain::payment::{DisputeState, Over, RefundState, ReversalState, Stated, Statement};
use domain::pledge::Settlement;
use domain::{
    Campaign, CampaignCommand, CampaignId, DonorId, Money, PaymentFact, Pledge, PledgeCommand, PledgeEvent,
    Rules,
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
        let made_at = Utc::now();
        let anonymous = self.random.random();
        let payment_id: domain::PaymentId = format!("pay_{id}").parse().unwrap();
        let told = |second, stated| Statement::told(stated, made_at + TimeDelta::seconds(second));
        let record = |fact| PledgeCommand::record(fact, made_at + TimeDelta::minutes(1));
        let stated = |statement| record(PaymentFact::stated(payment_id.clone(), statement));
        let create = PledgeCommand::Create { campaign_id, donor_id, amount, anonymous, made_at };
        let authorize = stated(told(1, Stated::payment(None, None)).authorized(amount));
        let capture = stated(told(2, Stated::payment(Some(amount), None)));
        let settle = record(PaymentFact::settled(payment_id.clone(), Settlement { amount, at: made_at }));
        let refund = |amount| {
            let refund_id = format!("re_{id}").parse().unwrap();
            stated(told(3, Stated::refund(refund_id, RefundState::Succeeded(amount))))
        };
        let dispute = |second, state| {
            let dispute_id = format!("dp_{id}").parse().unwrap();
            stated(told(second, Stated::dispute(dispute_id, state)))
        };
        let open = dispute(3, DisputeState::Opened(Some(part)));
        let lose = dispute(4, DisputeState::Lost(part));
        let reversal_id = format!("rev_{id}").parse().unwrap();
        let bounce = stated(told(5, Stated::reversal(reversal_id, ReversalState::Gone(amount))));
        let fail = stated(told(6, Stated::payment(None, Some(Over::Failed))));
        let (first, second) = match self.random.random_range(0..20) {
            0 => (vec![create, authorize], vec![fail]),
            1 => (vec![create, PledgeCommand::Expire], vec![capture]),
            2 => (vec![create, PledgeCommand::Expire, capture], vec![refund(amount)]),
            3 => (vec![create, authorize, capture], vec![refund(part), settle]),
            4 => (vec![create, authorize], vec![capture, settle, open, lose]),
            5 => (vec![create], vec![]),
            6 => (vec![create, PledgeCommand::Expire], vec![]),
            7 => (vec![create, authorize, capture], vec![settle, refund(part), bounce]),
            _ => (vec![create, authorize], vec![capture, settle]),
        };
        let mut pledge = Pledge::default();
        let [first, second] = [first, second].map(|commands| {
            let mut events = Vec::new();
            for command in commands {
                let decided = pledge.decide(&command).unwrap();
                decided.iter().cloned().for_each(|event| pledge.apply_event(event));
                events.extend(decided);
            }
            events
        });
        Life { id, first, second }
    }
}
