//! How the projectors are doing, for operators: metrics, and the route `/projectors`.

use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use serde::Serialize;
use service::{Problem, Shutdown};
use sqlx::{FromRow, PgPool};

/// How often the metrics are refreshed.
const REFRESH: Duration = Duration::from_secs(1);

/// One projector, whichever process runs it.
#[derive(Debug, Serialize, FromRow)]
struct Status {
    name: String,
    version: i32,
    /// `running`, or `stopped` at an event that it cannot fold; it tries that one again and again.
    status: String,
    /// The last position that it has folded.
    position: i64,
    /// How many events follow.
    lag_events: i64,
    /// How long the next of them has waited, in seconds.
    lag_seconds: f64,
    /// Whether a worker holds the lease.
    leased: bool,
    /// Where it is stopped, why, and since when.
    blocked_position: Option<i64>,
    reason: Option<String>,
    stopped_at: Option<DateTime<Utc>>,
    /// When it last folded something.
    updated_at: DateTime<Utc>,
}

/// `GET /projectors`, in JSON. It belongs beside `/metrics`, away from the public.
pub fn status_router(pool: PgPool) -> Router {
    Router::new().route("/projectors", get(show)).with_state(pool)
}

async fn show(State(pool): State<PgPool>) -> Result<Json<Vec<Status>>, Problem> {
    Ok(Json(load(&pool).await?))
}

async fn load(pool: &PgPool) -> Result<Vec<Status>, sqlx::Error> {
    sqlx::query_as(
        "select c.name, c.version, c.status, c.position, greatest(h.position - c.position, 0) as lag_events,
             coalesce(greatest(extract(epoch from now() - e.recorded_at), 0), 0)::float8 as lag_seconds,
             c.leased_until >= now() as leased, c.blocked_position, c.reason, c.stopped_at, c.updated_at
         from projector_checkpoints c cross join ledger_head h
             left join events e on e.position = c.position + 1
         order by c.name, c.version",
    )
    .fetch_all(pool)
    .await
}

/// Keeps the metrics, also of projectors that are stopped or run elsewhere.
pub(crate) async fn observe(pool: PgPool, shutdown: Shutdown) {
    while !shutdown.is_cancelled() {
        match load(&pool).await {
            Ok(all) => all.iter().for_each(Status::record),
            Err(error) => tracing::warn!(%error, "the lag of the projectors is not known"),
        }
        tokio::select! {
            () = tokio::time::sleep(REFRESH) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

impl Status {
    fn record(&self) {
        let labels = [("projector", self.name.clone())];
        metrics::gauge!("projector_lag_events", &labels).set(self.lag_events as f64);
        metrics::gauge!("projector_lag_seconds", &labels).set(self.lag_seconds);
        metrics::gauge!("projector_blocked_position", &labels)
            .set(self.blocked_position.unwrap_or_default() as f64);
    }
}
