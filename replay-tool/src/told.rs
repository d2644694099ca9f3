//! A small ledger for tests: what providers say of pledges is decided by the domain, and folded here.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use domain::campaign::CampaignDetails;
use domain::payment::{Stated, Statement};
use domain::pledge::{CaptureLimit, PledgePayment, Report, Settlement};
use domain::{
    Campaign, CampaignEvent, CampaignId, DonorId, Money, PaymentFact, PaymentId, Pledge, PledgeCommand,
    PledgeEvent, PledgeId, Rules, UpcastTable, VersionedEvent,
};
use uuid::Uuid;

use crate::figures::ByInstant;
use crate::fold::{Folded, Running, fold};
use crate::ledger::{AggregateType, SortedLedger};
use crate::progress::Progress;
use crate::projections::Audit;
use crate::rows::Rows;
use crate::sorter::{Room, Sorter};
use crate::tuple::Tuple;

pub(crate) const CAMPAIGN: CampaignId = CampaignId(Uuid::from_u128(1));
pub(crate) const DONOR: DonorId = DonorId(Uuid::from_u128(2));
pub(crate) const PLEDGE: PledgeId = PledgeId(Uuid::from_u128(3));
pub(crate) const OTHER: PledgeId = PledgeId(Uuid::from_u128(4));

/// Noon of a day.
pub(crate) fn noon(day: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::hours(24 * day + 12)
}

pub(crate) fn eur(minor: i64) -> Money {
    Money::new(minor, "EUR".parse().unwrap()).unwrap()
}

pub(crate) fn pay() -> PaymentId {
    "pay_1".parse().unwrap()
}

/// So much was captured so far, at noon of a day.
pub(crate) fn captured(day: i64, minor: i64) -> Statement {
    Statement::told(Stated::payment(Some(eur(minor)), None), noon(day))
}

/// A refund, a dispute or a reversal stood so at noon of a day.
pub(crate) fn told(day: i64, stated: Stated) -> Statement {
    Statement::told(stated, noon(day))
}

/// A ledger of one campaign.
pub(crate) struct Told {
    pledges: BTreeMap<PledgeId, Pledge>,
    stored: Vec<Stored>,
}

struct Stored {
    kind: AggregateType,
    id: Uuid,
    event_type: &'static str,
    event_version: &'static str,
    payload: String,
    recorded_at: DateTime<Utc>,
}

impl Told {
    /// The campaign was made.
    pub(crate) fn new() -> Self {
        let title = "Wells".parse().unwrap();
        let goal = eur(100_000);
        let details = CampaignDetails { title, description: None, goal, ends_at: None };
        let mut told = Self { pledges: BTreeMap::new(), stored: Vec::new() };
        told.store::<Campaign>(
            AggregateType::Campaign,
            CAMPAIGN.0,
            &CampaignEvent::CampaignCreated(details),
            0,
        );
        told
    }

    /// A pledge of 5000 was made on a day.
    pub(crate) fn pledge(mut self, pledge_id: PledgeId, day: i64) -> Self {
        let create = PledgeCommand::Create {
            campaign_id: CAMPAIGN,
            donor_id: DONOR,
            amount: eur(5000),
            anonymous: false,
            made_at: noon(day),
        };
        self.decide(pledge_id, &create, day);
        self
    }

    /// The same pledge expired on a day.
    pub(crate) fn expired(mut self, pledge_id: PledgeId, day: i64) -> Self {
        self.decide(pledge_id, &PledgeCommand::Expire, day);
        self
    }

    /// What is said of payment `pay_1` of a pledge is recorded on a day.
    pub(crate) fn hear(mut self, pledge_id: PledgeId, day: i64, statements: &[Statement]) -> Self {
        let facts = statements.iter().map(|statement| PaymentFact::stated(pay(), statement.clone()));
        let report = Report::of_facts(facts, CaptureLimit::default(), noon(day));
        self.decide(pledge_id, &PledgeCommand::Record(report), day);
        self
    }

    /// The same of its settlement, which came on a day.
    pub(crate) fn settled(mut self, pledge_id: PledgeId, day: i64, minor: i64) -> Self {
        let fact = PaymentFact::settled(pay(), Settlement { amount: eur(minor), at: noon(day) });
        self.decide(pledge_id, &PledgeCommand::record(fact, noon(day)), day);
        self
    }

    /// The payment that a pledge holds apart is accepted as another one.
    pub(crate) fn accepted(mut self, from: PledgeId, to: PledgeId, day: i64) -> Self {
        let create = self.pledges[&from].create_accepted(&pay(), noon(day)).unwrap();
        self.decide(from, &PledgeCommand::AcceptUnapplied { payment_id: pay(), accepted_as: to }, day);
        self.decide(to, &create, day);
        self
    }

