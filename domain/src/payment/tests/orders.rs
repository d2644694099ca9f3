//! No order and no repetition of hearing leaves a trace.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// Everything that is said below stands before.
const LATER: i64 = 1000;

#[derive(Clone, Debug)]
enum Entry {
    Statement(Statement),
    Correction(Correction),
}

fn stated() -> impl Strategy<Value = Stated> {
    let amount = || prop::sample::select(vec![1000_i64, 2000, 5000, 6000]);
    let refund_state = prop_oneof![
        Just(RefundState::Asked),
        amount().prop_map(|amount| RefundState::Succeeded(usd(amount))),
        Just(RefundState::Failed),
        Just(RefundState::Cancelled),
    ];
    let dispute_state = prop_oneof![
        Just(DisputeState::Inquiry),
        amount().prop_map(|amount| DisputeState::Opened(Some(usd(amount)))),
        amount().prop_map(|amount| DisputeState::Lost(usd(amount))),
        Just(DisputeState::Won),
        Just(DisputeState::Reinstated),
    ];
    let how = prop_oneof![Just(None), Just(Some(Over::Failed)), Just(Some(Over::Cancelled))];
    prop_oneof![
        (prop_oneof![Just(0), amount()], how)
            .prop_map(|(captured, how)| Stated::payment((captured > 0).then(|| usd(captured)), how)),
        (prop_oneof![Just("r"), Just("s")], refund_state).prop_map(|(id, state)| refund(id, state)),
        dispute_state.prop_map(dispute),
        prop_oneof![Just(0), amount()].prop_map(|amount| match amount {
            0 => reversal(ReversalState::Cancelled),
            gone => bounced(gone),
        }),
    ]
}

/// Few seconds, so that many are equal.
fn statement() -> impl Strategy<Value = Statement> {
    (stated(), 0..12_i64, proptest::option::of(-2..14_i64), any::<bool>()).prop_map(
        |(stated, stood_at, happened_at, is_answer)| {
            let said = if is_answer { answered(stated, stood_at) } else { told(stated, stood_at) };
            match happened_at {
                Some(happened_at) => said.happened_at(at(happened_at)),
                None => said,
            }
        },
    )
}

/// Statements, and corrections by somebody who had heard some of them.
fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let correction = (stated(), 0..12_i64, proptest::option::of(0..12_i64), 0..10_usize);
    (prop::collection::vec(statement(), 1..14), prop::collection::vec(correction, 0..3)).prop_map(
        |(statements, corrections)| {
            let mut known = history([]);
            let mut entries = vec![];
            for (stated, made_at, happened_at, heard) in corrections {
                for statement in statements.iter().take(heard) {
                    known.hear(statement.clone()).unwrap();
                }
                let correction = known.correction(stated, at(made_at), happened_at.map(at), &[]).unwrap();
                known.correct(correction.clone()).unwrap();
                entries.push(Entry::Correction(correction));
            }
            entries.extend(statements.into_iter().map(Entry::Statement));
            entries
        },
    )
}

/// The entries, and the same in another order, some of them twice.
fn with_shuffled<T: Clone + std::fmt::Debug + 'static>(
    entries: impl Strategy<Value = Vec<T>>,
) -> impl Strategy<Value = (Vec<T>, Vec<T>)> {
    entries.prop_flat_map(|entries| {
        let repeated = prop::sample::subsequence(entries.clone(), 0..=entries.len());
        let shuffled = repeated.prop_flat_map({
            let entries = entries.clone();
            move |repeated| Just([entries.clone(), repeated].concat()).prop_shuffle()
        });
        (Just(entries), shuffled)
    })
}

/// The set, and all moves added up.
fn heard(entries: Vec<Entry>) -> (PaymentHistory, Timeline) {
    let (mut history, mut moves) = (empty(), Timeline::default());
    for entry in entries {
        let before = history.timeline();
        match entry {
            Entry::Statement(statement) => {
                history.hear(statement).unwrap();
                moves.extend(history.timeline().moves_since(&before));
            }
            Entry::Correction(correction) => moves.extend(history.correct(correction).unwrap()),
        }
    }
    (history, moves)
}

