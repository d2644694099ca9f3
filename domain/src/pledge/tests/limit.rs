//! Money above the limit of captures: it waits for a person, and the pledge with it.

use super::*;

/// Twice the 50.00 that were promised, and one cent.
const TOO_MUCH: i64 = 10_001;

fn record(pledge: &Pledge, fact: PaymentFact) -> Result<Vec<PledgeEvent>, PledgeError> {
    pledge.decide(&PledgeCommand::record(fact))
}

fn captured_fact(id: &str, amount: i64) -> PaymentFact {
    PaymentFact::Captured { payment_id: payment(id), amount: usd(amount) }
}

fn settled_fact(id: &str, amount: i64) -> PaymentFact {
    PaymentFact::Settled { payment_id: payment(id), amount: usd(amount) }
}

fn refunded_fact(id: &str, amount: i64) -> PaymentFact {
    PaymentFact::Refunded { payment_id: payment(id), refund_id: "r".parse().unwrap(), amount: usd(amount) }
}

fn failed_fact(id: &str) -> PaymentFact {
    PaymentFact::Failed { payment_id: payment(id), reason: None }
}

fn held(id: &str, amount: i64) -> PledgeEvent {
    PledgeEvent::PaymentUnapplied {
        campaign_id: CAMPAIGN,
        donor_id: DONOR,
        payment_id: payment(id),
        amount: usd(amount),
        reason: UnappliedReason::AboveLimit,
    }
}

fn after(pledge: &Pledge, events: Vec<PledgeEvent>) -> Pledge {
    events.into_iter().fold(pledge.clone(), |state, event| {
        assert!(state.allows(&event), "{state:?} does not allow {event:?}");
        state.evolve(event)
    })
}

/// A pledge that waits for money, and holds some of it apart.
fn in_question(status: PledgeStatus) -> Pledge {
    after(&in_status(status), vec![held("a", TOO_MUCH)])
}

fn names(events: &[PledgeEvent]) -> Vec<&'static str> {
    events.iter().map(|event| crate::VersionedEvent::kind(event).name).collect()
}

fn apply(pledge: &Pledge, id: &str) -> Result<Vec<PledgeEvent>, PledgeError> {
    pledge.decide(&PledgeCommand::Apply { payment_id: payment(id) })
}

#[test]
fn limits_are_multiples_with_two_decimals() {
    for (text, shown) in [("1", "1.00"), ("1.5", "1.50"), ("2.25", "2.25"), ("10000", "10000.00")] {
        assert_eq!(text.parse::<CaptureLimit>().map(|limit| limit.to_string()), Ok(shown.to_owned()));
    }
    for text in ["", "0.99", "-2", "2.", ".5", "1.234", "10000.01", "1e3", "+2", "99999999999"] {
        assert_eq!(text.parse::<CaptureLimit>(), Err(MalformedCaptureLimit), "{text}");
    }
    let limit: CaptureLimit = "1.5".parse().unwrap();
    for (promised, captured, exceeded) in
        [(101, 151, false), (101, 152, true), (1, 1, false), (1, 2, true), (Money::MAX_MINOR, 1, false)]
    {
        assert_eq!(limit.is_exceeded(usd(promised), usd(captured)), exceeded, "{promised} {captured}");
    }
}

#[test]
fn a_capture_above_the_limit_is_held_apart() {
    for status in [Pending, Authorized] {
        let pledge = in_status(status);
        for fact in [captured_fact("a", TOO_MUCH), settled_fact("a", TOO_MUCH)] {
            assert_eq!(record(&pledge, fact), Ok(vec![held("a", TOO_MUCH)]), "{status}");
        }
        let most = record(&pledge, captured_fact("a", 10_000)).unwrap();
        assert_eq!(names(&most).last(), Some(&"PledgeCaptured"), "{status}");
        let limit = "3".parse().unwrap();
        let fact = captured_fact("a", TOO_MUCH);
        let within = pledge.decide(&PledgeCommand::Record { fact, limit }).unwrap();
        assert_eq!(names(&within).last(), Some(&"PledgeCaptured"), "{status}");
    }
    // Whoever has no need of the money does not ask how much it is.
    let finished = record(&in_status(Expired), captured_fact("b", TOO_MUCH)).unwrap();
    assert!(matches!(
        finished[..],
        [PledgeEvent::PaymentUnapplied { reason: UnappliedReason::NotNeeded, .. }]
    ));
}

