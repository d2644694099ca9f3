//! The layer around every router: request ids, limits, metrics, problems instead of plain errors.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Bytes, HttpBody};
use axum::extract::{MatchedPath, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::FutureExt;
use metrics::Histogram;
use tokio::sync::Semaphore;
use tower::{Layer, Service};
use tracing::Instrument;
use uuid::Uuid;

use crate::extract::unexpected_body;
use crate::limits::Limits;
use crate::problem::{Cause, HELP_ROUTE};
use crate::{Problem, ProblemKind, problem_page};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Headers of which a request has one at most: of two, another reader than we, such as a proxy, might take
/// the other one. Those that sign a webhook are its provider's matter.
static SINGLE_HEADERS: [HeaderName; 4] = [
    AUTHORIZATION,
    CONTENT_TYPE,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("x-operator"),
];

/// The id under which a request appears in the log, in the ledger's metadata and in the answer's
/// `x-request-id`: the caller's own, where it sent a plausible one.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

/// Puts the limits, request ids, metrics and problem documents around `router`, and explains the
/// problems, so that the link in each leads somewhere whichever service it came from.
pub fn harden<S: Clone + Send + Sync + 'static>(router: Router<S>, limits: Limits) -> Router<S> {
    router
        .route(HELP_ROUTE, get(problem_page::show))
        .fallback(async || Problem::from(ProblemKind::NotFound))
        .method_not_allowed_fallback(async || Problem::from(ProblemKind::MethodNotAllowed))
        .layer(Harden { limits, in_flight: Arc::new(Semaphore::new(limits.max_in_flight)) })
}

/// Every request of every service passes here. It is a service of its own instead of a function
/// for `axum::middleware`, because that copies and boxes the rest of the way once more.
#[derive(Clone)]
struct Harden {
    limits: Limits,
    in_flight: Arc<Semaphore>,
}

impl<S> Layer<S> for Harden {
    type Service = Hardened<S>;

    fn layer(&self, inner: S) -> Hardened<S> {
        let endpoint = Endpoint {
            limits: self.limits,
            in_flight: self.in_flight.clone(),
            durations: Durations::default(),
        };
        Hardened { inner, endpoint: Arc::new(endpoint) }
    }
}

/// One route and method, hardened.
#[derive(Clone)]
struct Hardened<S> {
    inner: S,
    endpoint: Arc<Endpoint>,
}

struct Endpoint {
    limits: Limits,
    in_flight: Arc<Semaphore>,
    durations: Durations,
}

impl<S> Service<Request> for Hardened<S>
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send + 'static>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let endpoint = self.endpoint.clone();
        let label = RequestLabel {
            at: Instant::now(),
            id: request_id(&request),
            method: method_label(request.method()),
            route: request.extensions().get::<MatchedPath>().cloned(),
        };
        if let Some(problem) = refusal(&request) {
            let refused = std::future::ready(Ok(problem.into_response()));
            return Box::pin(async move { Ok(endpoint.answer(label, refused).await) });
        }
        request.extensions_mut().insert(RequestId(label.id.clone()));
        request.extensions_mut().insert(endpoint.limits);
        // Nothing is done before it is polled. To keep the request until then would move it about once more.
        let handler = self.inner.call(request);
        Box::pin(async move { Ok(endpoint.answer(label, handler).await) })
    }
}

/// What is wrong with a request, whatever its route is.
fn refusal(request: &Request) -> Option<Problem> {
    if let Some(name) = repeated(request.headers()) {
        let detail = format!("send the header {name} once: it stands there several times");
        return Some(Problem::new(ProblemKind::Malformed, detail));
    }
    let takes_none = matches!(*request.method(), Method::GET | Method::HEAD);
    (takes_none && !request.body().is_end_stream()).then(unexpected_body)
}

