//! The whole ledger, and every projection against it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use clap::Args;
use domain::CampaignId;
use domain::pledge::{PledgeRecord, TakenPayment, Usage};
use event_store::{ReadError, read_after};
use read_model::{
    Campaign, PROJECTIONS, Pledge, RedisTotals, Totals, UnappliedPayment, load_checkpoint, load_totals,
    load_totals_page,
};
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

use crate::ledger_fold::LedgerFold;
use crate::places::Places;

/// Events read at once.
const PAGE: i64 = 5_000;
/// Projections that are behind have this long to catch up, and Redis to equal the read table.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);

/// A difference, as a sentence; it ends the check.
struct Difference(String);

/// Why the check ended early.
enum End {
    Difference(Difference),
    Error(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

fn differs<T>(what: String) -> Result<T, End> {
    Err(End::Difference(Difference(what)))
}

/// Check the whole ledger, and every projection against it.
///
/// Positions are contiguous from 1, every transition is an edge of the state machine, and a
/// fold of the ledger equals the read tables and the totals in Redis at the same position. Says
/// the first difference and exits with 1.
#[derive(Args)]
pub(crate) struct Arguments {}

/// Checks everything and says what it found; false if there is a difference.
///
/// # Errors
/// The check cannot be made.
pub(crate) async fn run(places: &Places, Arguments {}: Arguments, _json: bool) -> anyhow::Result<bool> {
    let addresses = places.addresses()?;
    let pool = addresses.pool().await?;
    let redis = addresses.redis(&pool).await?;
    match check(&pool, redis.as_ref()).await {
        Ok(summary) => {
            println!("{summary}");
            Ok(true)
        }
        Err(End::Difference(Difference(what))) => {
            println!("DIFFERENCE: {what}");
            Ok(false)
        }
        Err(End::Error(error)) => Err(error),
    }
}

async fn check(pool: &PgPool, redis: Option<&RedisTotals>) -> Result<String, End> {
    await_projections(pool).await?;
    // One snapshot: the ledger, the checkpoints and the read tables of one instant.
    let mut connection = pool.acquire().await?;
    let mut snapshot = connection.begin_with("begin isolation level repeatable read read only").await?;
    let mut checkpoints = BTreeMap::new();
    for (name, version) in PROJECTIONS {
        let checkpoint = load_checkpoint(&mut *snapshot, name, version).await?;
        checkpoints.insert(name, checkpoint.map_or(0, |checkpoint| checkpoint.position));
    }
    let head = event_store::head(&mut *snapshot).await?;

    let mut fold = LedgerFold::default();
    let mut done = 0;
    // Each projection is compared when the fold is where the projection is.
    let mut stops: Vec<i64> = checkpoints.values().copied().chain([head]).collect();
    stops.sort_unstable();
    stops.dedup();
    let mut totals = 0;
    for stop in stops {
        fold_up_to(&mut snapshot, &mut fold, stop).await?;
        for (name, position) in &checkpoints {
            if *position != stop {
                continue;
            }
            match *name {
                "campaigns" => compare_campaigns(&mut snapshot, &fold).await?,
                "pledges" => compare_pledges(&mut snapshot, &fold).await?,
                "campaign_totals" => totals = compare_totals(&mut snapshot, &fold).await?,
                unknown => return differs(format!("projection {unknown} is not compared by this program")),
            }
            done += 1;
        }
    }
    if done != checkpoints.len() {
        return differs("a projection is ahead of the ledger".to_owned());
    }
    let beyond = read_after(&mut *snapshot, fold.position, 1).await?;
    if let Some(event) = beyond.first() {
        return differs(format!("position {} is beyond the ledger's head, {head}", event.position));
    }
    drop(snapshot);
    drop(connection);
    if let Some(redis) = redis {
        compare_redis(pool, redis).await?;
    }
    Ok(format!(
        "all is well at position {head}: {} campaigns, {} pledges; positions contiguous, every transition an \
         edge; read tables and {totals} totals in Redis equal the fold of the ledger",
        fold.campaigns.len(),
        fold.pledges.len(),
    ))
}

/// Gives projections that are behind a little time; they are compared where they are in any case.
async fn await_projections(pool: &PgPool) -> Result<(), End> {
    let started = Instant::now();
    let head = event_store::head(pool).await?;
    for (name, version) in PROJECTIONS {
        loop {
            let position = load_checkpoint(pool, name, version).await?.map_or(0, |c| c.position);
            if position >= head {
                break;
            }
            if started.elapsed() > PATIENCE {
                return differs(format!(
                    "projection {name} stands at position {position} and does not reach {head}"
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}

async fn fold_up_to(snapshot: &mut PgConnection, fold: &mut LedgerFold, stop: i64) -> Result<(), End> {
    while fold.position < stop {
        let limit = PAGE.min(stop - fold.position);
        let events = match read_after(&mut *snapshot, fold.position, limit).await {
            Ok(events) => events,
            Err(error @ ReadError::Decode { .. }) => return differs(error.to_string()),
            Err(error) => return Err(error.into()),
        };
        if events.is_empty() {
            return differs(format!("position {} is missing, and the head is {stop}", fold.position + 1));
        }
        for event in events {
            fold.fold(event).map_err(|what| End::Difference(Difference(what)))?;
        }
    }
    Ok(())
}

async fn compare_campaigns(snapshot: &mut PgConnection, fold: &LedgerFold) -> Result<(), End> {
    let rows: Vec<Campaign> =
        sqlx::query_as("select * from campaigns order by campaign_id").fetch_all(snapshot).await?;
    same("campaigns", "rows", "", fold.campaigns.len(), rows.len())?;
    for row in rows {
        let id = row.campaign_id;
        let folded = fold.campaigns.get(&CampaignId(id));
        let Some((folded, details)) = folded.and_then(|f| Some((f, f.state.details()?))) else {
            return differs(format!("campaigns: {id} is not in the ledger"));
        };
        let id = id.to_string();
        let status = folded.state.status().map_or("", |status| status.as_str());
        same("campaigns", "status", &id, status, row.status.as_str())?;
        same("campaigns", "title", &id, details.title.as_str(), row.title.as_str())?;
        let description = details.description.as_ref().map(|text| text.as_str());
        same("campaigns", "description", &id, description, row.description.as_deref())?;
        same("campaigns", "goal_minor", &id, details.goal.amount_minor(), row.goal_minor)?;
        same("campaigns", "currency", &id, details.goal.currency().code(), row.currency.as_str())?;
        same("campaigns", "position", &id, folded.position, row.position)?;
    }
    Ok(())
}

async fn compare_pledges(snapshot: &mut PgConnection, fold: &LedgerFold) -> Result<(), End> {
    let mut after = Uuid::nil();
    let mut seen = 0;
    loop {
        let rows: Vec<Pledge> =
            sqlx::query_as("select * from pledges where pledge_id > $1 order by pledge_id limit $2")
                .bind(after)
                .bind(PAGE)
                .fetch_all(&mut *snapshot)
                .await?;
        let Some(last) = rows.last() else { break };
        after = last.pledge_id;
        seen += rows.len();
        for row in rows {
            compare_pledge(fold, &row)?;
        }
    }
    same("pledges", "rows", "", fold.pledges.len(), seen)?;
    compare_donations(snapshot, fold).await?;
    compare_unapplied(snapshot, fold).await
}

fn compare_pledge(fold: &LedgerFold, row: &Pledge) -> Result<(), End> {
    let id = row.pledge_id;
    let folded = fold.pledges.get(&domain::PledgeId(id));
    let Some((folded, record)) = folded.and_then(|f| Some((f, f.state.record()?))) else {
        return differs(format!("pledges: {id} is not in the ledger"));
    };
    let id = id.to_string();
    same("pledges", "campaign_id", &id, record.campaign_id.0, row.campaign_id)?;
    same("pledges", "donor_id", &id, record.donor_id.0, row.donor_id)?;
    same("pledges", "status", &id, record.state.status().as_str(), row.status.as_str())?;
    same("pledges", "amount_minor", &id, record.amount.amount_minor(), row.amount_minor)?;
    same("pledges", "currency", &id, record.amount.currency().code(), row.currency.as_str())?;
    same("pledges", "captured_minor", &id, captured_minor(record), row.captured_minor)?;
    let applied = record.applied();
    let refunded_minor = applied.map_or(0, TakenPayment::refunded_minor);
    same("pledges", "refunded_minor", &id, refunded_minor, row.refunded_minor)?;
    let charged_back_minor = applied.map_or(0, TakenPayment::charged_back_minor);
    same("pledges", "charged_back_minor", &id, charged_back_minor, row.charged_back_minor)?;
    same("pledges", "anonymous", &id, record.anonymous, row.anonymous)?;
    same("pledges", "position", &id, folded.position, row.position)
}

fn captured_minor(record: &PledgeRecord) -> Option<i64> {
    record.applied().map(|taken| taken.amount.amount_minor())
}

/// Every captured pledge is one donation of its amount, and its history has all of its events.
async fn compare_donations(snapshot: &mut PgConnection, fold: &LedgerFold) -> Result<(), End> {
    let rows: Vec<(Uuid, i64)> =
        sqlx::query_as("select pledge_id, amount_minor from donations").fetch_all(&mut *snapshot).await?;
    let captured =
        |id| fold.pledges.get(&domain::PledgeId(id)).and_then(|p| p.state.record()).and_then(captured_minor);
    let expected = fold.pledges.values().filter_map(|p| p.state.record()).filter_map(captured_minor).count();
    same("donations", "rows", "", expected, rows.len())?;
    for (id, amount_minor) in rows {
        same("donations", "amount_minor", &id.to_string(), captured(id), Some(amount_minor))?;
    }
    let events: i64 = fold.pledges.values().map(|pledge| pledge.sequence).sum();
    let rows: i64 = sqlx::query_scalar("select count(*) from pledge_history").fetch_one(snapshot).await?;
    same("pledge_history", "rows", "", events, rows)
}

/// Every payment that was ever held apart is one row, and says what became of it.
async fn compare_unapplied(snapshot: &mut PgConnection, fold: &LedgerFold) -> Result<(), End> {
    let table = "unapplied_payments";
    let records = fold.pledges.values().filter_map(|pledge| pledge.state.record());
    let taken = records.flat_map(|record| record.taken.values());
    let expected = taken.filter(|taken| taken.usage != Usage::Applied).count();
    let rows: Vec<UnappliedPayment> =
        sqlx::query_as("select * from unapplied_payments").fetch_all(snapshot).await?;
    same(table, "rows", "", expected, rows.len())?;
    for row in rows {
        let id = format!("{} of pledge {}", row.payment_id, row.pledge_id);
        let record = fold.pledges.get(&domain::PledgeId(row.pledge_id)).and_then(|p| p.state.record());
        let payment_id = row.payment_id.parse().ok();
        let taken = record.zip(payment_id).and_then(|(record, id)| Some((record, record.taken.get(&id)?)));
        let Some((record, taken)) = taken else {
            return differs(format!("{table}: {id} is not in the ledger"));
        };
        let (status, accepted_as) = match taken.usage {
            Usage::Applied => return differs(format!("{table}: {id} is not held apart")),
            Usage::Accepted(pledge_id) => ("accepted", Some(pledge_id.0)),
            Usage::Unapplied if taken.left_minor() == 0 => ("refunded", None),
            Usage::Unapplied => ("held", None),
        };
        same(table, "status", &id, status, row.status.as_str())?;
        same(table, "accepted_as", &id, accepted_as, row.accepted_as)?;
        same(table, "campaign_id", &id, record.campaign_id.0, row.campaign_id)?;
        same(table, "donor_id", &id, record.donor_id.0, row.donor_id)?;
        same(table, "amount_minor", &id, taken.amount.amount_minor(), row.amount_minor)?;
        same(table, "currency", &id, taken.amount.currency().code(), row.currency.as_str())?;
        same(table, "given_back_minor", &id, taken.given_back_minor(), row.given_back_minor)?;
    }
    Ok(())
}

async fn compare_totals(snapshot: &mut PgConnection, fold: &LedgerFold) -> Result<usize, End> {
    let expected = fold.totals().map_err(|what| End::Difference(Difference(what)))?;
    let mut after = Uuid::nil();
    let mut seen = 0;
    loop {
        let rows = load_totals_page(&mut *snapshot, after, PAGE).await?;
        let Some(last) = rows.last() else { break };
        after = last.campaign_id;
        seen += rows.len();
        for row in rows {
            let Some(folded) = expected.get(&CampaignId(row.campaign_id)) else {
                return differs(format!("campaign_totals: {} is not in the ledger", row.campaign_id));
            };
            same_totals("campaign_totals", folded, &row)?;
        }
    }
    same("campaign_totals", "rows", "", expected.len(), seen)?;
    Ok(seen)
}

/// Redis and the read table move while this looks, so each campaign is compared once both are at
/// the same position; the read table itself was compared with the ledger before.
async fn compare_redis(pool: &PgPool, redis: &RedisTotals) -> Result<(), End> {
    let mut after = Uuid::nil();
    loop {
        let page = load_totals_page(pool, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.campaign_id;
        for row in page {
            compare_one_in_redis(pool, redis, row).await?;
        }
    }
}

async fn compare_one_in_redis(pool: &PgPool, redis: &RedisTotals, mut row: Totals) -> Result<(), End> {
    let started = Instant::now();
    loop {
        let mirrored = redis.read(row.campaign_id).await?;
        let at_same_position = mirrored.as_ref().is_some_and(|totals| totals.position == row.position);
        if let Some(mirrored) = mirrored.filter(|_| at_same_position) {
            return same_totals("Redis", &row, &mirrored);
        }
        if started.elapsed() > PATIENCE {
            return differs(format!(
                "Redis: the totals of campaign {} do not reach position {}",
                row.campaign_id, row.position
            ));
        }
        tokio::time::sleep(LOOK).await;
        if let Some(fresh) = load_totals(pool, row.campaign_id).await? {
            row = fresh;
        }
    }
}

fn same_totals(place: &str, expected: &Totals, found: &Totals) -> Result<(), End> {
    let id = expected.campaign_id.to_string();
    same(place, "raised_minor", &id, expected.raised_minor, found.raised_minor)?;
    same(place, "donors", &id, expected.donors, found.donors)?;
    same(place, "totals", &id, expected, found)
}

fn same<T: PartialEq<U> + Debug, U: Debug>(
    place: &str,
    field: &str,
    id: &str,
    expected: T,
    found: U,
) -> Result<(), End> {
    if expected == found {
        return Ok(());
    }
    differs(format!("{place}: {field} {id}: the ledger says {expected:?}, found {found:?}"))
}
