//! The figures of payments and pledges at every instant, from how the objects of each payment stand.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::payment::{ObjectKey, Step};
use domain::pledge::{PledgePayment, PledgeRecord, Usage};

/// The figures of one payment, in minor units of its currency. It is all nothing before money was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Taken. It is what is left and what is gone of it.
    pub(crate) captured: i64,
    /// Gone by refunds, of what was taken.
    pub(crate) refunded: i64,
    /// Gone by reversals, of what was taken.
    pub(crate) reversed: i64,
    /// Gone by lost disputes, of what was taken.
    pub(crate) charged_back: i64,
    /// Gone beyond what was taken.
    pub(crate) loss: i64,
    /// Withdrawn by disputes that are open. It is part of what is left.
    pub(crate) in_dispute: i64,
    /// Raised, or held apart.
    pub(crate) left: i64,
}

/// How each object of a payment stood, step by step.
type Objects<'a> = Vec<(&'a ObjectKey, Vec<Step>)>;

impl Figures {
    /// As far as is known now.
    pub(crate) fn of(payment: &PledgePayment) -> Self {
        Self::at(&payment.history.steps().collect(), DateTime::<Utc>::MAX_UTC)
    }

    /// At an instant the last step of each object counts that had happened.
    fn at(objects: &Objects<'_>, instant: DateTime<Utc>) -> Self {
        let (mut captured, mut in_dispute) = (0, 0);
        let [mut refunds, mut reversals, mut disputes] = [0; 3];
        for (object, steps) in objects {
            let Some(Step { content, .. }) = steps.iter().rfind(|step| step.at <= instant) else { continue };
            captured += content.captured_minor();
            in_dispute += content.withdrawn_minor();
            match object {
                ObjectKey::Payment => {}
                ObjectKey::Refund(_) => refunds += content.gone_minor(),
                ObjectKey::Reversal(_) => reversals += content.gone_minor(),
                ObjectKey::Dispute(_) => disputes += content.gone_minor(),
            }
        }
        if captured == 0 {
            return Self::default();
        }
        // What was taken goes by refunds first, then by reversals, then by lost disputes.
        let mut left = captured;
        let [refunded, reversed, charged_back] = [refunds, reversals, disputes].map(|gone: i64| {
            let of_it = gone.min(left);
            left -= of_it;
            of_it
        });
        let loss = refunds + reversals + disputes - refunded - reversed - charged_back;
        Self { captured, refunded, reversed, charged_back, loss, in_dispute, left }
    }
}

/// What money counts for in a campaign, in minor units, or a change of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Pledges that are paid.
    pub(crate) gifts: i64,
    /// Taken by payments that pay their pledges.
    pub(crate) captured: i64,
    /// Arrived at the charity.
    pub(crate) settled: i64,
    /// Of payments that pay: gone by refunds.
    pub(crate) refunded: i64,
    /// Of payments that pay: gone by reversals.
    pub(crate) reversed: i64,
    /// Of payments that pay: gone by lost disputes.
    pub(crate) charged_back: i64,
    /// Gone beyond what was taken.
    pub(crate) loss: i64,
    /// Withdrawn by disputes that are open.
    pub(crate) in_dispute: i64,
    /// Held apart, and still there.
    pub(crate) held_apart: i64,
}

impl Counted {
    /// The figures of a payment, where it pays its pledge or where it is held apart.
    fn of(figures: Figures, pays: bool) -> Self {
        let Figures { captured, refunded, reversed, charged_back, loss, in_dispute, left } = figures;
        if pays {
            let gifts = i64::from(captured > 0);
            let none = Self::default();
            Self { gifts, captured, refunded, reversed, charged_back, loss, in_dispute, ..none }
        } else {
            Self { held_apart: left, loss, in_dispute, ..Self::default() }
        }
    }

    /// What is left of money that pays.
    pub(crate) fn raised(&self) -> i64 {
        self.captured - self.refunded - self.reversed - self.charged_back
    }

