//! Refunds, disputes and accepted money: every cell of their table, and the properties that order
//! and repetition do not matter and that every captured cent is in one figure.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::PledgeId;

const OTHER: PledgeId = PledgeId(Uuid::from_u128(3));

fn is_refunded(payment_id: &str, refund_id: &str, minor: i64) -> PaymentFact {
    let (payment_id, refund_id) = (payment(payment_id), refund_id.parse().unwrap());
    PaymentFact::Refunded { payment_id, refund_id, amount: usd(minor) }
}

fn is_disputed(payment_id: &str, dispute_id: &str, minor: i64) -> PaymentFact {
    let (payment_id, dispute_id) = (payment(payment_id), dispute_id.parse().unwrap());
    PaymentFact::DisputeOpened { payment_id, dispute_id, amount: usd(minor) }
}

fn is_won(payment_id: &str, dispute_id: &str, minor: i64) -> PaymentFact {
    let (payment_id, dispute_id) = (payment(payment_id), dispute_id.parse().unwrap());
    PaymentFact::DisputeWon { payment_id, dispute_id, amount: usd(minor) }
}

fn is_lost(payment_id: &str, dispute_id: &str, minor: i64) -> PaymentFact {
    let (payment_id, dispute_id) = (payment(payment_id), dispute_id.parse().unwrap());
    PaymentFact::DisputeLost { payment_id, dispute_id, amount: usd(minor) }
}

fn refunded(payment_id: &str, refund_id: &str, minor: i64, held: MoneyHeld) -> PledgeEvent {
    PledgeEvent::PaymentRefunded {
        campaign_id: CAMPAIGN,
        donor_id: DONOR,
        payment_id: payment(payment_id),
        refund_id: refund_id.parse().unwrap(),
        amount: usd(minor),
        held,
    }
}

fn disputed(payment_id: &str, minor: i64, held: MoneyHeld) -> PledgeEvent {
    PledgeEvent::PaymentDisputed {
        campaign_id: CAMPAIGN,
        donor_id: DONOR,
        payment_id: payment(payment_id),
        dispute_id: "d".parse().unwrap(),
        amount: usd(minor),
        held,
    }
}

fn won(payment_id: &str, minor: i64, held: MoneyHeld) -> PledgeEvent {
    PledgeEvent::DisputeWon {
        campaign_id: CAMPAIGN,
        donor_id: DONOR,
        payment_id: payment(payment_id),
        dispute_id: "d".parse().unwrap(),
        amount: usd(minor),
        held,
    }
}

fn lost(payment_id: &str, minor: i64, held: MoneyHeld) -> PledgeEvent {
    PledgeEvent::DisputeLost {
        campaign_id: CAMPAIGN,
        donor_id: DONOR,
        payment_id: payment(payment_id),
        dispute_id: "d".parse().unwrap(),
        amount: usd(minor),
        held,
    }
}

fn accepted(payment_id: &str) -> PledgeEvent {
    PledgeEvent::UnappliedAccepted {
        campaign_id: CAMPAIGN,
        donor_id: DONOR,
        payment_id: payment(payment_id),
        amount: usd(5000),
        accepted_as: OTHER,
    }
}

fn record(pledge: &Pledge, fact: PaymentFact) -> Result<Vec<PledgeEvent>, PledgeError> {
    pledge.decide(&PledgeCommand::record(fact))
}

fn accept(pledge: &Pledge, payment_id: &str) -> Result<Vec<PledgeEvent>, PledgeError> {
    let payment_id = payment(payment_id);
    pledge.decide(&PledgeCommand::AcceptUnapplied { payment_id, accepted_as: OTHER })
}

/// `pledge` after more events.
fn then(pledge: Pledge, events: Vec<PledgeEvent>) -> Pledge {
    events.into_iter().fold(pledge, |pledge, event| {
        assert!(pledge.allows(&event), "{pledge:?} does not allow {event:?}");
        pledge.evolve(event)
    })
}

