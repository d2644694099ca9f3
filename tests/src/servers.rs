//! One Postgres and one Redis for all tests of a run, below `target/`.

use std::path::{Path, PathBuf};

use careforall::embedded::{DataDir, EmbeddedPostgres, EmbeddedRedis};
use sqlx::{Connection, Executor, PgConnection, PgPool};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::eventually;
use crate::ports::free_port;

const TEMPLATE: &str = "careforall_template";

struct Servers {
    postgres: EmbeddedPostgres,
    redis: EmbeddedRedis,
    _data_dir: DataDir,
}

/// Both end with the test process, which they are tied to.
static SERVERS: OnceCell<Servers> = OnceCell::const_new();

async fn servers() -> &'static Servers {
    SERVERS
        .get_or_init(|| async {
            let data_dir = free_data_dir();
            // To drop the databases of an earlier run one by one takes minutes, and a new cluster a second.
            let _ = std::fs::remove_dir_all(data_dir.path().join("postgres"));
            let (postgres, redis) = tokio::try_join!(
                EmbeddedPostgres::start(data_dir.path()),
                EmbeddedRedis::start(data_dir.path())
            )
            .expect("Postgres and Redis are needed; scripts/install-services.sh installs them");
            make_template(postgres.url()).await;
            Servers { postgres, redis, _data_dir: data_dir }
        })
        .await
}

/// A folder that no other test run is using. What is in it stays until the next run, for whoever wants to
/// look.
fn free_data_dir() -> DataDir {
    (0..100)
        .find_map(|n| DataDir::open(target_dir().join(format!("test-services/{n}"))).ok())
        .expect("a data folder below target/test-services")
}

pub(crate) fn target_dir() -> PathBuf {
    build_dir().parent().unwrap().to_owned()
}

/// Where cargo put this program and puts the others: `target/debug`.
pub(crate) fn build_dir() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    // Test binaries stand one folder deeper, in `deps`.
    let folder = program.parent().unwrap();
    if folder.ends_with("deps") { folder.parent().unwrap().to_owned() } else { folder.to_owned() }
}

/// Migrates a database that the tests' own are copied from.
async fn make_template(url: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.execute(format!("create database {TEMPLATE}").as_str()).await.unwrap();
    careforall::migrate(&with_database(url, TEMPLATE)).await.unwrap();
}

/// The address of a database of this test's own, with the schema in it.
pub async fn fresh_database() -> String {
    let url = copy_of(&with_database(servers().await.postgres.url(), TEMPLATE)).await;
    let mut own = PgConnection::connect(&url).await.unwrap();
    // A ledger of its own, and so keys of its own in Redis.
    own.execute("update ledger_identity set ledger_id = gen_random_uuid()").await.unwrap();
    url
}

/// The address of a copy of a database that nobody is connected to.
pub async fn copy_of(database_url: &str) -> String {
    let (_, template) = database_url.rsplit_once('/').unwrap();
    let name = format!("test_{}", Uuid::new_v4().simple());
    // Two copies of one template at a time get into each other's way.
    static COPYING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _copying = COPYING.lock().await;
    let mut connection = PgConnection::connect(servers().await.postgres.url()).await.unwrap();
    let create = format!("create database {name} template {template}");
    // Connections that were closed a moment ago may still be there.
    let copied = async || connection.execute(create.as_str()).await;
    eventually(format!("{template} can be copied"), copied, Result::is_ok).await.unwrap();
    with_database(database_url, &name)
}

/// Fills an empty ledger with whole lives of pledges, and the read tables with what projectors make of
/// them; see `bench/src/lives.sql`.
pub async fn ledger_of(database_url: &str, events: i64) {
    let pool = PgPool::connect(database_url).await.unwrap();
    crate::lives_of_sql::fill_with_lives(&pool, events).await.unwrap();
    pool.close().await;
}

/// The address of the Redis that all tests share.
pub async fn redis_url() -> String {
    servers().await.redis.url().to_owned()
}

fn with_database(url: &str, name: &str) -> String {
    let (server, _) = url.rsplit_once('/').unwrap();
    format!("{server}/{name}")
}

/// A Redis for tests that stop it or wipe it.
pub struct PrivateRedis {
    folder: TempDir,
    server: Option<EmbeddedRedis>,
    url: String,
}

impl PrivateRedis {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        settle_port(folder.path(), "redis");
        let server = start_redis(folder.path()).await;
        Self { url: server.url().to_owned(), server: Some(server), folder }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub async fn stop(&mut self) {
        self.server.take().unwrap().stop().await.unwrap();
    }

    /// Starts it again where it was: empty, or with the snapshot that was saved.
    pub async fn start_again(&mut self) {
        let server = start_redis(self.folder.path()).await;
        assert_eq!(server.url(), self.url, "Redis came back elsewhere");
        self.server = Some(server);
    }

    /// Writes a snapshot, from which it is started again.
    pub async fn save(&self) {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        redis::cmd("SAVE").exec_async(&mut connection).await.unwrap();
    }

    pub async fn flush_all(&self) {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        redis::cmd("FLUSHALL").exec_async(&mut connection).await.unwrap();
    }
}

/// Has a server start, and start again, on a port that no connection takes while it is away.
pub fn settle_port(data_dir: &Path, server: &str) {
    std::fs::write(data_dir.join(format!("{server}.port")), free_port().to_string()).unwrap();
}

async fn start_redis(folder: &Path) -> EmbeddedRedis {
    EmbeddedRedis::start(folder)
        .await
        .expect("redis-server is needed; scripts/install-services.sh installs it")
}
