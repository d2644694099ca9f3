//! Too much at once, and a database that is gone: a clear answer in time, flat memory, and
//! everything as before afterwards.

use careforall::embedded::EmbeddedPostgres;
use careforall_tests::{Client, Program, TestApp, eventually, redis_url, settle_port};
use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use sqlx::PgPool;
use tokio::task::JoinSet;
use uuid::Uuid;

/// More than a service works on at once.
const REQUESTS: usize = 2_300;

#[tokio::test(flavor = "multi_thread")]
async fn more_than_can_be_queued_is_refused_at_once_and_memory_stays_flat() {
    let (program, database_url) = Program::up_on_shared_servers().await;
    let pool = PgPool::connect(&database_url).await.unwrap();
    let campaign = program.client.campaign().await;

    let mut resident_kb = Vec::new();
    for wave in 0..3 {
        let before = event_store::head(&pool).await.unwrap();
        let made = overload(&program.client, &pool, campaign, wave).await;
        let appended = event_store::head(&pool).await.unwrap() - before;
        assert_eq!(appended, made, "as many events as answers of success");
        resident_kb.push(resident(program.child.id().unwrap()));
    }
    // The first wave opens what is then used again.
    assert!(resident_kb[2] < resident_kb[0] * 5 / 4, "memory grows: {resident_kb:?}");
}

/// Holds the ledger up, sends more than fits, lets go; returns how many pledges were made.
async fn overload(client: &Client, pool: &PgPool, campaign: Uuid, wave: usize) -> i64 {
    let mut held = pool.begin().await.unwrap();
    sqlx::query("select from ledger_head for update").execute(&mut *held).await.unwrap();
    let mut requests = JoinSet::new();
    for n in 0..REQUESTS {
        let body = Client::pledge_body(campaign, 100, "ada@example.org");
        let key = format!("{wave}-{n}");
        let request = client.request(reqwest::Method::POST, "/api/pledges").header("idempotency-key", key);
        let request = request.json(&body);
        let again = request.try_clone().unwrap();
        requests.spawn(async move {
            match request.send().await {
                Ok(response) => response,
                // The answer of a service that is overloaded may be lost with its connection. The key makes
                // it safe to ask again.
                Err(_) => again.send().await.unwrap(),
            }
        });
    }
    let (mut made, mut refused) = (0, 0);
    let mut held = Some(held);
    while let Some(response) = requests.join_next().await {
        let response = response.unwrap();
        match response.status() {
            StatusCode::CREATED => made += 1,
            StatusCode::SERVICE_UNAVAILABLE => {
                assert!(response.headers().contains_key(RETRY_AFTER));
                refused += 1;
            }
            status => panic!("{status}: {:?}", response.text().await),
        }
        // Once there were refusals, the ledger may go on.
        if refused >= 100
            && let Some(held) = held.take()
        {
            held.rollback().await.unwrap();
        }
    }
    assert!(made >= 1_000, "whatever was taken is done: {made} made, {refused} refused");
    made
}

/// Resident memory in kilobytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgres_the_answer_is_503_and_all_is_well_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    settle_port(folder.path(), "postgres");
    let postgres = EmbeddedPostgres::start(folder.path()).await.unwrap();
    let url = postgres.url().to_owned();
    let app = TestApp::start_on(url.clone(), redis_url().await, &[]).await;
    let campaign = app.campaign().await;
    let body = Client::pledge_body(campaign, 5_000, "ada@example.org");
    assert_eq!(app.post_pledge("before", &body).await.status(), StatusCode::CREATED);
    let before = event_store::head(&app.pool).await.unwrap();
    app.pool.close().await;

    postgres.stop().await.unwrap();
    let refused: Response = app.post_pledge("during", &body).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key(RETRY_AFTER));

    let postgres = EmbeddedPostgres::start(folder.path()).await.unwrap();
    assert_eq!(postgres.url(), url, "Postgres came back elsewhere");
    let again = async || app.post_pledge("during", &body).await.status();
    eventually("the pledge is made", again, |status| *status == StatusCode::CREATED).await;
    // However often it was asked for, and whether or not a first attempt got through: one pledge.
    let pool = PgPool::connect(&url).await.unwrap();
    assert_eq!(event_store::head(&pool).await.unwrap(), before + 1);
    pool.close().await;
    drop(app);
    postgres.stop().await.unwrap();
}
