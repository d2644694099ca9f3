//! Totals in Redis, compared with the read table.

use std::time::{Duration, Instant};

use read_model::{RedisTotals, Totals, load_totals, load_totals_page};
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use crate::rows::{Difference, Differences};

/// Redis has this long to equal the read table.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);
/// Campaigns looked at together.
const PAGE: i64 = 1_000;

/// Compares each campaign once both are at the same position: they move meanwhile. Returns how many
/// campaigns there are.
///
/// # Errors
/// Postgres or Redis is out of reach.
pub(crate) async fn compare(
    pool: &PgPool,
    redis: &RedisTotals,
    differences: &mut Differences,
) -> anyhow::Result<u64> {
    let mut after = Uuid::nil();
    let mut campaigns = 0;
    loop {
        let page = load_totals_page(pool, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(campaigns) };
        after = last.campaign_id;
        for row in page {
            campaigns += 1;
            compare_one(pool, redis, row, differences).await?;
        }
    }
}

async fn compare_one(
    pool: &PgPool,
    redis: &RedisTotals,
    mut row: Totals,
    differences: &mut Differences,
) -> anyhow::Result<()> {
    let started = Instant::now();
    // Who has found a difference need not wait for the next.
    let patience = if differences.count == 0 { PATIENCE } else { LOOK };
    loop {
        let mirrored = redis.read(row.campaign_id).await?;
        let at_same_position = mirrored.as_ref().is_some_and(|totals| totals.position == row.position);
        if let Some(mirrored) = mirrored.filter(|_| at_same_position) {
            name_differences(&row, &mirrored, differences)?;
            return Ok(());
        }
        if started.elapsed() > patience {
            let (id, position) = (row.campaign_id, row.position);
            let what = format!("Redis: the totals of campaign {id} do not reach position {position}");
            differences.say("Redis", Some(position), what);
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
        if let Some(fresh) = load_totals(pool, row.campaign_id).await? {
            row = fresh;
        }
    }
}

/// Field by field, as both are written in JSON.
fn name_differences(
    expected: &Totals,
    found: &Totals,
    differences: &mut Differences,
) -> Result<(), serde_json::Error> {
    let (Value::Object(expected_fields), Value::Object(found_fields)) =
        (serde_json::to_value(expected)?, serde_json::to_value(found)?)
    else {
        return Ok(());
    };
    let row = format!("campaign_id {}", expected.campaign_id);
    for (column, says) in expected_fields {
        let found = found_fields.get(&column).cloned().unwrap_or_default();
        if says != found {
            differences.add(Difference {
                what: format!("Redis: {column} of {row}: the ledger says {says}, found {found}"),
                place: "Redis".to_owned(),
                position: Some(expected.position),
                row: row.clone(),
                column: Some(column),
                ledger: says,
                found,
            });
        }
    }
    Ok(())
}
