//! No order and no repetition leaves a trace in what was captured, and every captured cent is in one figure;
//! and what is written down is read back.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::payment::{Correction, PaymentHistory};

/// Everything that is said below stands before.
const LATER: i64 = 1000;
const PAYMENTS: [&str; 2] = ["a", "b"];

fn amount() -> impl Strategy<Value = i64> {
    prop::sample::select(vec![1000_i64, 2000, 5000, 6000, 20_000])
}

fn stated() -> impl Strategy<Value = Stated> {
    let how = || prop_oneof![Just(None), Just(Some(Over::Failed)), Just(Some(Over::Cancelled))];
    let captured = || prop_oneof![Just(None), amount().prop_map(|amount| Some(usd(amount)))];
    prop_oneof![
        (captured(), how()).prop_map(|(captured, how)| Stated::payment(captured, how)),
        (prop_oneof![Just("r"), Just("s")], refund_state()).prop_map(|(id, state)| refund(id, state)),
        dispute_state().prop_map(dispute),
        prop_oneof![
            amount().prop_map(reversed),
            Just(Stated::reversal("v".parse().unwrap(), ReversalState::Cancelled)),
        ],
    ]
}

fn refund_state() -> impl Strategy<Value = RefundState> {
    prop_oneof![
        Just(RefundState::Asked),
        amount().prop_map(|amount| RefundState::Succeeded(usd(amount))),
        Just(RefundState::Failed),
        Just(RefundState::Cancelled),
    ]
}

fn dispute_state() -> impl Strategy<Value = DisputeState> {
    prop_oneof![
        Just(DisputeState::Inquiry),
        Just(DisputeState::Opened(None)),
        amount().prop_map(|amount| DisputeState::Opened(Some(usd(amount)))),
        amount().prop_map(|amount| DisputeState::Lost(usd(amount))),
        Just(DisputeState::Won),
        Just(DisputeState::Reinstated),
    ]
}

/// Few seconds, so that many are equal.
fn message() -> impl Strategy<Value = Statement> {
    let authorized = proptest::option::of(amount());
    (stated(), 0..12_i64, proptest::option::of(-2..14_i64), authorized).prop_map(
        |(stated, stood_at, happened_at, authorized)| {
            let is_payment = *stated.object() == ObjectKey::Payment;
            let said = told(stated, stood_at);
            let said = match happened_at {
                Some(happened_at) => said.happened_at(at(happened_at)),
                None => said,
            };
            match authorized.filter(|_| is_payment) {
                Some(authorized) => said.authorized(usd(authorized)),
                None => said,
            }
        },
    )
}

type Message = (&'static str, Statement);

/// Messages about two payments, and the same in another order, some of them twice.
fn messages() -> impl Strategy<Value = (Vec<Message>, Vec<Message>)> {
    let one = (prop::sample::select(&PAYMENTS[..]), message());
    prop::collection::vec(one, 1..14).prop_flat_map(|messages| {
        let repeated = prop::sample::subsequence(messages.clone(), 0..=messages.len());
        let all = messages.clone();
        let shuffled = repeated.prop_flat_map(move |more| Just([all.clone(), more].concat()).prop_shuffle());
        (Just(messages), shuffled)
    })
}

/// What the provider answers in the end: of everything that was ever said, what counts.
fn truths(messages: &[Message]) -> BTreeMap<&'static str, Vec<Statement>> {
    let of_payment = |id| {
        let said = || messages.iter().filter(move |(of, _)| *of == id).map(|(_, said)| said);
        let mut history = PaymentHistory::new(usd(1).currency(), at(0));
        for statement in said() {
            history.hear(statement.clone()).unwrap();
        }
        let counts = said().filter(|said| history.counts(said.object()) == Some(said.content()));
        counts.map(|said| answered(said.stated().clone(), LATER)).collect()
    };
    PAYMENTS.into_iter().map(|id| (id, of_payment(id))).collect()
}

