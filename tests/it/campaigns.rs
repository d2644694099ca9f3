//! Campaigns over HTTP.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use careforall_tests::{TestApp, all_folded, answer, eventually};
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_is_drafted_edited_published_and_closed() {
    let app = TestApp::start().await;
    let id = app.draft().await;
    let path = format!("/api/campaigns/{id}");

    let edit =
        json!({"title": "Wells for Kitui and Machakos", "goal": {"amount_minor": 5000, "currency": "KES"}});
    let (status, body) =
        answer(app.as_organiser(Method::PATCH, &path).json(&edit).send().await.unwrap()).await;
    assert_eq!((status.as_u16(), &body["position"]), (200, &json!(2)), "{body}");
    // Saying the same again is nothing new.
    let (_, body) = answer(app.as_organiser(Method::PATCH, &path).json(&edit).send().await.unwrap()).await;
    assert_eq!(body["position"], 2);

    let (status, body) = app.organiser_post(&format!("{path}/close")).await;
    assert_eq!(status, 422, "{body}");
    let (status, body) = app.organiser_post(&format!("{path}/publish")).await;
    assert_eq!((status.as_u16(), &body["status"]), (200, &json!("published")));
    let (status, body) =
        answer(app.as_organiser(Method::PATCH, &path).json(&edit).send().await.unwrap()).await;
    assert_eq!(status, 422);
    assert!(body["detail"].as_str().unwrap().contains("published"), "{body}");

    let ask = async || app.get(&path).await;
    let shown = eventually("the campaign is shown", ask, |(status, _)| *status == 200).await.1;
    assert_eq!(shown["title"], "Wells for Kitui and Machakos");
    assert_eq!(shown["goal"], json!({"amount_minor": 5000, "currency": "KES"}));
    assert!(shown["published_at"].is_string() && shown["closed_at"].is_null(), "{shown}");

    let (status, body) = app.organiser_post(&format!("{path}/close")).await;
    assert_eq!((status.as_u16(), &body["status"]), (200, &json!("closed")));
    let ask = async || app.get(&path).await.1;
    let closed = eventually("the campaign is closed", ask, |shown| shown["status"] == "closed").await;
    assert!(closed["closed_at"].is_string(), "{closed}");
    assert_eq!(closed["published_at"], shown["published_at"]);
    let (status, _) = app.organiser_post(&format!("{path}/publish")).await;
    assert_eq!(status, 422);
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn organisers_routes_need_the_token() {
    let app = TestApp::start().await;
    let id = app.draft().await;
    let head = app.head().await;
    for (method, path) in [
        (Method::POST, "/api/campaigns".to_owned()),
        (Method::PATCH, format!("/api/campaigns/{id}")),
        (Method::POST, format!("/api/campaigns/{id}/publish")),
        (Method::POST, format!("/api/campaigns/{id}/close")),
    ] {
        for token in [None, Some(""), Some("wrong")] {
            let mut request = app.request(method.clone(), &path).json(&json!({}));
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let (status, body) = answer(request.send().await.unwrap()).await;
            assert_eq!(status, 401, "{method} {path} {token:?}");
            assert_eq!(body["type"], "urn:careforall:problem:unauthorized");
        }
    }
    assert_eq!(app.head().await, head);
}

#[tokio::test(flavor = "multi_thread")]
async fn drafts_are_for_organisers() {
    let app = TestApp::start().await;
    let draft = app.draft().await;
    let open = app.campaign().await;
    let path = format!("/api/campaigns/{draft}");
    all_folded(&app.pool).await;
    let list = app.as_organiser(Method::GET, "/api/campaigns").send().await.unwrap();
    let list = answer(list).await.1;
    let listed: Vec<_> = list["items"].as_array().unwrap().iter().map(|c| &c["status"]).collect();
    assert_eq!(listed, ["published", "draft"]);

    assert_eq!(app.get(&path).await.0, 404);
    for part in ["donations", "totals", "totals/stream"] {
        assert_eq!(app.get(&format!("{path}/{part}")).await.0, 404, "{part}");
    }
    let totals = app.as_organiser(Method::GET, &format!("{path}/totals")).send().await.unwrap();
    assert_eq!(totals.status(), 200);
    let (_, list) = app.get("/api/campaigns").await;
    let listed: Vec<_> = list["items"].as_array().unwrap().iter().map(|c| &c["campaign_id"]).collect();
    assert_eq!(listed, [&json!(open)]);
    let (status, shown) = answer(app.as_organiser(Method::GET, &path).send().await.unwrap()).await;
    assert_eq!((status.as_u16(), &shown["status"]), (200, &json!("draft")));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_campaigns_are_refused_field_by_field() {
    let app = TestApp::start().await;
    let body = json!({
        "title": "  ", "description": "x".repeat(5_001), "goal": {"amount_minor": 0, "currency": "usd"},
        "ends_at": "1066-10-14T09:00:00Z",
    });
    let response = app.as_organiser(Method::POST, "/api/campaigns").json(&body).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let (status, body) = answer(response).await;
    assert_eq!(status, 422);
    let fields: Vec<&str> =
        body["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["title", "description", "goal.currency", "goal.amount_minor", "ends_at"]);
    assert_eq!(app.head().await, 0);

    let ended = json!({
        "title": "Late", "goal": {"amount_minor": 1, "currency": "USD"}, "ends_at": "2020-01-01T00:00:00Z",
    });
    let created = app.as_organiser(Method::POST, "/api/campaigns").json(&ended).send().await.unwrap();
    let id = answer(created).await.1["campaign_id"].as_str().unwrap().to_owned();
    let (status, body) = app.organiser_post(&format!("/api/campaigns/{id}/publish")).await;
    assert_eq!(status, 422, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn creating_under_one_key_twice_makes_one_campaign() {
    let app = TestApp::start().await;
    let create = async |title: &str| {
        let body = json!({"title": title, "goal": {"amount_minor": 1, "currency": "USD"}});
        let request = app.as_organiser(Method::POST, "/api/campaigns").header("idempotency-key", "spring");
        let response = request.json(&body).send().await.unwrap();
        let hit = response.headers().contains_key("idempotency-hit");
        (answer(response).await, hit)
    };
    let ((status, first), hit) = create("Spring").await;
    assert_eq!((status.as_u16(), hit), (201, false));
    let ((status, second), hit) = create("Spring").await;
    assert_eq!((status.as_u16(), hit), (201, true));
    assert_eq!(first, second);
    let ((status, other), _) = create("Summer").await;
    assert_eq!(status, 422);
    assert_eq!(other["type"], "urn:careforall:problem:idempotency-key-reused");
    assert_eq!(app.head().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_paged_and_searched() {
    let app = TestApp::start().await;
    for title in ["100% water", "100 wells", "A_b", "Axb", "Bread"] {
        let body = json!({"title": title, "goal": {"amount_minor": 1, "currency": "USD"}});
        app.as_organiser(Method::POST, "/api/campaigns").json(&body).send().await.unwrap();
    }
    let get = async |query: &str| {
        let request = app.as_organiser(Method::GET, &format!("/api/campaigns?{query}"));
        answer(request.send().await.unwrap()).await
    };
    let titles = |page: &serde_json::Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|c| c["title"].as_str().unwrap().to_owned()).collect()
    };
    all_folded(&app.pool).await;
    assert_eq!(titles(&get("").await.1).len(), 5);

    let first = get("limit=2").await.1;
    assert_eq!(titles(&first), ["Bread", "Axb"]);
    let second = get(&format!("limit=2&cursor={}", first["next_cursor"].as_str().unwrap())).await.1;
    assert_eq!(titles(&second), ["A_b", "100 wells"]);
    let third = get(&format!("limit=2&cursor={}", second["next_cursor"].as_str().unwrap())).await.1;
    assert_eq!(titles(&third), ["100% water"]);
    assert!(third["next_cursor"].is_null());

    // Search terms are text, not patterns.
    assert_eq!(titles(&get("q=100%25").await.1)[0], "100% water");
    assert_eq!(titles(&get("q=a_B").await.1)[0], "A_b");
    let beyond_the_calendar = cursor(&json!({"newest": ["-9999-01-01T00:00:00Z", Uuid::nil()]}));
    let of_another_order = cursor(&json!({"most_raised": [5, Uuid::nil()]}));
    let long = format!("q={}", "x".repeat(201));
    for bad in [
        "limit=0",
        "limit=201",
        "limit=x",
        "cursor=x",
        "q=%00",
        "status=lost",
        "sort=random",
        "sort=relevance",
        "sort=newest&q=water",
        "currency=DOUBLOONS-OF-GOLD",
        &long,
        &beyond_the_calendar,
        &of_another_order,
    ] {
        assert_eq!(get(bad).await.0, 400, "{bad}");
    }
}

fn cursor(key: &serde_json::Value) -> String {
    format!("cursor={}", URL_SAFE_NO_PAD.encode(key.to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_knows_words_and_forgives_typing_errors() {
    let app = TestApp::start().await;
    for (title, description) in [
        ("Wells for Kitui", "Clean drinking water for three villages"),
        ("A school in Nakuru", "Books, benches and a teacher"),
        ("Hospital beds", "For the children's ward in Kitui"),
        ("Watering cans", "Gardens at schools"),
    ] {
        let goal = json!({"amount_minor": 1, "currency": "USD"});
        let body = json!({"title": title, "description": description, "goal": goal});
        app.as_organiser(Method::POST, "/api/campaigns").json(&body).send().await.unwrap();
    }
    let get = async |query: &str| -> Vec<String> {
        let request = app.as_organiser(Method::GET, &format!("/api/campaigns?{query}"));
        let (status, page) = answer(request.send().await.unwrap()).await;
        assert_eq!(status, 200, "{query}: {page}");
        let items = page["items"].as_array().unwrap().iter();
        items.map(|campaign| campaign["title"].as_str().unwrap().to_owned()).collect()
    };
    all_folded(&app.pool).await;
    assert_eq!(get("").await.len(), 4);

    for (query, best) in [
        ("well", "Wells for Kitui"),
        ("hosptial", "Hospital beds"),
        ("scool", "A school in Nakuru"),
        ("wels kitiu", "Wells for Kitui"),
        ("kitu", "Wells for Kitui"),
        ("akur", "A school in Nakuru"),
        ("teachers", "A school in Nakuru"),
        ("children", "Hospital beds"),
        ("\"drinking water\"", "Wells for Kitui"),
    ] {
        let found = get(&format!("q={}", query.replace(' ', "%20"))).await;
        assert_eq!(found.first().map(String::as_str), Some(best), "{query}: {found:?}");
    }
    // The title counts more than the description, and all that match are there.
    assert_eq!(get("q=kitui").await, ["Wells for Kitui", "Hospital beds"]);
    assert_eq!(get("q=schools").await, ["A school in Nakuru", "Watering cans"]);
    // A word in quotes and a minus: what people know from the web.
    assert_eq!(get("q=kitui%20-hospital").await[0], "Wells for Kitui");
    assert!(get("q=zzzzzz").await.is_empty());
    assert_eq!(get("q=%20").await.len(), 4, "nothing to look for is no search");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_filtered_and_ordered() {
    let app = TestApp::start().await;
    let make = async |title: &str, currency: &str, ends_at: Option<&str>, publish: bool| {
        let goal = json!({"amount_minor": 1000, "currency": currency});
        let body = json!({"title": title, "goal": goal, "ends_at": ends_at});
        let made = app.as_organiser(Method::POST, "/api/campaigns").json(&body).send().await.unwrap();
        let id: Uuid = answer(made).await.1["campaign_id"].as_str().unwrap().parse().unwrap();
        if publish {
            app.organiser_post(&format!("/api/campaigns/{id}/publish")).await;
        }
        id
    };
    let late = make("Late", "USD", Some("2998-01-01T00:00:00Z"), true).await;
    let soon = make("Soon", "USD", Some("2997-01-01T00:00:00Z"), true).await;
    make("Euro", "EUR", None, true).await;
    make("Draft", "USD", None, false).await;
    let closed = make("Closed", "USD", None, true).await;
    app.organiser_post(&format!("/api/campaigns/{closed}/close")).await;
    for (n, (campaign, minor)) in [(late, 500), (soon, 100)].into_iter().enumerate() {
        let pledge = app.pledge(campaign, minor, "ada@example.org").await;
        app.fact("payment.captured", pledge, &format!("pay_{n}"), minor).await;
        app.totals_with(campaign, "/raised_minor", minor).await;
    }
    let head = app.at_rest().await;
    let get = async |query: &str| {
        let (status, page) = app.get(&format!("/api/campaigns?min_position={head}&{query}")).await;
        assert_eq!(status, 200, "{query}: {page}");
        let titles: Vec<String> = page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["title"].as_str().unwrap().to_owned())
            .collect();
        (titles, page["next_cursor"].as_str().map(str::to_owned))
    };
    assert_eq!(get("").await.0, ["Closed", "Euro", "Soon", "Late"]);
    assert_eq!(get("status=closed").await.0, ["Closed"]);
    assert_eq!(get("currency=EUR").await.0, ["Euro"]);
    assert!(get("status=draft").await.0.is_empty());
    assert_eq!(get("sort=ending_soon").await.0, ["Soon", "Late"]);
    assert_eq!(get("sort=most_raised&status=published&currency=USD").await.0, ["Late", "Soon"]);
    // Every order goes on where it stopped.
    for (order, expected) in [
        ("sort=newest", ["Closed", "Euro", "Soon", "Late"].as_slice()),
        ("sort=ending_soon", &["Soon", "Late"]),
        ("sort=most_raised&status=published&currency=USD", &["Late", "Soon"]),
        ("q=o", &["Soon", "Closed", "Euro"]),
    ] {
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let (titles, next) = get(&format!("{order}&limit=1{cursor}")).await;
            seen.extend(titles);
            match next {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        if order.starts_with("q=") {
            seen.sort();
            let mut expected = expected.to_vec();
            expected.sort_unstable();
            assert_eq!(seen, expected, "{order}");
        } else {
            assert_eq!(seen, expected, "{order}");
        }
    }
}
