//! Given a state, when a command, then these events or that error: every cell of the table of reports and
//! states. What is above the limit of captures is in `limit`, the figures of what goes back and of accepted
//! money in `returns`, and that order and repetition leave no trace in `orders`.

mod limit;
mod orders;
mod returns;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::*;
use crate::payment::{
    AskReason, DisputeState, Heard, ObjectKey, Outcome, Over, RefundState, ReversalState, ReviewReason,
    Stated, Statement,
};
use crate::{CampaignId, DonorId, Money, PaymentId, PledgeId, Rules, VersionedEvent};
use PledgeStatus::{Authorized, Cancelled, Captured, Completed, Expired, Failed, Pending};

const CAMPAIGN: CampaignId = CampaignId(Uuid::from_u128(1));
const DONOR: DonorId = DonorId(Uuid::from_u128(2));
const OTHER: PledgeId = PledgeId(Uuid::from_u128(3));
const DAY: i64 = 86_400;

fn usd(amount_minor: i64) -> Money {
    Money::new(amount_minor, "USD".parse().unwrap()).unwrap()
}

fn eur(amount_minor: i64) -> Money {
    Money::new(amount_minor, "EUR".parse().unwrap()).unwrap()
}

fn payment(id: &str) -> PaymentId {
    id.parse().unwrap()
}

/// So many seconds after the pledge was made, at midnight.
fn at(seconds: i64) -> DateTime<Utc> {
    "2026-12-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::seconds(seconds)
}

/// Long after everything that is said here.
fn now() -> DateTime<Utc> {
    at(100 * DAY)
}

fn nothing_taken() -> Stated {
    Stated::payment(None, None)
}

fn taken(amount: i64) -> Stated {
    Stated::payment(Some(usd(amount)), None)
}

fn over(how: Over) -> Stated {
    Stated::payment(None, Some(how))
}

fn refund(id: &str, state: RefundState) -> Stated {
    Stated::refund(id.parse().unwrap(), state)
}

fn refunded(id: &str, amount: i64) -> Stated {
    refund(id, RefundState::Succeeded(usd(amount)))
}

fn dispute(state: DisputeState) -> Stated {
    Stated::dispute("d".parse().unwrap(), state)
}

fn opened(amount: i64) -> Stated {
    dispute(DisputeState::Opened(Some(usd(amount))))
}

fn lost(amount: i64) -> Stated {
    dispute(DisputeState::Lost(usd(amount)))
}

fn won() -> Stated {
    dispute(DisputeState::Won)
}

fn reversed(amount: i64) -> Stated {
    Stated::reversal("v".parse().unwrap(), ReversalState::Gone(usd(amount)))
}

fn told(stated: Stated, seconds: i64) -> Statement {
    Statement::told(stated, at(seconds))
}

fn answered(stated: Stated, seconds: i64) -> Statement {
    Statement::answered(stated, at(seconds))
}

fn reserved(amount: i64) -> Statement {
    told(nothing_taken(), 10).authorized(usd(amount))
}

fn facts(id: &str, statements: impl IntoIterator<Item = Statement>) -> Vec<PaymentFact> {
    statements.into_iter().map(|said| PaymentFact::stated(payment(id), said)).collect()
}

fn report_of(facts: Vec<PaymentFact>) -> Report {
    Report::of_facts(facts, CaptureLimit::default(), now())
}

/// What is found by asking, without any message.
fn answers(id: &str, statements: impl IntoIterator<Item = Statement>) -> Report {
    let (heard, limit) = (Heard::default(), CaptureLimit::default());
    let nothing = Report { payment_id: payment(id), heard, settled: None, reason: None, limit, now: now() };
    nothing.answer(facts(id, statements))
}

/// What messages say of payment `id`.
fn says(id: &str, statements: impl IntoIterator<Item = Statement>) -> Report {
    report_of(facts(id, statements))
}

fn settles(id: &str, amount: Money, seconds: i64) -> PaymentFact {
    PaymentFact::settled(payment(id), Settlement { amount, at: at(seconds) })
}

fn record(report: Report) -> PledgeCommand {
    PledgeCommand::Record(report)
}

/// The names of events, as one text.
fn names<'a>(events: impl IntoIterator<Item = &'a PledgeEvent>) -> String {
    events.into_iter().map(|event| event.kind().name).collect::<Vec<_>>().join(" ")
}

