//! The oracle holds what it promises: its truth adds up, it knows every kind of history, and its provider
//! says what stood.

#[path = "oracle/mod.rs"]
mod oracle;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{SubsecRound, TimeDelta};
use oracle::{
    Change, Dials, DisputeState, Figures, History, Instant, Kind, Object, Over, RefundState, Report,
    ReversalState, Standing, Step,
};

const SEEDS: u64 = 2_000;

fn histories(dials: &Dials) -> impl Iterator<Item = History> {
    (0..SEEDS).map(|seed| History::random(seed, dials))
}

/// The changes of each object, in their order.
fn by_object(history: &History) -> BTreeMap<&Object, Vec<&Change>> {
    let mut objects: BTreeMap<&Object, Vec<&Change>> = BTreeMap::new();
    for change in &history.changes {
        objects.entry(&change.object).or_default().push(change);
    }
    objects
}

fn captured(standing: Standing) -> Option<i64> {
    match standing {
        Standing::Payment { captured, .. } => Some(captured),
        Standing::Refund { .. } | Standing::Dispute { .. } | Standing::Reversal { .. } => None,
    }
}

/// The attribution once more: cent by cent, each to the first in the queue that wants one.
fn cent_by_cent(captured: i64, gone: [i64; 3]) -> Figures {
    let [gone_by_refunds, gone_by_reversals, gone_by_disputes] = gone;
    let mut figures =
        Figures { captured, gone_by_refunds, gone_by_reversals, gone_by_disputes, ..Figures::default() };
    let mut queue = (0..3).zip(gone).flat_map(|(kind, cents)| (0..cents).map(move |_| kind));
    for _ in 0..captured {
        match queue.next() {
            Some(0) => figures.refunded += 1,
            Some(1) => figures.reversed += 1,
            Some(_) => figures.charged_back += 1,
            None => figures.left += 1,
        }
    }
    figures.loss = queue.count() as i64;
    figures
}

#[test]
fn each_cent_is_attributed_once() {
    for case in 0..6i64.pow(4) {
        let [captured, refunds, reversals, disputes] = [1, 6, 36, 216].map(|divisor| case / divisor % 6);
        let gone = [refunds, reversals, disputes];
        assert_eq!(Figures::of(captured, gone), cent_by_cent(captured, gone));
    }
    let outcome = |captured, gone| {
        let figures = Figures::of(captured, gone);
        [figures.refunded, figures.reversed, figures.charged_back, figures.left, figures.loss]
    };
    assert_eq!(outcome(5000, [0, 0, 5230]), [0, 0, 5000, 0, 230]);
    assert_eq!(outcome(5000, [2000, 0, 5000]), [2000, 0, 3000, 0, 2000]);
    assert_eq!(outcome(5000, [2000, 0, 0]), [2000, 0, 0, 3000, 0]);
    assert_eq!(outcome(5000, [5000, 5000, 0]), [5000, 0, 0, 0, 5000]);
    assert_eq!(outcome(5000, [0, 5000, 0]), [0, 5000, 0, 0, 0]);
}

#[test]
fn the_truth_adds_up() {
    for history in histories(&Dials::UNRULY) {
        for change in &history.changes {
            let figures = history.figures_at(change.at);
            let Figures { captured, refunded, reversed, charged_back, left, loss, in_dispute, .. } = figures;
            let gone = [figures.gone_by_refunds, figures.gone_by_reversals, figures.gone_by_disputes];
            assert_eq!(captured, left + refunded + reversed + charged_back, "{history:#?}");
            assert_eq!(loss, gone.iter().sum::<i64>() - refunded - reversed - charged_back, "{history:#?}");
            assert!(loss == 0 || left == 0, "a loss while something is left: {history:#?}");
            for amount in [captured, refunded, reversed, charged_back, left, loss, in_dispute] {
                assert!(amount >= 0, "{figures:?} in {history:#?}");
            }
            let others = Figures { in_dispute: 0, ..figures };
            assert_eq!(others, cent_by_cent(captured, gone), "{history:#?}");
        }
    }
}

