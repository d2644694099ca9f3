//! Double entry: the table `journal`, and the balances in `campaign_accounts`.
//!
//! Every line of the journal moves an amount from one account of a campaign to another, so it is
//! balanced by itself. The row of a campaign's balances is refused by the database unless it adds up
//! to zero.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use domain::{Campaign, CampaignId, Event, Money, MoneyHeld, Pledge, PledgeEvent, PledgeId};
use event_store::{RecordedEvent, read_named};
use read_model::CampaignAccounts;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::runner::{ProjectError, Projector};

pub(crate) struct Accounts;

#[async_trait]
impl Projector for Accounts {
    const NAME: &'static str = "accounts";
    const TABLES: &'static [&'static str] = &["journal", "campaign_accounts"];
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
        let settled = settled_amounts(connection, events).await?;
        let lines: Vec<Line> = events.iter().filter_map(|recorded| Line::of(recorded, &settled)).collect();
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

/// What an event posts: every event about money is one line.
struct Line {
    position: i64,
    debit: Account,
    credit: Account,
    campaign_id: CampaignId,
    pledge_id: PledgeId,
    amount: Money,
    recorded_at: DateTime<Utc>,
}

impl Line {
    fn of(recorded: &RecordedEvent, settled: &HashMap<PledgeId, Money>) -> Option<Self> {
        let Event::Pledge(pledge_id, event) = &recorded.event else { return None };
        let (debit, credit, amount) = posting(*pledge_id, event, settled)?;
        Some(Self {
            position: recorded.position,
            debit,
            credit,
            campaign_id: event.campaign_id(),
            pledge_id: *pledge_id,
            amount,
            recorded_at: recorded.recorded_at,
        })
    }
}

/// The account to debit, the one to credit, and how much; none for what moves no money.
fn posting(
    pledge_id: PledgeId,
    event: &PledgeEvent,
    settled: &HashMap<PledgeId, Money>,
) -> Option<(Account, Account, Money)> {
    use Account::{Bank, Campaign, Chargebacks, ProviderClearing, Refunds, Unapplied};
    match event {
        PledgeEvent::PledgeCaptured { amount, .. } => Some((ProviderClearing, Campaign, *amount)),
        PledgeEvent::PledgeCompleted { .. } => {
            settled.get(&pledge_id).map(|amount| (Bank, ProviderClearing, *amount))
        }
        PledgeEvent::PaymentUnapplied { amount, .. } => Some((ProviderClearing, Unapplied, *amount)),
        PledgeEvent::PaymentRefunded { amount, held: MoneyHeld::Raised, .. } => {
            Some((Refunds, ProviderClearing, *amount))
        }
        PledgeEvent::DisputeLost { amount, held: MoneyHeld::Raised, .. } => {
            Some((Chargebacks, ProviderClearing, *amount))
        }
        // What is owed to the donor is paid back, or is captured anew as another pledge, whose own
        // events follow.
        PledgeEvent::PaymentRefunded { amount, held: MoneyHeld::Unapplied, .. }
        | PledgeEvent::DisputeLost { amount, held: MoneyHeld::Unapplied, .. }
        | PledgeEvent::UnappliedAccepted { amount, .. } => Some((Unapplied, ProviderClearing, *amount)),
        PledgeEvent::PledgeCreated { .. }
        | PledgeEvent::PledgeAmended { .. }
        | PledgeEvent::PledgeAuthorized { .. }
        | PledgeEvent::PledgeFailed { .. }
        | PledgeEvent::PledgeExpired { .. }
        | PledgeEvent::PledgeCancelled { .. }
        | PledgeEvent::PaymentDisputed { .. }
        | PledgeEvent::DisputeWon { .. } => None,
    }
}

/// How much each pledge that is settled in this batch had captured. A settlement does not say; where
/// the capture is in an earlier batch, the ledger does.
async fn settled_amounts(
    connection: &mut PgConnection,
    events: &[Arc<RecordedEvent>],
) -> Result<HashMap<PledgeId, Money>, ProjectError> {
    let mut amounts = HashMap::new();
    let mut wanted = Vec::new();
    for recorded in events {
        match &recorded.event {
            Event::Pledge(id, PledgeEvent::PledgeCaptured { amount, .. }) => {
                amounts.insert(*id, *amount);
            }
            Event::Pledge(id, PledgeEvent::PledgeCompleted { .. }) if !amounts.contains_key(id) => {
                wanted.push(*id);
            }
            Event::Pledge(..) | Event::Campaign(..) => {}
        }
    }
    if wanted.is_empty() {
        return Ok(amounts);
    }
    let ids: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    for recorded in read_named(connection, Pledge::TYPE, &ids, "PledgeCaptured").await? {
        if let Event::Pledge(id, PledgeEvent::PledgeCaptured { amount, .. }) = recorded.event {
            amounts.insert(id, amount);
        }
    }
    match wanted.iter().find(|id| !amounts.contains_key(id)) {
        Some(id) => Err(ProjectError::Missing(format!("pledge {id} is settled, but was never captured"))),
        None => Ok(amounts),
    }
}

async fn insert_lines(connection: &mut PgConnection, lines: &[Line]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into journal (position, line, debit_account, credit_account, campaign_id, pledge_id,
             amount_minor, currency, recorded_at)
         select position, 1, debit, credit, campaign, pledge, amount, currency, instant
         from unnest($1::bigint[], $2::text[], $3::text[], $4::uuid[], $5::uuid[], $6::bigint[], $7::text[],
                 $8::timestamptz[])
             as l (position, debit, credit, campaign, pledge, amount, currency, instant)",
    )
    .bind(lines.iter().map(|line| line.position).collect::<Vec<_>>())
    .bind(lines.iter().map(|line| line.debit.name()).collect::<Vec<_>>())
    .bind(lines.iter().map(|line| line.credit.name()).collect::<Vec<_>>())
    .bind(lines.iter().map(|line| line.campaign_id.0).collect::<Vec<_>>())
    .bind(lines.iter().map(|line| line.pledge_id.0).collect::<Vec<_>>())
    .bind(lines.iter().map(|line| line.amount.amount_minor()).collect::<Vec<_>>())
    .bind(lines.iter().map(|line| line.amount.currency().code()).collect::<Vec<_>>())
    .bind(lines.iter().map(|line| line.recorded_at).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// One row per campaign and currency, however many lines there are.
async fn add_to_balances(connection: &mut PgConnection, lines: &[Line]) -> Result<(), sqlx::Error> {
    let mut changes: BTreeMap<(Uuid, &str), CampaignAccounts> = BTreeMap::new();
    for line in lines {
        let change = changes.entry((line.campaign_id.0, line.amount.currency().code())).or_default();
        *line.debit.balance(change) += line.amount.amount_minor();
        *line.credit.balance(change) -= line.amount.amount_minor();
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
