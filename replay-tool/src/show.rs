//! What the ledger holds of one pledge, campaign or donor.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use domain::pledge::Usage;
use domain::{Campaign, CampaignId, Currency, DonorId, Event, Pledge, PledgeId, PledgeStatus, Rules};
use event_store::{EventReader, RecordedEvent};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::connection::Connection;
use crate::events;
use crate::figures::Figures;
use crate::output::{self, money, number, text};
use crate::tuple::instant;

/// What the ledger holds of one pledge, campaign or donor
///
/// It reads the ledger alone, and no read table. Donors are pseudonyms: the ledger holds no names and
/// no addresses.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  replay show pledge c2b5e01a-3f04-85dd-8464-a67b67c35f2b
  replay show campaign 01a209a4-7910-76b5-9b3b-d36255778f26
  replay --json show donor 93cb0668-9f6a-8399-9838-5b1a6b260441 | jq .pledges[].pledge_id

Exit codes: 0 shown, 1 the ledger holds no such thing, 2 the ledger cannot be read.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: Subject,
}

#[derive(Subcommand)]
enum Subject {
    /// The history of one pledge, with positions and times.
    Pledge {
        /// The pledge's id.
        id: PledgeId,
    },
    /// The history of one campaign. What it has raised: replay totals --campaign ID.
    Campaign {
        /// The campaign's id.
        id: CampaignId,
    },
    /// Every pledge of one donor, as it stands now. Reads through the whole ledger.
    Donor {
        /// The donor's pseudonym.
        id: DonorId,
    },
}

/// Shows it; false when it does not exist.
///
/// # Errors
/// The ledger cannot be read.
pub(crate) async fn run(connection: &Connection, arguments: Arguments, json: bool) -> anyhow::Result<bool> {
    let pool = connection.pool().await?;
    match arguments.what {
        Subject::Pledge { id } => {
            history(&pool, connection.reader, Pledge::TYPE, &id.to_string(), json).await
        }
        Subject::Campaign { id } => {
            history(&pool, connection.reader, Campaign::TYPE, &id.to_string(), json).await
        }
        Subject::Donor { id } => donor(&pool, connection.reader, id, json).await,
    }
}

async fn history(
    pool: &PgPool,
    reader: EventReader,
    aggregate_type: &str,
    id: &str,
    json: bool,
) -> anyhow::Result<bool> {
    let events = reader.read_stream(pool, aggregate_type, id).await?;
    if events.is_empty() {
        eprintln!("the ledger holds no {aggregate_type} {id}");
        return Ok(false);
    }
    if json {
        let events: Vec<Value> = events.iter().map(events::to_json).collect::<Result<_, _>>()?;
        output::json(&json!({"aggregate_type": aggregate_type, "aggregate_id": id, "events": events}))?;
        return Ok(true);
    }
    println!("{aggregate_type} {id}");
    println!("{}", events::HEADINGS);
    for recorded in &events {
        println!("{}", events::line(recorded));
    }
    Ok(true)
}

/// A pledge of a donor, folded from its events. Amounts are in minor units.
#[derive(Serialize)]
struct DonorsPledge {
    pledge_id: PledgeId,
    campaign_id: CampaignId,
    made_at: String,
    status: PledgeStatus,
    currency: &'static str,
    promised_minor: i64,
    #[serde(flatten)]
    money: Moneys,
    /// Its last event.
    position: i64,
}

/// What became of money. Amounts are in minor units.
#[derive(Clone, Copy, Default, Serialize)]
struct Moneys {
    captured_minor: i64,
    refunded_minor: i64,
    reversed_minor: i64,
    charged_back_minor: i64,
    /// Gone beyond what was captured.
    loss_minor: i64,
    /// Withdrawn by disputes that are open.
    in_dispute_minor: i64,
    /// Held apart, and still there.
    unapplied_minor: i64,
}

