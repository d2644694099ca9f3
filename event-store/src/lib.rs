//! The ledger: an event store on Postgres that is its own outbox.
//!
//! Positions are contiguous from 1 and become visible in order, so a reader that asks for "after
//! P" misses nothing. Appends of all concurrent commands in a process share one statement and one
//! commit ([`GroupCommit`]). Aggregates are read through postgres-es; what it and cqrs-es do not
//! give (the events and the position of a command, conditions on other streams, a global order)
//! is given here.
//!
//! A command goes to one aggregate, and a reader asks for what follows the position that it has come to:
//!
//! ```no_run
//! use chrono::Utc;
//! use domain::payment::{Stated, Statement};
//! use domain::{Money, PaymentFact, Pledge, PledgeCommand, PledgeId};
//! use event_store::{EventReader, Ledger, Metadata};
//!
//! # async fn example(
//! #     pool: sqlx::PgPool,
//! #     pledge_id: PledgeId,
//! #     amount: Money,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let ledger = Ledger::start(pool.clone());
//! let captured = Statement::told(Stated::payment(Some(amount), None), Utc::now());
//! let command = PledgeCommand::record(PaymentFact::stated("pay_1".parse()?, captured), Utc::now());
//! let executed = ledger.execute::<Pledge>(pledge_id.0, &command, &Metadata::default()).await?;
//! println!("{:?} at position {}", executed.aggregate.status(), executed.position);
//!
//! let mut position = 0;
//! for recorded in EventReader::default().read_after(&pool, position, 1_000).await? {
//!     println!("{} {}", recorded.position, recorded.event_type);
//!     position = recorded.position;
//! }
//! # Ok(())
//! # }
//! ```

mod append;
mod donors;
mod group_commit;
mod identity;
mod ledger;
mod loaded;
mod metadata;
mod own_connection;
mod read;
mod repository;
mod rows;
mod turns;
mod wakeup;

pub use append::{
    Append, AppendError, Appended, Condition, NewClaim, NewEvent, PledgeDonor, StreamEvents,
    pledge_of_payment,
};
pub use donors::donor_of;
pub use group_commit::{BatchWriter, GroupCommit, QueueError};
pub use identity::load_id_key;
pub use ledger::{ExecuteError, Executed, Ledger, LoadError};
pub use loaded::LoadedAggregate;
pub use metadata::Metadata;
pub use own_connection::{OwnConnection, is_transient};
pub use read::{EventReader, Lag, ReadError, RecordedEvent, head, lag_behind};
pub use repository::LedgerRepository;
pub use rows::{TextAs, VarChar};
pub use wakeup::Wakeup;
