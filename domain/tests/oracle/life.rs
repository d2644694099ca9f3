//! How a history comes about: what may happen next, when it does, and what is sent about it.

use chrono::{DateTime, TimeDelta};

use super::dice::Dice;
use super::{
    Change, Dials, DisputeState, History, Instant, Kind, Object, Over, RefundState, Report, ReversalState,
    Standing, Step,
};

const STEPS: u64 = 2;
const CLOCK: u64 = 3;
const TELLING: u64 = 4;

const MOST_CHANGES: i64 = 18;
const MOST_AUTHORIZED: i64 = 10_000;
const MOST_DISPUTES: usize = 3;
const MOST_REVERSALS: usize = 2;

/// A midnight to begin at: 2026-03-01, in microseconds.
const FIRST_MIDNIGHT: i64 = 1_772_323_200 * SECOND;
const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;

/// Something that may happen next, how likely beside the others, and to which object.
struct Way {
    weight: i64,
    step: Step,
    object: Object,
    standing: Standing,
}

/// A payment that lives. Of the dice, those for the steps read no dial: they lead to the same changes under
/// all.
struct Life {
    steps: Dice,
    clock: Dice,
    payment: Object,
    /// The provider has no ids for reversals, and uses the payment's.
    nameless_reversals: bool,
    now: Instant,
    changes: Vec<Change>,
}

impl History {
    /// A history from a seed. Another dial is the same changes at other times and told otherwise.
    pub(crate) fn random(seed: u64, dials: &Dials) -> History {
        let mut steps = Dice::new(seed, STEPS);
        let mut clock = Dice::new(seed, CLOCK);
        let payment = Object { kind: Kind::Payment, id: format!("pay_{seed}") };
        let nameless_reversals = steps.chance(0.5);
        // Many begin shortly before midnight, so that seconds lie beside the border of a day.
        let begin =
            if clock.chance(0.2) { clock.between(DAY - 2 * SECOND, DAY) } else { clock.between(0, DAY) };
        let now = DateTime::from_timestamp_micros(FIRST_MIDNIGHT + begin).expect("a time in 2026");
        let changes = Vec::new();
        let mut life = Life { steps, clock, payment, nameless_reversals, now, changes };

        let length = life.steps.between(1, MOST_CHANGES);
        life.be_born();
        while (life.changes.len() as i64) < length && life.go_on(dials) {}

        let mut telling = Dice::new(seed, TELLING);
        for change in &mut life.changes {
            change.unsaid = telling.chance(dials.unsaid);
        }
        let whole_seconds = telling.chance(dials.whole_seconds);
        let mut history =
            History { payment: life.payment.id, whole_seconds, changes: life.changes, sent: Vec::new() };
        history.sent = told(&history, telling, dials);
        history
    }
}

/// A message for each change, in the order of sending.
fn told(history: &History, mut telling: Dice, dials: &Dials) -> Vec<Report> {
    let mut sent: Vec<(Instant, Report)> = Vec::new();
    for change in &history.changes {
        let late = telling.chance(dials.late);
        let delay = some_time(&mut telling);
        let unsaid = telling.chance(dials.unsaid);
        let (sent_at, shown) = if late {
            let sent_at = change.at + delay;
            let standing = history.standing_at(sent_at);
            let shown = standing.into_iter().find(|shown| shown.object == change.object);
            (sent_at, shown.unwrap_or(change))
        } else {
            (change.at, change)
        };
        sent.push((sent_at, shown.reported(sent_at, unsaid, history.whole_seconds)));
    }
    sent.sort_by_key(|(sent_at, _)| *sent_at);
    sent.into_iter().map(|(_, report)| report).collect()
}

/// A second at least: then two times are different also in whole seconds.
fn some_time(dice: &mut Dice) -> TimeDelta {
    let (least, most) =
        [(SECOND, 10 * SECOND), (60 * SECOND, 5 * HOUR), (DAY, 4 * DAY)][dice.between(0, 2) as usize];
    TimeDelta::microseconds(dice.between(least, most))
}

impl Life {
    /// First heard of as authorized, or only by what came of it.
    fn be_born(&mut self) {
        let authorized = match self.steps.between(0, 9) {
            0 => self.steps.between(1, 5),
            _ => self.steps.between(1, MOST_AUTHORIZED),
        };
        let fresh = Standing::Payment { authorized, captured: 0, over: None };
        let mut ways = self.next_of(&self.payment.clone(), fresh);
        let likely = ways.iter().map(|way| way.weight).sum();
        ways.push(Way {
            weight: likely,
            step: Step::Authorized,
            object: self.payment.clone(),
            standing: fresh,
        });
        self.take_one(ways);
    }

