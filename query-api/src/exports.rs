//! Exports of any size as CSV or NDJSON, for organisers.
//!
//! An export is one statement on a connection of its own: all of it is of one moment, and rows are
//! sent as they come, so memory stays flat on both sides. The connection is closed at the end; a
//! client that leaves takes it along, and the server drops one that stops reading.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State as Shared;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use read_model::Projection;
use serde::{Deserialize, Serialize};
use service::auth::Organiser;
use service::{Problem, ProblemKind, Query, csv};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::QueryAs;
use sqlx::{Connection, FromRow, PgConnection, PgPool, Postgres};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::State;
use crate::progress::{MinPosition, Progress};

/// Concurrent exports, each with a connection of its own; more are answered 503.
const MAX_EXPORTS: usize = 4;
/// Longest duration of an export.
const MAX_TIME: Duration = Duration::from_secs(3_600);
/// Rows that are put together before they are sent.
const CHUNK_ROWS: usize = 200;
/// Chunks buffered for a slow reader; beyond them the database waits as well.
const CHUNKS_AHEAD: usize = 2;

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(export_donations))
        .routes(routes!(export_pledges))
        .routes(routes!(export_campaigns))
}

/// The limit of concurrent exports.
#[derive(Clone)]
pub(crate) struct Exports(Arc<Semaphore>);

impl Exports {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_EXPORTS)))
    }
}

/// The file format.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Format {
    /// Comma-separated values (RFC 4180) with a line of names, for spreadsheets. Texts are quoted, and
    /// what a spreadsheet would run as a formula gets a `'` before it.
    #[default]
    Csv,
    /// One JSON object per line.
    Ndjson,
}

/// The selection and the format of an export.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ExportQuery {
    /// Only of this campaign; of all by default.
    campaign_id: Option<Uuid>,
    /// `csv` by default.
    #[serde(default)]
    #[param(inline)]
    format: Format,
    /// Whether csv begins with a byte order mark, by which some spreadsheets know UTF-8.
    #[serde(default)]
    bom: bool,
}

/// A row of an export. Its fields are the columns.
trait Row: for<'r> FromRow<'r, PgRow> + Serialize + Default + Send + Unpin + 'static {}

impl<R: for<'r> FromRow<'r, PgRow> + Serialize + Default + Send + Unpin + 'static> Row for R {}

/// A gift, with what went back of it.
#[derive(Default, FromRow, Serialize)]
struct DonationRow {
    position: i64,
    captured_at: DateTime<Utc>,
    campaign_id: Uuid,
    pledge_id: Uuid,
    donor_id: Uuid,
    currency: String,
    amount_minor: i64,
    refunded_minor: i64,
    charged_back_minor: i64,
    net_minor: i64,
    anonymous: bool,
    donor_name: Option<String>,
    message: Option<String>,
    reversed_minor: i64,
}

/// Export gifts
///
/// Every gift, also one that was given back, in the order of the captures. All of it is of one
/// moment. The name of a donor who wishes to stay nameless is left out here as well.
#[utoipa::path(
    get, path = "/api/exports/donations", tag = "exports", params(ExportQuery, MinPosition),
    security(("admin_token" = [])),
    responses((status = 200, content_type = "text/csv", body = String)),
)]
async fn export_donations(
    _: Organiser,
    Shared(exports): Shared<Exports>,
    Shared(pool): Shared<PgPool>,
    Shared(progress): Shared<Arc<Progress>>,
    Query(query): Query<ExportQuery>,
    Query(wanted): Query<MinPosition>,
) -> Result<Response, Problem> {
    progress.reach(Projection::Pledges, wanted).await?;
    let rows = match query.campaign_id {
        None => sqlx::query_as(DONATIONS),
        Some(campaign_id) => sqlx::query_as(DONATIONS_OF_CAMPAIGN).bind(campaign_id),
    };
    exports.send::<DonationRow>("donations", &pool, &query, rows).await
}

/// The columns of [`DonationRow`]; which rows, and in what order, is the rest.
macro_rules! donations {
    ($rest:literal) => {
        concat!(
            "
    select d.position, d.captured_at, d.campaign_id, d.pledge_id, d.donor_id, d.currency, d.amount_minor,
        p.refunded_minor, p.charged_back_minor,
        d.amount_minor - p.refunded_minor - p.reversed_minor - p.charged_back_minor as net_minor,
        d.anonymous, case when not d.anonymous then g.name end as donor_name, g.message, p.reversed_minor
    from donations d
    join pledges p using (pledge_id)
    left join pledge_donors g on g.position = p.created_position
    ",
            $rest
        )
    };
}

const DONATIONS: &str = donations!("order by d.position");
const DONATIONS_OF_CAMPAIGN: &str = donations!("where d.campaign_id = $1 order by d.position");

/// A pledge in any state.
#[derive(Default, FromRow, Serialize)]
struct PledgeRow {
    pledge_id: Uuid,
    campaign_id: Uuid,
    donor_id: Uuid,
    status: String,
    currency: String,
    amount_minor: i64,
    captured_minor: Option<i64>,
    refunded_minor: i64,
    charged_back_minor: i64,
    anonymous: bool,
    donor_name: Option<String>,
    message: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    position: i64,
    reversed_minor: i64,
    loss_minor: i64,
}

