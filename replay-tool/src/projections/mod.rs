//! The auditor's rules for each projection, one file each.
//!
//! A projection says which tables it has, and which rows the ledger expects in them at its position.
//! These are rules of their own: nothing here is shared with the projectors but the domain.

pub(crate) mod accounts;
pub(crate) mod campaign_totals;
mod campaigns;
mod days;
mod hours;
mod pledges;
mod steps;
mod totals_history;

use std::io;

use domain::{Campaign, Pledge};

use crate::occurrence::{FinalState, Occurrence};
use crate::rows::{Rows, Table};
use crate::sorter::Room;

/// The rows that the ledger expects of a projection. Campaigns come first, then pledges, each with
/// all its events in order, and then as it stands at the end.
pub(crate) trait Projection: Send {
    /// An event of a campaign, and the campaign after it.
    ///
    /// # Errors
    /// The temporary file cannot be written.
    fn campaign_event(&mut self, _: &Occurrence<'_, Campaign>, _: &mut Rows) -> io::Result<()> {
        Ok(())
    }

    /// A campaign as it stands at the end.
    ///
    /// # Errors
    /// As above.
    fn campaign(&mut self, _: &FinalState<'_, Campaign>, _: &mut Rows) -> io::Result<()> {
        Ok(())
    }

    /// An event of a pledge, and the pledge after it.
    ///
    /// # Errors
    /// As above.
    fn pledge_event(&mut self, _: &Occurrence<'_, Pledge>, _: &mut Rows) -> io::Result<()> {
        Ok(())
    }

    /// A pledge as it stands at the end.
    ///
    /// # Errors
    /// As above.
    fn pledge(&mut self, _: &FinalState<'_, Pledge>, _: &mut Rows) -> io::Result<()> {
        Ok(())
    }

    /// All campaigns and pledges were given.
    ///
    /// # Errors
    /// As above.
    fn finish(&mut self, _: &mut Rows) -> io::Result<()> {
        Ok(())
    }
}

/// A projection that is compared.
pub(crate) struct Audit {
    /// Which one.
    pub(crate) projection: read_model::Projection,
    /// Its tables.
    pub(crate) tables: &'static [Table],
    /// Makes it anew, within some room.
    pub(crate) make: fn(&Room) -> Box<dyn Projection>,
}

/// How a projection is compared.
pub(crate) fn audit(projection: read_model::Projection) -> &'static Audit {
    use read_model::Projection;
    match projection {
        Projection::Campaigns => &campaigns::AUDIT,
        Projection::Pledges => &pledges::AUDIT,
        Projection::CampaignHours => &hours::AUDIT,
        Projection::CampaignTotals => &campaign_totals::AUDIT,
        Projection::TotalsHistory => &totals_history::AUDIT,
        Projection::Accounts => &accounts::AUDIT,
        Projection::Days => &days::AUDIT,
    }
}

#[cfg(test)]
mod tests {
    use domain::payment::{DisputeState, RefundState, ReversalState, Stated};
    use read_model::Projection;

    use super::audit;
    use crate::told::{OTHER, PLEDGE, Told, captured, eur, told};

    #[test]
    fn every_table_of_every_projection_is_compared() {
        for projection in Projection::ALL {
            let audit = audit(projection);
            assert_eq!(audit.projection, projection);
            let tables: Vec<&str> = audit.tables.iter().map(|table| table.name).collect();
            assert_eq!(tables, projection.tables());
        }
    }

    /// A pledge of day 0. On day 3 it was heard that 5000 so far were captured on day 2, and on day 4 that
    /// 2000 of them were captured on day 1. Then a dispute of 5230 was lost, and what a reversal took came
    /// back.
    fn heard_late() -> Told {
        let lost = Stated::dispute("dp_1".parse().unwrap(), DisputeState::Lost(eur(5230)));
        let reversal = |state| Stated::reversal("rv_1".parse().unwrap(), state);
        let gone = told(5, reversal(ReversalState::Gone(eur(1000))));
        Told::new()
            .pledge(PLEDGE, 0)
            .hear(PLEDGE, 3, &[captured(2, 5000)])
            .hear(PLEDGE, 4, &[captured(1, 2000)])
            .settled(PLEDGE, 4, 5000)
            .hear(PLEDGE, 5, &[gone])
            .hear(PLEDGE, 6, &[told(6, lost)])
    }

    /// 5000 for an expired pledge, of which 1000 went back on day 3, became another pledge on day 4.
    fn accepted() -> Told {
        let refund = Stated::refund("re_1".parse().unwrap(), RefundState::Succeeded(eur(1000)));
        Told::new()
            .pledge(PLEDGE, 0)
            .expired(PLEDGE, 1)
            .hear(PLEDGE, 2, &[captured(2, 5000)])
            .hear(PLEDGE, 3, &[told(3, refund)])
            .accepted(PLEDGE, OTHER, 4)
    }

