//! The baselines: pledges over plain postgres-es behind axum, as their documentation shows, and a
//! plain handler of webhooks.
//!
//! The first takes the same requests, decides by the same rules and stores the same event payloads. It
//! does less than CareForAll: no idempotency, no conditions on the campaign, no donors' data, no
//! order over all events, no metrics.

use std::sync::Arc;

use anyhow::Context;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{post, put};
use axum::{Json, Router};
use cqrs_es::AggregateError;
use domain::{CampaignId, DonorId, Money, Pledge, PledgeCommand, PledgeError, PledgeStatus};
use postgres_es::{PostgresCqrs, postgres_cqrs};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

use crate::server::serve_plain;

/// As many connections as CareForAll gives its ledger.
const POOL_SIZE: u32 = 16;

/// The table of postgres-es's documentation (its `db/init.sql`).
const EVENTS_TABLE: &str = "
    create table events
    (
        aggregate_type text                         not null,
        aggregate_id   text                         not null,
        sequence       bigint check (sequence >= 0) not null,
        event_type     text                         not null,
        event_version  text                         not null,
        payload        json                         not null,
        metadata       json                         not null,
        primary key (aggregate_type, aggregate_id, sequence)
    )";

type Cqrs = Arc<PostgresCqrs<Pledge>>;

/// Makes the baseline's table.
pub(crate) async fn make_table(pool: &PgPool) -> anyhow::Result<()> {
    sqlx::raw_sql(EVENTS_TABLE).execute(pool).await.context("the baseline's table cannot be made")?;
    Ok(())
}

/// Serves until standard input ends.
pub(crate) async fn serve(database_url: &str) -> anyhow::Result<()> {
    let pool = PgPoolOptions::new().max_connections(POOL_SIZE).connect(database_url).await?;
    let cqrs: Cqrs = Arc::new(postgres_cqrs(pool, vec![], ()));
    let router = Router::new()
        .route("/api/pledges", post(create_pledge))
        .route("/api/pledges/{id}", put(amend_pledge))
        .with_state(cqrs);
    serve_plain(router).await
}

/// The same request that CareForAll takes.
#[derive(Deserialize)]
struct NewPledge {
    campaign_id: Uuid,
    amount: Money,
    donor: Donor,
    anonymous: bool,
    message: Option<String>,
}

#[derive(Deserialize)]
struct Donor {
    name: Option<String>,
    email: String,
}

#[derive(Serialize)]
struct PledgeReply {
    pledge_id: Uuid,
    status: PledgeStatus,
}

async fn create_pledge(
    State(cqrs): State<Cqrs>,
    headers: HeaderMap,
    Json(body): Json<NewPledge>,
) -> Result<(StatusCode, Json<PledgeReply>), StatusCode> {
    // The client's key, which is a fresh UUID, is the pledge's id.
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok());
    let pledge_id: Uuid = key.and_then(|key| key.parse().ok()).ok_or(StatusCode::BAD_REQUEST)?;
    let NewPledge { campaign_id, amount, donor, anonymous, message } = body;
    // Personal data stays out of the events here as well; this service keeps it nowhere.
    drop((donor.name, donor.email, message));
    let command = PledgeCommand::Create {
        campaign_id: CampaignId(campaign_id),
        donor_id: DonorId(Uuid::new_v4()),
        amount,
        anonymous,
        made_at: chrono::Utc::now(),
    };
    execute(&cqrs, pledge_id, command).await?;
    Ok((StatusCode::CREATED, Json(PledgeReply { pledge_id, status: PledgeStatus::Pending })))
}

#[derive(Deserialize)]
struct PledgeChanges {
    amount: Money,
}

async fn amend_pledge(
    State(cqrs): State<Cqrs>,
    Path(pledge_id): Path<Uuid>,
    Json(PledgeChanges { amount }): Json<PledgeChanges>,
) -> Result<Json<PledgeReply>, StatusCode> {
    execute(&cqrs, pledge_id, PledgeCommand::Amend { amount }).await?;
    Ok(Json(PledgeReply { pledge_id, status: PledgeStatus::Pending }))
}

/// One `execute` per request; whoever meets another command is told so and may try again.
async fn execute(cqrs: &Cqrs, pledge_id: Uuid, command: PledgeCommand) -> Result<(), StatusCode> {
    cqrs.execute(&pledge_id.to_string(), command).await.map_err(|error: AggregateError<PledgeError>| {
        match error {
            AggregateError::AggregateConflict => StatusCode::CONFLICT,
            AggregateError::UserError(_) => StatusCode::UNPROCESSABLE_ENTITY,
            AggregateError::DatabaseConnectionError(_)
            | AggregateError::DeserializationError(_)
            | AggregateError::UnexpectedError(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    })
}

/// The columns and indexes of `webhook_inbox` that take part in storing a message. Nothing is
/// notified, since nobody works on what is stored.
const INBOX_TABLE: &str = "
    create table webhook_inbox
    (
        inbox_id        bigint generated always as identity primary key,
        provider        text not null,
        origin          text not null default 'webhook',
        webhook_id      text not null,
        event_type      text not null,
        pledge_id       uuid,
        body            text not null,
        received_at     timestamptz not null default now(),
        status          text not null default 'pending',
        attempts        int not null default 0,
        next_attempt_at timestamptz not null default now(),
        unique (provider, webhook_id)
    );
    create index on webhook_inbox (next_attempt_at, inbox_id) where status = 'pending';
    create index on webhook_inbox (pledge_id, inbox_id)";

/// Makes the table of the plain webhook handler.
pub(crate) async fn make_inbox(pool: &PgPool) -> anyhow::Result<()> {
    sqlx::raw_sql(INBOX_TABLE).execute(pool).await.context("the baseline's inbox cannot be made")?;
    Ok(())
}

/// Serves the plain webhook handler until standard input ends.
pub(crate) async fn serve_webhooks(database_url: &str) -> anyhow::Result<()> {
    let pool = PgPoolOptions::new().max_connections(POOL_SIZE).connect(database_url).await?;
    serve_plain(Router::new().route("/webhooks/sandbox", post(store_webhook)).with_state(pool)).await
}

/// The part of a message that the table has columns for.
#[derive(Deserialize)]
struct Message {
    r#type: String,
    data: MessageData,
}

#[derive(Deserialize)]
struct MessageData {
    pledge_id: Uuid,
}

#[derive(Serialize)]
struct Receipt {
    new: bool,
}

/// One insert for each request, committed before the answer. Nothing is verified.
async fn store_webhook(
    State(pool): State<PgPool>,
    headers: HeaderMap,
    body: String,
) -> Result<Json<Receipt>, StatusCode> {
    let webhook_id =
        headers.get("webhook-id").and_then(|id| id.to_str().ok()).ok_or(StatusCode::BAD_REQUEST)?;
    let message: Message = serde_json::from_str(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
    let stored = sqlx::query(
        "insert into webhook_inbox (provider, webhook_id, event_type, pledge_id, body)
         values ('sandbox', $1, $2, $3, $4) on conflict (provider, webhook_id) do nothing",
    )
    .bind(webhook_id)
    .bind(message.r#type)
    .bind(message.data.pledge_id)
    .bind(&body)
    .execute(&pool)
    .await
    .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(Json(Receipt { new: stored.rows_affected() == 1 }))
}
