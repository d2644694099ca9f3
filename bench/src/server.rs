//! The services under test, each in a process of its own.

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use axum::body::Bytes;
use axum::extract::Path as FromPath;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use careforall::{Role, Settings, Up, migrate, serve_role};
use service::{Shutdown, telemetry};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;
use uuid::Uuid;

use crate::machine;

const START_PATIENCE: Duration = Duration::from_secs(60);
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// A running service. It ends when its standard input does, so it never outlives this process.
pub(crate) struct Service {
    child: Child,
    stdin: ChildStdin,
    address: SocketAddr,
}

impl Service {
    /// Starts this program again as one of its parts, with nothing but `environment`.
    pub(crate) async fn start(
        arguments: &[&str],
        environment: &[(&str, &str)],
        log: PathBuf,
    ) -> anyhow::Result<Self> {
        let log_file = File::create(&log).with_context(|| format!("{} cannot be made", log.display()))?;
        let mut child = Command::new(std::env::current_exe().context("where is this program")?)
            .args(arguments)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .kill_on_drop(true)
            .spawn()
            .context("a service cannot be started")?;
        let stdin = child.stdin.take().context("a service has no standard input")?;
        let stdout = child.stdout.take().context("a service has no standard output")?;
        let mut line = String::new();
        timeout(START_PATIENCE, BufReader::new(stdout).read_line(&mut line))
            .await
            .context("a service does not start in time")?
            .context("a service says nothing")?;
        match line.trim().parse() {
            Ok(address) => Ok(Self { child, stdin, address }),
            Err(_) => bail!("{} does not start: {}", arguments[0], tail(&log)),
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The most memory that it has had resident, in megabytes.
    pub(crate) fn rss_peak_mb(&self) -> anyhow::Result<f64> {
        let pid = self.child.id().context("the service has ended")?;
        let peak = machine::field(&format!("/proc/{pid}/status"), "VmHWM").context("VmHWM is missing")?;
        let kilobytes: f64 = peak.trim_end_matches(" kB").parse().context("VmHWM is no number")?;
        Ok(kilobytes / 1024.0)
    }

    /// Lets it finish, and waits for its end.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.stdin);
        let status = timeout(STOP_PATIENCE, self.child.wait()).await.context("a service does not stop")??;
        if status.success() { Ok(()) } else { bail!("a service ended with {status}") }
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

/// Tells the process that started this one where it listens.
fn announce(address: SocketAddr) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{address}").and_then(|()| stdout.flush()).context("nobody listens to this service")
}

/// Returns when the process that started this one has ended, or wants it to end.
async fn input_ended() {
    let mut nothing = Vec::new();
    // An input that cannot be read is as good as one that has ended.
    let _ = tokio::io::stdin().read_to_end(&mut nothing).await;
}

/// CareForAll as `careforall up` runs it.
pub(crate) async fn serve_ours(settings: Settings) -> anyhow::Result<()> {
    telemetry::init_logs(settings.log_format);
    let shutdown = Shutdown::new();
    let up = Up::start(settings, shutdown.clone()).await?;
    announce(up.address())?;
    input_ended().await;
    shutdown.cancel();
    up.finish().await
}

/// command-api by itself, as `careforall command-api` runs it.
pub(crate) async fn serve_command_api(settings: Settings) -> anyhow::Result<()> {
    telemetry::init_logs(settings.log_format);
    migrate(settings.database_url.as_deref().context("DATABASE_URL is not set")?).await?;
    serve_alone(Role::CommandApi(settings)).await
}

/// The projectors by themselves, as `careforall projectors` runs them.
pub(crate) async fn serve_projectors(settings: Settings) -> anyhow::Result<()> {
    telemetry::init_logs(settings.log_format);
    serve_alone(Role::Projectors(settings)).await
}

async fn serve_alone(role: Role) -> anyhow::Result<()> {
    let listener = TcpListener::bind(role.settings().listen).await.context("no port to listen on")?;
    announce(listener.local_addr()?)?;
    let shutdown = Shutdown::new();
    let service = tokio::spawn(serve_role(role, listener, shutdown.clone()));
    input_ended().await;
    shutdown.cancel();
    service.await.context("the service ended badly")?
}

/// Serves the webhook routes, without the workers behind them.
pub(crate) async fn serve_webhook_routes(settings: Settings) -> anyhow::Result<()> {
    telemetry::init_logs(settings.log_format);
    let listener = TcpListener::bind(settings.listen).await.context("no port to listen on")?;
    announce(listener.local_addr()?)?;
    let shutdown = Shutdown::new();
    let service = tokio::spawn(careforall::serve_webhook_routes(settings, listener, shutdown.clone()));
    input_ended().await;
    shutdown.cancel();
    service.await.context("the service ended badly")?
}

/// The least that a service over HTTP can do: read a pledge or an id, answer `answer`.
pub(crate) async fn serve_bare(answer: String) -> anyhow::Result<()> {
    let answer = Bytes::from(answer);
    let shown = answer.clone();
    let create =
        async move |_body: Bytes| (StatusCode::CREATED, [(CONTENT_TYPE, "application/json")], answer.clone());
    let show = async move |_: FromPath<Uuid>| ([(CONTENT_TYPE, "application/json")], shown.clone());
    let router = Router::new().route("/api/pledges", post(create));
    serve_plain(router.route("/api/campaigns/{id}/totals", get(show))).await
}

/// Serves a router the way axum's documentation does, until standard input ends.
pub(crate) async fn serve_plain(router: Router) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("no port to listen on")?;
    announce(listener.local_addr()?)?;
    let listener = listener.tap_io(|stream| {
        // Without it an answer may wait; then it is only slower.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).with_graceful_shutdown(input_ended()).await.context("serving failed")
}
