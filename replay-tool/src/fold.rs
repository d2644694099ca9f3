//! Folds the sorted ledger: one campaign or pledge after the other, so that only one is in memory.
//!
//! It shares the domain with the projectors, and nothing else. They add up events as they come; this
//! looks at each campaign and pledge where it stands at the position of each projection.

use std::io;

use domain::{
    Campaign, CampaignEvent, CampaignId, Pledge, PledgeEvent, PledgeId, Rules, StoredEvent, UpcastTable,
};
use uuid::Uuid;

use crate::figures::ByInstant;
use crate::grouping::Grouping;
use crate::ledger::{AggregateType, Fault, SortedLedger, StoredRecord};
use crate::occurrence::{FinalState, Moment, Occurrence};
use crate::payments_once::PaymentsOnce;
use crate::progress::Bar;
use crate::projections::{Audit, Projection};
use crate::rows::Rows;
use crate::sorter::Room;

/// Most faults that are kept: those of the smallest positions.
const MAX_FAULTS: usize = 20;
/// Records between two updates of the progress bar.
const RECORDS_PER_LOOK: u64 = 8_192;

/// A projection at a position, with the rows that are expected of it.
pub(crate) struct Running {
    /// Which one.
    pub(crate) audit: &'static Audit,
    /// Up to where it is folded.
    pub(crate) position: i64,
    /// Its rules.
    pub(crate) projection: Box<dyn Projection>,
    /// Its rows.
    pub(crate) rows: Rows,
}

/// Findings of the fold.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    /// How many campaigns there are.
    pub(crate) campaigns: u64,
    /// How many pledges there are.
    pub(crate) pledges: u64,
    /// Faults of the ledger, by position. If there are any, nothing can be made of it.
    pub(crate) faults: Vec<Fault>,
    /// Payments whose money it has more than once, by position.
    pub(crate) doubled: Vec<Fault>,
}

/// Folds the ledger, and gives each projection what happened up to its position.
///
/// # Errors
/// A temporary file cannot be read or written.
pub(crate) fn fold(
    ledger: &SortedLedger,
    mut running: Vec<Running>,
    room: Room,
    bar: &Bar,
) -> io::Result<(Folded, Vec<Running>)> {
    running.sort_by_key(|running| running.position);
    let mut fold = Fold {
        running,
        checks: Checks {
            campaigns_exist: CampaignsExist::new(room.share(2)),
            payments_once: PaymentsOnce::new(room.share(2)),
        },
        folded: Folded::default(),
        next: 0,
        upcasts: ledger.upcasts,
    };
    fold.folded.faults.extend(ledger.fault.clone());
    let mut records = ledger.sorted.records()?;
    let mut stream = Stream::None;
    let mut done: u64 = 0;
    while let Some((key, value)) = records.next()? {
        let record = StoredRecord::read(key, value)
            .ok_or_else(|| io::Error::other("an event in the temporary file is damaged"))?;
        if !stream.is_of(&record) {
            fold.end(stream)?;
            stream = Stream::of(&record);
        }
        match &mut stream {
            Stream::None => {}
            Stream::Campaign(campaign) => fold.take(campaign, &record)?,
            Stream::Pledge(pledge) => fold.take(pledge, &record)?,
        }
        done += 1;
        if done.is_multiple_of(RECORDS_PER_LOOK) {
            bar.at(done);
        }
    }
    fold.end(stream)?;
    fold.finish()
}

struct Fold {
    upcasts: UpcastTable,
    /// By position.
    running: Vec<Running>,
    checks: Checks,
    folded: Folded,
    /// The first projection that the present aggregate was not settled for yet.
    next: usize,
}

/// What has to hold between one aggregate and another.
struct Checks {
    campaigns_exist: CampaignsExist,
    payments_once: PaymentsOnce,
}

/// The aggregate that is being folded.
enum Stream {
    None,
    Campaign(Current<Campaign>),
    Pledge(Current<Pledge>),
}

struct Current<A> {
    id: Uuid,
    state: A,
    /// What its money counts for.
    money: ByInstant,
    sequence: i64,
    first: Option<Moment>,
    last: Option<Moment>,
    /// Something is wrong with it, and nothing more is made of it.
    broken: bool,
}

impl<A: Default> Current<A> {
    fn new(id: Uuid) -> Self {
        let money = ByInstant::default();
        Self { id, state: A::default(), money, sequence: 0, first: None, last: None, broken: false }
    }
}

