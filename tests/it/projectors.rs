//! Projectors that stop, hang, and find Redis in another state than they left it.

use std::collections::BTreeSet;
use std::time::Duration;

use careforall_tests::projection_faults::Fire;
use careforall_tests::{
    Client, Lives, PrivateRedis, Program, RedisCluster, TestApp, assert_books_agree, completes, eventually,
    fresh_database, projection_faults,
};
use event_store::{Append, Condition, Ledger, NewEvent, StreamEvents};
use read_model::Projection;
use redis::AsyncCommands;
use serde_json::Value;
use sqlx::{Executor, PgPool};
use uuid::Uuid;

const SEED: u64 = 1;

/// Waits until Redis answers for a campaign, and returns the totals.
pub(crate) async fn from_redis(app: &Client, campaign: Uuid) -> Value {
    let ask = async || app.totals_now(campaign).await.1;
    eventually("totals come from Redis", ask, |totals| totals["source"] == "redis").await
}

/// The entry of a projector in `/projectors`.
async fn status(app: &Client, name: &str) -> Value {
    let (code, all) = app.get("/projectors").await;
    assert_eq!(code, 200, "{all}");
    let found = all.as_array().unwrap().iter().find(|one| one["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not among {all}")).clone()
}

async fn stopped(app: &Client, name: &str) -> Value {
    let what = format!("{name} is stopped");
    eventually(what, async || status(app, name).await, |one| one["status"] == "stopped").await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_money_agrees_in_totals_accounts_days_and_donors() {
    let app = TestApp::start().await;
    let mut lives = Lives::start(app.pool.clone(), SEED, 4).await;
    lives.append(600).await;
    assert_books_agree(&app.pool).await;
    app.assert_verified().await;
    // The database itself refuses books that do not add up to zero.
    let refused = app.pool.execute("update campaign_accounts set bank_minor = bank_minor + 1").await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("campaign_accounts_are_balanced"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_not_understood_stops_those_that_need_it_and_no_other() {
    // In a process of its own, since metrics belong to a process.
    let (program, database_url) = Program::up_on_shared_servers().await;
    let (app, pool) = (&program.client, PgPool::connect(&database_url).await.unwrap());
    let campaign = app.campaign().await;
    from_redis(app, campaign).await;
    let understood = event_store::head(&pool).await.unwrap();
    let event = NewEvent {
        event_type: "PledgeTransmogrified".to_owned(),
        event_version: "1".to_owned(),
        payload: r#"{"PledgeTransmogrified":{}}"#.to_owned(),
        metadata: "{}".to_owned(),
        claim: None,
    };
    let stream = Condition { aggregate_type: "pledge", aggregate_id: Uuid::new_v4(), sequence: 0 };
    let append = Append {
        command_id: Uuid::new_v4(),
        streams: vec![StreamEvents { stream, events: vec![event], donor: None }],
        conditions: vec![],
    };
    Ledger::start(pool.clone()).append(append).await.unwrap();
    app.pledge(campaign, 5000, "ada@example.org").await;
    let later = app.campaign().await;

    // Campaigns do without events of pledges, and voids without those of other names.
    let undisturbed = [Projection::Campaigns.name(), "void_cancelled"];
    let all: BTreeSet<&str> = projectors::checkpoints().map(|(name, _)| name).collect();
    for name in all.iter().filter(|name| !undisturbed.contains(name)) {
        let one = stopped(app, name).await;
        assert_eq!(one["position"], understood, "nothing behind the event is folded: {one}");
        assert_eq!(one["blocked_position"], understood + 1, "{one}");
        assert!(one["reason"].as_str().unwrap().contains("PledgeTransmogrified"), "{one}");
        assert!(one["lag_events"].as_i64().unwrap() >= 3, "{one}");
    }
    let head = event_store::head(&pool).await.unwrap();
    for name in undisturbed {
        let ask = async || status(app, name).await;
        let one = eventually(format!("{name} is at {head}"), ask, |one| one["position"] == head).await;
        assert_eq!((&one["status"], &one["reason"]), (&"running".into(), &Value::Null));
    }
    let (_, shown) = app.get("/projectors").await;
    assert_eq!(
        shown.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect::<BTreeSet<_>>(),
        all
    );
    assert_eq!(app.get(&format!("/api/campaigns/{later}")).await.0, 200);
    let metrics = async || {
        let answer = app.request(reqwest::Method::GET, "/metrics").send().await.unwrap();
        answer.text().await.unwrap()
    };
    let expected = [
        format!("projector_blocked_position{{projector=\"pledges\"}} {}", understood + 1),
        "projector_blocked_position{projector=\"campaigns\"} 0".to_owned(),
        "projector_stopped{projector=\"days\"} 1".to_owned(),
        format!("projector_lag_events{{projector=\"accounts\"}} {}", head - understood),
    ];
    let what = format!("{expected:?} are among the metrics");
    eventually(what, metrics, |all| expected.iter().all(|line| all.contains(line))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_one_projector_cannot_fold_stops_that_one_alone() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    app.pool
        .execute("alter table donations add constraint no_sevens check (amount_minor <> 7777)")
        .await
        .unwrap();
    let mut pledges = Vec::new();
    for minor in [100, 200, 7777, 300] {
        pledges.push((app.pledge(campaign, minor, "ada@example.org").await, minor));
    }
    for (n, (pledge, minor)) in pledges.into_iter().enumerate() {
        app.fact("payment.captured", pledge, &format!("pay_{n}"), minor).await;
    }
    // The others go on.
    app.totals_with(campaign, "/raised_minor", 8377).await;
    let one = stopped(&app, "pledges").await;
    assert!(one["reason"].as_str().unwrap().contains("no_sevens"), "{one}");
    let blocked = one["blocked_position"].as_i64().unwrap();
    let capture: i64 =
        sqlx::query_scalar("select position from events where payload::text like '%Captured%7777%'")
            .fetch_one(&app.pool)
            .await
            .unwrap();
    // Events before it in the same batch are folded.
    assert_eq!((blocked, &one["position"]), (capture, &Value::from(capture - 1)));

    app.pool.execute("alter table donations drop constraint no_sevens").await.unwrap();
    let ask = async || status(&app, "pledges").await;
    let caught_up = |one: &Value| one["status"] == "running" && one["lag_events"] == 0;
    eventually("the projector goes on by itself", ask, caught_up).await;
    assert_books_agree(&app.pool).await;
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_stopped_past_its_lease_and_continued_does_no_harm() {
    projection_faults::a_stopped_worker_that_goes_on(SEED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_once_under_fire() {
    let fire = Fire { events: 4_000, kills: 4, redis_restarts: 1, postgres_kills: 1 };
    projection_faults::exactly_once_under_fire(fire, SEED).await;
}

/// Asks for a campaign's totals until `until` is answered, and returns where they came from, in order.
async fn sources(app: &TestApp, campaign: Uuid, raised_minor: i64) -> Vec<String> {
    let mut sources: Vec<String> = Vec::new();
    while sources.last().map(String::as_str) != Some("redis") || sources.len() < 2 {
        let (status, totals) = app.totals_now(campaign).await;
        assert_eq!(status, 200, "{totals}");
        assert_eq!(totals["raised_minor"], raised_minor, "the total went back: {totals}");
        let source = totals["source"].as_str().unwrap().to_owned();
        if sources.last() != Some(&source) {
            sources.push(source);
        }
    }
    sources
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_snapshot_of_redis_is_healed_and_never_shown() {
    let mut redis = PrivateRedis::start().await;
    let app = TestApp::start_on(fresh_database().await, redis.url().to_owned(), &[]).await;
    let (campaign, quiet) = (app.campaign().await, app.campaign().await);
    let first = app.pledge(campaign, 5000, "ada@example.org").await;
    app.fact("payment.captured", first, "pay_1", 5000).await;
    app.totals_with(campaign, "/raised_minor", 5000).await;
    from_redis(&app, quiet).await;
    redis.save().await;
    let second = app.pledge(campaign, 2000, "bob@example.org").await;
    app.fact("payment.captured", second, "pay_2", 2000).await;
    let ask = async || app.totals_now(campaign).await.1;
    let now = |totals: &Value| totals["raised_minor"] == 7000 && totals["source"] == "redis";
    eventually("Redis has the second gift", ask, now).await;

    redis.stop().await;
    let started = redis.start_again();
    let seen = completes("Redis answers again", sources(&app, campaign, 7000));
    let (seen, ()) = tokio::join!(seen, started);
    assert_eq!(seen, ["read_table", "redis"], "until it was healed, the fallback answered");
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_wiped_under_load_gets_back_what_is_quiet() {
    let redis = PrivateRedis::start().await;
    let app = TestApp::start_on(fresh_database().await, redis.url().to_owned(), &[]).await;
    let quiet = app.campaign().await;
    let busy = app.campaign().await;
    from_redis(&app, quiet).await;
    let mut lives = Lives::start(app.pool.clone(), SEED, 1).await;
    let wiping = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        redis.flush_all().await;
    };
    tokio::join!(lives.append(600), wiping);
    for campaign in [quiet, busy] {
        from_redis(&app, campaign).await;
    }
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_of_a_ledger_that_was_restored_replace_those_of_its_lost_future() {
    let redis = PrivateRedis::start().await;
    let mut app = TestApp::start_on(fresh_database().await, redis.url().to_owned(), &[]).await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    app.fact("payment.captured", pledge, "pay_1", 5000).await;
    app.totals_with(campaign, "/raised_minor", 5000).await;
    app.at_rest().await;
    from_redis(&app, campaign).await;
    app.stop().await;
    // As if Redis had seen much more before the ledger was restored.
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = connection.keys("*").await.unwrap();
    for key in keys {
        if key.ends_with(":totals") {
            let future = [("position", "9000"), ("raised_minor", "999999")];
            let _: () = connection.hset_multiple(key, &future).await.unwrap();
        } else {
            let _: () = connection.set(key, "3:700:9000").await.unwrap();
        }
    }
    let app = TestApp::start_on(app.database_url.clone(), redis.url().to_owned(), &[]).await;
    // Not asked of the API: it would remember the future for as long as it runs.
    let raised = async || -> Option<String> {
        let keys: Vec<String> = connection.clone().keys("*:totals").await.unwrap();
        connection.clone().hget(keys.first()?, "raised_minor").await.unwrap()
    };
    eventually("Redis has what is raised", raised, |raised| raised.as_deref() == Some("5000")).await;
    assert_eq!(from_redis(&app, campaign).await["raised_minor"], 5000);
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_cluster_holds_the_totals_by_slot_and_each_node_is_healed() {
    let mut cluster = RedisCluster::start().await;
    let app = TestApp::start_on(fresh_database().await, cluster.url(), &[]).await;
    let mut campaigns = Vec::new();
    for n in 0..12 {
        let campaign = app.campaign().await;
        let pledge = app.pledge(campaign, 1000 + n, "ada@example.org").await;
        app.fact("payment.captured", pledge, &format!("pay_{n}"), 1000 + n).await;
        campaigns.push((campaign, 1000 + n));
    }
    // Ids fall anywhere. Of forty campaigns some are on every node, but for once in millions of runs.
    for _ in 0..28 {
        campaigns.push((app.campaign().await, 0));
    }
    let all_from_redis = async || {
        for (campaign, minor) in &campaigns {
            let ask = async || app.totals_now(*campaign).await.1;
            let right = |totals: &Value| totals["raised_minor"] == *minor && totals["source"] == "redis";
            eventually(format!("Redis says that {minor} is raised"), ask, right).await;
        }
    };
    all_from_redis().await;
    let keys = cluster.keys().await;
    assert!(keys.iter().all(|keys| keys.iter().any(|key| key.ends_with(":totals"))), "{keys:?}");
    assert!(keys.iter().all(|keys| keys.iter().any(|key| key.ends_with(":written-to"))), "{keys:?}");
    app.assert_verified().await;

    for node in 0..3 {
        cluster.restart_empty(node).await;
        all_from_redis().await;
    }
    app.assert_verified().await;
}
