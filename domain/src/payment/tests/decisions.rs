//! What becomes of what is heard.

use super::*;
use crate::MoneyError;

/// Long after everything that is said here.
fn now() -> DateTime<Utc> {
    at(100 * DAY)
}

fn message(statement: Statement) -> Heard {
    Heard::messages(vec![statement])
}

/// Of what is heard about one object.
fn outcome(history: &PaymentHistory, heard: &Heard) -> Outcome {
    let decision = history.decide(heard, now()).unwrap();
    let [outcome] = decision.outcomes.values().copied().collect::<Vec<_>>()[..] else {
        panic!("{decision:?}")
    };
    let joins = !decision.recorded.is_empty() || !decision.kept.is_empty();
    let may_join = matches!(outcome, Outcome::Recorded | Outcome::Known);
    assert!(may_join || !joins && decision.moves.is_empty(), "{decision:?}");
    outcome
}

fn decided(history: &PaymentHistory, heard: &Heard) -> PaymentHistory {
    let mut after = history.clone();
    after.apply(&history.decide(heard, now()).unwrap()).unwrap();
    after
}

fn captured_and(statements: impl IntoIterator<Item = Statement>) -> PaymentHistory {
    history([told(payment(5000), 1)].into_iter().chain(statements))
}

#[test]
fn what_was_not_heard_before_is_recorded_also_as_old_news() {
    let history = captured_and([told(failed(), 9)]);
    for old in [told(payment(5000), 2), told(payment(2000), 30), told(succeeded(100), 20)] {
        let decision = history.decide(&message(old.clone()), now()).unwrap();
        assert_eq!(decision.recorded.as_slice(), std::slice::from_ref(&old));
        assert_eq!(decided(&history, &message(old)).figures(), history.figures());
    }
    assert_eq!(outcome(&history, &message(told(payment(5000), 1))), Outcome::Known);
    // Another time of what is known is news: it moves a day.
    let earlier = told(payment(5000), 3).happened_at(at(0));
    assert_eq!(history.decide(&message(earlier), now()).unwrap().moves.len(), 2);
}

#[test]
fn an_answer_that_repeats_what_counts_is_no_news_and_orders_what_follows() {
    let history = captured_and([told(lost(5000), 2), answered(won(), 3)]);
    let again = message(answered(won(), 9));
    let decision = history.decide(&again, now()).unwrap();
    assert_eq!((decision.recorded.len(), decision.kept.len(), decision.moves.len()), (0, 1, 0));
    assert_eq!(outcome(&history, &again), Outcome::Known);
    let between = message(told(lost(5000), 5));
    assert_eq!(left(&decided(&history, &between), 100), 0);
    let kept = decided(&decided(&history, &again), &between);
    assert_eq!([4, 5, 9].map(|seconds| left(&kept, seconds)), [5000, 0, 5000]);
    // With a time that was not heard, it is news.
    assert_eq!(
        outcome(&captured_and([]), &message(answered(payment(5000), 9).happened_at(at(0)))),
        Outcome::Recorded
    );
}

#[test]
fn what_lessens_what_is_gone_is_confirmed_by_asking() {
    let less: Vec<(Statement, Stated)> = vec![
        (told(lost(5000), 2), won()),
        (told(lost(5000), 2), lost(3000)),
        (told(lost(5000), 2), opened(5000)),
        (told(succeeded(2000), 2), failed()),
        (told(succeeded(2000), 2), refund("r", RefundState::Cancelled)),
        (told(bounced(5000), 2), reversal(ReversalState::Cancelled)),
        (told(bounced(5000), 2), bounced(4999)),
    ];
    for (gone, less) in less {
        let history = captured_and([gone.clone()]);
        let said = message(told(less.clone(), 5));
        assert_eq!(outcome(&history, &said), Outcome::Ask(AskReason::Lessens), "{less:?}");
        // An answer that stood before the message confirms nothing.
        let stale = said.clone().answer(vec![answered(less.clone(), 4)]);
        assert_eq!(outcome(&history, &stale), Outcome::Ask(AskReason::Lessens), "{less:?}");
        let confirmed = history.decide(&said.answer(vec![answered(less.clone(), 6)]), now()).unwrap();
        assert_eq!(confirmed.recorded.len(), 2, "message and answer");
        assert_eq!(confirmed.moves[0].at, at(5), "{less:?}");
        // What is found by asking needs no other question.
        assert_eq!(outcome(&history, &message(answered(less, 6))), Outcome::Recorded);
        // More is gone at once; what stood before is old news.
        let more = history.decide(&message(told(gone.stated().clone(), 1)), now()).unwrap();
        assert_eq!(more.recorded.len(), 1);
    }
    // Where the answer is another, the table orders both.
    let history = captured_and([told(lost(5000), 2)]);
    let both = message(told(won(), 5)).answer(vec![answered(lost(5000), 6)]);
    let after = decided(&history, &both);
    assert_eq!([4, 5, 6].map(|seconds| left(&after, seconds)), [0, 5000, 0]);
}

