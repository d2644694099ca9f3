use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::payment::{Content, PaymentState};
use domain::pledge::Said;
use domain::{Currency, Money, PaymentFact, PaymentId, PledgeId, RefundId};
use reqwest::header::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::{PayableAmounts, SignatureError};

/// The port to a payment provider: requests to it, and how its messages are read.
///
/// Every request is idempotent: whoever lost the answer repeats it and changes nothing.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The provider's name in addresses, in the inbox, in metadata and in metrics.
    fn name(&self) -> &'static str;

    /// Whether a payment is this provider's, by the form of its id.
    fn owns(&self, payment_id: &PaymentId) -> bool;

    /// The amounts that it takes in a currency, as far as it says beforehand.
    fn payable(&self, currency: Currency) -> PayableAmounts;

    /// Opens a payment session, or finds the one that is open for this pledge and amount already.
    ///
    /// # Errors
    /// [`ProviderError`].
    async fn check_out(&self, check_out: CheckOut) -> Result<PaymentSession, ProviderError>;

    /// Closes a session: afterwards no payment can begin on it. Closing one that is closed or paid
    /// changes nothing; [`Provider::fetch`] tells what happened on it.
    ///
    /// # Errors
    /// [`ProviderError`].
    async fn close(&self, session_id: &SessionId) -> Result<(), ProviderError>;

    /// Gives money that was taken back to the donor. How it goes is reported, now or later.
    ///
    /// # Errors
    /// [`ProviderError`]; refused is also more than what is left of the payment.
    async fn refund(&self, refund: Refund) -> Result<RefundId, ProviderError>;

    /// Releases money that was authorised and not captured. Voiding twice is as good as once.
    ///
    /// # Errors
    /// [`ProviderError`].
    async fn void(&self, payment_id: &PaymentId) -> Result<(), ProviderError>;

    /// How all that was paid on a session stands, complete even if messages were lost. What this and the
    /// next three requests state are answers, as of when the question was sent by our clock. Whoever asks
    /// puts the right time in its place, by [`PaymentFact::answered_at`].
    ///
    /// # Errors
    /// [`ProviderError`].
    async fn fetch(&self, session_id: &SessionId) -> Result<PaymentReport, ProviderError>;

    /// How a payment and its returns stand, complete even if messages were lost; `None` if it is not for
    /// one of our pledges.
    ///
    /// # Errors
    /// [`ProviderError`].
    async fn look_up(&self, payment_id: &PaymentId) -> Result<Option<PaymentReport>, ProviderError>;

    /// How all payments for our pledges stand, page by page. `cursor` is the previous page's `next`,
    /// `None` for the first page.
    ///
    /// # Errors
    /// [`ProviderError`].
    async fn list(&self, cursor: Option<&str>) -> Result<ReportPage, ProviderError>;

    /// The payments whose money was part of a payout, in pages as by [`Provider::list`]: each report
    /// says that its payment was captured and is settled, and no more. A provider that reports every
    /// settlement by itself makes no payouts, and has nothing to say.
    ///
    /// # Errors
    /// [`ProviderError`].
    async fn paid_out(&self, _payout_id: &str, _cursor: Option<&str>) -> Result<ReportPage, ProviderError> {
        Ok(ReportPage::default())
    }

    /// Checks that a message is genuine and recent, over the bytes as they came, and reads it.
    ///
    /// # Errors
    /// [`MessageError`].
    fn verify_and_parse(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<VerifiedMessage, MessageError>;

    /// Reads a message that was verified before.
    ///
    /// # Errors
    /// [`ParseError`] says what is wrong and where.
    fn parse(&self, body: &[u8]) -> Result<Notice, ParseError>;
}

/// A provider's own id of a payment session: 1 to 200 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(String);

impl SessionId {
    /// The id as the provider writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SessionId {
    type Err = MalformedSessionId;

    fn from_str(text: &str) -> Result<Self, MalformedSessionId> {
        let is_well_formed = (1..=200).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if is_well_formed { Ok(Self(text.to_owned())) } else { Err(MalformedSessionId) }
    }
}

impl TryFrom<String> for SessionId {
    type Error = MalformedSessionId;

    fn try_from(text: String) -> Result<Self, MalformedSessionId> {
        text.parse()
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is no session's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 200 visible ASCII characters")]
pub struct MalformedSessionId;

/// A payment that is to be made.
#[derive(Clone, Debug)]
pub struct CheckOut {
    /// The pledge to be paid.
    pub pledge_id: PledgeId,
    /// How much.
    pub amount: Money,
    /// Where the provider sends the visitor afterwards.
    pub return_url: String,
}

/// The payment session of a pledge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentSession {
    /// The provider's id of the session.
    pub session_id: SessionId,
    /// The provider's page, where the visitor pays. None when the visitor has paid there already,
    /// and the report of it is still on its way.
    pub url: Option<String>,
}

/// Money that is to be given back.
#[derive(Clone, Debug)]
pub struct Refund {
    /// The payment by which it was taken.
    pub payment_id: PaymentId,
    /// How much of it.
    pub amount: Money,
    /// The refund is made once under this key, however often it is asked for; at most 200
    /// characters.
    pub idempotency_key: String,
}

/// All that is known to the provider about the payments for one pledge on one session.
#[derive(Clone, Debug, PartialEq)]
pub struct PaymentReport {
    /// The pledge.
    pub pledge_id: PledgeId,
    /// What is said of its payments; empty if nobody has paid. The order means nothing.
    pub facts: Vec<PaymentFact>,
    /// Whether a payment was begun whose end is not known yet. By some methods, such as debits from a
    /// bank account, that takes days.
    pub is_underway: bool,
}

impl PaymentReport {
    /// Nothing has happened yet.
    pub fn nothing(pledge_id: PledgeId) -> Self {
        Self { pledge_id, facts: vec![], is_underway: false }
    }