/// The figures again, added up change by change instead of from how all objects stand.
#[test]
fn figures_are_the_sum_of_what_each_change_moved() {
    for history in histories(&Dials::UNRULY) {
        let (mut captured_in_all, mut gone, mut in_dispute) = (0, [0; 3], 0);
        let mut before: BTreeMap<&Object, (i64, [i64; 3], i64)> = BTreeMap::new();
        for (n, change) in history.changes.iter().enumerate() {
            let now = match change.standing {
                Standing::Payment { captured, .. } => (captured, [0; 3], 0),
                Standing::Refund { amount, state } => match state {
                    RefundState::Succeeded => (0, [amount, 0, 0], 0),
                    RefundState::Pending | RefundState::Failed | RefundState::Cancelled => (0, [0; 3], 0),
                },
                Standing::Reversal { amount, state } => match state {
                    ReversalState::Gone => (0, [0, amount, 0], 0),
                    ReversalState::Cancelled => (0, [0; 3], 0),
                },
                Standing::Dispute { amount, state } => match state {
                    DisputeState::Lost => (0, [0, 0, amount], 0),
                    DisputeState::Opened => (0, [0; 3], amount),
                    DisputeState::Inquiry | DisputeState::Won | DisputeState::Reinstated => (0, [0; 3], 0),
                },
            };
            let was = before.insert(&change.object, now).unwrap_or_default();
            captured_in_all += now.0 - was.0;
            for (sum, (now, was)) in gone.iter_mut().zip(now.1.into_iter().zip(was.1)) {
                *sum += now - was;
            }
            in_dispute += now.2 - was.2;
            if history.changes.get(n + 1).is_none_or(|next| next.at > change.at) {
                let expected = Figures { in_dispute, ..cent_by_cent(captured_in_all, gone) };
                assert_eq!(history.figures_at(change.at), expected, "at {} in {history:#?}", change.at);
            }
        }
    }
}

#[test]
fn figures_change_at_the_instants_and_at_no_other() {
    for history in histories(&Dials::UNRULY) {
        let instants = history.instants();
        assert!(instants.is_sorted_by(|one, next| one < next), "{history:#?}");
        for change in &history.changes {
            let before = history.figures_at(change.at - TimeDelta::microseconds(1));
            let changed = history.figures_at(change.at) != before;
            assert_eq!(changed, instants.contains(&change.at), "at {} in {history:#?}", change.at);
        }
        let last = instants.last().map(|&last| history.figures_at(last)).unwrap_or_default();
        assert_eq!(history.figures_at(history.end()), last, "{history:#?}");
    }
}

/// What is remarkable about a history, beside its steps.
fn features(history: &History) -> Vec<&'static str> {
    let mut features = Vec::new();
    let mut notice = |what, holds: bool| {
        if holds {
            features.push(what);
        }
    };
    let objects = by_object(history);
    let number_of = |kind| objects.keys().filter(|object| object.kind == kind).count();
    notice("several refunds", number_of(Kind::Refund) > 1);
    notice("several disputes", number_of(Kind::Dispute) > 1);
    notice("several reversals", number_of(Kind::Reversal) > 1);
    notice("a reversal with the payment's id", {
        objects.keys().any(|object| object.kind == Kind::Reversal && object.id == history.payment)
    });
    for (change, next) in history.changes.iter().zip(&history.changes[1..]) {
        let one_second = change.at.trunc_subsecs(0) == next.at.trunc_subsecs(0);
        let same_object = change.object == next.object;
        notice("two changes in an instant", change.at == next.at);
        notice("two changes of an object in an instant", change.at == next.at && same_object);
        notice("two changes of an object in a second", one_second && change.at < next.at && same_object);
        notice("a midnight between two changes", change.at.date_naive() < next.at.date_naive());
    }
    for change in &history.changes {
        let before = history.figures_at(change.at - TimeDelta::microseconds(1));
        let now = history.figures_at(change.at);
        let returned = before.captured > before.left;
        notice("captured more after a return", returned && now.captured > before.captured);
        notice("a loss", now.loss > 0);
        notice("a loss that ends", before.loss > 0 && now.loss == 0);
        notice("all three kinds at once", now.refunded > 0 && now.reversed > 0 && now.charged_back > 0);
        notice("two open disputes", now.in_dispute > now.captured * 3 / 2);
        if let Standing::Dispute { amount, state: DisputeState::Opened } = change.standing {
            notice("a dispute of a part", amount < now.captured);
            notice("a dispute above the capture", amount > now.captured);
            notice("a dispute after a refund", before.refunded > 0);
        }
        if let Standing::Payment { captured: 1.., over: Some(Over::Cancelled), .. } = change.standing {
            notice("released after a return", returned);
        }
    }
    features
}