    fn rows(told: &Told, projection: Projection, table: &str, columns: &[&str]) -> Vec<String> {
        told.rows(audit(projection), table, columns)
    }

    #[test]
    fn totals_and_donors_are_what_money_comes_to() {
        let columns =
            ["raised_minor", "refunded_minor", "reversed_minor", "charged_back_minor", "loss_minor"];
        let columns = [&columns[..], &["unapplied_minor", "donors", "captured", "completed"]].concat();
        let totals = |told: &Told| rows(told, Projection::CampaignTotals, "campaign_totals", &columns);
        assert_eq!(totals(&heard_late()), ["0 0 1000 4000 1230 0 1 0 1"]);
        assert_eq!(totals(&accepted()), ["4000 1000 0 0 0 0 1 1 0"]);
        let columns = ["captured_pledges", "captured_minor", "first_captured_at", "last_captured_at"];
        let donors = |told: &Told| rows(told, Projection::CampaignTotals, "campaign_donors", &columns);
        let expected = "1 5000 1970-01-02T12:00:00.000000Z 1970-01-03T12:00:00.000000Z";
        assert_eq!(donors(&heard_late()), [expected]);
        let captures = |told: &Told| {
            rows(told, Projection::CampaignTotals, "campaign_captures", &["captured_at", "captured_minor"])
        };
        let expected = ["1970-01-02T12:00:00.000000Z 2000", "1970-01-03T12:00:00.000000Z 3000"];
        assert_eq!(captures(&heard_late()), expected);
        assert_eq!(captures(&accepted()), ["1970-01-05T12:00:00.000000Z 5000"]);
    }

    #[test]
    fn totals_have_a_history() {
        let columns = ["position", "raised_minor", "loss_minor", "unapplied_minor", "donors"];
        let columns = [&columns[..], &["pending", "expired"]].concat();
        let history =
            |told: &Told| rows(told, Projection::TotalsHistory, "campaign_totals_history", &columns);
        let expected = [
            "1 0 0 0 0 0 0",
            "2 0 0 0 0 1 0",
            "3 0 0 0 0 0 0",
            "4 5000 0 0 1 0 0",
            "5 5000 0 0 1 0 0",
            "6 5000 0 0 1 0 0",
            "7 4000 0 0 1 0 0",
            "8 0 1230 0 1 0 0",
        ];
        assert_eq!(history(&heard_late()), expected);
        let expected = [
            "1 0 0 0 0 0 0",
            "2 0 0 0 0 1 0",
            "3 0 0 0 0 0 1",
            "4 0 0 5000 0 0 1",
            "5 0 0 4000 0 0 1",
            "6 0 0 4000 0 0 1",
            "7 0 0 4000 0 1 1",
            "8 0 0 4000 0 0 1",
            "9 4000 0 0 1 0 1",
        ];
        assert_eq!(history(&accepted()), expected);
    }

    #[test]
    fn money_counts_on_its_day_and_a_day_that_changes_late_says_when() {
        let columns = ["day", "captured", "captured_minor", "unapplied_minor", "net_minor", "revised_at"];
        let days = |told: &Told| rows(told, Projection::Days, "campaign_days", &columns);
        let expected = [
            "1970-01-01 0 0 0 0 -",
            "1970-01-02 1 2000 0 2000 1970-01-05T12:00:00.000000Z",
            "1970-01-03 0 3000 0 3000 1970-01-05T12:00:00.000000Z",
            "1970-01-05 0 0 0 0 -",
            "1970-01-06 0 0 0 -1000 -",
            "1970-01-07 0 0 0 -4000 -",
        ];
        assert_eq!(days(&heard_late()), expected);
        let expected = [
            "1970-01-01 0 0 0 0 -",
            "1970-01-02 0 0 0 0 -",
            "1970-01-03 0 0 5000 0 -",
            "1970-01-04 0 0 -1000 0 -",
            "1970-01-05 1 5000 -4000 4000 -",
        ];
        assert_eq!(days(&accepted()), expected);
        let hours = |told: &Told| {
            let columns = ["hour", "created", "captured", "captured_minor"];
            rows(told, Projection::CampaignHours, "campaign_hours", &columns)
        };
        let expected = [
            "1970-01-01T12:00:00.000000Z 1 0 0",
            "1970-01-02T12:00:00.000000Z 0 1 2000",
            "1970-01-03T12:00:00.000000Z 0 0 3000",
        ];
        assert_eq!(hours(&heard_late()), expected);
    }

