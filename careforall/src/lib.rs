//! The one program: it composes the services and decides nothing.

pub mod embedded;
mod migrate;
mod roles;
mod runtime;
mod secrets;
mod settings;
mod supervise;
mod up;
mod wiring;

pub use migrate::migrate;
pub use roles::{Role, run_role, serve_role, serve_webhook_routes};
pub use runtime::runtime;
pub use settings::{DatabaseSettings, Settings};
pub use up::Up;
pub use wiring::api_description;