/// A pledge, and what projections know of it.
#[derive(Clone, Debug, Default)]
struct Book {
    pledge: Pledge,
    /// All that was posted.
    moves: Vec<MoneyMove>,
}

impl Book {
    /// A pledge of 50.00.
    fn made() -> Self {
        let mut book = Self::default();
        assert_eq!(book.does(&create()), Ok("PledgeCreated".to_owned()));
        book
    }

    /// The names of the events that carry out a command.
    fn does(&mut self, command: &PledgeCommand) -> Result<String, PledgeError> {
        Ok(self.takes(self.pledge.decide(command)?))
    }

    fn takes(&mut self, events: Vec<PledgeEvent>) -> String {
        for event in &events {
            assert!(self.pledge.allows(event), "{:?} does not allow {event:?}", self.pledge);
            self.moves.extend(event.money_moves());
            self.pledge.apply_event(event.clone());
        }
        self.check();
        names(&events)
    }

    fn hears(&mut self, id: &str, statements: impl IntoIterator<Item = Statement>) -> String {
        self.does(&record(says(id, statements))).unwrap()
    }

    /// Hears what was asked about first: the provider answers the same at 99.
    fn asks(&mut self, id: &str, statement: Statement) -> String {
        let asked = record(says(id, [statement.clone()]));
        assert!(matches!(self.pledge.decide(&asked), Err(PledgeError::Asks(..))), "{statement:?}");
        let answer = statement.stated().clone();
        self.does(&record(says(id, [statement]).answer(facts(id, [answered(answer, 99)])))).unwrap()
    }

    fn settles(&mut self, id: &str, amount: i64, seconds: i64) -> String {
        self.does(&record(report_of(vec![settles(id, usd(amount), seconds)]))).unwrap()
    }

    fn record(&self) -> &PledgeRecord {
        self.pledge.record().unwrap()
    }

    fn status(&self) -> PledgeStatus {
        self.pledge.status().unwrap()
    }

    /// What the moves until then add up to.
    fn posted(&self, instant: DateTime<Utc>) -> MoneyMove {
        sum(instant, self.moves.iter().copied().filter(|moved| moved.at <= instant))
    }

    /// Raised, held apart, refunded, reversed, charged back and lost, so many seconds after the start.
    fn at(&self, seconds: i64) -> [i64; 6] {
        figures(self.posted(at(seconds)))
    }

    /// The same in the end.
    fn figures(&self) -> [i64; 6] {
        figures(self.posted(DateTime::<Utc>::MAX_UTC))
    }

    /// What was posted is what the histories say at every instant, and nothing is negative.
    fn check(&self) {
        let Some(record) = self.pledge.record() else { return };
        for moved in &self.moves {
            let seen = sum(moved.at, record.payments.values().map(|payment| seen(payment, moved.at)));
            assert_eq!(self.posted(moved.at), seen, "{:?}", self.pledge);
        }
        let is_from_here = record.payments.values().all(|payment| payment.came_as().is_none());
        let figures = self.figures();
        assert!(!is_from_here || figures.iter().all(|minor| *minor >= 0), "{figures:?}: {:?}", self.pledge);
    }
}

fn figures(moved: MoneyMove) -> [i64; 6] {
    let MoneyMove { unapplied_minor, refunded_minor, reversed_minor, charged_back_minor, .. } = moved;
    let gone = [refunded_minor, reversed_minor, charged_back_minor];
    let [refunded, reversed, charged_back] = gone;
    [moved.raised_minor(), unapplied_minor, refunded, reversed, charged_back, moved.loss_minor]
}

fn sum(instant: DateTime<Utc>, moves: impl IntoIterator<Item = MoneyMove>) -> MoneyMove {
    let none = MoneyMove::none(instant, usd(1).currency());
    moves.into_iter().fold(none, |sum, moved| sum.minus(none.minus(moved)))
}

/// What a pledge should have posted of a payment until an instant, by its history and its use.
fn seen(payment: &PledgePayment, instant: DateTime<Utc>) -> MoneyMove {
    let is_raised = match payment.usage {
        Usage::Applied => true,
        Usage::AppliedSince(accepted_at) => accepted_at <= instant,
        Usage::Uncaptured | Usage::Unapplied(_) | Usage::AcceptedAs(_) => false,
    };
    let settled = payment.settled.filter(|settled| settled.at <= instant);
    let settled_minor = settled.map_or(0, |settled| settled.amount.amount_minor());
    let seen = MoneyMove { settled_minor, ..used(payment, is_raised, instant) };
    payment.came_as().map_or(seen, |came_as| seen.minus(self::seen(came_as, instant)))
}

