//! The one program: it composes the services and decides nothing.
//!
//! `careforall up`, in short:
//!
//! ```no_run
//! use careforall::{Settings, Up, runtime};
//! use clap::Parser;
//! use service::shutdown_on_signal;
//!
//! #[derive(Parser)]
//! struct Cli {
//!     #[command(flatten)]
//!     settings: Settings,
//! }
//!
//! # fn main() -> anyhow::Result<()> {
//! let Cli { settings } = Cli::parse();
//! runtime()?.block_on(async {
//!     let up = Up::start(settings, shutdown_on_signal()?).await?;
//!     println!("{}", up.banner());
//!     up.finish().await
//! })
//! # }
//! ```

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