/// A pledge in `status` that also holds payment `u` apart, in every status where that can be.
fn holding_apart() -> impl Iterator<Item = (PledgeStatus, Pledge)> {
    let statuses = [Captured, Completed, Failed, Expired, Cancelled];
    statuses.into_iter().map(|status| (status, then(in_status(status), vec![unapplied("u")])))
}

/// Checks one row: what `fact` about the payment that pays leads to in each status, where `events`
/// are those of a pledge whose money was taken.
fn row_of_taken(fact: &PaymentFact, events: &[PledgeEvent]) {
    let waits = || Err(PledgeError::AwaitsCapture(payment("a")));
    let done = || Ok(events.to_vec());
    row(fact, [waits(), waits(), done(), done(), waits(), waits(), waits()]);
}

#[test]
fn refunds_and_disputes_in_every_state() {
    let held = MoneyHeld::Raised;
    row_of_taken(&is_refunded("a", "r", 2000), &[refunded("a", "r", 2000, held)]);
    row_of_taken(&is_refunded("a", "r", 5000), &[refunded("a", "r", 5000, held)]);
    row_of_taken(&is_disputed("a", "d", 5000), &[disputed("a", 5000, held)]);
    row_of_taken(&is_won("a", "d", 5000), &[disputed("a", 5000, held), won("a", 5000, held)]);
    row_of_taken(&is_lost("a", "d", 2000), &[disputed("a", 2000, held), lost("a", 2000, held)]);
}

#[test]
fn money_held_apart_goes_back_from_where_it_is_held() {
    let held = MoneyHeld::Unapplied;
    for (status, pledge) in holding_apart() {
        for (fact, events) in [
            (is_refunded("u", "r", 2000), vec![refunded("u", "r", 2000, held)]),
            (is_disputed("u", "d", 5000), vec![disputed("u", 5000, held)]),
            (is_won("u", "d", 5000), vec![disputed("u", 5000, held), won("u", 5000, held)]),
            (is_lost("u", "d", 5000), vec![disputed("u", 5000, held), lost("u", 5000, held)]),
            (is_settled("u"), vec![]),
            (is_captured("u"), vec![]),
        ] {
            let decision = record(&pledge, fact.clone());
            assert_eq!(decision, Ok(events.clone()), "{fact:?} in {status}");
            // The same again says nothing new, and the state stays what it was.
            let after = then(pledge.clone(), events);
            assert_eq!(record(&after, fact), Ok(vec![]), "{status}");
            assert_eq!(after.status(), Some(status));
        }
    }
}

#[test]
fn what_is_known_of_money_that_went_back_says_nothing_new() {
    let held = MoneyHeld::Raised;
    let pledge = then(
        in_status(Completed),
        vec![refunded("a", "r", 2000, held), disputed("a", 3000, held), lost("a", 3000, held)],
    );
    for fact in [
        is_refunded("a", "r", 2000),
        is_disputed("a", "d", 3000),
        is_lost("a", "d", 3000),
        is_authorized("a"),
        is_captured("a"),
        is_settled("a"),
    ] {
        assert_eq!(record(&pledge, fact.clone()), Ok(vec![]), "{fact:?}");
    }
    assert_eq!(record(&pledge, is_failed("a")), review(Completed));
    let taken = pledge.record().unwrap().applied().unwrap();
    assert_eq!((taken.refunded_minor(), taken.charged_back_minor(), taken.left_minor()), (2000, 3000, 0));
}