#[test]
fn every_kind_of_history_occurs() {
    let mut steps: BTreeMap<Step, usize> = BTreeMap::new();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for history in histories(&Dials::UNRULY) {
        for change in &history.changes {
            *steps.entry(change.step).or_default() += 1;
        }
        for feature in features(&history).into_iter().collect::<BTreeSet<_>>() {
            *seen.entry(feature).or_default() += 1;
        }
    }
    for step in Step::ALL {
        assert!(steps.get(step).is_some_and(|count| *count >= 20), "{step:?} is too rare: {steps:#?}");
    }
    let expected = [
        "several refunds",
        "several disputes",
        "several reversals",
        "a reversal with the payment's id",
        "two changes in an instant",
        "two changes of an object in an instant",
        "two changes of an object in a second",
        "a midnight between two changes",
        "captured more after a return",
        "a loss",
        "a loss that ends",
        "all three kinds at once",
        "two open disputes",
        "a dispute of a part",
        "a dispute above the capture",
        "a dispute after a refund",
        "released after a return",
    ];
    for feature in expected {
        assert!(seen.get(feature).is_some_and(|count| *count >= 20), "{feature} is too rare: {seen:#?}");
    }
    assert_eq!(seen.len(), expected.len(), "a feature that is not expected: {seen:#?}");
}

/// From how an object stood, none for one that is new, to how it stands, by the words of the step.
#[test]
fn every_step_is_what_its_name_says() {
    use DisputeState::{Inquiry, Lost, Opened, Reinstated, Won};
    use RefundState::{Pending, Succeeded};
    for history in histories(&Dials::TIDY) {
        for (object, changes) in by_object(&history) {
            let befores = std::iter::once(None).chain(changes.iter().map(|change| Some(change.standing)));
            for (before, change) in befores.zip(&changes) {
                let holds = match (before, change.standing) {
                    (None, Standing::Payment { .. }) => true,
                    (None, Standing::Refund { state, .. }) => matches!(state, Pending | Succeeded),
                    (None, Standing::Dispute { state, .. }) => matches!(state, Inquiry | Opened | Lost),
                    (None, Standing::Reversal { state, .. }) => state == ReversalState::Gone,
                    (
                        Some(Standing::Payment { authorized: same, captured: before, over: was }),
                        Standing::Payment { authorized, captured, over },
                    ) => {
                        let released = captured == before && over.is_some() && was.is_none();
                        let failed_before = was == Some(Over::Failed);
                        let taken = captured > before && over.is_none() && (was.is_none() || failed_before);
                        same == authorized && captured <= authorized && (released || taken)
                    }
                    (
                        Some(Standing::Refund { amount: same, state: was }),
                        Standing::Refund { amount, state },
                    ) => {
                        same == amount
                            && was != state
                            && matches!(was, Pending | Succeeded)
                            && state != Pending
                    }
                    (
                        Some(Standing::Dispute { amount: before, state: was }),
                        Standing::Dispute { amount, state },
                    ) => match (was, state) {
                        (Inquiry, Opened | Won) | (Opened, Won) | (Lost, Reinstated) => amount == before,
                        (Won | Reinstated, Lost | Opened) => amount == before,
                        (Opened, Lost) => amount <= before,
                        (Lost, Lost) => amount < before,
                        _ => false,
                    },
                    (
                        Some(Standing::Reversal { amount: same, state: was }),
                        Standing::Reversal { amount, state },
                    ) => same == amount && was != state,
                    _ => false,
                };
                assert!(holds, "{object:?}: {:?} from {before:?} to {:?}", change.step, change.standing);
            }
        }
    }
}

#[test]
fn captured_never_falls() {
    for history in histories(&Dials::UNRULY) {
        let changed = history.changes.iter().filter_map(|change| captured(change.standing));
        assert!(changed.is_sorted(), "{history:#?}");
        let messages = history.messages();
        let sent = messages.iter().filter_map(|report| captured(report.standing));
        assert!(sent.is_sorted(), "{history:#?}");
        assert!(history.changes.is_sorted_by_key(|change| change.at), "{history:#?}");
    }
}

