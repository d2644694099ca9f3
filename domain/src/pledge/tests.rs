//! Given a state, when a command, then these events or that error: every cell of the table of
//! facts and states. What is above the limit of captures is in `limit`; what becomes of taken money, and that
//! order and repetition do not matter, in `returns`.

mod limit;
mod returns;

use chrono::{DateTime, TimeDelta};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{CampaignId, DonorId, Money, PaymentId, Rules};
use PledgeStatus::{Authorized, Cancelled, Captured, Completed, Expired, Failed, Pending};

const CAMPAIGN: CampaignId = CampaignId(Uuid::from_u128(1));
const DONOR: DonorId = DonorId(Uuid::from_u128(2));

fn usd(amount_minor: i64) -> Money {
    Money::new(amount_minor, "USD".parse().unwrap()).unwrap()
}

fn payment(id: &str) -> PaymentId {
    id.parse().unwrap()
}

fn created() -> PledgeEvent {
    PledgeEvent::PledgeCreated { campaign_id: CAMPAIGN, donor_id: DONOR, amount: usd(5000), anonymous: false }
}

fn authorized(id: &str) -> PledgeEvent {
    PledgeEvent::PledgeAuthorized { campaign_id: CAMPAIGN, payment_id: payment(id), amount: usd(5000) }
}

fn captured(id: &str) -> PledgeEvent {
    PledgeEvent::PledgeCaptured {
        campaign_id: CAMPAIGN,
        donor_id: DONOR,
        payment_id: payment(id),
        amount: usd(5000),
        was_unapplied: false,
    }
}

fn completed(id: &str) -> PledgeEvent {
    PledgeEvent::PledgeCompleted { campaign_id: CAMPAIGN, payment_id: payment(id), amount: usd(5000) }
}

fn failed(id: &str, from: PledgeStatus) -> PledgeEvent {
    PledgeEvent::PledgeFailed {
        campaign_id: CAMPAIGN,
        from,
        payment_id: payment(id),
        amount: usd(5000),
        reason: None,
    }
}

fn unapplied(id: &str) -> PledgeEvent {
    PledgeEvent::PaymentUnapplied {
        campaign_id: CAMPAIGN,
        donor_id: DONOR,
        payment_id: payment(id),
        amount: usd(5000),
        reason: UnappliedReason::NotNeeded,
    }
}

fn expired() -> PledgeEvent {
    PledgeEvent::PledgeExpired { campaign_id: CAMPAIGN, amount: usd(5000) }
}

fn cancelled(id: &str) -> PledgeEvent {
    PledgeEvent::PledgeCancelled { campaign_id: CAMPAIGN, payment_id: payment(id), amount: usd(5000) }
}

fn given(events: Vec<PledgeEvent>) -> Pledge {
    events.into_iter().fold(Pledge::default(), |state, event| {
        assert!(state.allows(&event), "{state:?} does not allow {event:?}");
        state.evolve(event)
    })
}

/// A pledge in `status`, paid by payment `a` where that means anything.
fn in_status(status: PledgeStatus) -> Pledge {
    given(match status {
        Pending => vec![created()],
        Authorized => vec![created(), authorized("a")],
        Captured => vec![created(), authorized("a"), captured("a")],
        Completed => vec![created(), authorized("a"), captured("a"), completed("a")],
        Failed => vec![created(), failed("a", Pending)],
        Expired => vec![created(), expired()],
        Cancelled => vec![created(), authorized("a"), cancelled("a")],
    })
}

fn is_authorized(id: &str) -> PaymentFact {
    PaymentFact::Authorized { payment_id: payment(id), amount: usd(5000) }
}

fn is_captured(id: &str) -> PaymentFact {
    PaymentFact::Captured { payment_id: payment(id), amount: usd(5000) }
}

fn is_settled(id: &str) -> PaymentFact {
    PaymentFact::Settled { payment_id: payment(id), amount: usd(5000) }
}

fn is_failed(id: &str) -> PaymentFact {
    PaymentFact::Failed { payment_id: payment(id), reason: None }
}

fn review(status: PledgeStatus) -> Result<Vec<PledgeEvent>, PledgeError> {
    Err(PledgeError::NeedsReview(Contradiction::FailedAfterCapture(status)))
}

