//! The webhook inbox: its worker's batches, and the operators' desk.

use std::collections::BTreeMap;

use careforall_tests::{Client, TestApp, answer, eventually, fresh_database, redis_url};
use chrono::Utc;
use domain::pledge::News;
use domain::{CampaignId, DonorId, Money, Pledge, PledgeCommand, PledgeEvent, VersionedEvent};
use event_store::{Ledger, Metadata};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

/// A row as a test looks at it: status, tries, and why.
type Row = (String, i32, Option<String>);

async fn row(pool: &PgPool, webhook_id: &str) -> Row {
    let sql = "select status, attempts, reason from webhook_inbox where webhook_id = $1";
    sqlx::query_as(sql).bind(webhook_id).fetch_one(pool).await.unwrap()
}

async fn row_with_status(pool: &PgPool, webhook_id: &str, status: &str) -> Row {
    let what = format!("{webhook_id} is {status}");
    eventually(what, async || row(pool, webhook_id).await, |row| row.0 == status).await
}

async fn inbox_id(pool: &PgPool, webhook_id: &str) -> i64 {
    let sql = "select inbox_id from webhook_inbox where webhook_id = $1";
    sqlx::query_scalar(sql).bind(webhook_id).fetch_one(pool).await.unwrap()
}

async fn run(pool: &PgPool, sql: &str) {
    sqlx::query(sql).execute(pool).await.unwrap();
}

/// Puts genuine messages into the inbox in one statement, in this order.
async fn store(pool: &PgPool, messages: &[(&str, Uuid, Value)]) {
    sqlx::query(
        "insert into webhook_inbox (provider, origin, webhook_id, event_type, pledge_id, body)
         select 'sandbox', 'webhook', m.id, 'payment', m.pledge_id, m.body
         from unnest($1::text[], $2::uuid[], $3::text[]) with ordinality as m (id, pledge_id, body, ordinal)
         order by m.ordinal",
    )
    .bind(messages.iter().map(|m| m.0).collect::<Vec<_>>())
    .bind(messages.iter().map(|m| m.1).collect::<Vec<_>>())
    .bind(messages.iter().map(|m| m.2.to_string()).collect::<Vec<_>>())
    .execute(pool)
    .await
    .unwrap();
}

/// A captured payment of a pledge that is not there, after the worker's last try.
async fn dead_letter(app: &TestApp, webhook_id: &str, pledge_id: Uuid) -> i64 {
    // A payment is one pledge's.
    let payment = format!("pay_{webhook_id}");
    let body = Client::money_webhook("payment.captured", pledge_id, &payment, 5000);
    assert_eq!(app.webhook(webhook_id, &body).await.0, 200);
    let what = format!("{webhook_id} has been tried");
    eventually(what, async || row(&app.pool, webhook_id).await, |row| row.2.is_some()).await;
    sqlx::query("update webhook_inbox set attempts = 11, next_attempt_at = now() where webhook_id = $1")
        .bind(webhook_id)
        .execute(&app.pool)
        .await
        .unwrap();
    row_with_status(&app.pool, webhook_id, "dead").await;
    inbox_id(&app.pool, webhook_id).await
}

/// A pledge under an id that is known before it is made.
async fn make_pledge(app: &TestApp, campaign: Uuid, pledge_id: Uuid) {
    let command = PledgeCommand::Create {
        campaign_id: CampaignId(campaign),
        donor_id: DonorId(Uuid::from_u128(7)),
        amount: Money::new(5000, "USD".parse().unwrap()).unwrap(),
        anonymous: true,
        made_at: Utc::now(),
    };
    let ledger = Ledger::start(app.pool.clone());
    ledger.create::<Pledge>(pledge_id, &command, vec![], &Metadata::default(), None).await.unwrap();
}

