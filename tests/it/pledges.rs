//! Pledges over HTTP.

use std::time::Duration;

use careforall_tests::{Client, TestApp, answer, eventually};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_twice_is_one_pledge_and_the_same_answer() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let body = Client::pledge_body(campaign, 5000, "ada@example.org");

    let first = app.post_pledge("key-1", &body).await;
    assert!(!first.headers().contains_key("idempotency-hit"));
    let (status, first) = answer(first).await;
    assert_eq!(status, 201);
    assert_eq!(first["status"], "pending");
    let pledge = first["pledge_id"].as_str().unwrap();
    assert!(first["payment_url"].as_str().unwrap().ends_with(&format!("/pay/{pledge}")));

    // The pledge moves on, and the campaign closes: a retry still gets the first answer.
    app.fact("payment.authorized", pledge.parse().unwrap(), "pay_1", 5000).await;
    app.pledge_with_status(pledge.parse().unwrap(), "authorized").await;
    app.organiser_post(&format!("/api/campaigns/{campaign}/close")).await;
    let again = app.post_pledge("key-1", &body).await;
    assert_eq!(again.headers()["idempotency-hit"], "true");
    assert_eq!(answer(again).await, (status, first.clone()));

    let head = app.head().await;
    for (field, value) in [
        ("/amount/amount_minor", json!(5001)),
        ("/donor/name", json!("Somebody else")),
        ("/message", json!("Another message")),
    ] {
        let mut other = body.clone();
        *other.pointer_mut(field).unwrap() = value;
        let (status, problem) = answer(app.post_pledge("key-1", &other).await).await;
        assert_eq!(status, 422, "{field}");
        assert_eq!(problem["type"], "urn:careforall:problem:idempotency-key-reused");
    }
    assert_eq!(app.head().await, head);
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_at_once_under_one_key_make_one_pledge() {
    let app = TestApp::start().await;
    let body = Client::pledge_body(app.campaign().await, 5000, "ada@example.org");
    let head = app.head().await;
    let posted = join_all((0..20).map(|_| app.post_pledge("key-1", &body))).await;
    let mut fresh = 0;
    let mut bodies = Vec::new();
    for response in posted {
        fresh += usize::from(!response.headers().contains_key("idempotency-hit"));
        let (status, body) = answer(response).await;
        assert_eq!(status, 201, "{body}");
        bodies.push(body);
    }
    assert_eq!(fresh, 1);
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    assert_eq!(app.head().await, head + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_pledges_change_nothing() {
    let app = TestApp::start().await;
    let open = app.campaign().await;
    let draft = app.draft().await;
    let closed = app.campaign().await;
    app.organiser_post(&format!("/api/campaigns/{closed}/close")).await;
    // The open campaign is remembered by now, and is found closed all the same.
    let closed_later = app.campaign().await;
    app.pledge(closed_later, 100, "bob@example.org").await;
    app.organiser_post(&format!("/api/campaigns/{closed_later}/close")).await;
    let head = app.head().await;

    let good = Client::pledge_body(open, 5000, "ada@example.org");
    let with = |field: &str, value: serde_json::Value| {
        let mut body = good.clone();
        *body.pointer_mut(field).unwrap() = value;
        body
    };
    let cases = [
        (with("/amount/amount_minor", json!(0)), 422, Some("amount.amount_minor")),
        (with("/amount/amount_minor", json!(-5)), 422, Some("amount.amount_minor")),
        (with("/amount/amount_minor", json!(i64::MAX)), 422, Some("amount.amount_minor")),
        (with("/amount/currency", json!("EUR")), 422, Some("amount.currency")),
        (with("/amount/currency", json!("dollars")), 422, Some("amount.currency")),
        (with("/donor/email", json!("nobody")), 422, Some("donor.email")),
        (with("/donor/name", json!("x".repeat(101))), 422, Some("donor.name")),
        (with("/message", json!("x".repeat(501))), 422, Some("message")),
        (with("/campaign_id", json!(draft)), 422, None),
        (with("/campaign_id", json!(closed)), 422, None),
        (with("/campaign_id", json!(closed_later)), 422, None),
        (with("/campaign_id", json!(Uuid::new_v4())), 404, None),
        (with("/campaign_id", json!("wells")), 400, None),
        (with("/amount/amount_minor", json!(12.5)), 400, None),
        (with("/amount", json!("12")), 400, None),
    ];
    for (n, (body, expected, field)) in cases.into_iter().enumerate() {
        let response = app.post_pledge(&format!("key-{n}"), &body).await;
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{body}");
        let (status, problem) = answer(response).await;
        assert_eq!(status, expected, "{body} {problem}");
        if let Some(field) = field {
            assert_eq!(problem["errors"][0]["field"], field, "{problem}");
        }
    }
    let (status, problem) =
        answer(app.request(Method::POST, "/api/pledges").json(&good).send().await.unwrap()).await;
    assert_eq!(status, 400);
    assert!(problem["detail"].as_str().unwrap().contains("idempotency-key"), "{problem}");
    assert_eq!(app.head().await, head);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_pledge_is_amended_and_a_paid_one_is_not() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    let amend = async |amount_minor: i64, currency: &str| {
        let body = json!({"amount": {"amount_minor": amount_minor, "currency": currency}});
        let request = app.request(Method::PUT, &format!("/api/pledges/{pledge}"));
        answer(request.json(&body).send().await.unwrap()).await
    };
    let (status, body) = amend(7000, "USD").await;
    assert_eq!((status.as_u16(), &body["status"]), (200, &json!("pending")), "{body}");
    assert_eq!(amend(7000, "EUR").await.0, 422);
    assert_eq!(amend(0, "USD").await.0, 422);

    app.fact("payment.captured", pledge, "pay_1", 7000).await;
    app.totals_with(campaign, "/raised_minor", 7000).await;
    let (status, body) = amend(9000, "USD").await;
    assert_eq!(status, 422);
    assert!(body["detail"].as_str().unwrap().contains("captured"), "{body}");
    let missing = format!("/api/pledges/{}", Uuid::new_v4());
    let body = json!({"amount": {"amount_minor": 1, "currency": "USD"}});
    assert_eq!(app.request(Method::PUT, &missing).json(&body).send().await.unwrap().status(), 404);
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorized_pledge_is_cancelled_and_its_money_held_apart() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    let cancel = format!("/api/pledges/{pledge}/cancel");
    let post = async || answer(app.request(Method::POST, &cancel).send().await.unwrap()).await;

    let (status, body) = post().await;
    assert_eq!(status, 422, "{body}");
    app.fact("payment.authorized", pledge, "pay_1", 5000).await;
    app.pledge_with_status(pledge, "authorized").await;
    let (status, body) = post().await;
    assert_eq!((status.as_u16(), &body["status"]), (200, &json!("cancelled")));
    assert_eq!(post().await.0, 200);

    app.fact("payment.captured", pledge, "pay_1", 5000).await;
    let unapplied = async || -> Option<i64> {
        let sql = "select unapplied_minor from campaign_totals where campaign_id = $1";
        sqlx::query_scalar(sql).bind(campaign).fetch_optional(&app.pool).await.unwrap()
    };
    eventually("the money is held apart", unapplied, |minor| *minor == Some(5000)).await;
    let totals = app.totals_with(campaign, "/pledges/cancelled", 1).await;
    assert_eq!((&totals["raised_minor"], &totals["donors"]), (&json!(0), &json!(0)));
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pledge_that_nobody_pays_expires_and_late_money_is_held_apart() {
    let app = TestApp::start_with(&["--pledge-ttl=30m"]).await;
    let campaign = app.campaign().await;
    let unpaid = app.pledge(campaign, 5000, "ada@example.org").await;
    let paid = app.pledge(campaign, 2000, "bob@example.org").await;
    app.fact("payment.authorized", paid, "pay_b", 2000).await;
    app.pledge_with_status(paid, "authorized").await;
    app.make_older(paid, 1).await;
    app.make_older(unpaid, 1).await;
    app.pledge_with_status(unpaid, "expired").await;
    app.make_older(unpaid, -1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    app.pledge_with_status(paid, "authorized").await;
    app.make_older(paid, -1).await;

    app.fact("payment.captured", unpaid, "pay_a", 5000).await;
    app.fact("payment.captured", paid, "pay_b", 2000).await;
    let totals = app.totals_with(campaign, "/raised_minor", 2000).await;
    assert_eq!(totals["pledges"]["expired"], 1);
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_personal_data_is_in_the_ledger() {
    let app = TestApp::start().await;
    let pledge = app.pledge(app.campaign().await, 5000, "ada@example.org").await;
    let ledger: Vec<String> = sqlx::query_scalar("select payload::text || metadata::text from events")
        .fetch_all(&app.pool)
        .await
        .unwrap();
    for personal in ["Lovelace", "example.org", "For water"] {
        assert!(ledger.iter().all(|event| !event.contains(personal)), "{personal}");
    }
    let kept: (String, String, String) =
        sqlx::query_as("select name, email, message from pledge_donor_of($1)")
            .bind(pledge)
            .fetch_one(&app.pool)
            .await
            .unwrap();
    assert_eq!(kept, ("Ada Lovelace".into(), "ada@example.org".into(), "For water".into()));
}