async fn donor(pool: &PgPool, reader: EventReader, id: DonorId, json: bool) -> anyhow::Result<bool> {
    let ids: Vec<String> = sqlx::query_scalar(
        "select aggregate_id from events
         where event_type = 'PledgeCreated' and payload -> 'PledgeCreated' ->> 'donor_id' = $1
         order by position",
    )
    .bind(id.to_string())
    .fetch_all(pool)
    .await?;
    let mut pledges = Vec::new();
    for pledge_id in ids {
        pledges.extend(donors_pledge(&reader.read_stream(pool, Pledge::TYPE, &pledge_id).await?));
    }
    if pledges.is_empty() {
        eprintln!("the ledger holds no pledge of donor {id}");
        return Ok(false);
    }
    let sums = sums(&pledges);
    if json {
        output::json(&json!({"donor_id": id, "pledges": pledges, "sums": sums}))?;
    } else {
        print_donor(id, &pledges, &sums);
    }
    Ok(true)
}

fn donors_pledge(events: &[RecordedEvent]) -> Option<DonorsPledge> {
    let (first, last) = (events.first()?, events.last()?);
    let mut pledge = Pledge::default();
    let mut pledge_id = None;
    for recorded in events {
        if let Event::Pledge(id, event) = &recorded.event {
            pledge = pledge.evolve(event.clone());
            pledge_id = Some(*id);
        }
    }
    let record = pledge.record()?;
    let mut money = Moneys::default();
    for taken in record.taken.values() {
        let figures = Figures::of(taken);
        money.loss_minor += figures.loss;
        money.in_dispute_minor += figures.in_dispute;
        match taken.usage {
            Usage::Applied => {
                money.captured_minor += figures.captured;
                money.refunded_minor += figures.refunded;
                money.reversed_minor += figures.reversed;
                money.charged_back_minor += figures.charged_back;
            }
            Usage::Unapplied => money.unapplied_minor += figures.left,
            Usage::Accepted(_) => {}
        }
    }
    Some(DonorsPledge {
        pledge_id: pledge_id?,
        campaign_id: record.campaign_id,
        made_at: instant(first.recorded_at),
        status: record.state.status(),
        currency: record.amount.currency().code(),
        promised_minor: record.amount.amount_minor(),
        money,
        position: last.position,
    })
}

/// By currency.
fn sums(pledges: &[DonorsPledge]) -> BTreeMap<&'static str, Moneys> {
    let mut sums: BTreeMap<&'static str, Moneys> = BTreeMap::new();
    for pledge in pledges {
        let sum = sums.entry(pledge.currency).or_default();
        sum.captured_minor += pledge.money.captured_minor;
        sum.refunded_minor += pledge.money.refunded_minor;
        sum.reversed_minor += pledge.money.reversed_minor;
        sum.charged_back_minor += pledge.money.charged_back_minor;
        sum.loss_minor += pledge.money.loss_minor;
        sum.in_dispute_minor += pledge.money.in_dispute_minor;
        sum.unapplied_minor += pledge.money.unapplied_minor;
    }
    sums
}

fn print_donor(id: DonorId, pledges: &[DonorsPledge], sums: &BTreeMap<&'static str, Moneys>) {
    println!("donor {id}");
    let mut table = output::table(&[
        "pledge",
        "campaign",
        "made at (UTC)",
        "status",
        "promised",
        "captured",
        "refunded",
        "reversed",
        "charged back",
        "loss",
        "in dispute",
        "held apart",
        "",
        "position",
    ]);
    let cells = |currency: &str, money_of: Moneys| {
        let of: Option<Currency> = currency.parse().ok();
        [
            money_of.captured_minor,
            money_of.refunded_minor,
            money_of.reversed_minor,
            money_of.charged_back_minor,
            money_of.loss_minor,
            money_of.in_dispute_minor,
            money_of.unapplied_minor,
        ]
        .map(|minor| output::right(&money(minor, of)))
    };
    for pledge in pledges {
        let promised = money(pledge.promised_minor, pledge.currency.parse().ok());
        let mut row = vec![
            text(&pledge.pledge_id.to_string()),
            text(&pledge.campaign_id.to_string()),
            text(&pledge.made_at),
            text(pledge.status.as_str()),
            output::right(&promised),
        ];
        row.extend(cells(pledge.currency, pledge.money));
        row.extend([text(pledge.currency), number(pledge.position)]);
        table.add_row(row);
    }
    for (currency, sum) in sums {
        let mut row = vec![text("sum"), text(""), text(""), text(""), text("")];
        row.extend(cells(currency, *sum));
        row.extend([text(currency), text("")]);
        table.add_row(row);
    }
    println!("{table}");
}
