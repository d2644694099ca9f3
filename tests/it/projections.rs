//! Totals and read tables: live, healed, and answered from where they can be had.

use careforall_tests::{PrivateRedis, TestApp, completes, eventually, fresh_database, redis_url};
use futures_util::StreamExt;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::projectors::from_redis;

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_redis_is_noticed_and_healed() {
    let redis = PrivateRedis::start().await;
    let app = TestApp::start_on(fresh_database().await, redis.url().to_owned(), &[]).await;
    let (one, two) = (app.campaign().await, app.campaign().await);
    let pledge = app.pledge(one, 5000, "ada@example.org").await;
    app.fact("payment.captured", pledge, "pay_1", 5000).await;
    app.totals_with(one, "/raised_minor", 5000).await;
    app.at_rest().await;
    let before = from_redis(&app, one).await;
    from_redis(&app, two).await;

    redis.flush_all().await;
    // Nothing new happens to either campaign, and both come back as they were.
    for (campaign, expected) in [(one, 5000), (two, 0)] {
        assert_eq!(from_redis(&app, campaign).await["raised_minor"], expected);
    }
    assert_eq!(from_redis(&app, one).await, before);
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_the_read_table_answers() {
    let mut redis = PrivateRedis::start().await;
    let app = TestApp::start_on(fresh_database().await, redis.url().to_owned(), &[]).await;
    let campaign = app.campaign().await;
    let first = app.pledge(campaign, 5000, "ada@example.org").await;
    app.fact("payment.captured", first, "pay_1", 5000).await;
    app.totals_with(campaign, "/raised_minor", 5000).await;

    redis.stop().await;
    let second = app.pledge(campaign, 2000, "bob@example.org").await;
    app.fact("payment.captured", second, "pay_2", 2000).await;
    let ask = async || app.totals_now(campaign).await.1;
    let totals = eventually("both gifts count", ask, |totals| totals["raised_minor"] == 7000).await;
    assert_eq!((&totals["source"], &totals["donors"]), (&json!("read_table"), &json!(2)));
    let (status, ready) = app.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(ready["checks"]["redis"].as_str().unwrap().starts_with("down"), "{ready}");
    assert_eq!(ready["checks"]["postgres"], "ok");

    redis.start_again().await;
    let totals = from_redis(&app, campaign).await;
    assert_eq!(totals["raised_minor"], 7000);
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_see_the_total_move() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    app.totals_with(campaign, "/raised_minor", 0).await;
    let path = format!("/api/campaigns/{campaign}/totals/stream");
    let response = app.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut seen = String::new();
    let mut chunks = response.bytes_stream();
    let mut sees = async |news: &str| {
        while !seen.contains(news) {
            seen += std::str::from_utf8(&chunks.next().await.unwrap().unwrap()).unwrap();
        }
    };
    completes("the watcher sees what is there", sees("\"raised_minor\":0,")).await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    app.fact("payment.captured", pledge, "pay_1", 5000).await;
    completes("the total moves", sees("\"raised_minor\":5000,")).await;
    assert!(seen.starts_with("retry: ") && seen.contains("\nevent: totals\n"), "{seen}");
    let positions: Vec<i64> =
        seen.lines().filter_map(|line| line.strip_prefix("id: ")).map(|id| id.parse().unwrap()).collect();
    assert!(positions.is_sorted() && positions.len() >= 2, "{positions:?}");
    let missing = format!("/api/campaigns/{}/totals/stream", Uuid::new_v4());
    assert_eq!(app.get(&missing).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_donation_wall_shows_gifts_and_hides_who_wants_to_be_hidden() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let named = app.pledge(campaign, 5000, "ada@example.org").await;
    let mut body = careforall_tests::Client::pledge_body(campaign, 2000, "bob@example.org");
    body["anonymous"] = json!(true);
    let (_, made) = careforall_tests::answer(app.post_pledge("anon", &body).await).await;
    let anonymous: Uuid = made["pledge_id"].as_str().unwrap().parse().unwrap();
    // One donor gives twice and is one donor.
    let again = app.pledge(campaign, 1000, "ADA@example.org").await;
    for (n, (pledge, minor)) in [(named, 5000), (anonymous, 2000), (again, 1000)].into_iter().enumerate() {
        app.fact("payment.captured", pledge, &format!("pay_{n}"), minor).await;
        let ask = async || app.get(&format!("/api/pledges/{pledge}")).await.1;
        eventually("the pledge is captured", ask, |pledge| pledge["captured_minor"] == minor).await;
    }
    let totals = app.totals_with(campaign, "/raised_minor", 8000).await;
    assert_eq!(totals["donors"], 2);

    let path = format!("/api/campaigns/{campaign}/donations");
    let (_, wall) = app.get(&format!("{path}?limit=2")).await;
    let gifts = wall["items"].as_array().unwrap();
    assert_eq!(gifts[0]["amount"], json!({"amount_minor": 1000, "currency": "USD"}));
    assert_eq!(gifts[0]["donor_name"], "Ada Lovelace");
    assert_eq!((&gifts[1]["donor_name"], &gifts[1]["anonymous"]), (&json!(null), &json!(true)));
    let (_, rest) =
        app.get(&format!("{path}?limit=2&cursor={}", wall["next_cursor"].as_str().unwrap())).await;
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    assert!(rest["next_cursor"].is_null());
    // Anyone who holds a pledge's id may change it, so the wall shows none.
    let shown = format!("{wall}{rest}");
    for secret in [named, anonymous, again] {
        assert!(!shown.contains(&secret.to_string()));
    }
    assert!(!shown.contains("example.org"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_systems_on_one_ledger_count_everything_once() {
    let (database, redis) = (fresh_database().await, redis_url().await);
    let mut one = TestApp::start_on(database.clone(), redis.clone(), &[]).await;
    let two = TestApp::start_on(database, redis, &[]).await;
    let campaign = one.campaign().await;
    for n in 0..20 {
        let (pledging, paying) = if n % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let pledge = pledging.pledge(campaign, 100, &format!("donor{n}@example.org")).await;
        paying.fact("payment.captured", pledge, &format!("pay_{n}"), 100).await;
    }
    two.totals_with(campaign, "/raised_minor", 2000).await;
    // The one that holds the leases goes; the other takes over.
    one.stop().await;
    let pledge = two.pledge(campaign, 100, "last@example.org").await;
    two.fact("payment.captured", pledge, "pay_last", 100).await;
    let totals = two.totals_with(campaign, "/raised_minor", 2100).await;
    assert_eq!(totals["donors"], 21);
    two.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_lease_was_taken_changes_nothing() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    app.totals_with(campaign, "/raised_minor", 0).await;
    for n in 0..5 {
        // As another worker does when it takes over; the running one does not know yet.
        sqlx::query("update projector_checkpoints set lease_token = lease_token + 1")
            .execute(&app.pool)
            .await
            .unwrap();
        let pledge = app.pledge(campaign, 100, &format!("donor{n}@example.org")).await;
        app.fact("payment.captured", pledge, &format!("pay_{n}"), 100).await;
    }
    app.totals_with(campaign, "/raised_minor", 500).await;
    app.assert_verified().await;
}
