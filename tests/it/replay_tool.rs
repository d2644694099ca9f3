//! The auditor finds what was tampered with, and is told what was in the past.

use std::path::Path;

use careforall_tests::{
    Client, TestApp, answer, completes, copy_of, eventually, fresh_database, ledger_of, peak_memory_mb,
    replay,
};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection, PgPool};
use tokio::io::{AsyncBufReadExt, BufReader};
use uuid::Uuid;

/// A system that has seen every fact about money, and is at rest. Nobody is connected to it.
struct Quiet {
    app: TestApp,
    campaign: Uuid,
    pledge: Uuid,
}

/// Positions: 1 and 2 the campaign, 3 to 5 a gift (created, authorized, captured), 6 settled, 7 half
/// of it refunded; 8 to 10 a pledge that failed, and whose money is held apart.
async fn quiet_system() -> Quiet {
    let mut app = TestApp::start().await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    app.fact("payment.captured", pledge, "pay_1", 5000).await;
    app.pledge_with_status(pledge, "captured").await;
    app.fact("settlement.confirmed", pledge, "pay_1", 5000).await;
    app.pledge_with_status(pledge, "completed").await;
    let mut refund = Client::money_webhook("payment.refunded", pledge, "pay_1", 2500);
    refund["data"]["refund_id"] = json!("re_1");
    assert_eq!(app.webhook("msg_refund", &refund).await.0, 200);
    app.totals_with(campaign, "/raised_minor", 2500).await;
    let failed = app.pledge(campaign, 700, "bob@example.org").await;
    app.fact("payment.failed", failed, "pay_2", 700).await;
    app.pledge_with_status(failed, "failed").await;
    app.fact("payment.captured", failed, "pay_2", 700).await;
    app.totals_with(campaign, "/position", 10).await;
    app.assert_verified().await;
    app.stop().await;
    app.pool.close().await;
    Quiet { app, campaign, pledge }
}

impl Quiet {
    /// A copy of it that was tampered with by whoever owns the database.
    async fn tampered_copy(&self, statement: &str) -> String {
        let url = copy_of(&self.app.database_url).await;
        let mut connection = PgConnection::connect(&url).await.unwrap();
        connection.execute("alter table events disable trigger all").await.unwrap();
        connection.execute(statement).await.unwrap();
        connection.close().await.unwrap();
        url
    }

    /// Runs a command on a copy of it that was tampered with.
    async fn tampered(&self, statement: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let url = self.tampered_copy(statement).await;
        let mut all = vec!["--database-url", &url, "--redis-url", &self.app.redis_url];
        all.extend(arguments);
        replay(&all).await
    }

    async fn replay(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut all = vec!["--database-url", self.app.database_url.as_str()];
        all.extend(arguments);
        replay(&all).await
    }

