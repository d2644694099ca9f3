//! Money that was taken and held apart. For organisers.

use axum::extract::State as Shared;
use chrono::{DateTime, Utc};
use read_model::UnappliedPayment;
use serde::{Deserialize, Serialize};
use service::auth::Organiser;
use service::paging::{Page, PageQuery, PageRequest};
use service::{Json, Problem, Query};
use sqlx::PgPool;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::State;
use crate::campaigns::MoneyReply;

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(list_unapplied))
}

/// The state of money held apart.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum UnappliedStatus {
    /// At least some of it is still there.
    #[default]
    Held,
    /// All of it went back, by refund or lost dispute.
    Refunded,
    /// It pays its pledge after all, or became another pledge of the donor.
    Accepted,
}

impl UnappliedStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Refunded => "refunded",
            Self::Accepted => "accepted",
        }
    }
}

/// The filter of payments.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct UnappliedQuery {
    /// Its state; `held` by default.
    #[serde(default)]
    #[param(inline)]
    status: UnappliedStatus,
}

/// A payment that was taken and held apart.
#[derive(Debug, Serialize, ToSchema)]
struct UnappliedReply {
    /// The provider's payment.
    payment_id: String,
    /// The pledge that could not use it.
    pledge_id: Uuid,
    campaign_id: Uuid,
    /// The donor's pseudonym.
    donor_id: Uuid,
    /// The amount that was taken.
    amount: MoneyReply,
    /// The part that went back in any way, in minor units.
    given_back_minor: i64,
    /// `not_needed`: the pledge was finished or paid. `above_limit`: it is so much more than was promised
    /// that it waits to be accepted.
    reason: String,
    /// `held`, `refunded` or `accepted`.
    status: String,
    /// The pledge that it pays, once it was accepted: this one or another one.
    accepted_as: Option<Uuid>,
    /// The position of the payment's event in the ledger.
    position: i64,
    /// The instant of that event.
    received_at: DateTime<Utc>,
}

impl From<UnappliedPayment> for UnappliedReply {
    fn from(row: UnappliedPayment) -> Self {
        Self {
            payment_id: row.payment_id,
            pledge_id: row.pledge_id,
            campaign_id: row.campaign_id,
            donor_id: row.donor_id,
            amount: MoneyReply { amount_minor: row.amount_minor, currency: row.currency },
            given_back_minor: row.given_back_minor,
            reason: row.reason,
            status: row.status,
            accepted_as: row.accepted_as,
            position: row.position,
            received_at: row.received_at,
        }
    }
}

/// List money that is held apart
///
/// Newest first: payments that were taken and that their pledge could not use.
#[utoipa::path(
    get, path = "/api/unapplied", tag = "pledges", params(UnappliedQuery, PageQuery),
    security(("admin_token" = [])),
    responses((status = 200, body = Page<UnappliedReply>)),
)]
async fn list_unapplied(
    _: Organiser,
    Shared(pool): Shared<PgPool>,
    Query(filter): Query<UnappliedQuery>,
    page: PageRequest<i64>,
) -> Result<Json<Page<UnappliedReply>>, Problem> {
    let rows: Vec<UnappliedPayment> = sqlx::query_as(
        "select * from unapplied_payments
         where status = $1 and ($2::bigint is null or position < $2)
         order by position desc
         limit $3",
    )
    .bind(filter.status.as_str())
    .bind(page.after)
    .bind(page.rows())
    .fetch_all(&pool)
    .await?;
    page.page(rows, |row| row.position, UnappliedReply::from)
}
