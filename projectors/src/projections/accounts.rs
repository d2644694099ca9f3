//! Double entry: the table `journal`, and the balances in `campaign_accounts`.
//!
//! Every line of the journal moves an amount from one account of a campaign to another, so it is
//! balanced by itself. The row of a campaign's balances is refused by the database unless it adds up
//! to zero.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{Campaign, CampaignId, Event, MoneyMove, PledgeId, Rules};
use event_store::RecordedEvent;
use read_model::Projection;
use sqlx::PgConnection;

use crate::rows::{Rows, row, values};
use crate::runner::{ProjectError, Projector};

#[derive(Default)]
pub(crate) struct Accounts;

#[async_trait]
impl Projector for Accounts {
    const PROJECTION: Option<Projection> = Some(Projection::Accounts);
    const VERSION: i32 = 2;
    /// Nobody watches these live.
    const GATHER: Duration = Duration::from_millis(100);

    fn needs(aggregate_type: &str, _event_type: &str) -> bool {
        aggregate_type != Campaign::TYPE
    }

    async fn fold(
        &mut self,
        connection: &mut PgConnection,
        events: &[Arc<RecordedEvent>],
    ) -> Result<(), ProjectError> {
        let lines: Vec<Line> = events.iter().flat_map(|recorded| lines(recorded)).collect();
        if lines.is_empty() {
            return Ok(());
        }
        let sql = "insert into journal ({columns}) select {columns} from {rows}";
        Rows::of(&lines)?.execute(connection, sql).await?;
        add_to_balances(connection, &lines).await?;
        Ok(())
    }
}

/// The accounts of a campaign; the migration says what each is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Account {
    ProviderClearing,
    Bank,
    Disputed,
    Campaign,
    Unapplied,
    Refunds,
    Reversals,
    Chargebacks,
    Losses,
}

impl Account {
    fn name(self) -> &'static str {
        match self {
            Self::ProviderClearing => "provider_clearing",
            Self::Bank => "bank",
            Self::Disputed => "disputed",
            Self::Campaign => "campaign",
            Self::Unapplied => "unapplied",
            Self::Refunds => "refunds",
            Self::Reversals => "reversals",
            Self::Chargebacks => "chargebacks",
            Self::Losses => "losses",
        }
    }

    fn balance(self, balances: &mut Balances) -> &mut i64 {
        match self {
            Self::ProviderClearing => &mut balances.provider_clearing_minor,
            Self::Bank => &mut balances.bank_minor,
            Self::Disputed => &mut balances.disputed_minor,
            Self::Campaign => &mut balances.campaign_minor,
            Self::Unapplied => &mut balances.unapplied_minor,
            Self::Refunds => &mut balances.refunds_minor,
            Self::Reversals => &mut balances.reversals_minor,
            Self::Chargebacks => &mut balances.chargebacks_minor,
            Self::Losses => &mut balances.losses_minor,
        }
    }
}

values! {
    Account as |account| account.name();
}

row! {
    #[derive(Debug)]
    /// A line of the journal: an amount that moves from one account of a campaign to another.
    struct Line {
        position: i64,
        /// Counts the lines of one event, from 1.
        line: i16,
        debit_account: Account,
        credit_account: Account,
        campaign_id: CampaignId,
        pledge_id: PledgeId,
        amount_minor: i64,
        currency: &'static str,
        occurred_at: DateTime<Utc>,
        recorded_at: DateTime<Utc>,
    }
}

row! {
    /// Change of a campaign's balances.
    struct Change {
        campaign_id: CampaignId,
        currency: &'static str,
        balances: Balances,
        position: i64,
    }
}

row! {
    #[derive(Debug, Default, PartialEq)]
    struct Balances {
        provider_clearing_minor: i64,
        bank_minor: i64,
        disputed_minor: i64,
        campaign_minor: i64,
        unapplied_minor: i64,
        refunds_minor: i64,
        reversals_minor: i64,
        chargebacks_minor: i64,
        losses_minor: i64,
    }
}

/// The lines that an event posts: for each of its moves, one for each figure that it changes and that has an
/// account.
fn lines(recorded: &RecordedEvent) -> Vec<Line> {
    let Event::Pledge(pledge_id, event) = &recorded.event else { return Vec::new() };
    lines_of(event.money_moves(), event.campaign_id(), *pledge_id, recorded.position, recorded.recorded_at)
}

fn lines_of(
    moves: &[MoneyMove],
    campaign_id: CampaignId,
    pledge_id: PledgeId,
    position: i64,
    recorded_at: DateTime<Utc>,
) -> Vec<Line> {
    let posted = moves.iter().flat_map(|moved| postings(moved).map(|posting| (moved, posting)));
    let changed = posted.filter(|(_, (_, _, minor))| *minor != 0);
    let line = |(line, (moved, (debit, credit, minor))): (i16, (&MoneyMove, (Account, Account, i64)))| {
        // Money that goes back is posted the other way round.
        let (debit_account, credit_account) = if minor > 0 { (debit, credit) } else { (credit, debit) };
        Line {
            position,
            line,
            debit_account,
            credit_account,
            campaign_id,
            pledge_id,
            amount_minor: minor.abs(),
            currency: moved.currency.code(),
            occurred_at: moved.at,
            recorded_at,
        }
    };
    (1..).zip(changed).map(line).collect()
}

