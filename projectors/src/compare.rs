//! Compares two tables of the same name and shape that two sessions see.

use std::collections::HashMap;

use sqlx::PgConnection;

/// Parts in which rows are compared, so that only the parts that differ are compared row by row.
const PARTS: i64 = 4_096;
/// Parts looked at, and rows shown.
const SHOWN: usize = 5;

/// How two tables differ.
#[derive(Clone, Debug)]
pub struct TableDifference {
    /// The table.
    pub table: String,
    /// Rows in the live one.
    pub live_rows: i64,
    /// Rows in the one that was built.
    pub built_rows: i64,
    /// Some of the rows that differ: their keys, and what stands there.
    pub examples: Vec<String>,
}

/// Compares `table` as `live` sees it with `table` as `built` sees it; none if both are equal.
///
/// # Errors
/// Any error of the database.
pub(crate) async fn compare(
    live: &mut PgConnection,
    built: &mut PgConnection,
    table: &str,
) -> Result<Option<TableDifference>, sqlx::Error> {
    let key = key_of(live, table).await?;
    let (ours, theirs) = (parts(built, table, &key).await?, parts(live, table, &key).await?);
    let rows = |parts: &HashMap<i64, (i64, String)>| parts.values().map(|(rows, _)| rows).sum();
    let differing = (0..PARTS).filter(|part| ours.get(part) != theirs.get(part));
    let mut examples = Vec::new();
    for part in differing.take(SHOWN) {
        let (ours, theirs) =
            (rows_of(built, table, &key, part).await?, rows_of(live, table, &key, part).await?);
        examples.extend(differences(&ours, &theirs));
    }
    examples.truncate(SHOWN);
    if examples.is_empty() {
        return Ok(None);
    }
    Ok(Some(TableDifference {
        table: table.to_owned(),
        live_rows: rows(&theirs),
        built_rows: rows(&ours),
        examples,
    }))
}

/// An expression for the primary key of a row.
async fn key_of(connection: &mut PgConnection, table: &str) -> Result<String, sqlx::Error> {
    let columns: String = sqlx::query_scalar(
        "select string_agg(quote_ident(a.attname), ', ' order by k.ordinal)
         from pg_index i
         cross join lateral unnest(i.indkey::int2[]) with ordinality as k (number, ordinal)
         join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
         where i.indrelid = $1::regclass and i.indisprimary",
    )
    .bind(table)
    .fetch_one(connection)
    .await?;
    Ok(format!("row({columns})::text"))
}

/// For each part, the number of its rows and the sum of their hashes.
async fn parts(
    connection: &mut PgConnection,
    table: &str,
    key: &str,
) -> Result<HashMap<i64, (i64, String)>, sqlx::Error> {
    let query = format!(
        "select hashtextextended({key}, 0) & ({PARTS} - 1), count(*),
             sum(hashtextextended(t::text, 0)::numeric)::text
         from {table} t group by 1"
    );
    let rows: Vec<(i64, i64, String)> = sqlx::query_as(&query).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(part, rows, sum)| (part, (rows, sum))).collect())
}

/// The rows of one part, by their keys.
async fn rows_of(
    connection: &mut PgConnection,
    table: &str,
    key: &str,
    part: i64,
) -> Result<HashMap<String, String>, sqlx::Error> {
    let query =
        format!("select {key}, t::text from {table} t where hashtextextended({key}, 0) & ({PARTS} - 1) = $1");
    let rows: Vec<(String, String)> = sqlx::query_as(&query).bind(part).fetch_all(connection).await?;
    Ok(rows.into_iter().collect())
}

fn differences(built: &HashMap<String, String>, live: &HashMap<String, String>) -> Vec<String> {
    let missing = |row: Option<&String>| row.cloned().unwrap_or_else(|| "nothing".to_owned());
    let mut keys: Vec<&String> = built.keys().chain(live.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .filter(|key| built.get(*key) != live.get(*key))
        .map(|key| format!("{key}: live {}, built {}", missing(live.get(key)), missing(built.get(key))))
        .collect()
}
