//! Money after its capture: refunds, disputes, and money that is held apart.

use std::sync::atomic::{AtomicI64, Ordering};

use careforall_tests::{Client, TestApp, answer, eventually, replay};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{PaymentId, Pledge, PledgeCommand, PledgeId};
use event_store::{Ledger, Metadata};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Executor;
use uuid::Uuid;

use crate::projectors::from_redis;
use crate::webhooks::inbox_with_status;

/// A time in the past, a second after the one before: what is told later stood later.
fn next_second() -> DateTime<Utc> {
    static TOLD: AtomicI64 = AtomicI64::new(0);
    Utc::now() - TimeDelta::hours(1) + TimeDelta::seconds(TOLD.fetch_add(1, Ordering::Relaxed))
}

/// Sends a webhook about money that went back or may go back, and expects it to be taken. `id` is
/// that of the refund, the reversal or the dispute.
pub(crate) async fn returned(
    app: &TestApp,
    kind: &str,
    pledge: Uuid,
    payment: &str,
    id: &str,
    minor: i64,
) -> String {
    returned_at(app, next_second(), kind, pledge, payment, id, minor).await
}

/// The same of a time.
async fn returned_at(
    app: &TestApp,
    stood_at: DateTime<Utc>,
    kind: &str,
    pledge: Uuid,
    payment: &str,
    id: &str,
    minor: i64,
) -> String {
    let mut body = Client::money_webhook(kind, pledge, payment, minor);
    let field = match kind.split_once('.') {
        Some(("dispute", _)) => "dispute_id",
        Some((_, "reversed")) | Some(("reversal", _)) => "reversal_id",
        _ => "refund_id",
    };
    body["timestamp"] = json!(stood_at);
    body["data"][field] = json!(id);
    let webhook_id = format!("msg_{}", Uuid::new_v4());
    let (status, answer) = app.webhook(&webhook_id, &body).await;
    assert_eq!(status, 200, "{answer}");
    webhook_id
}

/// A campaign, and a pledge of 5000 to it whose money was taken by payment `pay_1`.
async fn captured(app: &TestApp) -> (Uuid, Uuid) {
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    app.fact("payment.captured", pledge, "pay_1", 5000).await;
    app.totals_with(campaign, "/raised_minor", 5000).await;
    (campaign, pledge)
}

/// A pledge that failed, and whose money was then taken by `payment` all the same.
async fn held_apart(app: &TestApp, campaign: Uuid, payment: &str) -> Uuid {
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    let failed = json!({
        "type": "payment.failed", "timestamp": chrono::Utc::now(),
        "data": {"pledge_id": pledge, "payment_id": payment},
    });
    assert_eq!(app.webhook(&format!("failed_{payment}"), &failed).await.0, 200);
    app.pledge_with_status(pledge, "failed").await;
    app.fact("payment.captured", pledge, payment, 5000).await;
    unapplied_with(app, "held", |items| items.iter().any(|item| item["payment_id"] == payment)).await;
    pledge
}

/// Waits until a pledge's row says how much went back.
async fn pledge_with(app: &TestApp, pledge: Uuid, field: &str, minor: i64) -> Value {
    let ask = async || app.get(&format!("/api/pledges/{pledge}")).await.1;
    eventually(format!("{field} of the pledge is {minor}"), ask, |shown| shown[field] == minor).await
}

