//! Conditional reads: `ETag` and `If-None-Match` (RFC 9110).

use std::convert::Infallible;

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{FromRequestParts, Request};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use service::{Problem, openapi};
use sha2::{Digest, Sha256};
use utoipa_axum::router::OpenApiRouter;

use crate::State;

/// An answer may be stored, and must be revalidated each time, which is cheap.
pub(crate) const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");
/// The same for answers that are for one caller only.
const REVALIDATE_PRIVATELY: HeaderValue = HeaderValue::from_static("private, no-cache");

/// Larger answers get no tag; a full page stays below it.
const MAX_TAGGED_BYTES: usize = 4 * 1024 * 1024;

fn digest(body: &[u8]) -> String {
    hex::encode(&Sha256::digest(body)[..12])
}

/// The tag of bodies that mean the same as `body`.
pub(crate) fn weak(body: &[u8]) -> HeaderValue {
    HeaderValue::try_from(format!("W/\"{}\"", digest(body))).unwrap_or(HeaderValue::from_static("W/\"\""))
}

/// The conditions of a request.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    /// Every line of the header, which is a list.
    if_none_match: Vec<HeaderValue>,
    /// `cache-control: no-cache`: nothing that is remembered here will do.
    pub(crate) no_cache: bool,
}

impl Conditions {
    fn of(headers: &HeaderMap) -> Self {
        let mut cache_control = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        Self {
            if_none_match: headers.get_all(IF_NONE_MATCH).iter().cloned().collect(),
            no_cache: cache_control.any(|value| value.to_ascii_lowercase().contains("no-cache")),
        }
    }

    /// Whether the caller has what `etag` stands for.
    pub(crate) fn know(&self, etag: &HeaderValue) -> bool {
        // Weak and strong tags of the same text are the same here.
        let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        let wanted = etag.to_str().map(opaque).unwrap_or_default();
        let mut known = self.if_none_match.iter().filter_map(|line| line.to_str().ok());
        known.any(|line| line.trim() == "*" || line.split(',').any(|tag| opaque(tag) == wanted))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Conditions {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

/// The answer to a caller who has it already.
pub(crate) fn not_modified(etag: HeaderValue, cache_control: HeaderValue) -> Response {
    (StatusCode::NOT_MODIFIED, [(ETAG, etag), (CACHE_CONTROL, cache_control)]).into_response()
}

/// Tags the answers of all routes of `router`, and says so in their description.
pub(crate) fn tag_answers(mut router: OpenApiRouter<State>) -> OpenApiRouter<State> {
    for operation in openapi::operations(router.get_openapi_mut()) {
        openapi::respond(operation, StatusCode::NOT_MODIFIED);
    }
    router.layer(from_fn(tagged))
}

/// Tags JSON answers by their bytes, and answers 304 to whoever has them.
pub(crate) async fn tagged(request: Request, next: Next) -> Response {
    let conditions = Conditions::of(request.headers());
    let response = next.run(request).await;
    let is_json = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    let is_small = response.body().size_hint().exact().is_some_and(|n| n <= MAX_TAGGED_BYTES as u64);
    if response.status() != StatusCode::OK || !is_json || !is_small {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let body = match to_bytes(body, MAX_TAGGED_BYTES).await {
        Ok(body) => body,
        Err(error) => return Problem::internal(error).into_response(),
    };
    let Ok(etag) = HeaderValue::try_from(format!("\"{}\"", digest(&body))) else {
        return Response::from_parts(head, Body::from(body));
    };
    if conditions.know(&etag) {
        return not_modified(etag, REVALIDATE_PRIVATELY);
    }
    head.headers.insert(ETAG, etag);
    head.headers.insert(CACHE_CONTROL, REVALIDATE_PRIVATELY);
    Response::from_parts(head, Body::from(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_compared_as_the_standard_says() {
        let etag = weak(b"body");
        let text = etag.to_str().unwrap();
        let strong = text.trim_start_matches("W/");
        let known_by = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(IF_NONE_MATCH, HeaderValue::from_str(line).unwrap());
            }
            Conditions::of(&headers).know(&etag)
        };
        let known = |value: &str| known_by(&[value]);
        assert!(known_by(&["\"other\"", text]) && !known_by(&["\"other\"", "\"another\""]));
        assert!(known(text) && known(strong) && known("*") && known(&format!("\"other\", {text}")));
        assert!(!known("\"other\"") && !known("") && !Conditions::default().know(&etag));
    }
}
