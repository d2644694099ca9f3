//! The dial: how badly the provider's messages and its API behave.

use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};
use service::{FieldErrors, Json, Problem};
use sqlx::{FromRow, PgPool};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::State;
use crate::merchant::Merchant;
use crate::request_count::RequestCount;

/// Whole numbers up to here are the same in every JSON parser.
const MAX_SEED: i64 = (1 << 53) - 1;
const MAX_DELAY_MS: i32 = 60_000;
const MAX_BURST_SIZE: i32 = 10_000;

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(show_dial, turn_dial))
}

/// How badly messages and the API behave. All zero, as at first, is a provider without faults. A rate is
/// the share of messages or requests that it befalls, from 0 to 1. The choices depend on the seed,
/// the merchant's reference and what is told, so the same seed repeats a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, FromRow, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Dial {
    /// 0 to 9007199254740991.
    pub(crate) seed: i64,
    /// Messages that are sent again, one to three times.
    pub(crate) duplicate_rate: f64,
    /// Messages that are held back for one to three seconds, so that later ones overtake them.
    pub(crate) reorder_rate: f64,
    /// Every message is sent late by up to this: 0 to 60000 ms.
    pub(crate) delay_ms: i32,
    /// Messages that are never sent: only the report tells.
    pub(crate) loss_rate: f64,
    /// Messages wait until this many have gathered, five seconds at most, and are then sent together:
    /// 0 to 10000. At 0 or 1 none waits.
    pub(crate) burst_size: i32,
    /// Messages beside which a forged one is sent: signed with a wrong secret, about money that never moved.
    pub(crate) forge_rate: f64,
    /// Messages beside which a broken one is sent: rightly signed, but no whole JSON.
    pub(crate) malformed_rate: f64,
    /// Requests of the merchant that are answered 503: half of them before anything is done, half
    /// after all is done.
    pub(crate) outage_rate: f64,
}

impl Dial {
    pub(crate) async fn load(pool: &PgPool) -> Result<Self, sqlx::Error> {
        sqlx::query_as(
            "select seed, duplicate_rate, reorder_rate, delay_ms, loss_rate, burst_size, forge_rate,
                 malformed_rate, outage_rate
             from sandbox.dial",
        )
        .fetch_one(pool)
        .await
    }

    async fn store(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        sqlx::query(
            "update sandbox.dial
             set seed = $1, duplicate_rate = $2, reorder_rate = $3, delay_ms = $4, loss_rate = $5,
                 burst_size = $6, forge_rate = $7, malformed_rate = $8, outage_rate = $9",
        )
        .bind(self.seed)
        .bind(self.duplicate_rate)
        .bind(self.reorder_rate)
        .bind(self.delay_ms)
        .bind(self.loss_rate)
        .bind(self.burst_size)
        .bind(self.forge_rate)
        .bind(self.malformed_rate)
        .bind(self.outage_rate)
        .execute(pool)
        .await?;
        Ok(())
    }

    /// The problem that lists every setting that is out of bounds, if there are any.
    fn problem(&self) -> Option<Problem> {
        let mut errors = FieldErrors::default();
        for (field, rate) in [
            ("duplicate_rate", self.duplicate_rate),
            ("reorder_rate", self.reorder_rate),
            ("loss_rate", self.loss_rate),
            ("forge_rate", self.forge_rate),
            ("malformed_rate", self.malformed_rate),
            ("outage_rate", self.outage_rate),
        ] {
            if !(0.0..=1.0).contains(&rate) {
                errors.add(field, "must be 0 to 1");
            }
        }
        for (field, value, max) in [
            ("seed", self.seed, MAX_SEED),
            ("delay_ms", self.delay_ms.into(), MAX_DELAY_MS.into()),
            ("burst_size", self.burst_size.into(), MAX_BURST_SIZE.into()),
        ] {
            if !(0..=max).contains(&value) {
                errors.add(field, format!("must be 0 to {max}"));
            }
        }
        errors.into_problem()
    }
}

/// Show the dial
#[utoipa::path(
    get, path = "/sandbox/dial", tag = "sandbox provider", security(("sandbox_key" = [])),
    responses((status = 200, body = Dial)),
)]
async fn show_dial(_: Merchant, Shared(pool): Shared<PgPool>) -> Result<Json<Dial>, Problem> {
    Ok(Json(Dial::load(&pool).await?))
}

/// Turn the dial
///
/// The whole dial is set: a setting that is left out is 0. It counts for what happens from now on, and a
/// restart keeps it.
#[utoipa::path(
    put, path = "/sandbox/dial", tag = "sandbox provider", security(("sandbox_key" = [])),
    request_body = Dial,
    responses((status = 200, body = Dial), (status = 422)),
)]
async fn turn_dial(
    _: Merchant,
    Shared(pool): Shared<PgPool>,
    Shared(request_count): Shared<RequestCount>,
    Json(dial): Json<Dial>,
) -> Result<Json<Dial>, Problem> {
    if let Some(problem) = dial.problem() {
        return Err(problem);
    }
    dial.store(&pool).await?;
    request_count.restart();
    Ok(Json(dial))
}
