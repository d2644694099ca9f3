//! A payment that takes far more than was pledged waits for a person, and its pledge with it.

use careforall_tests::{Program, TestApp, answer, eventually};
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::money::{accept, returned, unapplied_with};

/// A pledge of 5000 for which 10001 were taken by `pay_1`, which is held apart.
async fn in_question(app: &TestApp, campaign: Uuid) -> Uuid {
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    app.fact("payment.captured", pledge, "pay_1", 10_001).await;
    let items = unapplied_with(app, "held", |items| items.len() == 1).await;
    assert_eq!((&items[0]["reason"], &items[0]["pledge_id"]), (&json!("above_limit"), &json!(pledge)));
    pledge
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_above_the_limit_waits_until_it_is_accepted() {
    let app = TestApp::start_with(&["--pledge-ttl=30m"]).await;
    let campaign = app.campaign().await;
    let pledge = in_question(&app, campaign).await;
    let totals = app.totals_at_head(campaign).await;
    assert_eq!((&totals["raised_minor"], &totals["pledges"]["pending"]), (&json!(0), &json!(1)));

    // Nobody can pay again, or change it, and its time does not run out.
    let page = app.request(Method::GET, &format!("/pay/{pledge}")).send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("We are checking it"));
    let amended = app.request(Method::PUT, &format!("/api/pledges/{pledge}"));
    let amended = answer(
        amended.json(&json!({"amount": {"amount_minor": 1000, "currency": "USD"}})).send().await.unwrap(),
    );
    let (status, problem) = amended.await;
    assert_eq!(
        (status.as_u16(), &problem["type"]),
        (422, &json!("urn:careforall:problem:rule-broken")),
        "{problem}"
    );
    let other = app.pledge(campaign, 5000, "bob@example.org").await;
    // The older one is looked at first.
    app.make_older(pledge, 2).await;
    app.make_older(other, 1).await;
    app.pledge_with_status(other, "expired").await;
    app.pledge_with_status(pledge, "pending").await;
    app.make_older(pledge, -2).await;
    app.make_older(other, -1).await;
    app.assert_verified().await;

    let (status, hit, accepted) = accept(&app, pledge, "pay_1").await;
    assert_eq!((status, hit, &accepted["pledge_id"]), (201, false, &json!(pledge)), "{accepted}");
    assert_eq!(accepted["amount"], json!({"amount_minor": 10_001, "currency": "USD"}));
    assert_eq!(accepted["position"], json!(app.head().await));
    assert_eq!(accept(&app, pledge, "pay_1").await, (201, true, accepted));
    app.pledge_with_status(pledge, "captured").await;
    let totals = app.totals_with(campaign, "/raised_minor", 10_001).await;
    assert_eq!((&totals["donors"], &totals["pledges"]["captured"]), (&json!(1), &json!(1)));
    let items = unapplied_with(&app, "accepted", |items| items.len() == 1).await;
    assert_eq!(items[0]["accepted_as"], json!(pledge));

    app.fact("settlement.confirmed", pledge, "pay_1", 10_001).await;
    app.pledge_with_status(pledge, "completed").await;
    returned(&app, "payment.refunded", pledge, "pay_1", "re_1", 5_001).await;
    app.totals_with(campaign, "/raised_minor", 5000).await;
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_above_the_limit_can_be_given_back() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = in_question(&app, campaign).await;
    returned(&app, "payment.refunded", pledge, "pay_1", "re_1", 10_001).await;
    unapplied_with(&app, "held", <[_]>::is_empty).await;
    app.pledge_with_status(pledge, "failed").await;
    let page = app.request(Method::GET, &format!("/pay/{pledge}")).send().await.unwrap();
    assert!(page.text().await.unwrap().contains("Your payment was given back"));
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_captures_is_a_setting() {
    let app = TestApp::start_with(&["--capture-limit", "2.01"]).await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    app.fact("payment.captured", pledge, "pay_1", 10_001).await;
    app.totals_with(campaign, "/raised_minor", 10_001).await;
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_in_question_raises_an_alarm_until_it_is_settled() {
    // In a process of its own, since metrics belong to a process.
    let (program, _) = Program::up_on_shared_servers().await;
    let app = &program.client;
    let in_question = async |expected: &str| {
        let ask = async || app.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
        let line = format!("payments_above_limit {expected}");
        eventually(line.clone(), ask, |shown| shown.lines().any(|shown| shown == line)).await;
    };
    in_question("0").await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    app.fact("payment.captured", pledge, "pay_1", 10_001).await;
    in_question("1").await;
    assert_eq!(accept(app, pledge, "pay_1").await.0, 201);
    in_question("0").await;
}
