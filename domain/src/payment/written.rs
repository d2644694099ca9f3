//! How statements are written down, in events and in messages.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::correction::Correction;
use super::statement::{
    Content, DisputeState, ObjectKey, Origin, Over, PaymentState, RefundState, ReversalState, Stated,
    Statement,
};
use crate::Money;

/// A statement in its written form.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Statement)]
pub(super) struct WrittenStatement {
    /// The object that it is about.
    object: ObjectKey,
    /// How the object stood.
    state: State,
    /// Captured so far, gone, or withdrawn, as the state says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    amount: Option<Money>,
    /// Of a payment: how much was reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    authorized: Option<Money>,
    /// When it stood so.
    stood_at: DateTime<Utc>,
    /// When the money moved, where it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    happened_at: Option<DateTime<Utc>>,
    /// Whether it was found by asking.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    answered: bool,
}

/// The states of every kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum State {
    /// A payment that may still take money.
    Open,
    /// A payment or a refund that failed.
    Failed,
    /// A payment, a refund or a reversal that was called off.
    Cancelled,
    /// A refund that was asked for.
    Asked,
    /// A refund that was made.
    Succeeded,
    /// A dispute that is only a question.
    Inquiry,
    /// A dispute that is open.
    Opened,
    /// A dispute that took the money.
    Lost,
    /// A dispute that took nothing.
    Won,
    /// A dispute whose money was given back.
    Reinstated,
    /// A reversal that took the money.
    Gone,
}

impl From<Content> for (State, Option<Money>) {
    fn from(content: Content) -> Self {
        let state = match content {
            Content::Payment(PaymentState { over: None, .. }) => State::Open,
            Content::Payment(PaymentState { over: Some(Over::Failed), .. })
            | Content::Refund(RefundState::Failed) => State::Failed,
            Content::Payment(PaymentState { over: Some(Over::Cancelled), .. })
            | Content::Refund(RefundState::Cancelled)
            | Content::Reversal(ReversalState::Cancelled) => State::Cancelled,
            Content::Refund(RefundState::Asked) => State::Asked,
            Content::Refund(RefundState::Succeeded(_)) => State::Succeeded,
            Content::Dispute(DisputeState::Inquiry) => State::Inquiry,
            Content::Dispute(DisputeState::Opened(_)) => State::Opened,
            Content::Dispute(DisputeState::Lost(_)) => State::Lost,
            Content::Dispute(DisputeState::Won) => State::Won,
            Content::Dispute(DisputeState::Reinstated) => State::Reinstated,
            Content::Reversal(ReversalState::Gone(_)) => State::Gone,
        };
        (state, content.amount())
    }
}

/// The object, its state and its amount do not belong together.
#[derive(Debug, thiserror::Error)]
#[error("a statement about {0:?} cannot have this state and amount")]
pub struct MalformedStatement(ObjectKey);

/// How an object stands, as people write it: a state and the amount that goes with it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WrittenStanding {
    /// The state.
    state: State,
    /// Captured so far, gone, or withdrawn, as the state says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    amount: Option<Money>,
}

impl WrittenStanding {
    /// What it says of an object.
    ///
    /// # Errors
    /// [`MalformedStatement`]: the object cannot stand so.
    pub fn of(self, object: ObjectKey) -> Result<Stated, MalformedStatement> {
        stated(object, self.state, self.amount)
    }
}

impl From<Content> for WrittenStanding {
    fn from(content: Content) -> Self {
        let (state, amount) = content.into();
        Self { state, amount }
    }
}

