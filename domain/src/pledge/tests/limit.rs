//! Money above the limit of captures: it waits for a person, and the pledge with it.

use super::*;

/// Twice the 50.00 that were promised, and one cent.
const TOO_MUCH: i64 = 10_001;

/// A pledge that waits for money, and holds some of it apart.
fn in_question(status: PledgeStatus) -> Book {
    let mut book = in_status(status);
    let events = book.pledge.decide(&record(says("a", [told(taken(TOO_MUCH), 20)]))).unwrap();
    let [PledgeEvent::PaymentUnapplied { reason: UnappliedReason::AboveLimit, .. }] = events[..] else {
        panic!("{events:?}")
    };
    book.takes(events);
    assert_eq!((book.status(), book.record().in_question()), (status, Some(&payment("a"))));
    book
}

fn apply(book: &mut Book, id: &str, seconds: i64) -> Result<String, PledgeError> {
    book.does(&PledgeCommand::Apply { payment_id: payment(id), at: at(seconds) })
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
        let mut held = in_question(status);
        assert_eq!(held.figures(), [0, TOO_MUCH, 0, 0, 0, 0]);
        assert_eq!(held.settles("a", TOO_MUCH, 30), NOTED);
        assert_eq!((held.status(), held.posted(at(30)).settled_minor), (status, TOO_MUCH));
        let most = in_status(status).hears("a", [told(taken(10_000), 20)]);
        assert!(most.ends_with(CAPT), "{status}");
        let report = says("a", [told(taken(TOO_MUCH), 20)]);
        let within = in_status(status).does(&record(Report { limit: "3".parse().unwrap(), ..report }));
        assert!(within.unwrap().ends_with(CAPT), "{status}");
    }
    // Whoever has no need of the money does not ask how much it is.
    let mut finished = in_status(Expired);
    assert_eq!(finished.hears("b", [told(taken(TOO_MUCH), 20)]), HELD);
    let usage = finished.record().payments[&payment("b")].usage;
    assert_eq!(usage, Usage::Unapplied(UnappliedReason::NotNeeded));
}

#[test]
fn a_pledge_in_question_stays_as_it_is() {
    for status in [Pending, Authorized] {
        let mut book = in_question(status);
        let asked =
            if status == Pending { PledgeCommand::Amend { amount: usd(1) } } else { PledgeCommand::Cancel };
        let refused = book.does(&asked);
        assert_eq!(refused, Err(PledgeError::InQuestion(payment("a"))));
        assert_eq!(book.does(&PledgeCommand::Expire).as_deref(), Ok(""));
        for (id, said, expected) in [
            ("a", told(taken(TOO_MUCH), 20), ""),
            ("a", told(nothing_taken(), 5).authorized(usd(TOO_MUCH)), NOTED),
            ("a", told(over(Over::Failed), 25), NOTED),
            ("b", told(over(Over::Failed), 25), NOTED),
        ] {
            assert_eq!(book.hears(id, [said.clone()]), expected, "{status} {said:?}");
            assert_eq!((book.status(), book.record().in_question()), (status, Some(&payment("a"))));
        }
    }
}

#[test]
fn accepted_money_pays_the_pledge_once() {
    for (status, expected) in [(Pending, "PledgeAuthorized PledgeCaptured"), (Authorized, CAPT)] {
        let mut book = in_question(status);
        assert_eq!(apply(&mut book, "a", 60).as_deref(), Ok(expected));
        assert_eq!([book.at(59), book.at(60)], [[0, TOO_MUCH, 0, 0, 0, 0], [TOO_MUCH, 0, 0, 0, 0, 0]]);
        assert_eq!((book.posted(at(59)).gifts, book.posted(at(60)).gifts), (0, 1));
        assert_eq!((book.status(), book.record().in_question()), (Captured, None));
        assert_eq!(apply(&mut book, "a", 70).as_deref(), Ok(""), "again");
        assert_eq!(book.settles("a", TOO_MUCH, 80), COMP);
        assert_eq!(book.hears("a", [told(refunded("r", 1), 90)]), NOTED);
        assert_eq!(book.figures(), [TOO_MUCH - 1, 0, 1, 0, 0, 0]);
    }
    // What was settled before it was accepted completes the pledge with it.
    let mut settled = in_question(Authorized);
    settled.settles("a", TOO_MUCH, 30);
    assert_eq!(apply(&mut settled, "a", 60), Ok([CAPT, COMP].join(" ")));
    assert_eq!(settled.posted(at(100)).settled_minor, TOO_MUCH, "once");
}

