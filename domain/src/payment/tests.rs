//! What is heard, and the figures that follow. How what is heard becomes a decision is in `decisions`, what
//! a person states in `corrections`, and that no order matters in `orders`.

mod corrections;
mod decisions;
mod orders;

use chrono::{DateTime, TimeDelta, Utc};

use super::figures::Sums;
use super::*;
use crate::{Currency, Money};

const DAY: i64 = 86_400;

fn currency() -> Currency {
    "USD".parse().unwrap()
}

fn usd(amount_minor: i64) -> Money {
    Money::new(amount_minor, currency()).unwrap()
}

/// So many seconds after the pledge was made, at midnight.
fn at(seconds: i64) -> DateTime<Utc> {
    "2026-12-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::seconds(seconds)
}

fn payment(captured: i64) -> Stated {
    Stated::payment((captured > 0).then(|| usd(captured)), None)
}

fn over(captured: i64, how: Over) -> Stated {
    Stated::payment((captured > 0).then(|| usd(captured)), Some(how))
}

fn refund(id: &str, state: RefundState) -> Stated {
    Stated::refund(id.parse().unwrap(), state)
}

fn succeeded(amount: i64) -> Stated {
    refund("r", RefundState::Succeeded(usd(amount)))
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

fn reversal(state: ReversalState) -> Stated {
    Stated::reversal("v".parse().unwrap(), state)
}

fn bounced(amount: i64) -> Stated {
    reversal(ReversalState::Gone(usd(amount)))
}

fn told(stated: Stated, seconds: i64) -> Statement {
    Statement::told(stated, at(seconds))
}

fn answered(stated: Stated, seconds: i64) -> Statement {
    Statement::answered(stated, at(seconds))
}

fn empty() -> PaymentHistory {
    PaymentHistory::new(currency(), at(0))
}

fn history(statements: impl IntoIterator<Item = Statement>) -> PaymentHistory {
    let mut history = empty();
    for statement in statements {
        history.hear(statement).unwrap();
    }
    history
}

/// Refunded, reversed, charged back, left, loss.
fn returns(figures: Figures) -> [i64; 5] {
    [
        figures.refunded_minor,
        figures.reversed_minor,
        figures.charged_back_minor,
        figures.left_minor(),
        figures.loss_minor,
    ]
}

/// Captured at an instant.
fn captured(history: &PaymentHistory, seconds: i64) -> i64 {
    history.timeline().at(at(seconds)).captured_minor
}

/// Left at an instant.
fn left(history: &PaymentHistory, seconds: i64) -> i64 {
    history.timeline().at(at(seconds)).left_minor()
}

/// Refunded, reversed, charged back, left and loss of what was heard, in either order.
fn assert_figures(rows: impl IntoIterator<Item = (&'static str, Vec<Statement>, [i64; 5])>) {
    for (name, statements, expected) in rows {
        let heard = history(statements.clone());
        assert_eq!(returns(heard.figures()), expected, "{name}");
        assert_eq!(heard.timeline().last(), heard.figures(), "{name}");
        assert_eq!(heard, history(statements.into_iter().rev()), "{name}, in reverse");
    }
}

fn taken() -> Statement {
    told(payment(5000), 1)
}

fn reinstated() -> Stated {
    dispute(DisputeState::Reinstated)
}

fn failed() -> Stated {
    refund("r", RefundState::Failed)
}

#[test]
fn what_is_gone_is_attributed_in_a_fixed_order() {
    let (part, whole) = (|| told(succeeded(2000), 2), || told(succeeded(5000), 2));
    let (lost, bounced) = (|amount| told(lost(amount), 3), |amount| told(bounced(amount), 3));
    assert_figures([
        ("nothing", vec![], [0, 0, 0, 0, 0]),
        ("captured", vec![taken()], [0, 0, 0, 5000, 0]),
        ("lost before its capture is known", vec![lost(5000)], [0, 0, 0, 0, 0]),
        ("lost, more than was captured", vec![taken(), lost(5230)], [0, 0, 5000, 0, 230]),
        ("refunded in part, lost as a whole", vec![taken(), part(), lost(5000)], [2000, 0, 3000, 0, 2000]),
        ("the same, and won", vec![taken(), part(), lost(5000), told(won(), 4)], [2000, 0, 0, 3000, 0]),
        ("refunded and bounced", vec![taken(), whole(), bounced(5000)], [5000, 0, 0, 0, 5000]),
        (
            "the same, and the refund failed",
            vec![taken(), whole(), bounced(5000), told(failed(), 4)],
            [0, 5000, 0, 0, 0],
        ),
        ("captured and bounced", vec![taken(), bounced(5000)], [0, 5000, 0, 0, 0]),
        ("bounced before lost", vec![taken(), lost(3000), bounced(4000)], [0, 4000, 1000, 0, 2000]),
    ]);
}

#[test]
fn the_table_says_which_statement_counts() {
    let four =
        [lost(5000), won(), lost(5000), won()].into_iter().zip(2..).map(|(said, at)| answered(said, at));
    let bounce_cancelled = || told(reversal(ReversalState::Cancelled), 3);
    let in_one_second = [lost(1000), opened(5000), dispute(DisputeState::Inquiry)].map(|said| told(said, 2));
    let refund_cancelled = [told(succeeded(2000), 2), told(refund("r", RefundState::Cancelled), 1)];
    assert_figures([
        (
            "a cancelled reversal",
            vec![taken(), told(bounced(5000), 2), bounce_cancelled()],
            [0, 0, 0, 5000, 0],
        ),
        ("lost and later won", vec![taken(), told(lost(5000), 2), told(won(), DAY)], [0, 0, 0, 5000, 0]),
        (
            "lost and reinstated",
            vec![taken(), told(lost(5000), 2), told(reinstated(), 3)],
            [0, 0, 0, 5000, 0],
        ),
        ("lost, won, lost, won", [taken()].into_iter().chain(four).collect(), [0, 0, 0, 5000, 0]),
        ("in one second", [taken()].into_iter().chain(in_one_second).collect(), [0, 0, 1000, 4000, 0]),
        (
            "a refund that failed, its success heard last",
            vec![taken(), told(failed(), 3), told(succeeded(2000), 2)],
            [0, 0, 0, 5000, 0],
        ),
        (
            "a refund that failed, its success said later",
            vec![taken(), told(failed(), 3), told(succeeded(2000), 9)],
            [0, 0, 0, 5000, 0],
        ),
        ("a cancelled refund", [taken()].into_iter().chain(refund_cancelled).collect(), [0, 0, 0, 5000, 0]),
        ("a refund asked for", vec![taken(), told(refund("r", RefundState::Asked), 2)], [0, 0, 0, 5000, 0]),
        (
            "cancelled after a first capture",
            vec![told(payment(2000), 1), told(over(2000, Over::Cancelled), 2)],
            [0, 0, 0, 2000, 0],
        ),
        ("failed without a capture", vec![told(over(0, Over::Failed), 2)], [0, 0, 0, 0, 0]),
        ("a failure undoes no capture", vec![taken(), told(over(0, Over::Failed), 2)], [0, 0, 0, 5000, 0]),
    ]);
}

#[test]
fn a_late_statement_moves_amounts_between_days() {
    let first = told(payment(2000), DAY / 2);
    let both = told(payment(5000), DAY + DAY / 2);
    let mut history = history([both]);
    assert_eq!([captured(&history, DAY - 1), captured(&history, 2 * DAY)], [0, 5000]);
    let before = history.timeline();
    history.hear(first).unwrap();
    assert_eq!([captured(&history, DAY - 1), captured(&history, 2 * DAY)], [2000, 5000]);
    let moves = history.timeline().moves_since(&before);
    let moves: Vec<_> = moves.iter().map(|moved| (moved.at, moved.change.captured_minor)).collect();
    assert_eq!(moves, [(at(DAY / 2), 2000), (at(DAY + DAY / 2), -2000)]);
}

#[test]
fn what_an_open_dispute_withdraws_is_a_figure_of_its_own() {
    let history = history([
        told(payment(5000), 1),
        told(dispute(DisputeState::Inquiry), 2),
        told(opened(5000), 3),
        told(lost(3000), 4),
    ]);
    let in_dispute = |seconds| history.timeline().at(at(seconds)).in_dispute_minor;
    assert_eq!([in_dispute(2), in_dispute(3), in_dispute(4)], [0, 5000, 0]);
    assert_eq!([left(&history, 3), left(&history, 4)], [5000, 2000]);
}

#[test]
fn each_of_four_outcomes_has_its_time() {
    let history = history([
        told(payment(5000), 1),
        answered(lost(5000), 10),
        answered(won(), 20),
        answered(lost(5000), 30),
        answered(won(), 40),
    ]);
    assert_eq!([9, 10, 20, 30, 40].map(|seconds| left(&history, seconds)), [5000, 0, 5000, 0, 5000]);
}

#[test]
fn consecutive_statements_of_one_content_happened_at_the_earliest_time_that_they_say() {
    let asked = || answered(payment(5000), 50);
    assert_eq!([captured(&history([asked()]), 49), captured(&history([asked()]), 50)], [0, 5000]);
    let earlier = history([asked(), told(payment(5000), 60).happened_at(at(20))]);
    assert_eq!([captured(&earlier, 19), captured(&earlier, 20)], [0, 5000]);
    // Interrupted by another content, they are two.
    let twice =
        [told(lost(100), 10).happened_at(at(9)), told(won(), 20), told(lost(100), 30).happened_at(at(25))];
    let twice = history([told(payment(5000), 1)].into_iter().chain(twice));
    assert_eq!([9, 20, 25].map(|seconds| left(&twice, seconds)), [4900, 5000, 4900]);
}

#[test]
fn times_that_cannot_be_true_are_not_used() {
    let after_its_own = history([told(payment(5000), 10).happened_at(at(20))]);
    assert_eq!([captured(&after_its_own, 9), captured(&after_its_own, 10)], [0, 5000]);
    for before_the_pledge in [told(payment(5000), 10).happened_at(at(-5)), told(payment(5000), -5)] {
        let history = history([before_the_pledge]);
        assert_eq!([captured(&history, -1), captured(&history, 0)], [0, 5000]);
    }
}

#[test]
fn a_return_counts_from_its_capture_on() {
    let history = history([told(payment(5000), 10), told(bounced(5000), 20).happened_at(at(5))]);
    assert!(history.timeline().at(at(9)).is_zero());
    assert_eq!(returns(history.timeline().at(at(10))), [0, 5000, 0, 0, 0]);
}

#[test]
fn what_was_authorized_moves_nothing() {
    let more = told(payment(0), 5).authorized(usd(6000));
    let history = history([more, told(payment(0), 1).authorized(usd(5000)), told(payment(2000), 7)]);
    assert_eq!(history.authorized(), Some(usd(6000)));
    assert_eq!(returns(history.figures()), [0, 0, 0, 2000, 0]);
}

#[test]
fn sums_stop_at_the_largest_number() {
    let sums = Sums { captured: 1, refunds: i64::MAX, reversals: i64::MAX, disputes: 0, withdrawn: 0 };
    assert_eq!(returns(sums.figures()), [1, 0, 0, 0, i64::MAX]);
}
