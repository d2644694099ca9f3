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
use cqrs_es::Aggregate;
use domain::{Campaign, CampaignId, Currency, Event, MoneyMove, PledgeId};
use event_store::RecordedEvent;
use read_model::{CampaignAccounts, Projection};
use sqlx::PgConnection;
use uuid::Uuid;

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
        insert_lines(connection, &lines).await?;
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

    fn balance(self, accounts: &mut CampaignAccounts) -> &mut i64 {
        match self {
            Self::ProviderClearing => &mut accounts.provider_clearing_minor,
            Self::Bank => &mut accounts.bank_minor,
            Self::Campaign => &mut accounts.campaign_minor,
            Self::Unapplied => &mut accounts.unapplied_minor,
            Self::Refunds => &mut accounts.refunds_minor,
            Self::Chargebacks => &mut accounts.chargebacks_minor,
        }
    }
}

/// A line of the journal: an amount that moves from one account of a campaign to another.
struct Line {
    position: i64,
    /// Counts the lines of one event, from 1.
    line: i16,
    debit: Account,
    credit: Account,
    campaign_id: CampaignId,
    pledge_id: PledgeId,
    amount_minor: i64,
    currency: Currency,
    recorded_at: DateTime<Utc>,
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
            // What is taken back is posted the other way round.
            let (debit, credit) = if minor > 0 { (debit, credit) } else { (credit, debit) };
            Line {
                position: recorded.position,
                line,
                debit,
                credit,
                campaign_id: event.campaign_id(),
                pledge_id,
                amount_minor: minor.abs(),
                currency: moved.currency,
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

async fn insert_lines(connection: &mut PgConnection, lines: &[Line]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into journal (position, line, debit_account, credit_account, campaign_id, pledge_id,
             amount_minor, currency, recorded_at)
         select * from unnest($1::bigint[], $2::smallint[], $3::text[], $4::text[], $5::uuid[], $6::uuid[],
             $7::bigint[], $8::text[], $9::timestamptz[])",
    )
    .bind(lines.iter().map(|line| line.position).collect::<Vec<_>>())
    .bind(lines.iter().map(|line| line.line).collect::<Vec<_>>())
    .bind(lines.iter().map(|line| line.debit.name()).collect::<Vec<_>>())
    .bind(lines.iter().map(|line| line.credit.name()).collect::<Vec<_>>())
    .bind(lines.iter().map(|line| line.campaign_id.0).collect::<Vec<_>>())
    .bind(lines.iter().map(|line| line.pledge_id.0).collect::<Vec<_>>())
    .bind(lines.iter().map(|line| line.amount_minor).collect::<Vec<_>>())
    .bind(lines.iter().map(|line| line.currency.code()).collect::<Vec<_>>())
    .bind(lines.iter().map(|line| line.recorded_at).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// One row per campaign and currency, however many lines there are.
async fn add_to_balances(connection: &mut PgConnection, lines: &[Line]) -> Result<(), sqlx::Error> {
    let mut changes: BTreeMap<(Uuid, &str), CampaignAccounts> = BTreeMap::new();
    for line in lines {
        let change = changes.entry((line.campaign_id.0, line.currency.code())).or_default();
        *line.debit.balance(change) += line.amount_minor;
        *line.credit.balance(change) -= line.amount_minor;
        change.position = line.position;
    }
    let (campaigns, currencies): (Vec<Uuid>, Vec<&str>) = changes.keys().copied().unzip();
    let column = |of: fn(&CampaignAccounts) -> i64| changes.values().map(of).collect::<Vec<_>>();
    // Rows are made first and changed then: an insert that becomes an update would have to pass the
    // checks of signs by itself.
    sqlx::query(
        "insert into campaign_accounts (campaign_id, currency, position)
         select *, 0 from unnest($1::uuid[], $2::text[]) on conflict do nothing",
    )
    .bind(&campaigns)
    .bind(&currencies)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "update campaign_accounts a
         set provider_clearing_minor = a.provider_clearing_minor + c.provider_clearing,
             bank_minor = a.bank_minor + c.bank, campaign_minor = a.campaign_minor + c.campaign,
             unapplied_minor = a.unapplied_minor + c.unapplied, refunds_minor = a.refunds_minor + c.refunds,
             chargebacks_minor = a.chargebacks_minor + c.chargebacks, position = c.position
         from unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
                 $7::bigint[], $8::bigint[], $9::bigint[])
             as c (campaign_id, currency, provider_clearing, bank, campaign, unapplied, refunds, chargebacks,
                 position)
         where a.campaign_id = c.campaign_id and a.currency = c.currency",
    )
    .bind(&campaigns)
    .bind(&currencies)
    .bind(column(|a| a.provider_clearing_minor))
    .bind(column(|a| a.bank_minor))
    .bind(column(|a| a.campaign_minor))
    .bind(column(|a| a.unapplied_minor))
    .bind(column(|a| a.refunds_minor))
    .bind(column(|a| a.chargebacks_minor))
    .bind(column(|a| a.position))
    .execute(connection)
    .await?;
    Ok(())
}
