//! What projections must survive. The tests run each of these short, `make soak` runs them long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use careforall::embedded::EmbeddedPostgres;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use read_model::Projection;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::{
    Lives, PrivateRedis, Program, TestApp, all_folded, assert_books_agree, eventually, free_address,
    fresh_database, redis_url, replay, settle_port,
};

/// How much goes wrong.
#[derive(Clone, Copy)]
pub struct Fire {
    /// Events appended at least.
    pub events: i64,
    /// Projector processes killed, one at a time; three compete.
    pub kills: usize,
    /// Times that Redis is started again, empty.
    pub redis_restarts: usize,
    /// Times that Postgres is stopped as if it lost power apart from the disk.
    pub postgres_kills: usize,
}

enum Blow {
    Projectors,
    Redis,
    Postgres,
}

/// Projectors killed, Redis and Postgres restarted, while events come in: in the end Redis, the read
/// tables and a fold of the ledger agree, and so do the tables with one another.
pub async fn exactly_once_under_fire(fire: Fire, seed: u64) -> String {
    let folder = tempfile::tempdir().unwrap();
    settle_port(folder.path(), "postgres");
    let mut postgres = EmbeddedPostgres::start(folder.path()).await.unwrap();
    let database_url = postgres.url().to_owned();
    careforall::migrate(&database_url).await.unwrap();
    let mut redis = PrivateRedis::start().await;
    let options = PgPoolOptions::new().max_connections(8).acquire_timeout(Duration::from_secs(2));
    let pool = options.connect(&database_url).await.unwrap();
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(start_projectors(&database_url, redis.url()).await);
    }
    let calm = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write_until(pool.clone(), fire.events, seed, calm.clone()));

    let mut random = StdRng::seed_from_u64(seed);
    let mut blows: Vec<Blow> = (0..fire.kills)
        .map(|_| Blow::Projectors)
        .chain((0..fire.redis_restarts).map(|_| Blow::Redis))
        .chain((0..fire.postgres_kills).map(|_| Blow::Postgres))
        .collect();
    while !blows.is_empty() {
        tokio::time::sleep(Duration::from_millis(random.random_range(50..400))).await;
        match blows.swap_remove(random.random_range(0..blows.len())) {
            Blow::Projectors => {
                workers.swap_remove(random.random_range(0..workers.len())).kill().await;
                workers.push(start_projectors(&database_url, redis.url()).await);
            }
            Blow::Redis => {
                redis.stop().await;
                tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
                redis.start_again().await;
            }
            Blow::Postgres => {
                kill(Pid::from_raw(postgres.pid().cast_signed()), Signal::SIGQUIT).unwrap();
                postgres.exited().await;
                drop(postgres);
                postgres = EmbeddedPostgres::start(folder.path()).await.unwrap();
                assert_eq!(postgres.url(), database_url, "Postgres came back elsewhere");
            }
        }
    }
    calm.store(true, Ordering::Release);
    let appended = writing.await.unwrap();
    assert_books_agree(&pool).await;
    let (code, said) = replay(&["--database-url", &database_url, "--redis-url", redis.url(), "verify"]).await;
    assert_eq!(code, Some(0), "{said}");
    drop(workers);
    pool.close().await;
    postgres.stop().await.unwrap();
    format!(
        "{appended} events; projectors killed {} times, Redis restarted {}, Postgres {}; all agree",
        fire.kills, fire.redis_restarts, fire.postgres_kills
    )
}

async fn start_projectors(database_url: &str, redis_url: &str) -> Program {
    let flags = ["--database-url", database_url, "--redis-url", redis_url];
    Program::start("projectors", &free_address(), &flags).await
}

/// Appends lives until there are `events` events and it is calm.
async fn write_until(pool: PgPool, events: i64, seed: u64, calm: Arc<AtomicBool>) -> i64 {
    let mut lives = Lives::start(pool, seed, 20).await;
    loop {
        lives.append(50).await;
        let appended = lives.appended.load(Ordering::Relaxed);
        match (appended >= events, calm.load(Ordering::Acquire)) {
            (true, true) => return appended,
            // All has been written before the last blow fell: a little more for each that follows.
            (true, false) => tokio::time::sleep(Duration::from_millis(100)).await,
            (false, _) => {}
        }
    }
}

/// A rebuild of every projection while events come in and a client asks all the time.
#[derive(Clone, Copy)]
pub struct RebuildUnderLoad {
    /// Events that are there before.
    pub before: i64,
    /// Events per second meanwhile.
    pub rate: f64,
    /// Shortest time that it goes on.
    pub at_least: Duration,
}