/// Checks one row of the table: what `fact` leads to in each status, in the order of `ALL`.
fn row(fact: &PaymentFact, cells: [Result<Vec<PledgeEvent>, PledgeError>; 7]) {
    for (status, expected) in PledgeStatus::ALL.into_iter().zip(cells) {
        let decision = in_status(status).decide(&PledgeCommand::record(fact.clone()));
        assert_eq!(decision, expected, "{fact:?} in {status}");
    }
}

#[test]
fn authorized_in_every_state() {
    row(
        &is_authorized("a"),
        [Ok(vec![authorized("a")]), Ok(vec![]), Ok(vec![]), Ok(vec![]), Ok(vec![]), Ok(vec![]), Ok(vec![])],
    );
}

#[test]
fn captured_in_every_state() {
    row(
        &is_captured("a"),
        [
            Ok(vec![authorized("a"), captured("a")]),
            Ok(vec![captured("a")]),
            Ok(vec![]),
            Ok(vec![]),
            Ok(vec![unapplied("a")]),
            Ok(vec![unapplied("a")]),
            Ok(vec![unapplied("a")]),
        ],
    );
}

#[test]
fn captured_by_another_payment_in_every_state() {
    row(
        &is_captured("b"),
        [
            Ok(vec![authorized("b"), captured("b")]),
            Ok(vec![captured("b")]),
            Ok(vec![unapplied("b")]),
            Ok(vec![unapplied("b")]),
            Ok(vec![unapplied("b")]),
            Ok(vec![unapplied("b")]),
            Ok(vec![unapplied("b")]),
        ],
    );
}

#[test]
fn settled_in_every_state() {
    row(
        &is_settled("a"),
        [
            Ok(vec![authorized("a"), captured("a"), completed("a")]),
            Ok(vec![captured("a"), completed("a")]),
            Ok(vec![completed("a")]),
            Ok(vec![]),
            Ok(vec![unapplied("a")]),
            Ok(vec![unapplied("a")]),
            Ok(vec![unapplied("a")]),
        ],
    );
}

#[test]
fn settled_by_another_payment_is_money_held_apart() {
    for status in [Captured, Completed] {
        let decision = in_status(status).decide(&PledgeCommand::record(is_settled("b")));
        assert_eq!(decision, Ok(vec![unapplied("b")]), "{status}");
    }
}

#[test]
fn failed_in_every_state() {
    row(
        &is_failed("a"),
        [
            Ok(vec![failed("a", Pending)]),
            Ok(vec![failed("a", Authorized)]),
            review(Captured),
            review(Completed),
            Ok(vec![]),
            Ok(vec![]),
            Ok(vec![]),
        ],
    );
}

#[test]
fn the_failure_of_another_payment_than_the_one_in_use_changes_nothing() {
    row(
        &is_failed("b"),
        [
            Ok(vec![failed("b", Pending)]),
            Ok(vec![]),
            Ok(vec![]),
            Ok(vec![]),
            Ok(vec![]),
            Ok(vec![]),
            Ok(vec![]),
        ],
    );
}

#[test]
fn only_an_authorization_of_a_finished_pledge_is_voided() {
    for status in PledgeStatus::ALL {
        let pledge = in_status(status);
        let finished = matches!(status, Failed | Expired | Cancelled);
        assert_eq!(pledge.asks_to_void(&is_authorized("b")), finished, "{status}");
        assert!(!pledge.asks_to_void(&is_captured("b")), "{status}");
        // Money that was taken after all is held apart, and there is nothing left to void.
        if finished {
            assert!(!pledge.evolve(unapplied("b")).asks_to_void(&is_authorized("b")), "{status}");
        }
    }
}

