//! The model of money against a provider that it does not know: what is heard of a true history, in whatever
//! order and however much of it, leads to the figures that are true.
//!
//! `PROOF_HISTORIES` says how many histories; a thousand, unless it is set.
#![allow(clippy::unwrap_used)]

#[path = "oracle/mod.rs"]
#[allow(dead_code, reason = "shared with the tests of the oracle itself")]
mod oracle;

use std::collections::BTreeSet;

use chrono::{SubsecRound, TimeDelta};
use domain::payment::{
    self, Content, Decision, Figures, Heard, ObjectKey, Outcome, PaymentHistory, Stated, Statement, Timeline,
};
use domain::pledge::{self, CaptureLimit, Usage};
use domain::{
    CampaignId, Currency, DonorId, Money, MoneyMove, PaymentFact, PaymentId, Pledge, PledgeCommand, PledgeId,
    PledgeStatus, Rules,
};
use oracle::{
    Dials, DisputeState, History, Instant, Kind, Object, Over, RefundState, Report, ReversalState, Standing,
};
use uuid::Uuid;

fn seeds() -> std::ops::Range<u64> {
    let histories = std::env::var("PROOF_HISTORIES").map(|number| number.parse().unwrap());
    0..histories.unwrap_or(1_000)
}

fn currency() -> Currency {
    "USD".parse().unwrap()
}

fn money(amount_minor: i64) -> Money {
    Money::new(amount_minor, currency()).unwrap()
}

fn key(object: &Object) -> ObjectKey {
    match object.kind {
        Kind::Payment => ObjectKey::Payment,
        Kind::Refund => ObjectKey::Refund(object.id.parse().unwrap()),
        Kind::Dispute => ObjectKey::Dispute(object.id.parse().unwrap()),
        Kind::Reversal => ObjectKey::Reversal(object.id.parse().unwrap()),
    }
}

fn stated(object: &Object, standing: Standing) -> Stated {
    let id = &object.id;
    match standing {
        Standing::Payment { captured, over, .. } => {
            let over = over.map(|over| match over {
                Over::Failed => payment::Over::Failed,
                Over::Cancelled => payment::Over::Cancelled,
            });
            Stated::payment((captured > 0).then(|| money(captured)), over)
        }
        Standing::Refund { amount, state } => {
            let state = match state {
                RefundState::Pending => payment::RefundState::Asked,
                RefundState::Succeeded => payment::RefundState::Succeeded(money(amount)),
                RefundState::Failed => payment::RefundState::Failed,
                RefundState::Cancelled => payment::RefundState::Cancelled,
            };
            Stated::refund(id.parse().unwrap(), state)
        }
        Standing::Dispute { amount, state } => {
            let state = match state {
                DisputeState::Inquiry => payment::DisputeState::Inquiry,
                DisputeState::Opened => payment::DisputeState::Opened(Some(money(amount))),
                DisputeState::Lost => payment::DisputeState::Lost(money(amount)),
                DisputeState::Won => payment::DisputeState::Won,
                DisputeState::Reinstated => payment::DisputeState::Reinstated,
            };
            Stated::dispute(id.parse().unwrap(), state)
        }
        Standing::Reversal { amount, state } => {
            let state = match state {
                ReversalState::Gone => payment::ReversalState::Gone(money(amount)),
                ReversalState::Cancelled => payment::ReversalState::Cancelled,
            };
            Stated::reversal(id.parse().unwrap(), state)
        }
    }
}

fn with_times(statement: Statement, report: &Report) -> Statement {
    let statement = match report.standing {
        Standing::Payment { authorized, .. } => statement.authorized(money(authorized)),
        Standing::Refund { .. } | Standing::Dispute { .. } | Standing::Reversal { .. } => statement,
    };
    match report.happened_at {
        Some(happened_at) => statement.happened_at(happened_at),
        None => statement,
    }
}

fn told(report: &Report) -> Statement {
    with_times(Statement::told(stated(&report.object, report.standing), report.stood_at), report)
}

fn truth(history: &History, instant: Instant) -> Figures {
    let oracle::Figures { captured, refunded, reversed, charged_back, loss, in_dispute, .. } =
        history.figures_at(instant);
    Figures {
        captured_minor: captured,
        refunded_minor: refunded,
        reversed_minor: reversed,
        charged_back_minor: charged_back,
        loss_minor: loss,
        in_dispute_minor: in_dispute,
    }
}

