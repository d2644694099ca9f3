//! `/pay/{pledge_id}`: where a donor pays.
//!
//! Making a pledge never waits for a provider; its session is opened here, on the first visit.

use axum::Extension;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use domain::pledge::{PledgeRecord, PledgeState};
use domain::{Currency, Money, Pledge, PledgeCommand, PledgeId};
use event_store::ExecuteError;
use payments::store::sessions::{self, OngoingSession};
use payments::{CheckOut, PayableAmounts, ProviderError, Providers};
use serde::Deserialize;
use service::{Form, Path, RequestId, escape, page};
use sqlx::PgPool;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::pledges::payment_url;
use crate::replies::metadata;
use crate::{ReconcileAfter, State};

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(pay, change_amount))
}

/// Pay a pledge
///
/// A page for people: leads to the provider's payment page, or says what has become of the pledge.
#[utoipa::path(
    get, path = "/pay/{pledge_id}", tag = "pledges",
    params(("pledge_id" = Uuid, Path)),
    extensions(("x-cross-origin" = json!(true))),
    responses(
        (status = 303, description = "To the provider's payment page"),
        (status = 200, description = "The pledge needs no payment; the page says why"),
        (status = 404, description = "There is no such pledge", content_type = "text/html", body = String),
        (
            status = 422, description = "The provider does not take this payment; the page says why",
            content_type = "text/html", body = String,
        ),
        (
            status = 503, description = "The provider or the ledger cannot be reached",
            content_type = "text/html", body = String,
        ),
    ),
)]
async fn pay(Shared(state): Shared<State>, Path(pledge_id): Path<Uuid>) -> Response {
    let pledge_id = PledgeId(pledge_id);
    let pledge = match state.ledger.load::<Pledge>(pledge_id.0).await {
        Ok(loaded) => loaded.aggregate,
        Err(error) => return try_again(&error),
    };
    let Some(record) = pledge.record() else {
        return page(
            StatusCode::NOT_FOUND,
            "No such pledge",
            "<p>This address names no pledge. Please check the link.</p>",
        );
    };
    if record.in_question().is_some() {
        return page(
            StatusCode::OK,
            "Thank you",
            "<p>Your payment was more than you had pledged. We are checking it, and will accept it or give it \
             back. There is nothing that you need to do.</p>",
        );
    }
    if !can_be_paid(record) {
        return state_page(record);
    }
    let return_url = payment_url(&state.public_url, pledge_id);
    let check_out = CheckOut { pledge_id, amount: record.amount, return_url };
    match open_session(state.ledger.pool(), &state.providers, check_out, state.reconcile_after).await {
        Ok(NextStep::Page(url)) => Redirect::to(&url).into_response(),
        Ok(NextStep::PaidBefore) => page(
            StatusCode::OK,
            "Thank you",
            "<p>You have paid already. Your payment will be shown here as soon as it is confirmed.</p>",
        ),
        Err(OpenError::Provider(ProviderError::Refused(reason))) => {
            tracing::warn!(%pledge_id, reason, "a payment page was refused");
            refused(&state, record.amount, &format!("The payment provider refuses it: {reason}"))
        }
        Err(error) => try_again(&error),
    }
}

/// What a donor types on the page of a payment that is refused.
#[derive(Debug, Deserialize, ToSchema)]
struct NewAmount {
    /// Major units of the pledge's currency, such as 12.50.
    amount: String,
}

/// Change the amount of a pledge on its page
///
/// Leads back to the page of the pledge, where it is paid.
#[utoipa::path(
    post, path = "/pay/{pledge_id}", tag = "pledges",
    params(("pledge_id" = Uuid, Path)),
    request_body(content = NewAmount, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 303, description = "To the page of the pledge"),
        (
            status = 422, description = "No such amount can be paid; the page says why",
            content_type = "text/html", body = String,
        ),
        (
            status = 503, description = "The ledger cannot be reached",
            content_type = "text/html", body = String,
        ),
    ),
)]
async fn change_amount(
    Shared(state): Shared<State>,
    Extension(request_id): Extension<RequestId>,
    Path(pledge_id): Path<Uuid>,
    Form(form): Form<NewAmount>,
) -> Response {
    let pledge_id = PledgeId(pledge_id);
    let pledge = match state.ledger.load::<Pledge>(pledge_id.0).await {
        Ok(loaded) => loaded.aggregate,
        Err(error) => return try_again(&error),
    };
    let page = || Redirect::to(&payment_url(&state.public_url, pledge_id)).into_response();
    let Some(record) = pledge.record().filter(|record| can_be_paid(record)) else { return page() };
    let amount = match Money::from_major(&form.amount, record.amount.currency()) {
        Ok(amount) if possible(&state, amount.currency()).contain(amount) => amount,
        Ok(amount) => return refused(&state, amount, "This amount cannot be paid"),
        Err(error) => {
            return refused(&state, record.amount, &format!("The new amount {error}"));
        }
    };
    let amend = PledgeCommand::Amend { amount };
    match state.ledger.execute::<Pledge>(pledge_id.0, &amend, &metadata(request_id, None)).await {
        // A pledge that cannot be amended says why on its page.
        Ok(_) | Err(ExecuteError::Rule(_)) => page(),
        Err(error) => try_again(&error),
    }
}

