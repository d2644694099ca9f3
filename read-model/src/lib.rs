//! The contract between those who write projections and those who read them: row types, Redis
//! keys and channels. Nothing here knows how a projection comes about.

mod checkpoint;
mod overdue;
mod redis_connection;
mod redis_totals;
mod rows;
mod totals;

pub use checkpoint::{Checkpoint, PROJECTIONS, ledger_id, load_checkpoint};
pub use overdue::{OverduePledge, overdue_among, overdue_pledges};
pub use redis_totals::{Found, Mark, RedisTotals, RedisTotalsError};
pub use rows::{
    ACCOUNTS, AccountBalance, Campaign, CampaignAccounts, CampaignDonor, Day, Donation, HistoryEntry,
    JournalLine, LoggedWebhook, Pledge, UnappliedPayment,
};
pub use totals::{PledgeCounts, Totals, load_totals, load_totals_page};