/// Whether the report is of a change of its object after which it stood so, within the time that it says.
fn is_true(report: &Report, history: &History) -> bool {
    let said = |instant: Instant| if history.whole_seconds { instant.trunc_subsecs(0) } else { instant };
    let changes = &by_object(history)[&report.object];
    changes.iter().enumerate().any(|(n, change)| {
        let stood_by_then = said(change.at) <= report.stood_at;
        let stood_still = changes.get(n + 1).is_none_or(|next| said(next.at) >= report.stood_at);
        let moved = changes[..=n].iter().rev().find(|change| match change.standing {
            Standing::Payment { captured, over, .. } => captured == 0 || over.is_none(),
            Standing::Refund { .. } | Standing::Dispute { .. } | Standing::Reversal { .. } => true,
        });
        let moved_then = moved
            .is_some_and(|moved| report.happened_at.is_none_or(|happened_at| happened_at == said(moved.at)));
        change.standing == report.standing && stood_by_then && stood_still && moved_then
    })
}

#[test]
fn messages_state_what_stood() {
    for history in histories(&Dials::UNRULY) {
        let messages = history.messages();
        assert_eq!(messages.len(), history.changes.len());
        assert!(messages.is_sorted_by_key(|report| report.stood_at), "{history:#?}");
        for report in &messages {
            assert!(is_true(report, &history), "{report:?} in {history:#?}");
        }
        let told_last: BTreeMap<_, _> = messages.iter().map(|report| (&report.object, report)).collect();
        for (object, changes) in by_object(&history) {
            let last = changes.last().map(|change| change.standing);
            assert_eq!(told_last.get(object).map(|report| report.standing), last, "{history:#?}");
        }
    }
    for history in histories(&Dials::TIDY) {
        for (report, change) in history.messages().iter().zip(&history.changes) {
            let of_change = (&report.object, report.standing, report.stood_at, report.happened_at);
            assert_eq!(of_change, (&change.object, change.standing, change.at, Some(change.moved_at)));
        }
        let seconds: BTreeSet<_> = history.changes.iter().map(|change| change.at.timestamp()).collect();
        assert_eq!(seconds.len(), history.changes.len(), "two in a second: {history:#?}");
    }
}

#[test]
fn answers_state_what_stands() {
    for history in histories(&Dials::UNRULY) {
        let begin = history.changes[0].at;
        assert_eq!(history.answer_at(begin - TimeDelta::microseconds(1)), []);
        for instant in history.changes.iter().map(|change| change.at).chain([history.end()]) {
            let answer = history.answer_at(instant);
            for report in &answer {
                assert!(is_true(report, &history), "{report:?} in {history:#?}");
            }
            let known: BTreeSet<_> = answer.iter().map(|report| &report.object).collect();
            let until = history.changes.iter().filter(|change| change.at <= instant);
            let existing: BTreeSet<_> = until.map(|change| &change.object).collect();
            assert_eq!(known, existing);
            assert_eq!(answer.len(), existing.len(), "an object twice: {history:#?}");
        }
        let end = history.end();
        for report in history.messages() {
            assert!(report.stood_at + TimeDelta::seconds(1) <= end, "{history:#?}");
        }
    }
}

#[test]
fn lists_say_now_what_stood_before() {
    let mut stale = 0;
    for history in histories(&Dials::UNRULY) {
        let (end, lag) = (history.end(), TimeDelta::hours(7));
        let mut then = history.answer_at(end - lag);
        let stood_at = history.answer_at(end)[0].stood_at;
        for report in &mut then {
            report.stood_at = stood_at;
        }
        let list = history.list_at(end, lag);
        assert_eq!(list, then);
        assert_eq!(history.list_at(end, TimeDelta::zero()), history.answer_at(end));
        stale += usize::from(list != history.answer_at(end));
    }
    assert!(stale > 20, "only {stale} lists are behind");
}

