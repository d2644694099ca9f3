//! A pledge: one donor's promise to one campaign, and what became of the money.

mod accept;
mod command;
mod decide;
mod event;
mod limit;
mod money_move;
mod news;
mod payment;
mod record;
mod state;
mod status;
#[cfg(test)]
mod tests;

pub use command::{Contradiction, Correcting, PaymentFact, PledgeCommand, PledgeError, Report, Said};
pub use event::{FailureReason, PledgeEvent};
pub use limit::{CaptureLimit, MalformedCaptureLimit};
pub use money_move::MoneyMove;
pub use news::{Corrected, CorrectionNote, News, Settlement};
pub use payment::{Acceptance, PledgePayment, UnappliedReason, Usage};
pub use record::Recording;
pub use state::{Payment, Pledge, PledgeRecord, PledgeState};
pub use status::PledgeStatus;