#[test]
fn a_pledge_in_question_stays_as_it_is() {
    for status in [Pending, Authorized] {
        let pledge = in_question(status);
        assert_eq!(pledge.record().unwrap().in_question(), Some(&payment("a")));
        let in_question = Err(PledgeError::InQuestion(payment("a")));
        let amended = pledge.decide(&PledgeCommand::Amend { amount: usd(1) });
        let cancelled = pledge.decide(&PledgeCommand::Cancel);
        let refused = if status == Pending { amended } else { cancelled };
        assert_eq!(refused, in_question);
        assert_eq!(pledge.decide(&PledgeCommand::Expire), Ok(vec![]));
        for known in [captured_fact("a", TOO_MUCH), settled_fact("a", TOO_MUCH), failed_fact("b")] {
            assert_eq!(record(&pledge, known.clone()), Ok(vec![]), "{status} {known:?}");
        }
        let authorized = PaymentFact::Authorized { payment_id: payment("a"), amount: usd(TOO_MUCH) };
        assert_eq!(record(&pledge, authorized), Ok(vec![]), "{status}");
        let failed = record(&pledge, failed_fact("a"));
        assert!(matches!(failed, Err(PledgeError::NeedsReview(_))), "{status} {failed:?}");
    }
}

#[test]
fn accepted_money_pays_the_pledge_once() {
    for (status, expected) in
        [(Pending, &["PledgeAuthorized", "PledgeCaptured"][..]), (Authorized, &["PledgeCaptured"][..])]
    {
        let pledge = in_question(status);
        let events = apply(&pledge, "a").unwrap();
        assert_eq!(names(&events), expected);
        let moved: Vec<_> =
            events.iter().flat_map(|event| event.money_moves(chrono::DateTime::UNIX_EPOCH)).collect();
        let sum = |of: fn(&MoneyMove) -> i64| moved.iter().map(of).sum::<i64>();
        assert_eq!((sum(|m| m.unapplied_minor), sum(|m| m.captured_minor)), (-TOO_MUCH, TOO_MUCH));
        let paid = after(&pledge, events);
        assert_eq!(paid.status(), Some(Captured));
        assert_eq!(paid.record().unwrap().in_question(), None);
        assert_eq!(apply(&paid, "a"), Ok(vec![]));
        let settled = record(&paid, settled_fact("a", TOO_MUCH)).unwrap();
        assert_eq!(names(&settled), ["PledgeCompleted"]);
        let refunded = record(&paid, refunded_fact("a", 1)).unwrap();
        assert!(matches!(refunded[..], [PledgeEvent::PaymentRefunded { held: MoneyHeld::Raised, .. }]));
    }
}

#[test]
fn only_whole_money_that_is_needed_is_applied() {
    let not_unapplied = |id| Err(PledgeError::NotUnapplied(payment(id)));
    assert_eq!(apply(&in_status(Pending), "a"), not_unapplied("a"));
    assert_eq!(apply(&in_status(Captured), "a"), not_unapplied("a"));
    let paid_otherwise = in_question(Pending);
    let paid = record(&paid_otherwise, captured_fact("b", 5000)).unwrap();
    let paid_otherwise = after(&paid_otherwise, paid);
    assert_eq!(apply(&paid_otherwise, "a"), Err(PledgeError::NotWaiting(Captured)));
    let pledge = in_question(Pending);
    let part = after(&pledge, record(&pledge, refunded_fact("a", 1)).unwrap());
    assert_eq!(apply(&part, "a"), Err(PledgeError::NotIntact(payment("a"))));
}

#[test]
fn a_pledge_ends_when_the_money_in_question_has_gone_back() {
    let lost = PaymentFact::DisputeLost {
        payment_id: payment("a"),
        dispute_id: "d".parse().unwrap(),
        amount: usd(TOO_MUCH),
    };
    for status in [Pending, Authorized] {
        let pledge = in_question(status);
        let part = record(&pledge, refunded_fact("a", 1)).unwrap();
        assert_eq!(names(&part), ["PaymentRefunded"], "{status}");
        for fact in [refunded_fact("a", TOO_MUCH), lost.clone()] {
            let events = record(&pledge, fact).unwrap();
            assert_eq!(names(&events).last(), Some(&"PledgeFailed"), "{status}");
            let over = after(&pledge, events);
            assert_eq!((over.status(), over.record().unwrap().in_question()), (Some(Failed), None));
            // The provider may say so too.
            assert_eq!(record(&over, failed_fact("a")), Ok(vec![]), "{status}");
        }
    }
}

#[test]
fn a_payment_in_use_is_not_touched_by_what_is_in_question() {
    let pledge = after(&in_status(Authorized), vec![held("b", TOO_MUCH)]);
    let refunded = record(&pledge, refunded_fact("b", TOO_MUCH)).unwrap();
    assert_eq!(names(&refunded), ["PaymentRefunded"]);
    assert_eq!(names(&record(&pledge, failed_fact("a")).unwrap()), ["PledgeFailed"]);
    assert_eq!(record(&pledge, failed_fact("c")), Ok(vec![]));
}
