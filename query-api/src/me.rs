//! A donor's own gifts. A guest has no account; the ids of pledges are tickets, which nobody has but the
//! donor and the provider. So a guest sees the gifts whose tickets they hold, and none by address:
//! anybody can pledge under another's.

use std::sync::Arc;

use axum::extract::{FromRequestParts, State as Shared};
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use read_model::Projection;
use serde::Serialize;
use service::auth::bearer;
use service::paging::{Page, PageQuery, PageRequest};
use service::{Json, Problem, ProblemKind, Query};
use sqlx::{FromRow, PgPool};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::State;
use crate::campaigns::MoneyReply;
use crate::progress::{MinPosition, Progress};

/// Most tickets that one request may carry.
const MAX_TICKETS: usize = 200;

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(list_my_donations))
}

/// The ids of pledges that a guest made.
struct Tickets(Vec<Uuid>);

impl<S: Sync> FromRequestParts<S> for Tickets {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let tickets = bearer(parts).ok_or_else(no_tickets)?.split(',');
        let tickets = tickets.map(|ticket| ticket.trim().parse().map_err(|_| no_tickets()));
        let tickets: Vec<Uuid> = tickets.collect::<Result<_, _>>()?;
        if tickets.len() > MAX_TICKETS {
            let detail = format!("at most {MAX_TICKETS} pledges are looked at; ask in parts");
            return Err(Problem::new(ProblemKind::Malformed, detail));
        }
        Ok(Self(tickets))
    }
}

fn no_tickets() -> Problem {
    Problem::new(
        ProblemKind::Unauthorized,
        "send the header authorization: Bearer with the ids of your pledges, separated by commas",
    )
}

/// A gift, as its donor sees it.
#[derive(Debug, Serialize, ToSchema)]
struct MyDonation {
    /// The position of the capture in the ledger.
    position: i64,
    pledge_id: Uuid,
    campaign_id: Uuid,
    campaign_title: String,
    /// The pledge's state: `captured` or `completed`.
    status: String,
    /// The amount that was captured.
    amount: MoneyReply,
    /// The part that was refunded, in minor units.
    refunded_minor: i64,
    /// The part that was taken back without a dispute, in minor units.
    reversed_minor: i64,
    /// The part that was lost in disputes, in minor units.
    charged_back_minor: i64,
    anonymous: bool,
    /// When money of it was first captured.
    captured_at: DateTime<Utc>,
}

#[derive(FromRow)]
struct Row {
    position: i64,
    pledge_id: Uuid,
    campaign_id: Uuid,
    title: String,
    status: String,
    captured_minor: i64,
    currency: String,
    refunded_minor: i64,
    reversed_minor: i64,
    charged_back_minor: i64,
    anonymous: bool,
    captured_at: DateTime<Utc>,
}

impl From<Row> for MyDonation {
    fn from(row: Row) -> Self {
        Self {
            position: row.position,
            pledge_id: row.pledge_id,
            campaign_id: row.campaign_id,
            campaign_title: row.title,
            status: row.status,
            amount: MoneyReply { amount_minor: row.captured_minor, currency: row.currency },
            refunded_minor: row.refunded_minor,
            reversed_minor: row.reversed_minor,
            charged_back_minor: row.charged_back_minor,
            anonymous: row.anonymous,
            captured_at: row.captured_at,
        }
    }
}

/// List your own gifts
///
/// Newest first: those of the pledges whose ids are sent as a bearer token, separated by commas, once their
/// money was taken. What was given back is listed with them.
#[utoipa::path(
    get, path = "/api/me/donations", tag = "pledges",
    params(
        ("authorization" = String, Header, description = "Bearer, and the ids of at most 200 pledges"),
        MinPosition, PageQuery,
    ),
    responses((status = 200, body = Page<MyDonation>), (status = 401)),
)]
async fn list_my_donations(
    Shared(pool): Shared<PgPool>,
    Shared(progress): Shared<Arc<Progress>>,
    Tickets(tickets): Tickets,
    Query(wanted): Query<MinPosition>,
    page: PageRequest<i64>,
) -> Result<Json<Page<MyDonation>>, Problem> {
    progress.reach(Projection::Pledges, wanted).await?;
    let rows: Vec<Row> = sqlx::query_as(
        // A gift stands at the position of one of its pledge's events: so it is found by indexes.
        "select d.position, d.pledge_id, d.campaign_id, c.title, p.status, d.amount_minor as captured_minor,
             d.currency, p.refunded_minor, p.reversed_minor, p.charged_back_minor, d.anonymous, d.captured_at
         from pledges p
         join pledge_history h using (pledge_id)
         join donations d on d.position = h.position
         join campaigns c on c.campaign_id = d.campaign_id
         where p.pledge_id = any($1) and ($2::bigint is null or d.position < $2)
         order by d.position desc
         limit $3",
    )
    .bind(tickets)
    .bind(page.after)
    .bind(page.rows())
    .fetch_all(&pool)
    .await?;
    page.page(rows, |row| row.position, MyDonation::from)
}