/// Export pledges
///
/// Pledges in every state, campaign by campaign, those that changed last first. All of it is of
/// one moment. The name of a donor who wishes to stay nameless is left out here as well. A pledge's
/// id lets its holder change the pledge: keep the file to yourself.
#[utoipa::path(
    get, path = "/api/exports/pledges", tag = "exports", params(ExportQuery, MinPosition),
    security(("admin_token" = [])),
    responses((status = 200, content_type = "text/csv", body = String)),
)]
async fn export_pledges(
    _: Organiser,
    Shared(exports): Shared<Exports>,
    Shared(pool): Shared<PgPool>,
    Shared(progress): Shared<Arc<Progress>>,
    Query(query): Query<ExportQuery>,
    Query(wanted): Query<MinPosition>,
) -> Result<Response, Problem> {
    progress.reach(Projection::Pledges, wanted).await?;
    let rows = match query.campaign_id {
        None => sqlx::query_as(PLEDGES),
        Some(campaign_id) => sqlx::query_as(PLEDGES_OF_CAMPAIGN).bind(campaign_id),
    };
    exports.send::<PledgeRow>("pledges", &pool, &query, rows).await
}

/// The columns of [`PledgeRow`].
macro_rules! pledges {
    ($rest:literal) => {
        concat!(
            "
    select p.pledge_id, p.campaign_id, p.donor_id, p.status, p.currency, p.amount_minor, p.captured_minor,
        p.refunded_minor, p.charged_back_minor, p.anonymous,
        case when not p.anonymous then g.name end as donor_name, g.message,
        p.created_at, p.updated_at, p.position, p.reversed_minor, p.loss_minor
    from pledges p
    left join pledge_donors g on g.position = p.created_position
    ",
            $rest
        )
    };
}

const PLEDGES: &str = pledges!("order by p.campaign_id, p.position desc");
const PLEDGES_OF_CAMPAIGN: &str = pledges!("where p.campaign_id = $1 order by p.position desc");

/// A campaign with its totals.
#[derive(Default, FromRow, Serialize)]
struct CampaignRow {
    campaign_id: Uuid,
    title: Option<String>,
    status: String,
    currency: String,
    goal_minor: i64,
    raised_minor: i64,
    refunded_minor: i64,
    charged_back_minor: i64,
    unapplied_minor: i64,
    donors: i64,
    pending: i64,
    authorized: i64,
    captured: i64,
    completed: i64,
    failed: i64,
    expired: i64,
    cancelled: i64,
    created_at: DateTime<Utc>,
    published_at: Option<DateTime<Utc>>,
    ends_at: Option<DateTime<Utc>>,
    closed_at: Option<DateTime<Utc>>,
    position: i64,
    reversed_minor: i64,
    loss_minor: i64,
    in_dispute_minor: i64,
}

/// Export campaigns with their totals
///
/// Every campaign, drafts as well. All of it is of one moment.
#[utoipa::path(
    get, path = "/api/exports/campaigns", tag = "exports", params(ExportQuery, MinPosition),
    security(("admin_token" = [])),
    responses((status = 200, content_type = "text/csv", body = String)),
)]
async fn export_campaigns(
    _: Organiser,
    Shared(exports): Shared<Exports>,
    Shared(pool): Shared<PgPool>,
    Shared(progress): Shared<Arc<Progress>>,
    Query(query): Query<ExportQuery>,
    Query(wanted): Query<MinPosition>,
) -> Result<Response, Problem> {
    progress.reach(Projection::CampaignTotals, wanted).await?;
    let rows = match query.campaign_id {
        None => sqlx::query_as(CAMPAIGNS),
        Some(campaign_id) => sqlx::query_as(ONE_CAMPAIGN).bind(campaign_id),
    };
    exports.send::<CampaignRow>("campaigns", &pool, &query, rows).await
}

/// The columns of [`CampaignRow`].
macro_rules! campaigns {
    ($rest:literal) => {
        concat!(
            "
    select c.campaign_id, c.title, c.status, c.currency, c.goal_minor, t.raised_minor, t.refunded_minor,
        t.charged_back_minor, t.unapplied_minor, t.donors, t.pending, t.authorized, t.captured, t.completed,
        t.failed, t.expired, t.cancelled, c.created_at, c.published_at, c.ends_at, c.closed_at, t.position,
        t.reversed_minor, t.loss_minor, t.in_dispute_minor
    from campaigns c
    join campaign_totals t using (campaign_id)
    ",
            $rest
        )
    };
}

const CAMPAIGNS: &str = campaigns!("order by c.campaign_id");
const ONE_CAMPAIGN: &str = campaigns!("where c.campaign_id = $1");

type Statement<R> = QueryAs<'static, Postgres, R, PgArguments>;
type Chunk = Result<Bytes, io::Error>;