fn repeated(headers: &HeaderMap) -> Option<&'static HeaderName> {
    // Hardly a request repeats any header.
    if headers.len() == headers.keys_len() {
        return None;
    }
    SINGLE_HEADERS.iter().find(|name| headers.get_all(*name).iter().nth(1).is_some())
}

/// A request's label in the log, the metrics and the answer.
struct RequestLabel {
    at: Instant,
    id: String,
    method: &'static str,
    route: Option<MatchedPath>,
}

impl Endpoint {
    async fn answer(
        &self,
        RequestLabel { at, id, method, route }: RequestLabel,
        handler: impl Future<Output = Result<Response, Infallible>>,
    ) -> Response {
        let name = route.as_ref().map_or("(none)", MatchedPath::as_str);
        // For whoever looks closely: to keep a span for every request costs more than what most of them do.
        let span = tracing::debug_span!("request", request_id = id, method, route = name);
        let mut response = async {
            let response = self.run_limited(handler).await;
            tracing::debug!(status = response.status().as_u16(), "answered");
            response
        }
        .instrument(span)
        .await;
        if let Some(cause) = response.extensions_mut().remove::<Cause>() {
            cause.log(&id, method, name);
        }

        self.durations.record(method, name, response.status().as_u16(), at.elapsed());
        if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(id)) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response
    }

    async fn run_limited(&self, handler: impl Future<Output = Result<Response, Infallible>>) -> Response {
        let Ok(_permit) = self.in_flight.try_acquire() else {
            return Problem::new(ProblemKind::Overloaded, "too many requests at once; try again shortly")
                .into_response();
        };
        let run = std::panic::AssertUnwindSafe(handler).catch_unwind();
        match tokio::time::timeout(self.limits.request_timeout, run).await {
            Ok(Ok(Ok(response))) => response,
            Ok(Err(_panic)) => Problem::internal("a handler panicked").into_response(),
            Err(_elapsed) => Problem::new(
                ProblemKind::Unavailable,
                "no answer in time; what was asked may still be done, so repeat it with the same idempotency key",
            )
            .into_response(),
        }
    }
}

fn request_id(request: &Request) -> String {
    request
        .headers()
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| (1..=100).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic()))
        .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// Anything but the usual methods is one label, so that a client cannot make labels up.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "(other)",
    }
}

/// The histograms of one endpoint. Finding one among all metrics costs more than recording, so
/// each is looked up once.
#[derive(Default)]
struct Durations(RwLock<Vec<StatusHistogram>>);

/// A histogram, by method and status; an endpoint has a handful.
struct StatusHistogram {
    method: &'static str,
    status: u16,
    histogram: Histogram,
}

