//! A small payment provider: what truly happened to one payment, what the provider says of it, and which
//! figures are true.
//!
//! The rules of the domain are tested against it. So it is written without them, and names nothing of the
//! crate.

mod dice;
mod life;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use dice::Dice;

/// A time by the provider's clock, in microseconds.
pub(crate) type Instant = DateTime<Utc>;

/// How likely the provider does what makes it hard to follow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dials {
    /// A change follows within the second of the one before. Read by `History::random`, as the next four.
    pub(crate) same_second: f64,
    /// A change follows in the very microsecond of the one before.
    pub(crate) same_instant: f64,
    /// The provider says all its times in whole seconds. Rolled once for a history.
    pub(crate) whole_seconds: f64,
    /// A message is sent some time after its change, and then tells of the object as it stands by then.
    pub(crate) late: f64,
    /// A report does not say when the money moved.
    pub(crate) unsaid: f64,
    /// A message never arrives. Read by `History::delivered`, as the next three.
    pub(crate) lost: f64,
    /// A message arrives two to four times, with the same body.
    pub(crate) repeated: f64,
    /// A message arrives after some that were sent later.
    pub(crate) delayed: f64,
    /// All messages of a delivery arrive in any order. Rolled once for a delivery.
    pub(crate) permuted: f64,
}

impl Dials {
    /// Tells of every change once, in order, at once and exactly; no two changes share a second.
    pub(crate) const TIDY: Dials = Dials {
        same_second: 0.0,
        same_instant: 0.0,
        whole_seconds: 0.0,
        late: 0.0,
        unsaid: 0.0,
        lost: 0.0,
        repeated: 0.0,
        delayed: 0.0,
        permuted: 0.0,
    };

    /// Everything at once.
    pub(crate) const UNRULY: Dials = Dials {
        same_second: 0.2,
        same_instant: 0.1,
        whole_seconds: 0.5,
        late: 0.2,
        unsaid: 0.3,
        lost: 0.4,
        repeated: 0.3,
        delayed: 0.3,
        permuted: 0.5,
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Payment,
    Refund,
    Dispute,
    Reversal,
}

/// Which object. A reversal may have the id of its payment, so an id alone is not enough.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Object {
    pub(crate) kind: Kind,
    pub(crate) id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Failed,
    Cancelled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefundState {
    Pending,
    Succeeded,
    Failed,
    Cancelled,
}

/// An inquiry that ends well is `Won`, as is a dispute; `Reinstated` is a lost one whose money came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DisputeState {
    Inquiry,
    Opened,
    Lost,
    Won,
    Reinstated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReversalState {
    Gone,
    Cancelled,
}

/// How an object stands. The amount of a return is what it is about, whether that is gone or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Payment { authorized: i64, captured: i64, over: Option<Over> },
    Refund { amount: i64, state: RefundState },
    Dispute { amount: i64, state: DisputeState },
    Reversal { amount: i64, state: ReversalState },
}

/// What a message, an answer or a list entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) object: Object,
    pub(crate) standing: Standing,
    /// When it was said.
    pub(crate) stood_at: Instant,
    /// When money last moved with this object; where none has, since when it stands so.
    pub(crate) happened_at: Option<Instant>,
}

/// One true change of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) at: Instant,
    pub(crate) step: Step,
    pub(crate) object: Object,
    /// How the object stands from now on.
    pub(crate) standing: Standing,
    /// When the money moved that the standing tells of: before `at` if only the rest of a payment was
    /// released.
    pub(crate) moved_at: Instant,
    /// Answers and lists do not say when the money moved.
    pub(crate) unsaid: bool,
}

/// What is true at an instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) captured: i64,
    pub(crate) gone_by_refunds: i64,
    pub(crate) gone_by_reversals: i64,
    pub(crate) gone_by_disputes: i64,
    pub(crate) refunded: i64,
    pub(crate) reversed: i64,
    pub(crate) charged_back: i64,
    pub(crate) left: i64,
    pub(crate) loss: i64,
    /// Withdrawn by the disputes that are open.
    pub(crate) in_dispute: i64,
}

macro_rules! steps {
    ($($step:ident),+ $(,)?) => {
        /// How an object may change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Step { $($step),+ }

        impl Step {
            pub(crate) const ALL: &[Step] = &[$(Step::$step),+];
        }
    };
}

steps! {
    Authorized, CapturedWhole, CapturedPart, CapturedMore, Released, Cancelled, Failed, CapturedAfterFailure,
    RefundAsked, RefundAtOnce, RefundTriedAgain, RefundAboveCaptured,
    RefundSucceeded, RefundFailed, RefundCancelled, RefundFailedLate, RefundCancelledLate,
    InquiryOpened, InquiryClosed, InquiryBecameDispute,
    DisputeOpened, DisputeLostAtOnce, DisputeLost, DisputeLostInPart, DisputeWon,
    DisputeReinstated, DisputeReinstatedInPart, DisputeLostAgain, DisputeReopened,
    Reversed, ReversedInPart, ReversalCancelled, ReversedAgain,
}

/// The life of one payment, and what was sent about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct History {
    pub(crate) payment: String,
    pub(crate) whole_seconds: bool,
    /// In the order in which they happened, also where the instants are equal.
    pub(crate) changes: Vec<Change>,
    sent: Vec<Report>,
}

const DELIVERY: u64 = 1;

