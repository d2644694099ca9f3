//! Pledges that nobody paid in time expire, once nobody can pay them any more.
//!
//! A pledge whose donor was on a provider's page waits until that session is closed: the reconciler
//! closes it, and puts a payment that it finds there into the inbox instead.

use std::time::Duration;

use domain::{Pledge, PledgeCommand};
use event_store::{Ledger, Metadata};
use futures_util::future::join_all;
use service::Shutdown;
use sqlx::PgPool;
use uuid::Uuid;

use crate::Config;

/// Pledges expired at once; they share the ledger's commits.
const BATCH: i64 = 1_000;
/// How often it looks, at most.
const LOOK: Duration = Duration::from_secs(5);

/// Looks for pledges that have been pending for longer than their time. The read table may lag
/// behind; the pledge itself decides, and one that was paid meanwhile has nothing to say to `Expire`.
pub(crate) async fn run(config: &Config, shutdown: &Shutdown) {
    let look = (config.pledge_ttl / 10).clamp(Duration::from_millis(100), LOOK);
    while !shutdown.is_cancelled() {
        if let Err(error) = look_once(&config.worker_pool, &config.ledger, config.pledge_ttl).await {
            tracing::warn!(%error, "overdue pledges cannot be looked for; trying again");
        }
        tokio::select! {
            () = tokio::time::sleep(look) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

async fn look_once(pool: &PgPool, ledger: &Ledger, ttl: Duration) -> Result<(), sqlx::Error> {
    ask_now(pool, ttl).await?;
    let overdue = overdue(pool, ttl).await?;
    join_all(overdue.into_iter().map(|pledge_id| expire(ledger, pledge_id))).await;
    Ok(())
}

async fn expire(ledger: &Ledger, pledge_id: Uuid) {
    let metadata = Metadata::from([("cause".into(), "expiry".to_owned())]);
    if let Err(error) = ledger.execute::<Pledge>(pledge_id, &PledgeCommand::Expire, &metadata).await {
        tracing::warn!(%pledge_id, %error, "a pledge could not be expired; trying again");
    }
}

/// Has the reconciler ask at once about sessions of overdue pledges that it has not asked about since
/// their time was over.
async fn ask_now(pool: &PgPool, ttl: Duration) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update payment_sessions s set next_check_at = now()
         from pledges p
         where p.status = 'pending' and p.created_at < now() - make_interval(secs => $1)
             and s.pledge_id = p.pledge_id and s.ended_at is null and s.next_check_at > now()
             and (s.checked_at is null or s.checked_at < p.created_at + make_interval(secs => $1))",
    )
    .bind(ttl.as_secs_f64())
    .persistent(false)
    .execute(pool)
    .await?;
    Ok(())
}

/// Overdue pledges that nobody can pay any more.
async fn overdue(pool: &PgPool, ttl: Duration) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "select p.pledge_id from pledges p
         where p.status = 'pending' and p.created_at < now() - make_interval(secs => $1)
             and not exists (
                 select from payment_sessions s where s.pledge_id = p.pledge_id and s.ended_at is null
             )
         order by p.created_at limit $2",
    )
    .bind(ttl.as_secs_f64())
    .bind(BATCH)
    .persistent(false)
    .fetch_all(pool)
    .await
}