/// The figures of a payment at an instant, if its money is raised then, or held apart.
fn used(payment: &PledgePayment, is_raised: bool, instant: DateTime<Utc>) -> MoneyMove {
    let figures = payment.history.timeline().at(instant);
    let mut used = MoneyMove::none(instant, payment.history.currency());
    if is_raised {
        used.gifts = i64::from(figures.captured_minor > 0);
        used.captured_minor = figures.captured_minor;
        used.refunded_minor = figures.refunded_minor;
        used.reversed_minor = figures.reversed_minor;
        used.charged_back_minor = figures.charged_back_minor;
    } else {
        used.unapplied_minor = figures.left_minor();
    }
    used.loss_minor = figures.loss_minor;
    used.in_dispute_minor = figures.in_dispute_minor;
    used
}

fn create() -> PledgeCommand {
    PledgeCommand::Create {
        campaign_id: CAMPAIGN,
        donor_id: DONOR,
        amount: usd(5000),
        anonymous: false,
        made_at: at(0),
    }
}

/// A pledge in `status`, by what is told of payment `a` where that means anything: reserved at 10, taken at
/// 20, settled at 30.
fn in_status(status: PledgeStatus) -> Book {
    let mut book = Book::made();
    match status {
        Pending | Expired | Failed => {}
        Authorized | Captured | Completed | Cancelled => assert_eq!(book.hears("a", [reserved(5000)]), AUTH),
    }
    match status {
        Pending | Authorized => {}
        Captured => assert_eq!(book.hears("a", [told(taken(5000), 20)]), CAPT),
        Completed => {
            assert_eq!(book.hears("a", [told(taken(5000), 20)]), CAPT);
            assert_eq!(book.settles("a", 5000, 30), COMP);
        }
        Failed => assert_eq!(book.hears("a", [told(over(Over::Failed), 25)]), FAIL),
        Expired => assert_eq!(book.does(&PledgeCommand::Expire).unwrap(), "PledgeExpired"),
        Cancelled => assert_eq!(book.does(&PledgeCommand::Cancel).unwrap(), "PledgeCancelled"),
    }
    assert_eq!(book.status(), status);
    book
}

const AUTH: &str = "PledgeAuthorized";
const CAPT: &str = "PledgeCaptured";
const COMP: &str = "PledgeCompleted";
const FAIL: &str = "PledgeFailed";
const HELD: &str = "PaymentUnapplied";
const NOTED: &str = "PaymentRecorded";

/// Checks one row of the table: what a report leads to in each status, in the order of `ALL`. The same again
/// says nothing new.
fn row(facts: Vec<PaymentFact>, cells: [&str; 7]) {
    for (status, expected) in PledgeStatus::ALL.into_iter().zip(cells) {
        let (mut book, command) = (in_status(status), record(report_of(facts.clone())));
        assert_eq!(book.does(&command).as_deref(), Ok(expected), "{facts:?} in {status}");
        assert_eq!(book.does(&command).as_deref(), Ok(""), "{facts:?} again, in {status}");
    }
}

#[test]
fn every_report_in_every_state() {
    let taken = |id| facts(id, [told(taken(5000), 20)]);
    let settled = |id| [taken(id), vec![settles(id, usd(5000), 30)]].concat();
    let [auth_capt, capt_comp] = [[AUTH, CAPT], [CAPT, COMP]].map(|names| names.join(" "));
    let all_three = [AUTH, CAPT, COMP].join(" ");
    row(facts("a", [reserved(5000)]), [AUTH, "", "", "", NOTED, NOTED, ""]);
    row(facts("b", [reserved(5000)]), [AUTH, NOTED, NOTED, NOTED, NOTED, NOTED, NOTED]);
    row(taken("a"), [&auth_capt, CAPT, "", "", HELD, HELD, HELD]);
    row(taken("b"), [&auth_capt, CAPT, HELD, HELD, HELD, HELD, HELD]);
    row(settled("a"), [&all_three, &capt_comp, COMP, "", HELD, HELD, HELD]);
    row(settled("b"), [&all_three, &capt_comp, HELD, HELD, HELD, HELD, HELD]);
    // Failures undo no capture.
    row(facts("a", [told(over(Over::Failed), 25)]), [FAIL, FAIL, NOTED, NOTED, "", NOTED, NOTED]);
    row(facts("b", [told(over(Over::Cancelled), 25)]), [FAIL, NOTED, NOTED, NOTED, NOTED, NOTED, NOTED]);
}

