//! The contract between those who write projections and those who read them: row types, Redis
//! keys and channels. Nothing here knows how a projection comes about.

mod ledger_id;
mod overdue;
mod projection;
mod redis_connection;
mod redis_totals;
mod rows;
mod totals;

pub use ledger_id::ledger_id;
pub use overdue::{OverduePledge, overdue_among, overdue_pledges};
pub use projection::{Projection, load_position, load_positions};
pub use redis_totals::{Mark, MarkState, RedisTotals, RedisTotalsError};
pub use rows::{
    ACCOUNTS, AccountBalance, CampaignAccounts, CampaignDonor, CampaignView, Day, Donation, HistoryEntry,
    JournalLine, PledgeView, UnappliedPayment,
};
pub use totals::{PledgeCounts, Totals, load_totals, load_totals_page};
