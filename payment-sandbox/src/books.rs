//! The books: what the provider truly took, gave back and lost. They are made of facts alone, so a
//! merchant's ledger can be compared with them whatever became of the messages.

use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};
use service::{Json, Problem, Query};
use sqlx::{FromRow, PgPool};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::State;
use crate::merchant::Merchant;
use crate::sessions::page_limit;

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(show_books)).routes(routes!(list_payments))
}

/// The provider's books.
#[derive(Debug, Serialize, ToSchema)]
struct Books {
    /// By currency code.
    currencies: Vec<CurrencyBooks>,
    /// Sessions that were opened.
    sessions: i64,
    messages: MessageCounts,
}

/// All payments in one currency.
#[derive(Debug, Serialize, FromRow, ToSchema)]
struct CurrencyBooks {
    currency: String,
    captured_minor: i64,
    /// Given back, less the refunds that failed.
    refunded_minor: i64,
    /// Taken back by reversals that were not cancelled. With the rest it may be more than was captured.
    reversed_minor: i64,
    /// Lost by disputes, as they stand. With the rest it may be more than was captured.
    charged_back_minor: i64,
    /// Captured money that was confirmed as settled.
    settled_minor: i64,
    /// Payments that were voided.
    voided: i64,
}

/// Delivery of the messages that report facts. In the end `facts` is `sent` plus `lost`, and
/// `unacknowledged` is 0.
#[derive(Debug, Serialize, FromRow, ToSchema)]
struct MessageCounts {
    /// Facts so far.
    facts: i64,
    /// Facts that were told at least once.
    sent: i64,
    /// Messages that were sent once more, under the webhook id of the first.
    duplicated: i64,
    /// Facts that are never told.
    lost: i64,
    forged: i64,
    malformed: i64,
    /// Messages that were held back so that later ones overtake them.
    reordered: i64,
    /// Genuine messages that the merchant has not taken yet, repeated ones included.
    unacknowledged: i64,
    /// Forged and malformed messages that the merchant took all the same: a fault of the merchant.
    wrongly_accepted: i64,
}

/// One payment in the books.
#[derive(Debug, Serialize, FromRow, ToSchema)]
struct PaymentBooks {
    /// The merchant's reference.
    reference: Uuid,
    payment_id: String,
    captured_minor: i64,
    refunded_minor: i64,
    reversed_minor: i64,
    charged_back_minor: i64,
    currency: String,
    /// `open`, `approved`, `declined`, `voided` or `closed`.
    status: String,
}

/// A page of payments.
#[derive(Debug, Serialize, ToSchema)]
struct Payments {
    items: Vec<PaymentBooks>,
    /// `after` of the next page; none on the last one.
    next_cursor: Option<String>,
}

/// Which payments.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PaymentsQuery {
    /// The payment after which the page starts; none for the first page.
    after: Option<String>,
    /// Payments per page: 1 to 200, 100 by default.
    limit: Option<i64>,
}

/// Show the books
#[utoipa::path(
    get, path = "/sandbox/books", tag = "sandbox provider", security(("sandbox_key" = [])),
    responses((status = 200, body = Books)),
)]
async fn show_books(_: Merchant, Shared(pool): Shared<PgPool>) -> Result<Json<Books>, Problem> {
    let currencies = sqlx::query_as(
        "select s.currency,
             coalesce(sum(f.amount_minor) filter (where f.type = 'payment.captured'), 0)::bigint as captured_minor,
             coalesce(sum(f.amount_minor) filter (where f.stands and f.type = 'payment.refunded'), 0)::bigint as refunded_minor,
             coalesce(sum(f.amount_minor) filter (where f.stands and f.type = 'payment.reversed'), 0)::bigint as reversed_minor,
             coalesce(sum(f.amount_minor) filter (where f.stands and f.type = 'dispute.lost'), 0)::bigint as charged_back_minor,
             coalesce(sum(f.amount_minor) filter (where f.type = 'settlement.confirmed'), 0)::bigint as settled_minor,
             count(distinct s.session_id) filter (where s.status = 'voided') as voided
         from sandbox.sessions s left join sandbox.true_facts f using (session_id)
         group by s.currency order by s.currency",
    )
    .fetch_all(&pool)
    .await?;
    let sessions = sqlx::query_scalar("select count(*) from sandbox.sessions").fetch_one(&pool).await?;
    Ok(Json(Books { currencies, sessions, messages: MessageCounts::load(&pool).await? }))
}

impl MessageCounts {
    async fn load(pool: &PgPool) -> Result<Self, sqlx::Error> {
        sqlx::query_as(
            "select (select count(*) from sandbox.true_facts) as facts,
                 count(*) filter (where kind = 'first' and attempts > 0) as sent,
                 count(*) filter (where kind = 'again' and attempts > 0) as duplicated,
                 count(*) filter (where kind = 'lost') as lost,
                 count(*) filter (where kind = 'forged' and attempts > 0) as forged,
                 count(*) filter (where kind = 'malformed' and attempts > 0) as malformed,
                 count(*) filter (where reordered) as reordered,
                 count(*) filter (where kind in ('first', 'again') and delivered_at is null) as unacknowledged,
                 count(*) filter (
                     where kind in ('forged', 'malformed') and delivered_at is not null
                 ) as wrongly_accepted
             from sandbox.deliveries",
        )
        .fetch_one(pool)
        .await
    }
}

/// List the payments in the books
///
/// In the order in which their sessions were opened, those without money included.
#[utoipa::path(
    get, path = "/sandbox/books/payments", tag = "sandbox provider", security(("sandbox_key" = [])),
    params(PaymentsQuery),
    responses((status = 200, body = Payments)),
)]
async fn list_payments(
    _: Merchant,
    Shared(pool): Shared<PgPool>,
    Query(query): Query<PaymentsQuery>,
) -> Result<Json<Payments>, Problem> {
    let limit = page_limit(query.limit)?;
    let mut items: Vec<PaymentBooks> = sqlx::query_as(
        "select s.reference, s.payment_id, s.currency, s.status,
             coalesce(sum(f.amount_minor) filter (where f.type = 'payment.captured'), 0)::bigint as captured_minor,
             coalesce(sum(f.amount_minor) filter (where f.stands and f.type = 'payment.refunded'), 0)::bigint as refunded_minor,
             coalesce(sum(f.amount_minor) filter (where f.stands and f.type = 'payment.reversed'), 0)::bigint as reversed_minor,
             coalesce(sum(f.amount_minor) filter (where f.stands and f.type = 'dispute.lost'), 0)::bigint as charged_back_minor
         from (
             select * from sandbox.sessions
             where $1::text is null or number > (select number from sandbox.sessions where payment_id = $1)
             order by number limit $2
         ) s left join sandbox.true_facts f using (session_id)
         group by s.session_id, s.number, s.reference, s.payment_id, s.currency, s.status
         order by s.number",
    )
    .bind(query.after)
    // One more than asked for tells whether another page follows.
    .bind(limit + 1)
    .fetch_all(&pool)
    .await?;
    let more = i64::try_from(items.len()).unwrap_or(i64::MAX) > limit;
    items.truncate(usize::try_from(limit).unwrap_or_default());
    let next_cursor = items.last().filter(|_| more).map(|last| last.payment_id.clone());
    Ok(Json(Payments { items, next_cursor }))
}
