//! Health, metrics, request ids and the limits of every boundary.

use careforall_tests::{Client, TestApp, answer, eventually};
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn health_readiness_and_metrics() {
    let app = TestApp::start().await;
    assert_eq!(app.request(Method::GET, "/healthz").send().await.unwrap().text().await.unwrap(), "ok\n");
    let ask = async || app.get("/readyz").await;
    let (_, ready) = eventually("the system is ready", ask, |(status, _)| *status == 200).await;
    assert_eq!(ready, json!({"status": "ready", "checks": {"postgres": "ok", "redis": "ok"}}));

    let pledge = app.pledge(app.campaign().await, 5000, "ada@example.org").await;
    app.fact("payment.captured", pledge, "pay_1", 5000).await;
    app.pledge_with_status(pledge, "captured").await;
    let metrics = app.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    for expected in [
        "http_server_request_duration_seconds_bucket{method=\"POST\",route=\"/api/pledges\",status=\"201\"",
        "route=\"/api/pledges/{id}\"",
        "ledger_append_duration_seconds_count",
        "ledger_append_batch_events_bucket",
        "webhook_deliveries_total{provider=\"sandbox\",outcome=\"accepted\"}",
    ] {
        assert!(metrics.contains(expected), "{expected} is missing");
    }
    assert!(!metrics.contains(&pledge.to_string()), "ids must not be labels");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_have_ids_and_the_ledger_keeps_them() {
    let app = TestApp::start().await;
    let given = app.request(Method::GET, "/healthz").header("x-request-id", "trace-me-1");
    // Health has no id of its own; every route of the API does.
    given.send().await.unwrap();
    let campaign = app.campaign().await;
    let body = Client::pledge_body(campaign, 5000, "ada@example.org");
    let request = app.request(Method::POST, "/api/pledges").header("idempotency-key", "k");
    let response = request.header("x-request-id", "trace-me-2").json(&body).send().await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "trace-me-2");
    let kept: String =
        sqlx::query_scalar("select metadata ->> 'request_id' from events where event_type = 'PledgeCreated'")
            .fetch_one(&app.pool)
            .await
            .unwrap();
    assert_eq!(kept, "trace-me-2");

    let made = app.request(Method::GET, "/api/campaigns").send().await.unwrap();
    assert!(!made.headers()["x-request-id"].is_empty());
    let odd = app.request(Method::GET, "/api/campaigns").header("x-request-id", "x".repeat(101));
    assert_ne!(odd.send().await.unwrap().headers()["x-request-id"].len(), 101);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_served_is_a_problem_document() {
    let app = TestApp::start().await;
    let large = "x".repeat(70_000);
    let key = |request: reqwest::RequestBuilder| request.header("idempotency-key", "k");
    let post = || key(app.request(Method::POST, "/api/pledges"));
    let json_type = ("content-type", "application/json");
    let cases = [
        (app.request(Method::GET, "/nowhere"), 404, "not-found"),
        (app.request(Method::DELETE, "/api/campaigns"), 405, "method-not-allowed"),
        (app.request(Method::GET, "/api/campaigns/wells"), 400, "malformed"),
        (post().body("{}"), 415, "unsupported-media-type"),
        (post().header(json_type.0, json_type.1).body("{"), 400, "malformed"),
        (post().header(json_type.0, json_type.1).body("{} {}"), 400, "malformed"),
        (post().json(&json!({"message": large})), 413, "too-large"),
        (
            app.request(Method::POST, "/api/pledges").header("idempotency-key", "").json(&json!({})),
            400,
            "malformed",
        ),
    ];
    let text = HeaderValue::from_static("text/markdown; charset=utf-8");
    for (request, expected, kind) in cases {
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{kind}");
        let link = response.headers()["link"].to_str().unwrap().to_owned();
        let (status, problem) = answer(response).await;
        assert_eq!(status, expected, "{problem}");
        assert_eq!(problem["type"], format!("urn:careforall:problem:{kind}"));
        assert_eq!(problem["status"], expected);
        let help = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"help\"")).unwrap();
        let page = app.request(Method::GET, help).send().await.unwrap();
        assert_eq!((page.status().as_u16(), &page.headers()["content-type"]), (200, &text));
        assert!(page.text().await.unwrap().starts_with(&format!("## {kind}\n\n{expected}")), "{help}");
    }
    let (status, _) = app.get("/api/problems/too-much-money").await;
    assert_eq!((status.as_u16(), app.head().await), (404, 0));
}
