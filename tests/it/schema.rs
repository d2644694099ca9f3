//! Which databases are brought up to date, and which are refused.

use careforall_tests::fresh_database;
use sqlx::{Connection, Executor, PgConnection};

/// The error of `careforall migrate` on a database after `change`.
async fn refusal(change: &str) -> String {
    let url = fresh_database().await;
    let mut owner = PgConnection::connect(&url).await.unwrap();
    careforall::migrate(&url).await.unwrap();
    owner.execute(change).await.unwrap();
    format!("{:#}", careforall::migrate(&url).await.unwrap_err())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_an_unreleased_schema_is_refused_with_the_remedy() {
    // More migrations than there are now, and other ones under the numbers that are still in use.
    let earlier = "update _sqlx_migrations set checksum = sha256('unreleased');
        insert into _sqlx_migrations (version, description, success, checksum, execution_time)
        select n, 'unreleased', true, sha256('unreleased'), 0 from generate_series(1000, 1025) n";
    for change in [earlier, "update _sqlx_migrations set checksum = sha256('edited') where version = 2"] {
        let said = refusal(change).await;
        assert!(said.contains("never released") && said.contains("Drop the database"), "{said}");
        assert!(said.contains("data folder"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_newer_version_is_refused_and_told_apart() {
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
        values (9999, 'newer', true, sha256('newer'), 0)";
    let said = refusal(newer).await;
    assert!(said.contains("newer version of the program"), "{said}");
    assert!(!said.contains("Drop"), "{said}");
}