fn inquiry(seconds: i64) -> Statement {
    told(dispute(DisputeState::Inquiry), seconds)
}

#[test]
fn what_the_table_does_not_order_is_asked_for() {
    let tie = Outcome::Ask(AskReason::Tie);
    let lost_at_9 = || captured_and([told(lost(5000), 9)]);
    let rows = [
        (lost_at_9(), told(won(), 9), tie),
        (lost_at_9(), told(lost(4000), 9), tie),
        (captured_and([told(won(), 9)]), told(dispute(DisputeState::Reinstated), 9), tie),
        (captured_and([told(opened(1), 9)]), told(opened(2), 9), tie),
        (captured_and([told(bounced(5000), 9)]), told(bounced(6000), 9), tie),
        (captured_and([told(succeeded(2000), 9)]), told(succeeded(3000), 12), tie),
        (captured_and([told(succeeded(2000), 9)]), told(succeeded(3000), 2), tie),
        (captured_and([told(failed(), 9)]), told(refund("r", RefundState::Cancelled), 9), tie),
        (history([told(over(0, Over::Failed), 9)]), told(over(0, Over::Cancelled), 12), tie),
        // Inquiry before opened before outcome.
        (captured_and([inquiry(9)]), told(opened(5000), 9), Outcome::Recorded),
        (captured_and([inquiry(9)]), told(lost(5000), 9), Outcome::Recorded),
        (captured_and([told(opened(5000), 9)]), inquiry(9), Outcome::Recorded),
        // But it may have been opened again after an outcome.
        (lost_at_9(), told(opened(5000), 9), tie),
        (captured_and([told(opened(5000), 9)]), told(lost(5000), 9), tie),
        (captured_and([told(won(), 5), told(lost(5000), 9)]), told(opened(5000), 9), tie),
        (captured_and([inquiry(5), told(won(), 9)]), told(opened(5000), 9), tie),
        // What stood later settles it.
        (captured_and([told(lost(5000), 9), told(won(), 12)]), told(won(), 9), Outcome::Recorded),
        (captured_and([answered(succeeded(2000), 9)]), told(succeeded(3000), 2), Outcome::Recorded),
        (captured_and([answered(succeeded(2000), 9)]), told(succeeded(3000), 12), tie),
        // That a payment is over counts only where nothing was captured.
        (
            captured_and([told(over(5000, Over::Failed), 9)]),
            told(over(5000, Over::Cancelled), 9),
            Outcome::Recorded,
        ),
    ];
    for (history, statement, expected) in rows {
        assert_eq!(outcome(&history, &message(statement.clone())), expected, "{history:?} {statement:?}");
        let answer = answered(statement.stated().clone(), 20);
        let settled = outcome(&history, &message(statement).answer(vec![answer]));
        assert!([Outcome::Recorded, Outcome::Known].contains(&settled), "{history:?}: {settled:?}");
    }
    // Parts of a second order nothing.
    let half = Statement::told(won(), at(9) + TimeDelta::milliseconds(500));
    assert_eq!(outcome(&lost_at_9(), &message(half)), tie);
}

#[test]
fn an_answer_that_contradicts_the_table_is_asked_for_once_more_and_then_reviewed() {
    let rows = [
        (told(payment(6000), 5), payment(4000)),
        (told(failed(), 5), succeeded(2000)),
        (told(succeeded(2000), 5), refund("r", RefundState::Asked)),
    ];
    for (counts, lower) in rows {
        let history = captured_and([counts.clone()]);
        let once = Heard::default().answer(vec![answered(lower.clone(), 9)]);
        assert_eq!(outcome(&history, &once), Outcome::Ask(AskReason::Contradiction));
        let twice = once.clone().answer(vec![answered(lower.clone(), 11)]);
        let review = ReviewReason::Contradiction { counts: counts.content(), answered: lower.content() };
        assert_eq!(outcome(&history, &twice), Outcome::Review(review));
        let settled = once.answer(vec![answered(counts.stated().clone(), 11)]);
        assert_eq!(history.decide(&settled, now()).unwrap().recorded.len(), 2);
        // Said by a message, or of a time before, it is old news.
        assert_eq!(outcome(&history, &message(told(lower.clone(), 9))), Outcome::Recorded);
        assert_eq!(outcome(&history, &Heard::default().answer(vec![answered(lower, 4)])), Outcome::Recorded);
    }
    let unpaid = history([told(over(0, Over::Failed), 5)]);
    let going_on = Heard::default().answer(vec![answered(payment(0), 9)]);
    assert_eq!(outcome(&unpaid, &going_on), Outcome::Ask(AskReason::Contradiction));
    // A refund that fails by message and not by answer is not believed.
    let denied = message(told(failed(), 5)).answer(vec![answered(succeeded(2000), 6)]);
    let refunded = captured_and([told(succeeded(2000), 2)]);
    assert_eq!(outcome(&refunded, &denied), Outcome::Ask(AskReason::Contradiction));
}

