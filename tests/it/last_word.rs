//! The provider has the last word on money: what it says is followed wherever it leads, asked for where it is
//! not clear, and a person has a way out of what neither settles.

use careforall_tests::{Client, TestApp, answer, eventually};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::money::returned;
use crate::webhooks::inbox_with_status;

/// A campaign, and a pledge of 5000 that was paid at the sandbox provider.
async fn paid(app: &TestApp) -> (Uuid, Uuid, String) {
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    let page = app.request(Method::GET, &format!("/pay/{pledge}")).send().await.unwrap();
    let session = page.headers()["location"].to_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let payment = app.approve(session.parse().unwrap()).await;
    app.totals_with(campaign, "/raised_minor", 5000).await;
    (campaign, pledge, payment)
}

fn usd(amount_minor: i64) -> Value {
    json!({"amount_minor": amount_minor, "currency": "USD"})
}

async fn done(asked: (StatusCode, Value)) -> Value {
    assert!(asked.0.is_success(), "{asked:?}");
    asked.1
}

/// Raised, refunded, reversed and charged back.
async fn figures(app: &TestApp, campaign: Uuid) -> [i64; 4] {
    let totals = app.totals_at_head(campaign).await;
    ["raised_minor", "refunded_minor", "reversed_minor", "charged_back_minor"]
        .map(|figure| totals[figure].as_i64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispute_above_the_capture_is_lost_and_later_won() {
    let app = TestApp::start().await;
    let (campaign, pledge, payment) = paid(&app).await;
    let above = json!({"amount": usd(5230)});
    let dispute = app.provider_post(&format!("/payments/{payment}/disputes"), &above).await;
    let dispute = done(dispute).await["dispute_id"].as_str().unwrap().to_owned();
    let resolve = async |body: Value| {
        // Providers give whole seconds.
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        done(app.provider_post(&format!("/disputes/{dispute}/resolve"), &body).await).await
    };
    resolve(json!({"outcome": "lost"})).await;
    app.totals_with(campaign, "/charged_back_minor", 5000).await;
    app.at_rest().await;
    let loss = async || -> i64 {
        sqlx::query_scalar("select loss_minor from pledges").fetch_one(&app.pool).await.unwrap()
    };
    assert_eq!((figures(&app, campaign).await, loss().await), ([0, 0, 0, 5000], 230));
    app.assert_verified().await;

    // That less is gone is confirmed by asking; then there is something to refund again.
    resolve(json!({"outcome": "won", "again": true})).await;
    app.totals_with(campaign, "/raised_minor", 5000).await;
    app.at_rest().await;
    assert_eq!((figures(&app, campaign).await, loss().await), ([5000, 0, 0, 0], 0));
    let (status, asked) = answer(
        app.as_organiser(Method::POST, &format!("/api/pledges/{pledge}/refunds"))
            .header("idempotency-key", "later")
            .json(&json!({"amount": usd(1500)}))
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(status, 202, "{asked}");
    app.totals_with(campaign, "/raised_minor", 3500).await;
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_fails_late_gives_the_money_back_to_the_campaign() {
    let app = TestApp::start().await;
    let (campaign, _, payment) = paid(&app).await;
    let refund = app.refund(&payment, "one", 2000).await.1["refund_id"].as_str().unwrap().to_owned();
    app.totals_with(campaign, "/raised_minor", 3000).await;
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    done(app.provider_act(&format!("/refunds/{refund}/fail")).await).await;
    app.totals_with(campaign, "/raised_minor", 5000).await;
    assert_eq!(app.refund(&payment, "two", 1500).await.0, 201);
    app.totals_with(campaign, "/raised_minor", 3500).await;
    assert_eq!(figures(&app, campaign).await, [3500, 1500, 0, 0]);
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debit_that_bounces_after_its_settlement_leaves_nothing() {
    let app = TestApp::start_with(&["--sandbox-settle-after=1s"]).await;
    let (campaign, pledge, payment) = paid(&app).await;
    app.pledge_with_status(pledge, "completed").await;
    let reversal = done(app.provider_post(&format!("/payments/{payment}/reversals"), &json!({})).await).await;
    app.totals_with(campaign, "/raised_minor", 0).await;
    assert_eq!(figures(&app, campaign).await, [0, 0, 5000, 0]);
    app.pledge_with_status(pledge, "completed").await;
    app.at_rest().await;
    let (bank, clearing): (i64, i64) =
        sqlx::query_as("select bank_minor, provider_clearing_minor from campaign_accounts")
            .fetch_one(&app.pool)
            .await
            .unwrap();
    assert_eq!((bank, clearing), (5000, -5000));
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let reversal = reversal["reversal_id"].as_str().unwrap();
    done(app.provider_act(&format!("/reversals/{reversal}/cancel")).await).await;
    app.totals_with(campaign, "/raised_minor", 5000).await;
    app.assert_verified().await;
}

/// Money that was taken before midnight and reported after it counts on the day on which it was taken.
#[tokio::test(flavor = "multi_thread")]
async fn money_counts_on_the_day_on_which_it_moved() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    // The pledge was made two days ago, and its money taken then, which nobody has told until now.
    let sql = "alter table events disable trigger all;
        update events
        set payload = jsonb_set(payload::jsonb, '{PledgeCreated,made_at}', '\"2026-10-30T12:00:00Z\"')
        where event_type = 'PledgeCreated'";
    sqlx::raw_sql(sql).execute(&app.pool).await.unwrap();
    let mut captured = Client::money_webhook("payment.captured", pledge, "pay_1", 5000);
    captured["timestamp"] = json!("2026-10-31T23:58:00Z");
    assert_eq!(app.webhook("msg_late", &captured).await.0, 200);
    app.totals_with(campaign, "/raised_minor", 5000).await;
    app.at_rest().await;
    let path = format!("/api/campaigns/{campaign}/days");
    let days = answer(app.as_organiser(Method::GET, &path).send().await.unwrap()).await.1;
    let of_day = |day: &str| days["items"].as_array().unwrap().iter().find(|row| row["day"] == day).cloned();
    let that_day = of_day("2026-10-31").expect("the day on which it was taken");
    assert_eq!((&that_day["captured"], &that_day["captured_minor"]), (&json!(1), &json!(5000)));
    assert!(that_day["revised_at"].is_string(), "{that_day}");
    let row: (String, String) = sqlx::query_as(
        "select (select captured_at::text from donations), (select occurred_at::text from journal)",
    )
    .fetch_one(&app.pool)
    .await
    .unwrap();
    assert!(row.0.starts_with("2026-10-31 23:58") && row.1 == row.0, "{row:?}");
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_of_one_pledge_is_not_counted_for_another() {
    let app = TestApp::start().await;
    let (campaign, pledge, payment) = paid(&app).await;
    let other = app.pledge(campaign, 5000, "bob@example.org").await;
    // Said to be another pledge's, while its provider says whose it is: decided there.
    let captured = Client::money_webhook("payment.captured", other, &payment, 5000);
    assert_eq!(app.webhook("msg_other", &captured).await.0, 200);
    inbox_with_status(&app, "msg_other", "processed").await;
    app.pledge_with_status(other, "pending").await;
    assert_eq!(figures(&app, campaign).await, [5000, 0, 0, 0]);

    // Of a payment that the provider does not know, a person decides.
    app.fact("payment.captured", pledge, "pay_unknown", 700).await;
    let captured = Client::money_webhook("payment.captured", other, "pay_unknown", 700);
    assert_eq!(app.webhook("msg_again", &captured).await.0, 200);
    let reason = inbox_with_status(&app, "msg_again", "review").await.unwrap();
    assert!(reason.contains(&format!("is pledge {pledge}'s")), "{reason}");
    app.pledge_with_status(other, "pending").await;
    app.assert_verified().await;
}

/// A correction by an operator: the status and the answer.
async fn correct(app: &TestApp, operator: &str, body: &Value) -> (u16, Value) {
    let request = app.as_organiser(Method::POST, "/api/corrections").header("x-operator", operator);
    let (status, body) = answer(request.json(body).send().await.unwrap()).await;
    (status.as_u16(), body)
}

async fn act(app: &TestApp, operator: &str, correction: &Value, act: &str) -> (u16, Value) {
    let path = format!("/api/corrections/{}/{act}", correction["correction_id"].as_str().unwrap());
    let request = app.as_organiser(Method::POST, &path).header("x-operator", operator);
    let (status, body) = answer(request.send().await.unwrap()).await;
    (status.as_u16(), body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_states_how_an_object_stands() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    app.fact("payment.captured", pledge, "pay_1", 5000).await;
    returned(&app, "payment.refunded", pledge, "pay_1", "re_1", 2000).await;
    app.totals_with(campaign, "/raised_minor", 3000).await;
    // The same refund of another amount, which nobody can settle.
    let review = returned(&app, "payment.refunded", pledge, "pay_1", "re_1", 1999).await;
    inbox_with_status(&app, &review, "review").await;
    let inbox_id: i64 = sqlx::query_scalar("select inbox_id from webhook_inbox where webhook_id = $1")
        .bind(&review)
        .fetch_one(&app.pool)
        .await
        .unwrap();

    let object = json!({"payment_id": "pay_1", "refund_id": "re_1"});
    let correction = json!({
        "object": object, "stands": {"state": "failed"}, "reason": "the bank sent it back",
        "evidence": "statement of 3 December", "answers": [inbox_id],
        "counts": {"state": "succeeded", "amount": usd(2000)},
    });
    let with = |field: &str, value: Value| {
        let mut other = correction.clone();
        other[field] = value;
        other
    };
    for (body, status, said) in [
        (with("reason", json!("")), 422, "reason"),
        (with("stands", json!({"state": "lost"})), 422, "stands"),
        (with("object", json!({"payment_id": "pay_9"})), 422, "counts"),
        (
            with("object", json!({"payment_id": "pay_1", "refund_id": "a", "dispute_id": "b"})),
            422,
            "one refund",
        ),
        (with("counts", json!({"state": "succeeded", "amount": usd(1999)})), 409, "refunded 20.00 USD"),
    ] {
        let (found, problem) = correct(&app, "Ada", &body).await;
        assert!(found == status && problem.to_string().contains(said), "{status} {said}: {found} {problem}");
    }
    let head = app.head().await;
    let (status, recorded) = correct(&app, "Ada", &correction).await;
    assert_eq!(
        (status, &recorded["status"], &recorded["position"]),
        (201, &json!("recorded"), &json!(head + 1))
    );
    app.totals_with(campaign, "/raised_minor", 5000).await;
    let row = inbox_with_status(&app, &review, "discarded").await.unwrap();
    assert!(row.contains(recorded["correction_id"].as_str().unwrap()), "{row}");

    // What had been said before does not undo it, and something new does.
    returned(&app, "payment.refunded", pledge, "pay_1", "re_1", 2000).await;
    app.at_rest().await;
    assert_eq!(figures(&app, campaign).await, [5000, 0, 0, 0]);
    let (_, history) = app.get(&format!("/api/pledges/{pledge}/history")).await;
    assert!(history["items"].as_array().unwrap().iter().any(|item| item["said"] == "corrected"), "{history}");
    let events: Value = sqlx::query_scalar("select metadata from events where position = $1")
        .bind(head + 1)
        .fetch_one(&app.pool)
        .await
        .unwrap();
    assert_eq!(events["actor"], "Ada");
    app.assert_verified().await;
    let mut news = Client::money_webhook("payment.refunded", pledge, "pay_1", 300);
    news["data"]["refund_id"] = json!("re_1");
    news["timestamp"] = json!(chrono::Utc::now() + chrono::TimeDelta::seconds(5));
    assert_eq!(app.webhook("msg_news", &news).await.0, 200);
    app.totals_with(campaign, "/raised_minor", 4700).await;
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_correction_needs_a_second_person() {
    let app = TestApp::start_with(&["--four-eyes-above=USD:4000"]).await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    app.fact("payment.captured", pledge, "pay_1", 5000).await;
    app.totals_with(campaign, "/raised_minor", 5000).await;
    let lost = |minor: i64| {
        json!({
            "object": {"payment_id": "pay_1", "dispute_id": format!("dp_{minor}")},
            "stands": {"state": "lost", "amount": usd(minor)}, "reason": "by letter",
        })
    };
    assert_eq!(correct(&app, "Ada", &lost(1000)).await.0, 201);
    app.totals_with(campaign, "/charged_back_minor", 1000).await;
    let (status, large) = correct(&app, "Ada", &lost(4001)).await;
    assert_eq!((status, &large["status"]), (202, &json!("proposed")), "{large}");
    let (_, waiting) = answer(app.as_organiser(Method::GET, "/api/corrections").send().await.unwrap()).await;
    assert_eq!(waiting["items"][0]["correction_id"], large["correction_id"]);
    assert_eq!(act(&app, "Ada", &large, "confirm").await.0, 422, "by the same person");
    assert_eq!(figures(&app, campaign).await, [4000, 0, 0, 1000]);
    let (status, confirmed) = act(&app, "Grace", &large, "confirm").await;
    assert_eq!((status, &confirmed["ended_by"]), (200, &json!("Grace")), "{confirmed}");
    assert_eq!(act(&app, "Grace", &large, "confirm").await, (200, confirmed));
    app.totals_with(campaign, "/charged_back_minor", 5000).await;
    assert_eq!(act(&app, "Grace", &large, "withdraw").await.0, 409);
    let (status, other) = correct(&app, "Ada", &lost(4002)).await;
    assert_eq!(status, 202);
    assert_eq!(act(&app, "Ada", &other, "withdraw").await.1["status"], "withdrawn");
    assert_eq!(act(&app, "Grace", &other, "confirm").await.0, 409);
    assert_eq!(app.request(Method::POST, "/api/corrections").send().await.unwrap().status(), 401);
    let none =
        async || answer(app.as_organiser(Method::GET, "/api/corrections").send().await.unwrap()).await.1;
    eventually("nothing waits", none, |body| body["items"] == json!([])).await;
    app.assert_verified().await;
}