impl Stream {
    fn of(record: &StoredRecord<'_>) -> Self {
        match record.kind {
            AggregateType::Campaign => Self::Campaign(Current::new(record.id)),
            AggregateType::Pledge => Self::Pledge(Current::new(record.id)),
        }
    }

    fn is_of(&self, record: &StoredRecord<'_>) -> bool {
        match self {
            Self::None => false,
            Self::Campaign(current) => record.kind == AggregateType::Campaign && record.id == current.id,
            Self::Pledge(current) => record.kind == AggregateType::Pledge && record.id == current.id,
        }
    }
}

/// The two kinds of aggregates, as far as they are folded alike.
trait Foldable: Rules<Event: Clone> {
    fn show_event(projection: &mut Running, occurrence: &Occurrence<'_, Self>) -> io::Result<()>;
    fn show_end(projection: &mut Running, end: &FinalState<'_, Self>) -> io::Result<()>;
    fn note(checks: &mut Checks, id: Uuid, event: &Self::Event, at: Moment) -> io::Result<()>;
    fn note_end(checks: &mut Checks, id: Uuid, end: &Self) -> io::Result<()>;
    /// What its money counts for after `event`, if that is about a payment.
    fn money_after(&self, event: &Self::Event) -> Option<ByInstant>;
}

impl Foldable for Campaign {
    fn show_event(running: &mut Running, occurrence: &Occurrence<'_, Self>) -> io::Result<()> {
        running.projection.campaign_event(occurrence, &mut running.rows)
    }

    fn show_end(running: &mut Running, end: &FinalState<'_, Self>) -> io::Result<()> {
        running.projection.campaign(end, &mut running.rows)
    }

    fn note(checks: &mut Checks, id: Uuid, event: &CampaignEvent, at: Moment) -> io::Result<()> {
        if let CampaignEvent::CampaignCreated(_) = event {
            checks.campaigns_exist.created(CampaignId(id), at.position)?;
        }
        Ok(())
    }

    fn note_end(_: &mut Checks, _: Uuid, _: &Self) -> io::Result<()> {
        Ok(())
    }

    fn money_after(&self, _: &CampaignEvent) -> Option<ByInstant> {
        None
    }
}

impl Foldable for Pledge {
    fn show_event(running: &mut Running, occurrence: &Occurrence<'_, Self>) -> io::Result<()> {
        running.projection.pledge_event(occurrence, &mut running.rows)
    }

    fn show_end(running: &mut Running, end: &FinalState<'_, Self>) -> io::Result<()> {
        running.projection.pledge(end, &mut running.rows)
    }

    fn note(checks: &mut Checks, _: Uuid, event: &PledgeEvent, at: Moment) -> io::Result<()> {
        // Later events stay with the campaign that it was made for.
        if let PledgeEvent::PledgeCreated { campaign_id, .. } = event {
            checks.campaigns_exist.used(*campaign_id, at.position)?;
        }
        if let Some(payment_id) = event.payment_id() {
            checks.payments_once.note(payment_id, at.position);
        }
        Ok(())
    }

    fn note_end(checks: &mut Checks, id: Uuid, end: &Self) -> io::Result<()> {
        checks.payments_once.end(PledgeId(id), end)
    }

    fn money_after(&self, event: &PledgeEvent) -> Option<ByInstant> {
        event.payment_id().and(self.record()).map(ByInstant::of)
    }
}

impl Fold {
    /// Takes the next event of an aggregate.
    fn take<A: Foldable>(&mut self, current: &mut Current<A>, record: &StoredRecord<'_>) -> io::Result<()> {
        if current.broken {
            return Ok(());
        }
        let event = match decode::<A>(record, self.upcasts) {
            Ok(event) => event,
            Err(error) => {
                let what = format!("event at position {} cannot be understood: {error}", record.position);
                return self.break_off(current, record, what);
            }
        };
        if record.sequence != current.sequence + 1 {
            let what = format!(
                "position {}: sequence {} follows {} in its stream",
                record.position, record.sequence, current.sequence
            );
            return self.break_off(current, record, what);
        }
        if !current.state.allows(&event) {
            let what = format!(
                "position {}: {} is no edge of the state machine from there",
                record.position, record.event_type
            );
            return self.break_off(current, record, what);
        }
        while self.running.get(self.next).is_some_and(|running| running.position < record.position) {
            self.settle(current, self.next)?;
            self.next += 1;
        }
        let at = Moment { position: record.position, recorded_at: record.recorded_at };
        A::note(&mut self.checks, current.id, &event, at)?;
        current.state.apply_event(event.clone());
        let changed = current.state.money_after(&event).map_or_else(ByInstant::default, |money| {
            let changed = money.since(&current.money);
            current.money = money;
            changed
        });
        let occurrence = Occurrence {
            id: current.id,
            event: &event,
            event_type: record.event_type,
            after: &current.state,
            changed: &changed,
            sequence: record.sequence,
            at,
        };
        for running in &mut self.running[self.next..] {
            A::show_event(running, &occurrence)?;
        }
        current.sequence = record.sequence;
        current.first = current.first.or(Some(at));
        current.last = Some(at);
        Ok(())
    }

    fn break_off<A>(
        &mut self,
        current: &mut Current<A>,
        record: &StoredRecord<'_>,
        what: String,
    ) -> io::Result<()> {
        current.broken = true;
        add_fault(&mut self.folded.faults, Fault { position: record.position, what });
        Ok(())
    }

    fn settle<A: Foldable>(&mut self, current: &Current<A>, nth: usize) -> io::Result<()> {
        let (Some(first), Some(last)) = (current.first, current.last) else { return Ok(()) };
        let Current { id, state, money, .. } = current;
        let end = FinalState { id: *id, state, money, first, last };
        A::show_end(&mut self.running[nth], &end)
    }

    /// Nothing more happens to an aggregate.
    fn end(&mut self, stream: Stream) -> io::Result<()> {
        match stream {
            Stream::None => {}
            Stream::Campaign(current) => {
                self.folded.campaigns += 1;
                self.settle_rest(&current)?;
            }
            Stream::Pledge(current) => {
                self.folded.pledges += 1;
                self.settle_rest(&current)?;
            }
        }
        self.next = 0;
        Ok(())
    }

    fn settle_rest<A: Foldable>(&mut self, current: &Current<A>) -> io::Result<()> {
        A::note_end(&mut self.checks, current.id, &current.state)?;
        (self.next..self.running.len()).try_for_each(|nth| self.settle(current, nth))
    }

    fn finish(mut self) -> io::Result<(Folded, Vec<Running>)> {
        self.checks.campaigns_exist.finish(&mut self.folded)?;
        self.checks.payments_once.finish(|fault| add_fault(&mut self.folded.doubled, fault))?;
        for Running { projection, rows, .. } in &mut self.running {
            projection.finish(rows)?;
        }
        Ok((self.folded, self.running))
    }
}

fn decode<A: Foldable>(
    record: &StoredRecord<'_>,
    upcasts: UpcastTable,
) -> Result<A::Event, domain::DecodeError> {
    upcasts.decode_as(StoredEvent {
        aggregate_type: A::TYPE,
        aggregate_id: "",
        event_type: record.event_type,
        event_version: record.event_version,
        payload: record.payload,
    })
}

fn add_fault(faults: &mut Vec<Fault>, fault: Fault) {
    let at = faults.partition_point(|known| *known < fault);
    if at < MAX_FAULTS {
        faults.insert(at, fault);
        faults.truncate(MAX_FAULTS);
    }
}

/// Every campaign exists before the first pledge for it.
struct CampaignsExist(Grouping<16, 2>);

impl CampaignsExist {
    fn new(room: Room) -> Self {
        Self(Grouping::new(room, |sum, more| {
            for (earliest, other) in sum.iter_mut().zip(more) {
                *earliest = (*earliest).min(*other);
            }
        }))
    }

    fn created(&mut self, campaign_id: CampaignId, position: i64) -> io::Result<()> {
        self.0.add(*campaign_id.0.as_bytes(), [position, i64::MAX])
    }

    fn used(&mut self, campaign_id: CampaignId, position: i64) -> io::Result<()> {
        self.0.add(*campaign_id.0.as_bytes(), [i64::MAX, position])
    }

    fn finish(self, folded: &mut Folded) -> io::Result<()> {
        self.0.finish(|id, [created, used]| {
            if used < created {
                let what =
                    format!("position {used}: campaign {} does not exist", CampaignId(Uuid::from_bytes(id)));
                add_fault(&mut folded.faults, Fault { position: used, what });
            }
            Ok(())
        })
    }
}