    /// One more change, if anything can still happen.
    fn go_on(&mut self, dials: &Dials) -> bool {
        let mut ways = Vec::new();
        for (object, standing) in self.standing() {
            ways.extend(self.next_of(&object, standing));
        }
        ways.extend(self.new_returns());
        if ways.is_empty() {
            return false;
        }
        self.pass_time(dials);
        self.take_one(ways);
        true
    }

    fn pass_time(&mut self, dials: &Dials) {
        let same_instant = self.clock.chance(dials.same_instant);
        let same_second = self.clock.chance(dials.same_second);
        let rest_of_second = SECOND - 1 - i64::from(self.now.timestamp_subsec_micros());
        let later = some_time(&mut self.clock);
        if same_second && rest_of_second > 0 && !same_instant {
            self.now += TimeDelta::microseconds(self.clock.between(1, rest_of_second));
        } else if !same_instant {
            self.now += later;
        }
    }

    fn take_one(&mut self, ways: Vec<Way>) {
        let mut chosen = self.steps.between(1, ways.iter().map(|way| way.weight).sum());
        let way = ways.into_iter().find(|way| {
            chosen -= way.weight;
            chosen <= 0
        });
        let Way { step, object, standing, .. } = way.expect("the choice is within the sum of weights");
        let before = self.changes.iter().rev().find(|change| change.object == object);
        let moved_at = match (before, standing) {
            // What was captured stays where it is when the rest is released.
            (Some(before), Standing::Payment { captured: 1.., over: Some(_), .. }) => before.moved_at,
            _ => self.now,
        };
        self.changes.push(Change { at: self.now, step, object, standing, moved_at, unsaid: false });
    }

    /// All objects as they stand now.
    fn standing(&self) -> Vec<(Object, Standing)> {
        let mut standing: Vec<(Object, Standing)> = Vec::new();
        for change in &self.changes {
            standing.retain(|(object, _)| *object != change.object);
            standing.push((change.object.clone(), change.standing));
        }
        standing
    }

    /// What may become of an object.
    fn next_of(&mut self, object: &Object, standing: Standing) -> Vec<Way> {
        let ways = match standing {
            Standing::Payment { authorized, captured, over } => {
                self.next_of_payment(authorized, captured, over)
            }
            Standing::Refund { amount, state } => next_of_refund(amount, state),
            Standing::Dispute { amount, state } => self.next_of_dispute(amount, state),
            Standing::Reversal { amount, state } => next_of_reversal(amount, state),
        };
        let of_object = |(weight, step, standing)| Way { weight, step, object: object.clone(), standing };
        ways.into_iter().map(of_object).collect()
    }

    fn next_of_payment(
        &mut self,
        authorized: i64,
        captured: i64,
        over: Option<Over>,
    ) -> Vec<(i64, Step, Standing)> {
        let rest = authorized - captured;
        let with = |captured, over| Standing::Payment { authorized, captured, over };
        match (over, captured) {
            (None, 0) => {
                let part = self.steps.between(1, (rest - 1).max(1));
                vec![
                    (6, Step::CapturedWhole, with(authorized, None)),
                    (if rest > 1 { 6 } else { 0 }, Step::CapturedPart, with(part, None)),
                    (1, Step::Cancelled, with(0, Some(Over::Cancelled))),
                    (1, Step::Failed, with(0, Some(Over::Failed))),
                ]
            }
            (None, _) if rest > 0 => {
                let more = if self.steps.chance(0.5) { rest } else { self.steps.between(1, rest) };
                vec![
                    (4, Step::CapturedMore, with(captured + more, None)),
                    (2, Step::Released, with(captured, Some(Over::Cancelled))),
                ]
            }
            // A payment that was declined may be tried again; one that was cancelled is over.
            (Some(Over::Failed), _) => vec![(4, Step::CapturedAfterFailure, with(authorized, None))],
            (None, _) | (Some(Over::Cancelled), _) => Vec::new(),
        }
    }

    fn next_of_dispute(&mut self, amount: i64, state: DisputeState) -> Vec<(i64, Step, Standing)> {
        let as_state = |state| Standing::Dispute { amount, state };
        let part = self.steps.between(1, (amount - 1).max(1));
        let lost_part = Standing::Dispute { amount: part, state: DisputeState::Lost };
        let if_parts = if amount > 1 { 1 } else { 0 };
        match state {
            DisputeState::Inquiry => vec![
                (3, Step::InquiryBecameDispute, as_state(DisputeState::Opened)),
                (1, Step::InquiryClosed, as_state(DisputeState::Won)),
            ],
            DisputeState::Opened => vec![
                (3, Step::DisputeLost, as_state(DisputeState::Lost)),
                (if_parts, Step::DisputeLostInPart, lost_part),
                (2, Step::DisputeWon, as_state(DisputeState::Won)),
            ],
            DisputeState::Lost => vec![
                (2, Step::DisputeReinstated, as_state(DisputeState::Reinstated)),
                (if_parts, Step::DisputeReinstatedInPart, lost_part),
            ],
            DisputeState::Won | DisputeState::Reinstated => vec![
                (2, Step::DisputeLostAgain, as_state(DisputeState::Lost)),
                (1, Step::DisputeReopened, as_state(DisputeState::Opened)),
            ],
        }
    }

