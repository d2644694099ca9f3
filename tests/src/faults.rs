//! What the ledger must survive. The tests run each of these short, `make soak` runs them long.
//!
//! Every run is seeded: the same seed makes the same choices, though the machine's timing differs.

use std::collections::HashMap;
use std::process::Stdio;
use std::time::Duration;

use careforall::embedded::EmbeddedPostgres;
use chrono::Utc;
use domain::{CampaignId, DonorId, Money, Pledge, PledgeCommand};
use event_store::{AppendError, EventReader, ExecuteError, Ledger, Metadata, Wakeup};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::program::program;
use crate::{PATIENCE, completes, eventually, settle_port};

/// The pledges whose commands were answered, and the positions they were answered with.
type Answers = HashMap<Uuid, i64>;

/// A command that makes a pledge.
pub fn new_pledge() -> PledgeCommand {
    PledgeCommand::Create {
        campaign_id: CampaignId(Uuid::from_u128(1)),
        donor_id: DonorId(Uuid::from_u128(2)),
        amount: Money::new(5_000, "USD".parse().unwrap()).unwrap(),
        anonymous: false,
        made_at: Utc::now(),
    }
}

/// Several writer processes, and a reader that must never see a hole. Returns how many events.
pub async fn writers_and_a_reader(database_url: &str, writers: i64, events: i64) -> String {
    let pool = PgPool::connect(database_url).await.unwrap();
    let each = events / writers;
    let mut processes = Vec::new();
    for _ in 0..writers {
        processes.push(start_writer(database_url, &["--count", &each.to_string()]).await);
    }
    let total = each * writers;
    let reader = tokio::spawn(read_without_holes(pool.clone(), total));
    let mut answered = Answers::new();
    for process in processes {
        answered.extend(all_answers(process).await);
    }
    assert_eq!(answered.len() as i64, total);
    let reads = completes("the reader sees all", reader).await.unwrap();
    assert_found_once(&pool, &answered).await;
    format!("{total} events by {writers} processes, seen in order by a reader in {reads} reads")
}

async fn read_without_holes(pool: PgPool, total: i64) -> u64 {
    let mut wakeup = Wakeup::listen(pool.clone(), Wakeup::LEDGER);
    let (mut position, mut reads) = (0, 0);
    while position < total {
        for event in EventReader::default().read_after(&pool, position, 1_000).await.unwrap() {
            assert_eq!(event.position, position + 1, "the reader skipped an event");
            position = event.position;
        }
        reads += 1;
        wakeup.wait(Duration::from_millis(20)).await;
    }
    reads
}

/// A writer that is killed at random moments: what it was answered is there, exactly once.
pub async fn a_killed_writer(database_url: &str, kills: u32, seed: u64) -> String {
    let pool = PgPool::connect(database_url).await.unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let mut answered = Answers::new();
    for _ in 0..kills {
        let mut process = start_writer(database_url, &[]).await;
        // The pause is counted from the first answer, so that it falls into the work.
        let mut lines = BufReader::new(process.stdout.take().unwrap());
        let mut said = String::new();
        lines.read_line(&mut said).await.unwrap();
        let reading = tokio::spawn(async move {
            lines.read_to_string(&mut said).await.unwrap();
            said
        });
        tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await;
        process.kill().await.unwrap();
        answered.extend(parse_answers(&reading.await.unwrap()));
    }
    assert!(answered.len() as u32 > kills, "the writer was killed before it wrote anything");
    assert_found_once(&pool, &answered).await;
    format!("{kills} kills; {} answered commands, each found exactly once", answered.len())
}

/// Postgres killed under load, as if it lost power apart from the disk: what was answered is
/// there, exactly once, and the same ledger goes on when it is back.
pub async fn a_killed_postgres(kills: u32, seed: u64) -> String {
    let folder = tempfile::tempdir().unwrap();
    settle_port(folder.path(), "postgres");
    let mut postgres = EmbeddedPostgres::start(folder.path()).await.unwrap();
    let url = postgres.url().to_owned();
    careforall::migrate(&url).await.unwrap();
    let options = PgPoolOptions::new().max_connections(8).acquire_timeout(Duration::from_secs(2));
    let pool = options.connect(&url).await.unwrap();
    let ledger = Ledger::start(pool.clone());
    let mut random = StdRng::seed_from_u64(seed);
    let (mut answered, mut unanswered) = (Answers::new(), 0);
    for _ in 0..kills {
        let mut load = JoinSet::new();
        for _ in 0..32 {
            load.spawn(append_until_it_fails(ledger.clone()));
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(300..800))).await;
        kill(Pid::from_raw(postgres.pid().cast_signed()), Signal::SIGQUIT).unwrap();
        postgres.exited().await;
        drop(postgres);
        // For some of the time longer than the ledger tries by itself, for some shorter.
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1_500))).await;
        postgres = EmbeddedPostgres::start(folder.path()).await.unwrap();
        assert_eq!(postgres.url(), url, "Postgres came back elsewhere");
        for (found, failed) in completes("every caller has an answer", load.join_all()).await {
            answered.extend(found);
            unanswered += failed;
        }
    }
    let goes_on = async || {
        ledger.create::<Pledge>(Uuid::new_v4(), &new_pledge(), vec![], &Metadata::default(), None).await
    };
    eventually("the ledger goes on", goes_on, Result::is_ok).await.unwrap();
    assert_found_once(&pool, &answered).await;
    assert_no_open_transaction(&pool).await;
    pool.close().await;
    postgres.stop().await.unwrap();
    format!(
        "{kills} kills; {} answered commands, each found exactly once; {unanswered} refused",
        answered.len()
    )
}