#[test]
fn what_contradicts_itself_needs_review_and_changes_nothing() {
    let held = MoneyHeld::Raised;
    let pledge = then(in_status(Captured), vec![refunded("a", "r", 2000, held), disputed("a", 3000, held)]);
    let after_win = then(pledge.clone(), vec![won("a", 3000, held)]);
    let after_loss = then(pledge.clone(), vec![lost("a", 3000, held)]);
    let amount =
        |recorded, reported| Contradiction::Amount { recorded: usd(recorded), reported: usd(reported) };
    let above = |given_back_minor, reported| Contradiction::AboveCapture {
        captured: usd(5000),
        given_back_minor,
        reported: usd(reported),
    };
    let outcome = |recorded, reported| Contradiction::Outcome { recorded, reported };
    for (pledge, fact, contradiction) in [
        (&pledge, is_refunded("a", "r", 2001), amount(2000, 2001)),
        (&pledge, is_disputed("a", "d", 2999), amount(3000, 2999)),
        (&pledge, is_won("a", "d", 2999), amount(3000, 2999)),
        (&pledge, is_lost("a", "d", 3001), amount(3000, 3001)),
        (&pledge, is_refunded("a", "s", 3001), above(2000, 3001)),
        (&pledge, is_disputed("a", "e", 5001), above(2000, 5001)),
        (&pledge, is_lost("a", "e", 3001), above(2000, 3001)),
        (&after_loss, is_refunded("a", "s", 1), above(5000, 1)),
        (&after_win, is_lost("a", "d", 3000), outcome(DisputeStatus::Won, DisputeStatus::Lost)),
        (&after_loss, is_won("a", "d", 3000), outcome(DisputeStatus::Lost, DisputeStatus::Won)),
    ] {
        let expected = Err(PledgeError::NeedsReview(contradiction));
        assert_eq!(record(pledge, fact.clone()), expected, "{fact:?}");
    }
    let amount = Money::new(1, "EUR".parse().unwrap()).unwrap();
    let euros = PaymentFact::Refunded { payment_id: payment("a"), refund_id: "s".parse().unwrap(), amount };
    assert!(matches!(record(&pledge, euros), Err(PledgeError::NeedsReview(Contradiction::Currency(_)))));
}

#[test]
fn only_whole_money_that_is_held_apart_is_accepted() {
    for (status, pledge) in holding_apart() {
        assert_eq!(accept(&pledge, "u"), Ok(vec![accepted("u")]), "{status}");
        assert_eq!(accept(&pledge, "z"), Err(PledgeError::NotUnapplied(payment("z"))));
        let after = then(pledge.clone(), vec![accepted("u")]);
        assert_eq!(after.status(), Some(status));
        assert_eq!(accept(&after, "u"), Ok(vec![]), "again");
        let elsewhere = PledgeCommand::AcceptUnapplied {
            payment_id: payment("u"),
            accepted_as: PledgeId(Uuid::from_u128(4)),
        };
        assert_eq!(after.decide(&elsewhere), Err(PledgeError::MovedTo(OTHER)));

        let held = MoneyHeld::Unapplied;
        let not_intact = Err(PledgeError::NotIntact(payment("u")));
        let refunded = then(pledge.clone(), vec![refunded("u", "r", 1, held)]);
        assert_eq!(accept(&refunded, "u"), not_intact);
        let disputed = then(pledge, vec![disputed("u", 1, held)]);
        assert_eq!(accept(&disputed, "u"), not_intact);
        assert_eq!(accept(&then(disputed.clone(), vec![lost("u", 1, held)]), "u"), not_intact);
        assert_eq!(accept(&then(disputed, vec![won("u", 1, held)]), "u"), Ok(vec![accepted("u")]));
    }
    for status in [Captured, Completed] {
        assert_eq!(accept(&in_status(status), "a"), Err(PledgeError::NotUnapplied(payment("a"))));
    }
}

#[test]
fn facts_about_accepted_money_belong_to_the_pledge_it_became() {
    let held = MoneyHeld::Unapplied;
    for (status, pledge) in holding_apart() {
        let pledge = then(pledge, vec![disputed("u", 1, held), won("u", 1, held), accepted("u")]);
        for fact in [
            is_authorized("u"),
            is_captured("u"),
            is_settled("u"),
            is_failed("u"),
            is_refunded("u", "r", 2000),
            is_disputed("u", "e", 2000),
            is_won("u", "e", 2000),
            is_lost("u", "e", 2000),
        ] {
            let decision = record(&pledge, fact.clone());
            assert_eq!(decision, Err(PledgeError::MovedTo(OTHER)), "{fact:?} in {status}");
        }
        // The pledge it became has never heard of a dispute that ended before.
        assert_eq!(record(&pledge, is_disputed("u", "d", 1)), Ok(vec![]));
        assert_eq!(record(&pledge, is_won("u", "d", 1)), Ok(vec![]));
        assert!(matches!(record(&pledge, is_lost("u", "d", 1)), Err(PledgeError::NeedsReview(_))));
    }
}

