//! The provider's sessions of each pledge, so that whoever checks later knows where to ask.

use domain::{Money, PledgeId};
use payments::{CheckedOut, SessionId};
use sqlx::{FromRow, PgPool};

use crate::ReconcileAfter;

/// A session on which something may still happen.
#[derive(Debug, FromRow)]
pub(crate) struct OpenSession {
    pub(crate) provider: String,
    pub(crate) session_id: String,
}

/// Remembers a session; one that is known already stays as it is. The provider is asked later what
/// happened on it.
pub(crate) async fn record(
    pool: &PgPool,
    provider: &str,
    session: &CheckedOut,
    pledge_id: PledgeId,
    amount: Money,
    ReconcileAfter(reconcile_after): ReconcileAfter,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into payment_sessions (provider, session_id, pledge_id, amount_minor, currency, next_check_at)
         values ($1, $2, $3, $4, $5, now() + make_interval(secs => $6))
         on conflict (provider, session_id) do nothing",
    )
    .bind(provider)
    .bind(session.session_id.as_str())
    .bind(pledge_id.0)
    .bind(amount.amount_minor())
    .bind(amount.currency().code())
    .bind(reconcile_after.as_secs_f64())
    .execute(pool)
    .await?;
    Ok(())
}

/// The open sessions of a pledge on which another amount, or at another provider, could be paid.
pub(crate) async fn outdated(
    pool: &PgPool,
    provider: &str,
    pledge_id: PledgeId,
    amount: Money,
) -> Result<Vec<OpenSession>, sqlx::Error> {
    sqlx::query_as(
        "select provider, session_id from payment_sessions
         where pledge_id = $1 and ended_at is null
             and (provider, amount_minor, currency) is distinct from ($2, $3, $4)
         order by created_at",
    )
    .bind(pledge_id.0)
    .bind(provider)
    .bind(amount.amount_minor())
    .bind(amount.currency().code())
    .fetch_all(pool)
    .await
}

/// Notes that nothing more can happen on a session.
pub(crate) async fn end(pool: &PgPool, provider: &str, session_id: &SessionId) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update payment_sessions set ended_at = now()
         where provider = $1 and session_id = $2 and ended_at is null",
    )
    .bind(provider)
    .bind(session_id.as_str())
    .execute(pool)
    .await?;
    Ok(())
}
