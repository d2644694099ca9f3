//! A provider that no program knows, through the registry and the port alone.

use careforall_tests::{Acme, TestApp, answer, eventually};
use domain::{Money, PledgeId};
use payments::WebhookSecret;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

fn usd(amount_minor: i64) -> Money {
    Money::new(amount_minor, "USD".parse().unwrap()).unwrap()
}

/// The session that a visit of the payment page leads to.
async fn session(app: &TestApp, pledge: Uuid) -> String {
    let response = app.request(Method::GET, &format!("/pay/{pledge}")).send().await.unwrap();
    assert_eq!(response.status(), 303);
    let url = response.headers()["location"].to_str().unwrap().to_owned();
    url.strip_prefix("https://acme.example/pay/").unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_donation_from_the_page_to_the_refund() {
    let acme = Acme::default();
    let app = TestApp::start_with_provider(acme.descriptor()).await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    let (payment, taken) = acme.pay(&session(&app, pledge).await, usd(5000));

    for new in [true, false] {
        let delivery = Acme::webhook(&app, "acme_msg_1", &taken, None).send().await.unwrap();
        let (status, body) = answer(delivery).await;
        assert_eq!((status.as_u16(), &body["new"]), (200, &json!(new)), "{body}");
    }
    app.totals_with(campaign, "/raised_minor", 5000).await;
    app.pledge_with_status(pledge, "captured").await;

    let request = app.as_organiser(Method::POST, &format!("/api/pledges/{pledge}/refunds"));
    let half = json!({"amount": {"amount_minor": 2000, "currency": "USD"}});
    let asked = request.header("idempotency-key", "half").json(&half).send().await.unwrap();
    let (status, body) = answer(asked).await;
    assert_eq!((status.as_u16(), &body["refund_id"]), (202, &json!("acme_refund_1")), "{body}");
    let asked = acme.refunds();
    assert_eq!(asked.len(), 1);
    assert_eq!((&asked[0].payment_id, asked[0].amount), (&payment, usd(2000)));
    let made = acme.refund_message(PledgeId(pledge));
    assert_eq!(Acme::webhook(&app, "acme_msg_2", &made, None).send().await.unwrap().status(), 200);
    app.totals_with(campaign, "/refunded_minor", 2000).await;

    // Metrics labelled by the provider: its messages, its breaker, its session.
    let metrics = app.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("circuit_breaker_state{name=\"acme\"} 0"), "{metrics}");
    let deliveries =
        ["provider=\"acme\",outcome=\"accepted\"} 2", "provider=\"acme\",outcome=\"duplicate\"} 1"];
    for counter in deliveries {
        assert!(metrics.contains(&format!("webhook_deliveries_total{{{counter}")), "{counter}: {metrics}");
    }
    let (_, inbox) =
        answer(app.as_organiser(Method::GET, "/webhooks/inbox?provider=acme").send().await.unwrap()).await;
    assert_eq!(inbox["items"].as_array().unwrap().len(), 2, "{inbox}");
    let (_, description) = app.get("/api/openapi.json").await;
    let described = &description["paths"]["/webhooks/acme"]["post"];
    assert_eq!(
        (&described["operationId"], &described["parameters"][0]["name"]),
        (&json!("receive_acme"), &json!("acme-id"))
    );
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_its_own_is_refused() {
    let acme = Acme::default();
    let app = TestApp::start_with_provider(acme.descriptor()).await;
    let pledge = app.pledge(app.campaign().await, 5000, "ada@example.org").await;
    let (_, taken) = acme.pay(&session(&app, pledge).await, usd(5000));
    let send = async |path: &str, secret: Option<&WebhookSecret>, body: &[u8]| {
        let mut request = Acme::webhook(&app, "acme_msg_1", body, secret).build().unwrap();
        request.url_mut().set_path(path);
        let (status, problem) = answer(app.http.execute(request).await.unwrap()).await;
        (status.as_u16(), problem["type"].as_str().unwrap_or_default().to_owned())
    };
    let forger: WebhookSecret = "whsec_Zm9yZ2Vk".parse().unwrap();
    let problem = |kind: &str| format!("urn:careforall:problem:{kind}");
    assert_eq!(send("/webhooks/acme", Some(&forger), &taken).await, (401, problem("bad-signature")));
    assert_eq!(send("/webhooks/sandbox", None, &taken).await, (401, problem("bad-signature")));
    assert_eq!(send("/webhooks/acme", None, b"{}").await, (400, problem("malformed")));
    // Known and not set up, unknown, and an address of its own.
    assert_eq!(send("/webhooks/stripe", None, &taken).await, (404, problem("not-found")));
    assert_eq!(send("/webhooks/paypal", None, &taken).await, (404, problem("not-found")));
    assert_eq!(send("/webhooks/inbox", None, &taken).await, (405, problem("method-not-allowed")));
    let stored: i64 =
        sqlx::query_scalar("select count(*) from webhook_inbox").fetch_one(&app.pool).await.unwrap();
    assert_eq!(stored, 0);
    let metrics = app.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(!metrics.contains("paypal"), "a label that a stranger made up: {metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_amount_that_is_refused_for_good_is_changed_and_not_tried_again() {
    let acme = Acme::default();
    let app = TestApp::start_with_provider(acme.descriptor()).await;
    let pledge = app.pledge(app.campaign().await, 5000, "ada@example.org").await;
    acme.refuse(Some("<b>50.00 USD</b> is too little."));
    let response = app.request(Method::GET, &format!("/pay/{pledge}")).send().await.unwrap();
    assert_eq!(response.status(), 422);
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    let page = response.text().await.unwrap();
    for said in [
        "&lt;b&gt;50.00 USD&lt;/b&gt; is too little",
        "change the amount",
        "from 0.01 USD to 10000000000.00 USD",
    ] {
        assert!(page.contains(said), "{said}: {page}");
    }
    assert!(!page.to_lowercase().contains("again in a minute") && !page.contains("try again"), "{page}");

    // The page has a form for another amount. What is typed wrong is said there, and changes nothing.
    let typed = async |amount: &str| {
        let form = app.request(Method::POST, &format!("/pay/{pledge}"));
        let form = form.header("content-type", "application/x-www-form-urlencoded");
        let response = form.body(format!("amount={amount}")).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert!(page.contains(r#"<form method="post">"#), "{page}");
    for (amount, said) in [
        ("", "must be a number with at most 2 decimals"),
        ("9,000.00", "must be a number with at most 2 decimals"),
        ("0", "must be at least 1 minor unit"),
    ] {
        let (status, page) = typed(amount).await;
        assert!(status == 422 && page.contains(said) && page.contains("50.00 USD"), "{amount}: {page}");
    }
    acme.refuse(None);
    assert_eq!(typed("90%2C00").await.0, 303);
    let shown = async || app.get(&format!("/api/pledges/{pledge}")).await.1;
    eventually("the pledge has its new amount", shown, |shown| shown["amount"]["amount_minor"] == 9000).await;
    session(&app, pledge).await;
    // Once it is paid, nothing is said of an amount.
    app.fact("payment.captured", pledge, "pay_1", 9000).await;
    app.pledge_with_status(pledge, "captured").await;
    assert_eq!(typed("0").await.0, 303);
    // A page of no pledge leads to where that is said.
    let nobody = app.request(Method::POST, &format!("/pay/{}", Uuid::nil()));
    let nobody = nobody.header("content-type", "application/x-www-form-urlencoded").body("amount=1");
    assert_eq!(nobody.send().await.unwrap().status(), 303);
}