/// What goes through the inbox: what has to be asked for is decided again with the answer, what waits is
/// tried again later. The provider always answers the same.
fn decided(
    messages: Vec<Statement>,
    answer: &[Statement],
) -> Result<(PaymentHistory, Timeline), TestCaseError> {
    let (mut history, mut moves) = (empty(), Timeline::default());
    let mut inbox: VecDeque<Heard> = messages.into_iter().map(|said| Heard::messages(vec![said])).collect();
    inbox.push_back(Heard::default().answer(answer.to_vec()));
    let mut tries = 0;
    while let Some(heard) = inbox.pop_front() {
        tries += 1;
        prop_assert!(tries < 1000, "{history:?} never settles");
        let mut decision = history.decide(&heard, at(LATER)).unwrap();
        if decision.outcomes.values().any(|outcome| matches!(outcome, Outcome::Ask(_))) {
            let heard = heard.clone().answer(answer.to_vec());
            decision = history.decide(&heard, at(LATER)).unwrap();
        }
        if decision.outcomes.values().any(|outcome| *outcome == Outcome::Wait) {
            inbox.push_back(heard);
        }
        let settled = [Outcome::Recorded, Outcome::Known, Outcome::Wait];
        prop_assert!(decision.outcomes.values().all(|outcome| settled.contains(outcome)), "{:?}", decision);
        history.apply(&decision).unwrap();
        moves.extend(decision.moves);
    }
    Ok((history, moves))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn figures_are_functions_of_the_set((entries, shuffled) in with_shuffled(entries())) {
        let (history, moves) = heard(entries);
        let (other, other_moves) = heard(shuffled);
        prop_assert_eq!(&history, &other);
        prop_assert_eq!(history.figures(), other.figures());
        prop_assert_eq!(history.timeline(), other.timeline());
        prop_assert_eq!(&moves, &other_moves);
        prop_assert_eq!(moves, history.timeline());
        prop_assert_eq!(history.timeline().last(), history.figures());
    }

    #[test]
    fn nothing_is_negative_and_what_is_gone_is_in_one_figure(entries in entries()) {
        let (history, _) = heard(entries);
        let now = history.figures();
        if now.captured_minor > 0 {
            let contents = history.objects().filter_map(|object| history.counts(object));
            let gone: i64 = contents.map(Content::gone_minor).sum();
            let [refunded, reversed, charged_back, _, loss] = returns(now);
            prop_assert_eq!(refunded + reversed + charged_back + loss, gone);
        }
        for second in 0..15 {
            let figures = history.timeline().at(at(second));
            prop_assert!(returns(figures).iter().all(|minor| *minor >= 0), "{:?}", figures);
            prop_assert!(figures.in_dispute_minor >= 0 && figures.captured_minor >= 0, "{:?}", figures);
        }
    }

    #[test]
    fn decisions_in_any_order_come_to_the_same((messages, shuffled) in with_shuffled(prop::collection::vec(
        statement().prop_filter("messages", |said| said.origin() == Origin::Told), 1..10,
    ))) {
        let capture = told(payment(7000), 3);
        let all = history(messages.iter().cloned().chain([capture.clone()]));
        // What counts of everything that was ever said, stated again.
        let stood = |said: &&Statement| all.counts(said.object()) == Some(said.content());
        let truth = messages.iter().chain([&capture]).filter(stood);
        let truth: Vec<_> = truth.map(|said| answered(said.stated().clone(), LATER - 1)).collect();
        let (one, moves) = decided([vec![capture.clone()], messages.clone()].concat(), &truth)?;
        let (other, other_moves) = decided([shuffled, vec![capture.clone()]].concat(), &truth)?;
        prop_assert_eq!(&one, &history(messages.into_iter().chain([capture]).chain(truth)));
        prop_assert_eq!(&one, &other);
        prop_assert_eq!(&moves, &other_moves);
        prop_assert_eq!(moves, one.timeline());
    }
}