    fn plus(self, other: Self) -> Self {
        Self {
            gifts: self.gifts + other.gifts,
            captured: self.captured + other.captured,
            settled: self.settled + other.settled,
            refunded: self.refunded + other.refunded,
            reversed: self.reversed + other.reversed,
            charged_back: self.charged_back + other.charged_back,
            loss: self.loss + other.loss,
            in_dispute: self.in_dispute + other.in_dispute,
            held_apart: self.held_apart + other.held_apart,
        }
    }

    fn negative(self) -> Self {
        Self {
            gifts: -self.gifts,
            captured: -self.captured,
            settled: -self.settled,
            refunded: -self.refunded,
            reversed: -self.reversed,
            charged_back: -self.charged_back,
            loss: -self.loss,
            in_dispute: -self.in_dispute,
            held_apart: -self.held_apart,
        }
    }
}

/// By how much the money of a pledge changes what its campaign counts, at each instant. There is no instant
/// at which nothing changes.
///
/// What an event changed is what there is after it less what there was before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ByInstant(BTreeMap<DateTime<Utc>, Counted>);

impl ByInstant {
    /// Of a pledge as it stands.
    pub(crate) fn of(record: &PledgeRecord) -> Self {
        let mut all = Self::default();
        for payment in record.payments.values() {
            all.add_all(Self::of_payment(payment));
        }
        all
    }

    fn of_payment(payment: &PledgePayment) -> Self {
        let objects: Objects<'_> = payment.history.steps().collect();
        let accepted_at = match payment.usage {
            Usage::AppliedSince(at) => Some(at),
            Usage::Uncaptured | Usage::Applied | Usage::Unapplied(_) | Usage::AcceptedAs(_) => None,
        };
        let happened = objects.iter().flat_map(|(_, steps)| steps.iter().map(|step| step.at));
        let mut instants: Vec<DateTime<Utc>> = happened.chain(accepted_at).collect();
        instants.sort_unstable();
        instants.dedup();
        let (mut all, mut before) = (Self::default(), Counted::default());
        for at in instants {
            let pays = match payment.usage {
                Usage::Applied => true,
                Usage::AppliedSince(accepted_at) => accepted_at <= at,
                Usage::Uncaptured | Usage::Unapplied(_) | Usage::AcceptedAs(_) => false,
            };
            let after = Counted::of(Figures::at(&objects, at), pays);
            all.add(at, after.plus(before.negative()));
            before = after;
        }
        if let Some(settled) = payment.settled {
            all.add(settled.at, Counted { settled: settled.amount.amount_minor(), ..Counted::default() });
        }
        match payment.came_as() {
            // The pledge that held it goes on counting it as it was then.
            Some(came_as) => all.since(&Self::of_payment(came_as)),
            None => all,
        }
    }

    fn add(&mut self, at: DateTime<Utc>, change: Counted) {
        let sum = self.0.get(&at).copied().unwrap_or_default().plus(change);
        if sum == Counted::default() {
            self.0.remove(&at);
        } else {
            self.0.insert(at, sum);
        }
    }

    fn add_all(&mut self, other: Self) {
        if self.0.is_empty() {
            *self = other;
        } else {
            other.0.into_iter().for_each(|(at, change)| self.add(at, change));
        }
    }