/// The accounts that the growth of each figure debits and credits. What is raised has no account: it
/// is what those of its parts come to.
fn postings(moved: &MoneyMove) -> [(Account, Account, i64); 8] {
    use Account::{
        Bank, Campaign, Chargebacks, Disputed, Losses, ProviderClearing, Refunds, Reversals, Unapplied,
    };
    [
        (ProviderClearing, Campaign, moved.captured_minor),
        (Bank, ProviderClearing, moved.settled_minor),
        (Refunds, ProviderClearing, moved.refunded_minor),
        (Reversals, ProviderClearing, moved.reversed_minor),
        (Chargebacks, ProviderClearing, moved.charged_back_minor),
        (Losses, ProviderClearing, moved.loss_minor),
        (Disputed, ProviderClearing, moved.in_dispute_minor),
        (ProviderClearing, Unapplied, moved.unapplied_minor),
    ]
}

/// Changes of balances: one per campaign and currency, however many lines there are.
fn changes(lines: &[Line]) -> BTreeMap<(CampaignId, &'static str), Change> {
    let mut changes = BTreeMap::new();
    for line in lines {
        let Line { campaign_id, currency, position, amount_minor, .. } = *line;
        let new = Change { campaign_id, currency, balances: Balances::default(), position };
        let change = changes.entry((campaign_id, currency)).or_insert(new);
        *line.debit_account.balance(&mut change.balances) += amount_minor;
        *line.credit_account.balance(&mut change.balances) -= amount_minor;
        change.position = position;
    }
    changes
}

async fn add_to_balances(connection: &mut PgConnection, lines: &[Line]) -> Result<(), sqlx::Error> {
    let changes = changes(lines);
    // Rows are made first and changed then: an insert that becomes an update would have to pass the
    // checks of signs by itself.
    let sql = "insert into campaign_accounts (campaign_id, currency, position)
        select campaign_id, currency, 0 from {rows} on conflict do nothing";
    Rows::of(changes.values())?.execute(connection, sql).await?;
    let sql = "update campaign_accounts t set {sums}, position = r.position from {rows}
        where t.campaign_id = r.campaign_id and t.currency = r.currency";
    Rows::of(changes.values())?.with_sums::<Balances>("r").execute(connection, sql).await
}

#[cfg(test)]
mod tests {
    use super::super::told::{CAMPAIGN, PLEDGE, Told, captured, in_order, in_reverse, moved_away, noon, on};
    use super::*;

    fn lines(told: &[Told]) -> Vec<Line> {
        let of = |(position, (recorded_at, moves)): (i64, &Told)| {
            lines_of(moves, CAMPAIGN, PLEDGE, position, *recorded_at)
        };
        (1..).zip(told).flat_map(of).collect()
    }

    fn balances(told: &[Told]) -> Balances {
        changes(&lines(told)).into_values().next().unwrap().balances
    }

    #[test]
    fn balances_are_the_same_whatever_was_heard_first() {
        let expected = Balances {
            provider_clearing_minor: 0,
            campaign_minor: -5000,
            reversals_minor: 4000,
            disputed_minor: 1000,
            ..Balances::default()
        };
        assert_eq!(balances(&in_order()), expected);
        assert_eq!(balances(&in_reverse()), expected);
        assert_eq!(balances(&moved_away()), Balances::default());
    }

    #[test]
    fn lines_of_all_moves_are_counted_on_and_have_their_instants() {
        let lines = lines(&in_reverse()[1..]);
        let shown = lines.iter().map(|line| {
            assert_eq!((line.position, line.recorded_at, line.currency), (1, noon(3), "EUR"));
            let accounts = (line.debit_account.name(), line.credit_account.name());
            (line.line, accounts, line.amount_minor, line.occurred_at)
        });
        let expected = [
            (1, ("campaign", "provider_clearing"), 2000, noon(1)),
            (2, ("provider_clearing", "campaign"), 2000, noon(0)),
        ];
        assert_eq!(shown.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn every_figure_has_its_account() {
        let moved = MoneyMove {
            settled_minor: 7,
            refunded_minor: 1,
            reversed_minor: 20,
            charged_back_minor: 300,
            loss_minor: 4000,
            in_dispute_minor: 50_000,
            unapplied_minor: 600_000,
            ..captured(0, 1, 1000)
        };
        let told = [(noon(0), vec![moved])];
        let expected = Balances {
            provider_clearing_minor: 1000 - 7 - 1 - 20 - 300 - 4000 - 50_000 + 600_000,
            bank_minor: 7,
            disputed_minor: 50_000,
            campaign_minor: -1000,
            unapplied_minor: -600_000,
            refunds_minor: 1,
            reversals_minor: 20,
            chargebacks_minor: 300,
            losses_minor: 4000,
        };
        assert_eq!(balances(&told), expected);
        let order: Vec<i16> = lines(&told).iter().map(|line| line.line).collect();
        assert_eq!(order, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(lines(&[(noon(0), vec![on(0)])]).is_empty());
    }
}
