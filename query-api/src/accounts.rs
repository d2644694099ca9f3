//! Double entry: a campaign's accounts, now or as they were, and its journal. For organisers.

use std::sync::Arc;

use axum::extract::State as Shared;
use chrono::{DateTime, Utc};
use read_model::{AccountBalance, JournalLine, Projection};
use serde::{Deserialize, Serialize};
use service::auth::Organiser;
use service::paging::{Page, PageQuery, PageRequest};
use service::{Json, Path, Problem, Query};
use sqlx::PgPool;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::State;
use crate::as_of::AsOf;
use crate::campaigns::MoneyReply;
use crate::progress::{MinPosition, Progress};

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(get_accounts)).routes(routes!(list_journal))
}

/// The moment of the balances.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct AccountsQuery {
    /// The balances as they were after everything up to this position of the ledger, or up to this
    /// time (RFC 3339).
    #[param(value_type = Option<String>)]
    as_of: Option<AsOf>,
}

/// A campaign's accounts. Their balances add up to zero in each currency.
#[derive(Debug, Serialize, ToSchema)]
struct AccountsReply {
    campaign_id: Uuid,
    accounts: Vec<AccountReply>,
}

/// An account and its balance.
#[derive(Debug, Serialize, ToSchema)]
struct AccountReply {
    /// `provider_clearing`, `bank`, `disputed`, `campaign`, `unapplied`, `refunds`, `reversals`,
    /// `chargebacks`, `losses` or `fees`.
    account: String,
    /// ISO 4217 code.
    currency: String,
    /// Debits less credits, in minor units.
    balance_minor: i64,
}

/// Show a campaign's accounts
///
/// A campaign to which nothing was posted has none.
#[utoipa::path(
    get, path = "/api/campaigns/{id}/accounts", tag = "accounts",
    params(("id" = Uuid, Path), AccountsQuery, MinPosition), security(("admin_token" = [])),
    responses((status = 200, body = AccountsReply)),
)]
async fn get_accounts(
    _: Organiser,
    Shared(pool): Shared<PgPool>,
    Shared(progress): Shared<Arc<Progress>>,
    Path(campaign_id): Path<Uuid>,
    Query(query): Query<AccountsQuery>,
    Query(wanted): Query<MinPosition>,
) -> Result<Json<AccountsReply>, Problem> {
    match query.as_of {
        None => progress.reach(Projection::Accounts, wanted).await?,
        Some(as_of) => as_of.reached(&progress, Projection::Accounts, wanted).await?,
    }
    let balances: Vec<AccountBalance> = match query.as_of {
        None => sqlx::query_as(BALANCES).bind(campaign_id),
        Some(AsOf::Position(position)) => sqlx::query_as(AS_OF_POSITION).bind(campaign_id).bind(position),
        Some(AsOf::Time(time)) => sqlx::query_as(AS_OF_TIME).bind(campaign_id).bind(time),
    }
    .fetch_all(&pool)
    .await?;
    let account = |row: AccountBalance| AccountReply {
        account: row.account,
        currency: row.currency,
        balance_minor: row.balance_minor,
    };
    Ok(Json(AccountsReply { campaign_id, accounts: balances.into_iter().map(account).collect() }))
}

const BALANCES: &str = "
    select campaign_id, currency, account, balance_minor
    from account_balances
    where campaign_id = $1
    order by currency, account";

/// The campaign's part of the journal is added up: a campaign has few accounts and at most millions
/// of lines.
const AS_OF_POSITION: &str = "
    select campaign_id, currency, account, sum(amount_minor)::bigint as balance_minor
    from account_entries
    where campaign_id = $1 and position <= $2
    group by campaign_id, currency, account
    order by currency, account";

const AS_OF_TIME: &str = "
    select campaign_id, currency, account, sum(amount_minor)::bigint as balance_minor
    from account_entries
    where campaign_id = $1 and recorded_at <= $2
    group by campaign_id, currency, account
    order by currency, account";

/// A line of the journal: an amount moved from one account to another.
#[derive(Debug, Serialize, ToSchema)]
struct JournalReply {
    /// The event that it comes from.
    position: i64,
    /// Its number among the lines of that event.
    line: i16,
    debit_account: String,
    credit_account: String,
    /// The pledge that it is about.
    pledge_id: Uuid,
    amount: MoneyReply,
    /// When the money moved.
    occurred_at: DateTime<Utc>,
    /// When the event was recorded.
    recorded_at: DateTime<Utc>,
}

impl From<JournalLine> for JournalReply {
    fn from(row: JournalLine) -> Self {
        Self {
            position: row.position,
            line: row.line,
            debit_account: row.debit_account,
            credit_account: row.credit_account,
            pledge_id: row.pledge_id,
            amount: MoneyReply { amount_minor: row.amount_minor, currency: row.currency },
            occurred_at: row.occurred_at,
            recorded_at: row.recorded_at,
        }
    }
}

/// List a campaign's journal
///
/// Newest first.
#[utoipa::path(
    get, path = "/api/campaigns/{id}/journal", tag = "accounts",
    params(("id" = Uuid, Path), MinPosition, PageQuery), security(("admin_token" = [])),
    responses((status = 200, body = Page<JournalReply>)),
)]
async fn list_journal(
    _: Organiser,
    Shared(pool): Shared<PgPool>,
    Shared(progress): Shared<Arc<Progress>>,
    Path(campaign_id): Path<Uuid>,
    Query(wanted): Query<MinPosition>,
    page: PageRequest<(i64, i16)>,
) -> Result<Json<Page<JournalReply>>, Problem> {
    progress.reach(Projection::Accounts, wanted).await?;
    let rows: Vec<JournalLine> = sqlx::query_as(
        "select position, line, debit_account, credit_account, campaign_id, pledge_id, amount_minor, currency,
             occurred_at, recorded_at
         from journal
         where campaign_id = $1 and ($2::bigint is null or (position, line) < ($2, $3::smallint))
         order by position desc, line desc
         limit $4",
    )
    .bind(campaign_id)
    .bind(page.after.map(|(position, _)| position))
    .bind(page.after.map(|(_, line)| line))
    .bind(page.rows())
    .fetch_all(&pool)
    .await?;
    page.page(rows, |row| (row.position, row.line), JournalReply::from)
}