/// The whole payment moves at the instant of the acceptance: what went back before it, whenever that is
/// heard, came of money that was held apart.
#[test]
fn what_is_left_of_money_can_be_accepted() {
    let mut book = in_question(Pending);
    book.hears("a", [told(refunded("r", 3000), 40)]);
    assert_eq!(apply(&mut book, "a", 60), Ok([AUTH, CAPT].join(" ")));
    assert_eq!([book.at(59), book.at(60)], [[0, 7001, 0, 0, 0, 0], [7001, 0, 3000, 0, 0, 0]]);
    assert_eq!(book.hears("a", [told(reversed(1000), 50)]), NOTED);
    assert_eq!([book.at(49), book.at(50)], [[0, 7001, 0, 0, 0, 0], [0, 6001, 0, 0, 0, 0]]);
    assert_eq!(book.at(60), [6001, 0, 3000, 1000, 0, 0]);
}

#[test]
fn only_money_that_is_needed_and_there_is_applied() {
    let not_unapplied = |id| Err(PledgeError::NotUnapplied(payment(id)));
    assert_eq!(apply(&mut in_status(Pending), "a", 60), not_unapplied("a"));
    assert_eq!(apply(&mut in_status(Authorized), "a", 60), not_unapplied("a"));
    assert_eq!(apply(&mut in_status(Captured), "a", 60), not_unapplied("a"));
    let mut paid_otherwise = in_question(Pending);
    paid_otherwise.hears("b", [told(taken(5000), 20)]);
    assert_eq!(apply(&mut paid_otherwise, "a", 60), Err(PledgeError::NotWaiting(Captured)));
    let mut given_back = in_status(Authorized);
    given_back.hears("b", [told(taken(TOO_MUCH), 20)]);
    given_back.hears("b", [told(refunded("r", TOO_MUCH), 30)]);
    assert_eq!(apply(&mut given_back, "b", 60), Err(PledgeError::NothingLeft(payment("b"))));
}

#[test]
fn a_pledge_ends_when_the_money_in_question_has_gone_back() {
    for status in [Pending, Authorized] {
        for back in [refunded("s", TOO_MUCH), lost(TOO_MUCH), reversed(TOO_MUCH - 1)] {
            let mut book = in_question(status);
            assert_eq!(book.hears("a", [told(refunded("r", 1), 30)]), NOTED, "{status}");
            assert_eq!(book.hears("a", [told(back.clone(), 40)]), [NOTED, FAIL].join(" "), "{status}");
            assert_eq!((book.status(), book.record().in_question()), (Failed, None));
            assert_eq!(book.hears("a", [told(over(Over::Failed), 25)]), NOTED, "{status}");
            // Heard at once, it is the same.
            let mut at_once = in_status(status);
            let all = [taken(TOO_MUCH), refunded("r", 1), back].map(|stated| told(stated, 40));
            assert_eq!(at_once.hears("a", all), [HELD, FAIL].join(" "), "{status}");
            assert_eq!(at_once.figures()[1], 0);
        }
    }
}

#[test]
fn a_payment_in_use_is_not_touched_by_what_is_in_question() {
    let mut book = in_status(Authorized);
    assert_eq!(book.hears("b", [told(taken(TOO_MUCH), 20)]), HELD);
    let mut gone = book.clone();
    assert_eq!(gone.hears("b", [told(refunded("r", TOO_MUCH), 30)]), NOTED);
    assert_eq!(gone.status(), Authorized);
    assert_eq!(gone.hears("a", [told(over(Over::Failed), 25)]), FAIL);
    assert_eq!(book.hears("c", [told(over(Over::Failed), 25)]), NOTED);
    // The one in use fails while another waits for a person: so does the pledge, until nothing is left.
    assert_eq!(book.hears("a", [told(over(Over::Failed), 25)]), NOTED);
    assert_eq!((book.status(), book.record().in_question()), (Authorized, Some(&payment("b"))));
    let mut accepted = book.clone();
    assert_eq!(apply(&mut accepted, "b", 60).as_deref(), Ok(CAPT));
    assert_eq!(book.hears("b", [told(refunded("r", TOO_MUCH), 30)]), [NOTED, FAIL].join(" "));
}
