//! Reads over large read tables: every statement takes its rows from an index, and exports need no
//! more memory for more rows. The test runs it smaller, `make soak` at a million pledges.

use std::collections::BTreeSet;
use std::path::Path;

use careforall::embedded::EmbeddedPostgres;
use reqwest::Method;
use serde_json::Value;
use sqlx::{Executor, PgPool};
use uuid::Uuid;

use crate::ports::free_address;
use crate::program::Program;
use crate::servers::redis_url;
use crate::waiting::PATIENCE;

/// Read tables with `pledges` pledges, half of them of one campaign. Rows are what projectors would write,
/// apart from the ids, which are made of their numbers.
async fn seed(pool: &PgPool, pledges: i64) {
    let statements = "
        create function pg_temp.id(kind text, n bigint) returns uuid language sql immutable
            as $$ select md5(kind || n)::uuid $$;
        create function pg_temp.campaign(n bigint, campaigns bigint) returns uuid language sql immutable
            as $$ select pg_temp.id('campaign', case when n % 2 = 0 then 1 else n % campaigns + 1 end) $$;
        insert into campaigns (campaign_id, status, title, description, goal_minor, currency, ends_at, created_at,
            published_at, position)
        select pg_temp.id('campaign', n), case when n % 10 = 0 then 'draft' else 'published' end,
            initcap(substr(md5('a' || n), 1, 5) || ' ' || substr(md5('b' || n), 1, 7) || ' for Kitui ' || n),
            'Clean water for village ' || n, 100000, 'EUR', now() + n * interval '1 minute',
            now() - n * interval '1 minute', now(), n
        from generate_series(1, CAMPAIGNS) n;
        insert into campaign_totals (campaign_id, published, currency, goal_minor, raised_minor, position, as_of)
        select campaign_id, true, currency, goal_minor, position * 7 % 100000, position, now() from campaigns;
        insert into pledges (pledge_id, campaign_id, donor_id, status, amount_minor, captured_minor, currency,
            anonymous, created_at, updated_at, created_position, position)
        select pg_temp.id('pledge', n), pg_temp.campaign(n, CAMPAIGNS), pg_temp.id('donor', n % 50000),
            case when n % 100 = 0 then 'expired' when n % 5 = 0 then 'pending' else 'completed' end, 1000 + n % 9000,
            case when n % 5 <> 0 then 1000 + n % 9000 end, 'EUR', n % 7 = 0,
            now() - n * interval '1 second', now(), n * 4 - 3, n * 4
        from generate_series(1, PLEDGES) n;
        insert into pledge_donors (position, donor_id, name, email, message)
        select created_position, donor_id, 'Ada Lovelace', 'ada@example.org', 'With love, for water and for schools'
        from pledges;
        insert into pledge_history (pledge_id, position, event_type, status, amount_minor, recorded_at)
        select pledge_id, position + k, 'PledgeCreated', 'pending', amount_minor, created_at
        from pledges, generate_series(0, 2) k;
        insert into donations (position, pledge_id, campaign_id, donor_id, amount_minor, currency, anonymous,
            captured_at)
        select position, pledge_id, campaign_id, donor_id, captured_minor, currency, anonymous, updated_at
        from pledges where captured_minor is not null;
        insert into unapplied_payments (pledge_id, payment_id, campaign_id, donor_id, amount_minor, currency,
            reason, position, received_at)
        select pledge_id, 'pay', campaign_id, donor_id, amount_minor, currency, 'not_needed', position,
            created_at
        from pledges where status = 'expired';
        insert into campaign_totals_history (campaign_id, position, as_of, published, currency, goal_minor, raised_minor,
            refunded_minor, reversed_minor, charged_back_minor, loss_minor, in_dispute_minor, unapplied_minor, donors,
            pending, authorized, captured, completed, failed, expired, cancelled)
        select campaign_id, position - 4 * PLEDGES, '2020-01-01'::timestamptz + position * interval '1 second', true,
            'EUR', 100000, position, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0
        from pledges;
        insert into journal (position, line, debit_account, credit_account, campaign_id, pledge_id, amount_minor,
            currency, occurred_at, recorded_at)
        select position - 4 * PLEDGES, 1, 'provider_clearing', 'campaign', campaign_id, pledge_id, amount_minor, 'EUR',
            '2020-01-01'::timestamptz + position * interval '1 second', '2020-01-01'::timestamptz + position * interval '1 second'
        from donations;
        insert into campaign_accounts (campaign_id, currency, provider_clearing_minor, campaign_minor, position)
        select campaign_id, 'EUR', 1, -1, 0 from campaigns;
        insert into campaign_days (campaign_id, day, currency)
        select campaign_id, '2026-01-01'::date + n, 'EUR' from campaigns, generate_series(1, 100) n;
        insert into overall_days (currency, day)
        select currency, '2000-01-01'::date + n from generate_series(1, 9000) n, unnest(array['EUR', 'USD']) currency;
        insert into webhook_inbox (provider, origin, webhook_id, event_type, body, status, finished_at)
        select 'sandbox', 'webhook', 'msg_' || n, 'payment.captured', '{}', 'processed', now()
        from generate_series(1, PLEDGES / 10) n;
        analyze";
    let statements = statements
        .replace("CAMPAIGNS", &(pledges / 20).max(2).to_string())
        .replace("PLEDGES", &pledges.to_string());
    let mut connection = pool.acquire().await.unwrap();
    // A crash may lose these rows.
    connection.execute("set synchronous_commit = off").await.unwrap();
    connection.execute(sqlx::raw_sql(&statements)).await.unwrap();
}