    async fn replay_json(&self, arguments: &[&str]) -> Value {
        let (code, said) = self.replay(&[&["--json"], arguments].concat()).await;
        assert_eq!(code, Some(0), "{said}");
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_changed_row_in_a_read_table_is_named() {
    let quiet = quiet_system().await;
    for (statement, expected) in [
        ("update campaign_totals set raised_minor = raised_minor + 1", "campaign_totals: raised_minor of"),
        ("update campaign_totals set as_of = as_of - interval '1 hour'", "campaign_totals: as_of of"),
        ("update campaign_donors set captured_pledges = 2", "campaign_donors: captured_pledges of"),
        (
            "update campaign_donors set captured_minor = captured_minor + 1",
            "campaign_donors: captured_minor of",
        ),
        ("delete from campaign_donors", "is missing"),
        ("update pledges set amount_minor = 1 where status = 'completed'", "pledges: amount_minor of"),
        ("update pledges set updated_at = now()", "pledges: updated_at of"),
        (
            "insert into pledges (pledge_id, campaign_id, donor_id, status, amount_minor, currency, anonymous,
                 created_at, updated_at, created_position, position)
             select gen_random_uuid(), campaign_id, donor_id, status, amount_minor, currency, anonymous,
                 created_at, updated_at, created_position, position from pledges limit 1",
            "is not in the ledger",
        ),
        (
            "update donations set amount_minor = 1",
            "donations: amount_minor of position 5: the ledger says 5000, found 1",
        ),
        ("update campaigns set status = 'closed'", "campaigns: status of"),
        ("update campaigns set ends_at = now()", "campaigns: ends_at of"),
        ("delete from pledge_history where position = 4", "pledge_history: row"),
        ("update pledge_history set amount_minor = 1 where position = 3", "pledge_history: amount_minor of"),
        (
            "update unapplied_payments set status = 'accepted', accepted_as = pledge_id",
            "unapplied_payments: status of",
        ),
        (
            "update campaign_totals_history set raised_minor = 1 where position = 5",
            ", position 5: the ledger says 5000, found 1",
        ),
        (
            "update campaign_totals_history set donors = 0, pending = 1 where position = 9",
            "campaign_totals_history: pending of",
        ),
        ("delete from campaign_totals_history where position = 7", "position 7 is missing"),
        ("update campaign_first_gifts set position = 4", "campaign_first_gifts: position of"),
        ("delete from campaign_first_gifts", "campaign_first_gifts: row"),
        (
            "update journal set amount_minor = 4999 where position = 6",
            "journal: amount_minor of position 6, line 1: the ledger says 5000, found 4999",
        ),
        (
            "update journal set credit_account = 'campaign' where position = 7",
            "journal: credit_account of position 7, line 1: the ledger says provider_clearing, found campaign",
        ),
        ("delete from journal where position = 10", "journal: row position 10, line 1 is missing"),
        (
            // In balance, and still not what the ledger says.
            "update campaign_accounts set bank_minor = bank_minor - 1, provider_clearing_minor = provider_clearing_minor + 1",
            "campaign_accounts: bank_minor of",
        ),
        ("update campaign_days set captured_minor = captured_minor + 1", "campaign_days: net_minor of"),
        ("update overall_days set day = day - 1", "overall_days: row"),
        (
            "update projector_checkpoints set position = 1000 where name = 'pledges'",
            "stands at position 1000, the ledger ends at",
        ),
    ] {
        let (code, said) = quiet.tampered(statement, &["verify"]).await;
        assert_eq!(code, Some(1), "{statement}: {said}");
        assert!(said.contains(expected), "{statement}: {expected:?} is not in: {said}");
        assert_eq!(
            said.matches("DIFFERENT").count(),
            usize::from(!statement.contains("checkpoints")),
            "{said}"
        );
    }
}

/// The tables are those that projectors fill, and the columns all that they have, so this also holds
/// for a table that is new.
#[tokio::test(flavor = "multi_thread")]
async fn every_column_of_every_read_table_is_compared() {
    let quiet = quiet_system().await;
    let tables = read_tables(&quiet.app.database_url).await;
    assert!(tables.len() >= 12, "{tables:?}");
    let all = |statement: fn(&ReadTable) -> String| {
        tables.iter().map(|table| statement(table) + ";").collect::<String>()
    };
    let differences = async |statement: String| {
        let url = quiet.tampered_copy(&statement).await;
        let arguments = ["--json", "--database-url", &url, "verify", "--max-differences", "1000"];
        let (code, said) = replay(&arguments).await;
        assert_eq!(code, Some(1), "{statement}: {said}");
        let report: Value = serde_json::from_str(&said).unwrap();
        report["differences"].as_array().unwrap().clone()
    };
    let changed = differences(all(ReadTable::change)).await;
    for table in &tables {
        for column in table.columns.iter().filter(|column| !column.is_key) {
            let named = changed.iter().any(|found| {
                found["place"] == table.name.as_str() && found["column"] == column.name.as_str()
            });
            assert!(named, "{} of {} is not compared: {changed:?}", column.name, table.name);
        }
    }
    for (statement, what) in
        [(all(ReadTable::delete), "is missing"), (all(ReadTable::add), "is not in the ledger")]
    {
        let found = differences(statement).await;
        assert_eq!(found.len(), tables.len(), "{found:?}");
        for table in &tables {
            let of_table = |found: &&Value| found["place"] == table.name.as_str();
            let found = found.iter().find(of_table).unwrap_or_else(|| panic!("{}: {found:?}", table.name));
            assert!(found["what"].as_str().unwrap().contains(what), "{found}");
        }
    }
}

/// A table that a projector fills. No statement here fires a constraint: they are dropped before.
#[derive(Debug)]
struct ReadTable {
    name: String,
    columns: Vec<Column>,
}

#[derive(Debug, sqlx::FromRow)]
struct Column {
    table_name: String,
    name: String,
    data_type: String,
    is_key: bool,
    is_made_by_postgres: bool,
}

async fn read_tables(database_url: &str) -> Vec<ReadTable> {
    let mut connection = PgConnection::connect(database_url).await.unwrap();
    let columns: Vec<Column> = sqlx::query_as(
        "select c.table_name::text, c.column_name::text as name, c.data_type::text,
             c.is_generated = 'ALWAYS' as is_made_by_postgres, exists (
                 select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
                 where i.indisprimary and i.indrelid = c.table_name::regclass and a.attname = c.column_name
             ) as is_key
         from information_schema.columns c join information_schema.role_table_grants g using (table_schema, table_name)
         where table_schema = 'public' and g.grantee = 'careforall_projector' and g.privilege_type = 'DELETE'
             -- Postgres lets nobody change the words of the search.
             and c.table_name <> 'projector_checkpoints' and c.data_type <> 'tsvector'
         order by c.table_name, c.ordinal_position",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    let mut tables: Vec<ReadTable> = Vec::new();
    for column in columns {
        match tables.last_mut() {
            Some(table) if table.name == column.table_name => table.columns.push(column),
            _ => tables.push(ReadTable { name: column.table_name.clone(), columns: vec![column] }),
        }
    }
    tables
}

impl ReadTable {
    /// Every column of every row, but not those that name the row.
    fn change(&self) -> String {
        let changes = self.columns.iter().filter(|column| !column.is_key && !column.is_made_by_postgres);
        let changes: Vec<String> =
            changes.map(|column| format!("{} = {}", column.name, column.other())).collect();
        if changes.is_empty() {
            return "select".to_owned();
        }
        format!("{}; update {} set {}", self.drop_constraints(), self.name, changes.join(", "))
    }

    fn delete(&self) -> String {
        format!("delete from {0} where ctid = (select min(ctid) from {0})", self.name)
    }

    /// A row like another, under another name.
    fn add(&self) -> String {
        let columns: Vec<&Column> =
            self.columns.iter().filter(|column| !column.is_made_by_postgres).collect();
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let values: Vec<String> = columns
            .iter()
            .map(|column| if column.is_key { column.other() } else { column.name.clone() })
            .collect();
        format!(
            "insert into {0} ({1}) select {2} from {0} limit 1",
            self.name,
            names.join(", "),
            values.join(", ")
        )
    }

    fn drop_constraints(&self) -> String {
        format!(
            "do $$ declare name text; begin
                 for name in select conname from pg_constraint where conrelid = '{0}'::regclass and contype = 'c' loop
                     execute format('alter table {0} drop constraint %I', name);
                 end loop;
             end $$",
            self.name
        )
    }
}

impl Column {
    /// Another value than the one that is there.
    fn other(&self) -> String {
        let name = &self.name;
        match self.data_type.as_str() {
            "uuid" => "gen_random_uuid()".to_owned(),
            "text" => format!("coalesce({name}, '') || 'x'"),
            "boolean" => format!("not {name}"),
            "bigint" | "smallint" => format!("coalesce({name}, 0) + 1000"),
            "date" => format!("{name} + 1"),
            "timestamp with time zone" => format!("coalesce({name}, now()) + interval '1 microsecond'"),
            other => panic!("{name} is {other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_total_in_redis_is_found() {
    let quiet = quiet_system().await;
    let client = redis::Client::open(quiet.app.redis_url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let key: Vec<String> = redis::cmd("KEYS")
        .arg(format!("careforall:*{}*", quiet.campaign))
        .query_async(&mut connection)
        .await
        .unwrap();
    redis::cmd("HSET").arg(&key[0]).arg("raised_minor").arg(1).exec_async(&mut connection).await.unwrap();
    let (code, said) = quiet.replay(&["--redis-url", &quiet.app.redis_url, "verify"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("Redis: raised_minor of") && said.contains("the ledger says 2500, found 1"),
        "{said}"
    );
    // Who gives no address of a Redis is told that it was not looked at.
    let (code, said) = quiet.replay(&["verify"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Redis was not compared"), "{said}");
}

/// Each is found at its position, and nothing behind it is called the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_ledger_is_found_and_the_first_bad_position_is_named() {
    let quiet = quiet_system().await;
    let rename =
        "update events set payload = replace(payload::text, 'PledgeAuthorized', 'PledgeExpired')::json";
    let expire = format!("{rename}, event_type = 'PledgeExpired' where position = 4");
    let rename = format!("{rename} where position = 4");
    let raise = |position: i64| {
        let payload = r#"replace(payload::text, 'minor":5000', 'minor":6000')::json"#;
        format!("update events set payload = {payload} where position = {position}")
    };
    for (statement, expected, first) in [
        (raise(3).as_str(), "pledge_history: amount_minor", 3),
        // An event whose amounts agree with each other; the next one repeats what was taken.
        (raise(5).as_str(), "position 6: PledgeCompleted is no edge", 6),
        (raise(6).as_str(), "position 6: PledgeCompleted is no edge", 6),
        (
            "update events set payload = replace(payload::text, 'captured_minor\":5000', 'captured_minor\":6000')::json
             where position = 5",
            "position 5: PledgeCaptured is no edge",
            5,
        ),
        (
            "update events set payload = replace(payload::text, 'minor\":700', 'minor\":800')::json where position = 9",
            "position 9: PledgeFailed is no edge",
            9,
        ),
        ("delete from events where position = 4", "position 4 is missing: 5 follows 3", 4),
        ("delete from events where position = (select max(position) from events)", "is missing, and the head is", 10),
        ("update events set position = 99 where position = 5", "position 5 is missing", 5),
        (
            // Skipped by whoever gave positions out: the head and all that follow agree on it.
            "update events set position = position + 1000 where position > 5;
             update events set position = position - 999 where position > 5;
             update ledger_head set position = position + 1",
            "position 6 is missing: 7 follows 5",
            6,
        ),
        (
            "update ledger_head set position = position - 1",
            "is beyond the ledger's head",
            10,
        ),
        (&rename, "position 4 cannot be understood", 4),
        (&expire, "position 5: PledgeCaptured is no edge", 5),
        (
            "update events set recorded_at = recorded_at - interval '1 day' where position = 4",
            "its time is before",
            4,
        ),
        (
            "update events set sequence = sequence + 10 where position = 5",
            "position 5: sequence 13 follows 2",
            5,
        ),
        (
            "update events set payload = replace(payload::text, 'campaign_id\":\"', 'campaign_id\":\"0')::json
             where position = 3",
            "position 3 cannot be understood",
            3,
        ),
        (
            // A later fault does not hide an earlier one of another kind.
            "delete from events where position = 9;
             update events set payload = replace(payload::text, 'minor\":2500', 'minor\":9900')::json where position = 7",
            "position 7: PaymentRecorded is no edge",
            7,
        ),
    ] {
        let (code, said) = quiet.tampered(statement, &["--json", "verify"]).await;
        assert_eq!(code, Some(1), "{statement}: {said}");
        let report: Value = serde_json::from_str(&said).unwrap();
        let named = report["differences"].as_array().unwrap();
        let what: Vec<&str> = named.iter().map(|difference| difference["what"].as_str().unwrap()).collect();
        assert!(what.iter().any(|what| what.contains(expected)), "{statement}: {expected:?} not in {what:?}");
        assert_eq!(report["first_bad_position"], first, "{statement}: {what:?}");
        assert_eq!(report["well"], false);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_checked_is_not_called_well() {
    let (code, said) = replay(&["--data-dir", "/nonexistent", "verify"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("careforall up"), "{said}");
    let quiet = quiet_system().await;
    let (code, said) = quiet.replay(&["--redis-url", "redis://127.0.0.1:1", "verify"]).await;
    assert_eq!(code, Some(2), "{said}");
    let id = Uuid::new_v4().to_string();
    for (arguments, expected) in [
        (&["show", "pledge", &id][..], 1),
        (&["show", "campaign", &id], 1),
        (&["show", "donor", &id], 1),
        (&["totals", "--campaign", &id], 1),
        (&["totals", "--as-of", "1000000"], 2),
        (&["totals", "--as-of", "yesterday"], 2),
        (&["verify", "--memory-mb", "3"], 2),
        (&["diff", "no_such_projection"], 2),
        (&["export", "--out", "/nonexistent/events.csv"], 2),
        (&["export", "--out", "events.unknown"], 2),
    ] {
        let (code, said) = quiet.replay(arguments).await;
        assert_eq!(code, Some(expected), "{arguments:?}: {said}");
        assert!(!said.is_empty() && !said.contains("panicked"), "{arguments:?}: {said}");
    }
}

/// The role that docs/auditing.md gives to auditors is enough for every command.
#[tokio::test(flavor = "multi_thread")]
async fn an_auditors_role_is_enough() {
    let quiet = quiet_system().await;
    let name = format!("ada_{}", Uuid::new_v4().simple());
    let mut owner = PgConnection::connect(&quiet.app.database_url).await.unwrap();
    owner
        .execute(format!("create role {name} login password 'hers' in role careforall_auditor").as_str())
        .await
        .unwrap();
    owner.close().await.unwrap();
    let (_, server) = quiet.app.database_url.rsplit_once('@').unwrap();
    let url = format!("postgres://{name}:hers@{server}");
    let pledge = quiet.pledge.to_string();
    for arguments in [
        &["verify"][..],
        &["diff", "pledges"],
        &["show", "pledge", &pledge],
        &["totals"],
        &["trial-balance"],
        &["export", "--format", "csv"],
        &["tail", "--from", "1", "--events", "3"],
    ] {
        let (code, said) = replay(&[&["--database-url", &url], arguments].concat()).await;
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn diff_names_every_difference_of_one_projection() {
    let quiet = quiet_system().await;
    let (code, said) = quiet.replay(&["diff", "campaign_totals"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("campaign_totals equals the ledger at position"), "{said}");
    let change = "update pledges set amount_minor = amount_minor + 1, donor_id = campaign_id";
    let (code, said) = quiet.tampered(change, &["--json", "diff", "pledges"]).await;
    assert_eq!(code, Some(1), "{said}");
    let diff: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(diff["differences_found"], 4, "two columns of two rows: {said}");
    let (code, said) = quiet.tampered(change, &["diff", "pledges"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("5001") && said.contains("4 differences"), "{said}");
    // Another projection is not concerned.
    assert_eq!(quiet.tampered(change, &["diff", "campaigns"]).await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn pledges_campaigns_and_donors_are_shown_from_the_ledger() {
    let quiet = quiet_system().await;
    let (pledge, campaign) = (quiet.pledge.to_string(), quiet.campaign.to_string());
    let (code, said) = quiet.replay(&["show", "pledge", &pledge]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("PaymentRecorded") && said.contains("payment pay_1, refunded 25.00 USD (refund re_1)"),
        "{said}"
    );
    let shown = quiet.replay_json(&["show", "pledge", &pledge]).await;
    assert_eq!(shown["events"][0]["payload"]["PledgeCreated"]["amount"]["amount_minor"], 5000);
    let shown = quiet.replay_json(&["show", "campaign", &campaign]).await;
    assert_eq!(shown["events"][1]["event_type"], "CampaignPublished");
    assert_eq!(shown["events"].as_array().unwrap().len(), 2);
    let donor = quiet.replay_json(&["show", "pledge", &pledge]).await["events"][0]["payload"]["PledgeCreated"]
        ["donor_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let shown = quiet.replay_json(&["show", "donor", &donor]).await;
    assert_eq!(shown["pledges"].as_array().unwrap().len(), 1);
    assert_eq!(shown["sums"]["USD"]["captured_minor"], 5000);
    assert_eq!(shown["sums"]["USD"]["refunded_minor"], 2500);
    let (code, said) = quiet.replay(&["show", "donor", &donor]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("completed") && said.contains("25.00"), "{said}");
}

/// Answers that the API gave while it ran agree with the ledger at that position and at that time.
#[tokio::test(flavor = "multi_thread")]
async fn totals_of_the_past_are_what_the_api_answered_then() {
    let mut app = TestApp::start().await;
    let (wells, schools) = (app.campaign().await, app.campaign().await);
    let mut answered: Vec<Value> = Vec::new();
    for n in 0..6 {
        let campaign = if n % 3 == 2 { schools } else { wells };
        let payment = format!("pay_{n}");
        let pledge = app.pledge(campaign, 1_000 + n, &format!("donor{}@example.org", n % 4)).await;
        for kind in ["payment.authorized", "payment.captured", "payment.refunded"] {
            if kind == "payment.refunded" && n % 2 == 0 {
                continue;
            }
            let before = app.totals_at_head(campaign).await["position"].as_i64().unwrap();
            let mut fact = Client::money_webhook(kind, pledge, &payment, 1_000 + n);
            if kind == "payment.refunded" {
                fact = Client::money_webhook(kind, pledge, &payment, 300);
                fact["data"]["refund_id"] = json!(format!("re_{n}"));
            }
            assert_eq!(app.webhook(&format!("msg_{kind}_{n}"), &fact).await.0, 200);
            let ask = async || app.totals(campaign).await.1;
            let moved = |totals: &Value| totals["position"].as_i64() > Some(before);
            answered.push(eventually(format!("{kind} is in the totals"), ask, moved).await);
        }
    }
    app.stop().await;
    assert_eq!(answered.len(), 15);
    for expected in &answered {
        for as_of in [expected["position"].to_string(), expected["as_of"].as_str().unwrap().to_owned()] {
            let campaign = expected["campaign_id"].as_str().unwrap();
            let arguments = [
                "--json",
                "--database-url",
                &app.database_url,
                "totals",
                "--as-of",
                &as_of,
                "--campaign",
                campaign,
            ];
            let (code, said) = replay(&arguments).await;
            assert_eq!(code, Some(0), "{said}");
            let said: Value = serde_json::from_str(&said).unwrap();
            let found = &said["campaigns"][0];
            for field in ["raised_minor", "refunded_minor", "donors", "position", "goal_minor"] {
                assert_eq!(
                    found[field], expected[field],
                    "{field} as of {as_of}: {found}, answered {expected}"
                );
            }
            for (state, count) in expected["pledges"].as_object().unwrap() {
                assert_eq!(&found[state], count, "{state} as of {as_of}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trial_balance_is_in_balance_at_every_position() {
    let quiet = quiet_system().await;
    let head = quiet.replay_json(&["trial-balance"]).await["position"].as_i64().unwrap();
    assert_eq!(head, 10);
    let mut clearing = Vec::new();
    for position in 0..=head {
        let balance = quiet.replay_json(&["trial-balance", "--as-of", &position.to_string()]).await;
        assert_eq!(balance["balanced"], true, "{balance}");
        let Some(usd) = balance["currencies"].as_array().unwrap().first() else { continue };
        assert_eq!(usd["debit_minor"], usd["credit_minor"]);
        let of = |name: &str| {
            let accounts = usd["accounts"].as_array().unwrap();
            let account = accounts.iter().find(|account| account["account"] == name).unwrap();
            account["balance_minor"].as_i64().unwrap()
        };
        clearing.push(["provider_clearing", "bank", "campaign", "unapplied", "refunds"].map(of));
    }
    // Captured, settled, half refunded, and money held apart.
    clearing.dedup();
    assert_eq!(
        clearing,
        [
            [5000, 0, -5000, 0, 0],
            [0, 5000, -5000, 0, 0],
            [-2500, 5000, -5000, 0, 2500],
            [-1800, 5000, -5000, -700, 2500]
        ]
    );
    let (code, said) = quiet.replay(&["trial-balance", "--as-of", "5"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("in balance") && said.contains("50.00"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_exported_whole_in_three_forms() {
    let quiet = quiet_system().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for name in ["events.ndjson", "events.csv", "events.parquet"] {
        let (code, said) = quiet.replay(&["export", "--out", &file(name)]).await;
        assert_eq!((code, said.as_str()), (Some(0), ""), "{name}");
    }
    let pool = PgPool::connect(&quiet.app.database_url).await.unwrap();
    let payloads: Vec<String> = sqlx::query_scalar("select payload::text from events order by position")
        .fetch_all(&pool)
        .await
        .unwrap();

    let ndjson = std::fs::read_to_string(file("events.ndjson")).unwrap();
    assert_eq!(ndjson.lines().count(), payloads.len());
    for (n, (line, payload)) in ndjson.lines().zip(&payloads).enumerate() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["position"], n + 1);
        assert!(line.contains(payload.as_str()), "the bytes of the payload are kept: {line}");
    }

    let mut csv = csv::Reader::from_path(file("events.csv")).unwrap();
    assert_eq!(csv.headers().unwrap().get(7), Some("payload"));
    let rows: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
    assert_eq!(rows.iter().map(|row| row[7].to_owned()).collect::<Vec<_>>(), payloads);

    assert_eq!(read_parquet(Path::new(&file("events.parquet"))), payloads);

    // A part of it, on standard output.
    let (code, said) = quiet.replay(&["export", "--from", "3", "--to", "5"]).await;
    assert_eq!(code, Some(0), "{said}");
    let positions: Vec<Value> =
        said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["position"].clone()).collect();
    assert_eq!(positions, [3, 4, 5]);
}

/// The payloads in a Parquet file, whose positions must run from 1.
fn read_parquet(path: &Path) -> Vec<String> {
    use parquet::file::reader::FileReader;
    use parquet::record::RowAccessor;
    let reader =
        parquet::file::serialized_reader::SerializedFileReader::new(std::fs::File::open(path).unwrap())
            .unwrap();
    let rows = reader.get_row_iter(None).unwrap();
    rows.enumerate()
        .map(|(n, row)| {
            let row = row.unwrap();
            assert_eq!(row.get_long(0).unwrap(), n as i64 + 1);
            row.get_string(7).unwrap().clone()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_shows_events_as_they_come() {
    let app = TestApp::start().await;
    let campaign = app.campaign().await;
    let mut tail = tokio::process::Command::new(careforall_tests::program("replay").await)
        .args(["--json", "--database-url", &app.database_url, "tail", "--from", "2"])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = completes("an event comes", lines.next_line()).await;
        serde_json::from_str::<Value>(&line.unwrap().unwrap()).unwrap()
    };
    assert_eq!(next().await["event_type"], "CampaignPublished");
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    let event = next().await;
    assert_eq!((&event["position"], &event["aggregate_id"]), (&json!(3), &json!(pledge)));
    app.fact("payment.captured", pledge, "pay_1", 5000).await;
    assert_eq!(next().await["event_type"], "PledgeAuthorized");
    assert_eq!(next().await["event_type"], "PledgeCaptured");
    let close =
        app.as_organiser(Method::POST, &format!("/api/campaigns/{campaign}/close")).send().await.unwrap();
    assert_eq!(answer(close).await.0, 200);
    assert_eq!(next().await["event_type"], "CampaignClosed");
}

/// A ledger of many times the memory that may be used is folded in that memory, to the same figures.
#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_within_its_limit_however_large_the_ledger_is() {
    const EVENTS: i64 = 400_000;
    const LIMIT_MB: f64 = 64.0;
    let database_url = fresh_database().await;
    ledger_of(&database_url, EVENTS).await;
    let bytes: i64 = {
        let mut connection = PgConnection::connect(&database_url).await.unwrap();
        sqlx::query_scalar("select pg_table_size('events')").fetch_one(&mut connection).await.unwrap()
    };
    assert!(bytes as f64 > 2.0 * LIMIT_MB * 1024.0 * 1024.0, "the ledger has only {bytes} bytes");
    let run = async |memory_mb: &str| {
        peak_memory_mb(&["--json", "--database-url", &database_url, "totals", "--memory-mb", memory_mb]).await
    };
    let (said, peak_mb) = run("64").await;
    assert!(peak_mb < LIMIT_MB, "{peak_mb} MB were used");
    let totals: Value = serde_json::from_str(&said).unwrap();
    let campaigns = totals["campaigns"].as_array().unwrap();
    let sum = |field: &str| campaigns.iter().map(|of| of[field].as_i64().unwrap()).sum::<i64>();
    assert_eq!(
        (campaigns.len(), sum("raised_minor"), sum("completed")),
        (100, EVENTS / 4 * 2_500, EVENTS / 4)
    );
    // With room for everything it says the same, and uses more.
    let (same, more_mb) = run("1000").await;
    assert_eq!(same, said);
    assert!(more_mb > LIMIT_MB, "{more_mb} MB: the ledger is too small to prove anything");
    // All tables at once, rows added up over the whole ledger among them.
    let verify = ["--json", "--database-url", &database_url, "verify", "--memory-mb", "64"];
    let (said, peak_mb) = peak_memory_mb(&verify).await;
    assert!(peak_mb < LIMIT_MB, "{peak_mb} MB were used");
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["well"], true, "{said}");
    assert_eq!(report["position"], 200 + EVENTS);
}
