//! Pages of other sites, by the CORS protocol of the Fetch standard: which sites, and which operations.
//!
//! Whoever describes an operation decides whether it is open to them. A layer of tower-http is put around
//! whole routes, and answers every `OPTIONS` there; two methods of one path may differ here.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use url::Url;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{OpenApi, Paths};

/// An operation whose description has this is open to pages of the allowed sites.
const OPEN: &str = "x-cross-origin";

/// Headers that a page may send. Credentials are not among them: whoever has one is no page of another site.
const SENT_HEADERS: HeaderValue = HeaderValue::from_static(
    "cache-control, content-type, idempotency-key, if-none-match, last-event-id, x-request-id",
);

/// Headers that a page may read beside those that every page may.
const READ_HEADERS: HeaderValue =
    HeaderValue::from_static("etag, idempotency-hit, link, retry-after, x-request-id");

/// How long a browser may remember what is allowed: two hours, which is the most that any does.
const MAX_AGE_SECONDS: HeaderValue = HeaderValue::from_static("7200");

/// The sites whose pages may use the open operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedOrigins(Vec<HeaderValue>);

impl FromStr for AllowedOrigins {
    type Err = String;

    /// Each exactly as browsers write it, since it is compared byte by byte.
    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(|origin| parse_origin(origin.trim())).collect::<Result<_, _>>().map(Self)
    }
}

fn parse_origin(text: &str) -> Result<HeaderValue, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let Some(url) = url.filter(|_| !text.contains('*')) else {
        return Err(format!("{text:?} is no origin; name each site, such as https://give.example.org"));
    };
    let origin = url.origin().ascii_serialization();
    if origin != text {
        return Err(format!("{text:?} is not how browsers write an origin; write {origin}"));
    }
    HeaderValue::try_from(origin).map_err(|error| error.to_string())
}

/// Opens those operations of `router` that `api` says are open to the pages of `origins`. Nothing changes
/// where there are none.
pub fn open_to<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    api: &OpenApi,
    origins: &AllowedOrigins,
) -> Router<S> {
    if origins.0.is_empty() {
        return router;
    }
    let open = CrossOrigin { origins: origins.clone(), methods: open_methods(&api.paths) };
    router.layer(from_fn_with_state(Arc::new(open), answer))
}

/// What is open to whom.
struct CrossOrigin {
    origins: AllowedOrigins,
    /// The open methods of each path that has any.
    methods: HashMap<String, Vec<Method>>,
}

fn open_methods(paths: &Paths) -> HashMap<String, Vec<Method>> {
    let is_open = |operation: &Operation| {
        operation.extensions.as_ref().is_some_and(|extensions| extensions.get(OPEN) == Some(&true.into()))
    };
    let of_path = |item: &PathItem| {
        let operations = [
            (&item.get, Method::GET),
            (&item.put, Method::PUT),
            (&item.post, Method::POST),
            (&item.patch, Method::PATCH),
            (&item.delete, Method::DELETE),
        ];
        let open = operations.into_iter().filter(|(operation, _)| operation.as_ref().is_some_and(is_open));
        open.map(|(_, method)| method).collect::<Vec<_>>()
    };
    let paths = paths.paths.iter().map(|(path, item)| (path.clone(), of_path(item)));
    paths.filter(|(_, methods)| !methods.is_empty()).collect()
}

async fn answer(State(open): State<Arc<CrossOrigin>>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let methods = path.and_then(|path| open.methods.get(path.as_str())).map_or(&[][..], Vec::as_slice);
    let is_preflight = *request.method() == Method::OPTIONS;
    let method = match is_preflight {
        true => requested_method(request.headers()),
        // The answer to HEAD is that to GET without its body.
        false if *request.method() == Method::HEAD => Some(Method::GET),
        false => Some(request.method().clone()),
    };
    if !method.is_some_and(|method| methods.contains(&method)) {
        return next.run(request).await;
    }
    let origin = open.allowed(request.headers());
    let mut response = match &origin {
        Some(_) if is_preflight => allow(methods),
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    // Also where the origin is another or none: a cache must not show that answer to an allowed one.
    headers.append(VARY, HeaderValue::from(ORIGIN));
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if !is_preflight {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, READ_HEADERS);
        }
    }
    response
}

fn requested_method(headers: &HeaderMap) -> Option<Method> {
    Method::from_bytes(headers.get(ACCESS_CONTROL_REQUEST_METHOD)?.as_bytes()).ok()
}

/// The answer to a page that asks before it sends.
fn allow(methods: &[Method]) -> Response {
    let methods = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    let headers = [
        (
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::try_from(methods).unwrap_or(HeaderValue::from_static("")),
        ),
        (ACCESS_CONTROL_ALLOW_HEADERS, SENT_HEADERS),
        (ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

impl CrossOrigin {
    /// The origin of a request, if it has one and that is allowed.
    fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let mut origins = headers.get_all(ORIGIN).iter();
        let origin = origins.next().filter(|_| origins.next().is_none())?;
        self.origins.0.contains(origin).then(|| origin.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<AllowedOrigins>().unwrap_err()
    }

    #[test]
    fn origins_are_as_browsers_write_them() {
        let two: AllowedOrigins = "https://give.example.org, http://127.0.0.1:3000".parse().unwrap();
        assert_eq!(two.0, ["https://give.example.org", "http://127.0.0.1:3000"]);
        assert!("https://xn--bcher-kva.example,http://[::1]:8080".parse::<AllowedOrigins>().is_ok());
        for (other, browsers) in [
            ("https://give.example.org/", "https://give.example.org"),
            ("https://give.example.org/donate", "https://give.example.org"),
            ("https://give.example.org:443", "https://give.example.org"),
            ("http://give.example.org:80", "http://give.example.org"),
            ("https://Give.Example.org", "https://give.example.org"),
            ("HTTPS://give.example.org", "https://give.example.org"),
            ("https://user:password@give.example.org", "https://give.example.org"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
        ] {
            assert!(refusal(other).ends_with(&format!("write {browsers}")), "{other}: {}", refusal(other));
        }
        for bad in [
            "",
            "*",
            "null",
            "give.example.org",
            "https://",
            "https://*.example.org",
            "ftp://give.example.org",
            "data:text/html,x",
            "https://a.example,",
            "https://a.example https://b.example",
        ] {
            assert!(refusal(bad).contains("is no origin"), "{bad}: {}", refusal(bad));
        }
    }
}
