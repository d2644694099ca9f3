//! What no webhook told: asked for at the provider, before a pledge expires and otherwise.

use std::time::Duration;

use careforall_tests::{SANDBOX_API_KEY, STRIPE_API_KEY, StripeStub, TestApp, answer, eventually, replay};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

/// A system that asks soon.
const SOON: &str = "--reconcile-after=1s";
/// A system that asks by itself long after the test is over.
const LATE: &str = "--reconcile-after=1h";
/// Nothing expires by itself before it is made an hour older.
const TIME_TO_PAY: &str = "--pledge-ttl=30m";

/// Visits the payment page: the sandbox's session.
async fn session(app: &TestApp, pledge: Uuid) -> Uuid {
    let pay = app.request(Method::GET, &format!("/pay/{pledge}")).send().await.unwrap();
    assert_eq!(pay.status(), 303);
    let page = pay.headers()["location"].to_str().unwrap();
    page.rsplit_once('/').unwrap().1.parse().unwrap()
}

/// Visits the payment page: Stripe's session.
async fn stripe_session(app: &TestApp, pledge: Uuid) -> String {
    let pay = app.request(Method::GET, &format!("/pay/{pledge}")).send().await.unwrap();
    let page = pay.headers()["location"].to_str().unwrap();
    page.rsplit_once('/').unwrap().1.to_owned()
}

/// The types of the messages that were made of answers, in their order.
async fn asked(pool: &PgPool) -> Vec<String> {
    let sql = "select event_type from webhook_inbox where origin = 'poll' order by inbox_id";
    sqlx::query_scalar(sql).fetch_all(pool).await.unwrap()
}

async fn checks(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select sum(checks) from payment_sessions").fetch_one(pool).await.unwrap()
}