/// How many messages may overtake a delayed one.
const MOST_OVERTAKING: i64 = 12;

impl History {
    /// What was sent, in that order: a message for each change.
    pub(crate) fn messages(&self) -> Vec<Report> {
        self.sent.clone()
    }

    /// What arrives of the messages, in that order.
    pub(crate) fn delivered(&self, seed: u64, dials: &Dials) -> Vec<Report> {
        let mut dice = Dice::new(seed, DELIVERY);
        let permuted = dice.chance(dials.permuted);
        let mut arrivals = Vec::new();
        for (place, report) in (0i64..).zip(&self.sent) {
            if dice.chance(dials.lost) {
                continue;
            }
            let copies = if dice.chance(dials.repeated) { dice.between(2, 4) } else { 1 };
            for copy in 0..copies {
                let delayed = dice.chance(dials.delayed) || copy > 0;
                let arrival = match (permuted, delayed) {
                    (true, _) => dice.between(0, i64::MAX - 1),
                    (false, true) => place + dice.between(1, MOST_OVERTAKING),
                    (false, false) => place,
                };
                arrivals.push((arrival, report.clone()));
            }
        }
        arrivals.sort_by_key(|(arrival, _)| *arrival);
        arrivals.into_iter().map(|(_, report)| report).collect()
    }

    /// All objects of the payment as they stand, without history. In whole seconds, where the provider says
    /// all times so: a change in the rest of that second then stands at the same time and says something
    /// else.
    pub(crate) fn answer_at(&self, instant: Instant) -> Vec<Report> {
        self.list_at(instant, TimeDelta::zero())
    }

    /// What a list says at `instant` that lags: objects as they stood before, told as if they stood so now.
    pub(crate) fn list_at(&self, instant: Instant, lag: TimeDelta) -> Vec<Report> {
        self.standing_at(instant - lag)
            .into_iter()
            .map(|change| change.reported(instant, change.unsaid, self.whole_seconds))
            .collect()
    }

    /// What is true at `instant`, by what had happened until then.
    pub(crate) fn figures_at(&self, instant: Instant) -> Figures {
        let (mut captured, mut gone, mut in_dispute) = (0, [0; 3], 0);
        for change in self.standing_at(instant) {
            match change.standing {
                Standing::Payment { captured: so_far, .. } => captured = so_far,
                Standing::Refund { amount, state: RefundState::Succeeded } => gone[0] += amount,
                Standing::Reversal { amount, state: ReversalState::Gone } => gone[1] += amount,
                Standing::Dispute { amount, state: DisputeState::Lost } => gone[2] += amount,
                Standing::Dispute { amount, state: DisputeState::Opened } => in_dispute += amount,
                Standing::Refund { .. } | Standing::Reversal { .. } | Standing::Dispute { .. } => {}
            }
        }
        Figures { in_dispute, ..Figures::of(captured, gone) }
    }

    /// A whole second after which nothing happens and nothing is sent. All that was sent stood at least a
    /// second before it, so an answer at it is the last word.
    pub(crate) fn end(&self) -> Instant {
        let changed = self.changes.iter().map(|change| change.at);
        let last = changed.chain(self.sent.iter().map(|report| report.stood_at)).max();
        last.expect("a history has a change").trunc_subsecs(0) + TimeDelta::seconds(2)
    }

    /// The instants at which figures change, in order.
    pub(crate) fn instants(&self) -> Vec<Instant> {
        let mut before = Figures::default();
        let mut instants: Vec<Instant> = self.changes.iter().map(|change| change.at).collect();
        instants.dedup();
        instants.retain(|&instant| {
            let now = self.figures_at(instant);
            std::mem::replace(&mut before, now) != now
        });
        instants
    }

    /// The last change of each object until `instant`, in the order in which the objects came to be.
    fn standing_at(&self, instant: Instant) -> Vec<&Change> {
        let mut objects: Vec<&Change> = Vec::new();
        for change in self.changes.iter().filter(|change| change.at <= instant) {
            match objects.iter_mut().find(|known| known.object == change.object) {
                Some(known) => *known = change,
                None => objects.push(change),
            }
        }
        objects
    }
}

impl Change {
    fn reported(&self, stood_at: Instant, unsaid: bool, whole_seconds: bool) -> Report {
        let said = |instant: Instant| if whole_seconds { instant.trunc_subsecs(0) } else { instant };
        Report {
            object: self.object.clone(),
            standing: self.standing,
            stood_at: said(stood_at),
            happened_at: (!unsaid).then(|| said(self.moved_at)),
        }
    }
}

impl Figures {
    /// `gone` by refunds, reversals and disputes. What is gone is laid end to end in this order, along what
    /// was captured: a kind took as much as lies beside it, what reaches beyond is loss, what is not
    /// reached is left.
    pub(crate) fn of(captured: i64, gone: [i64; 3]) -> Figures {
        let mut reached = 0;
        let [refunded, reversed, charged_back] = gone.map(|length| {
            let begin = reached;
            reached += length;
            reached.min(captured) - begin.min(captured)
        });
        let [gone_by_refunds, gone_by_reversals, gone_by_disputes] = gone;
        Figures {
            captured,
            gone_by_refunds,
            gone_by_reversals,
            gone_by_disputes,
            refunded,
            reversed,
            charged_back,
            left: (captured - reached).max(0),
            loss: (reached - captured).max(0),
            in_dispute: 0,
        }
    }
}