/// Lets the server write down the plan of every statement, with who asked.
const LOG_PLANS: [(&str, &str); 5] = [
    ("session_preload_libraries", "auto_explain"),
    ("auto_explain.log_min_duration", "0"),
    ("auto_explain.log_analyze", "on"),
    ("auto_explain.log_timing", "off"),
    ("log_line_prefix", "%a|"),
];

/// Reads of which one query does not show every statement, or that need one; with ids that are there.
const QUERIES: [(&str, &[&str]); 12] = [
    (
        "/api/campaigns",
        &[
            "?limit=2",
            "?sort=ending_soon&limit=2",
            "?sort=most_raised&limit=2",
            "?q={word}&limit=2",
            "?q={word}x",
            "?status=published&currency=EUR",
        ],
    ),
    ("/api/campaigns/{id}", &["", "?min_position=0"]),
    ("/api/campaigns/{id}/totals", &["", "?as_of=0", "?as_of=2026-01-01T00:00:00Z"]),
    ("/api/campaigns/{id}/totals/stream", &[]),
    ("/api/campaigns/{id}/accounts", &["", "?as_of=2026-01-01T00:00:00Z"]),
    ("/api/campaigns/{id}/days", &["?limit=2", "?from=2026-01-01&to=2026-12-31"]),
    ("/api/days", &["?currency=EUR&limit=2"]),
    ("/webhooks/inbox", &["?limit=2", "?limit=2&status=processed"]),
    ("/api/unapplied", &["?limit=2", "?status=refunded"]),
    ("/api/exports/donations", &["", "?format=ndjson", "?campaign_id={id}"]),
    ("/api/exports/pledges", &["", "?campaign_id={id}"]),
    ("/api/exports/campaigns", &["", "?campaign_id={id}"]),
];

/// Every read that the API's description has, with its queries: unless said above, one page of two.
fn reads() -> Vec<(String, Vec<&'static str>)> {
    let description = serde_json::to_value(careforall::api_description()).unwrap();
    let paths = description["paths"].as_object().unwrap();
    for (path, _) in QUERIES {
        assert!(paths[path].get("get").is_some(), "{path} is no read");
    }
    let is_read = |path: &str| path.starts_with("/api/") || path == "/webhooks/inbox";
    let reads = paths.iter().filter(|(path, methods)| is_read(path) && methods.get("get").is_some());
    reads
        .map(|(path, methods)| {
            let parameters = methods["get"]["parameters"].as_array();
            let is_paged = parameters.is_some_and(|all| all.iter().any(|one| one["name"] == "limit"));
            let said = QUERIES.iter().find(|(known, _)| known == path).map(|(_, queries)| queries.to_vec());
            (path.clone(), said.unwrap_or_else(|| vec![if is_paged { "?limit=2" } else { "" }]))
        })
        .collect()
}