/// How many sessions nothing more can happen on.
async fn ended(pool: &PgPool) -> i64 {
    let sql = "select count(*) from payment_sessions where ended_at is not null";
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

/// As an operator does who wants to know at once.
async fn ask_now(pool: &PgPool) {
    sqlx::query("update payment_sessions set next_check_at = now() where ended_at is null")
        .execute(pool)
        .await
        .unwrap();
}

/// Asks until the provider was asked `times` times in all. A question that is under way settles when the
/// next one is due, so it is said again that it is now.
async fn asked_times(pool: &PgPool, times: i64) {
    let ask = async || {
        ask_now(pool).await;
        checks(pool).await
    };
    eventually(format!("the provider was asked {times} times"), ask, |checks| *checks >= times).await;
}

async fn status_stays(app: &TestApp, pledge: Uuid, status: &str, for_ms: u64) {
    tokio::time::sleep(Duration::from_millis(for_ms)).await;
    assert_eq!(app.get(&format!("/api/pledges/{pledge}")).await.1["status"], status);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_of_which_every_message_is_lost_is_found_and_asking_again_adds_nothing() {
    let app = TestApp::start_with(&[SOON]).await;
    app.dial(json!({"loss_rate": 1.0})).await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    app.approve(session(&app, pledge).await).await;
    app.pledge_with_status(pledge, "completed").await;
    app.totals_with(campaign, "/raised_minor", 5000).await;
    app.at_rest().await;
    let (found, head) = (asked(&app.pool).await, app.head().await);
    assert!(found.ends_with(&["asked_settled".to_owned()]), "{found:?}");

    let asked_before = checks(&app.pool).await;
    for n in 1..=2 {
        asked_times(&app.pool, asked_before + n).await;
    }
    assert_eq!((asked(&app.pool).await, app.head().await), (found, head));
    // Banks may still question the payment, so it stays under watch.
    assert_eq!(ended(&app.pool).await, 0);
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_refunds_and_disputes_are_found() {
    let app = TestApp::start_with(&[SOON]).await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    let payment = app.approve(session(&app, pledge).await).await;
    app.pledge_with_status(pledge, "completed").await;
    app.dial(json!({"loss_rate": 1.0})).await;

    // Sessions are not asked about now: the refund is followed up by itself.
    sqlx::query("update payment_sessions set next_check_at = now() + interval '1 hour'")
        .execute(&app.pool)
        .await
        .unwrap();
    let refund = app.as_organiser(Method::POST, &format!("/api/pledges/{pledge}/refunds"));
    let body = json!({"amount": {"amount_minor": 2000, "currency": "USD"}});
    let response = refund.header("idempotency-key", "one").json(&body).send().await.unwrap();
    assert_eq!(answer(response).await.0, 202);
    let raised = async || app.totals(campaign).await.1["raised_minor"].clone();
    eventually("the refund is found", raised, |minor| *minor == 3000).await;
    let over = async || -> Option<bool> {
        let sql = "select ended_at is not null from refund_requests";
        sqlx::query_scalar(sql).fetch_optional(&app.pool).await.unwrap()
    };
    eventually("the refund is not asked about any more", over, |over| *over == Some(true)).await;

    let dispute = json!({"amount": {"amount_minor": 1000, "currency": "USD"}, "outcome": "lost"});
    let (status, body) = app.provider_post(&format!("/payments/{payment}/disputes"), &dispute).await;
    assert_eq!(status, 201, "{body}");
    ask_now(&app.pool).await;
    eventually("the dispute is found", raised, |minor| *minor == 2000).await;
    app.at_rest().await;
    let totals = app.totals_at_head(campaign).await;
    assert_eq!((&totals["refunded_minor"], &totals["charged_back_minor"]), (&json!(2000), &json!(1000)));
    let expected = ["asked_refunded", "asked_dispute_opened", "asked_dispute_lost"];
    let found: Vec<String> = asked(&app.pool).await;
    // The payment and its settlement may have been asked for before they were told.
    let told_too = ["asked_authorized", "asked_captured", "asked_settled"];
    let found: Vec<&str> = found.iter().map(String::as_str).filter(|kind| !told_too.contains(kind)).collect();
    assert_eq!(found, expected);
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_a_pledge_expires_its_session_is_closed() {
    let app = TestApp::start_with(&[LATE, TIME_TO_PAY]).await;
    let pledge = app.pledge(app.campaign().await, 5000, "ada@example.org").await;
    let session = session(&app, pledge).await;
    app.make_older(pledge, 1).await;
    app.pledge_with_status(pledge, "expired").await;
    app.make_older(pledge, -1).await;
    assert_eq!(app.provider_get(&format!("/sessions/{session}")).await.1["status"], "closed");
    assert_eq!(app.provider_act(&format!("/sessions/{session}/approve")).await.0, 409);
    assert_eq!((ended(&app.pool).await, checks(&app.pool).await), (1, 1));
    assert!(asked(&app.pool).await.is_empty());
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_found_before_a_pledge_expires_counts_instead() {
    let app = TestApp::start_with(&[LATE, TIME_TO_PAY, "--sandbox-settle-after=1h"]).await;
    app.dial(json!({"loss_rate": 1.0})).await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    let session = session(&app, pledge).await;
    app.approve(session).await;
    app.reported(session, "payment.captured").await;
    app.pledge_with_status(pledge, "pending").await;
    status_stays(&app, pledge, "pending", 500).await;
    app.make_older(pledge, 1).await;
    app.pledge_with_status(pledge, "captured").await;
    status_stays(&app, pledge, "captured", 1_000).await;
    app.make_older(pledge, -1).await;
    let totals = app.totals_at_head(campaign).await;
    assert_eq!((&totals["raised_minor"], &totals["pledges"]["expired"]), (&json!(5000), &json!(0)));
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_out_of_reach_delays_the_expiry_of_those_who_were_there() {
    let app = TestApp::start_with(&[SOON, TIME_TO_PAY]).await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    let session = session(&app, pledge).await;
    let never_there = app.pledge(campaign, 5000, "bob@example.org").await;
    app.dial(json!({"outage_rate": 1.0})).await;
    for overdue in [pledge, never_there] {
        app.make_older(overdue, 1).await;
    }
    app.pledge_with_status(never_there, "expired").await;
    status_stays(&app, pledge, "pending", 2_000).await;
    app.dial(json!({})).await;
    // The circuit breaker lets a question through when it has been open for ten seconds.
    app.pledge_with_status(pledge, "expired").await;
    for overdue in [pledge, never_there] {
        app.make_older(overdue, -1).await;
    }
    assert_eq!(app.provider_get(&format!("/sessions/{session}")).await.1["status"], "closed");
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contradiction_found_by_asking_goes_to_a_person_once() {
    let app = TestApp::start_with(&[LATE]).await;
    app.dial(json!({"loss_rate": 1.0})).await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    let session = session(&app, pledge).await;
    let payment = app.approve(session).await;
    app.reported(session, "payment.captured").await;
    app.fact("payment.captured", pledge, &payment, 5001).await;
    app.pledge_with_status(pledge, "captured").await;
    for n in 1..=2 {
        asked_times(&app.pool, n).await;
    }
    // Lower than what counts is old news where a message says it, and for a person where an answer does.
    let in_review = async || -> Vec<String> {
        let sql = "select event_type from webhook_inbox where status = 'review'";
        sqlx::query_scalar(sql).fetch_all(&app.pool).await.unwrap()
    };
    let captured = |found: &Vec<String>| found.contains(&"asked_captured".to_owned());
    eventually("the capture is in review", in_review, captured).await;
    asked_times(&app.pool, 5).await;
    assert_eq!(in_review().await, ["asked_captured"]);
    app.totals_with(campaign, "/raised_minor", 5001).await;
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_about_another_pledge_is_not_believed() {
    let app = TestApp::start_with(&[LATE]).await;
    app.dial(json!({"loss_rate": 1.0})).await;
    let campaign = app.campaign().await;
    let ada = app.pledge(campaign, 5000, "ada@example.org").await;
    let grace = app.pledge(campaign, 5000, "grace@example.org").await;
    let paid = session(&app, ada).await;
    session(&app, grace).await;
    app.approve(paid).await;
    app.reported(paid, "payment.captured").await;
    // Each session is noted as the other pledge's.
    let mix_up = async || {
        sqlx::query("update payment_sessions set pledge_id = case pledge_id when $1 then $2 else $1 end")
            .bind(ada)
            .bind(grace)
            .execute(&app.pool)
            .await
            .unwrap();
    };
    mix_up().await;
    asked_times(&app.pool, 4).await;
    assert_eq!(asked(&app.pool).await, Vec::<String>::new());
    assert_eq!(ended(&app.pool).await, 0);
    mix_up().await;
    asked_times(&app.pool, 6).await;
    app.totals_with(campaign, "/raised_minor", 5000).await;
    assert_eq!(app.get(&format!("/api/pledges/{grace}")).await.1["status"], "pending");
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stripe_never_told_is_found_too() {
    let stub = StripeStub::start().await;
    let flags = stub.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain([SOON]).collect();
    let app = TestApp::start_with(&flags).await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    let payment = stub.pay(&stripe_session(&app, pledge).await, "requires_capture");
    app.pledge_with_status(pledge, "authorized").await;
    stub.capture(&payment);
    app.pledge_with_status(pledge, "captured").await;
    // Stripe has no message that says that a payment is settled.
    stub.settle(&payment);
    app.pledge_with_status(pledge, "completed").await;
    assert_eq!(asked(&app.pool).await, ["asked_authorized", "asked_captured", "asked_settled"]);
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_under_way_delays_the_expiry() {
    let stub = StripeStub::start().await;
    let flags = stub.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain([SOON, TIME_TO_PAY]).collect();
    let app = TestApp::start_with(&flags).await;
    let pledge = app.pledge(app.campaign().await, 5000, "ada@example.org").await;
    let payment = stub.pay(&stripe_session(&app, pledge).await, "processing");
    app.make_older(pledge, 1).await;
    let asked_after = checks(&app.pool).await + 4;
    // Its time is over, and the provider has been asked since.
    let asked = async || checks(&app.pool).await;
    eventually("the provider is asked again", asked, |checks| *checks >= asked_after).await;
    status_stays(&app, pledge, "pending", 1_000).await;
    app.make_older(pledge, -1).await;
    stub.capture(&payment);
    app.pledge_with_status(pledge, "captured").await;
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_share_the_questions() {
    const SESSIONS: i64 = 40;
    let stub = StripeStub::start().await;
    let flags = stub.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain([LATE]).collect();
    let app = TestApp::start_with(&flags).await;
    let other = TestApp::start_on(app.database_url.clone(), app.redis_url.clone(), &flags).await;
    let campaign = app.campaign().await;
    for n in 0..SESSIONS {
        let pledge = app.pledge(campaign, 1000 + n, "ada@example.org").await;
        stripe_session(&app, pledge).await;
    }
    // The questions of one process take longer than the other waits before it looks.
    stub.answer_after(Duration::from_millis(2_500));
    ask_now(&app.pool).await;
    let answered = async || -> i64 {
        let sql = "select count(*) from payment_sessions where next_check_at > now() + interval '30 minutes'";
        sqlx::query_scalar(sql).fetch_one(&app.pool).await.unwrap()
    };
    eventually("every session was asked about", answered, |answered| *answered == SESSIONS).await;
    assert_eq!(checks(&app.pool).await, SESSIONS);
    drop(other);
}

async fn replay_reconcile(app: &TestApp, flags: &[&str]) -> (Option<i32>, String) {
    let places = ["--database-url", &app.database_url, "reconcile", "--sandbox-url", &app.base_url];
    replay(&[&places[..], flags].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_reconcile_names_every_difference() {
    let app = TestApp::start_with(&[LATE]).await;
    let key = ["--sandbox-api-key", SANDBOX_API_KEY, "--patience", "1"];
    let campaign = app.campaign().await;
    let [whole, lost] = [5000, 3000].map(|minor| app.pledge(campaign, minor, "ada@example.org"));
    let (whole, lost) = (whole.await, lost.await);
    let paid = app.approve(session(&app, whole).await).await;
    app.pledge_with_status(whole, "completed").await;
    assert_eq!(app.refund(&paid, "one", 2000).await.0, 201);
    app.totals_with(campaign, "/raised_minor", 3000).await;
    let (code, said) = replay_reconcile(&app, &key).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 payments; 5000 minor units of USD taken, 2000 refunded"), "{said}");

    // Facts that only the provider has, and facts that only the ledger has.
    app.dial(json!({"loss_rate": 1.0})).await;
    let lost_session = session(&app, lost).await;
    let never_told = app.approve(lost_session).await;
    app.reported(lost_session, "settlement.confirmed").await;
    assert_eq!(app.refund(&paid, "two", 500).await.0, 201);
    app.fact("payment.captured", whole, "pay_nobody", 700).await;
    app.fact("payment.captured", whole, "pi_elsewhere", 800).await;
    let held = async || -> i64 {
        sqlx::query_scalar("select count(*) from unapplied_payments").fetch_one(&app.pool).await.unwrap()
    };
    eventually("two payments are held apart", held, |held| *held == 2).await;
    let (code, said) = replay_reconcile(&app, &[&key[..], &["--json"]].concat()).await;
    assert_eq!(code, Some(1), "{said}");
    let found: Value = serde_json::from_str(&said).unwrap();
    let mut differences: Vec<(&str, &str)> = found["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["payment_id"].as_str().unwrap(), one["what"].as_str().unwrap()))
        .collect();
    let refund = differences.iter().position(|(_, what)| what.starts_with("refund ")).expect("the refund");
    let (of, what) = differences.remove(refund);
    assert_eq!(
        (of, what.split_once(": ").unwrap().1),
        (&*paid, "the provider says refunded 5.00 USD, the ledger nothing")
    );
    differences.sort_unstable();
    let mut expected = [
        ("pay_nobody", "payment: the provider says nothing, the ledger captured 7.00 USD"),
        (never_told.as_str(), "payment: the provider says captured 30.00 USD, the ledger nothing"),
        (never_told.as_str(), "the provider says it is settled, the ledger does not"),
    ];
    expected.sort_unstable();
    assert_eq!(differences, expected);
    assert_eq!((&found["all_is_well"], &found["payments_elsewhere"]), (&json!(false), &json!(1)));

    // Asked for, what was lost is no difference any more.
    ask_now(&app.pool).await;
    app.pledge_with_status(lost, "completed").await;
    app.totals_with(campaign, "/refunded_minor", 2500).await;
    let (code, said) = replay_reconcile(&app, &key).await;
    assert_eq!((code, said.matches("DIFFERENCE").count()), (Some(1), 1), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_reconcile_says_what_it_cannot_do() {
    let app = TestApp::start().await;
    for (flags, expected) in [
        (["--sandbox-api-key", "wrong"].as_slice(), "401"),
        (&["--sandbox-api-key", SANDBOX_API_KEY, "--sandbox-url", "http://127.0.0.1:1"], "cannot be reached"),
        (&[], "name a provider"),
    ] {
        let places = ["--database-url", &app.database_url, "reconcile"];
        let elsewhere = flags.contains(&"--sandbox-url");
        let url: &[&str] = if elsewhere { &[] } else { &["--sandbox-url", &app.base_url] };
        let (code, said) = replay(&[&places[..], url, flags].concat()).await;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_reconcile_reads_stripes_list() {
    let stub = StripeStub::start().await;
    let flags = stub.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain([SOON]).collect();
    let app = TestApp::start_with(&flags).await;
    let pledge = app.pledge(app.campaign().await, 5000, "ada@example.org").await;
    stub.pay(&stripe_session(&app, pledge).await, "succeeded");
    stub.foreign_payment();
    app.pledge_with_status(pledge, "captured").await;
    let base = stub.url.to_string();
    let (code, said) = replay(&[
        "--database-url",
        &app.database_url,
        "reconcile",
        "--stripe-api-key",
        STRIPE_API_KEY,
        "--stripe-api-base",
        &base,
    ])
    .await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("stripe: 1 payments; 5000 minor units of USD taken"), "{said}");
}