/// Whoever keeps the books of one payment: decides what is heard, and asks the provider where that is
/// needed.
struct Bookkeeper<'a> {
    provider: &'a History,
    books: PaymentHistory,
    /// The sum of the moves of all decisions: what projections have.
    posted: Timeline,
    /// What waits for an answer or for a person.
    waiting: Vec<Statement>,
    now: Instant,
    questions: usize,
    /// All that was recorded or kept, in that order.
    heard: Vec<Statement>,
}

impl<'a> Bookkeeper<'a> {
    fn of(provider: &'a History) -> Self {
        let created_at = provider.changes[0].at.trunc_subsecs(0);
        Self {
            provider,
            books: PaymentHistory::new(currency(), created_at),
            posted: Timeline::default(),
            waiting: vec![],
            now: created_at,
            questions: 0,
            heard: vec![],
        }
    }

    fn hear_all<'r>(&mut self, reports: impl IntoIterator<Item = &'r Report>) {
        for report in reports {
            self.now = self.now.max(report.stood_at);
            self.hear(told(report));
        }
    }

    /// Decides a message, and asks until nothing more comes of it.
    fn hear(&mut self, statement: Statement) {
        self.waiting.push(statement);
        let heard = Heard::messages(std::mem::take(&mut self.waiting));
        self.settle(heard);
    }

    /// Asks for all objects as they stand, whatever is known of them.
    fn ask(&mut self) {
        let heard = Heard::messages(std::mem::take(&mut self.waiting));
        let heard = self.answer_to(heard);
        self.settle(heard);
    }

    fn settle(&mut self, mut heard: Heard) {
        loop {
            let decision = self.books.decide(&heard, self.now).unwrap();
            self.post(&decision);
            let is_open = |statement: &&Statement| match decision.outcomes[statement.object()] {
                Outcome::Recorded | Outcome::Known => false,
                Outcome::Ask(_) | Outcome::Wait | Outcome::Review(_) => true,
            };
            if !heard.statements().iter().any(|statement| is_open(&statement)) {
                return;
            }
            let review = decision.outcomes.iter().find(|(_, outcome)| matches!(outcome, Outcome::Review(_)));
            assert_eq!(review, None, "a provider that says the truth needs no review: {:#?}", self.provider);
            heard = self.answer_to(heard);
        }
    }

    /// The question stands at a time that has come: the answer is true then.
    fn answer_to(&mut self, heard: Heard) -> Heard {
        self.questions += 1;
        self.now = self.books.question_stands_at(self.now, heard.statements());
        let answer = self.provider.answer_at(self.now);
        let answered = answer.iter().map(|report| {
            with_times(Statement::answered(stated(&report.object, report.standing), self.now), report)
        });
        heard.answer(answered.collect())
    }

    fn post(&mut self, decision: &Decision) {
        self.books.apply(decision).unwrap();
        self.heard.extend(decision.recorded.iter().chain(&decision.kept).cloned());
        self.posted.extend(decision.moves.iter().copied());
        assert_eq!(self.posted, self.books.timeline(), "moves add up: {:#?}", self.provider);
        assert_eq!(self.posted.last(), self.books.figures(), "{:#?}", self.provider);
    }
}

const IN_ANY_ORDER: Dials = Dials { repeated: 0.3, delayed: 0.3, permuted: 0.5, ..Dials::TIDY };

/// Whether two changes lie within a few seconds. An answer may then stand in the second of the next change,
/// and which of two outcomes in one second came first is known by the order of neither.
fn is_crowded(history: &History) -> bool {
    history.changes.windows(2).any(|pair| pair[1].at - pair[0].at < TimeDelta::seconds(3))
}

/// Every instant has the figures that were true then, whatever the order in which it was heard.
#[test]
fn nothing_is_lost_and_every_instant_is_true() {
    let (mut questions, mut compared) = (0, 0);
    for seed in seeds() {
        let dials = Dials { unsaid: 0.3, ..IN_ANY_ORDER };
        let history = History::random(seed, &dials);
        if is_crowded(&history) {
            continue;
        }
        compared += 1;
        for order in 0..3 {
            let mut keeper = Bookkeeper::of(&history);
            keeper.hear_all(&history.delivered(seed + order, &dials));
            assert_eq!(keeper.waiting, []);
            for instant in history.instants().into_iter().chain([history.end()]) {
                assert_eq!(keeper.posted.at(instant), truth(&history, instant), "{instant} of {history:#?}");
            }
            questions += keeper.questions;
        }
    }
    assert!(questions > 0, "some histories need questions");
    assert!(compared > seeds().end / 3, "{compared} histories were compared");
}

