//! Turns what has become true into messages.

use std::time::Duration;

use service::Shutdown;
use sqlx::{FromRow, PgPool};

use crate::dial::Dial;
use crate::facts::Fact;
use crate::plan::{PlannedMessage, plan};

/// How often it looks for what has become true.
const LOOK: Duration = Duration::from_millis(50);
/// After a failure it waits for this.
const PAUSE: Duration = Duration::from_secs(1);
/// Facts planned by one statement.
const MAX_BATCH: usize = 500;
/// A burst that does not fill is sent after this.
const MAX_BURST_WAIT_SECONDS: f64 = 5.0;

/// Plans messages until `shutdown`.
pub(crate) async fn run(pool: PgPool, shutdown: Shutdown) {
    while !shutdown.is_cancelled() {
        let pause = match plan_due(&pool).await {
            Ok(MAX_BATCH..) => continue,
            Ok(_) => LOOK,
            Err(error) => {
                tracing::warn!(%error, "webhooks cannot be planned; trying again");
                PAUSE
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// Why messages could not be planned.
#[derive(Debug, thiserror::Error)]
enum PlannerError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("a fact cannot be told: {0}")]
    Json(#[from] serde_json::Error),
}

/// A fact whose time has come.
#[derive(FromRow)]
struct Due {
    #[sqlx(flatten)]
    fact: Fact,
    /// Whether it never became true, because the payment was voided before.
    withdrawn: bool,
}

async fn plan_due(pool: &PgPool) -> Result<usize, PlannerError> {
    let due = load_due(pool).await?;
    let dial = Dial::load(pool).await?;
    if !due.is_empty() {
        let mut planned = Vec::new();
        for Due { fact, .. } in due.iter().filter(|due| !due.withdrawn) {
            planned.extend(plan(&dial, fact)?.into_iter().map(|message| (fact, message)));
        }
        store(pool, &dial, &due, &planned).await?;
    }
    release_burst(pool, &dial).await?;
    Ok(due.len())
}

async fn load_due(pool: &PgPool) -> Result<Vec<Due>, sqlx::Error> {
    sqlx::query_as(
        "select f.session_id, f.number, f.type, f.amount_minor, f.subject_id, f.reason, f.occurs_at,
             s.reference, s.payment_id, s.currency, t.number is null as withdrawn
         from sandbox.facts f
             join sandbox.sessions s using (session_id)
             left join sandbox.true_facts t on t.session_id = f.session_id and t.number = f.number
         where f.planned_at is null and f.occurs_at <= now()
         order by f.occurs_at, f.number
         limit $1",
    )
    .bind(i64::try_from(MAX_BATCH).unwrap_or(i64::MAX))
    .fetch_all(pool)
    .await
}

/// Stores the messages and marks their facts as planned, both or neither. A fact that another
/// process has planned meanwhile is left as it is.
async fn store(
    pool: &PgPool,
    dial: &Dial,
    due: &[Due],
    planned: &[(&Fact, PlannedMessage)],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with planned as (
             update sandbox.facts f set planned_at = now()
             from unnest($1::uuid[], $2::int[]) as due (session_id, number)
             where f.session_id = due.session_id and f.number = due.number and f.planned_at is null
             returning f.session_id, f.number
         )
         insert into sandbox.deliveries
             (session_id, fact_number, kind, webhook_id, body, reordered, next_attempt_at, held_since)
         select session_id, number, m.kind, m.webhook_id, m.body, m.reordered,
             case when m.kind = 'lost' then 'infinity' else now() + make_interval(secs => m.after_seconds) end,
             case when $10 and m.kind <> 'lost' then now() end
         from planned join unnest(
             $3::uuid[], $4::int[], $5::text[], $6::text[], $7::text[], $8::bool[], $9::float8[]
         ) as m (session_id, number, kind, webhook_id, body, reordered, after_seconds)
             using (session_id, number)",
    )
    .bind(due.iter().map(|due| due.fact.session_id).collect::<Vec<_>>())
    .bind(due.iter().map(|due| due.fact.number).collect::<Vec<_>>())
    .bind(planned.iter().map(|(fact, _)| fact.session_id).collect::<Vec<_>>())
    .bind(planned.iter().map(|(fact, _)| fact.number).collect::<Vec<_>>())
    .bind(planned.iter().map(|(_, message)| message.kind.name()).collect::<Vec<_>>())
    .bind(planned.iter().map(|(_, message)| message.webhook_id.as_str()).collect::<Vec<_>>())
    .bind(planned.iter().map(|(_, message)| message.body.as_str()).collect::<Vec<_>>())
    .bind(planned.iter().map(|(_, message)| message.reordered).collect::<Vec<_>>())
    .bind(planned.iter().map(|(_, message)| message.after.as_secs_f64()).collect::<Vec<_>>())
    .bind(dial.burst_size > 1)
    .execute(pool)
    .await?;
    Ok(())
}

/// Lets all held messages go once there are enough of them, or once the first has waited long.
async fn release_burst(pool: &PgPool, dial: &Dial) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update sandbox.deliveries set held_since = null
         where held_since is not null and (
             select count(*) >= $1 or min(held_since) < now() - make_interval(secs => $2)
             from sandbox.deliveries where held_since is not null
         )",
    )
    .bind(i64::from(dial.burst_size))
    .bind(MAX_BURST_WAIT_SECONDS)
    .execute(pool)
    .await?;
    Ok(())
}
