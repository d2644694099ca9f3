use async_trait::async_trait;
use domain::{Money, PaymentFact, PaymentId, PledgeId};

/// What we ask of a provider.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Opens a payment session, or finds the one that is open for this pledge already, and returns
    /// the address of the provider's page.
    ///
    /// # Errors
    /// [`ProviderError`]; asking again is safe.
    async fn check_out(&self, check_out: CheckOut) -> Result<String, ProviderError>;

    /// Releases money that was authorised and not captured. Voiding twice is as good as once.
    ///
    /// # Errors
    /// [`ProviderError`]; asking again is safe.
    async fn void(&self, payment_id: &PaymentId) -> Result<(), ProviderError>;
}

/// A payment that is to be made.
#[derive(Clone, Debug)]
pub struct CheckOut {
    /// What is paid for; opening a session is idempotent by it.
    pub pledge_id: PledgeId,
    /// How much.
    pub amount: Money,
    /// Where the provider sends the visitor afterwards.
    pub return_url: String,
}

/// Why a provider did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// No answer, or one that says "later".
    #[error("the payment provider cannot be reached: {0}")]
    Unavailable(String),
    /// It will not do it.
    #[error("the payment provider refuses: {0}")]
    Refused(String),
}

/// What a genuine message of a provider says.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A fact about a pledge's payment.
    Fact {
        /// The pledge.
        pledge_id: PledgeId,
        /// The fact.
        fact: PaymentFact,
    },
    /// Of a type that means nothing to the ledger.
    Ignored,
}

/// Why a genuine message cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {detail}")]
pub struct ParseError {
    /// Where in the body.
    pub path: String,
    /// What is wrong there, with line and column where known.
    pub detail: String,
}