/// Appends for up to two seconds, or until Postgres is out of reach.
async fn append_until_it_fails(ledger: Ledger) -> (Answers, u64) {
    let mut answered = Answers::new();
    let started = std::time::Instant::now();
    while started.elapsed() < Duration::from_secs(2) {
        let id = Uuid::new_v4();
        match ledger.create::<Pledge>(id, &new_pledge(), vec![], &Metadata::default(), None).await {
            Ok(executed) => {
                answered.insert(id, executed.position);
            }
            Err(ExecuteError::Append(AppendError::Unavailable(_))) => return (answered, 1),
            Err(error) => panic!("{error}"),
        }
    }
    (answered, 0)
}

/// `leavers` callers leave at random moments, while others stay: nothing is half done, and no transaction
/// stays open.
pub async fn callers_that_leave(database_url: &str, leavers: u32, seed: u64) -> String {
    let pool = PgPoolOptions::new().max_connections(8).connect(database_url).await.unwrap();
    let ledger = Ledger::start(pool.clone());
    let mut random = StdRng::seed_from_u64(seed);
    let (mut answered, mut left) = (Answers::new(), 0_u32);
    while left < leavers {
        let mut together = JoinSet::new();
        for _ in 0..50 {
            // Where the machine is busy, nobody would stay who leaves so soon.
            let leaves = random.random_bool(0.8);
            let leaves_after = Duration::from_micros(random.random_range(0..2_000));
            let (ledger, patience) = (ledger.clone(), if leaves { leaves_after } else { PATIENCE });
            together.spawn(async move {
                let id = Uuid::new_v4();
                let command = new_pledge();
                let metadata = Metadata::default();
                let call = ledger.create::<Pledge>(id, &command, vec![], &metadata, None);
                tokio::time::timeout(patience, call).await.ok().map(|made| (id, made.unwrap().position))
            });
        }
        for outcome in together.join_all().await {
            match outcome {
                Some((id, position)) => {
                    answered.insert(id, position);
                }
                None => left += 1,
            }
        }
        assert!(answered.len() < 100 * leavers as usize, "hardly anybody leaves: {left}");
    }
    assert!(!answered.is_empty(), "nobody stayed");
    assert_found_once(&pool, &answered).await;
    assert_no_open_transaction(&pool).await;
    format!("{left} callers left, {} stayed; nothing half done, no transaction open", answered.len())
}

async fn start_writer(database_url: &str, flags: &[&str]) -> Child {
    Command::new(program("ledger-writer").await)
        .args(["--database-url", database_url])
        .args(flags)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn all_answers(mut process: Child) -> Answers {
    let mut said = String::new();
    process.stdout.take().unwrap().read_to_string(&mut said).await.unwrap();
    assert!(process.wait().await.unwrap().success(), "a writer failed");
    parse_answers(&said)
}

/// The whole lines; one that was cut off by a kill is no answer.
fn parse_answers(said: &str) -> Answers {
    let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|line| {
            let (id, position) = line.split_once(' ').unwrap();
            (id.parse().unwrap(), position.parse().unwrap())
        })
        .collect()
}

/// Every answered command is in the ledger once, where its answer said, and there is no hole.
async fn assert_found_once(pool: &PgPool, answered: &Answers) {
    // One statement sees one moment. What those who left had handed in may still be on its way.
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "select e.aggregate_id, e.position, h.position from events e, ledger_head h order by e.position",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let holes = (1..).zip(&rows).filter(|(expected, (_, position, _))| expected != position).count();
    assert_eq!(holes, 0, "positions are not contiguous");
    assert!(
        rows.iter().all(|(.., head)| *head == rows.len() as i64),
        "the head is another than the last event"
    );
    let mut found: HashMap<Uuid, Vec<i64>> = HashMap::new();
    for (id, position, _) in rows {
        found.entry(id.parse().unwrap()).or_default().push(position);
    }
    for (id, position) in answered {
        assert_eq!(found.get(id), Some(&vec![*position]), "pledge {id}");
    }
}

async fn assert_no_open_transaction(pool: &PgPool) {
    let open = async || -> i64 {
        let sql = "select count(*) from pg_stat_activity
                   where datname = current_database() and state like 'idle in transaction%'";
        sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
    };
    // One that is at work is between two statements for a moment; one that was left open stays.
    eventually("no transaction is open", open, |open| *open == 0).await;
}
