//! Pledges that nobody paid in time expire, once nobody can pay them any more.
//!
//! A pledge whose donor was on a provider's page waits until that session is closed: the reconciler
//! closes it, and puts a payment that it finds there into the inbox instead.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{Pledge, PledgeCommand};
use event_store::{Ledger, Metadata};
use futures_util::future::join_all;
use payments::store::sessions;
use read_model::{OverduePledge, overdue_pledges};
use service::Shutdown;
use sqlx::PgPool;
use uuid::Uuid;

use crate::Config;

/// Pledges expired at once; they share the ledger's commits.
const BATCH: usize = 1_000;
/// How often it looks, at most.
const LOOK: Duration = Duration::from_secs(5);

/// Looks for pledges that have been pending for longer than their time. The read table may lag
/// behind; the pledge itself decides, and one that was paid meanwhile has nothing to say to `Expire`.
pub(crate) async fn run(config: &Config, shutdown: &Shutdown) {
    let look = (config.pledge_ttl / 10).clamp(Duration::from_millis(100), LOOK);
    let mut after = None;
    while !shutdown.is_cancelled() {
        match expire_some(&config.worker_pool, &config.ledger, config.pledge_ttl, after).await {
            Ok(Some(last)) => {
                after = Some(last);
                continue;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "overdue pledges cannot be looked for; trying again"),
        }
        after = None;
        tokio::select! {
            () = tokio::time::sleep(look) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// Expires the overdue pledges behind `after` that nobody can pay any more, and has the reconciler ask at
/// once about the sessions of the others, unless it has asked since their time was over. Returns the last one
/// where more may follow.
async fn expire_some(
    pool: &PgPool,
    ledger: &Ledger,
    ttl: Duration,
    after: Option<OverduePledge>,
) -> Result<Option<OverduePledge>, sqlx::Error> {
    let overdue = overdue_pledges(pool, ttl, after, BATCH).await?;
    let ids: Vec<Uuid> = overdue.iter().map(|pledge| pledge.pledge_id).collect();
    let since: Vec<DateTime<Utc>> = overdue.iter().map(|pledge| pledge.overdue_since).collect();
    sessions::hasten(pool, &ids, &since).await?;
    let payable: HashSet<Uuid> = sessions::payable(pool, &ids).await?.into_iter().collect();
    join_all(ids.into_iter().filter(|id| !payable.contains(id)).map(|id| expire(ledger, id))).await;
    Ok(overdue.last().copied().filter(|_| overdue.len() == BATCH))
}

async fn expire(ledger: &Ledger, pledge_id: Uuid) {
    let metadata = Metadata { cause: Some("expiry".to_owned()), ..Metadata::default() };
    if let Err(error) = ledger.execute::<Pledge>(pledge_id, &PledgeCommand::Expire, &metadata).await {
        tracing::warn!(%pledge_id, %error, "a pledge could not be expired; trying again");
    }
}
