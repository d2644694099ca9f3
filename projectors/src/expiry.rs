//! Pledges that nobody paid in time expire.

use std::time::Duration;

use domain::{Pledge, PledgeCommand};
use event_store::{Ledger, Metadata};
use futures_util::future::join_all;
use service::Shutdown;
use sqlx::PgPool;
use uuid::Uuid;

/// Pledges expired at once; they share the ledger's commits.
const BATCH: i64 = 200;
/// How often it looks, at most.
const LOOK: Duration = Duration::from_secs(5);

/// Looks for pledges that have been pending for longer than `ttl`. The read table may lag behind;
/// the pledge itself decides, and one that was paid meanwhile has nothing to say to `Expire`.
pub(crate) async fn run(pool: PgPool, ledger: Ledger, ttl: Duration, shutdown: Shutdown) {
    let look = (ttl / 10).clamp(Duration::from_millis(100), LOOK);
    while !shutdown.is_cancelled() {
        if let Err(error) = expire_overdue(&pool, &ledger, ttl).await {
            tracing::warn!(%error, "overdue pledges cannot be looked for; trying again");
        }
        tokio::select! {
            () = tokio::time::sleep(look) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

async fn expire_overdue(pool: &PgPool, ledger: &Ledger, ttl: Duration) -> Result<(), sqlx::Error> {
    let overdue: Vec<Uuid> = sqlx::query_scalar(
        "select pledge_id from pledges
         where status = 'pending' and created_at < now() - make_interval(secs => $1)
         order by created_at limit $2",
    )
    .bind(ttl.as_secs_f64())
    .bind(BATCH)
    .fetch_all(pool)
    .await?;
    let expired = overdue.into_iter().map(|pledge_id| async move {
        let metadata = Metadata::from([("cause".to_owned(), "expiry".to_owned())]);
        if let Err(error) = ledger.execute::<Pledge>(pledge_id, &PledgeCommand::Expire, metadata).await {
            tracing::warn!(%pledge_id, %error, "a pledge could not be expired; trying again");
        }
    });
    join_all(expired).await;
    Ok(())
}
