//! What goes back and comes again, and money that is held apart and accepted: the figures of each case.

use super::*;

/// 5000 captured at 20, by payment `a`.
fn captured() -> Book {
    in_status(Captured)
}

/// A pledge that was paid, and holds 5000 of payment `u` apart.
fn holding_apart(status: PledgeStatus) -> Book {
    let mut book = in_status(status);
    assert_eq!(book.hears("u", [told(taken(5000), 22)]), HELD);
    book
}

fn accept(book: &mut Book, id: &str) -> Result<String, PledgeError> {
    book.does(&PledgeCommand::AcceptUnapplied { payment_id: payment(id), accepted_as: OTHER })
}

/// Accepts `u` as another pledge, which it gives. Either order of the two commands makes the same pledge.
fn accepted(book: &mut Book, seconds: i64) -> Book {
    let command = book.pledge.create_accepted(&payment("u"), at(seconds)).unwrap();
    accept(book, "u").unwrap();
    let mut other = Book::default();
    let events = other.does(&command).unwrap();
    assert!(events.starts_with("PledgeCreated PledgeAuthorized PledgeCaptured"), "{events}");
    let again = book.pledge.create_accepted(&payment("u"), at(seconds)).unwrap();
    assert_eq!(Pledge::Absent.decide(&again), Pledge::Absent.decide(&command));
    assert_eq!(other.does(&command), Err(PledgeError::AlreadyExists));
    other
}

/// What both pledges posted, as [`Book::at`].
fn both(one: &Book, other: &Book, seconds: i64) -> [i64; 6] {
    let posted = [one, other].map(|book| book.posted(at(seconds)));
    figures(sum(at(seconds), posted))
}

#[test]
fn a_dispute_above_the_capture_is_a_loss() {
    let mut book = captured();
    assert_eq!(book.hears("a", [told(opened(5230), 40)]), NOTED);
    assert_eq!((book.at(40), book.posted(at(40)).in_dispute_minor), ([5000, 0, 0, 0, 0, 0], 5230));
    assert_eq!(book.hears("a", [told(lost(5230), 50)]), NOTED);
    assert_eq!((book.at(50), book.posted(at(50)).in_dispute_minor), ([0, 0, 0, 0, 5000, 230], 0));
    assert_eq!(book.status(), Captured);
}

#[test]
fn a_lost_dispute_may_be_won_the_next_day() {
    let mut book = in_status(Completed);
    book.hears("a", [told(lost(5000), 50)]);
    let won = told(won(), 50 + DAY);
    let report = says("a", [won.clone()]);
    let asks = PledgeError::Asks(payment("a"), AskReason::Lessens);
    assert_eq!(book.does(&record(report.clone())), Err(asks));
    let answer = answered(won.stated().clone(), 60 + DAY);
    assert_eq!(book.does(&record(report.answer(facts("a", [answer])))).as_deref(), Ok(NOTED));
    assert_eq!([book.at(49 + DAY), book.at(50 + DAY)], [[0, 0, 0, 0, 5000, 0], [5000, 0, 0, 0, 0, 0]]);
    assert_eq!(book.hears("a", [told(refunded("r", 1200), 2 * DAY)]), NOTED);
    assert_eq!((book.figures(), book.status()), ([3800, 0, 1200, 0, 0, 0], Completed));
}

#[test]
fn what_is_settled_may_be_reversed() {
    let mut book = in_status(Completed);
    assert_eq!(book.hears("a", [told(reversed(5000), 50)]), NOTED);
    assert_eq!((book.figures(), book.status()), ([0, 0, 0, 5000, 0, 0], Completed));
    assert_eq!((book.posted(at(29)).settled_minor, book.posted(at(50)).settled_minor), (0, 5000));
    // Heard at once, in either order: captured and bounced.
    for order in [[0, 1], [1, 0]] {
        let mut at_once = in_status(Pending);
        let said = [told(taken(5000), 20), told(reversed(5000), 50)];
        assert_eq!(at_once.hears("a", order.map(|n| said[n].clone())), [AUTH, CAPT].join(" "));
        assert_eq!([at_once.at(20), at_once.at(50)], [[5000, 0, 0, 0, 0, 0], [0, 0, 0, 5000, 0, 0]]);
    }
}