/// Times in whole seconds, equal times, missing times and late messages: the figures are true in the end, and
/// the same in every order.
#[test]
fn a_provider_with_coarse_times_is_followed_to_the_end() {
    for seed in seeds() {
        let dials = Dials { lost: 0.0, ..Dials::UNRULY };
        let history = History::random(seed, &dials);
        for order in 0..3 {
            let mut keeper = Bookkeeper::of(&history);
            keeper.hear_all(&history.delivered(seed + order, &dials));
            assert_eq!(
                keeper.books.figures(),
                truth(&history, history.end()),
                "order {order} of {history:#?}"
            );
        }
    }
}

/// What is lost is found by asking, and what arrives after that is old news.
#[test]
fn lost_messages_are_found_by_asking_and_change_nothing_later() {
    for seed in seeds() {
        let history = History::random(seed, &Dials::UNRULY);
        let mut keeper = Bookkeeper::of(&history);
        let delivered = history.delivered(seed, &Dials::UNRULY);
        keeper.hear_all(&delivered);
        keeper.now = keeper.now.max(history.end());
        keeper.ask();
        let expected = truth(&history, history.end());
        assert_eq!(keeper.books.figures(), expected, "{history:#?}");
        let messages = history.messages();
        let lost: Vec<&Report> = messages.iter().filter(|report| !delivered.contains(report)).collect();
        keeper.hear_all(lost.into_iter().rev());
        assert_eq!(keeper.books.figures(), expected, "old messages change nothing: {history:#?}");
    }
}

/// Whoever heard the same has the same, at every instant, even if it is not all.
#[test]
fn the_same_set_has_the_same_timeline_in_every_order() {
    for seed in seeds() {
        let history = History::random(seed, &Dials::UNRULY);
        let mut keeper = Bookkeeper::of(&history);
        keeper.hear_all(&history.delivered(seed, &Dials::UNRULY));
        let mut backward = Bookkeeper::of(&history);
        for statement in keeper.heard.iter().rev() {
            backward.books.hear(statement.clone()).unwrap();
        }
        assert_eq!(backward.books.timeline(), keeper.posted, "{history:#?}");
    }
}

/// The content as it is compared: a payment of which something is captured is the same, over or not.
fn compared(content: Content) -> String {
    match content {
        Content::Payment(payment::PaymentState { captured: Some(captured), .. }) => captured.to_string(),
        other => format!("{other:?}"),
    }
}

/// A person states one object as it is not. That holds against all that was known, and gives way to news.
#[test]
fn a_correction_holds_until_there_is_news() {
    let (mut held, mut gave_way) = (0, 0);
    for seed in seeds() {
        let history = History::random(seed, &IN_ANY_ORDER);
        let messages = history.messages();
        let cut = (seed as usize * 7) % messages.len();
        let (before, after) = messages.split_at(cut + 1);
        let object = key(&before[seed as usize % before.len()].object);
        for reversed in [false, true] {
            let mut keeper = Bookkeeper::of(&history);
            // Some of it is not heard yet.
            let is_heard = |n: usize, report: &Report| key(&report.object) != object || n % 3 != 1;
            let heard = before.iter().enumerate().filter(|(n, report)| is_heard(*n, report));
            keeper.hear_all(heard.map(|(_, report)| report));
            let last = before.iter().map(|report| report.stood_at).max().unwrap();
            let made_at = keeper.now.max(last) + TimeDelta::milliseconds(1);
            let wrong = match &object {
                ObjectKey::Payment => Stated::payment(Some(money(77)), None),
                ObjectKey::Refund(id) => {
                    Stated::refund(id.clone(), payment::RefundState::Succeeded(money(77)))
                }
                ObjectKey::Dispute(id) => Stated::dispute(id.clone(), payment::DisputeState::Lost(money(77))),
                ObjectKey::Reversal(id) => {
                    Stated::reversal(id.clone(), payment::ReversalState::Gone(money(77)))
                }
            };
            let correction = keeper.books.correction(wrong.clone(), made_at, None, &keeper.waiting).unwrap();
            let known: BTreeSet<String> =
                correction.heard().iter().map(|content| compared(*content)).collect();
            let made_second = correction.stood_at().timestamp();
            let moves = keeper.books.correct(correction).unwrap();
            keeper.posted.extend(moves);
            keeper.now = made_at;
            // What was known, once more, and what stood before and was not known.
            let questions = keeper.questions;
            keeper.hear_all(before);
            if keeper.questions > questions {
                // An answer may well be news.
                continue;
            }
            assert_eq!(keeper.books.counts(&object), Some(wrong.content()), "{history:#?}");
            assert!(keeper.books.is_corrected(&object));

            let rest: Vec<&Report> =
                if reversed { after.iter().rev().collect() } else { after.iter().collect() };
            keeper.hear_all(rest.iter().copied());
            keeper.now = keeper.now.max(history.end());
            keeper.ask();
            let is_news = keeper.heard.iter().filter(|said| *said.object() == object).any(|said| {
                let is_known = known.contains(&compared(said.content()));
                said.stood_at().timestamp() > made_second && (!is_known || said.own_instant() > Some(made_at))
            });
            let ends_as = history.answer_at(history.end());
            let ends_as = ends_as.iter().find(|report| key(&report.object) == object).unwrap();
            let ends_as = stated(&ends_as.object, ends_as.standing).content();
            if is_news {
                gave_way += 1;
                assert!(!keeper.books.is_corrected(&object), "{object:?} {known:?} of {history:#?}");
                assert_eq!(
                    keeper.books.counts(&object).map(Content::gone_minor),
                    Some(ends_as.gone_minor()),
                    "{history:#?}"
                );
            } else {
                held += 1;
                assert_eq!(keeper.books.counts(&object), Some(wrong.content()), "{object:?} of {history:#?}");
            }
        }
    }
    assert!(held > 0 && gave_way > 0, "{held} held, {gave_way} gave way");
}