fn stated(object: ObjectKey, state: State, amount: Option<Money>) -> Result<Stated, MalformedStatement> {
    let content = match (&object, state, amount) {
        (ObjectKey::Payment, State::Open, captured) => {
            Content::Payment(PaymentState { captured, over: None })
        }
        (ObjectKey::Payment, State::Failed, captured) => {
            Content::Payment(PaymentState { captured, over: Some(Over::Failed) })
        }
        (ObjectKey::Payment, State::Cancelled, captured) => {
            Content::Payment(PaymentState { captured, over: Some(Over::Cancelled) })
        }
        (ObjectKey::Refund(_), State::Asked, None) => Content::Refund(RefundState::Asked),
        (ObjectKey::Refund(_), State::Succeeded, Some(gone)) => Content::Refund(RefundState::Succeeded(gone)),
        (ObjectKey::Refund(_), State::Failed, None) => Content::Refund(RefundState::Failed),
        (ObjectKey::Refund(_), State::Cancelled, None) => Content::Refund(RefundState::Cancelled),
        (ObjectKey::Dispute(_), State::Inquiry, None) => Content::Dispute(DisputeState::Inquiry),
        (ObjectKey::Dispute(_), State::Opened, withdrawn) => {
            Content::Dispute(DisputeState::Opened(withdrawn))
        }
        (ObjectKey::Dispute(_), State::Lost, Some(gone)) => Content::Dispute(DisputeState::Lost(gone)),
        (ObjectKey::Dispute(_), State::Won, None) => Content::Dispute(DisputeState::Won),
        (ObjectKey::Dispute(_), State::Reinstated, None) => Content::Dispute(DisputeState::Reinstated),
        (ObjectKey::Reversal(_), State::Gone, Some(gone)) => Content::Reversal(ReversalState::Gone(gone)),
        (ObjectKey::Reversal(_), State::Cancelled, None) => Content::Reversal(ReversalState::Cancelled),
        (
            ObjectKey::Payment | ObjectKey::Refund(_) | ObjectKey::Dispute(_) | ObjectKey::Reversal(_),
            _,
            _,
        ) => return Err(MalformedStatement(object)),
    };
    Ok(Stated::new(object, content))
}

impl From<Statement> for WrittenStatement {
    fn from(statement: Statement) -> Self {
        let (state, amount) = statement.content().into();
        Self {
            state,
            amount,
            authorized: statement.authorized_amount(),
            stood_at: statement.stood_at(),
            happened_at: statement.said_instant(),
            answered: statement.origin() == Origin::Answered,
            object: statement.into_object(),
        }
    }
}

impl TryFrom<WrittenStatement> for Statement {
    type Error = MalformedStatement;

    fn try_from(written: WrittenStatement) -> Result<Self, MalformedStatement> {
        let WrittenStatement { object, state, amount, authorized, stood_at, happened_at, answered } = written;
        let mut statement = Self::told(stated(object, state, amount)?, stood_at);
        if answered {
            statement = statement.answered_at(stood_at);
        }
        if let Some(happened_at) = happened_at {
            statement = statement.happened_at(happened_at);
        }
        if let Some(authorized) = authorized {
            statement = statement.authorized(authorized);
        }
        Ok(statement)
    }
}

/// A correction in its written form.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Correction)]
pub(super) struct WrittenCorrection {
    /// The object that it corrects.
    object: ObjectKey,
    /// How the object stands.
    state: State,
    /// The amount that goes with the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    amount: Option<Money>,
    /// When it was made.
    stood_at: DateTime<Utc>,
    /// Since when the object stands so, where that is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    happened_at: Option<DateTime<Utc>>,
    /// What its maker had heard of the object.
    heard: Vec<WrittenStanding>,
}

impl From<Correction> for WrittenCorrection {
    fn from(correction: Correction) -> Self {
        let (state, amount) = correction.content().into();
        Self {
            object: correction.object().clone(),
            state,
            amount,
            stood_at: correction.stood_at(),
            happened_at: correction.happened_at(),
            heard: correction.heard().iter().map(|content| (*content).into()).collect(),
        }
    }
}

impl TryFrom<WrittenCorrection> for Correction {
    type Error = MalformedStatement;

    fn try_from(written: WrittenCorrection) -> Result<Self, MalformedStatement> {
        let WrittenCorrection { object, state, amount, stood_at, happened_at, heard } = written;
        let content = |standing: WrittenStanding| standing.of(object.clone()).map(|stated| stated.content());
        let heard = heard.into_iter().map(content).collect::<Result<_, _>>()?;
        Ok(Self::new(stated(object, state, amount)?, stood_at, happened_at, heard))
    }
}

/// A [`Statement`] and a [`Correction`] are written, read and described in their written forms.
macro_rules! written_as {
    ($type:ty, $written:ty) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                <$written>::from(self.clone()).serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <$written>::deserialize(deserializer)?.try_into().map_err(serde::de::Error::custom)
            }
        }

        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                <$written>::schema()
            }
        }

        impl ToSchema for $type {
            fn name() -> std::borrow::Cow<'static, str> {
                <$written>::name()
            }

            fn schemas(schemas: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::schema::Schema>)>) {
                <$written>::schemas(schemas);
            }
        }
    };
}

written_as!(Statement, WrittenStatement);
written_as!(Correction, WrittenCorrection);
