//! `journal` and `campaign_accounts`: double entry. Lines come from the events; balances come from the
//! final state of every pledge, so the two check each other.

use std::io;

use domain::pledge::Usage;
use domain::{Currency, Money, MoneyHeld, Pledge, PledgeEvent, PledgeStatus};
use uuid::Uuid;

use super::{Audit, Projection};
use crate::figures::Figures;
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
        let at = occurrence.at;
        for (line, (debit, credit, amount)) in (1..).zip(lines(occurrence.event)) {
            self.posted = at.position;
            rows.put(JOURNAL, |row| {
                row.push(at.position)
                    .push(line)
                    .push(debit)
                    .push(credit)
                    .push(occurrence.event.campaign_id().0)
                    .push(occurrence.id)
                    .push(amount.amount_minor())
                    .push(amount.currency().code())
                    // Money moves when it is recorded.
                    .push(at.recorded_at)
                    .push(at.recorded_at)
            })?;
        }
        Ok(())
    }

    fn pledge(&mut self, end: &FinalState<'_, Pledge>, _: &mut Rows) -> io::Result<()> {
        let (Some(record), Some(balances)) = (end.state.record(), &mut self.balances) else {
            return Ok(());
        };
        for taken in record.taken.values() {
            let figures = Figures::of(taken);
            let mut of = [0; NUMBERS];
            of[LOSSES] = figures.loss;
            of[DISPUTED] = figures.in_dispute;
            match taken.usage {
                Usage::Applied => {
                    of[CAMPAIGN] = -figures.captured;
                    of[REFUNDS] = figures.refunded;
                    of[REVERSALS] = figures.reversed;
                    of[CHARGEBACKS] = figures.charged_back;
                    if record.state.status() == PledgeStatus::Completed {
                        of[BANK] = figures.captured;
                    }
                }
                Usage::Unapplied => of[HELD_APART] = -figures.left,
                // All of it is in the pledge that it became.
                Usage::Accepted(_) => {}
            }
            // What is in no other account is still with the provider.
            of[CLEARING] = -of[BANK..=FEES].iter().sum::<i64>();
            of[POSITION] = self.posted;
            balances.add(key(record.campaign_id.0, taken.amount.currency()), of)?;
        }
        Ok(())
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

type Line = (&'static str, &'static str, Money);

/// The money that an event moves, line by line: to the account that is debited, from the one that is
/// credited.
fn lines(event: &PledgeEvent) -> impl Iterator<Item = Line> {
    let [first, second] = match event {
        PledgeEvent::PledgeCaptured { amount, was_unapplied, .. } => {
            let no_more_apart = was_unapplied.then_some(("unapplied", "provider_clearing", *amount));
            [Some(("provider_clearing", "campaign", *amount)), no_more_apart]
        }
        PledgeEvent::PledgeCompleted { amount, .. } => [Some(("bank", "provider_clearing", *amount)), None],
        PledgeEvent::PaymentUnapplied { amount, .. } => {
            [Some(("provider_clearing", "unapplied", *amount)), None]
        }
        PledgeEvent::PaymentRefunded { amount, held, .. } => {
            [Some((given_back("refunds", *held), "provider_clearing", *amount)), None]
        }
        PledgeEvent::PaymentDisputed { amount, .. } => {
            [Some(("disputed", "provider_clearing", *amount)), None]
        }
        PledgeEvent::DisputeWon { amount, .. } => [Some(("provider_clearing", "disputed", *amount)), None],
        PledgeEvent::DisputeLost { amount, held, .. } => {
            let gone = Some((given_back("chargebacks", *held), "provider_clearing", *amount));
            let ended = Some(("provider_clearing", "disputed", *amount));
            match held {
                MoneyHeld::Raised => [gone, ended],
                MoneyHeld::Unapplied => [ended, gone],
            }
        }
        // It comes back with the capture of the pledge that it became.
        PledgeEvent::UnappliedAccepted { amount, .. } => {
            [Some(("unapplied", "provider_clearing", *amount)), None]
        }
        PledgeEvent::PledgeCreated { .. }
        | PledgeEvent::PledgeAmended { .. }
        | PledgeEvent::PledgeAuthorized { .. }
        | PledgeEvent::PledgeFailed { .. }
        | PledgeEvent::PledgeExpired { .. }
        | PledgeEvent::PledgeCancelled { .. } => [None, None],
    };
    first.into_iter().chain(second)
}

/// The account that is debited when money goes back.
fn given_back(of_raised: &'static str, held: MoneyHeld) -> &'static str {
    match held {
        MoneyHeld::Raised => of_raised,
        MoneyHeld::Unapplied => "unapplied",
    }
}

fn key(campaign_id: Uuid, currency: Currency) -> [u8; 19] {
    let mut key = [0; 19];
    key[..16].copy_from_slice(campaign_id.as_bytes());
    // A code has three letters.
    key[16..].copy_from_slice(&currency.code().as_bytes()[..3]);
    key
}