#[test]
fn deliveries_lose_repeat_and_reorder_and_change_no_body() {
    let count = |reports: &[Report], report: &Report| reports.iter().filter(|other| *other == report).count();
    let (mut lost, mut repeated, mut overtaken, mut sent) = (0, 0, 0, 0);
    for (seed, history) in histories(&Dials::UNRULY).enumerate() {
        let seed = seed as u64;
        let messages = history.messages();
        assert_eq!(history.delivered(seed, &Dials::TIDY), messages);

        let losing = history.delivered(seed, &Dials { lost: 0.4, ..Dials::TIDY });
        assert!(losing.iter().all(|report| messages.contains(report)));
        sent += messages.len();
        lost += messages.len() - losing.len();

        let repeating = history.delivered(seed, &Dials { repeated: 0.3, ..Dials::TIDY });
        for report in &messages {
            let copies = count(&repeating, report) as f64 / count(&messages, report) as f64;
            assert!((1.0..=4.0).contains(&copies), "{copies} copies of {report:?}");
        }
        repeated += repeating.len() - messages.len();

        for dials in [Dials { delayed: 0.3, ..Dials::TIDY }, Dials { permuted: 1.0, ..Dials::TIDY }] {
            let reordered = history.delivered(seed, &dials);
            assert_eq!(reordered.len(), messages.len());
            assert!(messages.iter().all(|report| count(&reordered, report) == count(&messages, report)));
            overtaken += usize::from(reordered != messages);
        }
        let delivery = history.delivered(seed, &Dials::UNRULY);
        assert_eq!(delivery, history.delivered(seed, &Dials::UNRULY), "a seed is one delivery");
    }
    assert!((sent * 3 / 10..sent / 2).contains(&lost), "{lost} of {sent} were lost");
    assert!((sent / 3..sent * 4 / 5).contains(&repeated), "{repeated} repetitions of {sent}");
    assert!(overtaken as u64 > SEEDS, "{overtaken} deliveries were reordered");
}

/// Three messages come in each of their six orders.
#[test]
fn any_order_is_delivered() {
    let history =
        histories(&Dials::TIDY).find(|history| history.changes.len() == 3).expect("a short history");
    let messages = history.messages();
    let dials = Dials { permuted: 1.0, ..Dials::TIDY };
    let orders: BTreeSet<Vec<_>> = (0..200)
        .map(|seed| history.delivered(seed, &dials))
        .map(|order| order.iter().map(|report| messages.iter().position(|sent| sent == report)).collect())
        .collect();
    assert_eq!(orders.len(), 6);
}

#[test]
fn a_seed_is_one_truth_whatever_the_dials() {
    let what = |history: &History| -> Vec<_> {
        let changes = history.changes.iter();
        changes.map(|change| (change.step, change.object.clone(), change.standing)).collect()
    };
    let mut different = BTreeSet::new();
    for seed in 0..SEEDS {
        let history = History::random(seed, &Dials::UNRULY);
        assert_eq!(history, History::random(seed, &Dials::UNRULY));
        assert_eq!(what(&history), what(&History::random(seed, &Dials::TIDY)));
        different.insert(format!("{:?}", what(&history)));
    }
    assert_eq!(different.len() as u64, SEEDS);
}

#[test]
fn dials_do_what_they_say() {
    let of_all = |dials: Dials, what: fn(&Report) -> bool| {
        let messages: Vec<Report> = histories(&dials).flat_map(|history| history.messages()).collect();
        let answers: Vec<Report> =
            histories(&dials).flat_map(|history| history.answer_at(history.end())).collect();
        let share =
            |reports: &[Report]| reports.iter().filter(|report| what(report)).count() * 10 / reports.len();
        [share(&messages), share(&answers)]
    };
    let unsaid = |report: &Report| report.happened_at.is_none();
    assert_eq!(of_all(Dials::TIDY, unsaid), [0, 0]);
    assert_eq!(of_all(Dials { unsaid: 0.35, ..Dials::TIDY }, unsaid), [3, 3]);
    let whole = |report: &Report| {
        let said = [Some(report.stood_at), report.happened_at].into_iter().flatten();
        said.map(|instant| instant.timestamp_subsec_micros()).sum::<u32>() == 0
    };
    assert_eq!(of_all(Dials::TIDY, whole)[0], 0);
    assert_eq!(of_all(Dials { whole_seconds: 1.0, ..Dials::TIDY }, whole), [10, 10]);
    let late = |report: &Report| report.happened_at.is_some_and(|then| then < report.stood_at);
    let [at_once, often_late] =
        [0.0, 0.35].map(|late| Dials { late, ..Dials::TIDY }).map(|dials| of_all(dials, late)[0]);
    assert_eq!([at_once, often_late], [0, 3]);
}

/// It would prove nothing if it shared a rule with what it is to prove.
#[test]
fn the_oracle_names_nothing_of_the_domain() {
    let sources =
        [include_str!("oracle/mod.rs"), include_str!("oracle/life.rs"), include_str!("oracle/dice.rs")];
    for source in sources {
        assert!(!source.contains(concat!("domain", "::")) && !source.contains("#[path"));
    }
}
