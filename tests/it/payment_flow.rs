//! A donation as a visitor makes it: the payment page, without JavaScript.

use careforall_tests::{TestApp, eventually};
use reqwest::{Method, Response};
use serde_json::json;
use uuid::Uuid;

fn location(response: &Response) -> String {
    response.headers()["location"].to_str().unwrap().to_owned()
}

/// Follows `/pay/{pledge}` to the provider's page and returns the paths of its two forms.
async fn open_payment_page(app: &TestApp, pledge: Uuid) -> (String, String) {
    let response = app.request(Method::GET, &format!("/pay/{pledge}")).send().await.unwrap();
    assert_eq!(response.status(), 303);
    let page = app.http.get(location(&response)).send().await.unwrap();
    assert_eq!(page.status(), 200);
    let html = page.text().await.unwrap();
    assert!(html.contains("50.00 USD") && !html.contains("<script"), "{html}");
    let form = |ending: &str| {
        let start = html.split("action=\"").find(|part| part.split('"').next().unwrap().ends_with(ending));
        start.unwrap().split('"').next().unwrap().to_owned()
    };
    (form("/approve"), form("/decline"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_approves_and_the_total_moves() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    let (approve, _) = open_payment_page(&app, pledge).await;
    // The session is opened once, however often the page is visited.
    assert_eq!(open_payment_page(&app, pledge).await.0, approve);

    let response = app.request(Method::POST, &approve).send().await.unwrap();
    assert_eq!(response.status(), 303);
    let back = location(&response);
    assert!(back.ends_with(&format!("/pay/{pledge}")), "{back}");
    app.totals_with(campaign, "/raised_minor", 5000).await;
    let page = app.http.get(&back).send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("Thank you"));
    // A second click changes nothing, and the settlement follows by itself.
    app.request(Method::POST, &approve).send().await.unwrap();
    app.totals_with(campaign, "/pledges/completed", 1).await;
    // The merchant is sooner than what the provider writes down about its answer.
    assert_eq!(app.settled_books().await["messages"]["sent"], 3);
    let sent: i64 =
        sqlx::query_scalar("select count(*) from sandbox.deliveries where delivered_at is not null")
            .fetch_one(&app.pool)
            .await
            .unwrap();
    assert_eq!(sent, 3);
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_declines() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    let (_, decline) = open_payment_page(&app, pledge).await;
    assert_eq!(app.request(Method::POST, &decline).send().await.unwrap().status(), 303);
    app.pledge_with_status(pledge, "failed").await;
    let page = app.request(Method::GET, &format!("/pay/{pledge}")).send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("failed"));
    assert_eq!(app.totals_at_head(campaign).await["raised_minor"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_pledge_releases_what_is_authorized() {
    let app = TestApp::start().await;
    let pledge = app.pledge(app.campaign().await, 5000, "ada@example.org").await;
    open_payment_page(&app, pledge).await;
    let payment: String = sqlx::query_scalar("select payment_id from sandbox.sessions where reference = $1")
        .bind(pledge)
        .fetch_one(&app.pool)
        .await
        .unwrap();
    app.fact("payment.authorized", pledge, &payment, 5000).await;
    app.pledge_with_status(pledge, "authorized").await;
    let cancel = format!("/api/pledges/{pledge}/cancel");
    assert_eq!(app.request(Method::POST, &cancel).send().await.unwrap().status(), 200);
    let ask = async || -> String {
        let sql = "select status from sandbox.sessions where reference = $1";
        sqlx::query_scalar(sql).bind(pledge).fetch_one(&app.pool).await.unwrap()
    };
    eventually("the provider has voided the payment", ask, |status| status == "voided").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_providers_api_needs_its_key_and_unknown_pages_say_so() {
    let app = TestApp::start().await;
    let body = json!({"reference": Uuid::new_v4(), "amount": {"amount_minor": 1, "currency": "USD"}, "return_url": "x"});
    let response = app.request(Method::POST, "/sandbox/sessions").json(&body).send().await.unwrap();
    assert_eq!(response.status(), 401);
    for path in [format!("/pay/{}", Uuid::new_v4()), format!("/sandbox/pay/{}", Uuid::new_v4())] {
        let response = app.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    }
}