#[test]
fn accepted_money_makes_a_pledge_that_is_paid() {
    let create = PledgeCommand::CreateAccepted {
        campaign_id: CAMPAIGN,
        donor_id: DONOR,
        payment_id: payment("u"),
        amount: usd(5000),
        anonymous: false,
    };
    for (status, pledge) in holding_apart() {
        assert_eq!(pledge.create_accepted(&payment("u")), Ok(create.clone()), "{status}");
        let after = then(pledge, vec![accepted("u")]);
        assert_eq!(after.create_accepted(&payment("u")), Ok(create.clone()), "{status}");
    }
    let not_unapplied = Err(PledgeError::NotUnapplied(payment("a")));
    assert_eq!(in_status(Captured).create_accepted(&payment("a")), not_unapplied);
    let events = vec![created(), authorized("u"), captured("u")];
    assert_eq!(Pledge::Absent.decide(&create), Ok(events.clone()));
    let pledge = given(events);
    assert_eq!(pledge.decide(&create), Err(PledgeError::AlreadyExists));
    assert_eq!(record(&pledge, is_captured("u")), Ok(vec![]));
    assert_eq!(record(&pledge, is_settled("u")), Ok(vec![completed("u")]));
    assert_eq!(record(&pledge, is_refunded("u", "r", 1)), Ok(vec![refunded("u", "r", 1, MoneyHeld::Raised)]));
}

#[test]
fn an_auditor_finds_money_that_is_not_there() {
    let raised = MoneyHeld::Raised;
    let pledge = then(in_status(Captured), vec![unapplied("u"), refunded("a", "r", 2000, raised)]);
    for event in [
        refunded("a", "r", 1, raised),
        refunded("a", "s", 3001, raised),
        refunded("a", "s", 1, MoneyHeld::Unapplied),
        refunded("u", "s", 1, raised),
        refunded("z", "s", 1, raised),
        won("a", 1, raised),
        lost("a", 1, raised),
        unapplied("u"),
        accepted("a"),
        accepted("z"),
    ] {
        assert!(!pledge.allows(&event), "{event:?}");
    }
    let disputed = then(pledge.clone(), vec![disputed("a", 4000, raised)]);
    assert!(!disputed.allows(&lost("a", 4000, raised)), "more than is left");
    assert!(!disputed.allows(&won("a", 3999, raised)), "another amount");
    assert!(!then(pledge, vec![accepted("u")]).allows(&refunded("u", "s", 1, MoneyHeld::Unapplied)));
}

/// The figures that a pledge is part of, in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Figures {
    captured: i64,
    settled: i64,
    raised: i64,
    unapplied: i64,
    refunded: i64,
    charged_back: i64,
    /// Withdrawn by disputes that are open, of raised money and of money held apart.
    in_dispute: i64,
    gifts: i64,
    /// Given back, in any way, of money held apart.
    back_of_unapplied: i64,
}

impl Figures {
    /// By the final state.
    fn of(pledge: &Pledge) -> Self {
        let mut figures = Self::default();
        for taken in pledge.record().into_iter().flat_map(|record| record.taken.values()) {
            let open = taken.disputes.values().filter(|dispute| dispute.status == DisputeStatus::Open);
            figures.in_dispute += open.map(|dispute| dispute.amount.amount_minor()).sum::<i64>();
            match taken.usage {
                Usage::Applied => {
                    figures.gifts += 1;
                    figures.captured += taken.amount.amount_minor();
                    if pledge.status() == Some(Completed) {
                        figures.settled += taken.amount.amount_minor();
                    }
                    figures.raised += taken.left_minor();
                    figures.refunded += taken.refunded_minor();
                    figures.charged_back += taken.charged_back_minor();
                }
                Usage::Unapplied => {
                    figures.unapplied += taken.left_minor();
                    figures.back_of_unapplied += taken.given_back_minor();
                }
                Usage::Accepted(_) => {}
            }
        }
        figures
    }

