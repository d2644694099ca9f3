//! The table `payment_sessions`: every session on which a donor could pay.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{Money, PledgeId};
use sqlx::{FromRow, PgExecutor};
use uuid::Uuid;

use super::in_seconds;
use crate::{PaymentSession, SessionId};

/// A session on which something may still happen.
#[derive(Debug, FromRow)]
pub struct OngoingSession {
    /// Whose session it is.
    pub provider: String,
    /// The provider's own id.
    pub session_id: String,
}

/// A session that the provider is to be asked about.
#[derive(Debug, FromRow)]
pub struct DueSession {
    /// Whose session it is.
    pub provider: String,
    /// The provider's own id.
    pub session_id: String,
    /// The pledge that is paid on it.
    pub pledge_id: Uuid,
    /// How old it is.
    pub age_seconds: f64,
}

/// Remembers a session; one that is known already stays as it is. The provider is asked what happened on it
/// after `first_check_after`.
///
/// # Errors
/// Any error of the database.
pub async fn record(
    executor: impl PgExecutor<'_>,
    provider: &str,
    session: &PaymentSession,
    pledge_id: PledgeId,
    amount: Money,
    first_check_after: Duration,
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
    .bind(first_check_after.as_secs_f64())
    .execute(executor)
    .await?;
    Ok(())
}

/// The open sessions of a pledge on which another amount, or at another provider, could be paid.
///
/// # Errors
/// Any error of the database.
pub async fn outdated(
    executor: impl PgExecutor<'_>,
    provider: &str,
    pledge_id: PledgeId,
    amount: Money,
) -> Result<Vec<OngoingSession>, sqlx::Error> {
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
    .fetch_all(executor)
    .await
}

/// Notes that nothing more can happen on a session.
///
/// # Errors
/// Any error of the database.
pub async fn end(
    executor: impl PgExecutor<'_>,
    provider: &str,
    session_id: &SessionId,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update payment_sessions set ended_at = now()
         where provider = $1 and session_id = $2 and ended_at is null",
    )
    .bind(provider)
    .bind(session_id.as_str())
    .execute(executor)
    .await?;
    Ok(())
}

/// Takes sessions that are due, those that have waited longest first. They are not due again for `claim`,
/// should the process die meanwhile. Another process takes others.
///
/// # Errors
/// Any error of the database.
pub async fn claim(
    executor: impl PgExecutor<'_>,
    limit: usize,
    claim: Duration,
) -> Result<Vec<DueSession>, sqlx::Error> {
    sqlx::query_as(
        "update payment_sessions s
         set checks = s.checks + 1, checked_at = now(), next_check_at = now() + make_interval(secs => $2)
         from (
             select provider, session_id from payment_sessions
             where ended_at is null and next_check_at <= now()
             order by next_check_at limit $1 for update skip locked
         ) due
         where s.provider = due.provider and s.session_id = due.session_id
         returning s.provider, s.session_id, s.pledge_id,
             extract(epoch from now() - s.created_at)::float8 as age_seconds",
    )
    .bind(limit as i64)
    .bind(claim.as_secs_f64())
    // Planned anew each time: a plan from when the table was small would read all of it.
    .persistent(false)
    .fetch_all(executor)
    .await
}

/// Writes after which pauses sessions are due again; none means never.
///
/// # Errors
/// Any error of the database.
pub async fn schedule(
    executor: impl PgExecutor<'_>,
    sessions: &[DueSession],
    pauses: &[Option<Duration>],
) -> Result<(), sqlx::Error> {
    if sessions.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update payment_sessions s
         set next_check_at = now() + make_interval(secs => coalesce(c.pause_seconds, 0)),
             ended_at = case when c.pause_seconds is null then now() end
         from unnest($1::text[], $2::text[], $3::float8[]) as c (provider, session_id, pause_seconds)
         where s.provider = c.provider and s.session_id = c.session_id and s.ended_at is null",
    )
    .bind(sessions.iter().map(|session| session.provider.as_str()).collect::<Vec<_>>())
    .bind(sessions.iter().map(|session| session.session_id.as_str()).collect::<Vec<_>>())
    .bind(in_seconds(pauses))
    .execute(executor)
    .await?;
    Ok(())
}

/// Makes the open sessions of pledges due at once, unless they were asked about since the instant beside the
/// pledge.
///
/// # Errors
/// Any error of the database.
pub async fn hasten(
    executor: impl PgExecutor<'_>,
    pledge_ids: &[Uuid],
    since: &[DateTime<Utc>],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update payment_sessions s set next_check_at = now()
         from unnest($1::uuid[], $2::timestamptz[]) as p (pledge_id, since)
         where s.pledge_id = p.pledge_id and s.ended_at is null and s.next_check_at > now()
             and (s.checked_at is null or s.checked_at < p.since)",
    )
    .bind(pledge_ids)
    .bind(since)
    .persistent(false)
    .execute(executor)
    .await?;
    Ok(())
}

/// Those of `pledge_ids` that can still be paid: they have a session on which something may happen.
///
/// # Errors
/// Any error of the database.
pub async fn payable(executor: impl PgExecutor<'_>, pledge_ids: &[Uuid]) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "select pledge_id from payment_sessions where pledge_id = any ($1) and ended_at is null",
    )
    .bind(pledge_ids)
    .persistent(false)
    .fetch_all(executor)
    .await
}
