//! The payment page, where a visitor approves or declines. It works without JavaScript.

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use chrono::Utc;
use domain::{Money, PledgeId};
use payments::sandbox::{FailureData, Message, MoneyData};
use serde::Serialize;
use serde_json::value::to_raw_value;
use service::{Path, Problem, page};
use sqlx::{FromRow, PgPool};
use std::time::Duration;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::State;

/// The capture follows the authorisation after this.
const CAPTURE_AFTER: Duration = Duration::from_millis(200);

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(show_session))
        .routes(routes!(approve_session))
        .routes(routes!(decline_session))
}

#[derive(FromRow)]
struct Session {
    reference: Uuid,
    payment_id: String,
    amount_minor: i64,
    currency: String,
    return_url: String,
    status: String,
}

impl Session {
    async fn load(pool: &PgPool, session_id: Uuid) -> Result<Option<Self>, sqlx::Error> {
        sqlx::query_as(
            "select reference, payment_id, amount_minor, currency, return_url, status
             from sandbox.sessions where session_id = $1",
        )
        .bind(session_id)
        .fetch_optional(pool)
        .await
    }

    fn amount(&self) -> Result<Money, Problem> {
        let currency = self.currency.parse().map_err(Problem::internal)?;
        Money::new(self.amount_minor, currency).map_err(Problem::internal)
    }
}

fn no_such_session() -> Response {
    page(StatusCode::NOT_FOUND, "No such payment", "<p>Please go back and check the link.</p>")
}

/// Show the payment page
#[utoipa::path(
    get, path = "/sandbox/pay/{session_id}", tag = "sandbox provider", params(("session_id" = Uuid, Path)),
    responses((status = 200, description = "A page with the buttons Pay and Decline"), (status = 404, description = "There is no such session")),
)]
async fn show_session(
    Shared(pool): Shared<PgPool>,
    Path(session_id): Path<Uuid>,
) -> Result<Response, Problem> {
    let Some(session) = Session::load(&pool, session_id).await? else { return Ok(no_such_session()) };
    if session.status != "open" {
        return Ok(Redirect::to(&session.return_url).into_response());
    }
    let amount = session.amount()?;
    Ok(page(
        StatusCode::OK,
        "Sandbox payment",
        &format!(
            "<p class=\"amount\">{amount}</p><p>This is a stand-in for a payment provider. No real money moves.</p>\
             <form method=\"post\" action=\"/sandbox/pay/{session_id}/approve\"><button autofocus>Pay {amount}</button></form>\
             <form method=\"post\" action=\"/sandbox/pay/{session_id}/decline\"><button>Decline</button></form>"
        ),
    ))
}

/// Approve a payment
#[utoipa::path(
    post, path = "/sandbox/pay/{session_id}/approve", tag = "sandbox provider",
    params(("session_id" = Uuid, Path)),
    responses((status = 303, description = "Back to the merchant"), (status = 404, description = "There is no such session")),
)]
async fn approve_session(
    Shared(pool): Shared<PgPool>,
    Shared(settle_after): Shared<Duration>,
    Path(session_id): Path<Uuid>,
) -> Result<Response, Problem> {
    let Some(session) = Session::load(&pool, session_id).await? else { return Ok(no_such_session()) };
    let data = MoneyData {
        pledge_id: PledgeId(session.reference),
        payment_id: session.payment_id.parse().map_err(Problem::internal)?,
        amount: session.amount()?,
    };
    let messages = [
        (message("payment.authorized", &data)?, Duration::ZERO),
        (message("payment.captured", &data)?, CAPTURE_AFTER),
        (message("settlement.confirmed", &data)?, CAPTURE_AFTER + settle_after),
    ];
    decide(&pool, session_id, "approved", &messages).await?;
    Ok(Redirect::to(&session.return_url).into_response())
}

/// Decline a payment
#[utoipa::path(
    post, path = "/sandbox/pay/{session_id}/decline", tag = "sandbox provider",
    params(("session_id" = Uuid, Path)),
    responses((status = 303, description = "Back to the merchant"), (status = 404, description = "There is no such session")),
)]
async fn decline_session(
    Shared(pool): Shared<PgPool>,
    Path(session_id): Path<Uuid>,
) -> Result<Response, Problem> {
    let Some(session) = Session::load(&pool, session_id).await? else { return Ok(no_such_session()) };
    let data = FailureData {
        pledge_id: PledgeId(session.reference),
        payment_id: session.payment_id.parse().map_err(Problem::internal)?,
        reason: "declined by the visitor".parse().ok(),
    };
    decide(&pool, session_id, "declined", &[(message("payment.failed", &data)?, Duration::ZERO)]).await?;
    Ok(Redirect::to(&session.return_url).into_response())
}

fn message(r#type: &str, data: &impl Serialize) -> Result<String, Problem> {
    let data = to_raw_value(data).map_err(Problem::internal)?;
    let message = Message { r#type: r#type.to_owned(), timestamp: Utc::now(), data };
    serde_json::to_string(&message).map_err(Problem::internal)
}

/// Decides an open session and queues its webhooks, both or neither; a decided one stays as it is.
async fn decide(
    pool: &PgPool,
    session_id: Uuid,
    status: &str,
    messages: &[(String, Duration)],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with decided as (
             update sandbox.sessions set status = $2, decided_at = now()
             where session_id = $1 and status = 'open' returning session_id
         )
         insert into sandbox.deliveries (session_id, body, next_attempt_at)
         select session_id, body, now() + make_interval(secs => after_seconds)
         from decided, unnest($3::text[], $4::float8[]) as m (body, after_seconds)",
    )
    .bind(session_id)
    .bind(status)
    .bind(messages.iter().map(|(body, _)| body.as_str()).collect::<Vec<_>>())
    .bind(messages.iter().map(|(_, after)| after.as_secs_f64()).collect::<Vec<_>>())
    .execute(pool)
    .await?;
    Ok(())
}