fn can_be_paid(record: &PledgeRecord) -> bool {
    record.state == PledgeState::Pending && record.in_question().is_none()
}

fn possible(state: &State, currency: Currency) -> PayableAmounts {
    state.least_pledges.possible(&state.providers, currency)
}

/// The next step of a donor who wants to pay.
enum NextStep {
    /// Pay on the provider's page.
    Page(String),
    /// None: the donor has paid, for this amount or an earlier one, and the report of it is on its
    /// way.
    PaidBefore,
}

/// The reason why no payment page can be opened.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Opens the session for the pledge as it is now. A donor who changed the amount may have an older
/// session open in another window; it is closed first, so that the pledge cannot be paid twice.
async fn open_session(
    pool: &PgPool,
    providers: &Providers,
    check_out: CheckOut,
    ReconcileAfter(reconcile_after): ReconcileAfter,
) -> Result<NextStep, OpenError> {
    let provider = providers.for_check_outs();
    let CheckOut { pledge_id, amount, .. } = check_out;
    for session in sessions::outdated(pool, provider.name(), pledge_id, amount).await? {
        if is_paid_when_closed(pool, providers, &session).await? {
            return Ok(NextStep::PaidBefore);
        }
    }
    let opened = provider.check_out(check_out).await?;
    sessions::record(pool, provider.name(), &opened, pledge_id, amount, reconcile_after).await?;
    Ok(opened.url.map_or(NextStep::PaidBefore, NextStep::Page))
}

/// Closes a session, and asks whether it was paid before. One that was stays on the list of those
/// that are asked about, until its facts are in the ledger.
async fn is_paid_when_closed(
    pool: &PgPool,
    providers: &Providers,
    session: &OngoingSession,
) -> Result<bool, OpenError> {
    let unavailable = |error: &dyn std::fmt::Display| ProviderError::Unavailable(error.to_string());
    let session_id = session.session_id.parse().map_err(|error| unavailable(&error))?;
    let provider = providers
        .named(&session.provider)
        .ok_or_else(|| unavailable(&format!("{} is not set up", session.provider)))?;
    provider.close(&session_id).await?;
    let is_paid = provider.fetch(&session_id).await?.is_paid();
    if !is_paid {
        sessions::end(pool, &session.provider, &session_id).await?;
    }
    Ok(is_paid)
}

/// To load the page again would bring the same, so it lets the donor change the amount.
fn refused(state: &State, amount: Money, reason: &str) -> Response {
    let possible = possible(state, amount.currency());
    let in_words = |amount_minor| Money::new(amount_minor, amount.currency()).map(|money| money.to_string());
    let range = match (in_words(possible.least_minor), in_words(possible.most_minor)) {
        (Ok(least), Ok(most)) if !possible.is_empty() => format!(", from {least} to {most}"),
        _ => String::new(),
    };
    let step = match in_words(possible.step_minor) {
        Ok(step) if possible.step_minor > 1 && !range.is_empty() => format!(" in steps of {step}"),
        _ => String::new(),
    };
    page(
        StatusCode::UNPROCESSABLE_ENTITY,
        "This payment cannot be made",
        &format!(
            "<p class=\"amount\">{amount}</p><p role=\"alert\">{}.</p>\
             <p>Nothing was charged. You can change the amount of your pledge{range}{step}.</p>\
             <form method=\"post\">\
             <label>New amount in {} <input name=\"amount\" inputmode=\"decimal\" autocomplete=\"off\" \
             maxlength=\"20\" required></label> <button>Change and pay</button></form>",
            escape(reason.trim_end_matches('.')),
            amount.currency(),
        ),
    )
}

fn try_again(error: &dyn std::error::Error) -> Response {
    tracing::warn!(%error, "a payment page could not be opened");
    page(
        StatusCode::SERVICE_UNAVAILABLE,
        "Please try again",
        "<p>The payment page cannot be opened right now. Your pledge is safe and nothing was charged. \
         Please load this page again in a minute.</p>",
    )
}

fn state_page(record: &PledgeRecord) -> Response {
    let (title, text) = match &record.state {
        PledgeState::Pending => ("Waiting for payment", "This pledge has not been paid yet."),
        PledgeState::Authorized(_) => {
            ("Thank you", "Your payment is authorised. The total moves as soon as it is captured.")
        }
        PledgeState::Captured(_) | PledgeState::Completed(_) => ("Thank you", "Your gift has arrived."),
        PledgeState::Failed(_) if record.payments.values().any(|payment| payment.captured().is_some()) => (
            "Your payment was given back",
            "It was more than you had pledged. You are welcome to make a new pledge.",
        ),
        PledgeState::Failed(_) => {
            ("The payment failed", "Nothing was charged. You are welcome to make a new pledge.")
        }
        PledgeState::Expired => {
            ("This pledge has expired", "It was not paid in time. You are welcome to make a new one.")
        }
        PledgeState::Cancelled => ("This pledge was cancelled", "Your money is being released."),
    };
    page(StatusCode::OK, title, &format!("<p>{text}</p>"))
}
