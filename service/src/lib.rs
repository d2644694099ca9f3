//! The parts that every service shares, and nothing of the domain: telemetry, problems, limits, auth,
//! health, serving and shutting down.
//!
//! A service is a router, put behind the limits that all share:
//!
//! ```
//! use axum::body::Body;
//! use axum::http::{Request, StatusCode};
//! use axum::{Router, routing::post};
//! use serde::{Deserialize, Serialize};
//! use service::{Json, Limits, harden};
//! use tower::ServiceExt;
//!
//! #[derive(Deserialize, Serialize)]
//! struct Greeting {
//!     name: String,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let echo = async |Json(greeting): Json<Greeting>| Json(greeting);
//! let app = harden(Router::new().route("/greet", post(echo)), Limits::default());
//!
//! let send = |body: &'static str| {
//!     let request = Request::post("/greet").header("content-type", "application/json");
//!     app.clone().oneshot(request.body(Body::from(body)).unwrap())
//! };
//! assert_eq!(send(r#"{"name": "Ada"}"#).await.unwrap().status(), StatusCode::OK);
//!
//! // An error is a problem document, and has an id under which the log tells more.
//! let refused = send("{}").await.unwrap();
//! assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
//! assert_eq!(refused.headers()["content-type"], "application/problem+json");
//! assert!(refused.headers().contains_key("x-request-id"));
//! # }
//! ```

pub mod auth;
pub mod breaker;
mod cross_origin;
pub mod csv;
pub mod database;
mod extract;
pub mod health;
mod http;
mod limits;
pub mod openapi;
mod page;
pub mod paging;
mod problem;
mod problem_page;
mod server;
mod services_file;
mod settings;
mod shutdown;
mod state;
pub mod telemetry;

pub use cross_origin::{AllowedOrigins, open_to};
pub use extract::{Form, Json, NoBody, Path, Query, parse_json, require_json};
pub use http::{RequestId, harden};
pub use limits::{Limits, read_body};
pub use page::{escape, page};
pub use problem::{FieldError, FieldErrors, NumberRange, Problem, ProblemKind};
pub use server::serve;
pub use services_file::ServicesFile;
pub use settings::parse;
pub use shutdown::{Shutdown, shutdown_on_signal};