#[test]
fn what_goes_back_waits_for_its_capture_in_every_state() {
    for stated in [refunded("r", 2000), opened(5000), won(), lost(2000), reversed(5000)] {
        for status in PledgeStatus::ALL {
            let mut book = in_status(status);
            let before = book.pledge.clone();
            let decision = book.does(&record(says("a", [told(stated.clone(), 40)])));
            match status {
                Captured | Completed => assert_eq!(decision.as_deref(), Ok(NOTED), "{stated:?} in {status}"),
                Pending | Authorized | Failed | Expired | Cancelled => {
                    assert_eq!(decision, Err(PledgeError::AwaitsCapture(payment("a"))));
                    assert_eq!(book.pledge, before);
                }
            }
            assert_eq!(book.status(), status);
        }
    }
}

#[test]
fn an_event_says_what_is_newly_known_and_what_moves() {
    let mut book = in_status(Authorized);
    let said = told(taken(4000), 20).happened_at(at(15));
    let events = book.pledge.decide(&record(says("a", [reserved(5000), said.clone()]))).unwrap();
    let moved = MoneyMove { gifts: 1, captured_minor: 4000, ..MoneyMove::none(at(15), usd(1).currency()) };
    let captured = PledgeEvent::PledgeCaptured {
        campaign_id: CAMPAIGN,
        donor_id: DONOR,
        payment_id: payment("a"),
        amount: usd(4000),
        accepted: None,
        news: News { heard: vec![said], moves: vec![moved], ..News::default() },
    };
    assert_eq!(events, [captured]);
    book.takes(events);
    // The time of an answer that says nothing new is kept where there is an event anyway.
    let same = answered(taken(4000), 50);
    let kept = answers("a", [same.clone()]);
    assert_eq!(book.pledge.decide(&record(kept.clone())), Ok(vec![]));
    let refund = told(refunded("r", 100), 40);
    let events = book.pledge.decide(&record(kept.answer(facts("a", [refund.clone()])))).unwrap();
    assert_eq!(events[0].news().unwrap().heard, [refund, same]);
    assert_eq!(events[0].amount(), Some(usd(4000)));
}

#[test]
fn a_settlement_alone_completes_what_is_captured() {
    for status in PledgeStatus::ALL {
        let settled = record(report_of(vec![settles("a", usd(5000), 30)]));
        let decision = in_status(status).does(&settled);
        match status {
            Captured => assert_eq!(decision.as_deref(), Ok(COMP)),
            Completed => assert_eq!(decision.as_deref(), Ok("")),
            Pending | Authorized | Failed | Expired | Cancelled => {
                assert_eq!(decision, Err(PledgeError::AwaitsCapture(payment("a"))), "{status}");
            }
        }
    }
    let mut book = in_status(Captured);
    book.hears("b", [told(taken(700), 22)]);
    assert_eq!(book.settles("b", 700, 40), NOTED, "money that is held apart");
    assert_eq!((book.status(), book.posted(at(39)).settled_minor), (Captured, 0));
    assert_eq!(book.posted(at(40)).settled_minor, 700);
    assert_eq!(book.settles("b", 700, 50), "", "the first one counts");
}

#[test]
fn money_held_apart_that_was_never_taken_is_corrected_once() {
    let mut book = in_status(Pending);
    assert_eq!(book.hears("a", [told(taken(20_000), 20)]), HELD);
    let correcting = Correcting {
        payment_id: payment("a"),
        stated: over(Over::Failed),
        made_at: at(60),
        happened_at: None,
        unrecorded: vec![],
        note: CorrectionNote { correction_id: Uuid::from_u128(9), text_sha256: String::new() },
        limit: CaptureLimit::default(),
    };
    let correct = PledgeCommand::Correct(Box::new(correcting));
    assert_eq!(book.does(&correct), Ok([NOTED, FAIL].join(" ")));
    assert_eq!(book.posted(at(99)).unapplied_minor, 0);
    assert_eq!(book.does(&correct).as_deref(), Ok(""));
}

