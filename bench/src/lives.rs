//! A ledger of whole lives of pledges, and the read tables that belong to it. The tests use it as well.

use read_model::Projection;
use sqlx::{Connection, Executor, PgConnection, PgPool};

/// Fills an empty ledger with about `events` events of whole lives, and the read tables. Those for which
/// `lives_projected.sql` has no rows are folded by their projectors.
pub(crate) async fn fill_with_lives(pool: &PgPool, events: i64) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect_with(&pool.connect_options()).await?;
    connection.execute(format!("set lives.events = '{}'", events / 4_000 * 4_000).as_str()).await?;
    // A crash may lose these rows.
    connection.execute("set synchronous_commit = off").await?;
    for script in [include_str!("lives.sql"), include_str!("lives_projected.sql"), "vacuum analyze"] {
        connection.execute(script).await?;
    }
    for (name, version) in projectors::checkpoints() {
        let Some(projection) = Projection::named(name) else { continue };
        let is_filled: bool =
            sqlx::query_scalar(&format!("select exists (select from {})", projection.tables()[0]))
                .fetch_one(&mut connection)
                .await?;
        sqlx::query(
            "insert into projector_checkpoints (name, version, position)
             select $1, $2, case when $3 then position else 0 end from ledger_head",
        )
        .bind(name)
        .bind(version)
        .bind(is_filled)
        .execute(&mut connection)
        .await?;
        if !is_filled {
            projectors::rebuild(pool, projection, projectors::RebuildOptions::default(), |_| {}).await?;
        }
    }
    Ok(())
}
