//! Reads: one's own writes, tags, the ways to totals, live totals.

use std::time::{Duration, Instant};

use careforall_tests::{
    PrivateRedis, TestApp, all_folded, answer, eventually, fresh_database, scale, watchers,
};
use chrono::Utc;
use futures_util::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::projectors::from_redis;

/// The position that a new pledge was answered with, and its id.
async fn pledge_at(app: &TestApp, campaign: Uuid, minor: i64) -> (Uuid, i64) {
    let body = careforall_tests::Client::pledge_body(campaign, minor, "ada@example.org");
    let (status, made) = answer(app.post_pledge(&Uuid::new_v4().to_string(), &body).await).await;
    assert_eq!(status, 201, "{made}");
    (made["pledge_id"].as_str().unwrap().parse().unwrap(), made["position"].as_i64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_see_the_gifts_whose_tickets_they_hold_and_no_other() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    // Another's gift under the same address, and a pledge that was not paid.
    let pledge = async |minor| app.pledge(campaign, minor, "ada@example.org").await;
    let (first, second) = (pledge(100).await, pledge(200).await);
    let (anothers, unpaid) = (pledge(300).await, pledge(400).await);
    for (pledge, minor) in [(first, 100), (second, 200), (anothers, 300)] {
        app.fact("payment.captured", pledge, &format!("pay_{minor}"), minor).await;
        app.pledge_with_status(pledge, "captured").await;
    }
    let refund = json!({
        "type": "payment.refunded", "timestamp": Utc::now(),
        "data": {"pledge_id": first, "payment_id": "pay_100", "refund_id": "re_1",
                 "amount": {"amount_minor": 30, "currency": "USD"}},
    });
    assert_eq!(app.webhook("msg_refund", &refund).await.0, 200);

    let ask = async |bearer: &str, query: &str| {
        let request = app.request(Method::GET, &format!("/api/me/donations{query}")).bearer_auth(bearer);
        answer(request.send().await.unwrap()).await
    };
    let tickets = format!("{first}, {second},{unpaid},{}", Uuid::new_v4());
    let refunded = async || ask(&tickets, "").await.1;
    let is_refunded = |mine: &Value| mine["items"][1]["refunded_minor"] == 30;
    let mine = eventually("the donor sees the refund", refunded, is_refunded).await;
    let items = mine["items"].as_array().unwrap();
    let shown: Vec<_> =
        items.iter().map(|item| (&item["pledge_id"], &item["amount"]["amount_minor"])).collect();
    assert_eq!(shown, [(&json!(second), &json!(200)), (&json!(first), &json!(100))], "{mine}");
    assert_eq!(items[0]["status"], "captured");
    assert!(items[0]["campaign_title"].as_str().is_some_and(|title| !title.is_empty()), "{mine}");

    let (_, page) = ask(&tickets, "?limit=1").await;
    let (_, rest) =
        ask(&tickets, &format!("?limit=1&cursor={}", page["next_cursor"].as_str().unwrap())).await;
    assert_eq!((&page["items"][0], &rest["items"][0]), (&items[0], &items[1]));
    assert_eq!(rest["next_cursor"], Value::Null);

    let (status, none) = ask(&Uuid::new_v4().to_string(), "").await;
    assert_eq!((status.as_u16(), &none["items"]), (200, &json!([])));
    let (status, problem) = app.get("/api/me/donations").await;
    assert_eq!((status.as_u16(), &problem["type"]), (401, &json!("urn:careforall:problem:unauthorized")));
    assert_eq!(ask("ada@example.org", "").await.0, 401);
    let many = vec![first.to_string(); 201].join(",");
    assert_eq!(ask(&many, "").await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_waits_for_ones_own_write() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    for n in 1..=20 {
        let (pledge, position) = pledge_at(&app, campaign, 100).await;
        // Each of these is asked at once, and no answer is too early.
        for path in [
            format!("/api/pledges/{pledge}"),
            format!("/api/pledges/{pledge}/history"),
            format!("/api/campaigns/{campaign}/donations"),
        ] {
            app.get_at(&path, position).await;
        }
        let totals = app.get_at(&format!("/api/campaigns/{campaign}/totals"), position).await;
        assert_eq!(totals["pledges"]["pending"], json!(n), "{totals}");
        assert!(totals["position"].as_i64().unwrap() >= position, "{totals}");
    }
    // An event of another campaign is no news for this one, and is waited for all the same.
    let other = app.campaign().await;
    let (_, position) = pledge_at(&app, other, 100).await;
    let totals = app.get_at(&format!("/api/campaigns/{campaign}/totals"), position).await;
    assert_eq!(totals["pledges"]["pending"], 20);
    // A campaign that was made just now is there.
    let draft = json!({"title": "New", "goal": {"amount_minor": 1, "currency": "USD"}});
    let made = app.as_organiser(Method::POST, "/api/campaigns").json(&draft).send().await.unwrap();
    let (_, made) = answer(made).await;
    for part in ["", "/totals"] {
        let path = format!(
            "/api/campaigns/{}{part}?min_position={}",
            made["campaign_id"].as_str().unwrap(),
            made["position"]
        );
        let ask = async || app.as_organiser(Method::GET, &path).send().await.unwrap().status();
        let shown = eventually(&path, ask, |status| *status != StatusCode::SERVICE_UNAVAILABLE).await;
        assert_eq!(shown, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_reached_in_time_is_a_problem() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    app.totals_with(campaign, "/raised_minor", 0).await;
    let started = Instant::now();
    let beyond = app.head().await + 1;
    let paths = [
        format!("/api/campaigns/{campaign}/totals?min_position={beyond}"),
        format!("/api/campaigns/{campaign}/totals/stream?min_position={beyond}"),
        format!("/api/campaigns?min_position={beyond}"),
    ];
    let answers = futures_util::future::join_all(paths.iter().map(|path| app.get(path))).await;
    for (status, body) in answers {
        assert_eq!(status, 503, "{body}");
        assert_eq!(body["type"], "urn:careforall:problem:behind", "{body}");
    }
    let waited = started.elapsed();
    assert!(waited >= Duration::from_secs(4), "{waited:?}");
    assert_eq!(app.get(&format!("/api/campaigns/{campaign}/totals?min_position=x")).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_a_read_still_waits_for_ones_own_write() {
    let mut redis = PrivateRedis::start().await;
    let app = TestApp::start_on(fresh_database().await, redis.url().to_owned(), &[]).await;
    let campaign = app.campaign().await;
    app.totals_with(campaign, "/raised_minor", 0).await;
    redis.stop().await;
    for n in 1..=5 {
        let (_, position) = pledge_at(&app, campaign, 100).await;
        let totals = app.get_at(&format!("/api/campaigns/{campaign}/totals"), position).await;
        assert_eq!(totals["pledges"]["pending"], json!(n), "{totals}");
        assert_eq!(totals["source"], "read_table");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_has_the_answer_is_told_so() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let (pledge, position) = pledge_at(&app, campaign, 5000).await;
    app.fact("payment.captured", pledge, "pay_1", 5000).await;
    app.totals_with(campaign, "/raised_minor", 5000).await;
    app.at_rest().await;
    for path in [
        "/api/openapi.json".to_owned(),
        "/api/campaigns".to_owned(),
        format!("/api/campaigns/{campaign}?min_position={position}"),
        format!("/api/campaigns/{campaign}/totals"),
        format!("/api/campaigns/{campaign}/donations"),
        format!("/api/pledges/{pledge}"),
        format!("/api/pledges/{pledge}/history"),
    ] {
        let first = app.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(first.status(), 200, "{path}");
        let etag = first.headers()["etag"].clone();
        assert!(first.headers()["cache-control"].to_str().unwrap().contains("no-cache"));
        let again = app.request(Method::GET, &path).header("if-none-match", &etag).send().await.unwrap();
        assert_eq!((again.status(), &again.headers()["etag"]), (StatusCode::NOT_MODIFIED, &etag), "{path}");
        assert!(again.bytes().await.unwrap().is_empty());
        let other = app.request(Method::GET, &path).header("if-none-match", "\"other\"");
        assert_eq!(other.send().await.unwrap().status(), 200, "{path}");
    }

    // The tag of totals is that of the figures, wherever they were read, and changes with them.
    let path = format!("/api/campaigns/{campaign}/totals");
    let tag = async |cache_control: &str| {
        let request = app.request(Method::GET, &path).header("cache-control", cache_control);
        request.send().await.unwrap().headers()["etag"].clone()
    };
    let before = tag("no-cache").await;
    assert_eq!(tag("max-age=0").await, before);
    app.fact("settlement.confirmed", pledge, "pay_1", 5000).await;
    app.totals_with(campaign, "/pledges/completed", 1).await;
    assert_ne!(tag("max-age=0").await, before);
}

/// Writes fields of a campaign's hash, as an old snapshot or a faulty writer would, and tells nobody.
async fn write_hash(redis: &PrivateRedis, campaign: Uuid, fields: &[(&str, i64)]) {
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> =
        redis::cmd("KEYS").arg(format!("*{campaign}*")).query_async(&mut connection).await.unwrap();
    let mut set = redis::cmd("HSET");
    set.arg(&keys[0]);
    for (field, value) in fields {
        set.arg(field).arg(value);
    }
    set.exec_async(&mut connection).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_come_from_memory_for_a_second_and_never_go_back() {
    let redis = PrivateRedis::start().await;
    let app = TestApp::start_on(fresh_database().await, redis.url().to_owned(), &[]).await;
    let campaign = app.campaign().await;
    let (pledge, _) = pledge_at(&app, campaign, 5000).await;
    app.fact("payment.captured", pledge, "pay_1", 5000).await;
    app.totals_with(campaign, "/raised_minor", 5000).await;
    let position = app.at_rest().await;
    from_redis(&app, campaign).await;
    let ask = async || app.totals(campaign).await.1;
    let remembered = eventually("totals come from memory", ask, |totals| totals["source"] == "cache").await;
    assert_eq!(remembered["position"], json!(position));

    // News that nobody told are seen when the memory is a second old.
    write_hash(&redis, campaign, &[("position", position + 1), ("raised_minor", 7000)]).await;
    eventually("what is remembered grows old", ask, |totals| totals["raised_minor"] == 7000).await;

    // An old copy of Redis says less than was answered before, and so does the read table.
    write_hash(&redis, campaign, &[("position", 1), ("raised_minor", 0)]).await;
    let asked = Instant::now();
    while asked.elapsed() < Duration::from_millis(1_500) {
        for (status, totals) in [app.totals(campaign).await, app.totals_now(campaign).await] {
            assert_eq!((status.as_u16(), &totals["raised_minor"]), (200, &json!(7000)), "{totals}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_redis_is_passed_over_for_the_read_table() {
    let redis = PrivateRedis::start().await;
    let app = TestApp::start_on(fresh_database().await, redis.url().to_owned(), &[]).await;
    let campaign = app.campaign().await;
    let (pledge, _) = pledge_at(&app, campaign, 5000).await;
    app.fact("payment.captured", pledge, "pay_1", 5000).await;
    app.totals_with(campaign, "/raised_minor", 5000).await;
    from_redis(&app, campaign).await;
    write_hash(&redis, campaign, &[("position", 1), ("raised_minor", 0)]).await;
    let totals = app.totals_now(campaign).await.1;
    assert_eq!(
        (&totals["raised_minor"], &totals["source"]),
        (&json!(5000), &json!("read_table")),
        "{totals}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_when_the_service_does() {
    let mut app = TestApp::start().await;
    let campaign = app.campaign().await;
    app.totals_with(campaign, "/raised_minor", 0).await;
    let path = format!("/api/campaigns/{campaign}/totals/stream");
    let mut chunks = app.request(Method::GET, &path).send().await.unwrap().bytes_stream();
    let first = chunks.next().await.unwrap().unwrap();
    assert!(first.starts_with(b"retry: "), "{first:?}");
    app.stop().await;
    // Connections that are still open when the service has no more patience break off.
    while let Some(chunk) = chunks.next().await {
        chunk.expect("the stream ends, and does not break");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_say_where_totals_come_from_and_who_watches() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    app.totals_with(campaign, "/raised_minor", 0).await;
    let ask = async || app.totals(campaign).await.1;
    eventually("totals come from memory", ask, |totals| totals["source"] == "cache").await;
    let path = format!("/api/campaigns/{campaign}/totals/stream");
    let watching = app.request(Method::GET, &path).send().await.unwrap();
    let metrics = async || app.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    let said = metrics().await;
    for expected in [
        "totals_answers_total{source=\"cache\"}",
        "totals_watchers ",
        "circuit_breaker_state{name=\"redis_totals\"} 0",
    ] {
        assert!(said.contains(expected), "{expected} is missing: {said}");
    }
    drop(watching);
}

/// A campaign's totals at a position or a time, without where they were read.
async fn totals_as_of(app: &TestApp, campaign: Uuid, as_of: &str) -> (StatusCode, Value) {
    let as_of = as_of.replace('+', "%2B");
    let (status, mut totals) = app.get(&format!("/api/campaigns/{campaign}/totals?as_of={as_of}")).await;
    if let Some(fields) = totals.as_object_mut() {
        fields.remove("source");
    }
    (status, totals)
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_as_they_were_are_what_was_answered_then() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    app.totals_with(campaign, "/raised_minor", 0).await;
    let mut answered = Vec::new();
    for n in 0..12 {
        // Some donors give twice, some money goes back, and another campaign lives beside.
        let donor = format!("donor{}@example.org", n % 5);
        let pledge = app.pledge(campaign, 1000 + n, &donor).await;
        let payment = format!("pay_{n}");
        app.fact("payment.captured", pledge, &payment, 1000 + n).await;
        if n % 3 == 0 {
            let mut refund =
                careforall_tests::Client::money_webhook("payment.refunded", pledge, &payment, 400);
            refund["data"]["refund_id"] = json!(format!("re_{n}"));
            app.webhook(&format!("msg_re_{n}"), &refund).await;
        }
        app.campaign().await;
        let mut totals = app.totals_now(campaign).await.1;
        totals.as_object_mut().unwrap().remove("source");
        answered.push(totals);
    }
    let head = app.at_rest().await;
    let last = totals_as_of(&app, campaign, &head.to_string()).await.1;
    assert_eq!((&last["raised_minor"], &last["donors"]), (&json!(12_066 - 1600), &json!(5)));
    assert!(answered.iter().any(|then| then["raised_minor"] != last["raised_minor"]));
    for then in answered {
        let position = then["position"].as_i64().unwrap();
        assert_eq!(totals_as_of(&app, campaign, &position.to_string()).await, (StatusCode::OK, then.clone()));
        // The instant of an event may be that of later ones too, so the answer may be further on.
        let at_that_time = totals_as_of(&app, campaign, then["as_of"].as_str().unwrap()).await.1;
        assert!(
            at_that_time["position"].as_i64().unwrap() >= position && at_that_time["as_of"] == then["as_of"]
        );
    }
    // Every position has an answer, and positions between a campaign's events have that of the last.
    let mut raised_so_far = Vec::new();
    for position in 3..=head {
        let (status, totals) = totals_as_of(&app, campaign, &position.to_string()).await;
        assert_eq!(status, 200, "{totals}");
        assert!(totals["position"].as_i64().unwrap() <= position, "{totals}");
        raised_so_far.push(totals["raised_minor"].as_i64().unwrap());
    }
    assert_eq!(raised_so_far.windows(2).filter(|pair| pair[1] > pair[0]).count(), 12, "{raised_so_far:?}");
    assert_eq!(raised_so_far.windows(2).filter(|pair| pair[1] < pair[0]).count(), 4, "{raised_so_far:?}");

    // A draft was nobody's business, and before that there was nothing.
    for (as_of, status) in [
        ("0", 404),
        ("1", 404),
        ("2020-01-01T00:00:00Z", 404),
        ("2999-01-01T00:00:00Z", 400),
        ("yesterday", 400),
        ("5&min_position=5", 400),
    ] {
        assert_eq!(totals_as_of(&app, campaign, as_of).await.0, status, "{as_of}");
    }
    app.assert_verified().await;
    // The auditor's tool compares the history as well.
    sqlx::query(
        "update campaign_totals_history set raised_minor = raised_minor + 1 where position = (
            select max(position) from campaign_totals_history where campaign_id = $1)",
    )
    .bind(campaign)
    .execute(&app.pool)
    .await
    .unwrap();
    let (well, said) = app.verify().await;
    assert!(!well && said.contains("campaign_totals_history"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaigns_hours_are_those_of_the_last_thirty_days() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let path = format!("/api/campaigns/{campaign}/hours");
    let ask = async |query: &str| {
        let request = app.as_organiser(Method::GET, &format!("{path}{query}"));
        answer(request.header("cache-control", "no-cache").send().await.unwrap()).await
    };
    for minor in [1_000, 2_500] {
        let pledge = app.pledge(campaign, minor, "ada@example.org").await;
        app.fact("payment.captured", pledge, &format!("pay_{minor}"), minor).await;
    }
    let (_, position) = pledge_at(&app, campaign, 700).await;
    let captured = async || ask(&format!("?min_position={position}")).await.1;
    // Another hour may begin meanwhile.
    let sum = |shown: &Value, figure: &str| {
        shown["items"].as_array().unwrap().iter().map(|hour| hour[figure].as_i64().unwrap()).sum::<i64>()
    };
    let is_whole = |shown: &Value| sum(shown, "captured_minor") == 3_500;
    let shown = eventually("both captures are in the hours", captured, is_whole).await;
    assert_eq!((sum(&shown, "created"), sum(&shown, "captured")), (3, 2), "{shown}");
    let newest = &shown["items"][0];
    assert_eq!(newest["currency"], "USD");
    let hour = newest["hour"].as_str().unwrap();
    assert!(hour.ends_with(":00:00Z"), "{hour}");
    let age = Utc::now() - hour.parse::<chrono::DateTime<Utc>>().unwrap();
    assert!((0..3_600 + 60).contains(&age.num_seconds()), "{hour}");

    // Hours of the past: the table keeps them all, the route shows thirty days, page by page.
    sqlx::query(
        "insert into campaign_hours (campaign_id, hour, currency, created)
         select $1, date_trunc('hour', now(), 'UTC') - n * interval '1 hour', 'USD', 1
         from unnest(array[718, 721, 722]) n",
    )
    .bind(campaign)
    .execute(&app.pool)
    .await
    .unwrap();
    let (_, all) = ask("").await;
    assert_eq!(sum(&all, "created"), 4, "30 days are 720 hours: {all}");
    let (_, page) = ask("?limit=1").await;
    let (_, rest) = ask(&format!("?cursor={}", page["next_cursor"].as_str().unwrap())).await;
    let mut pages = page["items"].as_array().unwrap().clone();
    pages.extend(rest["items"].as_array().unwrap().iter().cloned());
    assert_eq!(Value::Array(pages), all["items"]);

    assert_eq!(app.get(&path).await.0, 401);
    for query in ["?limit=0", "?cursor=x", "?min_position=x"] {
        assert_eq!(ask(query).await.0, 400, "{query}");
    }
    let head = app.head().await;
    assert_eq!(ask(&format!("?min_position={}", head + 1_000)).await.0, 503);
    let first = app.as_organiser(Method::GET, &path).send().await.unwrap();
    let tag = first.headers()["etag"].clone();
    let again = app.as_organiser(Method::GET, &path).header("if-none-match", tag).send().await.unwrap();
    assert_eq!(again.status(), 304);
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_watchers_see_the_total_move() {
    println!("{}", watchers::many_watchers(300, 0, 5).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_read_is_by_index_and_exports_take_no_memory() {
    println!("{}", scale::reads_at_scale(100_000).await);
}

/// Reads an export as a whole.
async fn export(app: &TestApp, what: &str) -> (String, String) {
    let response = app.as_organiser(Method::GET, &format!("/api/exports/{what}")).send().await.unwrap();
    assert_eq!(response.status(), 200, "{what}");
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    (kind, response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_are_for_organisers_and_safe_to_open() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let other = app.campaign().await;
    let mut body = careforall_tests::Client::pledge_body(campaign, 5000, "eve@example.org");
    body["message"] = json!("=HYPERLINK(\"http://evil.example\")");
    let named = answer(app.post_pledge("named", &body).await).await.1["pledge_id"].clone();
    body["anonymous"] = json!(true);
    let nameless = answer(app.post_pledge("nameless", &body).await).await.1["pledge_id"].clone();
    for (n, pledge) in [&named, &nameless].into_iter().enumerate() {
        let pledge: Uuid = pledge.as_str().unwrap().parse().unwrap();
        app.fact("payment.captured", pledge, &format!("pay_{n}"), 5000).await;
        app.pledge_with_status(pledge, "captured").await;
    }
    let (_, position) = pledge_at(&app, other, 700).await;
    all_folded(&app.pool).await;
    for what in ["donations", "pledges", "campaigns"] {
        for token in [None, Some("wrong")] {
            let mut request = app.request(Method::GET, &format!("/api/exports/{what}"));
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            assert_eq!(request.send().await.unwrap().status(), 401, "{what}");
        }
        let bad = app.as_organiser(Method::GET, &format!("/api/exports/{what}?format=xls"));
        assert_eq!(bad.send().await.unwrap().status(), 400);
    }

    let (kind, csv) = export(&app, "donations").await;
    assert!(kind.starts_with("text/csv"), "{kind}");
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 3, "{csv}");
    assert!(lines[1].contains(",5000,0,0,5000,false,\"Ada Lovelace\",\"'=HYPERLINK("), "{csv}");
    assert!(lines[2].contains(",true,,"), "who wishes to stay nameless does: {csv}");
    let (kind, ndjson) = export(&app, "donations?format=ndjson").await;
    assert_eq!(kind, "application/x-ndjson");
    let first: Value = serde_json::from_str(ndjson.lines().next().unwrap()).unwrap();
    assert_eq!((&first["net_minor"], &first["pledge_id"]), (&json!(5000), &named));

    let all = export(&app, &format!("pledges?min_position={position}")).await.1;
    assert_eq!(all.lines().count(), 4, "{all}");
    let of_other = export(&app, &format!("pledges?campaign_id={other}")).await.1;
    assert!(
        of_other.lines().count() == 2 && of_other.contains(",\"pending\",\"USD\",700,,0,0,"),
        "{of_other}"
    );
    assert!(!all.contains("example.org"), "no export has addresses");
    let campaigns = export(&app, &format!("campaigns?min_position={position}")).await.1;
    assert!(
        campaigns.lines().count() == 3 && campaigns.contains(",\"USD\",100000,10000,0,0,0,1,"),
        "{campaigns}"
    );
    let none = export(&app, &format!("donations?campaign_id={}", Uuid::new_v4())).await.1;
    assert_eq!(none.lines().count(), 1, "{none}");
}
