//! Liveness, readiness and metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::future::join_all;
use serde::Serialize;
use sqlx::PgPool;

use crate::telemetry;

/// Longest a dependency may take to answer before it counts as down.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks one dependency whether it works.
#[async_trait]
pub trait Check: Send + Sync {
    /// The dependency's name in `/readyz`.
    fn name(&self) -> &'static str;

    /// Asks it.
    ///
    /// # Errors
    /// Why it does not work.
    async fn check(&self) -> anyhow::Result<()>;
}

/// The dependencies of a service.
#[derive(Clone, Default)]
pub struct Health {
    checks: Vec<Arc<dyn Check>>,
}

/// The body of `/readyz`.
#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    checks: BTreeMap<&'static str, String>,
}

impl Health {
    /// Adds a dependency; one that is there already by name stays as it is.
    #[must_use]
    pub fn with(mut self, check: impl Check + 'static) -> Self {
        if self.checks.iter().all(|known| known.name() != check.name()) {
            self.checks.push(Arc::new(check));
        }
        self
    }

    /// Takes over the dependencies of another service that runs in the same process.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        for check in other.checks {
            if self.checks.iter().all(|known| known.name() != check.name()) {
                self.checks.push(check);
            }
        }
        self
    }

    /// `/healthz` (the process answers), `/readyz` (which dependency is down), `/metrics`.
    pub fn router(self) -> Router {
        Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(async || telemetry::render_metrics()))
            .with_state(self)
    }
}

async fn readyz(State(health): State<Health>) -> Response {
    let asked = health.checks.iter().map(|check| async {
        let verdict = match tokio::time::timeout(CHECK_TIMEOUT, check.check()).await {
            Ok(Ok(())) => "ok".to_owned(),
            Ok(Err(error)) => format!("down: {error:#}"),
            Err(_) => format!("down: no answer within {} s", CHECK_TIMEOUT.as_secs()),
        };
        (check.name(), verdict)
    });
    let checks: BTreeMap<_, _> = join_all(asked).await.into_iter().collect();
    let ready = checks.values().all(|verdict| verdict == "ok");
    let (code, status) =
        if ready { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready") };
    (code, Json(Readiness { status, checks })).into_response()
}

/// Postgres answers a query.
pub struct PostgresCheck(pub PgPool);

#[async_trait]
impl Check for PostgresCheck {
    fn name(&self) -> &'static str {
        "postgres"
    }

    async fn check(&self) -> anyhow::Result<()> {
        sqlx::query("select 1").execute(&self.0).await?;
        Ok(())
    }
}
