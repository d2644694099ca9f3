//! What the ledger holds of one pledge, payment, campaign or donor.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use domain::pledge::{PledgePayment, PledgeRecord, UnappliedReason, Usage};
use domain::{
    Campaign, CampaignId, Currency, DonorId, Event, PaymentId, Pledge, PledgeId, PledgeStatus, Rules,
};
use event_store::{EventReader, RecordedEvent};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::connection::Connection;
use crate::events;
use crate::figures::Figures;
use crate::output::{self, money, number, text};
use crate::tuple::instant;

/// What the ledger holds of one pledge, payment, campaign or donor
///
/// It reads the ledger alone, and no read table. Donors are pseudonyms: the ledger holds no names and
/// no addresses.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  replay show pledge c2b5e01a-3f04-85dd-8464-a67b67c35f2b
  replay show payment pay_7c1e
  replay show campaign 01a209a4-7910-76b5-9b3b-d36255778f26
  replay --json show donor 93cb0668-9f6a-8399-9838-5b1a6b260441 | jq .pledges[].pledge_id

Exit codes: 0 shown, 1 the ledger holds no such thing, 2 the ledger cannot be read.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: Subject,
}

#[derive(Subcommand)]
enum Subject {
    /// The history of one pledge, with positions and times, and how its payments stand.
    Pledge {
        /// The pledge's id.
        id: PledgeId,
    },
    /// How a payment, its refunds, disputes and reversals stand. Reads through the whole ledger.
    Payment {
        /// The provider's id.
        id: PaymentId,
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
        Subject::Payment { id } => payment(&pool, connection.reader, &id, json).await,
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
    let payments = fold(&events).map(|(_, record)| payments(&record));
    if json {
        let events: Vec<Value> = events.iter().map(events::to_json).collect::<Result<_, _>>()?;
        let mut shown = json!({"aggregate_type": aggregate_type, "aggregate_id": id, "events": events});
        if let Some(payments) = payments {
            shown["payments"] = serde_json::to_value(payments)?;
        }
        output::json(&shown)?;
        return Ok(true);
    }
    println!("{aggregate_type} {id}");
    println!("{}", events::HEADINGS);
    for recorded in &events {
        println!("{}", events::line(recorded));
    }
    payments.iter().flatten().for_each(print_payment);
    Ok(true)
}

/// The pledge of these events; none if they are of no pledge.
fn fold(events: &[RecordedEvent]) -> Option<(PledgeId, PledgeRecord)> {
    let (mut pledge, mut pledge_id) = (Pledge::default(), None);
    for recorded in events {
        if let Event::Pledge(id, event) = &recorded.event {
            pledge.apply_event(event.clone());
            pledge_id = Some(*id);
        }
    }
    Some((pledge_id?, pledge.record()?.clone()))
}

/// A payment of a pledge, as it stands.
#[derive(Debug, PartialEq, Serialize)]
struct ShownPayment {
    payment_id: PaymentId,
    /// The use of its money.
    usage: String,
    /// When its money arrived, and how much.
    settled: Option<String>,
    objects: Vec<ShownObject>,
}

/// The payment itself, or a refund, a dispute or a reversal of it.
#[derive(Debug, PartialEq, Serialize)]
struct ShownObject {
    object: String,
    /// How it stands.
    counts: String,
    /// Since when.
    since: Option<String>,
    /// Whether a person said so, not the provider.
    corrected: bool,
}

fn payments(record: &PledgeRecord) -> Vec<ShownPayment> {
    record.payments.iter().map(|(payment_id, payment)| shown(payment_id, payment)).collect()
}

fn shown(payment_id: &PaymentId, payment: &PledgePayment) -> ShownPayment {
    let usage = match payment.usage {
        Usage::Uncaptured => "nothing taken".to_owned(),
        Usage::Applied => "pays the pledge".to_owned(),
        Usage::AppliedSince(at) => format!("pays the pledge since {}", instant(at)),
        Usage::Unapplied(UnappliedReason::NotNeeded) => "held apart: the pledge did not need it".to_owned(),
        Usage::Unapplied(UnappliedReason::AboveLimit) => "held apart: above the limit".to_owned(),
        Usage::AcceptedAs(other) => format!("accepted as pledge {other}"),
    };
    let settled = payment.settled.map(|settled| format!("{} at {}", settled.amount, instant(settled.at)));
    let objects = payment.history.steps().filter_map(|(key, steps)| {
        Some(ShownObject {
            object: events::object(key),
            counts: payment.history.counts(key)?.to_string(),
            since: steps.last().map(|step| instant(step.at)),
            corrected: payment.history.is_corrected(key),
        })
    });
    ShownPayment { payment_id: payment_id.clone(), usage, settled, objects: objects.collect() }
}

fn print_payment(payment: &ShownPayment) {
    let ShownPayment { payment_id, usage, settled, objects } = payment;
    let settled = settled.as_ref().map(|settled| format!("; settled: {settled}")).unwrap_or_default();
    println!("payment {payment_id}: {usage}{settled}");
    let mut table = output::table(&["object", "counts", "since (UTC)", ""]);
    for ShownObject { object, counts, since, corrected } in objects {
        let corrected = if *corrected { "corrected" } else { "" };
        table.add_row([object, counts, since.as_deref().unwrap_or_default(), corrected]);
    }
    if !objects.is_empty() {
        println!("{table}");
    }
}

async fn payment(pool: &PgPool, reader: EventReader, id: &PaymentId, json: bool) -> anyhow::Result<bool> {
    let ids: Vec<String> = sqlx::query_scalar(
        "select aggregate_id from events
         where aggregate_type = $1 and payload -> event_type ->> 'payment_id' = $2
         group by aggregate_id order by min(position)",
    )
    .bind(Pledge::TYPE)
    .bind(id.as_str())
    .fetch_all(pool)
    .await?;
    let mut pledges: Vec<(PledgeId, ShownPayment)> = Vec::new();
    for pledge_id in ids {
        let events = reader.read_stream(pool, Pledge::TYPE, &pledge_id).await?;
        let found = fold(&events)
            .and_then(|(pledge_id, record)| Some((pledge_id, shown(id, record.payments.get(id)?))));
        pledges.extend(found);
    }
    if pledges.is_empty() {
        eprintln!("the ledger holds no payment {id}");
        return Ok(false);
    }
    if json {
        let pledges: Vec<Value> =
            pledges.iter().map(|(id, payment)| json!({"pledge_id": id, "payment": payment})).collect();
        output::json(&json!({"pledges": pledges}))?;
        return Ok(true);
    }
    for (pledge_id, payment) in &pledges {
        println!("pledge {pledge_id}");
        print_payment(payment);
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

impl Moneys {
    /// Money that was accepted as another pledge is shown there.
    fn add(&mut self, payment: &PledgePayment) {
        let figures = Figures::of(payment);
        match payment.usage {
            Usage::Applied | Usage::AppliedSince(_) => {
                self.captured_minor += figures.captured;
                self.refunded_minor += figures.refunded;
                self.reversed_minor += figures.reversed;
                self.charged_back_minor += figures.charged_back;
            }
            Usage::Uncaptured | Usage::Unapplied(_) => self.unapplied_minor += figures.left,
            Usage::AcceptedAs(_) => return,
        }
        self.loss_minor += figures.loss;
        self.in_dispute_minor += figures.in_dispute;
    }
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
    let (pledge_id, record) = fold(events)?;
    let mut money = Moneys::default();
    record.payments.values().for_each(|payment| money.add(payment));
    Some(DonorsPledge {
        pledge_id,
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
