//! Provider webhooks: genuine, forged, doubled, early, late and wrong.

use std::time::Duration;

use careforall_tests::{Client, TestApp, answer, eventually, hostile};
use chrono::Utc;
use futures_util::future::join_all;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::projectors::from_redis;

async fn inbox_status(app: &TestApp, webhook_id: &str) -> Option<(String, Option<String>)> {
    sqlx::query_as("select status, reason from webhook_inbox where webhook_id = $1")
        .bind(webhook_id)
        .fetch_optional(&app.pool)
        .await
        .unwrap()
}

pub(crate) async fn inbox_with_status(app: &TestApp, webhook_id: &str, status: &str) -> Option<String> {
    let ask = async || inbox_status(app, webhook_id).await;
    let has_status = |row: &Option<(String, Option<String>)>| row.as_ref().is_some_and(|row| row.0 == status);
    eventually(format!("{webhook_id} is {status}"), ask, has_status).await.unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn authorized_then_captured_moves_the_total() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    app.fact("payment.authorized", pledge, "pay_1", 5000).await;
    app.fact("payment.captured", pledge, "pay_1", 5000).await;
    let totals = app.totals_with(campaign, "/raised_minor", 5000).await;
    assert_eq!((&totals["donors"], &totals["pledges"]["captured"]), (&json!(1), &json!(1)));
    assert_eq!(totals["goal_minor"], 100_000);
    from_redis(&app, campaign).await;

    app.fact("settlement.confirmed", pledge, "pay_1", 5000).await;
    let totals = app.totals_with(campaign, "/pledges/completed", 1).await;
    assert_eq!(totals["raised_minor"], 5000);
    app.assert_verified().await;
}

/// Messages that we make of answers have such ids. Who sent a message is a column, and no part of its id.
#[tokio::test(flavor = "multi_thread")]
async fn a_providers_message_is_read_as_such_whatever_its_id_looks_like() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    let body = Client::money_webhook("payment.captured", pledge, "pay_1", 5000);
    assert_eq!(app.webhook("asked_captured", &body).await.0, 200);
    inbox_with_status(&app, "asked_captured", "processed").await;
    app.totals_with(campaign, "/raised_minor", 5000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_webhook_twenty_times_at_once_counts_once() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    let body = Client::money_webhook("payment.captured", pledge, "pay_1", 5000);
    let answers = join_all((0..20).map(|_| app.webhook("msg_same", &body))).await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    assert_eq!(answers.iter().filter(|(_, body)| body["new"] == true).count(), 1);
    // The provider may also report the same fact under another id.
    app.fact("payment.captured", pledge, "pay_1", 5000).await;
    app.fact("payment.captured", pledge, "pay_1", 5000).await;
    app.totals_with(campaign, "/raised_minor", 5000).await;
    app.at_rest().await;
    assert_eq!(app.totals_at_head(campaign).await["raised_minor"], 5000);
    app.assert_verified().await;
}

