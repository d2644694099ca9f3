//! A payment as its provider tells it, and the money that follows from it.
//!
//! A provider keeps objects: the payment, and its **returns**, which are refunds, disputes and reversals.
//! A [`Statement`] says how one object stood at one time. Messages are late, doubled, out of order or lost,
//! so no single one is trusted to be the last word. Instead everything heard is kept as a set, a
//! [`PaymentHistory`], and whatever is asked of it is a function of that set: how an object stands
//! ([`PaymentHistory::counts`]), the [`Figures`] of the payment, and since when they hold (its [`Timeline`]).
//! The order of hearing leaves no trace.
//!
//! **What counts.** Of a payment, the largest amount captured so far; that it failed or was cancelled only
//! where nothing was captured. Of a refund, the state that comes later in asked, succeeded, failed or
//! cancelled. Of a dispute or a reversal, what stood last; within one second an inquiry comes before an
//! opening, and that before an outcome. What does not count is old news: it may say when money moved.
//!
//! **What is gone** is attributed to refunds first, then to reversals, then to disputes, up to what was
//! captured. What is gone beyond that is loss.
//!
//! **Deciding.** [`PaymentHistory::decide`] says what becomes of what is heard, for each object. Most is
//! recorded, and the decision has the moves: the new timeline less the old one. Where the table does not
//! decide, or less would be gone than was known, the provider is asked first, and message and answer are
//! decided together. A return waits for its capture. What answers do not settle is for a person, whose
//! [`Correction`] states the object as it is.
//!
//! ```
//! use chrono::{DateTime, TimeDelta, Utc};
//! use domain::payment::{DisputeState, Heard, ObjectKey, Outcome, PaymentHistory, Stated, Statement};
//! use domain::{Currency, Money};
//!
//! let eur: Currency = "EUR".parse()?;
//! let money = |minor| Money::new(minor, eur);
//! let made: DateTime<Utc> = "2026-12-31T12:00:00Z".parse()?;
//! let after = |seconds| made + TimeDelta::seconds(seconds);
//! let mut history = PaymentHistory::new(eur, made);
//!
//! // A dispute is lost before we hear of the capture: it waits.
//! let lost = Stated::dispute("dp_1".parse()?, DisputeState::Lost(money(5230)?));
//! let lost = Heard::messages(vec![Statement::told(lost, after(20))]);
//! let decision = history.decide(&lost, after(30))?;
//! assert_eq!(decision.outcomes[&ObjectKey::Dispute("dp_1".parse()?)], Outcome::Wait);
//!
//! let captured = Statement::told(Stated::payment(Some(money(5000)?), None), after(10));
//! let captured = history.decide(&Heard::messages(vec![captured]), after(40))?;
//! history.apply(&captured)?;
//! let decision = history.decide(&lost, after(50))?;
//! history.apply(&decision)?;
//!
//! let figures = history.figures();
//! assert_eq!((figures.charged_back_minor, figures.loss_minor, figures.left_minor()), (5000, 230, 0));
//! // It was captured ten seconds after the pledge, and lost ten seconds later.
//! assert_eq!(history.timeline().at(after(19)).left_minor(), 5000);
//! assert_eq!(decision.moves[0].at, after(20));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod correction;
mod decision;
mod figures;
mod history;
mod object;
mod statement;
#[cfg(test)]
mod tests;
mod timeline;
mod written;

pub use correction::Correction;
pub use decision::{AskReason, Decision, Heard, MAX_ANSWERS, Outcome, ReviewReason};
pub use figures::Figures;
pub use history::PaymentHistory;
pub use object::Step;
pub use statement::{
    Content, DisputeState, MAX_SECONDS_AHEAD, ObjectKey, Origin, Over, PaymentState, RefundState,
    ReversalState, Stated, Statement,
};
pub use timeline::{Move, Timeline};
pub use written::{MalformedStatement, WrittenStanding};
