//! A ledger that has been in use for long, made in a minute.

use anyhow::Context;
use sqlx::PgPool;
use uuid::Uuid;

/// Lives of four events each: created, authorised, captured, completed. Written by SQL, in the
/// shape that the program writes, for a campaign of their own.
const FILL: &str = r#"
    insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version,
        payload, metadata, recorded_at)
    select $1 + n, 'pledge', pledge_id, 1 + n % 4,
        (array['PledgeCreated', 'PledgeAuthorized', 'PledgeCaptured', 'PledgeCompleted'])[1 + n % 4], '1',
        (case n % 4
            when 0 then format('{"PledgeCreated":{"campaign_id":"%s","donor_id":"%s","amount":%s,"anonymous":false,"made_at":"%s"}}', campaign_id, donor_id, amount, at)
            when 1 then format('{"PledgeAuthorized":{"campaign_id":"%s","payment_id":"pay_%s","amount":%s,"news":{"heard":[{"object":"payment","state":"open","authorized":%s,"stood_at":"%s"}]}}}', campaign_id, pledge_id, amount, amount, at)
            when 2 then format('{"PledgeCaptured":{"campaign_id":"%s","donor_id":"%s","payment_id":"pay_%s","amount":%s,"news":{"heard":[{"object":"payment","state":"open","amount":%s,"stood_at":"%s","happened_at":"%s"}],"moves":[{"at":"%s","currency":"EUR","gifts":1,"captured_minor":2500}]}}}', campaign_id, donor_id, pledge_id, amount, amount, at, at, at)
            else format('{"PledgeCompleted":{"campaign_id":"%s","donor_id":"%s","payment_id":"pay_%s","amount":%s,"news":{"settled":{"amount":%s,"at":"%s"},"moves":[{"at":"%s","currency":"EUR","settled_minor":2500}]}}}', campaign_id, donor_id, pledge_id, amount, amount, at, at)
        end)::json,
        format('{"command_id":"%s","request_id":"%s"}', md5('command' || n)::uuid, md5('request' || n)::uuid)::json,
        now()
    from (
        select n, md5('pledge' || ($1 + n / 4))::uuid::text as pledge_id, md5('donor' || n / 16)::uuid as donor_id,
            md5('campaign')::uuid as campaign_id, '{"amount_minor":2500,"currency":"EUR"}' as amount,
            to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at
        from generate_series(0, $2 - 1) as n
    ) as numbered
"#;

/// Appends `events` events behind those that are there. Nothing may append at the same time.
///
/// The index that would be filled in random order is made again afterwards, which is many times
/// faster and ends in the same table.
pub(crate) async fn fill(pool: &PgPool, events: i64) -> anyhow::Result<()> {
    let mut transaction = pool.begin().await?;
    let head: i64 = sqlx::query_scalar("select position from ledger_head for update")
        .fetch_one(&mut *transaction)
        .await?;
    sqlx::raw_sql("alter table events drop constraint events_stream_is_ordered")
        .execute(&mut *transaction)
        .await?;
    sqlx::query(FILL)
        .bind(head + 1)
        .bind(events)
        .execute(&mut *transaction)
        .await
        .context("the ledger cannot be filled")?;
    sqlx::raw_sql(
        "set local maintenance_work_mem = '512MB';
         alter table events add constraint events_stream_is_ordered
             unique (aggregate_id, sequence, aggregate_type)",
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query("update ledger_head set position = position + $1, recorded_at = now()")
        .bind(events)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    // As autovacuum would have done long since.
    sqlx::raw_sql("vacuum analyze events").execute(pool).await?;
    Ok(())
}

/// Appends pledges of a campaign that wait for their payment, behind the events that are there, and
/// returns their ids. Nothing may append at the same time.
pub(crate) async fn pledges(pool: &PgPool, campaign_id: Uuid, count: i64) -> anyhow::Result<Vec<Uuid>> {
    let mut transaction = pool.begin().await?;
    let ids = sqlx::query_scalar(
        r#"
        with head as materialized (
            select position from ledger_head for update
        ), moved as (
            update ledger_head set position = position + $2, recorded_at = now()
        ), made as (
            insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version,
                payload, metadata, recorded_at)
            select head.position + n, 'pledge', gen_random_uuid()::text, 1, 'PledgeCreated', '1',
                format('{"PledgeCreated":{"campaign_id":"%s","donor_id":"%s","amount":{"amount_minor":2500,"currency":"EUR"},"anonymous":false}}',
                    $1, gen_random_uuid())::json,
                format('{"command_id":"%s","request_id":"%s"}', gen_random_uuid(), gen_random_uuid())::json, now()
            from head, generate_series(1, $2) as n
            returning aggregate_id
        )
        select aggregate_id::uuid from made
        "#,
    )
    .bind(campaign_id)
    .bind(count)
    .fetch_all(&mut *transaction)
    .await
    .context("the pledges cannot be made")?;
    transaction.commit().await?;
    Ok(ids)
}
