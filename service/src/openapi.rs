//! Errors in the description of the API. Which ones a route can answer follows from what it takes, and how
//! they look is described once.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{Components, Content, OpenApi, Ref, RefOr, Response};
use utoipa::{PartialSchema, ToSchema};

use crate::{Problem, ProblemKind};

/// Describes the errors of every route. The routes themselves name those that only they know, such as
/// `(status = 404)`; an error without a body is a problem document.
pub fn describe_problems(api: &mut OpenApi) {
    let mut described = BTreeMap::new();
    for operation in operations(api) {
        for status in implied(operation) {
            respond(operation, status);
        }
        for (status, response) in &mut operation.responses.responses {
            let Ok(status) = status.parse::<StatusCode>() else { continue };
            let RefOr::T(own) = response else { continue };
            if status.as_u16() < 400 || !own.content.is_empty() {
                continue;
            }
            if own.description.is_empty() {
                let name = status.canonical_reason().unwrap_or_default().replace(' ', "");
                *response = Ref::from_response_name(&name).into();
                described.insert(name, problem(&meaning(status)).into());
            } else {
                *own = problem(&own.description);
            }
        }
    }
    let components = api.components.get_or_insert_with(Components::new);
    components.responses.append(&mut described);
    let mut schemas = vec![(Problem::name().into_owned(), Problem::schema())];
    Problem::schemas(&mut schemas);
    components.schemas.extend(schemas);
}

/// The operations of every path.
pub fn operations(api: &mut OpenApi) -> impl Iterator<Item = &mut Operation> {
    api.paths.paths.values_mut().flat_map(|path| {
        let PathItem { get, put, post, delete, options, head, patch, trace, .. } = path;
        [get, put, post, delete, options, head, patch, trace].into_iter().flatten()
    })
}

/// Adds an answer without a body, unless the status is described already.
pub fn respond(operation: &mut Operation, status: StatusCode) {
    let responses = &mut operation.responses.responses;
    responses.entry(status.as_str().to_owned()).or_insert_with(|| Response::new("").into());
}

/// The errors that follow from what an operation takes. Every service may be overloaded, and every request
/// may have a header or a body that makes no sense.
fn implied(operation: &Operation) -> Vec<StatusCode> {
    let takes_body = operation.request_body.is_some();
    let needs_credential = operation.security.as_ref().is_some_and(|security| !security.is_empty());
    let errors = [
        (true, StatusCode::SERVICE_UNAVAILABLE),
        (needs_credential, StatusCode::UNAUTHORIZED),
        (true, StatusCode::BAD_REQUEST),
        (takes_body, StatusCode::PAYLOAD_TOO_LARGE),
        (takes_body, StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ];
    errors.into_iter().filter_map(|(applies, status)| applies.then_some(status)).collect()
}

fn problem(description: &str) -> Response {
    let mut response = Response::new(description);
    let content = Content::new(Some(Ref::from_schema_name(Problem::name())));
    response.content.insert("application/problem+json".to_owned(), content.into());
    response
}

/// The kinds of problem that have a status.
fn meaning(status: StatusCode) -> String {
    let kinds = ProblemKind::ALL.into_iter().filter(|kind| kind.status() == status);
    kinds.map(|kind| format!("`{}`: {}.", kind.slug(), kind.title())).collect::<Vec<_>>().join(" ")
}
