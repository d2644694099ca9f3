//! What a provider says about one object at one time.

use std::fmt;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Currency, DisputeId, Money, MoneyError, RefundId, ReversalId};

/// A statement that stood further ahead of our clock is not believed.
pub const MAX_SECONDS_AHEAD: i64 = 300;

/// One of the objects that a provider keeps about a payment: the payment itself, or a **return**.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKey {
    /// The payment.
    Payment,
    /// A refund: ours to give.
    Refund(RefundId),
    /// A dispute: opened by the donor's bank.
    Dispute(DisputeId),
    /// A reversal: captured money that is taken back without a dispute, such as a direct debit that
    /// bounces.
    Reversal(ReversalId),
}

/// How an object stands: state and amount, without times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// How a payment stands.
    Payment(PaymentState),
    /// How a refund stands.
    Refund(RefundState),
    /// How a dispute stands.
    Dispute(DisputeState),
    /// How a reversal stands.
    Reversal(ReversalState),
}

/// How a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PaymentState {
    /// Captured so far, all captures together; none while nothing was captured.
    pub captured: Option<Money>,
    /// Whether nothing more will be captured. A failure after success is no end but a reversal.
    pub over: Option<Over>,
}

/// How a payment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Over {
    /// The provider could not take it.
    Failed,
    /// It was called off.
    Cancelled,
}

/// How a refund stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefundState {
    /// Asked for: nothing is gone yet.
    Asked,
    /// So much is gone.
    Succeeded(Money),
    /// It did not reach the donor: nothing is gone.
    Failed,
    /// It was called off: nothing is gone.
    Cancelled,
}

/// How a dispute stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DisputeState {
    /// The bank asks for information. It moves nothing.
    Inquiry,
    /// Open. So much is withdrawn at the provider meanwhile; nothing is gone for good.
    Opened(Option<Money>),
    /// A chargeback: so much is gone.
    Lost(Money),
    /// Nothing is gone.
    Won,
    /// The money was given back although the dispute was lost: nothing is gone.
    Reinstated,
}

/// How a reversal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReversalState {
    /// So much is gone.
    Gone(Money),
    /// Nothing is gone.
    Cancelled,
}

/// One object and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stated {
    object: ObjectKey,
    content: Content,
}

impl Stated {
    pub(super) fn new(object: ObjectKey, content: Content) -> Self {
        Self { object, content }
    }

    /// The payment, with what was captured so far.
    pub fn payment(captured: Option<Money>, over: Option<Over>) -> Self {
        Self { object: ObjectKey::Payment, content: Content::Payment(PaymentState { captured, over }) }
    }

    /// A refund.
    pub fn refund(id: RefundId, state: RefundState) -> Self {
        Self { object: ObjectKey::Refund(id), content: Content::Refund(state) }
    }

    /// A dispute.
    pub fn dispute(id: DisputeId, state: DisputeState) -> Self {
        Self { object: ObjectKey::Dispute(id), content: Content::Dispute(state) }
    }

    /// A reversal.
    pub fn reversal(id: ReversalId, state: ReversalState) -> Self {
        Self { object: ObjectKey::Reversal(id), content: Content::Reversal(state) }
    }

    /// The object.
    pub fn object(&self) -> &ObjectKey {
        &self.object
    }

    /// How it stands.
    pub fn content(&self) -> Content {
        self.content
    }
}

/// How a statement reached us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// By a message of the provider.
    Told,
    /// By asking for the object by its id. An entry of a list is no answer: lists lag.
    Answered,
}

/// How one object stood at one time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Statement {
    stated: Stated,
    stood_at: DateTime<Utc>,
    happened_at: Option<DateTime<Utc>>,
    origin: Origin,
    authorized: Option<Money>,
}

impl Statement {
    /// A message says so. `stood_at` is the provider's time of the message. All times are kept to the
    /// microsecond, as the database keeps them.
    pub fn told(stated: Stated, stood_at: DateTime<Utc>) -> Self {
        let stood_at = stood_at.trunc_subsecs(6);
        Self { stated, stood_at, happened_at: None, origin: Origin::Told, authorized: None }
    }

    /// An answer says so. `stood_at` is as
    /// [`PaymentHistory::question_stands_at`](super::PaymentHistory::question_stands_at) gives it.
    pub fn answered(stated: Stated, stood_at: DateTime<Utc>) -> Self {
        Self { origin: Origin::Answered, ..Self::told(stated, stood_at) }
    }