#[test]
fn a_payment_that_fails_leaves_the_pledge_to_one_that_is_still_open() {
    let failed = || [told(over(Over::Failed), 25)];
    let mut book = in_status(Pending);
    assert_eq!(book.hears("b", [told(nothing_taken(), 5)]), NOTED, "its page is open");
    assert_eq!(book.hears("a", failed()), NOTED);
    assert_eq!(book.status(), Pending);
    let mut captured = book.clone();
    assert_eq!(captured.hears("b", [told(taken(5000), 30)]), [AUTH, CAPT].join(" "));
    assert_eq!(book.hears("b", failed()), FAIL, "the last one");

    let mut book = in_status(Authorized);
    book.hears("b", [reserved(4000)]);
    assert_eq!(book.hears("a", failed()), NOTED, "another one is reserved");
    assert_eq!(book.status(), Authorized);
    let mut cancelled = book.clone();
    let events = cancelled.pledge.decide(&PledgeCommand::Cancel).unwrap();
    assert_eq!((events[0].payment_id(), events[0].amount()), (Some(&payment("b")), Some(usd(4000))));
    cancelled.takes(events);
    assert_eq!(book.hears("b", failed()), FAIL, "the last one");
}

#[test]
fn only_what_a_finished_pledge_has_reserved_is_voided() {
    for status in PledgeStatus::ALL {
        let mut book = in_status(status);
        assert!(!book.pledge.asks_to_void(&payment("b")), "{status}");
        book.hears("b", [reserved(5000)]);
        let finished = matches!(status, Failed | Expired | Cancelled);
        assert_eq!(book.pledge.asks_to_void(&payment("b")), finished, "{status}");
        assert_eq!(book.pledge.asks_to_void(&payment("a")), status == Cancelled, "{status}");
        // What was taken after all, or has ended, is not voided.
        for end in [taken(5000), over(Over::Cancelled)] {
            let mut book = book.clone();
            book.hears("b", [told(end, 50)]);
            assert!(!book.pledge.asks_to_void(&payment("b")), "{status}");
        }
    }
}

#[test]
fn the_donors_commands_in_every_state() {
    for status in PledgeStatus::ALL {
        let pledge = in_status(status).pledge;
        let decide = |command| pledge.decide(&command).map(|events| names(&events));
        let amend = decide(PledgeCommand::Amend { amount: usd(7000) });
        let cancel = decide(PledgeCommand::Cancel);
        let [amended, cancelled, expired, nothing] =
            ["PledgeAmended", "PledgeCancelled", "PledgeExpired", ""].map(|names| Ok(names.to_owned()));
        assert_eq!(decide(PledgeCommand::Expire), if status == Pending { expired } else { nothing.clone() });
        match status {
            Pending => assert_eq!((amend, cancel), (amended, Err(PledgeError::NotAuthorized(Pending)))),
            Authorized | Cancelled => {
                let done = if status == Authorized { cancelled } else { nothing };
                assert_eq!((amend, cancel), (Err(PledgeError::NotPending(status)), done));
            }
            Captured | Completed | Failed | Expired => {
                let refused = (PledgeError::NotPending(status), PledgeError::NotAuthorized(status));
                assert_eq!((amend, cancel), (Err(refused.0), Err(refused.1)));
            }
        }
        assert_eq!(decide(create()), Err(PledgeError::AlreadyExists));
    }
}

#[test]
fn nothing_can_be_asked_of_a_pledge_that_does_not_exist() {
    let report = says("a", [told(taken(5000), 20)]);
    assert_eq!(Pledge::Absent.record_report(&report), Err(PledgeError::NotFound));
    for command in [
        PledgeCommand::Amend { amount: usd(1) },
        PledgeCommand::Cancel,
        PledgeCommand::Expire,
        PledgeCommand::Apply { payment_id: payment("a"), at: at(1) },
        PledgeCommand::AcceptUnapplied { payment_id: payment("a"), accepted_as: OTHER },
        record(report),
    ] {
        assert_eq!(Pledge::Absent.decide(&command), Err(PledgeError::NotFound), "{command:?}");
    }
}

