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
#[derive(Clone, Copy, PartialEq, Eq)]
enum Account {
    ProviderClearing,
    Bank,
    Campaign,
    Unapplied,
    Refunds,
    Chargebacks,
}

impl Account {
    fn name(self) -> &'static str {
        match self {
            Self::ProviderClearing => "provider_clearing",
            Self::Bank => "bank",
            Self::Campaign => "campaign",
            Self::Unapplied => "unapplied",
            Self::Refunds => "refunds",
            Self::Chargebacks => "chargebacks",
        }
    }

    fn balance(self, balances: &mut Balances) -> &mut i64 {
        match self {
            Self::ProviderClearing => &mut balances.provider_clearing_minor,
            Self::Bank => &mut balances.bank_minor,
            Self::Campaign => &mut balances.campaign_minor,
            Self::Unapplied => &mut balances.unapplied_minor,
            Self::Refunds => &mut balances.refunds_minor,
            Self::Chargebacks => &mut balances.chargebacks_minor,
        }
    }
}

values! {
    Account as |account| account.name();
}

row! {
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
    #[derive(Default)]
    struct Balances {
        provider_clearing_minor: i64,
        bank_minor: i64,
        campaign_minor: i64,
        unapplied_minor: i64,
        refunds_minor: i64,
        chargebacks_minor: i64,
    }
}

/// The lines that an event posts: one for each figure that it changes and that has an account.
fn lines(recorded: &RecordedEvent) -> impl Iterator<Item = Line> {
    let posted = match &recorded.event {
        Event::Pledge(pledge_id, event) => event.money_move().map(|moved| (*pledge_id, event, moved)),
        Event::Campaign(..) => None,
    };
    posted.into_iter().flat_map(move |(pledge_id, event, moved)| {
        let changed = postings(&moved).into_iter().filter(|(_, _, minor)| *minor != 0);
        (1..).zip(changed).map(move |(line, (debit, credit, minor))| {
            // Money that goes back is posted the other way round.
            let (debit_account, credit_account) = if minor > 0 { (debit, credit) } else { (credit, debit) };
            Line {
                position: recorded.position,
                line,
                debit_account,
                credit_account,
                campaign_id: event.campaign_id(),
                pledge_id,
                amount_minor: minor.abs(),
                currency: moved.currency.code(),
                recorded_at: recorded.recorded_at,
            }
        })
    })
}

/// The accounts that the growth of each figure debits and credits. What is raised has no account: it
/// is what those of its parts come to.
fn postings(moved: &MoneyMove) -> [(Account, Account, i64); 5] {
    use Account::{Bank, Campaign, Chargebacks, ProviderClearing, Refunds, Unapplied};
    [
        (ProviderClearing, Campaign, moved.captured_minor),
        (Bank, ProviderClearing, moved.settled_minor),
        (Refunds, ProviderClearing, moved.refunded_minor),
        (Chargebacks, ProviderClearing, moved.charged_back_minor),
        (ProviderClearing, Unapplied, moved.unapplied_minor),
    ]
}

/// One row per campaign and currency, however many lines there are.
async fn add_to_balances(connection: &mut PgConnection, lines: &[Line]) -> Result<(), sqlx::Error> {
    let mut changes: BTreeMap<(CampaignId, &'static str), Change> = BTreeMap::new();
    for line in lines {
        let Line { campaign_id, currency, position, amount_minor, .. } = *line;
        let new = Change { campaign_id, currency, balances: Balances::default(), position };
        let change = changes.entry((campaign_id, currency)).or_insert(new);
        *line.debit_account.balance(&mut change.balances) += amount_minor;
        *line.credit_account.balance(&mut change.balances) -= amount_minor;
        change.position = position;
    }
    // Rows are made first and changed then: an insert that becomes an update would have to pass the
    // checks of signs by itself.
    let sql = "insert into campaign_accounts (campaign_id, currency, position)
        select campaign_id, currency, 0 from {rows} on conflict do nothing";
    Rows::of(changes.values())?.execute(connection, sql).await?;
    let sql = "update campaign_accounts t set {sums}, position = r.position from {rows}
        where t.campaign_id = r.campaign_id and t.currency = r.currency";
    Rows::of(changes.values())?.with_sums::<Balances>("r").execute(connection, sql).await
}
