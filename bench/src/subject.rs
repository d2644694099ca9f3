//! What is measured: CareForAll and the baseline, each with a database of its own.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Deserialize;
use uuid::Uuid;

use crate::baseline;
use crate::http::Client;
use crate::rounds::Sample;
use crate::server::Service;
use crate::stage::{Database, Stage};
use crate::wrk::{self, Request};

/// Secrets of services that listen on loopback for a minute.
const ADMIN_TOKEN: &str = "bench-admin-token";
const SANDBOX_API_KEY: &str = "bench-sandbox-key";
pub(crate) const WEBHOOK_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// The projectors have this long to catch up after a round.
const SETTLE_PATIENCE: Duration = Duration::from_secs(300);

/// How much of CareForAll runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Everything, as `careforall up` runs it: what is appended is folded at the same time.
    Whole,
    /// command-api by itself, as in a system whose services have machines of their own. It does
    /// what the plain postgres-es service does, and nothing is folded.
    CommandApi,
}

impl Extent {
    /// Which part of this program it is.
    fn part(self) -> &'static str {
        match self {
            Self::Whole => "serve-ours",
            Self::CommandApi => "serve-command-api",
        }
    }
}

/// A running CareForAll with one open campaign.
pub(crate) struct Ours {
    extent: Extent,
    service: Service,
    pub(crate) database: Database,
    pub(crate) campaign_id: Uuid,
}

#[derive(Deserialize)]
struct MadeCampaign {
    campaign_id: Uuid,
}

impl Ours {
    /// Starts it on a new database and opens a campaign.
    pub(crate) async fn start(stage: &Stage, name: &str, extent: Extent) -> anyhow::Result<Self> {
        let database = stage.create_database(name).await?;
        let service = start_service(stage, &database, extent.part()).await?;
        let campaign_id = open_campaign(service.address()).await?;
        Ok(Self { extent, service, database, campaign_id })
    }

    /// Stops the service, lets `change` loose on its database, and starts it again.
    pub(crate) async fn restart_after(
        self,
        stage: &Stage,
        change: impl AsyncFnOnce(&Database) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        self.settle().await?;
        let Self { extent, service, database, campaign_id } = self;
        service.stop().await?;
        change(&database).await?;
        let service = start_service(stage, &database, extent.part()).await?;
        Ok(Self { extent, service, database, campaign_id })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.service.address()
    }

    /// The most memory that it has had resident, in megabytes.
    pub(crate) fn rss_peak_mb(&self) -> anyhow::Result<f64> {
        self.service.rss_peak_mb()
    }

    /// The number of events in the ledger.
    pub(crate) async fn events(&self) -> anyhow::Result<u64> {
        let head = event_store::head(&self.database.pool).await.context("the ledger's head")?;
        Ok(head.cast_unsigned())
    }

    /// One round of load. The ledger must have grown by what was answered as done, and by no more
    /// than what was still under way at the end.
    pub(crate) async fn round(
        &self,
        stage: &Stage,
        request: &Request,
        connections: u64,
        seconds: u64,
    ) -> anyhow::Result<Sample> {
        self.settle().await?;
        let before = self.events().await?;
        let seen = wrk::run(stage, self.address(), request, connections, seconds).await?;
        let sample = seen.sample()?;
        self.settle().await?;
        check_growth(self.events().await? - before, seen.successes(), connections)?;
        Ok(sample)
    }

    /// Waits until the projectors have folded everything, so that what one round leaves to do does
    /// not slow down the next.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        if self.extent == Extent::CommandApi {
            // Nothing is folded; what was under way when the load ended is appended by then.
            tokio::time::sleep(Duration::from_millis(200)).await;
            return Ok(());
        }
        let deadline = Instant::now() + SETTLE_PATIENCE;
        loop {
            let behind: Option<i64> = sqlx::query_scalar(
                "select (select position from ledger_head) - min(position) from projector_checkpoints",
            )
            .fetch_one(&self.database.pool)
            .await?;
            if behind == Some(0) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the projectors stay behind by {behind:?} events");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Stops the service and removes its database.
    pub(crate) async fn finish(self, stage: &Stage) -> anyhow::Result<()> {
        self.service.stop().await?;
        stage.drop_database(self.database).await
    }
}