/// As the inbox does: what has to be asked for is decided again with the answer, what waits is tried again
/// until nothing moves.
fn run(mut book: Book, messages: &[Message], truths: &BTreeMap<&str, Vec<Statement>>) -> Book {
    let mut inbox: VecDeque<Report> = messages.iter().map(|(id, said)| says(id, [said.clone()])).collect();
    inbox.extend(truths.iter().map(|(id, truth)| answers(id, truth.clone())));
    // How many have waited in vain since anything was recorded.
    let mut waited = 0;
    while waited <= inbox.len() {
        let Some(mut report) = inbox.pop_front() else { break };
        let before = book.pledge.clone();
        let is_asked = |book: &Book, report: &Report| {
            let outcomes = book.pledge.record_report(report).unwrap().outcomes;
            outcomes.values().any(|outcome| matches!(outcome, Outcome::Ask(_)))
        };
        if is_asked(&book, &report) {
            let id = report.payment_id.clone();
            report = report.answer(facts(id.as_str(), truths[id.as_str()].clone()));
            assert!(!is_asked(&book, &report), "the answer settles it: {report:?}");
        }
        let recording = book.pledge.record_report(&report).unwrap();
        let waits = recording.outcomes.values().any(|outcome| *outcome == Outcome::Wait);
        book.takes(recording.events);
        if book.pledge != before {
            waited = 0;
        }
        if waits {
            inbox.push_back(report);
            waited += 1;
        }
    }
    book
}