#[test]
fn a_refund_may_fail_or_be_cancelled_after_it_succeeded() {
    for end in [RefundState::Failed, RefundState::Cancelled] {
        let mut book = captured();
        book.hears("a", [told(refunded("r", 2000), 40)]);
        assert_eq!(book.asks("a", told(refund("r", end), 60)), NOTED);
        assert_eq!([book.at(40), book.at(60)], [[3000, 0, 2000, 0, 0, 0], [5000, 0, 0, 0, 0, 0]]);
        assert_eq!(book.hears("a", [told(refunded("s", 1500), 70)]), NOTED);
        assert_eq!(book.figures(), [3500, 0, 1500, 0, 0, 0]);

        let mut success_last = captured();
        assert_eq!(success_last.hears("a", [told(refund("r", end), 60)]), NOTED);
        assert_eq!(success_last.hears("a", [told(refunded("r", 2000), 40)]), NOTED);
        success_last.hears("a", [told(refunded("s", 1500), 70)]);
        assert_eq!(success_last.figures(), [3500, 0, 1500, 0, 0, 0]);
        assert_eq!(success_last.at(40), [3000, 0, 2000, 0, 0, 0], "a day is as it was");
        let ended: Vec<_> = success_last.record().applied().unwrap().ended_refunds().cloned().collect();
        assert_eq!(ended, ["r".parse().unwrap(), "s".parse().unwrap()]);
    }
}

#[test]
fn a_first_capture_stays_when_the_rest_is_called_off() {
    let mut book = in_status(Authorized);
    assert_eq!(book.hears("a", [told(taken(2000), 20)]), CAPT);
    let over = Stated::payment(Some(usd(2000)), Some(Over::Cancelled));
    assert_eq!(book.hears("a", [told(over, 50)]), NOTED);
    assert_eq!((book.figures(), book.status()), ([2000, 0, 0, 0, 0, 0], Captured));
}

#[test]
fn captures_in_parts_move_on_their_days() {
    let parts = [told(taken(2000), DAY - 60), told(taken(5000), DAY + 60)];
    for order in [[0, 1], [1, 0]] {
        let mut book = in_status(Authorized);
        assert_eq!(book.hears("a", [parts[order[0]].clone()]), CAPT);
        assert_eq!(book.hears("a", [parts[order[1]].clone()]), NOTED);
        assert_eq!([DAY - 61, DAY - 60, DAY + 60].map(|seconds| book.at(seconds)[0]), [0, 2000, 5000]);
        let gifts = [DAY - 61, DAY - 60, DAY + 60].map(|seconds| book.posted(at(seconds)).gifts);
        assert_eq!(gifts, [0, 1, 1]);
        let PledgeState::Captured(Payment { amount, .. }) = &book.record().state else { panic!() };
        assert_eq!(*amount, usd(5000));
        let completed = book.pledge.decide(&record(report_of(vec![settles("a", usd(5000), 2 * DAY)])));
        assert_eq!(completed.unwrap()[0].amount(), Some(usd(5000)));
    }
}

#[test]
fn money_moves_when_its_provider_says_that_it_moved() {
    let [eve, new_year]: [DateTime<Utc>; 2] =
        ["2026-12-31T23:58:00Z", "2027-01-01T00:03:00Z"].map(|time| time.parse().unwrap());
    for said in [
        Statement::told(taken(5000), eve),
        Statement::told(taken(5000), new_year).happened_at(eve),
        // Found by asking, a day later.
        Statement::answered(taken(5000), new_year + TimeDelta::days(1)).happened_at(eve),
    ] {
        let mut book = in_status(Pending);
        let report = Report { now: new_year + TimeDelta::days(2), ..says("a", [said]) };
        book.does(&record(report)).unwrap();
        assert_eq!(book.moves.iter().map(|moved| moved.at).collect::<Vec<_>>(), [eve]);
    }
    // Nothing moved before the pledge was made.
    let mut book = in_status(Pending);
    book.hears("a", [told(taken(5000), 20).happened_at(at(-DAY))]);
    assert_eq!(book.moves[0].at, at(0));
}

