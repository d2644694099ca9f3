//! Pages by keyset: a cursor says after which item to go on, so that items that are added
//! meanwhile neither repeat nor hide others.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{Problem, ProblemKind};

const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 200;

/// Which page.
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
    /// Where the next page starts; none on the last one.
    next_cursor: Option<String>,
}

impl PageQuery {
    /// How many items it has at most.
    ///
    /// # Errors
    /// [`ProblemKind::Malformed`] for none and for too many.
    pub fn limit(&self) -> Result<i64, Problem> {
        match self.limit {
            None => Ok(DEFAULT_LIMIT),
            Some(limit @ 1..=MAX_LIMIT) => Ok(limit),
            Some(_) => Err(Problem::new(ProblemKind::Malformed, format!("limit must be 1 to {MAX_LIMIT}"))),
        }
    }

    /// The key after which the page starts.
    ///
    /// # Errors
    /// [`ProblemKind::Malformed`] when the cursor is none of ours.
    pub fn after<K: DeserializeOwned>(&self) -> Result<Option<K>, Problem> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        URL_SAFE_NO_PAD
            .decode(cursor)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .map(Some)
            .ok_or_else(|| {
                Problem::new(ProblemKind::Malformed, "cursor must be a next_cursor of an earlier page")
            })
    }
}

impl<T> Page<T> {
    /// A page from `rows`, of which one more than `limit` were asked for: that one tells whether
    /// another page follows.
    ///
    /// # Errors
    /// [`ProblemKind::Internal`] when a key is not JSON.
    pub fn of<R, K: Serialize>(
        mut rows: Vec<R>,
        limit: i64,
        key: impl Fn(&R) -> K,
        item: impl Fn(R) -> T,
    ) -> Result<Self, Problem> {
        let limit = usize::try_from(limit).unwrap_or_default();
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = match rows.last().filter(|_| more) {
            Some(last) => {
                let json = serde_json::to_vec(&key(last)).map_err(Problem::internal)?;
                Some(URL_SAFE_NO_PAD.encode(json))
            }
            None => None,
        };
        Ok(Self { items: rows.into_iter().map(item).collect(), next_cursor })
    }
}