    /// What may begin, once something is captured.
    fn new_returns(&mut self) -> Vec<Way> {
        let standing = self.standing();
        let (mut captured, mut asked_back, mut to_try_again, mut returns) = (0, 0, None, [0; 3]);
        for (_, standing) in &standing {
            match *standing {
                Standing::Payment { captured: so_far, .. } => captured = so_far,
                Standing::Refund { amount, state } => {
                    returns[0] += 1;
                    match state {
                        RefundState::Pending | RefundState::Succeeded => asked_back += amount,
                        RefundState::Failed | RefundState::Cancelled => to_try_again = Some(amount),
                    }
                }
                Standing::Dispute { .. } => returns[1] += 1,
                Standing::Reversal { .. } => returns[2] += 1,
            }
        }
        let mut ways = Vec::new();
        if captured == 0 {
            return ways;
        }
        let mut begin = |weight, step, object: &Object, standing| {
            ways.push(Way { weight, step, object: object.clone(), standing });
        };
        let new_object =
            |kind, prefix, number| Object { kind, id: format!("{prefix}_{}_{number}", self.payment.id) };

        let refund = new_object(Kind::Refund, "re", returns[0]);
        let refund_of = |amount, state| Standing::Refund { amount, state };
        // The provider refuses to give back more than was taken, whatever else is gone; a rate may exceed it.
        let room = captured - asked_back;
        if room > 0 {
            let amount = if self.steps.chance(0.4) { room } else { self.steps.between(1, room) };
            begin(2, Step::RefundAsked, &refund, refund_of(amount, RefundState::Pending));
            begin(2, Step::RefundAtOnce, &refund, refund_of(amount, RefundState::Succeeded));
            let above = room + self.steps.between(1, 1 + captured / 20);
            begin(1, Step::RefundAboveCaptured, &refund, refund_of(above, RefundState::Succeeded));
        }
        if let Some(amount) = to_try_again.filter(|amount| *amount <= room) {
            begin(4, Step::RefundTriedAgain, &refund, refund_of(amount, RefundState::Pending));
        }

        let amount = match self.steps.between(0, 3) {
            0 => self.steps.between(1, captured),
            1 => captured + self.steps.between(1, 1 + captured / 20),
            _ => captured,
        };
        if returns[1] < MOST_DISPUTES {
            let dispute = new_object(Kind::Dispute, "dp", returns[1]);
            let dispute_of = |state| Standing::Dispute { amount, state };
            begin(1, Step::InquiryOpened, &dispute, dispute_of(DisputeState::Inquiry));
            begin(2, Step::DisputeOpened, &dispute, dispute_of(DisputeState::Opened));
            begin(1, Step::DisputeLostAtOnce, &dispute, dispute_of(DisputeState::Lost));
        }

        let most_reversals = if self.nameless_reversals { 1 } else { MOST_REVERSALS };
        if returns[2] < most_reversals {
            let named = new_object(Kind::Reversal, "rv", returns[2]);
            let nameless = Object { kind: Kind::Reversal, id: self.payment.id.clone() };
            let reversal = if self.nameless_reversals { nameless } else { named };
            let reversal_of = |amount| Standing::Reversal { amount, state: ReversalState::Gone };
            begin(2, Step::Reversed, &reversal, reversal_of(captured));
            if captured > 1 {
                let part = self.steps.between(1, captured - 1);
                begin(1, Step::ReversedInPart, &reversal, reversal_of(part));
            }
        }
        ways
    }
}

fn next_of_refund(amount: i64, state: RefundState) -> Vec<(i64, Step, Standing)> {
    let as_state = |state| Standing::Refund { amount, state };
    match state {
        RefundState::Pending => vec![
            (4, Step::RefundSucceeded, as_state(RefundState::Succeeded)),
            (1, Step::RefundFailed, as_state(RefundState::Failed)),
            (1, Step::RefundCancelled, as_state(RefundState::Cancelled)),
        ],
        RefundState::Succeeded => vec![
            (2, Step::RefundFailedLate, as_state(RefundState::Failed)),
            (1, Step::RefundCancelledLate, as_state(RefundState::Cancelled)),
        ],
        RefundState::Failed | RefundState::Cancelled => Vec::new(),
    }
}

fn next_of_reversal(amount: i64, state: ReversalState) -> Vec<(i64, Step, Standing)> {
    let as_state = |state| Standing::Reversal { amount, state };
    match state {
        ReversalState::Gone => vec![(2, Step::ReversalCancelled, as_state(ReversalState::Cancelled))],
        ReversalState::Cancelled => vec![(2, Step::ReversedAgain, as_state(ReversalState::Gone))],
    }
}