#[test]
fn what_goes_back_before_its_capture_is_known_counts_once_it_is() {
    let mut book = in_status(Pending);
    let returns = [told(refunded("r", 1000), 40), told(lost(500), 45), told(reversed(200), 50)];
    for said in &returns {
        let waits = Err(PledgeError::AwaitsCapture(payment("a")));
        assert_eq!(book.does(&record(says("a", [said.clone()]))), waits);
    }
    assert_eq!(book.hears("a", [told(taken(5000), 20)]), [AUTH, CAPT].join(" "));
    for said in returns {
        assert_eq!(book.hears("a", [said]), NOTED);
    }
    assert_eq!([39, 40, 45, 50].map(|seconds| book.at(seconds)[0]), [5000, 4000, 3500, 3300]);
    assert_eq!(book.figures(), [3300, 0, 1000, 200, 500, 0]);
}

#[test]
fn money_held_apart_goes_back_from_where_it_is_held() {
    for status in [Captured, Completed, Failed, Expired, Cancelled] {
        let mut book = holding_apart(status);
        let raised = if matches!(status, Captured | Completed) { 5000 } else { 0 };
        assert_eq!(book.hears("u", [told(refunded("r", 2000), 40)]), NOTED);
        assert_eq!(book.hears("u", [told(opened(1000), 50)]), NOTED);
        assert_eq!(book.posted(at(50)).in_dispute_minor, 1000);
        assert_eq!(book.hears("u", [told(lost(1000), 60)]), NOTED);
        assert_eq!(book.hears("u", [told(reversed(2500), 70)]), NOTED);
        let held = [22, 40, 50, 60, 70].map(|seconds| book.at(seconds)[1]);
        assert_eq!(held, [5000, 3000, 3000, 2000, 0], "{status}");
        assert_eq!(book.figures(), [raised, 0, 0, 0, 0, 500], "{status}");
        assert_eq!(book.settles("u", 5000, 80), NOTED);
        let by_a = if status == Completed { 5000 } else { 0 };
        assert_eq!(book.posted(at(80)).settled_minor, 5000 + by_a);
        assert_eq!(
            (book.status(), accept(&mut book, "u")),
            (status, Err(PledgeError::NothingLeft(payment("u"))))
        );
    }
}

#[test]
fn only_money_that_is_held_apart_is_accepted() {
    let mut book = holding_apart(Captured);
    for other in ["a", "z"] {
        let not_unapplied = PledgeError::NotUnapplied(payment(other));
        assert_eq!(accept(&mut book, other), Err(not_unapplied.clone()));
        assert_eq!(book.pledge.create_accepted(&payment(other), at(1)), Err(not_unapplied));
    }
    assert_eq!(accept(&mut book, "u").as_deref(), Ok("UnappliedAccepted"));
    assert_eq!(accept(&mut book, "u").as_deref(), Ok(""), "again");
    let elsewhere = PledgeId(Uuid::from_u128(4));
    let elsewhere = PledgeCommand::AcceptUnapplied { payment_id: payment("u"), accepted_as: elsewhere };
    assert_eq!(book.does(&elsewhere), Err(PledgeError::MovedTo(OTHER)));
}

#[test]
fn whatever_is_said_of_accepted_money_belongs_to_the_pledge_that_it_became() {
    let mut book = holding_apart(Expired);
    accepted(&mut book, 100);
    let mut reports: Vec<Report> = [taken(5000), taken(6000), over(Over::Failed), refunded("r", 1), lost(1)]
        .map(|stated| says("u", [told(stated, 110)]))
        .into();
    reports.push(report_of(vec![settles("u", usd(5000), 120)]));
    for report in reports {
        assert_eq!(book.pledge.record_report(&report), Err(PledgeError::MovedTo(OTHER)), "{report:?}");
        assert_eq!(book.does(&record(report)), Err(PledgeError::MovedTo(OTHER)));
    }
}