    /// By what the event moves, as projectors do. No figure is negative at any moment.
    fn add(&mut self, event: &PledgeEvent) {
        let recorded_at = DateTime::UNIX_EPOCH + TimeDelta::seconds(7);
        for moved in event.money_moves(recorded_at) {
            assert_eq!((moved.at, moved.currency), (recorded_at, event.amount().currency()));
            assert_eq!((moved.reversed_minor, moved.loss_minor), (0, 0), "nothing tells of these yet");
            self.gifts += moved.gifts;
            self.in_dispute += moved.in_dispute_minor;
            self.captured += moved.captured_minor;
            self.settled += moved.settled_minor;
            self.raised += moved.raised_minor();
            self.unapplied += moved.unapplied_minor;
            self.refunded += moved.refunded_minor;
            self.charged_back += moved.charged_back_minor;
            if !matches!(event, PledgeEvent::UnappliedAccepted { .. }) {
                self.back_of_unapplied += (-moved.unapplied_minor).max(0);
            }
        }
        assert!(self.raised >= 0 && self.unapplied >= 0 && self.in_dispute >= 0, "{self:?} after {event:?}");
    }

    /// Every cent that was taken.
    fn taken(self) -> i64 {
        self.raised + self.unapplied + self.refunded + self.charged_back + self.back_of_unapplied
    }
}

/// Runs facts and checks that the sum of the events is what the final state says.
fn run_adding_up(start: Pledge, facts: &[PaymentFact]) -> (Run, Figures) {
    let mut figures = Figures::of(&start);
    let run = run(start, facts);
    run.events.iter().for_each(|event| figures.add(event));
    assert_eq!(figures, Figures::of(&run.pledge));
    (run, figures)
}

/// A pledge in `status`, paid by payment `id` of `minor` where that means anything.
fn paid_by(status: PledgeStatus, id: &str, minor: i64) -> Pledge {
    let (campaign_id, donor_id, amount) = (CAMPAIGN, DONOR, usd(minor));
    let authorized = || PledgeEvent::PledgeAuthorized { campaign_id, payment_id: payment(id), amount };
    let captured = || PledgeEvent::PledgeCaptured {
        campaign_id,
        donor_id,
        payment_id: payment(id),
        amount,
        was_unapplied: false,
    };
    given(match status {
        Pending => vec![created()],
        Authorized => vec![created(), authorized()],
        Captured => vec![created(), authorized(), captured()],
        Completed => {
            let completed = PledgeEvent::PledgeCompleted { campaign_id, payment_id: payment(id), amount };
            vec![created(), authorized(), captured(), completed]
        }
        Failed => vec![created(), failed(id, Pending)],
        Expired => vec![created(), expired()],
        Cancelled => {
            let cancelled = PledgeEvent::PledgeCancelled { campaign_id, payment_id: payment(id), amount };
            vec![created(), authorized(), cancelled]
        }
    })
}

#[derive(Clone, Copy, Debug)]
enum Return {
    Refund,
    Disputed,
    Won,
    Lost,
}

/// Facts that one payment `a` of `captured_minor` may bring: no more goes back than was taken.
fn possible_facts(captured_minor: i64, returns: &[(Return, i64)]) -> Vec<PaymentFact> {
    let amount = usd(captured_minor);
    let mut facts = vec![
        PaymentFact::Authorized { payment_id: payment("a"), amount },
        PaymentFact::Captured { payment_id: payment("a"), amount },
        PaymentFact::Settled { payment_id: payment("a"), amount },
    ];
    let mut left_minor = captured_minor;
    for (n, (kind, minor)) in returns.iter().enumerate() {
        let (id, minor) = (n.to_string(), *minor.min(&captured_minor));
        match kind {
            Return::Refund if minor <= left_minor => {
                facts.push(is_refunded("a", &id, minor));
                left_minor -= minor;
            }
            Return::Lost if minor <= left_minor => {
                facts.extend([is_disputed("a", &id, minor), is_lost("a", &id, minor)]);
                left_minor -= minor;
            }
            Return::Disputed => facts.push(is_disputed("a", &id, minor)),
            Return::Won => facts.extend([is_disputed("a", &id, minor), is_won("a", &id, minor)]),
            Return::Refund | Return::Lost => {}
        }
    }
    facts
}

