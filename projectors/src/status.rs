//! How the projectors are doing, for operators: metrics, and the route `/projectors`.

use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use event_store::lag_behind;
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
    #[sqlx(skip)]
    lag_events: i64,
    /// How long the next of them has waited, in seconds.
    #[sqlx(skip)]
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
    let mut all: Vec<Status> = sqlx::query_as(
        "select name, version, status, position, leased_until >= now() as leased, blocked_position, reason,
             stopped_at, updated_at
         from projector_checkpoints order by name, version",
    )
    .fetch_all(pool)
    .await?;
    let positions: Vec<i64> = all.iter().map(|status| status.position).collect();
    for (status, lag) in all.iter_mut().zip(lag_behind(pool, &positions).await?) {
        (status.lag_events, status.lag_seconds) = (lag.events, lag.seconds);
    }
    Ok(all)
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