    /// Whether money was reserved or taken on the session, or may be soon. That a payment ended and took
    /// nothing is no money, nor is one that is open and reserved nothing; what goes back or is disputed was
    /// taken, also where the report of that is missing.
    pub fn is_paid(&self) -> bool {
        self.is_underway || self.facts.iter().any(tells_of_money)
    }
}

fn tells_of_money(fact: &PaymentFact) -> bool {
    let statement = match &fact.said {
        Said::Stated(statement) | Said::Failed(statement, _) => statement,
        Said::Settled(_) => return true,
    };
    match statement.content() {
        Content::Payment(PaymentState { captured: Some(_), .. }) => true,
        Content::Payment(PaymentState { captured: None, over: Some(_) }) => false,
        Content::Payment(PaymentState { captured: None, over: None }) => {
            statement.authorized_amount().is_some()
        }
        Content::Refund(_) | Content::Dispute(_) | Content::Reversal(_) => true,
    }
}

/// Some reports, and where the next ones are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReportPage {
    /// The reports.
    pub reports: Vec<PaymentReport>,
    /// The cursor of the next page; none after the last.
    pub next: Option<String>,
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

/// A message whose signature was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifiedMessage {
    /// The message's own id, the same for every delivery of it: 1 to 200 characters.
    pub webhook_id: String,
    /// The provider's name for this kind of message: 1 to 200 characters.
    pub event_type: String,
    /// Its content.
    pub notice: Notice,
}

/// The content of a genuine message.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// What is said of the payments of a pledge, at least one fact.
    Facts {
        /// The pledge.
        pledge_id: PledgeId,
        /// The facts.
        facts: Vec<PaymentFact>,
    },
    /// Something happened to a payment, and the message does not say for which pledge it is:
    /// [`Provider::look_up`] does, and has the rest of what happened.
    Unaddressed {
        /// The payment.
        payment_id: PaymentId,
        /// Facts stated by the message itself; may be empty.
        facts: Vec<PaymentFact>,
    },
    /// The money of many payments was paid out: [`Provider::paid_out`] says of which.
    Payout {
        /// The provider's id of the payout: 1 to 200 characters.
        payout_id: String,
    },
    /// Of a type that means nothing to the ledger.
    Ignored,
}

/// Why a message is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It is not genuine, or too old.
    #[error(transparent)]
    NotGenuine(#[from] SignatureError),
    /// It is genuine, and cannot be understood.
    #[error(transparent)]
    Malformed(#[from] ParseError),
}

/// Why a genuine message cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}{detail}", path, if path.is_empty() { "" } else { ": " })]
pub struct ParseError {
    /// Where in the body.
    pub path: String,
    /// The error, with line and column where known.
    pub detail: String,
}

impl ParseError {
    /// An error in the value at `path`.
    pub(crate) fn at(path: &str, detail: impl ToString) -> Self {
        Self { path: path.to_owned(), detail: detail.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use domain::payment::{DisputeState, Over, RefundState, ReversalState, Stated, Statement};
    use domain::pledge::Settlement;

    use super::*;

    #[test]
    fn only_money_says_that_somebody_has_paid() {
        let amount = Money::new(5000, "USD".parse().unwrap()).unwrap();
        let now = Utc::now();
        let payment = |captured, over| Statement::told(Stated::payment(captured, over), now);
        let stated = |statement| PaymentFact::stated("pay_1".parse().unwrap(), statement);
        let refund = |state| stated(Statement::told(Stated::refund("re_1".parse().unwrap(), state), now));
        let dispute = |state| stated(Statement::told(Stated::dispute("dp_1".parse().unwrap(), state), now));
        let reversal =
            |state| stated(Statement::told(Stated::reversal("rev_1".parse().unwrap(), state), now));
        let settlement = Settlement { amount, at: now };
        let failed = stated(payment(None, Some(Over::Failed)));
        let declined = Said::Failed(payment(None, Some(Over::Failed)), "declined".parse().unwrap());
        let declined = PaymentFact { said: declined, ..failed.clone() };
        let cancelled = stated(payment(None, Some(Over::Cancelled)));
        let report = |facts: &[PaymentFact], is_underway| PaymentReport {
            pledge_id: "7d444840-9dc0-11d1-b245-5ffdce74fad2".parse().unwrap(),
            facts: facts.to_vec(),
            is_underway,
        };
        assert!(!report(&[], false).is_paid());
        assert!(
            !report(&[failed.clone(), declined, cancelled, stated(payment(None, None))], false).is_paid()
        );
        assert!(report(&[], true).is_paid());
        assert!(report(std::slice::from_ref(&failed), true).is_paid());
        for money in [
            stated(payment(None, None).authorized(amount)),
            stated(payment(Some(amount), None)),
            stated(payment(Some(amount), Some(Over::Cancelled))),
            PaymentFact::settled("pay_1".parse().unwrap(), settlement),
            refund(RefundState::Succeeded(amount)),
            refund(RefundState::Failed),
            dispute(DisputeState::Inquiry),
            dispute(DisputeState::Opened(None)),
            dispute(DisputeState::Won),
            dispute(DisputeState::Lost(amount)),
            reversal(ReversalState::Gone(amount)),
        ] {
            assert!(report(&[failed.clone(), money.clone()], false).is_paid(), "{money:?}");
        }
    }
}