/// Requests that were under way when the load ended may or may not have been carried out.
fn check_growth(grown: u64, answered: u64, connections: u64) -> anyhow::Result<()> {
    ensure!(
        (answered..=answered + connections).contains(&grown),
        "{answered} requests were answered as done, but {grown} events are stored"
    );
    Ok(())
}

/// Starts a part of CareForAll on a database.
pub(crate) async fn start_service(stage: &Stage, database: &Database, part: &str) -> anyhow::Result<Service> {
    let data_dir = stage.file(&database.name);
    let data_dir = data_dir.to_str().context("the folder's name is not text")?;
    let environment = [
        ("DATABASE_URL", database.url.as_str()),
        ("REDIS_URL", stage.redis_url()),
        ("CAREFORALL_LISTEN", "127.0.0.1:0"),
        ("CAREFORALL_DATA_DIR", data_dir),
        ("CAREFORALL_ADMIN_TOKEN", ADMIN_TOKEN),
        ("CAREFORALL_SANDBOX_WEBHOOK_SECRET", WEBHOOK_SECRET),
        ("CAREFORALL_SANDBOX_API_KEY", SANDBOX_API_KEY),
    ];
    Service::start(&[part], &environment, stage.file(&format!("{}.log", database.name))).await
}

async fn open_campaign(address: SocketAddr) -> anyhow::Result<Uuid> {
    let mut client = Client::connect(address).await?;
    let admin = format!("authorization: Bearer {ADMIN_TOKEN}\r\n");
    let body = r#"{"title":"Bench","goal":{"amount_minor":100000000,"currency":"EUR"}}"#;
    let answer = client.expect(201, "POST", "/api/campaigns", &admin, body).await?;
    let MadeCampaign { campaign_id } = serde_json::from_slice(answer).context("a campaign's answer")?;
    client.expect(200, "POST", &format!("/api/campaigns/{campaign_id}/publish"), &admin, "").await?;
    Ok(campaign_id)
}

/// A running baseline.
pub(crate) struct Baseline {
    service: Service,
    database: Database,
}

impl Baseline {
    /// Starts it on a new database.
    pub(crate) async fn start(stage: &Stage, name: &str) -> anyhow::Result<Self> {
        let database = stage.create_database(name).await?;
        baseline::make_table(&database.pool).await?;
        let environment = [("DATABASE_URL", database.url.as_str())];
        let log = stage.file(&format!("{name}.log"));
        let service = Service::start(&["serve-baseline"], &environment, log).await?;
        Ok(Self { service, database })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.service.address()
    }

    /// The number of events in its table.
    async fn events(&self) -> anyhow::Result<u64> {
        let events: i64 =
            sqlx::query_scalar("select count(*) from events").fetch_one(&self.database.pool).await?;
        Ok(events.cast_unsigned())
    }

    /// One round of load, checked like [`Ours::round`].
    pub(crate) async fn round(
        &self,
        stage: &Stage,
        request: &Request,
        connections: u64,
        seconds: u64,
    ) -> anyhow::Result<Sample> {
        let before = self.events().await?;
        let seen = wrk::run(stage, self.address(), request, connections, seconds).await?;
        let sample = seen.sample()?;
        // Requests that were under way have finished by now, or were given up with their connection.
        tokio::time::sleep(Duration::from_millis(200)).await;
        check_growth(self.events().await? - before, seen.successes(), connections)?;
        Ok(sample)
    }

    /// Stops the service and removes its database.
    pub(crate) async fn finish(self, stage: &Stage) -> anyhow::Result<()> {
        self.service.stop().await?;
        stage.drop_database(self.database).await
    }
}
