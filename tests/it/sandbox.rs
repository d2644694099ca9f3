//! The stand-in payment provider: its money rules, its dial and its books.

use careforall_tests::{Client, TestApp, answer, eventually, fresh_database, redis_url};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Executor;
use uuid::Uuid;

/// The provider's id of the payment that can be made on a session.
async fn payment_of(app: &Client, session: Uuid) -> String {
    let (status, report) = app.provider_get(&format!("/sessions/{session}")).await;
    assert_eq!(status, 200, "{report}");
    report["payment_id"].as_str().unwrap().to_owned()
}

fn types(report: &Value) -> Vec<&str> {
    report["facts"].as_array().unwrap().iter().map(|fact| fact["type"].as_str().unwrap()).collect()
}

/// The books in US dollars: captured, refunded, charged back.
async fn dollars(app: &Client) -> (i64, i64, i64) {
    let (_, books) = app.provider_get("/books").await;
    let figure = |name: &str| books["currencies"][0][name].as_i64().unwrap();
    (figure("captured_minor"), figure("refunded_minor"), figure("charged_back_minor"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_session_takes_no_payment() {
    let app = TestApp::start().await;
    let reference = Uuid::new_v4();
    let session = app.open_session(reference, 5000).await;
    assert_eq!(app.open_session(reference, 6000).await, session);
    let close = format!("/sessions/{session}/close");
    for _ in 0..2 {
        let (status, report) = app.provider_act(&close).await;
        assert_eq!((status.as_u16(), &report["status"]), (200, &json!("closed")), "{report}");
        assert_eq!(report["amount"]["amount_minor"], 6000);
    }
    let (status, _) = app.provider_act(&format!("/sessions/{session}/approve")).await;
    assert_eq!(status, 409);
    let page = app.request(Method::POST, &format!("/sandbox/pay/{session}/approve")).send().await.unwrap();
    assert_eq!(page.status(), 303);
    let (_, report) = app.provider_get(&format!("/sessions/{session}")).await;
    assert_eq!((&report["status"], types(&report)), (&json!("closed"), vec![]));

    // Another session may follow; one that is paid stays paid when it is closed.
    let next = app.open_session(reference, 7000).await;
    assert_ne!(next, session);
    app.approve(next).await;
    assert_eq!(app.open_session(reference, 9000).await, next);
    let (status, report) = app.provider_act(&format!("/sessions/{next}/close")).await;
    assert_eq!((status.as_u16(), &report["status"]), (200, &json!("approved")));
    assert_eq!(app.reported(next, "payment.captured").await["amount"]["amount_minor"], 7000);
    let unknown = format!("/sessions/{}/close", Uuid::new_v4());
    assert_eq!(app.provider_act(&unknown).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn approving_and_closing_at_once_end_in_one_of_the_two() {
    let app = TestApp::start().await;
    for _ in 0..20 {
        let session = app.open_session(Uuid::new_v4(), 5000).await;
        let (approve, close) = (format!("/sessions/{session}/approve"), format!("/sessions/{session}/close"));
        let ((approved, _), (closed, report)) =
            tokio::join!(app.provider_act(&approve), app.provider_act(&close));
        assert_eq!(closed, 200);
        let expected = if approved == 200 { "approved" } else { "closed" };
        assert_eq!(report["status"], expected);
        let (_, report) = app.provider_get(&format!("/sessions/{session}")).await;
        assert_eq!((&report["status"], types(&report).is_empty()), (&json!(expected), approved != 200));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refunds_are_idempotent_and_never_above_what_is_left() {
    let app = TestApp::start().await;
    let open = app.open_session(Uuid::new_v4(), 5000).await;
    let unpaid = payment_of(&app, open).await;
    let (status, problem) = app.refund(&unpaid, "k", 100).await;
    assert_eq!((status.as_u16(), &problem["detail"]), (422, &json!("nothing was captured")));
    assert_eq!(app.refund("pay_nowhere", "k", 100).await.0, 404);

    let payment = app.captured_payment(Uuid::new_v4(), 5000).await;
    let (status, first) = app.refund(&payment, "one", 2000).await;
    assert_eq!(status, 201, "{first}");
    assert_eq!(app.refund(&payment, "one", 2000).await, (status, first.clone()));
    let (status, problem) = app.refund(&payment, "one", 2001).await;
    assert_eq!(status, 422);
    assert_eq!(problem["type"], "urn:careforall:problem:idempotency-key-reused");
    let (status, problem) = app.refund(&payment, "two", 3001).await;
    assert_eq!((status.as_u16(), &problem["detail"]), (422, &json!("3000 minor units of USD are left")));
    let euros = json!({"amount": {"amount_minor": 1, "currency": "EUR"}});
    let path = format!("/payments/{payment}/refunds");
    let request = app.at_provider(Method::POST, &path).header("idempotency-key", "euros").json(&euros);
    assert_eq!(request.send().await.unwrap().status(), 422);
    assert_eq!(app.provider_post(&path, &euros).await.0, 400, "the key is missing");
    assert_eq!(app.refund(&payment, "two", 3000).await.0, 201);
    // A refund that was made is found again although nothing is left.
    assert_eq!(app.refund(&payment, "one", 2000).await.1, first);
    assert_eq!(dollars(&app).await, (5000, 5000, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn refunds_at_the_same_time_do_not_give_back_more_than_was_taken() {
    let app = TestApp::start().await;
    let payment = app.captured_payment(Uuid::new_v4(), 5000).await;
    let keys: Vec<String> = (0..20).map(|n| format!("key {}", n % 10).replace(' ', "-")).collect();
    let answers = join_all(keys.iter().map(|key| app.refund(&payment, key, 1000))).await;
    for (n, (status, body)) in answers.iter().enumerate() {
        assert!(*status == 201 || *status == 422, "{body}");
        // Both requests of a key are answered alike, unless one was refused before the other came.
        let (other, twin) = &answers[(n + 10) % 20];
        assert!(*status != 201 || *other != 201 || body == twin, "{body} {twin}");
    }
    assert_eq!(dollars(&app).await, (5000, 5000, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn disputes_and_refunds_share_what_was_taken() {
    let app = TestApp::start().await;
    let payment = app.captured_payment(Uuid::new_v4(), 5000).await;
    let path = format!("/payments/{payment}/disputes");
    let amount = |amount_minor: i64| json!({"amount": {"amount_minor": amount_minor, "currency": "USD"}});
    let (status, body) = app.provider_post(&path, &amount(4000)).await;
    assert_eq!(status, 201, "{body}");
    let won = body["dispute_id"].as_str().unwrap().to_owned();
    // Money in dispute can be neither refunded nor disputed again.
    assert_eq!(app.refund(&payment, "k", 1001).await.0, 422);
    assert_eq!(app.provider_post(&path, &amount(1001)).await.0, 422);

    let resolve = format!("/disputes/{won}/resolve");
    for _ in 0..2 {
        assert_eq!(app.provider_post(&resolve, &json!({"outcome": "won"})).await.0, 200);
    }
    assert_eq!(app.provider_post(&resolve, &json!({"outcome": "lost"})).await.0, 409);
    assert_eq!(app.provider_post(&resolve, &json!({"outcome": "open"})).await.0, 400);
    assert_eq!(app.provider_post("/disputes/dp_none/resolve", &json!({"outcome": "won"})).await.0, 404);
    assert_eq!(app.refund(&payment, "k", 1500).await.0, 201);

    // Without an amount it is about all that is left, and an outcome ends it at once.
    assert_eq!(app.provider_post(&path, &json!({"outcome": "lost"})).await.0, 201);
    assert_eq!(app.refund(&payment, "l", 1).await.0, 422);
    assert_eq!(app.provider_post(&path, &json!({})).await.0, 422);
    assert_eq!(dollars(&app).await, (5000, 1500, 3500));
    let (_, page) = app.provider_get("/sessions").await;
    let report = &page["items"][0];
    let expected = ["dispute.opened", "dispute.won", "payment.refunded", "dispute.opened", "dispute.lost"];
    let told: Vec<&str> = types(report).into_iter().filter(|kind| *kind != "settlement.confirmed").collect();
    assert_eq!(told[2..], expected, "{report}");
    let lost = report["facts"].as_array().unwrap().iter().find(|fact| fact["type"] == "dispute.lost");
    assert_eq!(lost.unwrap()["data"]["amount"]["amount_minor"], 3500);
}

/// Has captures and settlements happen an hour later than the provider says.
const PUT_OFF_CAPTURES: &str = "
    create function put_off_capture() returns trigger language plpgsql
        as $$ begin new.captured_at := new.captured_at + interval '1 hour'; return new; end $$;
    create trigger put_off_capture before update on sandbox.sessions for each row
        when (new.captured_at is distinct from old.captured_at) execute function put_off_capture()";

#[tokio::test(flavor = "multi_thread")]
async fn voiding_withdraws_a_capture_that_is_not_true_yet() {
    let app = TestApp::start().await;
    let void = async |payment: &str| app.provider_act(&format!("/payments/{payment}/void")).await;
    let captured = app.captured_payment(Uuid::new_v4(), 5000).await;
    assert_eq!(void(&captured).await.0, 409);
    assert_eq!(void("pay_nowhere").await.0, 404);

    // The capture of the next payment is put off, so that the void is surely before it.
    let session = app.open_session(Uuid::new_v4(), 7000).await;
    app.pool.execute(PUT_OFF_CAPTURES).await.unwrap();
    let payment = app.approve(session).await;
    for _ in 0..2 {
        let (status, body) = void(&payment).await;
        assert_eq!((status.as_u16(), &body["status"]), (200, &json!("voided")));
    }
    assert_eq!(app.refund(&payment, "k", 1).await.0, 422);
    // Its time comes, and is noticed, and it does not become true.
    app.pool.execute("update sandbox.facts set occurs_at = now() where occurs_at > now()").await.unwrap();
    let noticed = async || -> i64 {
        let sql = "select count(*) from sandbox.facts where session_id = $1 and planned_at is not null";
        sqlx::query_scalar(sql).bind(session).fetch_one(&app.pool).await.unwrap()
    };
    eventually("all four facts are noticed", noticed, |count| *count == 4).await;
    let (_, report) = app.provider_get(&format!("/sessions/{session}")).await;
    assert_eq!(types(&report), ["payment.authorized", "payment.cancelled"]);
    assert_eq!(dollars(&app).await, (5000, 0, 0));
    assert_eq!(app.settled_books().await["currencies"][0]["voided"], 1);
    let told: i64 = sqlx::query_scalar("select count(*) from sandbox.deliveries where session_id = $1")
        .bind(session)
        .fetch_one(&app.pool)
        .await
        .unwrap();
    assert_eq!(told, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_complete_although_every_message_is_lost() {
    let app = TestApp::start().await;
    app.dial(json!({"loss_rate": 1, "duplicate_rate": 1})).await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    let session = app.open_session(pledge, 5000).await;
    let payment = app.approve(session).await;
    app.reported(session, "settlement.confirmed").await;
    assert_eq!(app.refund(&payment, "k", 2000).await.0, 201);
    let report = app.reported(session, "payment.refunded").await;
    let expected = ["payment.authorized", "payment.captured", "settlement.confirmed", "payment.refunded"];
    assert_eq!(types(&report), expected);
    assert_eq!(report["facts"][1]["data"]["pledge_id"], json!(pledge));
    assert_eq!(report["facts"][1]["data"]["payment_id"], json!(payment));
    assert!(report["facts"][3]["data"]["refund_id"].is_string(), "{report}");
    let books = app.settled_books().await;
    assert_eq!((&books["messages"]["lost"], &books["messages"]["sent"]), (&json!(4), &json!(0)));
    assert_eq!(books["messages"]["duplicated"], 0);
    app.at_rest().await;
    let (_, kept) = app.get(&format!("/api/pledges/{pledge}")).await;
    assert_eq!(kept["status"], "pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_payments_are_listed_page_by_page() {
    let app = TestApp::start().await;
    let mut sessions = Vec::new();
    for n in 1..=5 {
        sessions.push(app.open_session(Uuid::new_v4(), n * 100).await);
    }
    app.approve(sessions[1]).await;
    app.reported(sessions[1], "payment.captured").await;
    let walk = async |path: &str| {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let (status, page) = app.provider_get(&format!("{path}?limit=2{after}")).await;
            assert_eq!(status, 200, "{page}");
            found.extend(page["items"].as_array().unwrap().clone());
            match page["next_cursor"].as_str() {
                Some(cursor) => after = format!("&after={cursor}"),
                None => return found,
            }
        }
    };
    let listed: Vec<Value> = walk("/sessions").await.iter().map(|item| item["session_id"].clone()).collect();
    assert_eq!(listed, sessions.iter().map(|id| json!(id)).collect::<Vec<_>>());
    let payments = walk("/books/payments").await;
    let captured: Vec<i64> = payments.iter().map(|item| item["captured_minor"].as_i64().unwrap()).collect();
    assert_eq!(captured, [0, 200, 0, 0, 0]);
    assert_eq!((&payments[1]["status"], &payments[0]["status"]), (&json!("approved"), &json!("open")));
    for bad in ["/sessions?limit=0", "/sessions?limit=201", "/sessions?after=x", "/books/payments?limit=0"] {
        assert_eq!(app.provider_get(bad).await.0, 400, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dial_says_what_is_wrong_and_outlives_a_restart() {
    let (database, redis) = (fresh_database().await, redis_url().await);
    let mut app = TestApp::start_on(database.clone(), redis.clone(), &[]).await;
    let put = async |app: &TestApp, body: Value| {
        answer(app.at_provider(Method::PUT, "/dial").json(&body).send().await.unwrap()).await
    };
    let wrong = json!({
        "seed": -1, "duplicate_rate": 1.5, "reorder_rate": -0.1, "delay_ms": 60_001, "loss_rate": 2,
        "burst_size": -1, "forge_rate": 1.1, "malformed_rate": 9, "outage_rate": -1,
    });
    let (status, problem) = put(&app, wrong.clone()).await;
    assert_eq!(status, 422, "{problem}");
    let mut named: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    named.sort_unstable();
    let mut all: Vec<&str> = wrong.as_object().unwrap().keys().map(String::as_str).collect();
    all.sort_unstable();
    assert_eq!(named, all);
    assert_eq!(put(&app, json!({"loss": 0.1})).await.0, 400);
    assert_eq!(put(&app, json!({"loss_rate": "much"})).await.0, 400);
    assert_eq!(app.request(Method::GET, "/sandbox/dial").send().await.unwrap().status(), 401);
    assert_eq!(app.provider_get("/dial").await.1["loss_rate"], 0.0);

    let (status, turned) = put(&app, json!({"seed": 7, "loss_rate": 0.5, "delay_ms": 20})).await;
    assert_eq!((status.as_u16(), &turned["forge_rate"]), (200, &json!(0.0)));
    app.stop().await;
    let again = TestApp::start_on(database, redis, &[]).await;
    assert_eq!(again.provider_get("/dial").await, (status, turned));
}

/// The messages that are planned for a number of facts: as far as chance has a part in them.
async fn planned(app: &TestApp, facts: i64) -> Vec<(Uuid, i32, String, String, bool)> {
    let planned = async || -> i64 {
        let sql = "select count(*) from sandbox.facts where planned_at is not null";
        sqlx::query_scalar(sql).fetch_one(&app.pool).await.unwrap()
    };
    eventually(format!("{facts} facts are planned"), planned, |count| *count == facts).await;
    sqlx::query_as(
        "select s.reference, d.fact_number, d.kind, d.webhook_id, d.reordered
         from sandbox.deliveries d join sandbox.sessions s using (session_id)
         order by s.reference, d.fact_number, d.kind, d.webhook_id",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_seed_makes_the_same_choices() {
    let references: Vec<Uuid> = (1..=10_u128).map(Uuid::from_u128).collect();
    let run = async |seed: i64| {
        let app = TestApp::start_with(&["--sandbox-webhook-url=http://127.0.0.1:9/nobody"]).await;
        let dial = json!({
            "seed": seed, "duplicate_rate": 0.4, "reorder_rate": 0.3, "loss_rate": 0.3, "forge_rate": 0.3,
            "malformed_rate": 0.3,
        });
        app.dial(dial).await;
        join_all(references.iter().map(async |reference| {
            let session = app.open_session(*reference, 5000).await;
            app.approve(session).await;
            app.reported(session, "settlement.confirmed").await;
        }))
        .await;
        planned(&app, 30).await
    };
    let (one, two, other) = tokio::join!(run(1), run(1), run(2));
    assert_eq!(one, two);
    assert_ne!(one, other);
    for kind in ["first", "again", "lost", "forged", "malformed"] {
        assert!(one.iter().any(|message| message.2 == kind), "no {kind} message in {one:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_malformed_doubled_and_late_messages_move_no_money() {
    let app = TestApp::start().await;
    let dial = json!({
        "seed": 3, "forge_rate": 1, "malformed_rate": 1, "duplicate_rate": 1, "reorder_rate": 0.5, "delay_ms": 300,
    });
    app.dial(dial).await;
    let campaign = app.campaign().await;
    let session = async |n: i64| {
        let pledge = app.pledge(campaign, 1000 * n, &format!("donor{n}@example.org")).await;
        app.open_session(pledge, 1000 * n).await
    };
    for session in join_all((1..=4).map(session)).await {
        app.approve(session).await;
    }
    let declined = session(9).await;
    assert_eq!(app.provider_act(&format!("/sessions/{declined}/decline")).await.0, 200);
    let twice = app.provider_act(&format!("/sessions/{declined}/approve")).await;
    assert_eq!(twice.0, 409);

    // Three facts each of four payments, and one of the declined one.
    let told = async || app.provider_get("/books").await.1["messages"].clone();
    let all =
        |messages: &Value| messages["facts"] == 13 && messages["forged"] == 13 && messages["malformed"] == 13;
    let messages = eventually("every fact was told in every way", told, all).await;
    let books = app.settled_books().await;
    assert_eq!(books["messages"]["wrongly_accepted"], 0, "{messages}");
    assert!(books["messages"]["duplicated"].as_i64().unwrap() >= 13, "{books}");
    assert!(books["messages"]["reordered"].as_i64().unwrap() > 0, "{books}");
    let totals = app.totals_with(campaign, "/pledges/completed", 4).await;
    assert_eq!(totals["raised_minor"], 10_000);
    let kept: i64 =
        sqlx::query_scalar("select count(*) from webhook_inbox").fetch_one(&app.pool).await.unwrap();
    assert_eq!(kept, 13);
    assert_eq!(books["currencies"][0]["captured_minor"], 10_000);
    assert_eq!(books["currencies"][0]["settled_minor"], 10_000);
    assert_eq!(books["sessions"], 5);
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_wait_for_a_burst_and_go_together() {
    let app = TestApp::start_with(&["--sandbox-settle-after=1h"]).await;
    let held = async || -> (i64, i64) {
        let sql =
            "select count(*) filter (where held_since is not null), count(*) filter (where attempts > 0)
                   from sandbox.deliveries";
        sqlx::query_as(sql).fetch_one(&app.pool).await.unwrap()
    };
    let becomes = async |waiting: i64, sent: i64| {
        let what = format!("{waiting} messages wait and {sent} were sent");
        eventually(what, held, |found| *found == (waiting, sent)).await;
    };
    app.dial(json!({"burst_size": 4})).await;
    app.captured_payment(Uuid::new_v4(), 5000).await;
    becomes(2, 0).await;
    app.captured_payment(Uuid::new_v4(), 5000).await;
    becomes(0, 4).await;

    // A burst that does not fill goes after a while.
    app.captured_payment(Uuid::new_v4(), 5000).await;
    becomes(2, 4).await;
    let older =
        "update sandbox.deliveries set held_since = held_since - interval '5 s' where held_since is not null";
    sqlx::query(older).execute(&app.pool).await.unwrap();
    becomes(0, 6).await;

    // Turning bursts off releases the messages that wait.
    app.captured_payment(Uuid::new_v4(), 5000).await;
    becomes(2, 6).await;
    app.dial(json!({})).await;
    becomes(0, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_outage_the_merchants_requests_are_answered_503() {
    let app = TestApp::start().await;
    let payment = app.captured_payment(Uuid::new_v4(), 5000).await;
    app.dial(json!({"seed": 1, "outage_rate": 1})).await;
    for request in [
        app.at_provider(Method::GET, "/sessions"),
        app.at_provider(Method::GET, &format!("/sessions/{}", Uuid::new_v4())),
        app.at_provider(Method::POST, &format!("/payments/{payment}/void")),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(answer(response).await.1["type"], "urn:careforall:problem:unavailable");
    }
    // Operators of the sandbox still reach the books and the dial.
    assert_eq!(app.provider_get("/books").await.0, 200);
    for n in 0..20 {
        assert_eq!(app.refund(&payment, &format!("k{n}"), 10).await.0, 503);
    }
    // Some of the requests were done, and their answers lost.
    let (_, refunded, _) = dollars(&app).await;
    assert!(0 < refunded && refunded < 200, "{refunded}");
    app.dial(json!({})).await;
    for n in 0..20 {
        assert_eq!(app.refund(&payment, &format!("k{n}"), 10).await.0, 201);
    }
    assert_eq!(dollars(&app).await, (5000, 200, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_books_are_the_sum_of_the_payments() {
    let app = TestApp::start_with(&["--sandbox-settle-after=1h"]).await;
    let payments =
        join_all((1..=6).map(async |n| app.captured_payment(Uuid::new_v4(), 1000 * n).await)).await;
    assert_eq!(app.refund(&payments[0], "k", 1000).await.0, 201);
    assert_eq!(app.refund(&payments[1], "k", 500).await.0, 201);
    let lost = json!({"outcome": "lost"});
    assert_eq!(app.provider_post(&format!("/payments/{}/disputes", payments[2]), &lost).await.0, 201);
    let won = json!({"outcome": "won"});
    assert_eq!(app.provider_post(&format!("/payments/{}/disputes", payments[3]), &won).await.0, 201);
    let still_open = json!({"amount": {"amount_minor": 5000, "currency": "USD"}});
    assert_eq!(app.provider_post(&format!("/payments/{}/disputes", payments[4]), &still_open).await.0, 201);
    let euros = json!({
        "reference": Uuid::new_v4(), "amount": {"amount_minor": 70, "currency": "EUR"}, "return_url": "http://x",
    });
    let (_, opened) = app.provider_post("/sessions", &euros).await;
    let session: Uuid = opened["session_id"].as_str().unwrap().parse().unwrap();
    app.approve(session).await;
    app.reported(session, "payment.captured").await;

    assert_eq!(app.provider_get("/books/payments?limit=200").await.1["items"].as_array().unwrap().len(), 7);
    let (_, books) = app.provider_get("/books").await;
    let expected = json!([
        {"currency": "EUR", "captured_minor": 70, "refunded_minor": 0, "reversed_minor": 0, "charged_back_minor": 0,
         "settled_minor": 0, "voided": 0},
        {"currency": "USD", "captured_minor": 21_000, "refunded_minor": 1500, "reversed_minor": 0, "charged_back_minor": 3000,
         "settled_minor": 0, "voided": 0},
    ]);
    assert_eq!((&books["currencies"], &books["sessions"]), (&expected, &json!(7)));
    let (_, page) = app.provider_get("/books/payments").await;
    for (currency, row) in [("EUR", &expected[0]), ("USD", &expected[1])] {
        for figure in ["captured_minor", "refunded_minor", "charged_back_minor"] {
            let items = page["items"].as_array().unwrap();
            let of_currency = items.iter().filter(|item| item["currency"] == currency);
            let sum: i64 = of_currency.map(|item| item[figure].as_i64().unwrap()).sum();
            assert_eq!(json!(sum), row[figure], "{figure} {currency}");
        }
    }
    // The column that limits later requests agrees with the facts.
    let claimed: i64 = sqlx::query_scalar("select sum(claimed_minor)::bigint from sandbox.sessions")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    assert_eq!(claimed, 1500 + 3000 + 5000);
}