    /// What has changed since it was `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let mut changed = self.clone();
        before.0.iter().for_each(|(at, change)| changed.add(*at, change.negative()));
        changed
    }

    /// From the earliest instant to the latest.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (DateTime<Utc>, Counted)> {
        self.0.iter().map(|(at, change)| (*at, *change))
    }

    /// All changes together.
    pub(crate) fn total(&self) -> Counted {
        self.0.values().fold(Counted::default(), |sum, change| sum.plus(*change))
    }

    /// Whether nothing changes.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use domain::payment::{DisputeState, RefundState, ReversalState, Stated, Statement};

    use super::*;
    use crate::told::{OTHER, PLEDGE, Told, captured, eur, noon, told};

    fn refund(id: &str, minor: i64) -> Stated {
        Stated::refund(id.parse().unwrap(), RefundState::Succeeded(eur(minor)))
    }

    fn reversal(minor: i64) -> Stated {
        Stated::reversal("rv_1".parse().unwrap(), ReversalState::Gone(eur(minor)))
    }

    fn dispute(id: &str, state: DisputeState) -> Stated {
        Stated::dispute(id.parse().unwrap(), state)
    }

    fn lost(minor: i64) -> Stated {
        dispute("dp_1", DisputeState::Lost(eur(minor)))
    }

    /// A pledge of day 0, of which 5000 were captured on day 1.
    fn paid() -> Told {
        Told::new().pledge(PLEDGE, 0).hear(PLEDGE, 1, &[captured(1, 5000)])
    }

    fn by_instant(changes: &[(i64, Counted)]) -> ByInstant {
        ByInstant(changes.iter().map(|(day, change)| (noon(*day), *change)).collect())
    }

    const NONE: Counted = Counted {
        gifts: 0,
        captured: 0,
        settled: 0,
        refunded: 0,
        reversed: 0,
        charged_back: 0,
        loss: 0,
        in_dispute: 0,
        held_apart: 0,
    };
    const PAID: Counted = Counted { gifts: 1, captured: 5000, ..NONE };

    #[test]
    fn what_is_gone_is_attributed_in_a_fixed_order() {
        let of = |stated: &[Stated]| {
            let returns: Vec<Statement> = stated.iter().map(|stated| told(2, stated.clone())).collect();
            let pledge = paid().hear(PLEDGE, 2, &returns);
            let Figures { captured, refunded, reversed, charged_back, loss, in_dispute, left } =
                Figures::of(pledge.payment(PLEDGE));
            assert_eq!(captured, 5000);
            [refunded, reversed, charged_back, loss, in_dispute, left]
        };
        let open = |minor| dispute("dp_2", DisputeState::Opened(Some(eur(minor))));
        let won = dispute("dp_3", DisputeState::Won);
        assert_eq!(of(&[refund("re_1", 1000), refund("re_2", 500)]), [1500, 0, 0, 0, 0, 3500]);
        assert_eq!(of(&[refund("re_1", 1000), lost(2000), won, open(700)]), [1000, 0, 2000, 0, 700, 2000]);
        assert_eq!(of(&[refund("re_1", 2000), lost(5000)]), [2000, 0, 3000, 2000, 0, 0]);
        assert_eq!(of(&[lost(4000), reversal(3000)]), [0, 3000, 2000, 2000, 0, 0]);
        assert_eq!(of(&[refund("re_1", 5000), reversal(5000)]), [5000, 0, 0, 5000, 0, 0]);
        assert_eq!(of(&[open(5230)]), [0, 0, 0, 0, 5230, 5000]);
    }

    /// 2000 on day 1 and 5000 so far on day 2.
    #[test]
    fn money_counts_when_it_moved_whatever_was_heard_first() {
        let expected =
            by_instant(&[(1, Counted { captured: 2000, ..PAID }), (2, Counted { captured: 3000, ..NONE })]);
        let made = || Told::new().pledge(PLEDGE, 0);
        let (first, second) = ([captured(1, 2000)], [captured(2, 5000)]);
        assert_eq!(made().hear(PLEDGE, 1, &first).hear(PLEDGE, 2, &second).money(PLEDGE), expected);
        let late = made().hear(PLEDGE, 3, &second);
        let before = late.money(PLEDGE);
        assert_eq!(before, by_instant(&[(2, PAID)]));
        let late = late.hear(PLEDGE, 3, &first);
        assert_eq!(late.money(PLEDGE), expected);
        // What the second event changed: less on day 2, and a gift of day 1.
        let changed = by_instant(&[
            (1, Counted { captured: 2000, ..PAID }),
            (2, Counted { gifts: -1, captured: -2000, ..NONE }),
        ]);
        assert_eq!(late.money(PLEDGE).since(&before), changed);
        assert_eq!(changed.total(), NONE);
        // Money did not move before the pledge was made.
        let early = Told::new().pledge(PLEDGE, 4).hear(PLEDGE, 5, &first);
        assert_eq!(early.money(PLEDGE), by_instant(&[(4, Counted { captured: 2000, ..PAID })]));
    }

    #[test]
    fn returns_and_settlement_count_at_their_instants() {
        let open = dispute("dp_1", DisputeState::Opened(Some(eur(5230))));
        let won = Statement::answered(dispute("dp_1", DisputeState::Won), noon(6));
        let pledge = paid().settled(PLEDGE, 3, 5000).hear(PLEDGE, 5, &[told(5, lost(5230)), told(4, open)]);
        let expected = [
            (1, PAID),
            (3, Counted { settled: 5000, ..NONE }),
            (4, Counted { in_dispute: 5230, ..NONE }),
            (5, Counted { in_dispute: -5230, charged_back: 5000, loss: 230, ..NONE }),
        ];
        assert_eq!(pledge.money(PLEDGE), by_instant(&expected));
        assert_eq!(pledge.money(PLEDGE).total().raised(), 0);
        let before = pledge.money(PLEDGE);
        let pledge = pledge.hear(PLEDGE, 6, &[won]);
        let changed = by_instant(&[(6, Counted { charged_back: -5000, loss: -230, ..NONE })]);
        assert_eq!(pledge.money(PLEDGE).since(&before), changed);
        let pledge = pledge.hear(PLEDGE, 7, &[told(7, reversal(1000))]);
        assert_eq!(pledge.money(PLEDGE).total(), Counted { settled: 5000, reversed: 1000, ..PAID });
    }

    /// Captured on day 2 for an expired pledge, of which 1000 went back on day 3.
    fn held() -> Told {
        let refunded = [told(3, refund("re_1", 1000))];
        let expired = Told::new().pledge(PLEDGE, 0).expired(PLEDGE, 1);
        expired.hear(PLEDGE, 2, &[captured(2, 5000)]).hear(PLEDGE, 3, &refunded)
    }

    #[test]
    fn accepted_money_is_held_until_its_acceptance_and_counted_once() {
        let held_apart = |minor| Counted { held_apart: minor, ..NONE };
        let old = by_instant(&[(2, held_apart(5000)), (3, held_apart(-1000))]);
        let told = held().accepted(PLEDGE, OTHER, 4);
        assert_eq!(told.money(PLEDGE), old);
        let accepted = Counted { refunded: 1000, held_apart: -4000, ..PAID };
        assert_eq!(told.money(OTHER), by_instant(&[(4, accepted)]));
        // A refund of the time before is heard afterwards: it was a refund of held money then.
        let told = told.hear(OTHER, 5, &[crate::told::told(3, refund("re_2", 500))]);
        let accepted = Counted { refunded: 1500, held_apart: -3500, ..PAID };
        assert_eq!(told.money(OTHER), by_instant(&[(3, held_apart(-500)), (4, accepted)]));
        assert_eq!(told.money(PLEDGE), old);
    }

    #[test]
    fn held_money_has_losses_and_disputes_but_no_gift() {
        let told = held().hear(PLEDGE, 4, &[told(4, lost(5000))]);
        let expected = [
            (2, Counted { held_apart: 5000, ..NONE }),
            (3, Counted { held_apart: -1000, ..NONE }),
            (4, Counted { held_apart: -4000, loss: 1000, ..NONE }),
        ];
        assert_eq!(told.money(PLEDGE), by_instant(&expected));
    }

    /// 20000 for a pledge of 5000 is more than twice as much, so a person was asked.
    #[test]
    fn money_that_its_own_pledge_accepts_pays_from_then_on() {
        let told = Told::new().pledge(PLEDGE, 0).hear(PLEDGE, 1, &[captured(1, 20_000)]);
        let held = Counted { held_apart: 20_000, ..NONE };
        assert_eq!(told.money(PLEDGE), by_instant(&[(1, held)]));
        let told = told.applied(PLEDGE, 2);
        let pays = Counted { captured: 20_000, held_apart: -20_000, ..PAID };
        assert_eq!(told.money(PLEDGE), by_instant(&[(1, held), (2, pays)]));
    }
}
