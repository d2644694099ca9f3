//! The payment page, where a visitor approves or declines. It works without JavaScript.

use std::time::Duration;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use domain::Money;
use service::{NoBody, Path, Problem, page};
use sqlx::{FromRow, PgPool};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::State;
use crate::sessions::{approve, decline};

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(show_page))
        .routes(routes!(approve_on_page))
        .routes(routes!(decline_on_page))
}

#[derive(FromRow)]
struct Session {
    amount_minor: i64,
    currency: String,
    return_url: String,
    status: String,
}

impl Session {
    async fn load(pool: &PgPool, session_id: Uuid) -> Result<Option<Self>, sqlx::Error> {
        sqlx::query_as(
            "select amount_minor, currency, return_url, status
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
    responses(
        (status = 200, description = "A page with the buttons Pay and Decline"),
        (status = 404, description = "There is no such session", content_type = "text/html", body = String),
    ),
)]
async fn show_page(Shared(pool): Shared<PgPool>, Path(session_id): Path<Uuid>) -> Result<Response, Problem> {
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
    responses(
        (status = 303, description = "Back to the merchant"),
        (status = 404, description = "There is no such session", content_type = "text/html", body = String),
    ),
)]
async fn approve_on_page(
    Shared(pool): Shared<PgPool>,
    Shared(settle_after): Shared<Duration>,
    Path(session_id): Path<Uuid>,
    _: NoBody,
) -> Result<Response, Problem> {
    let Some(session) = Session::load(&pool, session_id).await? else { return Ok(no_such_session()) };
    approve(&pool, session_id, settle_after).await?;
    Ok(Redirect::to(&session.return_url).into_response())
}

/// Decline a payment
#[utoipa::path(
    post, path = "/sandbox/pay/{session_id}/decline", tag = "sandbox provider",
    params(("session_id" = Uuid, Path)),
    responses(
        (status = 303, description = "Back to the merchant"),
        (status = 404, description = "There is no such session", content_type = "text/html", body = String),
    ),
)]
async fn decline_on_page(
    Shared(pool): Shared<PgPool>,
    Path(session_id): Path<Uuid>,
    _: NoBody,
) -> Result<Response, Problem> {
    let Some(session) = Session::load(&pool, session_id).await? else { return Ok(no_such_session()) };
    decline(&pool, session_id).await?;
    Ok(Redirect::to(&session.return_url).into_response())
}
