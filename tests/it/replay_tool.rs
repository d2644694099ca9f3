//! The auditor finds what was tampered with.

use careforall_tests::{TestApp, replay};
use sqlx::Executor;
use uuid::Uuid;

/// A system with one captured gift, quiet.
async fn quiet_system() -> (TestApp, Uuid) {
    let mut app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    app.fact("payment.captured", pledge, "pay_1", 5000).await;
    app.totals_with(campaign, "/raised_minor", 5000).await;
    app.assert_verified().await;
    app.stop().await;
    (app, campaign)
}

async fn assert_found(app: &TestApp, expected: &str) {
    let (code, said) =
        replay(&["--database-url", &app.database_url, "--redis-url", &app.redis_url, "verify"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(expected), "{expected:?} is not in: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_row_in_a_read_table_is_found() {
    for (statement, expected) in [
        ("update campaign_totals set raised_minor = raised_minor + 1", "campaign_totals: raised_minor"),
        ("update pledges set amount_minor = 1", "pledges: amount_minor"),
        ("update donations set amount_minor = 1", "donations: amount_minor"),
        ("update campaigns set status = 'closed'", "campaigns: status"),
        ("delete from pledge_history where position = 3", "pledge_history: rows"),
    ] {
        let (app, _) = quiet_system().await;
        app.pool.execute(statement).await.unwrap();
        assert_found(&app, expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_total_in_redis_is_found() {
    let (app, campaign) = quiet_system().await;
    let client = redis::Client::open(app.redis_url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let key: Vec<String> = redis::cmd("KEYS")
        .arg(format!("careforall:*{campaign}*"))
        .query_async(&mut connection)
        .await
        .unwrap();
    redis::cmd("HSET").arg(&key[0]).arg("raised_minor").arg(1).exec_async(&mut connection).await.unwrap();
    assert_found(&app, "Redis: raised_minor").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_ledger_is_found() {
    for (statement, expected) in [
        (
            "update events set payload = replace(payload::text, '5000', '6000')::json where position = 3",
            "the ledger says 6000",
        ),
        ("delete from events where position = 4", "position 4 is missing"),
        ("update events set position = 99 where position = 5", "position 5 is missing"),
        (
            "update events set payload = replace(payload::text, 'PledgeAuthorized', 'PledgeExpired')::json
             where position = 4",
            "position 4 cannot be understood",
        ),
        (
            "update events set payload = replace(payload::text, 'PledgeAuthorized', 'PledgeExpired')::json,
                 event_type = 'PledgeExpired' where position = 4",
            "position 5: PledgeCaptured is no edge",
        ),
        (
            "update events set recorded_at = recorded_at - interval '1 day' where position = 4",
            "its time is before",
        ),
    ] {
        let (app, _) = quiet_system().await;
        // Only who owns the database can do this.
        app.pool.execute("alter table events disable trigger all").await.unwrap();
        app.pool.execute(statement).await.unwrap();
        assert_found(&app, expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_checked_is_not_called_well() {
    let (code, said) = replay(&["--data-dir", "/nonexistent", "verify"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("careforall up"), "{said}");
    let (app, _) = quiet_system().await;
    let (code, said) =
        replay(&["--database-url", &app.database_url, "--redis-url", "redis://127.0.0.1:1", "verify"]).await;
    assert_eq!(code, Some(2), "{said}");
    let id = Uuid::new_v4().to_string();
    let (code, said) = replay(&["--database-url", &app.database_url, "show", "pledge", &id]).await;
    assert_eq!(code, Some(1), "{said}");
}
