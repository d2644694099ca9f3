//! A payment provider that no program knows: an adapter to the public port, and the provider behind it
//! in the test's own memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::payment::{RefundState, Stated, Statement};
use domain::{Currency, Money, PaymentFact, PaymentId, PledgeId, RefundId};
use payments::{
    BuildContext, CheckOut, MessageError, Notice, ParseError, PayableAmounts, PaymentReport, PaymentSession,
    Provider, ProviderDescriptor, ProviderError, ProviderSettings, Refund, ReportPage, SessionId, SetUpError,
    SignatureError, SignedMessage, VerifiedMessage, WebhookFormat, WebhookSecret, sign, verify,
};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde::{Deserialize, Serialize};

use crate::client::Client;

const ACME: &str = "acme";
const SECRET: &str = "whsec_YWNtZSBzaWducyBpdHMgbWVzc2FnZXMgd2l0aCB0aGlz";

#[derive(Clone, Default)]
pub struct Acme(Arc<Mutex<Books>>);

#[derive(Default)]
struct Books {
    refusal: Option<String>,
    sessions: BTreeMap<String, PaymentReport>,
    refunds: Vec<Refund>,
}

/// A message in Acme's own words.
#[derive(Serialize, Deserialize)]
struct Message {
    about: String,
    at: DateTime<Utc>,
    order: PledgeId,
    payment: PaymentId,
    money: Money,
    refund: Option<RefundId>,
}

impl Message {
    fn fact(self) -> Option<PaymentFact> {
        let Self { about, at, payment: payment_id, money: amount, refund, .. } = self;
        let stated = match (about.as_str(), refund) {
            ("taken", _) => Some(Stated::payment(Some(amount), None)),
            ("given back", Some(refund_id)) => {
                Some(Stated::refund(refund_id, RefundState::Succeeded(amount)))
            }
            _ => None,
        };
        Some(PaymentFact::stated(payment_id, Statement::told(stated?, at)))
    }
}

impl Acme {
    /// Its row in the registry.
    pub fn descriptor(&self) -> ProviderDescriptor {
        let acme = self.clone();
        let build = move |_: &ProviderSettings, _: &BuildContext<'_>| -> Result<_, SetUpError> {
            Ok(Some(Box::new(acme.clone()) as Box<dyn Provider>))
        };
        ProviderDescriptor {
            name: ACME,
            summary: "A provider for tests",
            key_variable: "ACME_KEY",
            webhooks: WebhookFormat {
                summary: "Take a message of Acme",
                signature: "Signed in the header acme-signature.",
                headers: &[
                    ("acme-id", "Its id"),
                    ("acme-time", "Seconds"),
                    ("acme-signature", "v1, and base64"),
                ],
                body: "{about, at, order, payment, money}",
            },
            build: Arc::new(build),
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap()
    }

    /// The visitor pays on the page of a session: the payment, and the message that tells of it.
    pub fn pay(&self, session: &str, money: Money) -> (PaymentId, Vec<u8>) {
        let payment: PaymentId = format!("acme_{session}").parse().unwrap();
        let mut books = self.books();
        let report = books.sessions.get_mut(session).unwrap();
        let at = Utc::now();
        let taken = Statement::answered(Stated::payment(Some(money), None), at);
        report.facts.push(PaymentFact::stated(payment.clone(), taken));
        let about = "taken".to_owned();
        let message =
            Message { about, at, order: report.pledge_id, payment: payment.clone(), money, refund: None };
        (payment, serde_json::to_vec(&message).unwrap())
    }

    /// From now on it refuses check-outs for this reason, or takes them again.
    pub fn refuse(&self, reason: Option<&str>) {
        self.books().refusal = reason.map(str::to_owned);
    }

    /// The refunds that it was asked for.
    pub fn refunds(&self) -> Vec<Refund> {
        self.books().refunds.clone()
    }

