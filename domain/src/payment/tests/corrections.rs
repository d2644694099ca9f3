//! What a person states, and when it gives way.

use super::*;

/// Captured at 10, a refund of 2000 heard at 20, and corrected at 50.
fn corrected(stated: Stated, happened_at: Option<i64>) -> PaymentHistory {
    let mut history = history([told(payment(5000), 10), told(succeeded(2000), 20)]);
    let correction = history.correction(stated, at(50), happened_at.map(at), &[]).unwrap();
    history.correct(correction).unwrap();
    history
}

fn and(mut history: PaymentHistory, statement: Statement) -> PaymentHistory {
    history.hear(statement).unwrap();
    history
}

#[test]
fn it_replaces_the_history_from_its_first_instant_on_or_from_a_time_that_it_names() {
    let always = corrected(failed(), None);
    assert!(always.is_corrected(failed().object()));
    assert_eq!([15, 20, 49, 50].map(|seconds| left(&always, seconds)), [5000, 5000, 5000, 5000]);
    let since_then = corrected(failed(), Some(30));
    assert_eq!([15, 20, 29, 30].map(|seconds| left(&since_then, seconds)), [5000, 3000, 3000, 5000]);
    let more = corrected(succeeded(2500), None);
    assert_eq!([19, 20].map(|seconds| left(&more, seconds)), [5000, 2500]);
    // An object that was never heard of stands so since it was stated.
    let unheard = corrected(refund("s", RefundState::Succeeded(usd(500))), None);
    assert_eq!([49, 50].map(|seconds| left(&unheard, seconds)), [3000, 2500]);
}

#[test]
fn its_moves_are_those_of_the_figures() {
    let mut history = history([told(payment(5000), 10), told(succeeded(2000), 20)]);
    let correction = history.correction(failed(), at(50), None, &[]).unwrap();
    let moves = history.correct(correction.clone()).unwrap();
    let moves: Vec<_> = moves.iter().map(|moved| (moved.at, moved.change.refunded_minor)).collect();
    assert_eq!(moves, [(at(20), -2000)]);
    assert!(history.correct(correction).unwrap().is_empty(), "the same again");
}

#[test]
fn what_stood_at_or_before_it_is_old_news_whenever_it_is_heard() {
    for stood_at in [5, 30, 50] {
        let history = and(corrected(succeeded(2500), None), told(succeeded(4000), stood_at));
        assert_eq!(left(&history, 100), 2500, "{stood_at}");
    }
    // It moves the first instant, which is that of the correction.
    let earlier = and(corrected(succeeded(2500), None), told(succeeded(4000), 30).happened_at(at(15)));
    assert_eq!([14, 15].map(|seconds| left(&earlier, seconds)), [5000, 2500]);
    // And what the days before a named time show.
    let named = and(corrected(failed(), Some(40)), told(succeeded(4000), 30));
    assert_eq!([29, 30, 39, 40].map(|seconds| left(&named, seconds)), [3000, 1000, 1000, 5000]);
}

#[test]
fn what_its_maker_had_heard_does_not_undo_it() {
    let history = and(corrected(failed(), None), answered(succeeded(2000), 60));
    assert!(history.is_corrected(failed().object()));
    assert_eq!(left(&history, 100), 5000);
    let heard = Heard::default().answer(vec![answered(succeeded(2000), 70)]);
    let decision = history.decide(&heard, at(80)).unwrap();
    assert_eq!(decision.outcomes[failed().object()], Outcome::Known);
    // A time in the past is no new refund.
    let past = and(history, told(succeeded(2000), 70).happened_at(at(45)));
    assert_eq!(left(&past, 100), 5000);
    // Nor does it change what was before the correction.
    let named = and(corrected(failed(), Some(40)), told(succeeded(2000), 70).happened_at(at(15)));
    assert_eq!([15, 20, 40].map(|seconds| left(&named, seconds)), [5000, 3000, 5000]);
}