#[test]
fn amending_to_the_same_amount_says_nothing_and_to_another_currency_is_refused() {
    let pledge = in_status(Pending).pledge;
    assert_eq!(pledge.decide(&PledgeCommand::Amend { amount: usd(5000) }), Ok(vec![]));
    let refused = pledge.decide(&PledgeCommand::Amend { amount: eur(5000) });
    assert!(matches!(refused, Err(PledgeError::Currency(_))));
}

#[test]
fn what_is_said_in_another_currency_needs_review() {
    let amounts = [
        facts("a", [told(Stated::payment(Some(eur(5000)), None), 50)]),
        facts("a", [told(nothing_taken(), 50).authorized(eur(5000))]),
        facts("a", [told(refund("r", RefundState::Succeeded(eur(1))), 50)]),
        vec![settles("a", eur(5000), 50)],
    ];
    for (status, facts) in PledgeStatus::ALL.into_iter().flat_map(|s| amounts.clone().map(|f| (s, f))) {
        let decision = in_status(status).does(&record(report_of(facts)));
        let is_currency = matches!(decision, Err(PledgeError::NeedsReview(Contradiction::Currency(_))));
        assert!(is_currency, "{decision:?} in {status}");
    }
}

#[test]
fn every_event_of_every_state_is_an_edge_or_none_is_allowed() {
    let by = |status, command: &PledgeCommand| in_status(status).pledge.decide(command).unwrap();
    let [captures, fails] = [taken(5000), over(Over::Failed)].map(|said| record(says("a", [told(said, 20)])));
    let settles = record(report_of(vec![settles("a", usd(5000), 30)]));
    let events = [
        by(Pending, &record(says("a", [reserved(5000)]))),
        by(Authorized, &captures),
        by(Captured, &settles),
        by(Pending, &fails),
        by(Authorized, &fails),
        by(Pending, &PledgeCommand::Expire),
        by(Authorized, &PledgeCommand::Cancel),
    ]
    .concat();
    let mut edges = Vec::new();
    for status in PledgeStatus::ALL {
        for event in &events {
            let (_, to) = event.edge().unwrap();
            let pledge = in_status(status).pledge;
            if pledge.allows(event) {
                edges.push((status, to));
                assert_eq!(pledge.evolve(event.clone()).status(), Some(to));
            }
        }
    }
    edges.sort();
    let mut expected = PledgeStatus::EDGES.to_vec();
    expected.sort();
    assert_eq!(edges, expected);
}

/// The event with something else in its fields.
fn changed(event: &PledgeEvent, change: impl FnOnce(&mut serde_json::Value)) -> PledgeEvent {
    let mut written = serde_json::to_value(event).unwrap();
    change(written.as_object_mut().unwrap().values_mut().next().unwrap());
    serde_json::from_value(written).unwrap()
}

/// Promised 5000, authorised 4000, captured 3000: each end says the latest of these that it knows.
#[test]
fn the_end_of_a_pledge_names_its_latest_amount() {
    let mut authorized = Book::made();
    authorized.hears("a", [reserved(4000)]);
    let mut captured = authorized.clone();
    captured.hears("a", [told(taken(3000), 20)]);
    let fails = record(says("a", [told(over(Over::Failed), 20)]));
    let takes = record(says("a", [told(taken(3000), 20)]));
    let settled = record(report_of(vec![settles("a", usd(3000), 30)]));
    for (book, command, amount) in [
        (&Book::made(), PledgeCommand::Expire, 5000),
        (&Book::made(), fails.clone(), 5000),
        (&authorized, fails, 4000),
        (&authorized, PledgeCommand::Cancel, 4000),
        (&authorized, takes, 3000),
        (&captured, settled, 3000),
    ] {
        let events = book.pledge.decide(&command).unwrap();
        let [event] = &events[..] else { panic!("{events:?}") };
        assert_eq!(event.amount(), Some(usd(amount)), "{event:?}");
        assert!(book.pledge.allows(event), "{event:?}");
        let other = changed(event, |fields| fields["amount"]["amount_minor"] = (amount - 1).into());
        assert!(!book.pledge.allows(&other), "{other:?}");
    }
}