    /// The payment that a pledge holds apart pays that pledge.
    pub(crate) fn applied(mut self, pledge_id: PledgeId, day: i64) -> Self {
        self.decide(pledge_id, &PledgeCommand::Apply { payment_id: pay(), at: noon(day) }, day);
        self
    }

    fn decide(&mut self, pledge_id: PledgeId, command: &PledgeCommand, day: i64) {
        let pledge = self.pledges.get(&pledge_id).cloned().unwrap_or_default();
        for event in pledge.decide(command).unwrap() {
            self.append(pledge_id, event, day);
        }
    }

    /// An event that nobody decided on.
    pub(crate) fn append(&mut self, pledge_id: PledgeId, event: PledgeEvent, day: i64) {
        self.store::<Pledge>(AggregateType::Pledge, pledge_id.0, &event, day);
        self.pledges.entry(pledge_id).or_default().apply_event(event);
    }

    fn store<A: Rules<Event: serde::Serialize>>(
        &mut self,
        kind: AggregateType,
        id: Uuid,
        event: &A::Event,
        day: i64,
    ) {
        self.stored.push(Stored {
            kind,
            id,
            event_type: event.kind().name,
            event_version: event.kind().version,
            payload: serde_json::to_string(event).unwrap(),
            recorded_at: noon(day),
        });
    }

    /// A pledge as it stands.
    pub(crate) fn state(&self, pledge_id: PledgeId) -> &Pledge {
        &self.pledges[&pledge_id]
    }

    /// Payment `pay_1` of a pledge as it stands.
    pub(crate) fn payment(&self, pledge_id: PledgeId) -> &PledgePayment {
        &self.state(pledge_id).record().unwrap().payments[&pay()]
    }

    /// What the money of a pledge counts for.
    pub(crate) fn money(&self, pledge_id: PledgeId) -> ByInstant {
        ByInstant::of(self.state(pledge_id).record().unwrap())
    }

    /// The rows that a table of a projection is expected to have, with the values of some columns.
    pub(crate) fn rows(&self, audit: &'static Audit, table: &str, columns: &[&str]) -> Vec<String> {
        let (folded, rows) = self.fold(audit, table);
        assert_eq!(folded.faults, []);
        let table = audit.tables.iter().find(|known| known.name == table).unwrap();
        let sorted = rows.into_sorted().unwrap();
        let mut records = sorted.records().unwrap();
        let mut found = Vec::new();
        while let Some((_, row)) = records.next().unwrap() {
            let fields = table.read(row);
            let value = |column: &&str| {
                fields.iter().find(|(name, _)| name == column).map(|(_, value)| value.to_string()).unwrap()
            };
            found.push(columns.iter().map(value).collect::<Vec<_>>().join(" "));
        }
        found
    }

    /// Folds all of it.
    pub(crate) fn fold(&self, audit: &'static Audit, table: &str) -> (Folded, Rows) {
        let nth = audit.tables.iter().position(|known| known.name == table).unwrap();
        let position = self.stored.len() as i64;
        let projection = (audit.make)(&room());
        let rows = Rows::sorted(audit.tables, nth, &room());
        let running = vec![Running { audit, position, projection, rows }];
        let bar = Progress::shown().begin("", 1);
        let (folded, mut running) = fold(&self.sorted(), running, room(), &bar).unwrap();
        (folded, running.remove(0).rows)
    }

    fn sorted(&self) -> SortedLedger {
        let mut sorter = Sorter::new(room());
        let mut sequences: BTreeMap<Uuid, i64> = BTreeMap::new();
        for (position, stored) in (1_i64..).zip(&self.stored) {
            let sequence = sequences.entry(stored.id).or_default();
            *sequence += 1;
            let mut key = vec![stored.kind as u8];
            key.extend_from_slice(stored.id.as_bytes());
            key.extend_from_slice(&position.to_be_bytes());
            let mut tuple = Tuple::default();
            let fields = tuple
                .begin()
                .push(*sequence)
                .push(stored.event_type)
                .push(stored.event_version)
                .push(stored.payload.as_str())
                .push(stored.recorded_at);
            sorter.push(&key, &[&fields.bytes()[2..]]).unwrap();
        }
        SortedLedger {
            sorted: sorter.finish().unwrap(),
            position: self.stored.len() as i64,
            as_of: None,
            upcasts: UpcastTable::default(),
            fault: None,
        }
    }
}

fn room() -> Room {
    Room { bytes: 1_000_000, folder: std::env::temp_dir() }
}
