use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};

use super::{
    CaptureLimit, CorrectionNote, FailureReason, PledgeEvent, PledgePayment, PledgeStatus, Settlement,
};
use crate::payment::{AskReason, Heard, Origin, ReviewReason, Stated, Statement};
use crate::{CampaignId, DonorId, Money, MoneyError, PaymentId, PledgeId};

/// A command to a pledge.
#[derive(Clone, Debug, PartialEq)]
pub enum PledgeCommand {
    /// Make it. Whether the campaign takes it is asked of the campaign, and holds in the same append.
    Create {
        /// The campaign it is for.
        campaign_id: CampaignId,
        /// The donor's pseudonym.
        donor_id: DonorId,
        /// How much is promised.
        amount: Money,
        /// Whether the donor wishes to stay nameless in public.
        anonymous: bool,
        /// When.
        made_at: DateTime<Utc>,
    },
    /// Change the amount before paying.
    Amend {
        /// The new amount, in the same currency.
        amount: Money,
    },
    /// Withdraw an authorised pledge.
    Cancel,
    /// Its time is over.
    Expire,
    /// The provider said something about one of its payments.
    Record(Report),
    /// A person states how an object of one of its payments stands.
    Correct(Box<Correcting>),
    /// Pay the pledge, which waits for money, by money of it that is held apart.
    Apply {
        /// The payment that is held apart.
        payment_id: PaymentId,
        /// When it is accepted.
        at: DateTime<Utc>,
    },
    /// Let go of money that is held apart: it becomes another pledge of the donor, which
    /// [`PledgeCommand::CreateAccepted`] makes in the same append.
    AcceptUnapplied {
        /// The payment that is held apart.
        payment_id: PaymentId,
        /// The pledge that it becomes.
        accepted_as: PledgeId,
    },
    /// Make a pledge that is paid already, by money that another pledge of the donor held apart.
    CreateAccepted {
        /// The campaign it is for.
        campaign_id: CampaignId,
        /// The donor's pseudonym.
        donor_id: DonorId,
        /// The payment that was held apart.
        payment_id: PaymentId,
        /// How much it took.
        amount: Money,
        /// Whether the donor wishes to stay nameless in public.
        anonymous: bool,
        /// All that is known of it.
        payment: Box<PledgePayment>,
        /// When it is accepted.
        at: DateTime<Utc>,
    },
}

impl PledgeCommand {
    /// Records one fact at `now`, under the usual limit of captures.
    pub fn record(fact: PaymentFact, now: DateTime<Utc>) -> Self {
        Self::Record(Report::of_facts([fact], CaptureLimit::default(), now))
    }
}

/// What a person states about an object of a payment.
#[derive(Clone, Debug, PartialEq)]
pub struct Correcting {
    /// The provider's payment.
    pub payment_id: PaymentId,
    /// The object, and how it stands.
    pub stated: Stated,
    /// When it is stated.
    pub made_at: DateTime<Utc>,
    /// Since when it stands so; without it, it always did.
    pub happened_at: Option<DateTime<Utc>>,
    /// What was heard of the payment and is not recorded: it waits for a person.
    pub unrecorded: Vec<Statement>,
    /// Names the correction.
    pub note: CorrectionNote,
    /// The most that is taken for this pledge without asking a person.
    pub limit: CaptureLimit,
}

/// Something that a provider says of one payment. It is never refused for coming early or late.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentFact {
    /// The provider's payment.
    pub payment_id: PaymentId,
    /// What is said.
    pub said: Said,
}

/// What is said of a payment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Said {
    /// How one of its objects stood.
    Stated(Statement),
    /// That it failed for good, and why; an attempt that can be repeated is no fact.
    Failed(Statement, FailureReason),
    /// That its money has arrived at the charity.
    Settled(Settlement),
}

impl PaymentFact {
    /// How an object of a payment stood.
    pub fn stated(payment_id: PaymentId, statement: Statement) -> Self {
        Self { payment_id, said: Said::Stated(statement) }
    }

    /// The money of a payment has arrived.
    pub fn settled(payment_id: PaymentId, settlement: Settlement) -> Self {
        let at = settlement.at.trunc_subsecs(6);
        Self { payment_id, said: Said::Settled(Settlement { at, ..settlement }) }
    }

    /// The statement, if it is one.
    pub fn statement(&self) -> Option<&Statement> {
        match &self.said {
            Said::Stated(statement) | Said::Failed(statement, _) => Some(statement),
            Said::Settled(_) => None,
        }
    }

