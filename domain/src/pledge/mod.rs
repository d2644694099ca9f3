//! A pledge: one donor's promise to one campaign, and what became of the money.

mod command;
mod decide;
mod event;
mod money_move;
mod returns;
mod state;
mod status;
mod taken;
#[cfg(test)]
mod tests;

pub use command::{Contradiction, PaymentFact, PledgeCommand, PledgeError};
pub use event::{FailureReason, PledgeEvent};
pub use money_move::MoneyMove;
pub use state::{Payment, Pledge, PledgeRecord, PledgeState};
pub use status::PledgeStatus;
pub use taken::{
    CaptureLimit, Dispute, DisputeStatus, MalformedCaptureLimit, MoneyHeld, TakenPayment, UnappliedReason,
    Usage,
};
