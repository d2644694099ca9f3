//! The table `refund_requests`: every refund that an organiser asked for, under the organiser's key.

use std::time::Duration;

use domain::pledge::Payment;
use domain::{Money, PaymentId, PledgeId, RefundId, Text};
use sqlx::{FromRow, PgExecutor, PgPool};
use uuid::Uuid;

use super::in_seconds;

/// A refund as it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct RefundRequest {
    /// How much of which payment.
    pub payment: Payment,
    /// Why, in the organiser's words.
    pub reason: Option<Text<500>>,
    /// The provider's own id, once it has said that it will make it.
    pub refund_id: Option<RefundId>,
}

/// A refund that the provider is to be asked about.
#[derive(Debug, FromRow)]
pub struct DueRefund {
    /// The pledge whose money goes back.
    pub pledge_id: Uuid,
    /// The key under which it was asked for.
    pub request_key: String,
    /// The payment that took the money.
    pub payment_id: String,
    /// The provider's own id; none where the provider has not even said that it will make it.
    pub refund_id: Option<String>,
    /// How long ago it was asked for.
    pub age_seconds: f64,
}

#[derive(FromRow)]
struct Row {
    payment_id: String,
    amount_minor: i64,
    currency: String,
    reason: Option<String>,
    refund_id: Option<String>,
}

impl TryFrom<Row> for RefundRequest {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> Result<Self, sqlx::Error> {
        let currency = row.currency.parse().map_err(unreadable)?;
        let payment = Payment {
            payment_id: row.payment_id.parse().map_err(unreadable)?,
            amount: Money::new(row.amount_minor, currency).map_err(unreadable)?,
        };
        let reason = row.reason.map(|reason| reason.parse()).transpose().map_err(unreadable)?;
        let refund_id = row.refund_id.map(|id| id.parse()).transpose().map_err(unreadable)?;
        Ok(Self { payment, reason, refund_id })
    }
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

/// The refund that was asked for under this key before.
///
/// # Errors
/// Any error of the database.
pub async fn find(
    executor: impl PgExecutor<'_>,
    pledge_id: PledgeId,
    key: &str,
) -> Result<Option<RefundRequest>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as(
        "select payment_id, amount_minor, currency, reason, refund_id from refund_requests
         where pledge_id = $1 and request_key = $2",
    )
    .bind(pledge_id.0)
    .bind(key)
    .fetch_optional(executor)
    .await?;
    row.map(RefundRequest::try_from).transpose()
}

/// Keeps a request under its key, before the provider hears of it. Of two at once the first stays, and is
/// what this returns.
///
/// # Errors
/// Any error of the database.
pub async fn keep(
    pool: &PgPool,
    pledge_id: PledgeId,
    key: &str,
    request: RefundRequest,
) -> Result<RefundRequest, sqlx::Error> {
    sqlx::query(
        "insert into refund_requests (pledge_id, request_key, payment_id, amount_minor, currency, reason)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (pledge_id, request_key) do nothing",
    )
    .bind(pledge_id.0)
    .bind(key)
    .bind(request.payment.payment_id.as_str())
    .bind(request.payment.amount.amount_minor())
    .bind(request.payment.amount.currency().code())
    .bind(request.reason.as_ref().map(Text::as_str))
    .execute(pool)
    .await?;
    Ok(find(pool, pledge_id, key).await?.unwrap_or(request))
}

/// Notes that the provider will make a refund: it is asked after `first_check_after` whether it has.
///
/// # Errors
/// Any error of the database.
pub async fn expect(
    executor: impl PgExecutor<'_>,
    pledge_id: PledgeId,
    key: &str,
    refund_id: &RefundId,
    first_check_after: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update refund_requests
         set refund_id = $3, next_check_at = now() + make_interval(secs => $4), ended_at = null
         where pledge_id = $1 and request_key = $2 and refund_id is null",
    )
    .bind(pledge_id.0)
    .bind(key)
    .bind(refund_id.as_str())
    .bind(first_check_after.as_secs_f64())
    .execute(executor)
    .await?;
    Ok(())
}

/// Notes that the provider will not make a refund.
///
/// # Errors
/// Any error of the database.
pub async fn refused(
    executor: impl PgExecutor<'_>,
    pledge_id: PledgeId,
    key: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update refund_requests set ended_at = now()
         where pledge_id = $1 and request_key = $2 and refund_id is null and ended_at is null",
    )
    .bind(pledge_id.0)
    .bind(key)
    .execute(executor)
    .await?;
    Ok(())
}

/// How much of a payment is on its way back, in minor units: the refunds that were asked for, whose end is
/// not known, and that are not among the `recorded` ones.
///
/// # Errors
/// Any error of the database.
pub async fn under_way(
    executor: impl PgExecutor<'_>,
    pledge_id: PledgeId,
    payment_id: &PaymentId,
    recorded: impl Iterator<Item = &RefundId>,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "select coalesce(sum(amount_minor), 0)::bigint from refund_requests
         where pledge_id = $1 and payment_id = $2 and ended_at is null
             and (refund_id is null or refund_id <> all ($3))",
    )
    .bind(pledge_id.0)
    .bind(payment_id.as_str())
    .bind(recorded.map(RefundId::as_str).collect::<Vec<_>>())
    .fetch_one(executor)
    .await
}

/// Takes refunds that are due, those that have waited longest first. They are not due again for `claim`,
/// should the process die meanwhile. Another process takes others.
///
/// # Errors
/// Any error of the database.
pub async fn claim(
    executor: impl PgExecutor<'_>,
    limit: usize,
    claim: Duration,
) -> Result<Vec<DueRefund>, sqlx::Error> {
    sqlx::query_as(
        "update refund_requests r
         set checks = r.checks + 1, next_check_at = now() + make_interval(secs => $2)
         from (
             select pledge_id, request_key from refund_requests
             where ended_at is null and next_check_at <= now()
             order by next_check_at limit $1 for update skip locked
         ) due
         where r.pledge_id = due.pledge_id and r.request_key = due.request_key
         returning r.pledge_id, r.request_key, r.payment_id, r.refund_id,
             extract(epoch from now() - r.requested_at)::float8 as age_seconds",
    )
    .bind(limit as i64)
    .bind(claim.as_secs_f64())
    // Planned anew each time: a plan from when the table was small would read all of it.
    .persistent(false)
    .fetch_all(executor)
    .await
}

/// Writes after which pauses refunds are due again; none means never.
///
/// # Errors
/// Any error of the database.
pub async fn schedule(
    executor: impl PgExecutor<'_>,
    refunds: &[DueRefund],
    pauses: &[Option<Duration>],
) -> Result<(), sqlx::Error> {
    if refunds.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update refund_requests r
         set next_check_at = now() + make_interval(secs => coalesce(c.pause_seconds, 0)),
             ended_at = case when c.pause_seconds is null then now() end
         from unnest($1::uuid[], $2::text[], $3::float8[]) as c (pledge_id, request_key, pause_seconds)
         where r.pledge_id = c.pledge_id and r.request_key = c.request_key and r.ended_at is null",
    )
    .bind(refunds.iter().map(|refund| refund.pledge_id).collect::<Vec<_>>())
    .bind(refunds.iter().map(|refund| refund.request_key.as_str()).collect::<Vec<_>>())
    .bind(in_seconds(pauses))
    .execute(executor)
    .await?;
    Ok(())
}
