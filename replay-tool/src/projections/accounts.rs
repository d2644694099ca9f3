//! `journal` and `campaign_accounts`: double entry. Lines come from what each event changed; balances come
//! from the final state of every pledge, so the two check each other.

use std::io;

use domain::{Currency, Pledge};
use uuid::Uuid;

use super::{Audit, Projection};
use crate::figures::Counted;
use crate::grouping::Grouping;
use crate::occurrence::{FinalState, Occurrence};
use crate::rows::{Rows, Table};
use crate::sorter::Room;
use crate::tuple::ColumnType;

const JOURNAL: usize = 0;
/// The table of balances.
pub(crate) const BALANCES: usize = 1;

/// Projection `accounts`.
pub(crate) const AUDIT: Audit = Audit {
    projection: read_model::Projection::Accounts,
    tables: &[
        Table {
            name: "journal",
            key: 2,
            columns: &[
                ("position", ColumnType::Int),
                ("line", ColumnType::Int),
                ("debit_account", ColumnType::Text),
                ("credit_account", ColumnType::Text),
                ("campaign_id", ColumnType::Uuid),
                ("pledge_id", ColumnType::Uuid),
                ("amount_minor", ColumnType::Int),
                ("currency", ColumnType::Text),
                ("occurred_at", ColumnType::Time),
                ("recorded_at", ColumnType::Time),
            ],
        },
        Table {
            name: "campaign_accounts",
            key: 2,
            columns: &[
                ("campaign_id", ColumnType::Uuid),
                ("currency", ColumnType::Text),
                ("provider_clearing_minor", ColumnType::Int),
                ("bank_minor", ColumnType::Int),
                ("disputed_minor", ColumnType::Int),
                ("campaign_minor", ColumnType::Int),
                ("unapplied_minor", ColumnType::Int),
                ("refunds_minor", ColumnType::Int),
                ("reversals_minor", ColumnType::Int),
                ("chargebacks_minor", ColumnType::Int),
                ("losses_minor", ColumnType::Int),
                ("fees_minor", ColumnType::Int),
                ("position", ColumnType::Int),
            ],
        },
    ],
    make: |room| Box::new(Accounts::new(room)),
};

/// The balances of a campaign's accounts, debits less credits, in the order of the table.
const CLEARING: usize = 0;
const BANK: usize = 1;
const DISPUTED: usize = 2;
const CAMPAIGN: usize = 3;
const HELD_APART: usize = 4;
const REFUNDS: usize = 5;
const REVERSALS: usize = 6;
const CHARGEBACKS: usize = 7;
const LOSSES: usize = 8;
const FEES: usize = 9;
/// The last event that was posted: the latest, where the others are sums.
const POSITION: usize = 10;
/// How many there are.
const NUMBERS: usize = 11;

struct Accounts {
    /// By campaign and currency.
    balances: Option<Grouping<19, NUMBERS>>,
    /// The last event of the present pledge that was posted.
    posted: i64,
}

impl Accounts {
    fn new(room: &Room) -> Self {
        let balances = Grouping::new(room.clone(), |sum: &mut [i64; NUMBERS], more| {
            for n in 0..POSITION {
                sum[n] += more[n];
            }
            sum[POSITION] = sum[POSITION].max(more[POSITION]);
        });
        Self { balances: Some(balances), posted: 0 }
    }
}

impl Projection for Accounts {
    fn pledge_event(&mut self, occurrence: &Occurrence<'_, Pledge>, rows: &mut Rows) -> io::Result<()> {
        if occurrence.sequence == 1 {
            self.posted = 0;
        }
        let (Some(record), at) = (occurrence.after.record(), occurrence.at) else { return Ok(()) };
        let moved = occurrence
            .changed
            .iter()
            .flat_map(|(instant, change)| lines(change).into_iter().map(move |line| (instant, line)));
        let moved = moved.filter(|(_, (_, _, amount))| *amount != 0);
        for (line, (instant, (debit, credit, amount))) in (1..).zip(moved) {
            self.posted = at.position;
            // What shrinks goes the other way round.
            let (debit, credit) = if amount > 0 { (debit, credit) } else { (credit, debit) };
            rows.put(JOURNAL, |row| {
                row.push(at.position)
                    .push(line)
                    .push(debit)
                    .push(credit)
                    .push(record.campaign_id.0)
                    .push(occurrence.id)
                    .push(amount.abs())
                    .push(record.amount.currency().code())
                    .push(instant)
                    .push(at.recorded_at)
            })?;
        }
        Ok(())
    }

    fn pledge(&mut self, end: &FinalState<'_, Pledge>, _: &mut Rows) -> io::Result<()> {
        let (Some(record), Some(balances)) = (end.state.record(), &mut self.balances) else {
            return Ok(());
        };
        if self.posted == 0 {
            return Ok(());
        }
        let money = end.money.total();
        let mut of = [0; NUMBERS];
        of[BANK] = money.settled;
        of[DISPUTED] = money.in_dispute;
        of[CAMPAIGN] = -money.captured;
        of[HELD_APART] = -money.held_apart;
        of[REFUNDS] = money.refunded;
        of[REVERSALS] = money.reversed;
        of[CHARGEBACKS] = money.charged_back;
        of[LOSSES] = money.loss;
        // What is in no other account is still with the provider.
        of[CLEARING] = -of[BANK..=FEES].iter().sum::<i64>();
        of[POSITION] = self.posted;
        balances.add(key(record.campaign_id.0, record.amount.currency()), of)
    }

    fn finish(&mut self, rows: &mut Rows) -> io::Result<()> {
        let Some(balances) = self.balances.take() else { return Ok(()) };
        balances.finish(|key, balances| {
            let (campaign_id, currency) = key.split_at(16);
            rows.put(BALANCES, |row| {
                row.push(Uuid::from_slice(campaign_id).unwrap_or_default())
                    .push(std::str::from_utf8(currency).unwrap_or_default());
                for number in balances {
                    row.push(number);
                }
                row
            })
        })
    }
}

/// The accounts that are debited and credited, and the amount.
type Line = (&'static str, &'static str, i64);

/// The lines of a change: as many as there are figures with an account of their own.
fn lines(change: Counted) -> [Line; 8] {
    [
        ("provider_clearing", "campaign", change.captured),
        ("bank", "provider_clearing", change.settled),
        ("refunds", "provider_clearing", change.refunded),
        ("reversals", "provider_clearing", change.reversed),
        ("chargebacks", "provider_clearing", change.charged_back),
        ("losses", "provider_clearing", change.loss),
        ("disputed", "provider_clearing", change.in_dispute),
        ("provider_clearing", "unapplied", change.held_apart),
    ]
}

fn key(campaign_id: Uuid, currency: Currency) -> [u8; 19] {
    let mut key = [0; 19];
    key[..16].copy_from_slice(campaign_id.as_bytes());
    // A code has three letters.
    key[16..].copy_from_slice(&currency.code().as_bytes()[..3]);
    key
}