impl Durations {
    fn record(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().find(|known| known.method == method && known.status == status);
        if let Some(found) = found {
            return found.histogram.record(took);
        }
        drop(known);
        let histogram = metrics::histogram!(
            "http_server_request_duration_seconds",
            "method" => method,
            "route" => route.to_owned(),
            "status" => status.to_string(),
        );
        histogram.record(took);
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(StatusHistogram {
            method,
            status,
            histogram,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read_body;
    use axum::body::Body;
    use axum::routing::post;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    fn limits() -> Limits {
        Limits { max_body_bytes: 10, request_timeout: Duration::from_secs(120), max_in_flight: 1 }
    }

    fn request(path: &str, body: impl Into<Body>) -> Request {
        Request::builder().uri(path).method("POST").body(body.into()).unwrap()
    }

    async fn problem(response: Response) -> (u16, String) {
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice::<serde_json::Value>(&body).unwrap()["type"].to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_takes_too_long_or_panics_is_a_problem() {
        let app = harden(
            Router::new()
                .route("/slow", post(async || std::future::pending::<()>().await))
                .route("/broken", post(async || -> () { panic!("broken") })),
            limits(),
        );
        let slow = app.clone().oneshot(request("/slow", "")).await.unwrap();
        assert_eq!(slow.headers()["retry-after"], "1");
        assert_eq!(problem(slow).await, (503, "\"urn:careforall:problem:unavailable\"".to_owned()));
        let broken = app.oneshot(request("/broken", "")).await.unwrap();
        assert_eq!(problem(broken).await, (500, "\"urn:careforall:problem:internal\"".to_owned()));
    }

    #[tokio::test]
    async fn more_at_once_than_may_be_are_told_to_come_back() {
        let (entered, leave) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (enter, left) = (entered.clone(), leave.clone());
        let wait = async move || {
            enter.add_permits(1);
            let _ = left.acquire().await;
        };
        let app = harden(Router::new().route("/", post(wait)), limits());
        let first = tokio::spawn(app.clone().oneshot(request("/", "")));
        let _ = entered.acquire().await.unwrap();
        let second = app.clone().oneshot(request("/", "")).await.unwrap();
        assert_eq!(second.headers()["retry-after"], "1");
        assert_eq!(problem(second).await, (503, "\"urn:careforall:problem:overloaded\"".to_owned()));
        leave.add_permits(2);
        assert_eq!(first.await.unwrap().unwrap().status(), 200);
        assert_eq!(app.oneshot(request("/", "")).await.unwrap().status(), 200);
    }

    #[tokio::test]
    async fn bodies_are_read_up_to_the_limit() {
        let echo = async |request: Request| read_body(request).await;
        let app = harden(Router::new().route("/", post(echo)), limits());
        let in_pieces = |pieces: &[&'static str]| {
            let pieces: Vec<_> =
                pieces.iter().map(|piece| Ok::<_, Infallible>(Bytes::from(*piece))).collect();
            Body::from_stream(futures_util::stream::iter(pieces))
        };
        for fits in [Body::from("0123456789"), in_pieces(&["0123", "4567", "89"])] {
            let answer = app.clone().oneshot(request("/", fits)).await.unwrap();
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "0123456789");
        }
        for large in [Body::from("0123456789a"), in_pieces(&["0123", "45678", "9a"])] {
            let answer = app.clone().oneshot(request("/", large)).await.unwrap();
            assert_eq!(problem(answer).await, (413, "\"urn:careforall:problem:too-large\"".to_owned()));
        }
    }

    /// Lines of a log, shared with the test that reads them.
    #[derive(Clone, Default)]
    struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn the_cause_of_a_problem_is_in_the_log_and_not_in_the_answer() {
        let lines = Lines::default();
        let log = lines.clone();
        let writer = move || log.clone();
        let _logging = tracing::subscriber::set_default(
            tracing_subscriber::fmt().with_writer(writer).with_ansi(false).finish(),
        );
        let broken = async || -> Problem { Problem::internal("a secret of ours") };
        let down = async || -> Problem { Problem::unavailable("the ledger", "a secret of theirs") };
        let router = Router::new().route("/broken", post(broken)).route("/down", post(down));
        let app = harden(router, limits());
        for (path, secret) in [("/broken", "a secret of ours"), ("/down", "a secret of theirs")] {
            let answer = app.clone().oneshot(request(path, "")).await.unwrap();
            let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(!String::from_utf8_lossy(&body).contains("secret"), "{body:?}");
            let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            let said = log.lines().find(|line| line.contains(secret)).expect("a line with the cause");
            assert!(said.contains(&id) && said.contains(path), "{said}");
        }
    }

    #[tokio::test]
    async fn every_answer_has_an_id_and_unknown_paths_are_problems() {
        let app = harden(Router::new().route("/", get(async || "here")), limits());
        let wrong = app.clone().oneshot(request("/", "")).await.unwrap();
        assert_eq!(wrong.headers()["x-request-id"].len(), 36);
        assert_eq!(problem(wrong).await.0, 405);
        assert_eq!(problem(app.oneshot(request("/nowhere", "")).await.unwrap()).await.0, 404);
    }
}