impl Exports {
    async fn send<R: Row>(
        &self,
        name: &str,
        pool: &PgPool,
        query: &ExportQuery,
        rows: Statement<R>,
    ) -> Result<Response, Problem> {
        let place = self.0.clone().try_acquire_owned().map_err(|_| {
            Problem::new(ProblemKind::Overloaded, "too many exports at once; try again when one has ended")
        })?;
        let connection = connect(pool).await?;
        let (sender, mut chunks) = mpsc::channel(CHUNKS_AHEAD);
        let heading = heading::<R>(query)?;
        tokio::spawn(write_all(connection, rows, query.format, heading, sender, place));
        // A fault that shows before anything was sent is still a problem document.
        let first = match chunks.recv().await {
            Some(Ok(first)) => first,
            Some(Err(error)) => return Err(Problem::unavailable("the database", error)),
            None => return Err(Problem::internal("an export ended before it began")),
        };
        let rest = stream::unfold(chunks, async |mut chunks| Some((chunks.recv().await?, chunks)));
        let (kind, suffix) = match query.format {
            Format::Csv => ("text/csv; charset=utf-8; header=present", "csv"),
            Format::Ndjson => ("application/x-ndjson", "ndjson"),
        };
        let headers = [
            (CONTENT_TYPE, kind.to_owned()),
            (CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.{suffix}\"")),
            (CACHE_CONTROL, "no-store".to_owned()),
        ];
        let body = stream::once(std::future::ready(Ok(first))).chain(rest);
        Ok((headers, Body::from_stream(body)).into_response())
    }
}

/// A connection for one long statement. Its rows come from indexes, one by one: a plan that reads
/// whole tables first would be done sooner, and begin later, with much in memory or on disk.
async fn connect(pool: &PgPool) -> Result<PgConnection, Problem> {
    let options = pool.connect_options().as_ref().clone().options([
        ("statement_timeout", MAX_TIME.as_millis().to_string()),
        ("enable_hashjoin", "off".to_owned()),
        ("enable_mergejoin", "off".to_owned()),
        ("enable_sort", "off".to_owned()),
    ]);
    PgConnection::connect_with(&options).await.map_err(Problem::from)
}

async fn write_all<R: Row>(
    mut connection: PgConnection,
    rows: Statement<R>,
    format: Format,
    heading: Vec<u8>,
    sender: mpsc::Sender<Chunk>,
    _place: OwnedSemaphorePermit,
) {
    let written = async {
        let mut rows = rows.fetch(&mut connection);
        let mut chunk = heading;
        let mut waiting = Vec::with_capacity(CHUNK_ROWS);
        let mut is_first = true;
        loop {
            let row = rows.try_next().await.map_err(io::Error::other)?;
            let is_last = row.is_none();
            waiting.extend(row);
            if is_last || waiting.len() == CHUNK_ROWS || is_first {
                write::<R>(format, &mut waiting, &mut chunk)?;
                is_first = false;
                // A client that has left wants no more.
                if sender.send(Ok(std::mem::take(&mut chunk).into())).await.is_err() {
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
        }
    };
    let written: Result<(), io::Error> = written.await;
    if let Err(error) = written {
        // The broken answer tells the client that something is missing.
        tracing::warn!(%error, "an export broke off");
        let _ = sender.send(Err(error)).await;
    }
}

/// The bytes before the rows, sent even if there are no rows.
fn heading<R: Row>(query: &ExportQuery) -> Result<Vec<u8>, Problem> {
    let mut heading = Vec::new();
    if let Format::Csv = query.format {
        if query.bom {
            heading.extend_from_slice(csv::BYTE_ORDER_MARK.as_bytes());
        }
        csv::write_heading(&R::default(), &mut heading).map_err(Problem::internal)?;
    }
    Ok(heading)
}

/// Writes rows behind what is in `chunk`.
fn write<R: Row>(format: Format, rows: &mut Vec<R>, chunk: &mut Vec<u8>) -> Result<(), io::Error> {
    for row in rows.drain(..) {
        match format {
            Format::Csv => csv::write_row(&row, chunk)?,
            Format::Ndjson => {
                serde_json::to_writer(&mut *chunk, &row)?;
                chunk.push(b'\n');
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_export_has_names() {
        let query = ExportQuery { campaign_id: None, format: Format::Csv, bom: true };
        let written = String::from_utf8(heading::<DonationRow>(&query).unwrap()).unwrap();
        assert!(written.starts_with("\u{feff}\"position\",\"captured_at\",\"campaign_id\","), "{written}");
        assert!(written.ends_with(",\"reversed_minor\"\r\n"), "{written}");
    }

    #[test]
    fn a_line_of_json_is_as_it_was_written() {
        let row = |message: &str| DonationRow { message: Some(message.to_owned()), ..DonationRow::default() };
        let mut chunk = Vec::new();
        write(Format::Ndjson, &mut vec![row("=1+1"), row("a\nb")], &mut chunk).unwrap();
        let lines: Vec<serde_json::Value> =
            chunk.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        assert_eq!(
            (lines.len(), &lines[0]["message"], &lines[1]["message"]),
            (2, &"=1+1".into(), &"a\nb".into())
        );
    }
}
