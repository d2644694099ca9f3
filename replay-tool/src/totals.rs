//! Totals at any time in the past.

use std::io::{self, Write};

use clap::Args;
use domain::{CampaignId, Currency};
use serde_json::{Map, Value, json};

use crate::connection::Connection;
use crate::output::money;
use crate::past::{Past, PastRows, print_faults};
use crate::projections::campaign_totals;
use crate::rows::Table;

/// The totals of campaigns, at any time in the past
///
/// Folds the ledger up to a position or a time and shows what each campaign had raised then: the same
/// figures that the API answered at that time. No read table is looked at.
///
/// raised is what was captured and still there, net of refunds, reversals and lost disputes; loss is what
/// went back beyond that; in dispute is what open disputes have withdrawn; held apart is money that no
/// pledge could use.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  replay totals
  replay totals --as-of 2026-11-25T10:00:00Z
  replay totals --as-of 1200 --campaign 01a209a4-7910-76b5-9b3b-d36255778f26
  replay --json totals --as-of 2026-11-01 | jq '.campaigns[].raised_minor'

Exit codes: 0 done, 1 the campaign does not exist then or the ledger is bad, 2 it could not be done.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    past: Past,

    /// Only this campaign.
    #[arg(long, value_name = "ID")]
    campaign: Option<CampaignId>,
}

/// Shows them; false if there is nothing to show.
///
/// # Errors
/// The ledger cannot be read.
pub(crate) async fn run(connection: &Connection, arguments: Arguments, json: bool) -> anyhow::Result<bool> {
    let audit = &campaign_totals::AUDIT;
    let past = arguments.past.rows(connection, audit, 0).await?;
    if !past.faults.is_empty() {
        print_faults(&past.faults);
        return Ok(false);
    }
    let wanted = arguments.campaign.map(|id| id.to_string());
    let shown = print(&past, &audit.tables[0], wanted.as_deref(), json)?;
    match wanted {
        Some(id) if shown == 0 => {
            eprintln!("the ledger knows no campaign {id} at position {}", past.position);
            Ok(false)
        }
        _ => Ok(true),
    }
}

/// Prints campaign after campaign, however many there are; returns how many.
fn print(past: &PastRows, table: &Table, wanted: Option<&str>, json: bool) -> anyhow::Result<u64> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let head = json!({"position": past.position, "as_of": past.as_of}).to_string();
    if json {
        writeln!(out, "{},\"campaigns\":[", &head[..head.len() - 1])?;
    } else {
        let as_of = past.as_of.as_deref().unwrap_or("the beginning");
        writeln!(out, "totals at position {}, recorded {as_of}", past.position)?;
        writeln!(out, "{HEADINGS}")?;
    }
    let mut records = past.rows.records()?;
    let mut shown = 0;
    while let Some((_, row)) = records.next()? {
        let totals: Map<String, Value> =
            table.read(row).into_iter().map(|(name, value)| (name.to_owned(), value.0)).collect();
        if wanted.is_some_and(|id| totals["campaign_id"] != id) {
            continue;
        }
        if json {
            let comma = if shown == 0 { " " } else { "," };
            writeln!(out, "{comma}{}", Value::Object(totals))?;
        } else {
            writeln!(out, "{}", line(&totals))?;
        }
        shown += 1;
    }
    if json {
        writeln!(out, "]}}")?;
    }
    out.flush()?;
    Ok(shown)
}

const HEADINGS: &str = "campaign                                         \
     raised        refunded        reversed    charged back            loss      in dispute      held apart  \
     donors  \
     pending  authorized  captured  completed  failed  expired  cancelled    position";

fn line(totals: &Map<String, Value>) -> String {
    let text = |name: &str| totals[name].as_str().unwrap_or_default();
    let int = |name: &str| totals[name].as_i64().unwrap_or_default();
    let currency: Option<Currency> = text("currency").parse().ok();
    let amount = |name: &str| money(int(name), currency);
    format!(
        "{}  {:>12} {:3} {:>15} {:>15} {:>15} {:>15} {:>15} {:>15} \
         {:>7} {:>8} {:>11} {:>9} {:>10} {:>7} {:>8} {:>10} {:>11}",
        text("campaign_id"),
        amount("raised_minor"),
        text("currency"),
        amount("refunded_minor"),
        amount("reversed_minor"),
        amount("charged_back_minor"),
        amount("loss_minor"),
        amount("in_dispute_minor"),
        amount("unapplied_minor"),
        int("donors"),
        int("pending"),
        int("authorized"),
        int("captured"),
        int("completed"),
        int("failed"),
        int("expired"),
        int("cancelled"),
        int("position"),
    )
}