    /// With the time at which the money moved. The time of an object's creation is not the time of a later
    /// state.
    #[must_use]
    pub fn happened_at(self, happened_at: DateTime<Utc>) -> Self {
        Self { happened_at: Some(happened_at.trunc_subsecs(6)), ..self }
    }

    /// The same by an answer that stood at another time.
    #[must_use]
    pub fn answered_at(self, stood_at: DateTime<Utc>) -> Self {
        Self { stood_at: stood_at.trunc_subsecs(6), origin: Origin::Answered, ..self }
    }

    /// With the amount that was authorised, which moves nothing. It is read of payments alone.
    #[must_use]
    pub fn authorized(self, amount: Money) -> Self {
        Self { authorized: Some(amount), ..self }
    }

    /// What it says, without times.
    pub fn stated(&self) -> &Stated {
        &self.stated
    }

    /// The object that it is about.
    pub fn object(&self) -> &ObjectKey {
        &self.stated.object
    }

    pub(super) fn into_object(self) -> ObjectKey {
        self.stated.object
    }

    /// How the object stood.
    pub fn content(&self) -> Content {
        self.stated.content
    }

    /// When it stood so.
    pub fn stood_at(&self) -> DateTime<Utc> {
        self.stood_at
    }

    /// How it reached us.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The amount that was authorised, if it says so.
    pub fn authorized_amount(&self) -> Option<Money> {
        self.authorized
    }

    /// When the money moved, if it says so. A time after `stood_at` cannot be true and is left out.
    pub fn own_instant(&self) -> Option<DateTime<Utc>> {
        self.happened_at.filter(|happened_at| *happened_at <= self.stood_at)
    }

    /// When the money moved, as it was said, possible or not.
    pub(super) fn said_instant(&self) -> Option<DateTime<Utc>> {
        self.happened_at
    }

    /// Since when its object stood so, as far as this statement knows.
    pub fn instant(&self) -> DateTime<Utc> {
        self.own_instant().unwrap_or(self.stood_at)
    }

    /// An error if it names an amount in another currency.
    pub(super) fn require_currency(&self, expected: Currency) -> Result<(), MoneyError> {
        self.authorized.map_or(Ok(()), |amount| require_currency(amount, expected))?;
        self.content().require_currency(expected)
    }

    /// Whether it stood too far ahead of our clock to be true.
    pub(super) fn is_ahead_of(&self, now: DateTime<Utc>) -> bool {
        self.stood_at.signed_duration_since(now) > TimeDelta::seconds(MAX_SECONDS_AHEAD)
    }

    /// The second in which it stood. Providers give times in whole seconds, so within one second times
    /// order nothing.
    pub(super) fn second(&self) -> i64 {
        self.stood_at.timestamp()
    }
}

/// In words, such as `captured 50.00 EUR` or `refund failed`.
impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Payment(PaymentState { captured: Some(captured), .. }) => write!(f, "captured {captured}"),
            Self::Payment(PaymentState { captured: None, over: None }) => f.write_str("nothing captured"),
            Self::Payment(PaymentState { captured: None, over: Some(Over::Failed) }) => {
                f.write_str("payment failed")
            }
            Self::Payment(PaymentState { captured: None, over: Some(Over::Cancelled) }) => {
                f.write_str("payment cancelled")
            }
            Self::Refund(RefundState::Asked) => f.write_str("refund asked for"),
            Self::Refund(RefundState::Succeeded(amount)) => write!(f, "refunded {amount}"),
            Self::Refund(RefundState::Failed) => f.write_str("refund failed"),
            Self::Refund(RefundState::Cancelled) => f.write_str("refund cancelled"),
            Self::Dispute(DisputeState::Inquiry) => f.write_str("dispute is an inquiry"),
            Self::Dispute(DisputeState::Opened(Some(amount))) => write!(f, "dispute of {amount} opened"),
            Self::Dispute(DisputeState::Opened(None)) => f.write_str("dispute opened"),
            Self::Dispute(DisputeState::Lost(amount)) => write!(f, "dispute of {amount} lost"),
            Self::Dispute(DisputeState::Won) => f.write_str("dispute won"),
            Self::Dispute(DisputeState::Reinstated) => f.write_str("dispute reinstated"),
            Self::Reversal(ReversalState::Gone(amount)) => write!(f, "{amount} reversed"),
            Self::Reversal(ReversalState::Cancelled) => f.write_str("reversal cancelled"),
        }
    }
}