/// The amount of a payment, and what of its facts arrives: each never or up to three times, in any
/// order.
fn deliveries() -> impl Strategy<Value = (i64, Vec<PaymentFact>)> {
    let kinds = proptest::sample::select(&[Return::Refund, Return::Disputed, Return::Won, Return::Lost][..]);
    (1..=10_000_i64, proptest::collection::vec((kinds, 1..=5_000_i64), 0..6))
        .prop_map(|(captured_minor, returns)| (captured_minor, possible_facts(captured_minor, &returns)))
        .prop_flat_map(|(captured_minor, facts)| {
            let times = proptest::collection::vec(0..=3_usize, facts.len());
            (Just(captured_minor), Just(facts), times)
        })
        .prop_flat_map(|(captured_minor, facts, times)| {
            let arriving: Vec<_> =
                facts.into_iter().zip(times).flat_map(|(fact, times)| vec![fact; times]).collect();
            (Just(captured_minor), Just(arriving).prop_shuffle())
        })
}

/// In the order in which it happens, each once.
fn in_order(facts: &[PaymentFact]) -> Vec<PaymentFact> {
    let mut sorted = facts.to_vec();
    sorted.sort_by_key(|fact| {
        let step = match fact {
            PaymentFact::Authorized { .. } => 0,
            PaymentFact::Captured { .. } => 1,
            PaymentFact::Settled { .. } => 2,
            PaymentFact::Failed { .. } => 3,
            PaymentFact::Refunded { .. } => 4,
            PaymentFact::DisputeOpened { .. } => 5,
            PaymentFact::DisputeWon { .. } | PaymentFact::DisputeLost { .. } => 6,
        };
        (step, format!("{fact:?}"))
    });
    sorted.dedup();
    sorted
}

/// Facts that need not agree with one another.
fn any_fact() -> impl Strategy<Value = PaymentFact> {
    let payments = proptest::sample::select(&["a", "b"][..]);
    let ids = proptest::sample::select(&["1", "2", "3"][..]);
    let amounts = proptest::sample::select(&[5000, 4999, 3000, 2000, 6000_i64][..]);
    (0..8, payments, ids, amounts).prop_map(|(kind, payment_id, id, minor)| match kind {
        0 => PaymentFact::Authorized { payment_id: payment(payment_id), amount: usd(minor) },
        1 => PaymentFact::Captured { payment_id: payment(payment_id), amount: usd(minor) },
        2 => PaymentFact::Settled { payment_id: payment(payment_id), amount: usd(minor) },
        3 => is_failed(payment_id),
        4 => is_refunded(payment_id, id, minor),
        5 => is_disputed(payment_id, id, minor),
        6 => is_won(payment_id, id, minor),
        _ => is_lost(payment_id, id, minor),
    })
}

/// The amounts with which each payment is reported as taken.
fn reported_captures(start: &Pledge, facts: &[PaymentFact]) -> BTreeMap<PaymentId, BTreeSet<i64>> {
    let before = start.record().unwrap().taken.iter().map(|(id, taken)| (id, taken.amount));
    let reported = facts.iter().filter_map(|fact| match fact {
        PaymentFact::Captured { payment_id, amount } | PaymentFact::Settled { payment_id, amount } => {
            Some((payment_id, *amount))
        }
        PaymentFact::Authorized { .. }
        | PaymentFact::Failed { .. }
        | PaymentFact::Refunded { .. }
        | PaymentFact::DisputeOpened { .. }
        | PaymentFact::DisputeWon { .. }
        | PaymentFact::DisputeLost { .. } => None,
    });
    let mut captures: BTreeMap<PaymentId, BTreeSet<i64>> = BTreeMap::new();
    for (id, amount) in before.chain(reported) {
        captures.entry(id.clone()).or_default().insert(amount.amount_minor());
    }
    captures
}