#[test]
fn three_answers_that_settle_nothing_are_for_a_person() {
    let history = captured_and([told(lost(5000), 2)]);
    let mut heard = message(told(won(), 5));
    for _ in 0..MAX_ANSWERS {
        assert_eq!(outcome(&history, &heard), Outcome::Ask(AskReason::Lessens));
        heard = heard.answer(vec![]);
    }
    assert_eq!(outcome(&history, &heard), Outcome::Review(ReviewReason::Unsettled(AskReason::Lessens)));
}

#[test]
fn a_time_that_is_still_to_come_is_not_believed() {
    let ahead = |seconds| Statement::told(lost(5000), now() + TimeDelta::seconds(seconds));
    let history = captured_and([]);
    assert_eq!(outcome(&history, &message(ahead(MAX_SECONDS_AHEAD))), Outcome::Recorded);
    let unbelieved = message(ahead(MAX_SECONDS_AHEAD + 1));
    assert_eq!(outcome(&history, &unbelieved), Outcome::Ask(AskReason::Ahead));
    let answer = answered(lost(5000), 9);
    let decision = history.decide(&unbelieved.answer(vec![answer.clone()]), now()).unwrap();
    assert_eq!(decision.recorded, [answer]);
}

#[test]
fn a_return_waits_for_its_capture() {
    let unpaid = history([told(over(0, Over::Failed), 1)]);
    let bounce = message(told(bounced(5000), 5));
    for history in [empty(), unpaid.clone()] {
        assert_eq!(outcome(&history, &bounce), Outcome::Wait);
    }
    assert_eq!(outcome(&captured_and([]), &bounce), Outcome::Recorded);

    // The answer has the capture.
    let found = bounce.clone().answer(vec![answered(payment(5000), 9), answered(bounced(5000), 9)]);
    let after = decided(&empty(), &found);
    assert_eq!(returns(after.figures()), [0, 5000, 0, 0, 0]);

    // Or it says that there is none.
    let bounce_key = bounced(5000).object().clone();
    let by = |stated| {
        let heard = bounce.clone().answer(vec![answered(payment(0), 9), answered(stated, 9)]);
        empty().decide(&heard, now()).unwrap().outcomes[&bounce_key]
    };
    assert_eq!(by(bounced(5000)), Outcome::Review(ReviewReason::GoneWithoutCapture));
    assert_eq!(by(reversal(ReversalState::Cancelled)), Outcome::Wait);
}

#[test]
fn trouble_with_one_object_does_not_hold_up_another() {
    let history = captured_and([told(lost(5000), 2)]);
    let heard = Heard::messages(vec![told(won(), 5), told(succeeded(100), 5)]);
    let decision = history.decide(&heard, now()).unwrap();
    assert_eq!(decision.recorded, [told(succeeded(100), 5)]);
    assert_eq!(decision.outcomes[won().object()], Outcome::Ask(AskReason::Lessens));
    // Nor does an answer about one object confirm another.
    let decision = history.decide(&heard.answer(vec![answered(succeeded(100), 9)]), now()).unwrap();
    assert_eq!(decision.outcomes[won().object()], Outcome::Ask(AskReason::Lessens));
}

#[test]
fn one_payment_has_one_currency() {
    let eur = Money::new(1, "EUR".parse().unwrap()).unwrap();
    let expected = Err(MoneyError::CurrencyMismatch { expected: currency(), found: eur.currency() });
    let refund = refund("r", RefundState::Succeeded(eur));
    let others = [
        told(Stated::payment(Some(eur), None), 1),
        told(payment(0), 1).authorized(eur),
        told(dispute(DisputeState::Opened(Some(eur))), 1),
        told(refund.clone(), 1),
    ];
    for other in others {
        assert_eq!(empty().hear(other.clone()), expected);
        assert_eq!(empty().decide(&message(other), now()).map(|_| true), expected);
    }
    assert_eq!(empty().correction(refund, at(1), None, &[]).map(|_| true), expected);
}

#[test]
fn an_answer_stands_after_everything_that_it_is_about() {
    let history = captured_and([told(lost(5000), 20)]);
    assert_eq!(history.question_stands_at(at(50), &[]), at(50));
    assert_eq!(history.question_stands_at(at(20), &[]), at(21));
    let waiting = [told(won(), 60), Statement::told(won(), now())];
    assert_eq!(history.question_stands_at(at(50), &waiting), at(61));
    let mut corrected = history.clone();
    corrected.correct(history.correction(won(), at(70), None, &[]).unwrap()).unwrap();
    assert_eq!(corrected.question_stands_at(at(50), &[]), at(71));
}
