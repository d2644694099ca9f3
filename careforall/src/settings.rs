//! Settings: by flag or by environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use command_api::LeastPledges;
use payments::{ProviderSettings, Registry};
use service::telemetry::LogFormat;
use service::{AllowedOrigins, ServicesFile};
use webhook_ingest::{AmountsByCurrency, CaptureLimit};

/// No provider repeats a message for longer.
const MIN_WEBHOOK_RETENTION: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The settings of every service. Each has a flag and an environment variable.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Address to listen on.
    #[arg(long, env = "CAREFORALL_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Folder for everything that is kept: Postgres, secrets, services.json.
    #[arg(long, env = "CAREFORALL_DATA_DIR", default_value = ".careforall")]
    pub data_dir: PathBuf,

    /// Postgres to use, such as postgres://user:password@host:5432/database.
    /// `up` starts its own where none is set.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// Redis to use, such as redis://host:6379. `up` starts its own where none is set.
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<String>,

    /// Bearer token of the organisers' routes. `up` makes and prints one where none is set.
    #[arg(long, env = "CAREFORALL_ADMIN_TOKEN", hide_env_values = true)]
    pub admin_token: Option<String>,

    /// Provider of new check-outs. Payments that were made elsewhere stay where they are.
    #[arg(long, env = "CAREFORALL_PAYMENT_PROVIDER", default_value = "sandbox",
        value_parser = Registry::value_parser())]
    pub payment_provider: String,

    /// The providers.
    #[command(flatten)]
    pub providers: ProviderSettings,

    /// Pledges that stay pending for longer expire: 30m, 90s, 2h, or a number of seconds.
    #[arg(long, env = "CAREFORALL_PLEDGE_TTL", default_value = "30m", value_parser = parse_duration)]
    pub pledge_ttl: Duration,

    /// Payment providers are asked what became of a payment this long after its page was opened, and
    /// then again after pauses that grow with its age: 1m, 90s, or a number of seconds.
    #[arg(long, env = "CAREFORALL_RECONCILE_AFTER", default_value = "1m", value_parser = parse_duration)]
    pub reconcile_after: Duration,

    /// Messages of payment providers are deleted this long after they are done with: 90d, or 7d at least.
    #[arg(long, env = "CAREFORALL_WEBHOOK_RETENTION", default_value = "90d", value_parser = parse_retention)]
    pub webhook_retention: Duration,

    /// Address of the site that donors see. [default: http:// and the address listened on]
    #[arg(long, env = "CAREFORALL_PUBLIC_URL")]
    pub public_url: Option<String>,

    /// Least amounts of pledges, beside those of the payment provider: currencies and whole minor units,
    /// such as EUR:100,USD:100.
    #[arg(long, env = "CAREFORALL_MIN_PLEDGE")]
    pub min_pledge: Option<LeastPledges>,

    /// The most that a payment may take for its pledge, as a multiple of the amount pledged: a number of at
    /// most two decimals. One that takes more is held apart until an organiser accepts it.
    #[arg(long, env = "CAREFORALL_CAPTURE_LIMIT", default_value_t)]
    pub capture_limit: CaptureLimit,

    /// Corrections of payments that change more than this wait for a second person: currencies and whole
    /// minor units, such as EUR:50000. One of a currency that is not listed always does. [default: none
    /// waits]
    #[arg(long, env = "CAREFORALL_FOUR_EYES_ABOVE")]
    pub four_eyes_above: Option<AmountsByCurrency>,

    /// Sites whose pages may read what is public, and make, amend and pay pledges: origins such as
    /// https://give.example.org, separated by commas. [default: none]
    #[allow(rustdoc::bare_urls, reason = "the text is that of --help too, where no link is one")]
    #[arg(long, env = "CAREFORALL_ALLOWED_ORIGINS")]
    pub allowed_origins: Option<AllowedOrigins>,

    /// Address that the sandbox provider sends webhooks to. [default: this process]
    #[arg(long, env = "CAREFORALL_SANDBOX_WEBHOOK_URL")]
    pub sandbox_webhook_url: Option<String>,

    /// How long after a capture the sandbox provider settles: 10s, 5m, or a number of seconds.
    #[arg(
        long, env = "CAREFORALL_SANDBOX_SETTLE_AFTER", default_value = "10s", value_parser = parse_duration,
    )]
    pub sandbox_settle_after: Duration,

    /// Log lines for people (pretty) or programs (json); auto looks for a terminal.
    #[arg(long, env = "CAREFORALL_LOG_FORMAT", default_value = "auto")]
    pub log_format: LogFormat,
}

/// Where the database is, for commands that need nothing else.
#[derive(Args, Clone, Debug)]
pub struct DatabaseSettings {
    /// Postgres to use. [default: the one of a running `up` on the data folder]
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// Data folder of a running `up`.
    #[arg(long, env = "CAREFORALL_DATA_DIR", default_value = ".careforall")]
    pub data_dir: PathBuf,
}

impl DatabaseSettings {
    /// The database's address.
    ///
    /// # Errors
    /// None is set, and nothing runs on the data folder.
    pub fn database_url(&self) -> anyhow::Result<String> {
        match &self.database_url {
            Some(url) => Ok(url.clone()),
            None => Ok(ServicesFile::read(&self.data_dir)?.database_url),
        }
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string())?,
    };
    if duration.is_zero() { Err("must be longer than nothing".to_owned()) } else { Ok(duration) }
}

/// Providers repeat a message for days, and one that was deleted would be taken for new.
fn parse_retention(text: &str) -> Result<Duration, String> {
    let retention = parse_duration(text)?;
    if retention < MIN_WEBHOOK_RETENTION { Err("must be 7d or longer".to_owned()) } else { Ok(retention) }
}

/// The address under which `listen` is reached from this machine.
pub(crate) fn local_url(listen: SocketAddr) -> String {
    if listen.ip().is_unspecified() {
        format!("http://127.0.0.1:{}", listen.port())
    } else {
        format!("http://{listen}")
    }
}

/// A value that a service that runs alone cannot do without.
pub(crate) fn required(value: Option<String>, variable: &str) -> anyhow::Result<String> {
    match value {
        Some(value) => Ok(value),
        None => bail!("set {variable}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_for_people_and_programs() {
        assert_eq!(parse_duration("30m"), Ok(Duration::from_secs(1800)));
        assert_eq!(parse_duration("30 min"), Ok(Duration::from_secs(1800)));
        assert_eq!(parse_duration("2"), Ok(Duration::from_secs(2)));
        assert!(parse_duration("0").is_err() && parse_duration("soon").is_err());
    }

    #[test]
    fn webhooks_are_kept_for_a_week_at_least() {
        assert_eq!(parse_retention("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert_eq!(parse_retention("7d"), Ok(MIN_WEBHOOK_RETENTION));
        assert!(parse_retention("167h").is_err() && parse_retention("0").is_err());
    }
}