#[test]
fn the_donors_commands_in_every_state() {
    let amended = PledgeEvent::PledgeAmended { campaign_id: CAMPAIGN, amount: usd(7000) };
    for status in PledgeStatus::ALL {
        let pledge = in_status(status);
        let amend = pledge.decide(&PledgeCommand::Amend { amount: usd(7000) });
        let cancel = pledge.decide(&PledgeCommand::Cancel);
        let expire = pledge.decide(&PledgeCommand::Expire);
        match status {
            Pending => {
                assert_eq!(amend, Ok(vec![amended.clone()]));
                assert_eq!(cancel, Err(PledgeError::NotAuthorized(Pending)));
                assert_eq!(expire, Ok(vec![expired()]));
            }
            Authorized => {
                assert_eq!(amend, Err(PledgeError::NotPending(Authorized)));
                assert_eq!(cancel, Ok(vec![cancelled("a")]));
                assert_eq!(expire, Ok(vec![]));
            }
            Cancelled => {
                assert_eq!(amend, Err(PledgeError::NotPending(Cancelled)));
                assert_eq!(cancel, Ok(vec![]));
                assert_eq!(expire, Ok(vec![]));
            }
            Captured | Completed | Failed | Expired => {
                assert_eq!(amend, Err(PledgeError::NotPending(status)));
                assert_eq!(cancel, Err(PledgeError::NotAuthorized(status)));
                assert_eq!(expire, Ok(vec![]));
            }
        }
        let create = PledgeCommand::Create {
            campaign_id: CAMPAIGN,
            donor_id: DONOR,
            amount: usd(5000),
            anonymous: false,
        };
        assert_eq!(pledge.decide(&create), Err(PledgeError::AlreadyExists));
        assert_eq!(Pledge::Absent.decide(&create), Ok(vec![created()]));
    }
}

#[test]
fn nothing_can_be_asked_of_a_pledge_that_does_not_exist() {
    for command in [
        PledgeCommand::Amend { amount: usd(1) },
        PledgeCommand::Cancel,
        PledgeCommand::Expire,
        PledgeCommand::record(is_captured("a")),
    ] {
        assert_eq!(Pledge::Absent.decide(&command), Err(PledgeError::NotFound), "{command:?}");
    }
}

#[test]
fn amending_to_the_same_amount_says_nothing_and_to_another_currency_is_refused() {
    let pledge = in_status(Pending);
    assert_eq!(pledge.decide(&PledgeCommand::Amend { amount: usd(5000) }), Ok(vec![]));
    let eur = Money::new(5000, "EUR".parse().unwrap()).unwrap();
    assert!(matches!(pledge.decide(&PledgeCommand::Amend { amount: eur }), Err(PledgeError::Currency(_))));
}

#[test]
fn facts_in_another_currency_or_with_two_amounts_need_review() {
    let eur = Money::new(5000, "EUR".parse().unwrap()).unwrap();
    for status in PledgeStatus::ALL {
        let fact = PaymentFact::Captured { payment_id: payment("a"), amount: eur };
        assert!(
            matches!(
                in_status(status).decide(&PledgeCommand::record(fact)),
                Err(PledgeError::NeedsReview(Contradiction::Currency(_)))
            ),
            "{status}"
        );
    }
    for status in [Captured, Completed] {
        let fact = PaymentFact::Captured { payment_id: payment("a"), amount: usd(4999) };
        assert!(
            matches!(
                in_status(status).decide(&PledgeCommand::record(fact)),
                Err(PledgeError::NeedsReview(Contradiction::Amount { .. }))
            ),
            "{status}"
        );
    }
}

#[test]
fn every_event_of_every_state_is_an_edge_or_none_is_allowed() {
    let events = [
        authorized("a"),
        captured("a"),
        completed("a"),
        failed("a", Pending),
        failed("a", Authorized),
        expired(),
        cancelled("a"),
    ];
    let mut edges = Vec::new();
    for status in PledgeStatus::ALL {
        for event in &events {
            let (_, to) = event.edge().unwrap();
            if in_status(status).allows(event) {
                edges.push((status, to));
                assert_eq!(in_status(status).evolve(event.clone()).status(), Some(to));
            }
        }
    }
    edges.sort();
    let mut expected = PledgeStatus::EDGES.to_vec();
    expected.sort();
    assert_eq!(edges, expected);
}

