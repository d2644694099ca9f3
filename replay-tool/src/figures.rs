//! The figures of one payment, from how it stands.

use domain::pledge::{DisputeStatus, TakenPayment, Usage};

/// In minor units of the payment's currency.
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

impl Figures {
    /// Of a payment that is the pledge's own or held apart. What was accepted as another pledge is counted
    /// there, and is nothing here.
    pub(crate) fn of(taken: &TakenPayment) -> Self {
        if let Usage::Accepted(_) = taken.usage {
            return Self::default();
        }
        let captured = taken.amount.amount_minor();
        let in_disputes = |status: DisputeStatus| -> i64 {
            let such = taken.disputes.values().filter(|dispute| dispute.status == status);
            such.map(|dispute| dispute.amount.amount_minor()).sum()
        };
        let refunds = taken.refunds.values().map(|amount| amount.amount_minor()).sum();
        // No state of a pledge knows of reversals.
        let (reversals, lost) = (0, in_disputes(DisputeStatus::Lost));
        // What was taken goes by refunds first, then by reversals, then by lost disputes.
        let mut left = captured;
        let [refunded, reversed, charged_back] = [refunds, reversals, lost].map(|gone: i64| {
            let of_it = gone.min(left);
            left -= of_it;
            of_it
        });
        let loss = refunds + reversals + lost - refunded - reversed - charged_back;
        let in_dispute = in_disputes(DisputeStatus::Open);
        Self { captured, refunded, reversed, charged_back, loss, in_dispute, left }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::pledge::Dispute;
    use domain::{Money, PledgeId};
    use uuid::Uuid;

    fn usd(minor: i64) -> Money {
        Money::new(minor, "USD".parse().unwrap()).unwrap()
    }

    /// Of 5000 taken: refunds of these amounts, and disputes.
    fn taken(refunds: &[i64], disputes: &[(i64, DisputeStatus)]) -> TakenPayment {
        let refunds = (0..).zip(refunds).map(|(n, minor)| (format!("re_{n}").parse().unwrap(), usd(*minor)));
        let disputes = (0..).zip(disputes).map(|(n, (minor, status))| {
            (format!("dp_{n}").parse().unwrap(), Dispute { amount: usd(*minor), status: *status })
        });
        TakenPayment {
            amount: usd(5000),
            usage: Usage::Applied,
            was_unapplied: false,
            refunds: refunds.collect(),
            disputes: disputes.collect(),
        }
    }

    #[test]
    fn what_is_gone_is_attributed_in_a_fixed_order() {
        use DisputeStatus::{Lost, Open, Won};
        let of = |refunds: &[i64], disputes: &[(i64, DisputeStatus)]| {
            let Figures { captured, refunded, reversed, charged_back, loss, in_dispute, left } =
                Figures::of(&taken(refunds, disputes));
            assert_eq!((captured, reversed), (5000, 0));
            [refunded, charged_back, loss, in_dispute, left]
        };
        assert_eq!(of(&[], &[]), [0, 0, 0, 0, 5000]);
        assert_eq!(of(&[1000, 500], &[(2000, Lost), (900, Won), (700, Open)]), [1500, 2000, 0, 700, 1500]);
        assert_eq!(of(&[2000], &[(5000, Lost)]), [2000, 3000, 2000, 0, 0]);
        assert_eq!(of(&[], &[(5230, Open)]), [0, 0, 0, 5230, 5000]);
    }

    #[test]
    fn what_was_accepted_is_counted_elsewhere() {
        let accepted =
            TakenPayment { usage: Usage::Accepted(PledgeId(Uuid::from_u128(1))), ..taken(&[1000], &[]) };
        assert_eq!(Figures::of(&accepted), Figures::default());
    }
}