/// From the instant of the acceptance on, all of it counts at the new pledge; before, it was held apart.
#[test]
fn accepted_money_moves_as_a_whole_when_it_is_accepted() {
    let mut old = holding_apart(Expired);
    old.hears("u", [told(refunded("r", 1000), 40)]);
    let mut new = accepted(&mut old, 100);
    assert_eq!((old.status(), new.status()), (Expired, Captured));
    assert_eq!([old.at(22), old.figures()], [[0, 5000, 0, 0, 0, 0], [0, 4000, 0, 0, 0, 0]]);
    assert_eq!([new.at(99), new.figures()], [[0, 0, 0, 0, 0, 0], [4000, -4000, 1000, 0, 0, 0]]);
    assert_eq!((new.posted(at(99)).gifts, new.posted(at(100)).gifts), (0, 1));
    assert_eq!(both(&old, &new, 100), [4000, 0, 1000, 0, 0, 0]);
    let Some(PledgeEvent::UnappliedAccepted { amount, .. }) = holding_apart(Expired)
        .pledge
        .decide(&PledgeCommand::AcceptUnapplied { payment_id: payment("u"), accepted_as: OTHER })
        .unwrap()
        .pop()
    else {
        panic!()
    };
    assert_eq!(amount, usd(5000), "what is left");

    // It went back before the acceptance, and is heard of after it.
    assert_eq!(new.hears("u", [told(refunded("s", 500), 120).happened_at(at(50))]), NOTED);
    assert_eq!([new.at(49), new.at(50), new.at(99)], [[0; 6], [0, -500, 0, 0, 0, 0], [0, -500, 0, 0, 0, 0]]);
    let days = [22, 40, 50, 99, 100].map(|seconds| both(&old, &new, seconds));
    let held = |minor| [0, minor, 0, 0, 0, 0];
    assert_eq!(days, [held(5000), held(4000), held(3500), held(3500), [3500, 0, 1500, 0, 0, 0]]);

    // It was captured earlier than was known, it goes back later, and more is captured.
    new.hears("u", [told(taken(5000), 30).happened_at(at(21))]);
    assert_eq!([both(&old, &new, 21), both(&old, &new, 50)], [held(5000), held(3500)]);
    new.hears("u", [told(reversed(4500), 130), told(taken(6000), 140)]);
    assert_eq!(both(&old, &new, 130), [0, 0, 1500, 3500, 0, 1000]);
    assert_eq!(both(&old, &new, 140), [0, 0, 1500, 4500, 0, 0]);
    assert_eq!(new.settles("u", 5000, 150), COMP);
}

#[test]
fn what_was_settled_while_it_was_held_apart_is_settled_once() {
    let mut old = holding_apart(Expired);
    assert_eq!(old.settles("u", 5000, 30), NOTED);
    let new = accepted(&mut old, 100);
    assert_eq!(new.status(), Completed);
    let settled = [&old, &new].map(|book| book.posted(at(200)).settled_minor);
    assert_eq!(settled, [5000, 0]);
}

#[test]
fn what_is_asked_or_reviewed_is_an_error_where_nothing_is_recorded() {
    let mut book = captured();
    book.hears("a", [told(lost(5000), 40)]);
    let disputed = won().object().clone();
    let ahead = Statement::told(taken(6000), now() + TimeDelta::minutes(6));
    for (said, reason) in [(told(won(), 40), AskReason::Tie), (ahead, AskReason::Ahead)] {
        let asks = Err(PledgeError::Asks(payment("a"), reason));
        assert_eq!(book.does(&record(says("a", [said]))), asks);
    }
    // What can be recorded is recorded beside it.
    let both = says("a", [told(won(), 50), told(refunded("r", 100), 50)]);
    let recording = book.pledge.record_report(&both).unwrap();
    assert_eq!(recording.outcomes[&disputed], Outcome::Ask(AskReason::Lessens));
    assert_eq!(recording.outcomes[&ObjectKey::Refund("r".parse().unwrap())], Outcome::Recorded);
    assert_eq!(recording.first_trouble(), Some(PledgeError::Asks(payment("a"), AskReason::Lessens)));
    assert_eq!(book.does(&record(both)).as_deref(), Ok(NOTED));
    assert_eq!(book.figures(), [0, 0, 100, 0, 4900, 100]);

    // Three answers without a word about it.
    let unsettled = (0..3).fold(says("a", [told(won(), 50)]), |report, _| report.answer([]));
    let review = ReviewReason::Unsettled(AskReason::Lessens);
    let review = Err(PledgeError::NeedsReview(Contradiction::Review(review)));
    assert_eq!(book.does(&record(unsettled)), review);

    // The provider says that money is gone, and that none was captured.
    let mut pending = in_status(Pending);
    let answer = [answered(nothing_taken(), 50), answered(reversed(5000), 50)];
    let report = answers("a", answer);
    assert_eq!(pending.does(&record(report.clone())).as_deref(), Ok(NOTED), "the payment");
    let review = Contradiction::Review(ReviewReason::GoneWithoutCapture);
    assert_eq!(pending.does(&record(report)), Err(PledgeError::NeedsReview(review)));
}