/// Of every payment: captured, refunded, reversed, charged back, loss, and raised or held apart.
fn by_payment(book: &Book) -> BTreeMap<PaymentId, (crate::payment::Figures, i64)> {
    let payments = &book.record().payments;
    payments.iter().map(|(id, payment)| (id.clone(), (payment.figures(), payment.left_minor()))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn order_and_repetition_leave_no_trace_in_money(
        (messages, shuffled) in messages(),
        status in prop::sample::select(&PledgeStatus::ALL[..]),
    ) {
        let start = Book::made();
        let start = if status == Pending { start } else { in_status(status) };
        // What the start knows of payment `a` is told too, so that the provider does not contradict it.
        let known = start.record().payments.get(&payment("a")).map(|known| known.history.clone());
        let known: Vec<Message> =
            known.iter().flat_map(PaymentHistory::statements).map(|said| ("a", said.clone())).collect();
        let truths = truths(&[messages.clone(), known].concat());
        let (one, other) = (run(start.clone(), &messages, &truths), run(start, &shuffled, &truths));
        let (by_one, by_other) = (by_payment(&one), by_payment(&other));
        let has_money = |all: &BTreeMap<PaymentId, (crate::payment::Figures, i64)>| {
            let with_money = all.iter().filter(|(_, (figures, _))| !figures.is_zero());
            with_money.map(|(id, figures)| (id.clone(), *figures)).collect::<Vec<_>>()
        };
        prop_assert_eq!(has_money(&by_one), has_money(&by_other));
        for book in [&one, &other] {
            let payments = || book.record().payments.values();
            let all = |of: fn(&PledgePayment) -> i64| payments().map(of).sum::<i64>();
            let [raised, held, .., loss] = book.figures();
            prop_assert_eq!(raised + held, all(PledgePayment::left_minor));
            prop_assert_eq!(loss, all(|payment| payment.figures().loss_minor));
            // Every captured cent is raised, held apart or gone.
            let applied = payments().filter(|payment| payment.is_applied()).collect::<Vec<_>>();
            prop_assert!(applied.len() <= 1);
            let captured = applied.iter().map(|payment| payment.figures().captured_minor).sum::<i64>();
            prop_assert_eq!(book.figures()[..5].iter().sum::<i64>() - held, captured);
            let is_paid = matches!(book.status(), Captured | Completed);
            prop_assert_eq!(is_paid, applied.len() == 1);
        }
    }

    /// Accepted by the pledge itself or as another one, before or after all the rest is heard: it counts as
    /// held apart until then, and as raised from then on.
    #[test]
    fn accepted_money_adds_up_in_any_order((messages, shuffled) in messages(), accepted_at in 0..14_i64) {
        let of_a = |mut messages: Vec<Message>| {
            messages.retain(|(id, _)| *id == "a");
            messages
        };
        let capture = [("a", told(taken(20_000), 0))];
        let (messages, shuffled) = (of_a(messages), of_a(shuffled));
        let truths = truths(&[&messages[..], &capture[..]].concat());
        let held = run(Book::made(), &capture, &BTreeMap::new());
        let apply = PledgeCommand::Apply { payment_id: payment("a"), at: at(accepted_at) };
        let mut early = held.clone();
        early.does(&apply).unwrap();
        let mut books = vec![vec![run(early, &shuffled, &truths)]];
        let mut heard = run(held.clone(), &messages, &truths);
        for old in [held, heard.clone()] {
            if old.record().payments[&payment("a")].left_minor() > 0 {
                let create = old.pledge.create_accepted(&payment("a"), at(accepted_at)).unwrap();
                let mut new = Book::default();
                new.does(&create).unwrap();
                books.push(vec![run(new, &shuffled, &truths), old]);
            }
        }
        // Unless all of it has gone back.
        if heard.status() != Failed {
            heard.does(&apply).unwrap();
            books.push(vec![heard]);
        }
        for books in books {
            let accepted = books[0].record().applied().unwrap();
            for second in -1..20 {
                let both = sum(at(second), books.iter().map(|book| book.posted(at(second))));
                prop_assert_eq!(both, used(accepted, accepted_at <= second, at(second)), "{}", second);
            }
        }
    }

    #[test]
    fn what_is_written_down_is_read_back(
        messages in prop::collection::vec((prop::sample::select(&PAYMENTS[..]), message()), 1..14),
        (content, made_at, since) in (stated(), 0..20_i64, proptest::option::of(0..20_i64)),
        is_answer in any::<bool>(),
    ) {
        let mut history = PaymentHistory::new(usd(1).currency(), at(0));
        for (_, statement) in &messages {
            let statement = statement.clone();
            let statement = if is_answer { statement.answered_at(at(9)) } else { statement };
            prop_assert_eq!(&reread(&statement), &statement);
            history.hear(statement).unwrap();
        }
        let correction = history.correction(content, at(made_at), since.map(at), &[]).unwrap();
        prop_assert_eq!(&reread::<Correction>(&correction), &correction);
        history.correct(correction).unwrap();
        prop_assert_eq!(&reread(&history), &history);

        // A snapshot of a pledge with several payments, one of which came from another pledge.
        let mut old = run(Book::made(), &[("u", told(taken(20_000), 1))], &BTreeMap::new());
        let create = old.pledge.create_accepted(&payment("u"), at(6)).unwrap();
        old.does(&PledgeCommand::AcceptUnapplied { payment_id: payment("u"), accepted_as: OTHER }).unwrap();
        let mut new = Book::default();
        new.does(&create).unwrap();
        let truths = truths(&messages);
        for book in [old, new] {
            let book = run(book, &messages, &truths);
            let again: Pledge = reread(&book.pledge);
            prop_assert_eq!(&again, &book.pledge);
            let next = record(says("c", [told(taken(1), 500)]));
            let events = again.decide(&next).unwrap();
            prop_assert_eq!(&events, &book.pledge.decide(&next).unwrap());
            for event in events {
                prop_assert_eq!(&reread(&event), &event);
            }
        }
    }
}

fn reread<T: serde::Serialize + serde::de::DeserializeOwned>(written: &T) -> T {
    serde_json::from_str(&serde_json::to_string(written).unwrap()).unwrap()
}