/// Every order of some facts.
fn permutations(facts: &[PaymentFact]) -> Vec<Vec<PaymentFact>> {
    if facts.is_empty() {
        return vec![vec![]];
    }
    let with_first = |first: usize| {
        let rest = [&facts[..first], &facts[first + 1..]].concat();
        let prepend = move |rest: Vec<PaymentFact>| [vec![facts[first].clone()], rest].concat();
        permutations(&rest).into_iter().map(prepend)
    };
    (0..facts.len()).flat_map(with_first).collect()
}

#[test]
fn every_order_of_a_payments_facts_comes_to_the_same() {
    let facts = possible_facts(5000, &[(Return::Refund, 2000), (Return::Lost, 3000)]);
    assert_eq!(facts.len(), 6);
    for status in PledgeStatus::ALL {
        for paid_before_by in ["a", "z"] {
            let start = paid_by(status, paid_before_by, 5000);
            let (expected, expected_figures) = run_adding_up(start.clone(), &facts);
            for order in permutations(&facts) {
                // Each is told twice, and again in another order.
                let twice = order.iter().flat_map(|fact| vec![fact.clone(); 2]);
                let told: Vec<_> = twice.chain(facts.iter().rev().cloned()).collect();
                let (found, figures) = run_adding_up(start.clone(), &told);
                assert_eq!(
                    (&found.pledge, figures),
                    (&expected.pledge, expected_figures),
                    "{status}: {order:?}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn order_and_repetition_of_the_facts_of_one_payment_do_not_matter(
        (captured_minor, facts) in deliveries(),
        status in proptest::sample::select(&PledgeStatus::ALL[..]),
        paid_before_by in proptest::sample::select(&["a", "z"][..]),
    ) {
        let start = paid_by(status, paid_before_by, captured_minor);
        let (expected, expected_figures) = run_adding_up(start.clone(), &in_order(&facts));
        let (found, figures) = run_adding_up(start, &facts);
        prop_assert_eq!(expected.reviewed + found.reviewed, 0, "nothing contradicts itself");
        prop_assert_eq!(found.pledge, expected.pledge);
        prop_assert_eq!(figures, expected_figures);
    }

    #[test]
    fn a_payment_that_fails_comes_to_the_same_in_any_order(
        facts in Just(vec![is_authorized("a"), is_failed("a"), is_authorized("a"), is_failed("a")])
            .prop_shuffle(),
        status in proptest::sample::select(&PledgeStatus::ALL[..]),
        paid_before_by in proptest::sample::select(&["a", "z"][..]),
    ) {
        let start = paid_by(status, paid_before_by, 5000);
        let (expected, expected_figures) = run_adding_up(start.clone(), &in_order(&facts));
        let (found, figures) = run_adding_up(start, &facts);
        prop_assert_eq!(found.pledge, expected.pledge);
        prop_assert_eq!(figures, expected_figures);
    }

    #[test]
    fn every_captured_cent_is_in_one_figure_whatever_contradicts_itself(
        facts in proptest::collection::vec(any_fact(), 0..25),
        status in proptest::sample::select(&PledgeStatus::ALL[..]),
    ) {
        let start = in_status(status);
        let reported = reported_captures(&start, &facts);
        let (run, figures) = run_adding_up(start, &facts);
        let taken = &run.pledge.record().unwrap().taken;
        prop_assert!(taken.keys().eq(reported.keys()), "{taken:?}, {reported:?}");
        for (id, taken) in taken {
            prop_assert!(reported[id].contains(&taken.amount.amount_minor()), "{id}: {taken:?}");
            prop_assert!(taken.left_minor() >= 0, "{taken:?}");
        }
        let sum: i64 = taken.values().map(|taken| taken.amount.amount_minor()).sum();
        prop_assert_eq!(figures.taken(), sum);
        let applied = taken.values().filter(|taken| taken.usage == Usage::Applied).count();
        prop_assert!(applied <= 1);
    }
}