/// Promised 5000, authorised 4000, captured 3000: each end says the latest of these that it knows.
#[test]
fn the_end_of_a_pledge_names_its_latest_amount() {
    let campaign_id = CAMPAIGN;
    let payment_id = || payment("a");
    let pending = given(vec![created()]);
    let amount = usd(4000);
    let authorized = given(vec![
        created(),
        PledgeEvent::PledgeAuthorized { campaign_id, payment_id: payment_id(), amount },
    ]);
    let settled = PaymentFact::Settled { payment_id: payment_id(), amount: usd(3000) };
    let captured = PledgeEvent::PledgeCaptured {
        campaign_id,
        donor_id: DONOR,
        payment_id: payment_id(),
        amount: usd(3000),
        was_unapplied: false,
    };
    for (pledge, command, amount) in [
        (&pending, PledgeCommand::Expire, 5000),
        (&pending, PledgeCommand::record(is_failed("a")), 5000),
        (&authorized, PledgeCommand::record(is_failed("a")), 4000),
        (&authorized, PledgeCommand::Cancel, 4000),
        (&authorized, PledgeCommand::record(settled.clone()), 3000),
        (&authorized.clone().evolve(captured), PledgeCommand::record(settled), 3000),
    ] {
        let events = pledge.decide(&command).unwrap();
        let last = events.last().unwrap();
        assert_eq!(last.amount(), usd(amount), "{last:?}");
        let before = events[..events.len() - 1].iter().cloned().fold(pledge.clone(), Pledge::evolve);
        assert!(before.allows(last), "{last:?}");
        if !last.money_moves(DateTime::UNIX_EPOCH).is_empty() {
            continue;
        }
        let mut other = serde_json::to_value(last).unwrap();
        let fields = other.as_object_mut().unwrap().values_mut().next().unwrap();
        fields["amount"]["amount_minor"] = (amount - 1).into();
        let other: PledgeEvent = serde_json::from_value(other).unwrap();
        assert!(!before.allows(&other), "{other:?}");
    }
}

/// The commands that the worker makes of facts.
struct Run {
    pledge: Pledge,
    /// Every event, in order.
    events: Vec<PledgeEvent>,
    /// How many facts a person must look at.
    reviewed: usize,
}

/// Runs facts through decide and evolve as the inbox does: contradictions change nothing, and what
/// awaits its capture is tried again until nothing moves.
fn run(start: Pledge, facts: &[PaymentFact]) -> Run {
    let mut run = Run { pledge: start, events: Vec::new(), reviewed: 0 };
    let mut waiting = facts.to_vec();
    loop {
        let before = waiting.len();
        waiting.retain(|fact| match run.pledge.decide(&PledgeCommand::record(fact.clone())) {
            Ok(events) => {
                for event in events {
                    assert!(run.pledge.allows(&event), "{:?} does not allow {event:?}", run.pledge);
                    run.pledge = std::mem::take(&mut run.pledge).evolve(event.clone());
                    run.events.push(event);
                }
                false
            }
            Err(PledgeError::NeedsReview(_)) => {
                run.reviewed += 1;
                false
            }
            Err(PledgeError::AwaitsCapture(_)) => true,
            Err(error) => panic!("{error}"),
        });
        if waiting.len() == before {
            return run;
        }
    }
}

proptest! {
    #[test]
    fn captured_money_is_counted_once_whatever_contradicts_it(
        facts in Just(vec![
            is_authorized("a"), is_captured("a"), is_settled("a"), is_failed("a"),
            is_captured("b"), is_failed("b"), is_captured("a"), is_settled("b"),
        ]).prop_shuffle(),
    ) {
        let pledge = run(in_status(Pending), &facts).pledge;
        let record = pledge.record().unwrap();
        let applied = record.taken.values().filter(|taken| taken.usage == Usage::Applied).count();
        match &record.state {
            PledgeState::Captured(payment) | PledgeState::Completed(payment) => {
                prop_assert_eq!(record.taken[&payment.payment_id].usage, Usage::Applied);
                prop_assert_eq!(applied, 1);
            }
            PledgeState::Failed(_) => prop_assert_eq!(applied, 0),
            other @ (PledgeState::Pending
            | PledgeState::Authorized(_)
            | PledgeState::Expired
            | PledgeState::Cancelled) => prop_assert!(false, "unexpected {other:?}"),
        }
        let taken: Vec<_> = record.taken.keys().map(PaymentId::as_str).collect();
        prop_assert_eq!(taken, ["a", "b"]);
    }
}