impl Content {
    /// A word for it, without its amount.
    pub fn name(self) -> &'static str {
        match self {
            Self::Payment(PaymentState { captured: Some(_), .. }) => "captured",
            Self::Payment(PaymentState { captured: None, over: None }) => "authorized",
            Self::Payment(PaymentState { captured: None, over: Some(Over::Failed) }) => "failed",
            Self::Payment(PaymentState { captured: None, over: Some(Over::Cancelled) }) => "cancelled",
            Self::Refund(RefundState::Asked) => "refund_asked",
            Self::Refund(RefundState::Succeeded(_)) => "refunded",
            Self::Refund(RefundState::Failed) => "refund_failed",
            Self::Refund(RefundState::Cancelled) => "refund_cancelled",
            Self::Dispute(DisputeState::Inquiry) => "inquiry",
            Self::Dispute(DisputeState::Opened(_)) => "dispute_opened",
            Self::Dispute(DisputeState::Lost(_)) => "dispute_lost",
            Self::Dispute(DisputeState::Won) => "dispute_won",
            Self::Dispute(DisputeState::Reinstated) => "dispute_reinstated",
            Self::Reversal(ReversalState::Gone(_)) => "reversed",
            Self::Reversal(ReversalState::Cancelled) => "reversal_cancelled",
        }
    }

    /// Captured so far, in minor units.
    pub fn captured_minor(self) -> i64 {
        match self {
            Self::Payment(PaymentState { captured, .. }) => minor(captured),
            Self::Refund(_) | Self::Dispute(_) | Self::Reversal(_) => 0,
        }
    }

    /// Gone by this return, in minor units.
    pub fn gone_minor(self) -> i64 {
        match self {
            Self::Refund(RefundState::Succeeded(amount))
            | Self::Dispute(DisputeState::Lost(amount))
            | Self::Reversal(ReversalState::Gone(amount)) => amount.amount_minor(),
            Self::Payment(_)
            | Self::Refund(RefundState::Asked | RefundState::Failed | RefundState::Cancelled)
            | Self::Dispute(
                DisputeState::Inquiry
                | DisputeState::Opened(_)
                | DisputeState::Won
                | DisputeState::Reinstated,
            )
            | Self::Reversal(ReversalState::Cancelled) => 0,
        }
    }

    /// An error if it names an amount in another currency.
    pub(super) fn require_currency(self, expected: Currency) -> Result<(), MoneyError> {
        match self.amount() {
            Some(amount) => require_currency(amount, expected),
            None => Ok(()),
        }
    }

    /// Withdrawn at the provider while this dispute is open, in minor units.
    pub fn withdrawn_minor(self) -> i64 {
        match self {
            Self::Dispute(DisputeState::Opened(withdrawn)) => minor(withdrawn),
            Self::Dispute(
                DisputeState::Inquiry | DisputeState::Lost(_) | DisputeState::Won | DisputeState::Reinstated,
            )
            | Self::Payment(_)
            | Self::Refund(_)
            | Self::Reversal(_) => 0,
        }
    }

    /// The amount that it names.
    pub fn amount(self) -> Option<Money> {
        match self {
            Self::Payment(PaymentState { captured: amount, .. })
            | Self::Dispute(DisputeState::Opened(amount)) => amount,
            Self::Refund(RefundState::Succeeded(amount))
            | Self::Dispute(DisputeState::Lost(amount))
            | Self::Reversal(ReversalState::Gone(amount)) => Some(amount),
            Self::Refund(RefundState::Asked | RefundState::Failed | RefundState::Cancelled)
            | Self::Dispute(DisputeState::Inquiry | DisputeState::Won | DisputeState::Reinstated)
            | Self::Reversal(ReversalState::Cancelled) => None,
        }
    }
}

fn minor(amount: Option<Money>) -> i64 {
    amount.map_or(0, Money::amount_minor)
}

fn require_currency(amount: Money, expected: Currency) -> Result<(), MoneyError> {
    let found = amount.currency();
    if found == expected { Ok(()) } else { Err(MoneyError::CurrencyMismatch { expected, found }) }
}
