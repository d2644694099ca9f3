//! The route of totals.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use service::auth::Visitor;
use service::{Path, Problem, Query};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::reader::TotalsReader;
use super::reply::{self, Source, TotalsReply};
use crate::State;
use crate::as_of::AsOf;
use crate::etag::{self, Conditions};
use crate::progress::MinPosition;

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(get_totals))
}

/// The moment of the totals.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct TotalsQuery {
    /// The totals as they were after everything up to this position of the ledger, or up to this
    /// time (RFC 3339). What happened in the last second may be missing in an answer about now.
    #[param(value_type = Option<String>)]
    as_of: Option<AsOf>,
}

/// Show what a campaign has raised
///
/// The answer may come from the memory of the process that gives it, and is then at most a second
/// old. `cache-control: no-cache` in the request asks behind that memory.
#[utoipa::path(
    get, path = "/api/campaigns/{id}/totals", tag = "campaigns",
    params(("id" = Uuid, Path), TotalsQuery, MinPosition),
    extensions(("x-cross-origin" = json!(true))),
    responses((status = 200, body = TotalsReply), (status = 304), (status = 404)),
)]
async fn get_totals(
    visitor: Visitor,
    conditions: Conditions,
    Shared(totals): Shared<Arc<TotalsReader>>,
    Path(id): Path<Uuid>,
    Query(query): Query<TotalsQuery>,
    Query(wanted): Query<MinPosition>,
) -> Result<Response, Problem> {
    let (etag, body) = match query.as_of {
        None => {
            let answer = totals.read_for(visitor, id, wanted, conditions.no_cache).await?;
            (answer.etag(), answer.json())
        }
        Some(as_of) => {
            let totals = totals.read_as_of(visitor, id, as_of, wanted).await?;
            let mut body = Vec::new();
            reply::write(&mut body, totals, Source::ReadTable)?;
            (etag::weak(&body), Bytes::from(body))
        }
    };
    if conditions.know(&etag) {
        return Ok(etag::not_modified(etag, etag::REVALIDATE));
    }
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (ETAG, etag),
        (CACHE_CONTROL, etag::REVALIDATE),
    ];
    Ok((headers, body).into_response())
}