#[test]
fn what_waited_for_a_person_counts_as_heard() {
    let history = history([told(payment(5000), 10)]);
    let unrecorded = [told(succeeded(2000), 55), Statement::told(succeeded(3000), at(1000))];
    let correction = history.correction(failed(), at(50), None, &unrecorded).unwrap();
    // It is made after what waits, but not after a time that nobody believes.
    assert_eq!(correction.stood_at(), at(55));
    let mut history = history;
    history.correct(correction).unwrap();
    for again in [succeeded(2000), succeeded(3000)] {
        assert_eq!(left(&and(history.clone(), answered(again, 60)), 100), 5000);
    }
    assert_eq!(left(&and(history, answered(succeeded(1000), 60)), 100), 4000);
}

#[test]
fn it_gives_way_to_a_new_content_and_is_not_ranked_against_it() {
    let history = and(corrected(failed(), None), told(succeeded(1000), 60));
    assert!(!history.is_corrected(failed().object()));
    assert_eq!([20, 59, 60].map(|seconds| left(&history, seconds)), [5000, 5000, 4000]);
    // Less captured than was known before.
    let mut captured_less = corrected(payment(3000), None);
    assert_eq!(captured(&captured_less, 100), 3000);
    captured_less.hear(answered(payment(5000), 60)).unwrap();
    assert_eq!(captured(&captured_less, 100), 3000);
    captured_less.hear(answered(payment(4000), 70)).unwrap();
    assert_eq!([60, 70].map(|seconds| captured(&captured_less, seconds)), [3000, 4000]);
    // From then on what was heard before counts as usual, if it stood later.
    captured_less.hear(answered(payment(5000), 80)).unwrap();
    assert_eq!([60, 70, 80].map(|seconds| captured(&captured_less, seconds)), [3000, 4000, 5000]);
}

#[test]
fn it_gives_way_to_the_same_happening_again() {
    let again = || told(succeeded(2000), 60).happened_at(at(55));
    let history = and(corrected(failed(), None), again());
    assert_eq!([54, 55].map(|seconds| left(&history, seconds)), [5000, 3000]);
    // Repeats before it stay without effect, in every order of hearing.
    let repeated = and(history.clone(), answered(succeeded(2000), 58));
    assert_eq!(repeated.timeline(), history.timeline());
}

#[test]
fn the_last_correction_counts() {
    let mut history = corrected(failed(), None);
    history.hear(told(succeeded(1000), 60)).unwrap();
    let second = history.correction(succeeded(1500), at(50), Some(at(40)), &[]).unwrap();
    assert_eq!(second.stood_at(), at(60), "after everything that its maker knew");
    let without = history.clone();
    history.correct(second.clone()).unwrap();
    assert_eq!([20, 39, 40, 60].map(|seconds| left(&history, seconds)), [5000, 5000, 3500, 3500]);
    let third = history.correction(failed(), at(50), None, &[]).unwrap();
    assert_eq!(third.stood_at(), at(61), "two corrections never stand in one second");
    history.correct(third.clone()).unwrap();
    assert_eq!([20, 100].map(|seconds| left(&history, seconds)), [5000, 5000]);
    let mut reversed = without;
    reversed.correct(third).unwrap();
    reversed.correct(second).unwrap();
    assert_eq!(reversed, history);
}

#[test]
fn an_answer_that_lessens_or_contradicts_is_judged_by_what_stood_since() {
    let history = corrected(succeeded(2500), None);
    let lower = Heard::default().answer(vec![answered(refund("r", RefundState::Asked), 60)]);
    let decision = history.decide(&lower, at(70)).unwrap();
    assert_eq!(
        decision.outcomes[failed().object()],
        Outcome::Recorded,
        "there is nothing to rank it against"
    );
    let by_message = Heard::messages(vec![told(succeeded(100), 60)]);
    let decision = history.decide(&by_message, at(70)).unwrap();
    assert_eq!(decision.outcomes[failed().object()], Outcome::Ask(AskReason::Lessens));
}
