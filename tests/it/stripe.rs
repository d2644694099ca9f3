//! Stripe, against a stub that keeps to what its API promises.

use std::time::Duration;

use careforall_tests::{STRIPE_API_KEY, STRIPE_SECRET, StripeStub, TestApp, answer, eventually};
use chrono::Utc;
use domain::payment::{DisputeState, RefundState, Stated};
use domain::{Money, PaymentId};
use payments::stripe::{Stripe, sign};
use payments::{CallLimits, Guarded, PaymentReport, Provider, ProviderError, Refund};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use sqlx::Executor;
use uuid::Uuid;

async fn app_on(stub: &StripeStub) -> TestApp {
    let flags = stub.flags();
    TestApp::start_with(&flags.iter().map(String::as_str).collect::<Vec<_>>()).await
}

async fn pay(app: &TestApp, pledge: Uuid) -> Response {
    app.request(Method::GET, &format!("/pay/{pledge}")).send().await.unwrap()
}

/// Visits the payment page: the provider's session.
async fn session(app: &TestApp, pledge: Uuid) -> String {
    let response = pay(app, pledge).await;
    assert_eq!(response.status(), 303);
    let url = response.headers()["location"].to_str().unwrap().to_owned();
    url.strip_prefix("https://checkout.stripe.com/c/pay/").unwrap().to_owned()
}

