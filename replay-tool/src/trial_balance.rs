//! The balances of all accounts at any time in the past.

use std::collections::BTreeMap;

use clap::Args;
use domain::{CampaignId, Currency};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::connection::Connection;
use crate::output::{self, money, right, text};
use crate::past::{Past, PastRows, print_faults};
use crate::projections::accounts;

/// The accounts, with what each is, in the order of a balance.
const ACCOUNTS: [(&str, &str, &str); 10] = [
    ("provider_clearing", "provider_clearing_minor", "with the provider: taken, not paid out"),
    ("bank", "bank_minor", "settled to the charity"),
    ("disputed", "disputed_minor", "withdrawn by disputes that are open"),
    ("campaign", "campaign_minor", "given to campaigns, before what went back"),
    ("unapplied", "unapplied_minor", "held apart, and owed"),
    ("refunds", "refunds_minor", "given back by refund"),
    ("reversals", "reversals_minor", "taken back without a dispute"),
    ("chargebacks", "chargebacks_minor", "lost in disputes"),
    ("losses", "losses_minor", "gone beyond what was captured"),
    ("fees", "fees_minor", "the provider's fees"),
];

/// The balances of all accounts, at any time in the past
///
/// Folds the ledger up to a position or a time, and adds up what is in each account. Every fact about
/// money is a debit of one account and a credit of another, so the sums of both sides are equal for
/// each currency, at every position. If they are not, it says so and exits with 1.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  replay trial-balance
  replay trial-balance --as-of 2026-11-25
  replay --json trial-balance --campaign 01a209a4-7910-76b5-9b3b-d36255778f26

Exit codes: 0 debits and credits are equal, 1 they are not or the ledger is bad, 2 it could not be done.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    past: Past,

    /// Only the accounts of this campaign.
    #[arg(long, value_name = "ID")]
    campaign: Option<CampaignId>,
}

#[derive(Serialize)]
struct Report {
    position: i64,
    as_of: Option<String>,
    /// Whether debits and credits are equal in every currency.
    balanced: bool,
    currencies: Vec<Balances>,
}

#[derive(Serialize)]
struct Balances {
    currency: String,
    debit_minor: i64,
    credit_minor: i64,
    accounts: Vec<Balance>,
}

#[derive(Serialize)]
struct Balance {
    account: &'static str,
    /// Debits less credits.
    balance_minor: i64,
    #[serde(skip)]
    what: &'static str,
}

/// Shows the balances; false if they are out of balance.
///
/// # Errors
/// The ledger cannot be read.
pub(crate) async fn run(connection: &Connection, arguments: Arguments, json: bool) -> anyhow::Result<bool> {
    let past = arguments.past.rows(connection, &accounts::AUDIT, accounts::BALANCES).await?;
    if !past.faults.is_empty() {
        print_faults(&past.faults);
        return Ok(false);
    }
    let wanted = arguments.campaign.map(|id| id.to_string());
    let report = add_up(&past, wanted.as_deref())?;
    if json {
        output::json(&report)?
    } else {
        print(&report)
    }
    Ok(report.balanced)
}

fn add_up(past: &PastRows, wanted: Option<&str>) -> anyhow::Result<Report> {
    let table = &accounts::AUDIT.tables[accounts::BALANCES];
    let mut sums: BTreeMap<String, [i64; ACCOUNTS.len()]> = BTreeMap::new();
    let mut records = past.rows.records()?;
    while let Some((_, row)) = records.next()? {
        let row: Map<String, Value> =
            table.read(row).into_iter().map(|(name, value)| (name.to_owned(), value.0)).collect();
        if wanted.is_some_and(|id| row["campaign_id"] != id) {
            continue;
        }
        let of = sums.entry(row["currency"].as_str().unwrap_or_default().to_owned()).or_default();
        for (sum, (_, column, _)) in of.iter_mut().zip(ACCOUNTS) {
            *sum += row[column].as_i64().unwrap_or_default();
        }
    }
    let currencies: Vec<Balances> =
        sums.into_iter().map(|(currency, sums)| balances(currency, &sums)).collect();
    let balanced = currencies.iter().all(|balances| balances.debit_minor == balances.credit_minor);
    Ok(Report { position: past.position, as_of: past.as_of.clone(), balanced, currencies })
}

fn balances(currency: String, sums: &[i64; ACCOUNTS.len()]) -> Balances {
    let accounts = ACCOUNTS.iter().zip(sums);
    Balances {
        currency,
        debit_minor: sums.iter().filter(|sum| **sum > 0).sum(),
        credit_minor: -sums.iter().filter(|sum| **sum < 0).sum::<i64>(),
        accounts: accounts
            .map(|((account, _, what), sum)| Balance { account, balance_minor: *sum, what })
            .collect(),
    }
}

fn print(report: &Report) {
    let as_of = report.as_of.as_deref().unwrap_or("the beginning");
    println!("trial balance at position {}, recorded {as_of}", report.position);
    for Balances { currency, debit_minor, credit_minor, accounts } in &report.currencies {
        let of: Option<Currency> = currency.parse().ok();
        let mut table = output::table(&["account", "debit", "credit", currency, ""]);
        for Balance { account, balance_minor, what } in accounts {
            let side = |on: bool| if on { money(balance_minor.abs(), of) } else { String::new() };
            let (debit, credit) = (side(*balance_minor > 0), side(*balance_minor < 0));
            table.add_row([text(account), right(&debit), right(&credit), text(""), text(what)]);
        }
        let (debit, credit) = (money(*debit_minor, of), money(*credit_minor, of));
        table.add_row([text("sum"), right(&debit), right(&credit), text(""), text("")]);
        println!("{table}");
    }
    if report.currencies.is_empty() {
        println!("no money has moved");
    } else {
        println!("{}", if report.balanced { "in balance" } else { "OUT OF BALANCE" });
    }
}
