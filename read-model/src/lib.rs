//! The contract between those who write projections and those who read them: row types, Redis
//! keys and channels. Nothing here knows how a projection comes about.
//!
//! Totals are read from Redis and, where it cannot answer, from the table that they are copied from:
//!
//! ```
//! use read_model::{Projection, RedisTotals, Totals, load_totals};
//! use sqlx::PgPool;
//! use uuid::Uuid;
//!
//! async fn totals(redis: &RedisTotals, pool: &PgPool, id: Uuid) -> Result<Option<Totals>, sqlx::Error> {
//!     match redis.read(id).await {
//!         Ok(Some(totals)) => Ok(Some(totals)),
//!         Ok(None) | Err(_) => load_totals(pool, id).await,
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! assert_eq!(Projection::named("campaign_totals"), Some(Projection::CampaignTotals));
//! assert_eq!(Projection::Days.tables(), ["campaign_days", "overall_days"]);
//!
//! // Several ledgers may share one Redis: their keys differ.
//! let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
//! let open = |ledger_id| RedisTotals::open("redis://127.0.0.1:6379", ledger_id);
//! let campaign_id = Uuid::from_u128(3);
//! assert_ne!(open(one)?.key(campaign_id), open(other)?.key(campaign_id));
//! # Ok(())
//! # }
//! ```

mod above_limit;
mod ledger_id;
mod overdue;
mod projection;
mod redis_connection;
mod redis_totals;
mod rows;
mod totals;

pub use above_limit::payments_above_limit;
pub use ledger_id::ledger_id;
pub use overdue::{OverduePledge, overdue_among, overdue_pledges};
pub use projection::{Projection, load_position, load_positions};
pub use redis_totals::{Mark, MarkState, RedisTotals, RedisTotalsError};
pub use rows::{
    ACCOUNTS, AccountBalance, CampaignAccounts, CampaignDonor, CampaignView, Day, Donation, HistoryEntry,
    JournalLine, PledgeView, UnappliedPayment,
};
pub use totals::{PledgeCounts, Totals, load_totals, load_totals_page};
