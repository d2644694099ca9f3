//! Extractors whose errors are problems that say what is wrong and where.

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Problem, ProblemKind, read_body};

/// A JSON body, as a request or as a response.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        require_json(request.headers())?;
        parse_json(&read_body(request).await?).map(Self)
    }
}

/// Checks that the body of a request is said to be JSON: `application/json`, in no other encoding than UTF-8.
///
/// # Errors
/// [`ProblemKind::UnsupportedMediaType`].
pub fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    require_type(headers, "application/json")
}

fn require_type(headers: &HeaderMap, media_type: &str) -> Result<(), Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content_type.is_some_and(|content_type| is_of(content_type, media_type)) {
        return Ok(());
    }
    let detail = format!("send the header content-type: {media_type}");
    Err(Problem::new(ProblemKind::UnsupportedMediaType, detail))
}

/// Names of types, parameters and charsets are the same in capital letters (RFC 9110, section 8.3).
fn is_of(content_type: &str, media_type: &str) -> bool {
    let mut parts = content_type.split(';').map(|part| part.trim().to_ascii_lowercase());
    let is_named = parts.next().is_some_and(|named| named == media_type);
    is_named && parts.all(|parameter| matches!(parameter.as_str(), "charset=utf-8" | "charset=\"utf-8\""))
}

const FORM: &str = "application/x-www-form-urlencoded";

/// The fields of a page's form.
#[derive(Clone, Copy, Debug)]
pub struct Form<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Form<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        require_type(request.headers(), FORM)?;
        let form = Request::post("/").header(header::CONTENT_TYPE, FORM);
        let form = form.body(Body::from(read_body(request).await?)).map_err(Problem::internal)?;
        let fields = axum::Form::from_request(form, state).await;
        let fields = fields.map_err(|error| Problem::new(ProblemKind::Malformed, error.body_text()))?;
        Ok(Self(fields.0))
    }
}

/// Proof that a request has no body. A route that takes none asks for it, so that nobody believes that
/// what they sent was read.
#[derive(Clone, Copy, Debug)]
pub struct NoBody;

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if read_body(request).await?.is_empty() { Ok(Self) } else { Err(unexpected_body()) }
    }
}

pub(crate) fn unexpected_body() -> Problem {
    Problem::new(ProblemKind::Malformed, "send no body: nothing of it would be read")
}

/// Parses a body.
///
/// # Errors
/// [`ProblemKind::Malformed`] with the path, the line and the column of what is wrong.
pub fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // Keeping track of the path costs as much as parsing, and only what is wrong needs it.
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let malformed = |detail: String| Problem::new(ProblemKind::Malformed, detail);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        match path.as_str() {
            "." => malformed(error.into_inner().to_string()),
            _ => malformed(format!("{path}: {}", error.into_inner())),
        }
    })?;
    json.end().map_err(|error| malformed(error.to_string()))?;
    Ok(value)
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        // Room for most answers, so that they are not moved as they grow.
        let mut body = Vec::with_capacity(512);
        if let Err(error) = serde_json::to_writer(&mut body, &self.0) {
            return Problem::internal(error).into_response();
        }
        let mut response = Response::new(Body::from(body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

/// The parameters in the path.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0))
            .map_err(|error| Problem::new(ProblemKind::Malformed, format!("path: {}", error.body_text())))
    }
}

/// The parameters in the query.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|query| Self(query.0))
            .map_err(|error| Problem::new(ProblemKind::Malformed, format!("query: {}", error.body_text())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_one_type_in_one_encoding() {
        for good in [
            "application/json",
            "Application/JSON",
            " application/json ; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
        ] {
            assert!(is_of(good, "application/json"), "{good}");
        }
        for bad in [
            "",
            "json",
            "text/json",
            "application/jsonp",
            "application/x-json",
            "application/problem+json",
            "application/json, text/plain",
            "application/json; charset=latin1",
            "application/json; charset=utf-8; boundary=x",
            "text/plain; application/json",
            "application/x-www-form-urlencoded",
        ] {
            assert!(!is_of(bad, "application/json"), "{bad}");
        }
    }
}