/// Waits until the list of money held apart is as it should be, and returns it.
pub(crate) async fn unapplied_with(
    app: &TestApp,
    status: &str,
    holds: impl Fn(&[Value]) -> bool,
) -> Vec<Value> {
    let path = format!("/api/unapplied?status={status}");
    let ask = async || {
        let (status, body) = answer(app.as_organiser(Method::GET, &path).send().await.unwrap()).await;
        assert_eq!(status, 200, "{body}");
        body["items"].as_array().unwrap().clone()
    };
    eventually(format!("the list of what is {status} is right"), ask, |items| holds(items)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn refunds_lessen_what_is_raised_each_once() {
    let app = TestApp::start().await;
    let (campaign, pledge) = captured(&app).await;
    returned(&app, "payment.refunded", pledge, "pay_1", "re_1", 2000).await;
    let totals = app.totals_with(campaign, "/raised_minor", 3000).await;
    assert_eq!((&totals["refunded_minor"], &totals["charged_back_minor"]), (&json!(2000), &json!(0)));
    // The wall and the pledge are written together.
    pledge_with(&app, pledge, "refunded_minor", 2000).await;
    let wall = format!("/api/campaigns/{campaign}/donations");
    assert_eq!(app.get(&wall).await.1["items"][0]["amount"]["amount_minor"], 3000);

    // The same refund under another webhook id is no other refund.
    let again = returned(&app, "payment.refunded", pledge, "pay_1", "re_1", 2000).await;
    inbox_with_status(&app, &again, "processed").await;
    app.fact("settlement.confirmed", pledge, "pay_1", 5000).await;
    app.pledge_with_status(pledge, "completed").await;
    returned(&app, "payment.refunded", pledge, "pay_1", "re_2", 3000).await;
    let totals = app.totals_with(campaign, "/refunded_minor", 5000).await;
    assert_eq!((&totals["raised_minor"], &totals["donors"]), (&json!(0), &json!(1)));
    assert_eq!(totals["pledges"]["completed"], 1);

    let shown = pledge_with(&app, pledge, "refunded_minor", 5000).await;
    assert_eq!((&shown["status"], &shown["captured_minor"]), (&json!("completed"), &json!(5000)));
    // Nothing is left of the gift, so the wall thanks nobody for it.
    assert_eq!(app.get(&wall).await.1["items"], json!([]));
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_before_its_capture_waits_for_it() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    let early = returned(&app, "payment.refunded", pledge, "pay_1", "re_1", 2000).await;
    let ask = async || -> Option<String> {
        let sql = "select reason from webhook_inbox where webhook_id = $1 and status = 'pending'";
        sqlx::query_scalar(sql).bind(&early).fetch_one(&app.pool).await.unwrap()
    };
    let reason = eventually("the refund waits", ask, Option::is_some).await.unwrap();
    assert!(reason.contains("capture of payment pay_1"), "{reason}");

    app.fact("payment.captured", pledge, "pay_1", 5000).await;
    inbox_with_status(&app, &early, "processed").await;
    let totals = app.totals_with(campaign, "/raised_minor", 3000).await;
    assert_eq!(totals["refunded_minor"], 2000);
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_back_beyond_what_was_taken_is_loss() {
    let app = TestApp::start().await;
    let (campaign, pledge) = captured(&app).await;
    returned(&app, "payment.refunded", pledge, "pay_1", "re_1", 4000).await;
    app.totals_with(campaign, "/raised_minor", 1000).await;
    for (kind, id) in [("payment.refunded", "re_2"), ("dispute.lost", "dp_1")] {
        let webhook = returned(&app, kind, pledge, "pay_1", id, 1001).await;
        inbox_with_status(&app, &webhook, "processed").await;
    }
    // The same refund of another amount: the provider, which knows nothing of it, is asked in vain.
    let webhook = returned(&app, "payment.refunded", pledge, "pay_1", "re_1", 3999).await;
    let reason = inbox_with_status(&app, &webhook, "review").await.unwrap();
    assert!(reason.contains("asked three times"), "{reason}");
    let totals = app.totals_with(campaign, "/refunded_minor", 5000).await;
    assert_eq!((&totals["raised_minor"], &totals["charged_back_minor"]), (&json!(0), &json!(0)));
    app.at_rest().await;
    let loss: i64 =
        sqlx::query_scalar("select loss_minor from campaign_totals").fetch_one(&app.pool).await.unwrap();
    assert_eq!(loss, 1002);
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispute_costs_money_only_when_it_is_lost() {
    let app = TestApp::start().await;
    let (campaign, pledge) = captured(&app).await;
    for (kind, id) in [("dispute.opened", "dp_1"), ("dispute.won", "dp_1"), ("dispute.won", "dp_2")] {
        let webhook = returned(&app, kind, pledge, "pay_1", id, 5000).await;
        inbox_with_status(&app, &webhook, "processed").await;
    }
    // The outcome comes before the opening.
    let opened_at = next_second();
    returned(&app, "dispute.lost", pledge, "pay_1", "dp_3", 1500).await;
    let totals = app.totals_with(campaign, "/charged_back_minor", 1500).await;
    assert_eq!((&totals["raised_minor"], &totals["refunded_minor"]), (&json!(3500), &json!(0)));
    let late = returned_at(&app, opened_at, "dispute.opened", pledge, "pay_1", "dp_3", 1500).await;
    inbox_with_status(&app, &late, "processed").await;
    let shown = pledge_with(&app, pledge, "charged_back_minor", 1500).await;
    assert_eq!(shown["status"], "captured");

    app.at_rest().await;
    let (_, history) = app.get(&format!("/api/pledges/{pledge}/history")).await;
    let items = history["items"].as_array().unwrap();
    assert!(items[3..].iter().all(|item| item["event_type"] == "PaymentRecorded"), "{items:?}");
    let said: Vec<&str> = items[2..].iter().map(|item| item["said"].as_str().unwrap()).collect();
    let disputed = ["dispute_opened", "dispute_won", "dispute_won", "dispute_lost", "dispute_opened"];
    assert_eq!((said[0], &said[1..]), ("captured", &disputed[..]));
    assert_eq!(items[6]["amount_minor"], 1500);
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn organisers_see_what_open_disputes_have_withdrawn() {
    let app = TestApp::start().await;
    let (campaign, pledge) = captured(&app).await;
    let held = held_apart(&app, campaign, "pay_2").await;
    let asked = async |path: &str| {
        app.at_rest().await;
        let (status, body) = answer(app.as_organiser(Method::GET, path).send().await.unwrap()).await;
        assert_eq!(status, 200, "{body}");
        body
    };
    let balances = async || {
        let body = asked(&format!("/api/campaigns/{campaign}/accounts")).await;
        let accounts = body["accounts"].as_array().unwrap().clone();
        ["provider_clearing", "disputed", "campaign", "unapplied", "chargebacks"].map(|name| {
            accounts.iter().find(|account| account["account"] == name).unwrap()["balance_minor"].as_i64()
        })
    };
    let export = async || asked("/api/exports/campaigns?format=ndjson").await;
    assert_eq!(balances().await, [10_000, 0, -5000, -5000, 0].map(Some));

    returned(&app, "dispute.opened", pledge, "pay_1", "dp_1", 1500).await;
    returned(&app, "dispute.opened", held, "pay_2", "dp_2", 400).await;
    returned(&app, "dispute.opened", held, "pay_2", "dp_3", 30).await;
    assert_eq!(balances().await, [8070, 1930, -5000, -5000, 0].map(Some));
    let row = export().await;
    assert_eq!((&row["raised_minor"], &row["in_dispute_minor"]), (&json!(5000), &json!(1930)));
    let replay = async |command: &[&str]| {
        let (code, said) = replay(&[&["--database-url", &app.database_url], command].concat()).await;
        assert_eq!(code, Some(0), "{said}");
        said
    };
    let json = async |command: &[&str]| -> Value {
        serde_json::from_str(&replay(&[&["--json"], command].concat()).await).unwrap()
    };
    let balance = json(&["trial-balance"]).await;
    let accounts = balance["currencies"][0]["accounts"].as_array().unwrap();
    assert_eq!((&accounts[2]["account"], &accounts[2]["balance_minor"]), (&json!("disputed"), &json!(1930)));
    assert_eq!(json(&["totals"]).await["campaigns"][0]["in_dispute_minor"], 1930);
    let donor: Uuid =
        sqlx::query_scalar("select donor_id from pledges limit 1").fetch_one(&app.pool).await.unwrap();
    let donor = donor.to_string();
    let donor = ["show", "donor", &donor];
    assert_eq!(json(&donor).await["sums"]["USD"]["in_dispute_minor"], 1930);
    for command in [&["totals"][..], &donor] {
        let said = replay(command).await;
        assert!(said.contains("in dispute") && said.contains("19.30"), "{said}");
    }
    // The public sees what is raised, and not what is in question.
    let (_, totals) = app.totals_now(campaign).await;
    assert_eq!((&totals["raised_minor"], &totals["reversed_minor"]), (&json!(5000), &json!(0)));
    assert!(totals.get("in_dispute_minor").is_none() && totals.get("loss_minor").is_none(), "{totals}");

    returned(&app, "dispute.lost", pledge, "pay_1", "dp_1", 1500).await;
    app.totals_with(campaign, "/charged_back_minor", 1500).await;
    let journal = asked(&format!("/api/campaigns/{campaign}/journal?limit=2")).await;
    let lines = journal["items"].as_array().unwrap();
    assert_eq!(lines[0]["position"], lines[1]["position"]);
    for (line, expected) in lines.iter().zip([
        json!([2, "provider_clearing", "disputed", 1500]),
        json!([1, "chargebacks", "provider_clearing", 1500]),
    ]) {
        let amount = &line["amount"]["amount_minor"];
        assert_eq!(json!([line["line"], line["debit_account"], line["credit_account"], amount]), expected);
        assert!(line["occurred_at"].as_str().unwrap() < line["recorded_at"].as_str().unwrap(), "{line}");
    }
    returned(&app, "dispute.lost", held, "pay_2", "dp_2", 400).await;
    returned(&app, "dispute.won", held, "pay_2", "dp_3", 30).await;
    assert_eq!(balances().await, [8100, 0, -5000, -4600, 1500].map(Some));
    assert_eq!(export().await["in_dispute_minor"], 0);
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_reversed_is_taken_off_wherever_a_gift_is_shown() {
    let app = TestApp::start().await;
    let (campaign, pledge) = captured(&app).await;
    returned(&app, "payment.reversed", pledge, "pay_1", "rev_1", 1200).await;
    app.totals_with(campaign, "/reversed_minor", 1200).await;
    app.at_rest().await;
    let wall = async || app.get(&format!("/api/campaigns/{campaign}/donations")).await.1["items"].clone();
    assert_eq!(wall().await[0]["amount"]["amount_minor"], 3800);
    let (_, shown) = app.get(&format!("/api/pledges/{pledge}")).await;
    assert_eq!((&shown["captured_minor"], &shown["reversed_minor"]), (&json!(5000), &json!(1200)));
    assert!(shown.get("loss_minor").is_none(), "{shown}");
    let mine = app.request(Method::GET, "/api/me/donations");
    let (_, mine) = answer(mine.bearer_auth(pledge).send().await.unwrap()).await;
    let gift = &mine["items"][0];
    assert_eq!((&gift["amount"]["amount_minor"], &gift["reversed_minor"]), (&json!(5000), &json!(1200)));
    for (path, expected) in
        [("donations", json!([5000, 1200, 3800, null])), ("pledges", json!([5000, 1200, null, 0]))]
    {
        let path = format!("/api/exports/{path}?format=ndjson");
        let (_, row) = answer(app.as_organiser(Method::GET, &path).send().await.unwrap()).await;
        let figures = ["amount_minor", "reversed_minor", "net_minor", "loss_minor"].map(|field| &row[field]);
        assert_eq!(json!(figures), expected, "{row}");
    }
    let row: (i64, i64, i64) =
        sqlx::query_as("select reversed_minor, loss_minor, net_minor from analytics.donations")
            .fetch_one(&app.pool)
            .await
            .unwrap();
    assert_eq!(row, (1200, 0, 3800));
    returned(&app, "dispute.lost", pledge, "pay_1", "dp_1", 3807).await;
    app.totals_with(campaign, "/charged_back_minor", 3800).await;
    app.at_rest().await;
    assert_eq!(wall().await, json!([]), "nothing is left of it");
    let path = "/api/exports/pledges?format=ndjson";
    let (_, row) = answer(app.as_organiser(Method::GET, path).send().await.unwrap()).await;
    assert_eq!((&row["charged_back_minor"], &row["loss_minor"]), (&json!(3800), &json!(7)));
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_shows_the_change_of_what_is_held_apart() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = held_apart(&app, campaign, "pay_1").await;
    returned(&app, "payment.refunded", pledge, "pay_1", "re_1", 2000).await;
    app.at_rest().await;
    let days = async || {
        let path = format!("/api/campaigns/{campaign}/days");
        let (status, body) = answer(app.as_organiser(Method::GET, &path).send().await.unwrap()).await;
        assert_eq!(status, 200, "{body}");
        body["items"].as_array().unwrap().clone()
    };
    // Another day may begin meanwhile.
    let sum =
        |days: &[Value], figure: &str| days.iter().map(|day| day[figure].as_i64().unwrap()).sum::<i64>();
    let shown = days().await;
    let figures = ["created", "failed", "unapplied_minor", "refunded_minor", "reversed_minor", "net_minor"];
    assert_eq!(figures.map(|figure| sum(&shown, figure)), [1, 1, 3000, 0, 0, 0], "{shown:?}");
    assert!(shown.iter().all(|day| day["revised_at"].is_null()), "{shown:?}");
    // The route says what the table says.
    let revised = "update campaign_days set revised_at = '2026-01-02T00:00:00Z'";
    app.pool.execute(revised).await.unwrap();
    assert!(days().await.iter().all(|day| day["revised_at"] == "2026-01-02T00:00:00Z"));
    app.pool.execute("update campaign_days set revised_at = null").await.unwrap();
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_held_apart_is_listed_until_it_went_back() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = held_apart(&app, campaign, "pay_1").await;
    let items = unapplied_with(&app, "held", |items| items.len() == 1).await;
    assert_eq!((&items[0]["pledge_id"], &items[0]["campaign_id"]), (&json!(pledge), &json!(campaign)));
    assert_eq!(items[0]["amount"], json!({"amount_minor": 5000, "currency": "USD"}));
    assert_eq!((&items[0]["status"], &items[0]["given_back_minor"]), (&json!("held"), &json!(0)));

    returned(&app, "payment.refunded", pledge, "pay_1", "re_1", 2000).await;
    unapplied_with(&app, "held", |items| items[0]["given_back_minor"] == 2000).await;
    returned(&app, "dispute.lost", pledge, "pay_1", "dp_1", 3000).await;
    unapplied_with(&app, "held", <[Value]>::is_empty).await;
    let items = unapplied_with(&app, "refunded", |items| items.len() == 1).await;
    assert_eq!(items[0]["given_back_minor"], 5000);
    // It was never raised, so nothing of what is raised went back.
    let totals = app.totals_at_head(campaign).await;
    let figures = ["raised_minor", "refunded_minor", "charged_back_minor"].map(|field| &totals[field]);
    assert_eq!(figures, [0, 0, 0]);
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_money_held_apart_has_pages_and_is_for_organisers() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    for payment in ["pay_1", "pay_2", "pay_3"] {
        held_apart(&app, campaign, payment).await;
    }
    let page = async |path: &str| answer(app.as_organiser(Method::GET, path).send().await.unwrap()).await;
    let payments = |body: &Value| -> Vec<String> {
        let items = body["items"].as_array().unwrap().iter();
        items.map(|item| item["payment_id"].as_str().unwrap().to_owned()).collect()
    };
    let (_, first) = page("/api/unapplied?limit=2").await;
    assert_eq!(payments(&first), ["pay_3", "pay_2"]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let (_, second) = page(&format!("/api/unapplied?limit=2&cursor={cursor}")).await;
    assert_eq!((payments(&second), &second["next_cursor"]), (vec!["pay_1".to_owned()], &Value::Null));
    assert_eq!(page("/api/unapplied?status=accepted").await.1["items"], json!([]));

    assert_eq!(app.get("/api/unapplied").await.0, 401);
    let (status, problem) = page("/api/unapplied?status=lost").await;
    assert_eq!((status.as_u16(), &problem["type"]), (400, &json!("urn:careforall:problem:malformed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_money_is_another_pledge_and_its_facts_follow_it() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = held_apart(&app, campaign, "pay_1").await;
    let accepted_as = Uuid::new_v4();
    let payment_id: PaymentId = "pay_1".parse().unwrap();
    let accept =
        PledgeCommand::AcceptUnapplied { payment_id: payment_id.clone(), accepted_as: PledgeId(accepted_as) };
    let ledger = Ledger::start(app.pool.clone());
    let create = |pledge: &Pledge| pledge.create_accepted(&payment_id, Utc::now());
    let accept = async || {
        ledger
            .execute_and_create::<Pledge>(pledge, &accept, accepted_as, create, &Metadata::default(), None)
            .await
            .unwrap()
    };
    let head = app.head().await;
    let done = accept().await;
    assert_eq!((done.events.len(), done.position), (1, head + 4));
    // The same again has nothing new to say and makes nothing.
    assert_eq!((accept().await.events.len(), app.head().await), (0, head + 4));

    let totals = app.totals_with(campaign, "/raised_minor", 5000).await;
    assert_eq!((&totals["pledges"]["captured"], &totals["pledges"]["failed"]), (&json!(1), &json!(1)));
    unapplied_with(&app, "held", <[Value]>::is_empty).await;
    let items = unapplied_with(&app, "accepted", |items| items.len() == 1).await;
    assert_eq!(items[0]["accepted_as"], json!(accepted_as));
    app.assert_verified().await;

    // The provider knows the old pledge only.
    app.fact("payment.captured", pledge, "pay_1", 5000).await;
    app.fact("settlement.confirmed", pledge, "pay_1", 5000).await;
    app.pledge_with_status(accepted_as, "completed").await;
    returned(&app, "payment.refunded", pledge, "pay_1", "re_1", 2000).await;
    let totals = app.totals_with(campaign, "/raised_minor", 3000).await;
    assert_eq!(totals["refunded_minor"], 2000);
    app.pledge_with_status(pledge, "failed").await;
    app.assert_verified().await;
}

/// Asks for the acceptance of money that is held apart: the status, whether it was accepted before,
/// and the body.
pub(crate) async fn accept(
    app: &Client,
    pledge: impl std::fmt::Display,
    payment: &str,
) -> (u16, bool, Value) {
    let path = format!("/api/pledges/{pledge}/unapplied/{payment}/accept");
    let response = app.as_organiser(Method::POST, &path).send().await.unwrap();
    let hit = response.headers().get("idempotency-hit").is_some_and(|value| value == "true");
    let (status, body) = answer(response).await;
    (status.as_u16(), hit, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organiser_accepts_money_once() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = held_apart(&app, campaign, "pay_1").await;
    let head = app.head().await;
    let (first, again) = tokio::join!(accept(&app, pledge, "pay_1"), accept(&app, pledge, "pay_1"));
    assert_eq!((first.0, again.0), (201, 201), "{} {}", first.2, again.2);
    // Of two at once one was second, and got the same answer.
    assert_eq!((first.1 as u8 + again.1 as u8, &first.2), (1, &again.2));
    assert_eq!(app.head().await, head + 4);
    let (accepted, new_id) = (&first.2, first.2["pledge_id"].as_str().unwrap());
    assert_eq!((&accepted["status"], &accepted["campaign_id"]), (&json!("captured"), &json!(campaign)));
    assert_eq!(accepted["amount"], json!({"amount_minor": 5000, "currency": "USD"}));
    assert_eq!(accepted["position"], json!(head + 4));

    let totals = app.totals_with(campaign, "/raised_minor", 5000).await;
    assert_eq!((&totals["pledges"]["captured"], &totals["pledges"]["failed"]), (&json!(1), &json!(1)));
    unapplied_with(&app, "held", <[Value]>::is_empty).await;
    let items = unapplied_with(&app, "accepted", |items| items.len() == 1).await;
    assert_eq!(items[0]["accepted_as"], json!(new_id));
    // The donor is thanked by name, and what they said stays with the pledge they made.
    let gifts = app.get(&format!("/api/campaigns/{campaign}/donations")).await.1;
    assert_eq!(gifts["items"][0]["donor_name"], "Ada Lovelace");
    assert_eq!(gifts["items"][0]["message"], Value::Null);
    // Later facts about the money name the old pledge, and a later retry says the same as the first.
    app.fact("settlement.confirmed", pledge, "pay_1", 5000).await;
    app.pledge_with_status(new_id.parse().unwrap(), "completed").await;
    assert_eq!(accept(&app, pledge, "pay_1").await, (201, true, accepted.clone()));
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_accepted_says_why_and_changes_nothing() {
    let app = TestApp::start().await;
    let (campaign, paid) = captured(&app).await;
    let pledge = held_apart(&app, campaign, "pay_2").await;
    returned(&app, "payment.refunded", pledge, "pay_2", "re_1", 5000).await;
    unapplied_with(&app, "refunded", |items| items.len() == 1).await;
    let head = app.head().await;
    let urn = "urn:careforall:problem:";
    for (id, payment, status, kind, detail) in [
        (paid.to_string(), "pay_1", 422, "rule-broken", "payment pay_1 is not held apart"),
        (pledge.to_string(), "pay_2", 422, "rule-broken", "nothing is left of payment pay_2"),
        (pledge.to_string(), "pay_9", 422, "rule-broken", "payment pay_9 is not held apart"),
        (Uuid::new_v4().to_string(), "pay_2", 404, "not-found", "no such pledge"),
        (pledge.to_string(), "a%20b", 400, "malformed", "the payment's id"),
        ("one".to_owned(), "pay_2", 400, "malformed", ""),
    ] {
        let (found, _, problem) = accept(&app, &id, payment).await;
        assert_eq!((found, &problem["type"]), (status, &json!(format!("{urn}{kind}"))), "{id} {payment}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
    }
    let path = format!("/api/pledges/{pledge}/unapplied/pay_2/accept");
    assert_eq!(app.request(Method::POST, &path).send().await.unwrap().status(), 401);
    assert_eq!(app.head().await, head);
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accepting_is_all_or_nothing() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = held_apart(&app, campaign, "pay_1").await;
    let taken = app.pledge(campaign, 100, "bob@example.org").await;
    let head = app.head().await;
    let payment_id: PaymentId = "pay_1".parse().unwrap();
    let accept =
        PledgeCommand::AcceptUnapplied { payment_id: payment_id.clone(), accepted_as: PledgeId(taken) };
    let ledger = Ledger::start(app.pool.clone());
    let create = |pledge: &Pledge| pledge.create_accepted(&payment_id, Utc::now());
    let refused =
        ledger.execute_and_create::<Pledge>(pledge, &accept, taken, create, &Metadata::default(), None).await;
    assert!(refused.is_err(), "the id is another pledge's");
    assert_eq!(app.head().await, head);
    unapplied_with(&app, "held", |items| items.len() == 1).await;
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_auditor_finds_changed_figures_of_money_that_went_back() {
    let mut app = TestApp::start().await;
    let (campaign, pledge) = captured(&app).await;
    returned(&app, "payment.refunded", pledge, "pay_1", "re_1", 1000).await;
    returned(&app, "dispute.lost", pledge, "pay_1", "dp_1", 500).await;
    returned(&app, "dispute.opened", pledge, "pay_1", "dp_2", 700).await;
    app.totals_with(campaign, "/raised_minor", 3500).await;
    held_apart(&app, campaign, "pay_2").await;
    app.assert_verified().await;
    app.stop().await;
    for (table, change, back, expected) in [
        ("campaign_totals", "refunded_minor = 1001", "refunded_minor = 1000", "refunded_minor"),
        ("campaign_totals", "reversed_minor = 1", "reversed_minor = 0", "reversed_minor"),
        ("campaign_totals", "charged_back_minor = 0", "charged_back_minor = 500", "charged_back_minor"),
        ("campaign_totals", "loss_minor = 1", "loss_minor = 0", "loss_minor"),
        ("campaign_totals", "in_dispute_minor = 0", "in_dispute_minor = 700", "in_dispute_minor"),
        ("pledges", "refunded_minor = 999", "refunded_minor = 1000", "refunded_minor"),
        ("pledges", "reversed_minor = 1", "reversed_minor = 0", "reversed_minor"),
        ("pledges", "charged_back_minor = 0", "charged_back_minor = 500", "charged_back_minor"),
        ("pledges", "loss_minor = 1", "loss_minor = 0", "loss_minor"),
        (
            "campaign_captures",
            "captured_at = captured_at - interval '1 h'",
            "captured_at = captured_at + interval '1 h'",
            "captured_at",
        ),
        ("pledge_captures", "captured_minor = 1", "captured_minor = 5000", "captured_minor"),
        ("campaign_days", "unapplied_minor = 1", "unapplied_minor = 5000", "unapplied_minor"),
        ("campaign_days", "revised_at = now()", "revised_at = null", "revised_at"),
        ("unapplied_payments", "given_back_minor = 1", "given_back_minor = 0", "given_back_minor"),
        (
            "unapplied_payments",
            "status = 'accepted', accepted_as = pledge_id",
            "status = 'held', accepted_as = null",
            "status",
        ),
        ("unapplied_payments", "payment_id = 'pay_1'", "payment_id = 'pay_2'", "pay_1"),
    ] {
        // Only one pledge was captured, and only one payment is held apart.
        let only = if table == "pledges" { "where captured_minor > 0" } else { "" };
        app.pool.execute(format!("update {table} set {change} {only}").as_str()).await.unwrap();
        let (well, said) = app.verify().await;
        let named = said
            .lines()
            .any(|line| line.starts_with(&format!("DIFFERENCE: {table}: ")) && line.contains(expected));
        assert!(!well && named, "{change}: {said}");
        app.pool.execute(format!("update {table} set {back} {only}").as_str()).await.unwrap();
    }
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_in_redis_from_before_money_could_go_back_are_understood() {
    let app = TestApp::start().await;
    let (campaign, _) = captured(&app).await;
    app.at_rest().await;
    from_redis(&app, campaign).await;
    let client = redis::Client::open(app.redis_url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg(format!("careforall:*{campaign}*"))
        .query_async(&mut connection)
        .await
        .unwrap();
    let mut remove = redis::cmd("HDEL");
    let figures =
        ["refunded_minor", "reversed_minor", "charged_back_minor", "loss_minor", "in_dispute_minor"];
    remove.arg(&keys[0]).arg(&figures);
    let removed: i64 = remove.query_async(&mut connection).await.unwrap();
    assert_eq!(removed, 5);
    let totals = from_redis(&app, campaign).await;
    assert_eq!(totals["raised_minor"], 5000);
    assert_eq!((&totals["refunded_minor"], &totals["reversed_minor"]), (&json!(0), &json!(0)));
    app.assert_verified().await;
}