    /// The message that its first refund has been made.
    pub fn refund_message(&self, order: PledgeId) -> Vec<u8> {
        let Refund { payment_id: payment, amount: money, .. } = self.refunds().remove(0);
        let refund = Some("acme_refund_1".parse().unwrap());
        let (about, at) = ("given back".to_owned(), Utc::now());
        let message = Message { about, at, order, payment, money, refund };
        serde_json::to_vec(&message).unwrap()
    }

    /// A message as Acme sends it, signed with `secret`, or with its own.
    pub fn webhook(client: &Client, id: &str, body: &[u8], secret: Option<&WebhookSecret>) -> RequestBuilder {
        let own = SECRET.parse().unwrap();
        let now = Utc::now().timestamp();
        client
            .request(Method::POST, "/webhooks/acme")
            .header("content-type", "application/json")
            .header("acme-id", id)
            .header("acme-time", now)
            .header("acme-signature", sign(secret.unwrap_or(&own), id, now, body))
            .body(body.to_vec())
    }
}

fn unknown(what: impl std::fmt::Display) -> ProviderError {
    ProviderError::Refused(format!("{what} is unknown"))
}

#[async_trait]
impl Provider for Acme {
    fn name(&self) -> &'static str {
        ACME
    }

    fn owns(&self, payment_id: &PaymentId) -> bool {
        payment_id.as_str().starts_with("acme_")
    }

    fn payable(&self, _: Currency) -> PayableAmounts {
        PayableAmounts::ALL
    }

    async fn check_out(&self, check_out: CheckOut) -> Result<PaymentSession, ProviderError> {
        let CheckOut { pledge_id, .. } = check_out;
        if let Some(reason) = self.books().refusal.clone() {
            return Err(ProviderError::Refused(reason));
        }
        let session = pledge_id.to_string();
        let nothing_yet = PaymentReport::nothing(pledge_id);
        self.books().sessions.entry(session.clone()).or_insert(nothing_yet);
        let url = Some(format!("https://acme.example/pay/{session}"));
        Ok(PaymentSession { session_id: session.parse().map_err(unknown)?, url })
    }

    async fn close(&self, _: &SessionId) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn refund(&self, refund: Refund) -> Result<RefundId, ProviderError> {
        self.books().refunds.push(refund);
        "acme_refund_1".parse().map_err(unknown)
    }

    async fn void(&self, payment_id: &PaymentId) -> Result<(), ProviderError> {
        Err(unknown(payment_id))
    }

    async fn fetch(&self, session_id: &SessionId) -> Result<PaymentReport, ProviderError> {
        self.books().sessions.get(session_id.as_str()).cloned().ok_or_else(|| unknown(session_id))
    }

    async fn look_up(&self, payment_id: &PaymentId) -> Result<Option<PaymentReport>, ProviderError> {
        let session = payment_id.as_str().trim_start_matches("acme_");
        Ok(self.books().sessions.get(session).cloned())
    }

    async fn list(&self, _: Option<&str>) -> Result<ReportPage, ProviderError> {
        Ok(ReportPage { reports: self.books().sessions.values().cloned().collect(), next: None })
    }

    fn verify_and_parse(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<VerifiedMessage, MessageError> {
        let header = |name| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.ok_or(SignatureError::MissingHeader(name))
        };
        let (id, timestamp, signatures) =
            (header("acme-id")?, header("acme-time")?, header("acme-signature")?);
        verify(&[SECRET.parse().unwrap()], SignedMessage { id, timestamp, signatures, body }, now)?;
        let event_type = "acme".to_owned();
        Ok(VerifiedMessage { webhook_id: id.to_owned(), event_type, notice: self.parse(body)? })
    }

    fn parse(&self, body: &[u8]) -> Result<Notice, ParseError> {
        let message: Message = serde_json::from_slice(body)
            .map_err(|error| ParseError { path: String::new(), detail: error.to_string() })?;
        let pledge_id = message.order;
        Ok(message.fact().map_or(Notice::Ignored, |fact| Notice::Facts { pledge_id, facts: vec![fact] }))
    }
}
