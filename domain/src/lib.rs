//! The rules of CareForAll, and nothing else: money, ids and the two aggregates.
//!
//! Everything here is pure. There is no I/O, no clock and no randomness; whatever a rule needs
//! to know (the time, an id, what the provider said) arrives in the command. Each aggregate has
//! [`Rules`]: `decide` (command to events) and `evolve` (event to state).
//!
//! A provider says how its objects stand, in any order and more than once:
//!
//! ```
//! use chrono::{DateTime, TimeDelta, Utc};
//! use domain::payment::{RefundState, Stated, Statement};
//! use domain::{IdKey, Money, PaymentFact, PaymentId};
//! use domain::{Pledge, PledgeCommand, PledgeError, PledgeStatus, Rules};
//!
//! let key = IdKey::new([7; 32]);
//! let donor_id = key.donor_id(&"ada@example.org".parse()?);
//! let campaign_id = key.campaign_id(&"wells-2026".parse()?);
//! let amount = Money::new(2_500, "EUR".parse()?)?;
//! let made_at: DateTime<Utc> = "2026-12-31T23:00:00Z".parse()?;
//! let after = |minutes| made_at + TimeDelta::minutes(minutes);
//!
//! let create = PledgeCommand::Create { campaign_id, donor_id, amount, anonymous: false, made_at };
//! let made = Pledge::default().decide(&create)?;
//! let pledge = made.into_iter().fold(Pledge::default(), Pledge::evolve);
//! assert_eq!(pledge.status(), Some(PledgeStatus::Pending));
//!
//! let payment_id: PaymentId = "pay_1".parse()?;
//! let now = after(90);
//! let says = |stated, minutes| {
//!     let statement = Statement::told(stated, after(minutes));
//!     PledgeCommand::record(PaymentFact::stated(payment_id.clone(), statement), now)
//! };
//! let captured = says(Stated::payment(Some(amount), None), 58);
//! let refunded = says(Stated::refund("re_1".parse()?, RefundState::Succeeded(amount)), 70);
//!
//! // A refund waits for its capture.
//! assert_eq!(pledge.decide(&refunded), Err(PledgeError::AwaitsCapture(payment_id.clone())));
//!
//! // Captured, though nobody has reported the authorisation: it is implied.
//! let events = pledge.decide(&captured)?;
//! assert_eq!(events.len(), 2);
//! // The money moved in the old year, whenever that is heard.
//! assert_eq!(events[1].money_moves()[0].at, after(58));
//! let pledge = events.into_iter().fold(pledge, Pledge::evolve);
//! assert_eq!(pledge.status(), Some(PledgeStatus::Captured));
//! assert!(pledge.decide(&captured)?.is_empty(), "a second report has nothing new to say");
//!
//! let moves = pledge.decide(&refunded)?[0].money_moves().to_vec();
//! assert_eq!((moves[0].refunded_minor, moves[0].raised_minor()), (2_500, -2_500));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// A new state or event must make every match over it stop compiling.
#![warn(clippy::wildcard_enum_match_arm)]
// Sums of money are checked, and no number is squeezed into a smaller one.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]
#![warn(
    clippy::cast_lossless,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

pub mod campaign;
mod cqrs;
mod email;
mod event;
mod event_kind;
mod ids;
mod money;
pub mod payment;
pub mod pledge;
mod rules;
mod text;
pub mod upcast;

pub use campaign::{Campaign, CampaignCommand, CampaignError, CampaignEvent, CampaignStatus};
pub use email::Email;
pub use event::{DecodeError, Event, StoredEvent};
pub use event_kind::{Claim, EventKind, VersionedEvent};
pub use ids::{
    CampaignId, DisputeId, DonorId, IdKey, IdempotencyKey, PaymentId, PledgeId, RefundId, ReversalId,
};
pub use money::{AmountsByCurrency, Currency, Money, MoneyError};
pub use pledge::{MoneyMove, PaymentFact, Pledge, PledgeCommand, PledgeError, PledgeEvent, PledgeStatus};
pub use rules::Rules;
pub use text::{Text, TextError};
pub use upcast::UpcastTable;