async fn as_operator(app: &TestApp, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
    let request = app.as_organiser(method, path).header("x-operator", "Ada");
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    answer(request.send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_shown_and_tried_again() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = Uuid::new_v4();
    let dead = dead_letter(&app, "msg_dead", pledge).await;
    dead_letter(&app, "msg_other", Uuid::new_v4()).await;

    let (status, page) = as_operator(&app, Method::GET, "/webhooks/inbox?status=dead&limit=1", None).await;
    assert_eq!((status, &page["items"][0]["webhook_id"]), (StatusCode::OK, &json!("msg_other")));
    let next =
        format!("/webhooks/inbox?status=dead&limit=1&cursor={}", page["next_cursor"].as_str().unwrap());
    let (_, page) = as_operator(&app, Method::GET, &next, None).await;
    assert_eq!(page["items"][0]["inbox_id"], dead);
    assert_eq!(page["next_cursor"], Value::Null);
    for (query, expected) in [
        (format!("pledge_id={pledge}"), 1),
        ("status=dead&provider=sandbox".to_owned(), 2),
        ("provider=another".to_owned(), 0),
        ("status=review".to_owned(), 0),
        ("".to_owned(), 2),
    ] {
        let (_, page) = as_operator(&app, Method::GET, &format!("/webhooks/inbox?{query}"), None).await;
        assert_eq!(page["items"].as_array().unwrap().len(), expected, "{query}: {page}");
    }

    let path = format!("/webhooks/inbox/{dead}");
    let (_, shown) = as_operator(&app, Method::GET, &path, None).await;
    assert_eq!((&shown["status"], &shown["attempts"]), (&json!("dead"), &json!(12)));
    assert_eq!(shown["why"], "there is no such pledge");
    assert_eq!(shown["acts"], json!([]));
    let body: Value = serde_json::from_str(shown["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["data"]["pledge_id"], json!(pledge));

    make_pledge(&app, campaign, pledge).await;
    let (status, retried) = as_operator(&app, Method::POST, &format!("{path}/retry"), None).await;
    assert_eq!(status, 200, "{retried}");
    row_with_status(&app.pool, "msg_dead", "processed").await;
    app.totals_with(campaign, "/raised_minor", 5000).await;
    let (_, shown) = as_operator(&app, Method::GET, &path, None).await;
    let acts = shown["acts"].as_array().unwrap();
    assert_eq!(acts.len(), 1);
    assert_eq!((&acts[0]["act"], &acts[0]["acted_by"]), (&json!("retry"), &json!("Ada")));

    let (status, problem) = as_operator(&app, Method::POST, &format!("{path}/retry"), None).await;
    assert_eq!((status, &problem["type"]), (StatusCode::CONFLICT, &json!("urn:careforall:problem:conflict")));
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_dead_letters_are_tried_again_at_once() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledges = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()];
    for (n, pledge) in pledges.iter().enumerate() {
        dead_letter(&app, &format!("msg_{n}"), *pledge).await;
        make_pledge(&app, campaign, *pledge).await;
    }
    let retry = |status: &str| {
        let body = json!({"status": status});
        let app = &app;
        async move { as_operator(app, Method::POST, "/webhooks/inbox/retry", Some(body)).await }
    };
    assert_eq!(retry("review").await, (StatusCode::OK, json!({"retried": 0})));
    assert_eq!(retry("processed").await.0, 422);
    assert_eq!(retry("dead").await, (StatusCode::OK, json!({"retried": 3})));
    for n in 0..3 {
        row_with_status(&app.pool, &format!("msg_{n}"), "processed").await;
    }
    let acts: i64 = sqlx::query_scalar("select count(*) from webhook_inbox_acts where act = 'retry'")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    assert_eq!(acts, 3);
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_discarded_for_a_reason_and_can_come_back() {
    let app = TestApp::start().await;
    let dead = dead_letter(&app, "msg_dead", Uuid::new_v4()).await;
    let path = format!("/webhooks/inbox/{dead}/discard");
    for reason in ["", "  ", &"x".repeat(501)] {
        let (status, problem) = as_operator(&app, Method::POST, &path, Some(json!({"reason": reason}))).await;
        assert_eq!(
            (status, &problem["errors"][0]["field"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!("reason"))
        );
    }
    let (status, _) = as_operator(&app, Method::POST, &path, Some(json!({}))).await;
    assert_eq!(status, 400);
    assert_eq!(row(&app.pool, "msg_dead").await.0, "dead");

    let reason = json!({"reason": "of another system, says the provider"});
    let discard = app.as_organiser(Method::POST, &path).json(&reason);
    let (status, shown) = answer(discard.send().await.unwrap()).await;
    assert_eq!((status, &shown["status"]), (StatusCode::OK, &json!("discarded")), "{shown}");
    let act = &shown["acts"][0];
    assert_eq!((&act["act"], &act["reason"]), (&json!("discard"), &reason["reason"]));
    assert_eq!(act["acted_by"], "admin");
    let (status, _) = as_operator(&app, Method::POST, &path, Some(reason)).await;
    assert_eq!(status, 409);

    let retry = format!("/webhooks/inbox/{dead}/retry");
    let (status, shown) = as_operator(&app, Method::POST, &retry, None).await;
    assert_eq!((status, shown["acts"].as_array().unwrap().len()), (StatusCode::OK, 2));
    for change in ["update webhook_inbox_acts set acted_by = 'Eve'", "delete from webhook_inbox_acts"] {
        let refused = sqlx::query(change).execute(&app.pool).await.unwrap_err();
        assert!(refused.to_string().contains("append-only"), "{change}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_desk_is_for_operators_and_says_what_is_wrong() {
    let app = TestApp::start().await;
    let dead = dead_letter(&app, "msg_dead", Uuid::new_v4()).await;
    let (retry, discard) =
        (format!("/webhooks/inbox/{dead}/retry"), format!("/webhooks/inbox/{dead}/discard"));
    let routes = [
        (Method::GET, "/webhooks/inbox".to_owned()),
        (Method::GET, format!("/webhooks/inbox/{dead}")),
        (Method::POST, retry.clone()),
        (Method::POST, "/webhooks/inbox/retry".to_owned()),
        (Method::POST, discard),
    ];
    for (method, path) in routes {
        let asked = || match method {
            Method::GET => app.request(method.clone(), &path),
            _ => app.request(method.clone(), &path).json(&json!({"status": "dead", "reason": "none"})),
        };
        let (status, problem) = answer(asked().send().await.unwrap()).await;
        assert_eq!(status, 401, "{method} {path}: {problem}");
        let wrong = asked().bearer_auth("wrong");
        assert_eq!(wrong.send().await.unwrap().status(), 401, "{method} {path}");
    }
    for query in ["status=odd", "limit=0", "limit=201", "cursor=odd", "pledge_id=odd"] {
        let (status, _) = as_operator(&app, Method::GET, &format!("/webhooks/inbox?{query}"), None).await;
        assert_eq!(status, 400, "{query}");
    }
    for (path, expected) in [("/webhooks/inbox/999", 404), ("/webhooks/inbox/odd", 400)] {
        assert_eq!(as_operator(&app, Method::GET, path, None).await.0, expected, "{path}");
    }
    assert_eq!(as_operator(&app, Method::POST, "/webhooks/inbox/999/retry", None).await.0, 404);
    let nameless = app.as_organiser(Method::POST, &retry).header("x-operator", "x".repeat(101));
    assert_eq!(nameless.send().await.unwrap().status(), 400);

    assert_eq!(row(&app.pool, "msg_dead").await.0, "dead");
    let acts: i64 =
        sqlx::query_scalar("select count(*) from webhook_inbox_acts").fetch_one(&app.pool).await.unwrap();
    assert_eq!(acts, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_on_a_pledge_goes_on_when_the_pledge_moves() {
    let app = TestApp::start().await;
    let (campaign, pledge) = (app.campaign().await, Uuid::new_v4());
    let captured = Client::money_webhook("payment.captured", pledge, "pay_1", 5000);
    assert_eq!(app.webhook("msg_early", &captured).await.0, 200);
    // Between two tries: the end of a try says when the next one is.
    let put_off = async || {
        let sql = "update webhook_inbox set next_attempt_at = now() + interval '1 hour'
                   where reason is not null and claimed_until is null";
        sqlx::query(sql).execute(&app.pool).await.unwrap().rows_affected()
    };
    eventually("msg_early waits", put_off, |rows| *rows == 1).await;

    make_pledge(&app, campaign, pledge).await;
    let authorized = Client::money_webhook("payment.authorized", pledge, "pay_1", 5000);
    assert_eq!(app.webhook("msg_first", &authorized).await.0, 200);
    row_with_status(&app.pool, "msg_early", "processed").await;
    app.totals_with(campaign, "/raised_minor", 5000).await;
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_facts_of_one_pledge_in_a_batch_are_one_command_and_each_names_its_message() {
    let app = TestApp::start().await;
    let pledge = app.pledge(app.campaign().await, 5000, "ada@example.org").await;
    let fact = |kind: &str| Client::money_webhook(kind, pledge, "pay_1", 5000);
    store(
        &app.pool,
        &[
            ("msg_1", pledge, fact("payment.authorized")),
            ("msg_2", pledge, fact("payment.captured")),
            ("msg_3", pledge, fact("settlement.confirmed")),
        ],
    )
    .await;
    row_with_status(&app.pool, "msg_3", "processed").await;
    let events: Vec<(String, String, String, bool)> = sqlx::query_as(
        "select e.event_type, w.webhook_id, e.metadata ->> 'command_id',
             e.metadata ->> 'webhook_sha256' = encode(sha256(convert_to(w.body, 'UTF8')), 'hex')
         from events e join webhook_inbox w
             on w.provider = e.metadata ->> 'provider' and w.webhook_id = e.metadata ->> 'webhook_id'
         order by e.position",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    let told: Vec<_> = events.iter().map(|e| (e.0.as_str(), e.1.as_str())).collect();
    let expected = [("PledgeAuthorized", "msg_1"), ("PledgeCaptured", "msg_2"), ("PledgeCompleted", "msg_3")];
    assert_eq!(told, expected);
    assert!(events.iter().all(|e| e.2 == events[0].2), "one command: {events:?}");
    assert!(events.iter().all(|e| e.3), "the digest of the body: {events:?}");
    let (_, shown) = as_operator(&app, Method::GET, "/webhooks/inbox?status=processed&limit=1", None).await;
    assert_eq!(shown["items"][0]["webhook_id"], "msg_3");
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_apply_many_facts_once_and_in_order() {
    const PLEDGES: usize = 50;
    let (database, redis) = (fresh_database().await, redis_url().await);
    let one = TestApp::start_on(database.clone(), redis.clone(), &[]).await;
    let _two = TestApp::start_on(database, redis, &[]).await;
    let campaign = one.campaign().await;
    let emails: Vec<String> = (0..PLEDGES).map(|n| format!("donor{n}@example.org")).collect();
    let pledges = join_all(emails.iter().map(|email| one.pledge(campaign, 100, email))).await;
    // The first capture of a pledge counts; each later one is other money, held apart as it came. New
    // facts about a pledge arrive while a worker has it.
    for round in 0..6 {
        let ids: Vec<String> = (0..PLEDGES).map(|n| format!("msg_{round}_{n}")).collect();
        let messages = ids.iter().zip(&pledges).map(|(id, pledge)| {
            (id.as_str(), *pledge, Client::money_webhook("payment.captured", *pledge, id, 100))
        });
        store(&one.pool, &messages.collect::<Vec<_>>()).await;
    }
    let open = async || -> i64 {
        let sql = "select count(*) from webhook_inbox where status <> 'processed'";
        sqlx::query_scalar(sql).fetch_one(&one.pool).await.unwrap()
    };
    eventually("every message is processed", open, |n| *n == 0).await;

    let events: Vec<(String, String, i64)> = sqlx::query_as(
        "select e.aggregate_id, e.event_type, w.inbox_id
         from events e join webhook_inbox w
             on w.provider = e.metadata ->> 'provider' and w.webhook_id = e.metadata ->> 'webhook_id'
         order by e.position",
    )
    .fetch_all(&one.pool)
    .await
    .unwrap();
    let count = |name: &str| events.iter().filter(|event| event.1 == name).count();
    assert_eq!(count("PledgeAuthorized"), PLEDGES);
    assert_eq!(count("PledgeCaptured"), PLEDGES);
    assert_eq!(count("PaymentUnapplied"), 5 * PLEDGES);
    let mut messages: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for (pledge, _, inbox_id) in &events {
        messages.entry(pledge).or_default().push(*inbox_id);
    }
    for (pledge, inbox_ids) in messages {
        assert!(inbox_ids.is_sorted(), "{pledge}: applied out of order: {inbox_ids:?}");
    }
    one.totals_with(campaign, "/raised_minor", 100 * PLEDGES as i64).await;
    one.assert_verified().await;
}

/// Messages that a worker claims: their ids, in the order of arrival, and their tries.
async fn claim(executor: impl sqlx::PgExecutor<'_>, max_rows: i32, seconds: f64) -> Vec<(String, i32)> {
    let sql = "select webhook_id, attempts from webhook_inbox_claim($1, $2) order by inbox_id";
    sqlx::query_as(sql).bind(max_rows).bind(seconds).fetch_all(executor).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pledge_is_taken_by_one_worker_at_a_time() {
    let pool = PgPool::connect(&fresh_database().await).await.unwrap();
    let (ada, bob) = (Uuid::from_u128(1), Uuid::from_u128(2));
    store(&pool, &[("ada_1", ada, json!({})), ("bob_1", bob, json!({})), ("ada_2", ada, json!({}))]).await;
    // The limit never splits off a later row of a pledge before an earlier one.
    let mut first_worker = pool.begin().await.unwrap();
    let taken = claim(&mut *first_worker, 2, 3_600.0).await;
    assert_eq!(taken, [("ada_1".to_owned(), 1), ("bob_1".to_owned(), 1)]);

    // The second worker looks while the first has not committed, and sees a row that the first did not.
    store(&pool, &[("ada_3", ada, json!({}))]).await;
    let second_pool = pool.clone();
    let second_worker = tokio::spawn(async move { claim(&second_pool, 500, 1.0).await });
    let waiting = async || -> i64 {
        let sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap()
    };
    eventually("the second worker waits for the first", waiting, |n| *n == 1).await;
    first_worker.commit().await.unwrap();
    assert_eq!(second_worker.await.unwrap(), []);

    // The first worker dies: after its time all is due, whole pledges together.
    run(&pool, "update webhook_inbox set claimed_until = now() where attempts > 0").await;
    let again = claim(&pool, 500, 60.0).await;
    let expected = [("ada_1", 2), ("bob_1", 2), ("ada_2", 1), ("ada_3", 1)];
    assert_eq!(again, expected.map(|(id, attempts)| (id.to_owned(), attempts)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_worker_died_is_taken_up_again() {
    let (database, redis) = (fresh_database().await, redis_url().await);
    let mut app = TestApp::start_on(database.clone(), redis.clone(), &[]).await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    app.stop().await;
    let captured = Client::money_webhook("payment.captured", pledge, "pay_1", 5000);
    store(&app.pool, &[("msg_taken", pledge, captured)]).await;
    assert_eq!(claim(&app.pool, 500, 2.0).await.len(), 1);

    let app = TestApp::start_on(database, redis, &[]).await;
    let (_, attempts, _) = row_with_status(&app.pool, "msg_taken", "processed").await;
    assert_eq!(attempts, 2);
    app.totals_with(campaign, "/raised_minor", 5000).await;
    app.assert_verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pledge_that_moves_between_the_read_and_the_append_is_decided_again() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    app.pledge_with_status(pledge, "pending").await;
    // Appends stand still, so that the worker decides on a state that is about to change.
    let mut other = app.pool.begin().await.unwrap();
    sqlx::query("select * from ledger_head for update").execute(&mut *other).await.unwrap();
    let captured = Client::money_webhook("payment.captured", pledge, "pay_1", 5000);
    assert_eq!(app.webhook("msg_captured", &captured).await.0, 200);
    let appending = async || -> i64 {
        let sql = "select count(*) from pg_stat_activity where datname = current_database()
                   and wait_event_type = 'Lock' and query like '%ledger_append%'";
        sqlx::query_scalar(sql).fetch_one(&app.pool).await.unwrap()
    };
    eventually("the worker appends", appending, |n| *n == 1).await;
    let authorized = PledgeEvent::PledgeAuthorized {
        campaign_id: CampaignId(campaign),
        payment_id: "pay_1".parse().unwrap(),
        amount: Money::new(5000, "USD".parse().unwrap()).unwrap(),
        news: News::default(),
    };
    sqlx::query(
        "with head as (update ledger_head set position = position + 1 returning position)
         insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version,
             payload, metadata, recorded_at)
         select position, 'pledge', $1, 2, $2, $3, $4::json, '{}', now() from head",
    )
    .bind(pledge.to_string())
    .bind(authorized.kind().name)
    .bind(authorized.kind().version)
    .bind(serde_json::to_string(&authorized).unwrap())
    .execute(&mut *other)
    .await
    .unwrap();
    other.commit().await.unwrap();

    assert_eq!(row_with_status(&app.pool, "msg_captured", "processed").await.1, 1);
    let events: Vec<String> =
        sqlx::query_scalar("select event_type from events where aggregate_id = $1 order by sequence")
            .bind(pledge.to_string())
            .fetch_all(&app.pool)
            .await
            .unwrap();
    assert_eq!(events, ["PledgeCreated", "PledgeAuthorized", "PledgeCaptured"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_void_that_the_provider_does_not_do_is_tried_again() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    let failed = json!({
        "type": "payment.failed", "timestamp": chrono::Utc::now(),
        "data": {"pledge_id": pledge, "payment_id": "pay_1"},
    });
    app.webhook("msg_failed", &failed).await;
    row_with_status(&app.pool, "msg_failed", "processed").await;
    // The provider has no such payment.
    let authorized = Client::money_webhook("payment.authorized", pledge, "pay_2", 5000);
    app.webhook("msg_late", &authorized).await;
    let refused_twice = |row: &Row| row.1 > 1 && row.2.as_ref().is_some_and(|why| why.contains("refuses"));
    let ask = async || row(&app.pool, "msg_late").await;
    let (status, ..) = eventually("msg_late is tried again", ask, refused_twice).await;
    assert_eq!(status, "pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_old_and_finished_is_deleted() {
    let database = fresh_database().await;
    let pool = PgPool::connect(&database).await.unwrap();
    sqlx::query(
        "insert into webhook_inbox (provider, origin, webhook_id, event_type, body, status, received_at,
             finished_at, next_attempt_at)
         select 'sandbox', 'webhook', format('%s_%s', status, days), 'odd', '{}', status, now() - make_interval(days => days),
             case when status <> 'pending' then now() - make_interval(days => days) end, now() + interval '1 day'
         from unnest(array[91, 89]) as d (days),
             unnest(array['processed', 'ignored', 'pending', 'review', 'dead', 'discarded']) as s (status)
         order by days desc, status",
    )
    .execute(&pool)
    .await
    .unwrap();
    run(
        &pool,
        "insert into webhook_inbox
             (provider, origin, webhook_id, event_type, body, status, received_at, finished_at)
         select 'sandbox', 'webhook', name, 'odd', '{}', 'processed', now() - interval '91 days', finished_at
         from (values ('decided', now() - interval '91 days'), ('finished_late', now())) as n (name, finished_at)",
    )
    .await;
    run(
        &pool,
        "insert into webhook_inbox_acts (inbox_id, act, acted_by)
         select inbox_id, 'retry', 'Ada' from webhook_inbox where webhook_id = 'decided'",
    )
    .await;

    let _app = TestApp::start_on(database, redis_url().await, &[]).await;
    let kept = async || -> Vec<String> {
        let sql = "select webhook_id from webhook_inbox order by webhook_id collate \"C\"";
        sqlx::query_scalar(sql).fetch_all(&pool).await.unwrap()
    };
    let kept = eventually("what is old is deleted", kept, |kept| kept.len() < 14).await;
    let expected = [
        "dead_89",
        "dead_91",
        "decided",
        "discarded_89",
        "discarded_91",
        "finished_late",
        "ignored_89",
        "pending_89",
        "pending_91",
        "processed_89",
        "review_89",
        "review_91",
    ];
    assert_eq!(kept, expected);
    let refused = sqlx::query("select * from webhook_inbox_prune(0, 6 * 86400, 10)").execute(&pool).await;
    assert!(refused.unwrap_err().to_string().contains("7 days"));
}
