//! Pages by keyset: a cursor names the last item of a page, so that items that are added
//! meanwhile neither repeat nor hide others.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{Json, Problem, ProblemKind, Query};

const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 200;

/// The page that is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// `next_cursor` of the page before; none for the first page.
    cursor: Option<String>,
    /// Items per page: 1 to 200, 50 by default.
    limit: Option<i64>,
}

/// One page.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    items: Vec<T>,
    /// The cursor of the next page; none on the last one.
    next_cursor: Option<String>,
}

/// A request for a page of a list in the order of the key `K`. [`PageQuery`] describes it.
#[derive(Debug)]
pub struct PageRequest<K> {
    /// The key of the last item of the page before; none for the first page.
    pub after: Option<K>,
    limit: i64,
}

impl<K: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for PageRequest<K> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(PageQuery { cursor, limit }) = Query::from_request_parts(parts, state).await?;
        let limit = limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Problem::new(ProblemKind::Malformed, format!("limit must be 1 to {MAX_LIMIT}")));
        }
        let after = cursor.as_deref().map(key_of).transpose()?;
        Ok(Self { after, limit })
    }
}

impl<K: Serialize> PageRequest<K> {
    /// The number of rows to select: one more than the page has items, to tell whether another page follows.
    pub fn rows(&self) -> i64 {
        self.limit + 1
    }

    /// The page of `rows`, of which at most [`Self::rows`] were selected.
    ///
    /// # Errors
    /// [`ProblemKind::Internal`] when a key is not JSON.
    pub fn page<R, T>(
        &self,
        mut rows: Vec<R>,
        key: impl Fn(&R) -> K,
        item: impl Fn(R) -> T,
    ) -> Result<Json<Page<T>>, Problem> {
        let limit = usize::try_from(self.limit).unwrap_or_default();
        let more = rows.len() > limit;
        rows.truncate(limit);
        let last = rows.last().filter(|_| more);
        let next_cursor = last.map(|last| cursor_of(&key(last))).transpose()?;
        Ok(Json(Page { items: rows.into_iter().map(item).collect(), next_cursor }))
    }
}

fn key_of<K: DeserializeOwned>(cursor: &str) -> Result<K, Problem> {
    let key = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|json| serde_json::from_slice(&json).ok());
    key.ok_or_else(|| Problem::new(ProblemKind::Malformed, "cursor must be a next_cursor of an earlier page"))
}

fn cursor_of(key: &impl Serialize) -> Result<String, Problem> {
    serde_json::to_vec(key).map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(Problem::internal)
}