/// Whoever keeps a pledge, and what projections have of it. A payment that is accepted as another pledge is
/// followed there.
struct Donation<'a> {
    provider: &'a History,
    payment_id: PaymentId,
    pledge: Pledge,
    /// All that was posted, by whichever pledge.
    moves: Vec<MoneyMove>,
    waiting: Vec<PaymentFact>,
    now: Instant,
}

impl<'a> Donation<'a> {
    /// A capture of more than twice what is promised is held apart.
    fn promised(provider: &'a History, amount: i64) -> Self {
        let (made_at, payment_id) =
            (provider.changes[0].at.trunc_subsecs(0), provider.payment.parse().unwrap());
        let (pledge, moves, waiting) = (Pledge::default(), vec![], vec![]);
        let mut donation = Self { provider, payment_id, pledge, moves, waiting, now: made_at };
        let (campaign_id, donor_id) = (CampaignId(Uuid::from_u128(1)), DonorId(Uuid::from_u128(2)));
        let amount = money(amount);
        donation.does(&PledgeCommand::Create { campaign_id, donor_id, amount, anonymous: false, made_at });
        donation
    }

    fn does(&mut self, command: &PledgeCommand) {
        let events = self.pledge.decide(command).unwrap();
        self.takes(events);
    }

    fn takes(&mut self, events: Vec<domain::PledgeEvent>) {
        for event in events {
            assert!(self.pledge.allows(&event), "{:?} does not allow {event:?}", self.pledge);
            self.moves.extend(event.money_moves());
            self.pledge.apply_event(event);
        }
    }