/// A row that another process is inserting is visible only to those who insert the same one.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_another_process_is_inserting_is_known_and_fails_no_neighbour() {
    let app = TestApp::start().await;
    let pledge = app.pledge(app.campaign().await, 5000, "ada@example.org").await;
    let body = Client::money_webhook("payment.captured", pledge, "pay_1", 5000);
    let insert = async |webhook_id: &'static str| {
        let mut process = app.pool.begin().await.unwrap();
        sqlx::query(
            "insert into webhook_inbox (provider, origin, webhook_id, event_type, pledge_id, body)
             values ('sandbox', 'webhook', $1, 'payment.captured', $2, $3)",
        )
        .bind(webhook_id)
        .bind(pledge)
        .bind(body.to_string())
        .execute(&mut *process)
        .await
        .unwrap();
        process
    };
    let (kept, taken_back) = (insert("msg_kept").await, insert("msg_taken_back").await);
    let waiting = async |how_many: i64| {
        let ask = async || -> i64 {
            let sql = "select count(*) from pg_stat_activity where datname = current_database()
                       and wait_event_type = 'Lock' and query like 'insert into webhook_inbox%'";
            sqlx::query_scalar(sql).fetch_one(&app.pool).await.unwrap()
        };
        eventually(format!("{how_many} batches wait"), ask, |n| *n == how_many).await;
    };
    let let_go = async {
        waiting(1).await;
        // Until here the first stands alone; the others gather behind it and go together. Were this time too
        // short for them, they would go one after another, and be answered the same.
        tokio::time::sleep(Duration::from_millis(300)).await;
        taken_back.rollback().await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        waiting(1).await;
        kept.commit().await.unwrap();
    };
    let gathered = async {
        waiting(1).await;
        join_all(["msg_kept", "msg_fresh", "msg_fresh"].map(|id| app.webhook(id, &body))).await
    };
    let (first, gathered, ()) = tokio::join!(app.webhook("msg_taken_back", &body), gathered, let_go);
    assert_eq!(first.0, 200);
    assert_eq!(first.1["new"], true);
    assert!(gathered.iter().all(|(status, _)| *status == 200), "{gathered:?}");
    assert_eq!(gathered[0].1["new"], false, "msg_kept is there already");
    assert_eq!(gathered[1..].iter().filter(|(_, body)| body["new"] == true).count(), 1, "{gathered:?}");
    let rows: i64 =
        sqlx::query_scalar("select count(*) from webhook_inbox").fetch_one(&app.pool).await.unwrap();
    assert_eq!(rows, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn captured_before_authorized_counts_at_once() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    app.fact("payment.captured", pledge, "pay_1", 5000).await;
    app.totals_with(campaign, "/raised_minor", 5000).await;
    app.fact("payment.authorized", pledge, "pay_1", 5000).await;
    // Totals and histories are folded by themselves.
    app.pledge_with_status(pledge, "captured").await;
    let (_, history) = app.get(&format!("/api/pledges/{pledge}/history")).await;
    let states: Vec<&str> =
        history["items"].as_array().unwrap().iter().map(|e| e["status"].as_str().unwrap()).collect();
    assert_eq!(states, ["pending", "authorized", "captured"]);
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_old_and_malformed_webhooks_change_nothing() {
    let app = TestApp::start().await;
    let pledge = app.pledge(app.campaign().await, 5000, "ada@example.org").await;
    let head = app.head().await;
    let body = Client::money_webhook("payment.captured", pledge, "pay_1", 5000).to_string();
    let now = Utc::now().timestamp();

    let genuine = || app.signed_webhook("msg_1", now, body.as_bytes());
    let altered = genuine().body(body.replace("5000", "9000"));
    let other_id =
        HeaderMap::from_iter([(HeaderName::from_static("webhook-id"), HeaderValue::from_static("msg_2"))]);
    let renamed = genuine().headers(other_id);
    let unsigned = app.request(Method::POST, "/webhooks/sandbox").json(&json!({}));
    let old = app.signed_webhook("msg_1", now - 301, body.as_bytes());
    let early = app.signed_webhook("msg_1", now + 302, body.as_bytes());
    for (what, request) in
        [("altered", altered), ("renamed", renamed), ("unsigned", unsigned), ("old", old), ("early", early)]
    {
        let (status, problem) = answer(request.send().await.unwrap()).await;
        assert_eq!(status, 401, "{what}");
        assert_eq!(problem["type"], "urn:careforall:problem:bad-signature", "{what}");
    }

    let large = vec![b'x'; 2 * 1024 * 1024];
    let response = app.signed_webhook("msg_1", now, &large).send().await.unwrap();
    let (status, problem) = answer(response).await;
    assert_eq!(status, 413, "{problem}");

    let kind = |data: Value| json!({"type": "payment.captured", "timestamp": Utc::now(), "data": data});
    let bodies = [
        (r#"{"type": "payment.captured", "#.to_owned(), "line 1 column"),
        (r#"{"type": 7}"#.to_owned(), "type: "),
        (kind(json!({"payment_id": "p"})).to_string(), "pledge_id"),
        (body.replace("5000", "-5"), "data.amount"),
        (body.replace("5000", "1e400"), "data.amount"),
        (body.replace("USD", "usd"), "data.amount.currency"),
        (kind(json!({"pledge_id": {}})).to_string().replace("{}", &"[".repeat(30_000)), "line 1 column"),
        (json!({"type": "a\u{0}b", "timestamp": Utc::now(), "data": {}}).to_string(), "type: "),
        ("\u{0}".to_owned(), "line 1 column"),
    ];
    for (body, expected) in bodies {
        let response = app.signed_webhook("msg_1", now, body.as_bytes()).send().await.unwrap();
        let (status, problem) = answer(response).await;
        let shown: String = body.chars().take(100).collect();
        assert_eq!(status, 400, "{shown}");
        assert!(problem["detail"].as_str().unwrap().contains(expected), "{shown}: {problem}");
    }
    let stored: i64 =
        sqlx::query_scalar("select count(*) from webhook_inbox").fetch_one(&app.pool).await.unwrap();
    assert_eq!((app.head().await, stored), (head, 0));
}

/// `make soak` sends 20,000.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_are_refused_and_lead_to_nothing() {
    hostile::webhooks(1_500, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn genuine_but_unknown_types_are_kept_and_ignored() {
    let app = TestApp::start().await;
    let body = json!({"type": "customer.sneezed", "timestamp": Utc::now(), "data": {"tissue": true}});
    assert_eq!(app.webhook("msg_odd", &body).await.0, 200);
    assert_eq!(inbox_status(&app, "msg_odd").await.unwrap().0, "ignored");
    // However deep: nothing looks inside.
    let deep = body.to_string().replace("true", &format!("{}{}", "[".repeat(20_000), "]".repeat(20_000)));
    let now = Utc::now().timestamp();
    let response = app.signed_webhook("msg_deep", now, deep.as_bytes()).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(app.head().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fact_about_a_pledge_we_do_not_know_waits_for_it() {
    let app = TestApp::start().await;
    let body = Client::money_webhook("payment.captured", Uuid::new_v4(), "pay_1", 5000);
    assert_eq!(app.webhook("msg_lost", &body).await.0, 200);
    // Between two tries: what is changed during one is written over by its end.
    let ask = async || -> (i32, String, Option<String>, bool) {
        let sql = "select attempts, status, reason, coalesce(claimed_until > now(), false)
             from webhook_inbox where webhook_id = 'msg_lost'";
        sqlx::query_as(sql).fetch_one(&app.pool).await.unwrap()
    };
    let (_, status, reason, _) =
        eventually("it was tried twice", ask, |row| row.0 >= 2 && row.2.is_some() && !row.3).await;
    assert_eq!((status.as_str(), reason.as_deref()), ("pending", Some("there is no such pledge")));

    // After its last try it is a dead letter, with the reason.
    sqlx::query("update webhook_inbox set attempts = 11, next_attempt_at = now()")
        .execute(&app.pool)
        .await
        .unwrap();
    inbox_with_status(&app, "msg_lost", "dead").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_whose_capture_never_comes_is_for_review() {
    let app = TestApp::start().await;
    let pledge = app.pledge(app.campaign().await, 5000, "ada@example.org").await;
    let mut refund = Client::money_webhook("payment.refunded", pledge, "pay_1", 5000);
    refund["data"]["refund_id"] = json!("re_1");
    assert_eq!(app.webhook("msg_refund", &refund).await.0, 200);
    let waits = |row: &Option<(String, Option<String>)>| {
        row.as_ref().is_some_and(|row| row.0 == "pending" && row.1.is_some())
    };
    eventually("the refund waits", async || inbox_status(&app, "msg_refund").await, waits).await;
    sqlx::query("update webhook_inbox set attempts = 11, next_attempt_at = now()")
        .execute(&app.pool)
        .await
        .unwrap();
    let reason = inbox_with_status(&app, "msg_refund", "review").await.unwrap();
    assert!(reason.contains("capture of payment pay_1"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_contradicts_is_old_news_or_kept_for_review_and_moves_nothing() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    app.fact("payment.captured", pledge, "pay_1", 5000).await;
    app.totals_with(campaign, "/raised_minor", 5000).await;
    let head = app.head().await;

    let failed = json!({
        "type": "payment.failed", "timestamp": Utc::now(),
        "data": {"pledge_id": pledge, "payment_id": "pay_1", "reason": "card_declined"},
    });
    assert_eq!(app.webhook("msg_failed", &failed).await.0, 200);
    // What was captured stays: a failure after it is no end. The ledger keeps that it was said.
    inbox_with_status(&app, "msg_failed", "processed").await;
    app.pledge_with_status(pledge, "captured").await;
    assert_eq!(app.head().await, head + 1);

    let mut euros = Client::money_webhook("payment.captured", pledge, "pay_2", 5000);
    euros["data"]["amount"]["currency"] = json!("EUR");
    assert_eq!(app.webhook("msg_euros", &euros).await.0, 200);
    let reason = inbox_with_status(&app, "msg_euros", "review").await.unwrap();
    assert!(reason.contains("EUR"), "{reason}");
    assert_eq!(app.head().await, head + 1);
    assert_eq!(app.totals_at_head(campaign).await["raised_minor"], 5000);
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_then_captured_is_money_held_apart() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    let failed = json!({
        "type": "payment.failed", "timestamp": Utc::now(),
        "data": {"pledge_id": pledge, "payment_id": "pay_1"},
    });
    app.webhook("msg_failed", &failed).await;
    app.pledge_with_status(pledge, "failed").await;
    let captured = Client::money_webhook("payment.captured", pledge, "pay_1", 5000);
    app.webhook("msg_late", &captured).await;
    inbox_with_status(&app, "msg_late", "processed").await;
    let (_, output) = careforall_tests::replay(&[
        "--database-url",
        &app.database_url,
        "show",
        "pledge",
        &pledge.to_string(),
    ])
    .await;
    assert!(output.contains("PaymentUnapplied"), "{output}");
    app.assert_verified().await;
    assert_eq!(app.totals_at_head(campaign).await["raised_minor"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_are_read_in_every_line_and_by_the_names_of_svix() {
    let app = TestApp::start().await;
    let pledge = app.pledge(app.campaign().await, 5000, "ada@example.org").await;
    let body = Client::money_webhook("payment.captured", pledge, "pay_1", 5000).to_string();
    let genuine = app.signed_webhook("msg_1", Utc::now().timestamp(), body.as_bytes()).build().unwrap();
    let send = async |change: &dyn Fn(&mut HeaderMap)| {
        let mut request = genuine.try_clone().unwrap();
        change(request.headers_mut());
        let (status, body) = answer(app.http.execute(request).await.unwrap()).await;
        (status.as_u16(), body)
    };
    let good = genuine.headers()["webhook-signature"].clone();
    let other = HeaderValue::from_static("v1,AAAA");
    let renamed = |headers: &mut HeaderMap| {
        for (old, new) in
            [("id", "svix-id"), ("timestamp", "svix-timestamp"), ("signature", "svix-signature")]
        {
            let value = headers.remove(format!("webhook-{old}")).unwrap();
            headers.insert(new, value);
        }
    };
    assert_eq!(send(&renamed).await, (200, json!({"new": true})));
    for lines in [[&other, &good], [&good, &other]] {
        let several = |headers: &mut HeaderMap| {
            headers.remove("webhook-signature");
            for line in lines {
                headers.append("webhook-signature", line.clone());
            }
        };
        assert_eq!(send(&several).await, (200, json!({"new": false})));
    }
    let none = |headers: &mut HeaderMap| drop(headers.insert("webhook-signature", other.clone()));
    assert_eq!(send(&none).await.0, 401);
    for name in ["webhook-id", "webhook-timestamp"] {
        let twice = |headers: &mut HeaderMap| {
            let value = headers[name].clone();
            headers.append(name, value);
        };
        let (status, problem) = send(&twice).await;
        assert_eq!((status, &problem["type"]), (400, &json!("urn:careforall:problem:malformed")), "{name}");
    }
    app.pledge_with_status(pledge, "captured").await;
}
