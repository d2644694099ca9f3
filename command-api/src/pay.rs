//! `/pay/{pledge_id}`: where a donor pays.
//!
//! Making a pledge never waits for a provider; its session is opened here, on the first visit.

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use domain::pledge::PledgeState;
use domain::{Pledge, PledgeId};
use event_store::Ledger;
use payments::{CheckOut, Provider};
use service::{Path, page};
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::pledges::payment_url;
use crate::{PublicUrl, State};

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(pay))
}

/// Pay a pledge
///
/// A page for people: leads to the provider's payment page, or says what has become of the pledge.
#[utoipa::path(
    get, path = "/pay/{pledge_id}", tag = "pledges",
    params(("pledge_id" = Uuid, Path)),
    responses(
        (status = 303, description = "To the provider's payment page"),
        (status = 200, description = "The pledge needs no payment; the page says why"),
        (status = 404, description = "There is no such pledge"),
        (status = 503, description = "The provider or the ledger cannot be reached"),
    ),
)]
async fn pay(
    Shared(ledger): Shared<Ledger>,
    Shared(provider): Shared<Arc<dyn Provider>>,
    Shared(public_url): Shared<PublicUrl>,
    Path(pledge_id): Path<Uuid>,
) -> Response {
    let pledge_id = PledgeId(pledge_id);
    let pledge = match ledger.load::<Pledge>(pledge_id.0).await {
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
    if record.state != PledgeState::Pending {
        return what_became_of_it(&record.state);
    }
    let return_url = payment_url(&public_url, pledge_id);
    match provider.check_out(CheckOut { pledge_id, amount: record.amount, return_url }).await {
        Ok(url) => Redirect::to(&url).into_response(),
        Err(error) => try_again(&error),
    }
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

fn what_became_of_it(state: &PledgeState) -> Response {
    let (title, text) = match state {
        PledgeState::Pending => ("Waiting for payment", "This pledge has not been paid yet."),
        PledgeState::Authorized(_) => {
            ("Thank you", "Your payment is authorised. The total moves as soon as it is captured.")
        }
        PledgeState::Captured(_) | PledgeState::Completed(_) => ("Thank you", "Your gift has arrived."),
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
