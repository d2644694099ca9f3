//! What every service shares, and nothing of the domain: telemetry, problems, limits, auth,
//! health, serving and shutting down.

pub mod auth;
pub mod breaker;
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

pub use extract::{Json, Path, Query, parse_json};
pub use http::{RequestId, harden};
pub use limits::{Limits, read_body};
pub use page::page;
pub use problem::{FieldError, FieldErrors, Problem, ProblemKind};
pub use server::serve;
pub use services_file::ServicesFile;
pub use settings::parse;
pub use shutdown::{Shutdown, shutdown_on_signal};
