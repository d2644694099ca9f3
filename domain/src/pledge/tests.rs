//! Given a state, when a command, then these events or that error: every cell of the table of
//! facts and states, and the property that order and repetition do not matter.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{CampaignId, Decide, DonorId, Money, PaymentId};
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
    }
}

fn completed(id: &str) -> PledgeEvent {
    PledgeEvent::PledgeCompleted { campaign_id: CAMPAIGN, payment_id: payment(id) }
}

fn failed(id: &str, from: PledgeStatus) -> PledgeEvent {
    PledgeEvent::PledgeFailed { campaign_id: CAMPAIGN, from, payment_id: payment(id), reason: None }
}

fn unapplied(id: &str) -> PledgeEvent {
    PledgeEvent::PaymentUnapplied {
        campaign_id: CAMPAIGN,
        donor_id: DONOR,
        payment_id: payment(id),
        amount: usd(5000),
    }
}

fn expired() -> PledgeEvent {
    PledgeEvent::PledgeExpired { campaign_id: CAMPAIGN }
}

fn cancelled(id: &str) -> PledgeEvent {
    PledgeEvent::PledgeCancelled { campaign_id: CAMPAIGN, payment_id: payment(id) }
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
        let decision = in_status(status).decide(&PledgeCommand::Record(fact.clone()));
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
        let decision = in_status(status).decide(&PledgeCommand::Record(is_settled("b")));
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
        PledgeCommand::Record(is_captured("a")),
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
                in_status(status).decide(&PledgeCommand::Record(fact)),
                Err(PledgeError::NeedsReview(Contradiction::Currency(_)))
            ),
            "{status}"
        );
    }
    for status in [Captured, Completed] {
        let fact = PaymentFact::Captured { payment_id: payment("a"), amount: usd(4999) };
        assert!(
            matches!(
                in_status(status).decide(&PledgeCommand::Record(fact)),
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

/// Runs facts through decide and evolve as the worker does; contradictions change nothing.
fn run(start: Pledge, facts: &[PaymentFact]) -> Pledge {
    facts.iter().fold(start, |state, fact| match state.decide(&PledgeCommand::Record(fact.clone())) {
        Ok(events) => events.into_iter().fold(state, |state, event| {
            assert!(state.allows(&event), "{state:?} does not allow {event:?}");
            state.evolve(event)
        }),
        Err(PledgeError::NeedsReview(_)) => state,
        Err(error) => panic!("{error}"),
    })
}

fn facts_of_one_payment() -> impl Strategy<Value = Vec<PaymentFact>> {
    let sets = prop_oneof![
        Just(vec![is_authorized("a")]),
        Just(vec![is_authorized("a"), is_captured("a")]),
        Just(vec![is_authorized("a"), is_captured("a"), is_settled("a")]),
        Just(vec![is_captured("a"), is_settled("a")]),
        Just(vec![is_settled("a")]),
    ];
    // Each fact arrives one to three times, in any order.
    sets.prop_flat_map(|facts| {
        let len = facts.len();
        (Just(facts), proptest::collection::vec(1..=3_usize, len))
    })
    .prop_flat_map(|(facts, times)| {
        let deliveries: Vec<_> = facts.into_iter().zip(times).flat_map(|(fact, n)| vec![fact; n]).collect();
        Just(deliveries).prop_shuffle()
    })
}

proptest! {
    #[test]
    fn order_and_repetition_of_facts_do_not_matter(
        facts in facts_of_one_payment(),
        start in proptest::sample::select(&PledgeStatus::ALL[..]),
    ) {
        let mut in_order = facts.clone();
        in_order.sort_by_key(|fact| match fact {
            PaymentFact::Authorized { .. } => 0,
            PaymentFact::Captured { .. } => 1,
            PaymentFact::Settled { .. } => 2,
            PaymentFact::Failed { .. } => 3,
            PaymentFact::Refunded { .. } => 4,
            PaymentFact::DisputeOpened { .. } => 5,
            PaymentFact::DisputeWon { .. } | PaymentFact::DisputeLost { .. } => 6,
        });
        in_order.dedup();
        prop_assert_eq!(run(in_status(start), &facts), run(in_status(start), &in_order));
    }

    #[test]
    fn captured_money_is_counted_once_whatever_contradicts_it(
        facts in Just(vec![
            is_authorized("a"), is_captured("a"), is_settled("a"), is_failed("a"),
            is_captured("b"), is_failed("b"), is_captured("a"), is_settled("b"),
        ]).prop_shuffle(),
    ) {
        let pledge = run(in_status(Pending), &facts);
        let record = pledge.record().unwrap();
        let mut held: Vec<_> = record.unapplied.iter().map(|p| p.payment_id.to_string()).collect();
        match &record.state {
            PledgeState::Captured(payment) | PledgeState::Completed(payment) => {
                held.push(payment.payment_id.to_string());
            }
            PledgeState::Failed(_) => {}
            other @ (PledgeState::Pending
            | PledgeState::Authorized(_)
            | PledgeState::Expired
            | PledgeState::Cancelled) => prop_assert!(false, "unexpected {other:?}"),
        }
        held.sort();
        prop_assert_eq!(held, vec!["a".to_owned(), "b".to_owned()]);
    }
}