#[test]
fn an_auditor_finds_moves_that_do_not_follow() {
    let mut book = in_status(Captured);
    book.hears("u", [told(taken(5000), 22)]);
    let two_moves = [told(refunded("r", 2000), 40), told(lost(5000), 50)];
    let report = report_of([facts("a", two_moves), vec![settles("a", usd(5000), 60)]].concat());
    let [completed] = &book.pledge.decide(&record(report)).unwrap()[..] else { panic!() };
    let [recorded] = &book.pledge.decide(&record(says("u", [told(refunded("r", 1), 40)]))).unwrap()[..]
    else {
        panic!()
    };
    assert_eq!((completed.money_moves().len(), recorded.money_moves().len()), (3, 1));
    let euros = Statement::told(refund("s", RefundState::Succeeded(eur(1))), at(40));
    let euros = serde_json::to_value(euros).unwrap();
    let shifted = serde_json::to_value(at(41)).unwrap();
    let changes: [&dyn Fn(&mut serde_json::Value); 6] = [
        &|news| news["moves"][0]["at"] = shifted.clone(),
        &|news| drop(news["moves"].as_array_mut().unwrap().pop()),
        &|news| drop(news["heard"].as_array_mut().unwrap().pop()),
        &|news| news["heard"].as_array_mut().unwrap().push(euros.clone()),
        &|news| news["moves"][0]["currency"] = "EUR".into(),
        &|news| news["moves"][0]["loss_minor"] = 1.into(),
    ];
    for event in [completed, recorded] {
        assert!(book.pledge.allows(event));
        for (n, change) in changes.iter().enumerate() {
            let other = changed(event, |fields| change(&mut fields["news"]));
            assert!(!book.pledge.allows(&other), "change {n}: {other:?}");
        }
        for (number, _) in serde_json::to_value(event.money_moves()[0]).unwrap().as_object().unwrap() {
            if number.ends_with("_minor") {
                let other = changed(event, |fields| fields["news"]["moves"][0][number] = 77.into());
                assert!(!book.pledge.allows(&other), "{number}: {other:?}");
            }
        }
    }
    let less = changed(recorded, |fields| fields["captured"]["amount_minor"] = 4999.into());
    assert!(!book.pledge.allows(&less), "another amount captured");
    let [settled] = &book.pledge.decide(&record(report_of(vec![settles("a", usd(5), 60)]))).unwrap()[..]
    else {
        panic!()
    };
    let other = changed(settled, |fields| {
        fields["news"]["settled"]["amount"]["currency"] = "EUR".into();
        fields["news"]["moves"][0]["currency"] = "EUR".into();
    });
    assert!(book.pledge.allows(settled) && !book.pledge.allows(&other), "settled in another currency");
}

#[test]
fn an_auditor_finds_payments_in_use() {
    let mut book = in_status(Authorized);
    let captures = |book: &Book, id| book.pledge.decide(&record(says(id, [told(taken(5000), 20)]))).unwrap();
    let [first] = &captures(&book, "a")[..] else { panic!() };
    let wrong = changed(first, |fields| fields["amount"]["amount_minor"] = 4999.into());
    assert!(book.pledge.allows(first) && !book.pledge.allows(&wrong));
    book.takes(vec![first.clone()]);
    assert!(!book.pledge.allows(first), "the same again");
    let [held] = &captures(&book, "u")[..] else { panic!() };
    book.takes(vec![held.clone()]);
    assert!(!book.pledge.allows(held), "held apart again");
    let again = changed(held, |fields| fields["payment_id"] = "a".into());
    assert!(!book.pledge.allows(&again), "held apart, although it pays");
    let completed = book.pledge.decide(&record(report_of(vec![settles("a", usd(5000), 30)]))).unwrap();
    let by_another = changed(&completed[0], |fields| fields["payment_id"] = "u".into());
    assert!(book.pledge.allows(&completed[0]) && !book.pledge.allows(&by_another));
    // Nor does what is held apart pay a pledge without having been accepted.
    let mut waiting = Book::made();
    waiting.hears("a", [told(taken(10_001), 20)]);
    waiting.hears("b", [reserved(5000)]);
    let apply = PledgeCommand::Apply { payment_id: payment("a"), at: at(30) };
    let [applied] = &waiting.pledge.decide(&apply).unwrap()[..] else { panic!() };
    let unaccepted = changed(applied, |fields| drop(fields.as_object_mut().unwrap().remove("accepted")));
    assert!(waiting.pledge.allows(applied) && !waiting.pledge.allows(&unaccepted));
}