/// Every answer is there, and no total goes back; in the end all agrees.
pub async fn rebuild_while_others_work(load: RebuildUnderLoad, seed: u64) -> String {
    let (database_url, redis_url) = (fresh_database().await, redis_url().await);
    let app = TestApp::start_on(database_url.clone(), redis_url, &[]).await;
    let mut lives = Lives::start(app.pool.clone(), seed, 10).await;
    while lives.appended.load(Ordering::Relaxed) < load.before {
        lives.append(500).await;
    }
    all_folded(&app.pool).await;

    let (done, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let watching: Vec<_> = lives
        .campaigns
        .iter()
        .map(|campaign| tokio::spawn(watch(app.client(), *campaign, done.clone(), asked.clone())))
        .collect();
    let before = lives.appended.load(Ordering::Relaxed);
    let writing = tokio::spawn(write_at(lives, load.rate, done.clone()));
    let started = Instant::now();
    let mut rebuilds = 0;
    while rebuilds == 0 || started.elapsed() < load.at_least {
        for projection in Projection::ALL {
            let (code, said) = replay(&["--database-url", &database_url, "rebuild", projection.name()]).await;
            assert_eq!(code, Some(0), "{said}");
            assert!(said.contains("equal the live ones") && said.contains("switched over"), "{said}");
            rebuilds += 1;
        }
    }
    let took = started.elapsed();
    done.store(true, Ordering::Release);
    let appended = writing.await.unwrap() - before;
    for watcher in watching {
        watcher.await.unwrap();
    }
    assert_books_agree(&app.pool).await;
    app.assert_verified().await;
    format!(
        "{rebuilds} rebuilds in {:.1} s at {:.0} events/s; {} answers, none missing, no total went back",
        took.as_secs_f64(),
        appended as f64 / took.as_secs_f64(),
        asked.load(Ordering::Relaxed)
    )
}

/// Asks for one campaign's totals again and again: never an error, never an older position.
async fn watch(client: crate::Client, campaign: uuid::Uuid, done: Arc<AtomicBool>, asked: Arc<AtomicU64>) {
    let mut newest = 0;
    while !done.load(Ordering::Acquire) {
        let (status, totals) = client.totals(campaign).await;
        assert_eq!(status, 200, "{totals}");
        let position = totals["position"].as_i64().unwrap();
        assert!(position >= newest, "the totals went back from position {newest}: {totals}");
        newest = position;
        let (status, shown) = client.get(&format!("/api/campaigns/{campaign}/donations?limit=5")).await;
        assert_eq!(status, 200, "{shown}");
        assert!(!shown["items"].as_array().unwrap().is_empty(), "the wall is empty");
        asked.fetch_add(2, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Appends `rate` events a second, as far as the machine can, until it is done.
async fn write_at(mut lives: Lives, rate: f64, done: Arc<AtomicBool>) -> i64 {
    let (started, before) = (Instant::now(), lives.appended.load(Ordering::Relaxed));
    while !done.load(Ordering::Acquire) {
        lives.append(20).await;
        let written = (lives.appended.load(Ordering::Relaxed) - before) as f64;
        let due = started + Duration::from_secs_f64(written / rate);
        tokio::time::sleep_until(due.into()).await;
    }
    lives.appended.load(Ordering::Relaxed)
}

/// A worker that is stopped for longer than its lease, in the middle of its work, and then goes on.
/// Says how long the other took to take over.
pub async fn a_stopped_worker_that_goes_on(seed: u64) -> String {
    let (database_url, redis_url) = (fresh_database().await, redis_url().await);
    let pool = PgPool::connect(&database_url).await.unwrap();
    let first = start_projectors(&database_url, &redis_url).await;
    let mut lives = Lives::start(pool.clone(), seed, 5).await;
    lives.append(200).await;
    all_folded(&pool).await;
    // The first has every lease.
    let tokens = leases(&pool).await;
    let second = start_projectors(&database_url, &redis_url).await;
    second.ready().await;

    // Stopped under load, so that it is likely to be in the middle of a transaction.
    let done = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write_at(lives, 2_000.0, done.clone()));
    tokio::time::sleep(Duration::from_millis(500)).await;
    first.signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    // Statements of the first that Postgres still runs concern events up to here.
    let head = event_store::head(&pool).await.unwrap();
    let ask = async || leases(&pool).await;
    let took_over = |now: &Vec<(String, i32, i64)>| {
        now.iter().zip(&tokens).all(|(now, before)| now.1 > before.1 && now.2 > head)
    };
    eventually("the second has taken every lease and goes on", ask, took_over).await;
    let took_over = stopped.elapsed();
    first.signal(Signal::SIGCONT);
    first.ready().await;
    // Time to do harm in.
    tokio::time::sleep(Duration::from_secs(1)).await;
    done.store(true, Ordering::Release);
    writing.await.unwrap();
    assert_books_agree(&pool).await;
    let (code, said) = replay(&["--database-url", &database_url, "--redis-url", &redis_url, "verify"]).await;
    assert_eq!(code, Some(0), "{said}");
    format!(
        "every projector had gone on elsewhere after {:.1} s; nothing was doubled",
        took_over.as_secs_f64()
    )
}

/// Of each projector of tables: its name, its lease's token and its position.
async fn leases(pool: &PgPool) -> Vec<(String, i32, i64)> {
    sqlx::query_as("select name, lease_token, position from projector_checkpoints order by name")
        .fetch_all(pool)
        .await
        .unwrap()
}
