//! Analysts' views: the questions in docs/analytics.md have answers, and nothing else can be seen.

use careforall_tests::TestApp;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Executor, PgConnection, PgPool, Row};
use uuid::Uuid;

const REFUNDED_MINOR: i64 = 1_500;

/// Two campaigns, gifts that went well and gifts that did not. Returns the id of the first campaign.
async fn seeded() -> (TestApp, Uuid) {
    let app = TestApp::start().await;
    let (wells, schools) = (app.campaign().await, app.campaign().await);
    for (n, (campaign, minor, email)) in [
        (wells, 5_000, "ada@example.org"),
        (wells, 2_500, "bob@example.org"),
        (wells, 1_000, "ada@example.org"),
        (schools, 700, "eve@example.org"),
    ]
    .into_iter()
    .enumerate()
    {
        let pledge = app.pledge(campaign, minor, email).await;
        let payment = format!("pay_{n}");
        for kind in ["payment.authorized", "payment.captured", "settlement.confirmed"] {
            app.fact(kind, pledge, &payment, minor).await;
        }
        if n == 1 {
            let mut refund =
                careforall_tests::Client::money_webhook("payment.refunded", pledge, &payment, REFUNDED_MINOR);
            refund["data"]["refund_id"] = json!("re_1");
            assert_eq!(app.webhook("msg_refund", &refund).await.0, 200);
        }
    }
    let failing = app.pledge(wells, 9_000, "mallory@example.org").await;
    app.fact("payment.failed", failing, "pay_failed", 9_000).await;
    app.fact("payment.captured", failing, "pay_late", 9_000).await;
    app.pledge(wells, 300, "later@example.org").await;
    app.at_rest().await;
    let totals = app.totals_at_head(wells).await;
    assert_eq!(totals["raised_minor"], 8_500 - REFUNDED_MINOR);
    assert_eq!(totals["pledges"]["completed"], 3);
    app.assert_verified().await;
    (app, wells)
}

/// A connection that may do what an analyst may.
async fn analyst(pool: &PgPool) -> PgConnection {
    let mut connection = pool.acquire().await.unwrap().detach();
    connection.execute("set role careforall_analyst").await.unwrap();
    connection
}

/// The answer to a query, each row as an object.
async fn ask(analyst: &mut PgConnection, query: &str) -> Vec<Value> {
    let query = query.trim().trim_end_matches(';');
    sqlx::query(&format!("select to_json(answer) as answer from ({query}) answer"))
        .fetch_all(analyst)
        .await
        .unwrap_or_else(|error| panic!("{error}: {query}"))
        .iter()
        .map(|row| row.get("answer"))
        .collect()
}

