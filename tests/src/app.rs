//! The whole system in the test's own process, on a database of its own.

use std::ops::Deref;

use careforall::{Settings, Up};
use clap::Parser;
use payments::{ProviderDescriptor, Registry};
use serde_json::Value;
use service::Shutdown;
use sqlx::PgPool;
use tempfile::TempDir;
use uuid::Uuid;

use crate::books::all_folded;
use crate::client::Client;
use crate::credentials::{ADMIN_TOKEN, SANDBOX_API_KEY, WEBHOOK_SECRET};
use crate::servers::{fresh_database, redis_url};
use crate::{completes, eventually};

/// A running system, and a client of it.
pub struct TestApp {
    client: Client,
    pub database_url: String,
    pub redis_url: String,
    /// A connection of the test's own, with every right.
    pub pool: PgPool,
    up: Option<Up>,
    shutdown: Shutdown,
    _data_dir: TempDir,
}

impl Deref for TestApp {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

#[derive(Parser)]
struct SettingsOnly {
    #[command(flatten)]
    settings: Settings,
}

impl TestApp {
    pub async fn start() -> Self {
        Self::start_on(fresh_database().await, redis_url().await, &[]).await
    }

    pub async fn start_with(flags: &[&str]) -> Self {
        Self::start_on(fresh_database().await, redis_url().await, flags).await
    }

    /// A system with one more payment provider, which takes the check-outs.
    pub async fn start_with_provider(provider: ProviderDescriptor) -> Self {
        Self::launch(fresh_database().await, redis_url().await, &[], Some(provider)).await
    }

    /// A system on a given database and Redis, beside others if there are any.
    pub async fn start_on(database_url: String, redis_url: String, flags: &[&str]) -> Self {
        Self::launch(database_url, redis_url, flags, None).await
    }

    async fn launch(
        database_url: String,
        redis_url: String,
        flags: &[&str],
        provider: Option<ProviderDescriptor>,
    ) -> Self {
        service::telemetry::init_logs(service::telemetry::LogFormat::Pretty);
        let data_dir = tempfile::tempdir().unwrap();
        let mut arguments = vec![
            "up",
            "--listen=127.0.0.1:0",
            "--admin-token",
            ADMIN_TOKEN,
            "--sandbox-webhook-secret",
            WEBHOOK_SECRET,
            "--sandbox-api-key",
            SANDBOX_API_KEY,
            "--database-url",
            &database_url,
            "--redis-url",
            &redis_url,
            "--data-dir",
            data_dir.path().to_str().unwrap(),
        ];
        let settle_after = "--sandbox-settle-after";
        if !flags.iter().any(|flag| flag.starts_with(settle_after)) {
            arguments.extend([settle_after, "1"]);
        }
        arguments.extend(flags);
        let mut settings = SettingsOnly::parse_from(arguments).settings;
        let mut registry = Registry::default();
        if let Some(provider) = provider {
            settings.payment_provider = provider.name.to_owned();
            registry.register(provider).unwrap();
        }
        let shutdown = Shutdown::new();
        let up = Up::start_with(registry, settings, shutdown.clone()).await.expect("the system starts");
        Self {
            client: Client::new(format!("http://{}", up.address())),
            pool: PgPool::connect(&database_url).await.unwrap(),
            database_url,
            redis_url,
            up: Some(up),
            shutdown,
            _data_dir: data_dir,
        }
    }

    /// Another client of it.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Ends it as Ctrl-C does.
    pub async fn stop(&mut self) {
        self.shutdown.cancel();
        let up = self.up.take().unwrap();
        completes("the system stops", up.finish()).await.unwrap();
    }

    /// The last position of the ledger.
    pub async fn head(&self) -> i64 {
        event_store::head(&self.pool).await.unwrap()
    }

    /// Waits until every message is worked off and the read tables have all of it. Returns the last position,
    /// which stays the last unless the test goes on.
    pub async fn at_rest(&self) -> i64 {
        let pending = async || -> Vec<(String, Option<String>)> {
            let sql = "select event_type, reason from webhook_inbox where status = 'pending' limit 5";
            sqlx::query_as(sql).fetch_all(&self.pool).await.unwrap()
        };
        eventually("no message is pending", pending, Vec::is_empty).await;
        all_folded(&self.pool).await;
        self.head().await
    }

    /// The totals with all that is in the ledger now.
    pub async fn totals_at_head(&self, campaign_id: Uuid) -> Value {
        let head = self.head().await;
        self.get_at(&format!("/api/campaigns/{campaign_id}/totals"), head).await
    }

    /// Makes a pledge older in the eyes of whoever looks for overdue ones, or younger again. A test with a
    /// long time to pay is not overtaken by an expiry that it is not ready for.
    pub async fn make_older(&self, pledge_id: Uuid, hours: i32) {
        let older = async || {
            let sql = "update pledges set created_at = created_at - make_interval(hours => $2) where pledge_id = $1";
            let done = sqlx::query(sql).bind(pledge_id).bind(hours).execute(&self.pool).await.unwrap();
            done.rows_affected()
        };
        eventually(format!("pledge {pledge_id} is in the read table"), older, |rows| *rows == 1).await;
    }

    /// Runs `replay verify` on this system: whether all is well, and what it says.
    pub async fn verify(&self) -> (bool, String) {
        let (code, output) =
            crate::replay(&["--database-url", &self.database_url, "--redis-url", &self.redis_url, "verify"])
                .await;
        (code == Some(0), output)
    }

    /// Expects `replay verify` to find nothing, once the projectors of a running system have done their work:
    /// the tool itself waits for them only a little.
    pub async fn assert_verified(&self) {
        if self.up.is_some() {
            all_folded(&self.pool).await;
        }
        let (well, said) = self.verify().await;
        assert!(well, "{said}");
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
