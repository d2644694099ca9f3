//! Beside the work: figures about the inbox, and the end of what was finished long ago.

use std::time::Duration;

use read_model::payments_above_limit;
use service::Shutdown;
use sqlx::PgPool;

/// How often the inbox is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(5);
/// How often the inbox is looked through for what is old.
const PRUNE_EVERY: Duration = Duration::from_secs(3_600);
/// Rows looked at by one statement, and the pause before the next: the worker comes first.
const PRUNE_ROWS: i32 = 1_000;
const PRUNE_PAUSE: Duration = Duration::from_millis(100);

/// Measures the inbox until `shutdown`.
pub(crate) async fn record_depth(pool: &PgPool, shutdown: &Shutdown) {
    while !shutdown.is_cancelled() {
        if let Err(error) = record_depth_once(pool).await {
            tracing::debug!(%error, "the inbox cannot be measured");
        }
        pause(MEASURE_EVERY, shutdown).await;
    }
}

/// Each figure by an index that has nothing but its rows.
async fn record_depth_once(pool: &PgPool) -> Result<(), sqlx::Error> {
    let (pending, oldest_age_seconds, dead, review): (i64, Option<f64>, i64, i64) = sqlx::query_as(
        "select p.count, extract(epoch from now() - p.oldest)::float8,
             (select count(*) from webhook_inbox where status = 'dead'),
             (select count(*) from webhook_inbox where status = 'review')
         from (select count(*), min(received_at) as oldest from webhook_inbox where status = 'pending') p",
    )
    .fetch_one(pool)
    .await?;
    metrics::gauge!("webhook_inbox_depth").set(pending as f64);
    metrics::gauge!("webhook_inbox_oldest_age_seconds").set(oldest_age_seconds.unwrap_or(0.0));
    metrics::gauge!("dead_letters").set(dead as f64);
    metrics::gauge!("webhooks_in_review").set(review as f64);
    metrics::gauge!("payments_above_limit").set(payments_above_limit(pool).await? as f64);
    Ok(())
}

/// Deletes what was finished longer than `retention` ago, now and every hour until `shutdown`.
pub(crate) async fn prune_hourly(pool: &PgPool, retention: Duration, shutdown: &Shutdown) {
    while !shutdown.is_cancelled() {
        match prune(pool, retention, shutdown).await {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(deleted, "old messages are gone from the inbox"),
            Err(error) => tracing::warn!(%error, "old messages cannot be deleted; trying again in an hour"),
        }
        pause(PRUNE_EVERY, shutdown).await;
    }
}

/// Goes through the inbox from its oldest row to the first that is too young. Returns how many rows
/// it deleted.
async fn prune(pool: &PgPool, retention: Duration, shutdown: &Shutdown) -> Result<i64, sqlx::Error> {
    let (mut after, mut total) = (Some(0), 0);
    while let Some(after_id) = after
        && !shutdown.is_cancelled()
    {
        let (last, deleted): (Option<i64>, i64) =
            sqlx::query_as("select last_id, deleted from webhook_inbox_prune($1, $2, $3)")
                .bind(after_id)
                .bind(retention.as_secs_f64())
                .bind(PRUNE_ROWS)
                .fetch_one(pool)
                .await?;
        after = last;
        total += deleted;
        pause(PRUNE_PAUSE, shutdown).await;
    }
    Ok(total)
}

async fn pause(duration: Duration, shutdown: &Shutdown) {
    tokio::select! {
        () = tokio::time::sleep(duration) => {}
        () = shutdown.cancelled() => {}
    }
}
