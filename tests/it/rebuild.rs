//! Projections that are built anew while the system runs.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use careforall_tests::projection_faults::{RebuildUnderLoad, rebuild_while_others_work};
use careforall_tests::{
    Lives, TestApp, all_folded, assert_books_agree, completes, eventually, program, replay,
};
use read_model::Projection;
use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection, PgPool};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

async fn rebuild(app: &TestApp, arguments: &[&str]) -> (Option<i32>, String) {
    let mut all = vec!["--database-url", &app.database_url, "rebuild"];
    all.extend(arguments);
    replay(&all).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_projection_is_rebuilt_while_others_read_and_write() {
    let load = RebuildUnderLoad { before: 2_000, rate: 500.0, at_least: Duration::ZERO };
    rebuild_while_others_work(load, 1).await;
}

/// The schema without its rows: columns, indexes, constraints, rights and views.
async fn shape(pool: &PgPool) -> BTreeSet<String> {
    let shape: Vec<String> = sqlx::query_scalar(
        "select format('%s.%s.%s %s %s', table_schema, table_name, column_name, data_type, column_default)
         from information_schema.columns where table_schema not in ('pg_catalog', 'information_schema')
         union all select indexdef from pg_indexes where schemaname = 'public'
         union all select format('%s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
             from pg_constraint where connamespace = 'public'::regnamespace
         union all select format('%s %s %s', c.oid::regclass, a.grantee::regrole, a.privilege_type)
             from pg_class c, aclexplode(c.relacl) a
             where relnamespace = 'public'::regnamespace and relkind in ('r', 'v')
         union all select format('%s %s', oid::regclass, reloptions::text) from pg_class
             where relnamespace = 'public'::regnamespace and relkind in ('r', 'v')
         union all select format('%s %s', viewname, definition) from pg_views where schemaname = 'public'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    shape.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_table_is_told_of_and_put_right_on_request() {
    let app = TestApp::start().await;
    let mut lives = Lives::start(app.pool.clone(), 1, 3).await;
    lives.append(100).await;
    all_folded(&app.pool).await;
    let before = shape(&app.pool).await;
    let campaign = lives.campaigns[0];
    let right: i64 = sqlx::query_scalar("select raised_minor from campaign_totals where campaign_id = $1")
        .bind(campaign)
        .fetch_one(&app.pool)
        .await
        .unwrap();
    let ask = async || app.totals_now(campaign).await.1;
    let is_right = |totals: &Value| totals["raised_minor"] == right && totals["source"] == "redis";
    eventually("Redis has what the read table has", ask, is_right).await;
    sqlx::query("update campaign_totals set raised_minor = raised_minor + 7 where campaign_id = $1")
        .bind(campaign)
        .execute(&app.pool)
        .await
        .unwrap();
    // Redis takes the wrong row over, as it does when it was wiped.
    let client = redis::Client::open(app.redis_url.as_str()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let key: Vec<String> =
        redis::cmd("KEYS").arg(format!("careforall:*{campaign}*")).query_async(&mut redis).await.unwrap();
    redis::cmd("HSET").arg(&key[0]).arg("raised_minor").arg(right + 7).exec_async(&mut redis).await.unwrap();

    let (code, said) = rebuild(&app, &["campaign_totals"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("campaign_totals: 3 rows live, 3 built"), "{said}");
    assert!(said.contains(&campaign.to_string()) && said.contains("--accept-differences"), "{said}");
    assert_eq!(app.totals_now(campaign).await.1["raised_minor"], right + 7, "nothing was switched");
    let (code, said) = rebuild(&app, &["campaign_totals", "--accept-differences"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("going on behind position"), "{said}");
    eventually("Redis is put right", ask, is_right).await;
    app.assert_verified().await;

    for projection in Projection::ALL {
        let (code, said) = rebuild(&app, &[projection.name()]).await;
        assert_eq!(code, Some(0), "{said}");
    }
    let after = shape(&app.pool).await;
    let changed: Vec<_> = before.symmetric_difference(&after).collect();
    assert!(changed.is_empty(), "not as it was before: {changed:?}");
    // Views read the new tables: what comes now is in them.
    lives.append(20).await;
    assert_books_agree(&app.pool).await;
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_rebuild_goes_on_where_it_was_and_one_runs_at_a_time() {
    let app = TestApp::start().await;
    let mut lives = Lives::start(app.pool.clone(), 1, 3).await;
    lives.append(100).await;
    all_folded(&app.pool).await;
    // A reader that does not finish: the switch finds no moment for itself.
    let mut reader = PgConnection::connect(&app.database_url).await.unwrap();
    reader.execute("begin").await.unwrap();
    reader.execute("select * from pledges limit 1").await.unwrap();
    let mut running = Command::new(program("replay").await)
        .args(["--database-url", &app.database_url, "rebuild", "pledges"])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(running.stderr.take().unwrap()).lines();
    let switching = async {
        while !lines.next_line().await.unwrap().expect("it goes on").starts_with("switching over") {}
    };
    completes("the rebuild wants to switch over", switching).await;
    let (code, said) = rebuild(&app, &["pledges"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("another run is rebuilding pledges"), "{said}");
    // Readers and the live projector are not held up meanwhile.
    lives.append(20).await;
    all_folded(&app.pool).await;
    assert!(running.try_wait().unwrap().is_none(), "they waited until the rebuild gave up");
    running.kill().await.unwrap();
    reader.execute("rollback").await.unwrap();

    let ask = async || rebuild(&app, &["pledges"]).await;
    let (_, said) = eventually("the rebuild ends well", ask, |(code, _)| *code == Some(0)).await;
    assert!(said.contains("going on behind position"), "{said}");
    assert_books_agree(&app.pool).await;
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_rebuilds_and_nothing_is_lost_unseen() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    app.totals_with(campaign, "/raised_minor", 0).await;
    let auditor = format!("{}?options[role]=careforall_auditor", app.database_url);
    let (code, said) = replay(&["--database-url", &auditor, "rebuild", "pledges"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("careforall_auditor does not own the table"), "{said}");
    app.pool
        .execute(
            "create trigger kept before insert on pledges for each statement execute function refuse_change()",
        )
        .await
        .unwrap();
    let (code, said) = rebuild(&app, &["pledges"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("trigger kept stands on"), "{said}");
    let (code, said) = rebuild(&app, &["nonsense"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("possible values"), "{said}");
}