    fn hear_all<'r>(&mut self, reports: impl IntoIterator<Item = &'r Report>) {
        for report in reports {
            self.now = self.now.max(report.stood_at);
            self.waiting.push(PaymentFact::stated(self.payment_id.clone(), told(report)));
            let facts = std::mem::take(&mut self.waiting);
            self.settle(pledge::Report::of_facts(facts, CaptureLimit::default(), self.now));
        }
    }

    /// Asks for all objects as they stand, whatever is known of them.
    fn ask(&mut self) {
        let (payment_id, heard, limit) = (self.payment_id.clone(), Heard::default(), CaptureLimit::default());
        let nothing = pledge::Report { payment_id, heard, settled: None, reason: None, limit, now: self.now };
        let report = self.answer_to(nothing);
        self.settle(report);
    }

    fn settle(&mut self, mut report: pledge::Report) {
        loop {
            let recording = self.pledge.record_report(&report).unwrap();
            let is_open = recording.first_trouble().is_some();
            self.takes(recording.events);
            if !is_open {
                return;
            }
            report = self.answer_to(report);
        }
    }

    fn answer_to(&mut self, report: pledge::Report) -> pledge::Report {
        self.now = self.pledge.question_stands_at(&self.payment_id, self.now, report.heard.statements());
        let now = self.now;
        let answered = self.provider.answer_at(now).into_iter().map(|said| {
            let statement = Statement::answered(stated(&said.object, said.standing), now);
            PaymentFact::stated(self.payment_id.clone(), with_times(statement, &said))
        });
        pledge::Report { now, ..report.answer(answered.collect::<Vec<_>>()) }
    }

    /// Accepts what is left of money that is held apart: by the pledge itself, or as another one if that has
    /// failed, since all of it had gone back before it came again.
    fn accept(&mut self, as_another: bool) {
        let payment = self.pledge.record().unwrap().payments.get(&self.payment_id);
        if !payment.is_some_and(|payment| payment.is_held_apart() && payment.left_minor() > 0) {
            return;
        }
        let (payment_id, at) = (self.payment_id.clone(), self.now);
        if as_another || self.pledge.status() == Some(PledgeStatus::Failed) {
            let create = self.pledge.create_accepted(&payment_id, at).unwrap();
            let accepted_as = PledgeId(Uuid::from_u128(3));
            self.does(&PledgeCommand::AcceptUnapplied { payment_id, accepted_as });
            self.pledge = Pledge::default();
            self.does(&create);
        } else {
            self.does(&PledgeCommand::Apply { payment_id, at });
        }
    }

    /// Since when the money is raised: always, if it never was held apart.
    fn raised_since(&self) -> Option<Instant> {
        match self.pledge.record().unwrap().payments.get(&self.payment_id)?.usage {
            Usage::Applied => Some(Instant::MIN_UTC),
            Usage::AppliedSince(accepted_at) => Some(accepted_at),
            Usage::Uncaptured | Usage::Unapplied(_) | Usage::AcceptedAs(_) => None,
        }
    }

    /// What was posted until an instant is what is true then.
    fn check_at(&self, instant: Instant) {
        let is_raised = self.raised_since().is_some_and(|since| since <= instant);
        let truth = self.provider.figures_at(instant);
        let sum = |of: fn(&MoneyMove) -> i64| -> i64 {
            self.moves.iter().filter(|moved| moved.at <= instant).map(of).sum()
        };
        let raised = if is_raised { truth } else { oracle::Figures::default() };
        let held = if is_raised { 0 } else { truth.left };
        let found = [
            sum(|moved| moved.captured_minor),
            sum(|moved| moved.refunded_minor),
            sum(|moved| moved.reversed_minor),
            sum(|moved| moved.charged_back_minor),
            sum(MoneyMove::raised_minor),
            sum(|moved| moved.unapplied_minor),
            sum(|moved| moved.loss_minor),
            sum(|moved| moved.in_dispute_minor),
        ];
        let oracle::Figures { captured, refunded, reversed, charged_back, left, .. } = raised;
        let expected = [captured, refunded, reversed, charged_back, left, held, truth.loss, truth.in_dispute];
        assert_eq!(found, expected, "{instant} of {:#?}", self.provider);
        assert_eq!(sum(|moved| moved.gifts), i64::from(raised.captured > 0));
    }
}

/// What a donation promises: enough, or so little that every capture is held apart. Then it may be accepted,
/// as another pledge or not.
fn promise(seed: u64) -> (i64, Option<bool>) {
    [(Money::MAX_MINOR / 4, None), (1, None), (1, Some(false)), (1, Some(true))][seed as usize % 4]
}

/// Money is raised, held apart, or accepted by the pledge or as another one in the middle of it all.
#[test]
fn what_pledges_post_is_true_at_every_instant() {
    let mut accepted = 0;
    for seed in seeds() {
        let dials = Dials { unsaid: 0.3, ..IN_ANY_ORDER };
        let history = History::random(seed, &dials);
        if is_crowded(&history) {
            continue;
        }
        let delivered = history.delivered(seed, &dials);
        let (first, rest) = delivered.split_at(delivered.len() * (seed as usize / 4 % 4 + 1) / 4);
        let (promised, acceptance) = promise(seed);
        let mut donation = Donation::promised(&history, promised);
        donation.hear_all(first);
        if let Some(as_another) = acceptance {
            donation.accept(as_another);
        }
        donation.hear_all(rest);
        accepted += u64::from(acceptance.is_some() && donation.raised_since().is_some());
        for instant in history.instants().into_iter().chain([donation.now, history.end()]) {
            donation.check_at(instant);
        }
    }
    assert!(accepted > seeds().end / 20, "{accepted} were accepted");
}

/// With coarse times, and after asking for what was lost, it is true in the end.
#[test]
fn what_pledges_post_is_true_in_the_end() {
    for seed in seeds() {
        let history = History::random(seed, &Dials::UNRULY);
        let delivered = history.delivered(seed, &Dials::UNRULY);
        let messages = history.messages();
        let lost: Vec<&Report> = messages.iter().filter(|report| !delivered.contains(report)).collect();
        let (promised, acceptance) = promise(seed);
        let mut donation = Donation::promised(&history, promised);
        donation.hear_all(&delivered);
        if let Some(as_another) = acceptance {
            donation.accept(as_another);
        }
        donation.now = donation.now.max(history.end());
        donation.ask();
        donation.check_at(donation.now);
        donation.hear_all(lost.into_iter().rev());
        donation.check_at(donation.now);
    }
}