    /// The same where it is part of an answer that stood at `stood_at`. What answers repeat of messages
    /// keeps its own times.
    #[must_use]
    pub fn answered_at(self, stood_at: DateTime<Utc>) -> Self {
        let stands = |statement: Statement| match statement.origin() {
            Origin::Told => statement,
            Origin::Answered => statement.answered_at(stood_at),
        };
        let said = match self.said {
            Said::Stated(statement) => Said::Stated(stands(statement)),
            Said::Failed(statement, reason) => Said::Failed(stands(statement), reason),
            Said::Settled(settlement) => Said::Settled(settlement),
        };
        Self { said, ..self }
    }
}

/// All that is said of one payment at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The provider's payment.
    pub payment_id: PaymentId,
    /// What was heard.
    pub heard: Heard,
    /// Its settlement, if it is said.
    pub settled: Option<Settlement>,
    /// Why it failed, if it is said.
    pub reason: Option<FailureReason>,
    /// The most that is taken for this pledge without asking a person.
    pub limit: CaptureLimit,
    /// When it is decided.
    pub now: DateTime<Utc>,
}

impl Report {
    /// What facts say of one payment, before the provider is asked.
    ///
    /// # Panics
    /// Without any fact. Facts about another payment than that of the first are left out.
    pub fn of_facts(
        facts: impl IntoIterator<Item = PaymentFact>,
        limit: CaptureLimit,
        now: DateTime<Utc>,
    ) -> Self {
        let mut facts = facts.into_iter().peekable();
        let payment_id = facts.peek().map(|fact| fact.payment_id.clone());
        let payment_id = payment_id.expect("a report has a fact");
        let mut report =
            Self { payment_id, heard: Heard::default(), settled: None, reason: None, limit, now };
        let facts = facts.filter(|fact| fact.payment_id == report.payment_id).collect::<Vec<_>>();
        report.heard = Heard::messages(report.take(facts));
        report
    }

    /// With one more answer of the provider.
    #[must_use]
    pub fn answer(mut self, facts: impl IntoIterator<Item = PaymentFact>) -> Self {
        let facts = facts.into_iter().filter(|fact| fact.payment_id == self.payment_id).collect::<Vec<_>>();
        let statements = self.take(facts);
        self.heard = self.heard.answer(statements);
        self
    }

    fn take(&mut self, facts: Vec<PaymentFact>) -> Vec<Statement> {
        let mut statements = Vec::with_capacity(facts.len());
        for fact in facts {
            match fact.said {
                Said::Stated(statement) => statements.push(statement),
                Said::Failed(statement, reason) => {
                    statements.push(statement);
                    self.reason = Some(reason);
                }
                Said::Settled(settlement) => self.settled = Some(settlement),
            }
        }
        statements
    }
}

pub(super) type Decision = Result<Vec<PledgeEvent>, PledgeError>;

/// Which rule a command would break.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PledgeError {
    /// There is no such pledge.
    #[error("there is no such pledge")]
    NotFound,
    /// It exists already.
    #[error("the pledge exists already")]
    AlreadyExists,
    /// The amount can be changed only while nobody has paid.
    #[error("only a pending pledge can be amended; this one is {0}")]
    NotPending(PledgeStatus),
    /// Only a pledge that waits for money can be paid by money that it holds apart.
    #[error("only a pledge that waits for money can be paid; this one is {0}")]
    NotWaiting(PledgeStatus),
    /// Money was taken for it that a person has to accept or give back first.
    #[error("payment {0} of the pledge is held apart until it is accepted or given back")]
    InQuestion(PaymentId),
    /// Only an authorised pledge can be cancelled.
    #[error("only an authorized pledge can be cancelled; this one is {0}")]
    NotAuthorized(PledgeStatus),
    /// The new amount is in another currency.
    #[error("amount.currency {0}")]
    Currency(MoneyError),
    /// A refund, a reversal or a dispute of a payment whose capture is not known yet: it waits for it.
    #[error("the capture of payment {0} is not known yet")]
    AwaitsCapture(PaymentId),
    /// The provider has to be asked first.
    #[error("the provider has to be asked about payment {0}: {1}")]
    Asks(PaymentId, AskReason),
    /// The payment was accepted as another pledge: whoever has a fact about it repeats it there.
    #[error("the payment was accepted as pledge {0}")]
    MovedTo(PledgeId),
    /// Only money that is held apart can be accepted.
    #[error("payment {0} is not held apart")]
    NotUnapplied(PaymentId),
    /// All of the money that was held apart has gone back.
    #[error("nothing is left of payment {0}")]
    NothingLeft(PaymentId),
    /// The fact contradicts what the ledger holds; a person must look at it.
    #[error("needs review: {0}")]
    NeedsReview(Contradiction),
}

/// How what a provider says contradicts what is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// In another currency than the pledge.
    #[error("the payment {0}")]
    Currency(MoneyError),
    /// Asking has not settled it.
    #[error(transparent)]
    Review(ReviewReason),
}