fn documented_queries() -> Vec<String> {
    let page = include_str!("../../docs/analytics.md");
    page.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ten_documented_questions_have_sensible_answers() {
    let (app, wells) = seeded().await;
    let mut analyst = analyst(&app.pool).await;
    let queries = documented_queries();
    assert_eq!(queries.len(), 10);
    let mut answers = Vec::new();
    for query in &queries {
        answers.push(ask(&mut analyst, query).await);
    }
    let [top, days, running, funnel, times, waiting, refunds, sizes, cohorts, hours]: [Vec<Value>; 10] =
        answers.try_into().unwrap();
    assert_eq!((&top[0]["place"], &top[0]["raised_minor"]), (&json!(1), &json!(7_000)));
    assert_eq!((&top[0]["donors"], top[0]["percent_of_goal"].as_f64()), (&json!(2), Some(7.0)));
    assert_eq!(top[1]["raised_minor"], 700);
    let sum = |rows: &[Value], field: &str| rows.iter().map(|row| row[field].as_i64().unwrap()).sum::<i64>();
    assert_eq!((sum(&days, "pledges"), sum(&days, "donations")), (6, 4));
    assert_eq!(sum(&days, "captured_minor"), 9_200);
    assert!(running.iter().any(|day| day["captured_so_far_minor"] == 8_500));
    let of_wells = funnel.iter().find(|row| row["pledges"] == 5).unwrap();
    assert_eq!((&of_wells["captured"], &of_wells["failed"]), (&json!(3), &json!(1)));
    assert_eq!(of_wells["percent_captured"].as_f64(), Some(60.0));
    for state in ["median_seconds_pending", "median_seconds_authorized", "median_seconds_to_settlement"] {
        let seconds = times[0][state].as_f64().unwrap();
        assert!(seconds >= 0.0, "{state}: {seconds}");
    }
    assert!(waiting.is_empty(), "{waiting:?}");
    assert_eq!((&refunds[0]["kind"], &refunds[0]["times"]), (&json!("refund"), &json!(1)));
    assert_eq!(refunds[0]["amount_minor"], REFUNDED_MINOR);
    assert_eq!((&sizes[0]["gifts"], sizes[0]["median_minor"].as_f64()), (&json!(4), Some(1_750.0)));
    assert_eq!((sum(&cohorts, "donors"), sum(&cohorts, "gave_again")), (3, 1));
    assert_eq!(sum(&hours, "net_usd_minor"), 7_700);

    // Each pledge was in each state for as long as its events lie apart.
    let other_times: Vec<i64> = sqlx::query_scalar(
        "with happened as (
             select min(position) as number, min(recorded_at) filter (where sequence = 1) as created,
                 min(recorded_at) filter (where event_type = 'PledgeAuthorized') as authorized,
                 min(recorded_at) filter (where event_type = 'PledgeCaptured') as captured,
                 min(recorded_at) filter (where event_type = 'PledgeCompleted') as completed,
                 min(recorded_at) filter (where event_type = 'PledgeFailed') as failed
             from events where aggregate_type = 'pledge' group by aggregate_id
         ), lasted as (
             select number, extract(epoch from coalesce(authorized, failed) - created)::double precision as pending,
                 extract(epoch from captured - authorized)::double precision as authorized,
                 extract(epoch from completed - captured)::double precision as captured
             from happened
         )
         select l.number from lasted l left join analytics.pledge_funnel f on f.pledge_number = l.number
         where (l.pending, l.authorized, l.captured)
             is distinct from (f.seconds_pending, f.seconds_authorized, f.seconds_captured)",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    assert!(other_times.is_empty(), "pledges {other_times:?}");

    // The API says the same.
    let (_, totals) = app.totals(wells).await;
    assert_eq!(totals["raised_minor"], top[0]["raised_minor"]);
    let held = ask(&mut analyst, "select * from analytics.unapplied").await;
    assert_eq!((&held[0]["status"], &held[0]["taken_minor"]), (&json!("held"), &json!(9_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_view_and_column_says_what_it_is() {
    let app = TestApp::start().await;
    let unsaid: Vec<String> = sqlx::query_scalar(
        "select c.relname || coalesce('.' || a.attname, '')
         from pg_class c
         join pg_namespace n on n.oid = c.relnamespace
         left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
         where n.nspname = 'analytics'
             and (col_description(c.oid, a.attnum) is null or obj_description(c.oid, 'pg_class') is null)",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    assert!(unsaid.is_empty(), "{unsaid:?}");
    let views: Vec<String> = sqlx::query_scalar(
        "select table_schema || '.' || table_name from information_schema.views where table_schema = 'analytics'",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    let page = include_str!("../../docs/analytics.md");
    for view in views {
        assert!(page.contains(&format!("| `{view}` |")), "{view} is not in docs/analytics.md");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn analysts_see_no_personal_data_and_change_nothing() {
    let (app, _) = seeded().await;
    let mut analyst = analyst(&app.pool).await;
    // Whatever could tell who a donor is, or is a ticket for a pledge.
    let pledges: Vec<Uuid> =
        sqlx::query_scalar("select pledge_id from pledges").fetch_all(&app.pool).await.unwrap();
    let donors: Vec<Uuid> =
        sqlx::query_scalar("select donor_id from pledges").fetch_all(&app.pool).await.unwrap();
    let views: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.views where table_schema = 'analytics'",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    assert!(views.len() >= 8, "{views:?}");
    for view in views {
        let rows = ask(&mut analyst, &format!("select * from analytics.{view}")).await;
        assert!(!rows.is_empty(), "{view} is empty");
        let shown = serde_json::to_string(&rows).unwrap();
        assert!(
            !shown.contains("example.org") && !shown.contains("Ada") && !shown.contains("water"),
            "{view}"
        );
        for id in pledges.iter().chain(&donors) {
            assert!(!shown.contains(&id.to_string()), "{view} shows {id}");
        }
    }
    for refused in [
        "select * from events",
        "select * from pledges",
        "select * from donations",
        "select * from pledge_donors",
        "select * from ledger_identity",
        "select * from webhook_inbox",
        "delete from analytics.donations",
        "create table analytics.mine (n int)",
    ] {
        let error = analyst.execute(refused).await.expect_err(refused).to_string();
        assert!(error.contains("permission denied") || error.contains("cannot delete"), "{refused}: {error}");
    }
    // The views read with their owner's rights, and the API is open to everybody meanwhile.
    assert_eq!(app.request(Method::GET, "/api/campaigns").send().await.unwrap().status(), 200);
}