async fn send(app: &TestApp, id: &str, r#type: &str, object: &Value) {
    let (status, body) = StripeStub::send(app, id, r#type, object).await;
    assert_eq!((status.as_u16(), &body["new"]), (200, &json!(true)), "{body}");
}

async fn refund(app: &TestApp, pledge: Uuid, key: &str, body: &Value) -> (u16, Value) {
    let request = app.as_organiser(Method::POST, &format!("/api/pledges/{pledge}/refunds"));
    let response = request.header("idempotency-key", key).json(body).send().await.unwrap();
    let (status, body) = answer(response).await;
    (status.as_u16(), body)
}

/// A pledge of 50.00 USD that was paid at the stub and is captured here: pledge and payment.
async fn captured(app: &TestApp, stub: &StripeStub, campaign: Uuid) -> (Uuid, String) {
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    let payment = stub.pay(&session(app, pledge).await, "succeeded");
    send(app, &format!("evt_{payment}"), "payment_intent.succeeded", &stub.intent(&payment)).await;
    app.pledge_with_status(pledge, "captured").await;
    (pledge, payment)
}

/// The charge of the only payment of a pledge, as its event carries it.
fn charge(stub: &StripeStub, pledge: Uuid) -> Value {
    let of_pledge = |refund: &&Value| {
        stub.intent(refund["payment_intent"].as_str().unwrap())["metadata"]["pledge_id"] == json!(pledge)
    };
    let refund = stub.refunds().iter().find(of_pledge).cloned().unwrap();
    stub.intent(refund["payment_intent"].as_str().unwrap())["latest_charge"].clone()
}

fn provider(stub: &StripeStub) -> Stripe {
    Stripe::new(stub.url.clone(), STRIPE_API_KEY.to_owned(), None).unwrap()
}

fn usd(amount_minor: i64) -> Money {
    Money::new(amount_minor, "USD".parse().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_donation_from_the_page_to_the_refund() {
    let stub = StripeStub::start().await;
    let app = app_on(&stub).await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    let id = session(&app, pledge).await;
    // The session is opened once, however often the page is visited, and is remembered.
    assert_eq!(session(&app, pledge).await, id);
    let opened = stub.sessions();
    assert_eq!(opened.len(), 1);
    assert_eq!((&opened[0]["amount_total"], &opened[0]["currency"]), (&json!(5000), &json!("usd")));
    let back = opened[0]["success_url"].as_str().unwrap();
    assert!(back.ends_with(&format!("/pay/{pledge}")), "{back}");
    let remembered: Vec<(String, Uuid, i64)> = sqlx::query_as(
        "select session_id, pledge_id, amount_minor from payment_sessions where provider = 'stripe'",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    assert_eq!(remembered, [(id.clone(), pledge, 5000)]);

    let payment = stub.pay(&id, "succeeded");
    let paid = stub.sessions().remove(0);
    // The donor is back sooner than the provider's report.
    let page = pay(&app, pledge).await;
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("paid already"));
    send(&app, "evt_1", "checkout.session.completed", &paid).await;
    app.totals_with(campaign, "/raised_minor", 5000).await;
    send(&app, "evt_2", "payment_intent.succeeded", &stub.intent(&payment)).await;
    let (status, body) =
        StripeStub::send(&app, "evt_2", "payment_intent.succeeded", &stub.intent(&payment)).await;
    assert_eq!((status.as_u16(), &body["new"]), (200, &json!(false)));

    let half = json!({"amount": {"amount_minor": 2000, "currency": "USD"}, "reason": "wrong amount"});
    let (status, asked) = refund(&app, pledge, "first", &half).await;
    assert_eq!(status, 202, "{asked}");
    let expected = json!({
        "refund_id": "re_1", "payment_id": payment, "amount": {"amount_minor": 2000, "currency": "USD"},
    });
    assert_eq!(asked, expected);
    // A retry asks for the same refund, and the provider makes it once.
    assert_eq!(refund(&app, pledge, "first", &half).await, (202, expected));
    assert_eq!(stub.refunds().len(), 1);
    // The provider's word that it has happened reaches the inbox, and the worker takes it up.
    send(&app, "evt_3", "refund.created", &stub.refunds()[0]).await;
    let ask = async || -> (String, i32) {
        let sql = "select status, attempts from webhook_inbox where webhook_id = 'evt_3'";
        sqlx::query_as(sql).fetch_one(&app.pool).await.unwrap()
    };
    let taken_up = |(status, attempts): &(String, i32)| status != "ignored" && *attempts > 0;
    eventually("the worker takes the refund up", ask, taken_up).await;
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_amended_pledge_closes_the_session_of_the_old_amount() {
    let stub = StripeStub::start().await;
    let app = app_on(&stub).await;
    let pledge = app.pledge(app.campaign().await, 5000, "ada@example.org").await;
    let amend = async |amount_minor: i64| {
        let body = json!({"amount": {"amount_minor": amount_minor, "currency": "USD"}});
        let request = app.request(Method::PUT, &format!("/api/pledges/{pledge}"));
        assert_eq!(request.json(&body).send().await.unwrap().status(), 200);
    };
    let statuses = || -> Vec<(Value, Value)> {
        let sessions = stub.sessions();
        sessions.into_iter().map(|s| (s["amount_total"].clone(), s["status"].clone())).collect()
    };
    session(&app, pledge).await;
    amend(7000).await;
    session(&app, pledge).await;
    assert_eq!(statuses(), [(json!(5000), json!("expired")), (json!(7000), json!("open"))]);
    let ended: Vec<bool> =
        sqlx::query_scalar("select ended_at is not null from payment_sessions order by created_at")
            .fetch_all(&app.pool)
            .await
            .unwrap();
    assert_eq!(ended, [true, false]);

    // Back to the first amount: Stripe repeats its first answer, whose session is closed.
    amend(5000).await;
    let third = session(&app, pledge).await;
    assert_eq!(statuses()[2], (json!(5000), json!("open")));

    // A donor who paid in another window, before the amount was changed, is not sent to pay again.
    stub.pay(&third, "processing");
    amend(9000).await;
    let response = pay(&app, pledge).await;
    assert_eq!(response.status(), 200);
    assert!(response.text().await.unwrap().contains("paid already"));
    assert_eq!(stub.sessions().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_old_and_retired_signatures_change_nothing() {
    let stub = StripeStub::start().await;
    let app = app_on(&stub).await;
    let pledge = app.pledge(app.campaign().await, 5000, "ada@example.org").await;
    let payment = stub.pay(&session(&app, pledge).await, "succeeded");
    let body = StripeStub::event("evt_1", "payment_intent.succeeded", &stub.intent(&payment));
    let now = Utc::now().timestamp();
    let genuine = sign(STRIPE_SECRET, now, body.as_bytes());
    for (what, signature, body) in [
        ("altered", Some(genuine.clone()), body.replace("5000", "9000")),
        ("unsigned", None, body.clone()),
        ("old", Some(sign(STRIPE_SECRET, now - 302, body.as_bytes())), body.clone()),
        ("retired", Some(sign("whsec_retired", now, body.as_bytes())), body.clone()),
    ] {
        let mut request = StripeStub::message(&app, body);
        if let Some(signature) = signature {
            request = request.header("stripe-signature", signature);
        }
        let (status, problem) = answer(request.send().await.unwrap()).await;
        assert_eq!(status, 401, "{what}");
        assert_eq!(problem["type"], "urn:careforall:problem:bad-signature", "{what}");
    }
    let stored: i64 =
        sqlx::query_scalar("select count(*) from webhook_inbox").fetch_one(&app.pool).await.unwrap();
    assert_eq!(stored, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_stripe_is_not_set_up_there_is_nothing() {
    let app = TestApp::start().await;
    let (status, problem) = StripeStub::send(&app, "evt_1", "payment_intent.succeeded", &json!({})).await;
    assert_eq!((status.as_u16(), &problem["type"]), (404, &json!("urn:careforall:problem:not-found")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_event_leaves_out_is_read_from_the_payment() {
    let stub = StripeStub::start().await;
    let app = app_on(&stub).await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    let payment = stub.pay(&session(&app, pledge).await, "succeeded");
    // Every event about the payment itself was lost, and that of a dispute names no pledge.
    send(&app, "evt_ours", "charge.dispute.created", &stub.dispute(&payment)).await;
    app.totals_with(campaign, "/raised_minor", 5000).await;

    let foreign = stub.foreign_payment();
    send(&app, "evt_foreign", "charge.dispute.created", &stub.dispute(&foreign)).await;
    let ask = async || -> String {
        let sql = "select status from webhook_inbox where webhook_id = 'evt_foreign'";
        sqlx::query_scalar(sql).fetch_one(&app.pool).await.unwrap()
    };
    eventually("evt_foreign is ignored", ask, |status| status == "ignored").await;
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_pledge_releases_what_is_authorized() {
    let stub = StripeStub::start().await;
    let app = app_on(&stub).await;
    let pledge = app.pledge(app.campaign().await, 5000, "ada@example.org").await;
    let payment = stub.pay(&session(&app, pledge).await, "requires_capture");
    let object = stub.intent(&payment);
    send(&app, "evt_1", "payment_intent.amount_capturable_updated", &object).await;
    app.pledge_with_status(pledge, "authorized").await;
    let cancel = app.request(Method::POST, &format!("/api/pledges/{pledge}/cancel"));
    assert_eq!(cancel.send().await.unwrap().status(), 200);
    let ask = async || stub.intent(&payment)["status"].clone();
    eventually("the payment is cancelled", ask, |status| status == "canceled").await;
    // Voiding again finds it done.
    let payment_id: PaymentId = payment.parse().unwrap();
    provider(&stub).void(&payment_id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_is_refused_where_there_is_nothing_to_give_back() {
    let stub = StripeStub::start().await;
    let app = app_on(&stub).await;
    let campaign = app.campaign().await;
    let unpaid = app.pledge(campaign, 5000, "bob@example.org").await;
    let (pledge, payment) = captured(&app, &stub, campaign).await;
    let head = app.head().await;
    let whole = json!({});
    let dollars = |amount_minor: i64| json!({"amount": {"amount_minor": amount_minor, "currency": "USD"}});
    let euros = json!({"amount": {"amount_minor": 10, "currency": "EUR"}});
    for (what, of, body, status, kind) in [
        ("unknown", Uuid::new_v4(), whole.clone(), 404, "not-found"),
        ("unpaid", unpaid, whole.clone(), 422, "rule-broken"),
        ("another payment", pledge, json!({"payment_id": "pi_99"}), 422, "rule-broken"),
        ("too much", pledge, dollars(5001), 422, "validation"),
        ("nothing", pledge, dollars(0), 422, "validation"),
        ("another currency", pledge, euros, 422, "validation"),
    ] {
        let (answered, problem) = refund(&app, of, &what.replace(' ', "-"), &body).await;
        let kind = format!("urn:careforall:problem:{kind}");
        assert_eq!((answered, problem["type"].as_str()), (status, Some(kind.as_str())), "{what}: {problem}");
    }
    let path = format!("/api/pledges/{pledge}/refunds");
    let stranger = app.request(Method::POST, &path).header("idempotency-key", "k").json(&whole);
    assert_eq!(stranger.send().await.unwrap().status(), 401);
    let without_key = app.as_organiser(Method::POST, &path).json(&whole);
    assert_eq!(without_key.send().await.unwrap().status(), 400);
    assert!(stub.refunds().is_empty());

    // Out of reach, the same request succeeds later; its key does not serve another one.
    stub.go_down(true);
    let (status, problem) = refund(&app, pledge, "whole", &whole).await;
    assert_eq!((status, &problem["type"]), (503, &json!("urn:careforall:problem:unavailable")), "{problem}");
    stub.go_down(false);
    let (status, asked) = refund(&app, pledge, "whole", &json!({"payment_id": payment})).await;
    assert_eq!((status, &asked["amount"]["amount_minor"]), (202, &json!(5000)), "{asked}");
    let (status, problem) = refund(&app, pledge, "whole", &dollars(1)).await;
    let reused = json!("urn:careforall:problem:idempotency-key-reused");
    assert_eq!((status, &problem["type"]), (422, &reused), "{problem}");
    let (status, problem) = refund(&app, pledge, "again", &whole).await;
    assert_eq!(status, 422, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("on its way back"), "{problem}");
    // The provider has the last word on what is left.
    let again = Refund {
        payment_id: payment.parse().unwrap(),
        amount: usd(5000),
        idempotency_key: "again".to_owned(),
    };
    let refused = provider(&stub).refund(again).await.unwrap_err();
    assert!(refused.to_string().contains("more than is left"), "{refused}");
    assert_eq!((stub.refunds().len(), app.head().await), (1, head));
}

/// Also after Stripe has forgotten its own keys, and where its first answer never arrived.
#[tokio::test(flavor = "multi_thread")]
async fn a_refund_is_made_once_for_ever() {
    let stub = StripeStub::start().await;
    let app = app_on(&stub).await;
    let campaign = app.campaign().await;
    let (pledge, _) = captured(&app, &stub, campaign).await;
    let part = json!({"amount": {"amount_minor": 2000, "currency": "USD"}});
    let first = refund(&app, pledge, "part", &part).await;
    assert_eq!(first.0, 202);
    send(&app, "evt_part", "charge.refunded", &charge(&stub, pledge)).await;
    app.totals_with(campaign, "/raised_minor", 3000).await;

    stub.forget_keys();
    stub.go_down(true);
    assert_eq!(refund(&app, pledge, "part", &part).await, first, "its answer is kept");
    stub.go_down(false);
    app.pool.execute("update refund_requests set refund_id = null").await.unwrap();
    assert_eq!(refund(&app, pledge, "part", &part).await, first, "it is looked for before it is made");
    assert_eq!(stub.refunds().len(), 1);
    assert_eq!(app.totals_at_head(campaign).await["raised_minor"], 3000);
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refunds_on_their_way_lessen_what_can_be_given_back() {
    let stub = StripeStub::start().await;
    let mut flags = stub.flags();
    flags.push("--reconcile-after=1s".to_owned());
    let app = TestApp::start_with(&flags.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let campaign = app.campaign().await;
    let (pledge, _) = captured(&app, &stub, campaign).await;
    let dollars = |amount_minor: i64| json!({"amount": {"amount_minor": amount_minor, "currency": "USD"}});
    stub.refund_slowly();
    assert_eq!(refund(&app, pledge, "one", &dollars(3000)).await.0, 202);
    let (status, problem) = refund(&app, pledge, "two", &dollars(2001)).await;
    assert_eq!(status, 422, "{problem}");
    assert!(problem.to_string().contains("only 20.00 USD"), "{problem}");
    // One that has failed is not on its way.
    stub.fail_refund("re_1");
    let ended = async || -> bool {
        let sql = "select ended_at is not null from refund_requests where refund_id = 're_1'";
        sqlx::query_scalar(sql).fetch_one(&app.pool).await.unwrap()
    };
    eventually("the failed refund is waited for no longer", ended, |ended| *ended).await;
    assert_eq!(refund(&app, pledge, "three", &json!({})).await.1["amount"]["amount_minor"], 5000);
    let (status, problem) = refund(&app, pledge, "four", &json!({})).await;
    assert_eq!(status, 422, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("on its way back"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_stripe_repeats_is_asked_around() {
    let stub = StripeStub::start().await;
    let app = app_on(&stub).await;
    let campaign = app.campaign().await;
    stub.fail_changes(2);
    let (pledge, payment) = captured(&app, &stub, campaign).await;
    stub.fail_changes(1);
    assert_eq!(refund(&app, pledge, "whole", &json!({})).await.0, 202);
    stub.fail_changes(1);
    let stripe = Guarded::new(Box::new(provider(&stub)));
    let other = app.pledge(campaign, 5000, "bob@example.org").await;
    let session_id = session(&app, other).await.parse().unwrap();
    stub.fail_changes(1);
    stripe.close(&session_id).await.unwrap();
    let reserved = app.pledge(campaign, 5000, "eve@example.org").await;
    let reserved: PaymentId = stub.pay(&session(&app, reserved).await, "requires_capture").parse().unwrap();
    stub.fail_changes(1);
    stripe.void(&reserved).await.unwrap();
    assert_eq!(stub.intent(reserved.as_str())["status"], "canceled");
    assert_eq!(
        (stub.refunds().len(), stub.refunds()[0]["payment_intent"].as_str()),
        (1, Some(payment.as_str()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_have_all_that_happened() {
    let stub = StripeStub::start().await;
    let app = app_on(&stub).await;
    let campaign = app.campaign().await;
    let (pledge, payment) = captured(&app, &stub, campaign).await;
    for key in ["one", "two"] {
        let body = json!({"amount": {"amount_minor": 700, "currency": "USD"}});
        assert_eq!(refund(&app, pledge, key, &body).await.0, 202);
    }
    stub.dispute(&payment);
    stub.settle(&payment);
    let payment_id: PaymentId = payment.parse().unwrap();
    let refunded =
        |refund_id: &str| Stated::refund(refund_id.parse().unwrap(), RefundState::Succeeded(usd(700)));
    let dispute_id = format!("du_{payment}").parse().unwrap();
    let expected = vec![
        Some(Stated::payment(Some(usd(5000)), None)),
        // That it is settled.
        None,
        Some(refunded("re_1")),
        Some(refunded("re_2")),
        Some(Stated::dispute(dispute_id, DisputeState::Opened(Some(usd(5000))))),
    ];
    let stated = |report: &PaymentReport| -> Vec<Option<Stated>> {
        let facts = report.facts.iter().inspect(|fact| assert_eq!(fact.payment_id, payment_id));
        facts.map(|fact| fact.statement().map(|statement| statement.stated().clone())).collect()
    };
    let stripe = provider(&stub);
    let session_id = stub.sessions()[0]["id"].as_str().unwrap().parse().unwrap();
    let report = stripe.fetch(&session_id).await.unwrap();
    assert_eq!((report.pledge_id.0, stated(&report)), (pledge, expected.clone()));
    assert_eq!(stated(&stripe.look_up(&payment_id).await.unwrap().unwrap()), expected);
    // One that is paid need not be closed.
    stripe.close(&session_id).await.unwrap();

    // All of them, page by page, without those of others on the same account.
    stub.foreign_payment();
    captured(&app, &stub, campaign).await;
    captured(&app, &stub, campaign).await;
    let (mut cursor, mut pages, mut reports) = (None, 0, Vec::new());
    loop {
        let page = stripe.list(cursor.as_deref()).await.unwrap();
        reports.extend(page.reports);
        pages += 1;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!((pages, reports.len()), (2, 3));
    assert_eq!(stated(reports.last().unwrap()), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payout_settles_the_payments_that_were_in_it() {
    let stub = StripeStub::start().await;
    let app = app_on(&stub).await;
    let campaign = app.campaign().await;
    let mut pledges = Vec::new();
    for _ in 0..3 {
        pledges.push(captured(&app, &stub, campaign).await.0);
    }
    stub.foreign_payment();
    let payout = stub.pay_out();
    // The provider is out of reach first; what it says counts when it is back.
    stub.go_down(true);
    send(&app, "evt_payout", "payout.reconciliation_completed", &payout).await;
    let row = async || -> (String, Option<String>) {
        let sql = "select status, reason from webhook_inbox where webhook_id = 'evt_payout'";
        sqlx::query_as(sql).fetch_one(&app.pool).await.unwrap()
    };
    let out_of_reach = |(_, reason): &(String, Option<String>)| {
        reason.as_ref().is_some_and(|reason| reason.contains("cannot be reached"))
    };
    eventually("evt_payout waits for the provider", row, out_of_reach).await;
    stub.go_down(false);
    eventually("evt_payout is processed", row, |(status, _)| status == "processed").await;
    for pledge in pledges {
        app.pledge_with_status(pledge, "completed").await;
    }
    // Money that was paid out later, and what is told again, changes nothing.
    let late = captured(&app, &stub, campaign).await.0;
    let head = app.head().await;
    send(&app, "evt_again", "payout.reconciliation_completed", &payout).await;
    let ask = async || -> String {
        let sql = "select status from webhook_inbox where webhook_id = 'evt_again'";
        sqlx::query_scalar(sql).fetch_one(&app.pool).await.unwrap()
    };
    eventually("evt_again is processed", ask, |status| status == "processed").await;
    assert_eq!(app.head().await, head);
    app.pledge_with_status(late, "captured").await;
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_provider_is_left_alone_and_taken_up_again() {
    let stub = StripeStub::start().await;
    let guarded = |open_for| {
        let first_pause = Duration::from_millis(1);
        let limits =
            CallLimits { retries: 1, first_pause, failures_to_open: 2, open_for, ..CallLimits::default() };
        Guarded::with_limits(Box::new(provider(&stub)), limits)
    };
    let payment_id: PaymentId = stub.foreign_payment().parse().unwrap();
    stub.go_down(true);
    let long_open = guarded(Duration::from_secs(3_600));
    for _ in 0..4 {
        assert!(matches!(long_open.look_up(&payment_id).await, Err(ProviderError::Unavailable(_))));
    }
    // Two questions, each repeated once; then it is open.
    assert_eq!(stub.asked().len(), 4);

    let soon_closed = guarded(Duration::from_millis(300));
    for _ in 0..2 {
        assert!(matches!(soon_closed.look_up(&payment_id).await, Err(ProviderError::Unavailable(_))));
    }
    assert_eq!(stub.asked().len(), 8);
    stub.go_down(false);
    let ask = async || soon_closed.look_up(&payment_id).await;
    let healed = eventually("a question comes through", ask, Result::is_ok).await;
    assert_eq!(healed.unwrap(), None, "nothing of ours");
    assert_eq!(stub.asked().len(), 9, "only the question that healed it came through");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_say_whether_to_try_again() {
    let stub = StripeStub::start().await;
    let unknown = provider(&stub).look_up(&"pi_99".parse().unwrap()).await.unwrap_err();
    assert!(
        matches!(&unknown, ProviderError::Refused(reason) if reason.contains("resource_missing")),
        "{unknown}"
    );
    let other_key = Stripe::new(stub.url.clone(), "sk_test_another".to_owned(), None).unwrap();
    let wrong_key = other_key.look_up(&"pi_99".parse().unwrap()).await.unwrap_err();
    assert!(
        matches!(&wrong_key, ProviderError::Unavailable(reason) if reason.contains("invalid_api_key")),
        "{wrong_key}"
    );
    let nobody = Stripe::new("http://127.0.0.1:1".parse().unwrap(), "sk_test".to_owned(), None).unwrap();
    let down = nobody.look_up(&"pi_99".parse().unwrap()).await.unwrap_err();
    assert!(matches!(down, ProviderError::Unavailable(_)), "{down}");
}

/// A published campaign in a currency.
async fn campaign_in(app: &TestApp, currency: &str) -> Uuid {
    let body = json!({"title": "Wells", "goal": {"amount_minor": 100_000, "currency": currency}});
    let made = app.as_organiser(Method::POST, "/api/campaigns").json(&body).send().await.unwrap();
    let id: Uuid = answer(made).await.1["campaign_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(app.organiser_post(&format!("/api/campaigns/{id}/publish")).await.0, 200);
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stripe_does_not_take_is_refused_when_it_is_pledged() {
    let stub = StripeStub::start().await;
    let flags = [stub.flags().as_slice(), &["--min-pledge=EUR:200,KWD:1001".to_owned()]].concat();
    let app = TestApp::start_with(&flags.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for (currency, good, bad, [least, most, step]) in [
        ("JPY", 50_i64, vec![5_i64, 49, 100_000_000], [50_i64, 99_999_999, 1]),
        ("KWD", 5120, vec![5124, 1000, 99_999_995], [1010, 99_999_990, 10]),
        ("UGX", 1, vec![1_000_000], [1, 999_999, 1]),
        ("EUR", 200, vec![50, 199], [200, 99_999_999, 1]),
        ("USD", 50, vec![49], [50, 99_999_999, 1]),
        ("IDR", 999_999_999_999, vec![49], [50, 999_999_999_999, 1]),
    ] {
        let campaign = campaign_in(&app, currency).await;
        let mut body = careforall_tests::Client::pledge_body(campaign, good, "ada@example.org");
        body["amount"]["currency"] = json!(currency);
        let (status, made) = answer(app.post_pledge(currency, &body).await).await;
        assert_eq!(status, 201, "{currency}: {made}");
        let path = format!("/api/pledges/{}", made["pledge_id"].as_str().unwrap());
        assert_eq!(pay(&app, made["pledge_id"].as_str().unwrap().parse().unwrap()).await.status(), 303);
        let head = app.head().await;
        for amount_minor in bad {
            body["amount"]["amount_minor"] = json!(amount_minor);
            let made = app.post_pledge(&format!("{currency}-{amount_minor}"), &body).await;
            let amended = app.request(Method::PUT, &path).json(&json!({"amount": body["amount"]}));
            for response in [made, amended.send().await.unwrap()] {
                let (status, problem) = answer(response).await;
                assert_eq!(status, 422, "{amount_minor} {currency}: {problem}");
                assert_eq!(problem["type"], "urn:careforall:problem:validation");
                assert_eq!(problem["errors"][0]["field"], "amount.amount_minor");
                let possible = json!({"least": least, "most": most, "step": step});
                assert_eq!(problem["errors"][0]["possible"], possible, "{amount_minor} {currency}");
                let detail = problem["errors"][0]["detail"].as_str().unwrap();
                assert!(detail.contains(&format!("{least} to {most}")), "{detail}");
            }
        }
        assert_eq!(app.head().await, head, "{currency}");
        // The first pledge is found again under its key.
        body["amount"]["amount_minor"] = json!(good);
        assert_eq!(app.post_pledge(currency, &body).await.headers()["idempotency-hit"], "true");
    }
}