    #[test]
    fn every_change_is_posted_at_its_instant() {
        let columns = ["position", "line", "debit_account", "credit_account", "amount_minor", "occurred_at"];
        let journal = |told: &Told| rows(told, Projection::Accounts, "journal", &columns);
        let expected = [
            "4 1 provider_clearing campaign 5000 1970-01-03T12:00:00.000000Z",
            "5 1 provider_clearing campaign 2000 1970-01-02T12:00:00.000000Z",
            "5 2 campaign provider_clearing 2000 1970-01-03T12:00:00.000000Z",
            "6 1 bank provider_clearing 5000 1970-01-05T12:00:00.000000Z",
            "7 1 reversals provider_clearing 1000 1970-01-06T12:00:00.000000Z",
            "8 1 chargebacks provider_clearing 4000 1970-01-07T12:00:00.000000Z",
            "8 2 losses provider_clearing 1230 1970-01-07T12:00:00.000000Z",
        ];
        assert_eq!(journal(&heard_late()), expected);
        let expected = [
            "4 1 provider_clearing unapplied 5000 1970-01-03T12:00:00.000000Z",
            "5 1 unapplied provider_clearing 1000 1970-01-04T12:00:00.000000Z",
            "9 1 provider_clearing campaign 5000 1970-01-05T12:00:00.000000Z",
            "9 2 refunds provider_clearing 1000 1970-01-05T12:00:00.000000Z",
            "9 3 unapplied provider_clearing 4000 1970-01-05T12:00:00.000000Z",
        ];
        assert_eq!(journal(&accepted()), expected);
        let columns = ["provider_clearing_minor", "bank_minor", "campaign_minor", "unapplied_minor"];
        let columns = [&columns[..], &["refunds_minor", "losses_minor", "position"]].concat();
        let balances = |told: &Told| rows(told, Projection::Accounts, "campaign_accounts", &columns);
        assert_eq!(balances(&heard_late()), ["-6230 5000 -5000 0 0 1230 8"]);
        assert_eq!(balances(&accepted()), ["4000 0 -5000 0 1000 0 9"]);
    }

    #[test]
    fn pledges_gifts_and_held_money_have_their_rows() {
        let columns = ["status", "captured_minor", "reversed_minor", "charged_back_minor", "loss_minor"];
        let pledges = |told: &Told| rows(told, Projection::Pledges, "pledges", &columns);
        assert_eq!(pledges(&heard_late()), ["completed 5000 1000 4000 1230"]);
        assert_eq!(pledges(&accepted()), ["expired - 0 0 0", "captured 5000 0 0 0"]);
        let donations = |told: &Told| {
            rows(told, Projection::Pledges, "donations", &["position", "amount_minor", "captured_at"])
        };
        assert_eq!(donations(&heard_late()), ["4 5000 1970-01-02T12:00:00.000000Z"]);
        assert_eq!(donations(&accepted()), ["9 5000 1970-01-05T12:00:00.000000Z"]);
        let columns = ["amount_minor", "given_back_minor", "status", "accepted_as", "position"];
        let held = |told: &Told| rows(told, Projection::Pledges, "unapplied_payments", &columns);
        assert_eq!(held(&accepted()), [format!("5000 1000 accepted {OTHER} 4")]);
        let again = |id: &str, minor| {
            let refund = Stated::refund(id.parse().unwrap(), RefundState::Succeeded(eur(minor)));
            [told(5, refund)]
        };
        // What goes back afterwards is a matter of the other pledge.
        let later = accepted().hear(OTHER, 5, &again("re_2", 500));
        assert_eq!(held(&later), held(&accepted()));
        let limit = || Told::new().pledge(PLEDGE, 0).hear(PLEDGE, 1, &[captured(1, 20_000)]);
        assert_eq!(held(&limit()), ["20000 0 held - 3"]);
        let applied = limit().hear(PLEDGE, 5, &again("re_1", 700)).applied(PLEDGE, 6);
        let expected = [format!("20000 700 accepted {PLEDGE} 3")];
        assert_eq!(held(&applied), expected);
        assert_eq!(held(&applied.hear(PLEDGE, 7, &again("re_2", 500))), expected);
        assert_eq!(held(&limit().hear(PLEDGE, 5, &again("re_1", 20_000)))[0], "20000 20000 refunded - 3");
        let columns = ["position", "event_type", "amount_minor"];
        let history = |told: &Told| rows(told, Projection::Pledges, "pledge_history", &columns);
        assert_eq!(
            history(&heard_late())[4..],
            ["6 PledgeCompleted -", "7 PaymentRecorded 1000", "8 PaymentRecorded 5230"]
        );
    }

    #[test]
    fn a_payment_of_two_pledges_is_named_unless_it_was_accepted() {
        let doubled = |told: &Told| {
            let (folded, _) = told.fold(audit(Projection::Campaigns), "campaigns");
            assert_eq!(folded.faults, []);
            folded.doubled.into_iter().map(|fault| fault.what).collect::<Vec<_>>()
        };
        assert_eq!(doubled(&heard_late()), [""; 0]);
        assert_eq!(doubled(&accepted()), [""; 0]);
        let twice = heard_late().pledge(OTHER, 7).hear(OTHER, 8, &[captured(2, 5000)]);
        let expected = format!(
            "position 10: payment pay_1 is a payment of pledge {PLEDGE} and {OTHER}, and was not accepted"
        );
        assert_eq!(doubled(&twice), [expected]);
    }
}