/// Asks every read of read tables of a size, looks at the plans, and measures what exports take.
pub async fn reads_at_scale(pledges: i64) -> String {
    let folder = tempfile::tempdir().unwrap();
    let postgres = EmbeddedPostgres::start_with(folder.path(), &LOG_PLANS).await.unwrap();
    careforall::migrate(postgres.url()).await.unwrap();
    let pool = PgPool::connect(postgres.url()).await.unwrap();
    seed(&pool, pledges).await;
    let (redis, data_dir) = (redis_url().await, folder.path().join("up"));
    let flags =
        ["--database-url", postgres.url(), "--redis-url", &redis, "--data-dir", data_dir.to_str().unwrap()];
    let program = Program::start("up", &free_address(), &flags).await;
    program.ready().await;

    let campaign: Uuid = sqlx::query_scalar("select md5('campaign1')::uuid").fetch_one(&pool).await.unwrap();
    let pledge: Uuid = sqlx::query_scalar("select md5('pledge2')::uuid").fetch_one(&pool).await.unwrap();
    let word: String =
        sqlx::query_scalar("select split_part(title, ' ', 2) from campaigns where campaign_id = $1")
            .bind(campaign)
            .fetch_one(&pool)
            .await
            .unwrap();
    let before = memory_mb(&program, "VmRSS");
    let mut exported = 0;
    for (path, queries) in reads() {
        let id = if path.starts_with("/api/pledges") { pledge } else { campaign };
        for query in queries {
            let asked = format!("{path}{query}").replace("{id}", &id.to_string()).replace("{word}", &word);
            if path.starts_with("/api/exports") {
                exported += read_export(&program, &asked).await;
            } else {
                read_pages(&program, &asked, pledge).await;
            }
        }
    }
    let grown = memory_mb(&program, "VmHWM") - before;
    assert!(grown < 64.0, "reading {exported} bytes of exports took {grown:.0} MB of memory");
    let log = std::fs::read_to_string(folder.path().join("logs/postgres.log")).unwrap();
    let statements = assert_indexes_are_used(&log);
    drop(program);
    pool.close().await;
    postgres.stop().await.unwrap();
    format!(
        "{pledges} pledges: {statements} statements, all by index; {} MB exported, memory grew by {grown:.0} MB",
        exported / 1_000_000
    )
}

/// Reads a list's first two pages, or what there is.
async fn read_pages(program: &Program, path: &str, pledge: Uuid) {
    let first = read(program, path, pledge).await;
    if let Some(cursor) = first["next_cursor"].as_str() {
        let separator = if path.contains('?') { '&' } else { '?' };
        read(program, &format!("{path}{separator}cursor={cursor}"), pledge).await;
    }
}

/// As an organiser, or as the donor of a pledge what is the donor's own.
async fn read(program: &Program, path: &str, pledge: Uuid) -> Value {
    let request = if path.starts_with("/api/me/") {
        program.client.request(Method::GET, path).bearer_auth(pledge)
    } else {
        program.client.as_organiser(Method::GET, path)
    };
    let (status, body) =
        crate::answer(request.header("cache-control", "no-cache").send().await.unwrap()).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// Reads an export as it comes and returns its length.
async fn read_export(program: &Program, path: &str) -> usize {
    // A million rows take their time.
    let request = program.client.as_organiser(Method::GET, path).timeout(4 * PATIENCE);
    let mut response = request.send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    let mut bytes = 0;
    while let Some(chunk) = response.chunk().await.unwrap() {
        bytes += chunk.len();
    }
    assert!(bytes > 100, "{path} is empty");
    bytes
}

/// Tables of a few rows; reading one as a whole is the fastest way.
const SMALL: [&str; 2] = ["projector_checkpoints", "ledger_identity"];

/// Most rows of an index that may be sorted afterwards: the hits of a search, a year's days.
const MAX_SORTED: u64 = 2_000;

/// Looks at the plans of query-api, and returns how many different statements there were.
fn assert_indexes_are_used(log: &str) -> usize {
    let mut statements = BTreeSet::new();
    for entry in log.split("careforall-query-api|LOG:").skip(1) {
        // An entry's later lines begin with a tab.
        let end = entry.match_indices('\n').find(|(at, _)| !entry[at + 1..].starts_with('\t'));
        let entry = &entry[..end.map_or(entry.len(), |(at, _)| at)];
        let Some((_, plan)) = entry.split_once("Query Text:") else { continue };
        let statement = &plan[..plan.find("(cost=").unwrap_or(0)];
        if SMALL.iter().any(|table| entry.contains(table)) {
            continue;
        }
        assert!(!entry.contains("Seq Scan on "), "a table is read as a whole:\n{entry}");
        assert!(sorted_rows(entry) <= MAX_SORTED, "too many rows are sorted:\n{entry}");
        statements.insert(statement.rsplit_once('\n').map_or(statement, |(text, _)| text).to_owned());
    }
    assert!(statements.len() > 15, "only {} statements were seen: {statements:?}", statements.len());
    statements.len()
}

/// How many rows were sorted.
fn sorted_rows(plan: &str) -> u64 {
    let node = |line: &str| line.trim_start().trim_start_matches("->  ").to_owned();
    let sorts = plan.lines().map(node).filter(|line| line.starts_with("Sort  "));
    let rows = |line: String| line.split_once("(actual rows=")?.1.split(' ').next()?.parse().ok();
    sorts.filter_map(rows).max().unwrap_or(0)
}

fn memory_mb(program: &Program, field: &str) -> f64 {
    let pid = program.child.id().expect("the program runs");
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:"))).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
