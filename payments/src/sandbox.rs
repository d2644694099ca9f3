//! The sandbox provider: its messages, and its API.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::pledge::FailureReason;
use domain::{DisputeId, Money, PaymentFact, PaymentId, PledgeId, RefundId};
use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::provider::{CheckOut, Notice, ParseError, Provider, ProviderError};

/// The provider's name in addresses, in the inbox and in metadata.
pub const NAME: &str = "sandbox";

/// The provider has this long to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A message as the provider sends it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {
    /// What it reports, such as `payment.captured`.
    pub r#type: String,
    /// When that happened.
    pub timestamp: DateTime<Utc>,
    /// About which payment; its shape depends on the type.
    pub data: Box<RawValue>,
}

/// `data` of `payment.authorized`, `payment.captured` and `settlement.confirmed`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MoneyData {
    /// The merchant's reference.
    pub pledge_id: PledgeId,
    /// The provider's payment.
    pub payment_id: PaymentId,
    /// How much.
    pub amount: Money,
}

/// `data` of `payment.failed`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FailureData {
    /// The merchant's reference.
    pub pledge_id: PledgeId,
    /// The provider's payment.
    pub payment_id: PaymentId,
    /// Why.
    #[serde(default)]
    pub reason: Option<FailureReason>,
}

/// `data` of `payment.refunded`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RefundData {
    /// The merchant's reference.
    pub pledge_id: PledgeId,
    /// The provider's payment.
    pub payment_id: PaymentId,
    /// The provider's refund.
    pub refund_id: RefundId,
    /// How much was given back.
    pub amount: Money,
}

/// `data` of `dispute.opened`, `dispute.won` and `dispute.lost`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DisputeData {
    /// The merchant's reference.
    pub pledge_id: PledgeId,
    /// The provider's payment.
    pub payment_id: PaymentId,
    /// The provider's dispute.
    pub dispute_id: DisputeId,
    /// How much is in question.
    pub amount: Money,
}

/// Reads a genuine message.
///
/// # Errors
/// [`ParseError`] says what is wrong and where.
pub fn parse(body: &[u8]) -> Result<(Message, Notice), ParseError> {
    let message: Message = parse_json(body, "")?;
    let data = message.data.get().as_bytes();
    let money = || parse_json::<MoneyData>(data, "data.");
    let notice = match message.r#type.as_str() {
        "payment.authorized" => {
            let MoneyData { pledge_id, payment_id, amount } = money()?;
            Notice::Fact { pledge_id, fact: PaymentFact::Authorized { payment_id, amount } }
        }
        "payment.captured" => {
            let MoneyData { pledge_id, payment_id, amount } = money()?;
            Notice::Fact { pledge_id, fact: PaymentFact::Captured { payment_id, amount } }
        }
        "settlement.confirmed" => {
            let MoneyData { pledge_id, payment_id, amount } = money()?;
            Notice::Fact { pledge_id, fact: PaymentFact::Settled { payment_id, amount } }
        }
        "payment.failed" => {
            let FailureData { pledge_id, payment_id, reason } = parse_json(data, "data.")?;
            Notice::Fact { pledge_id, fact: PaymentFact::Failed { payment_id, reason } }
        }
        "payment.refunded" => {
            let RefundData { pledge_id, payment_id, refund_id, amount } = parse_json(data, "data.")?;
            Notice::Fact { pledge_id, fact: PaymentFact::Refunded { payment_id, refund_id, amount } }
        }
        "dispute.opened" => {
            let DisputeData { pledge_id, payment_id, dispute_id, amount } = parse_json(data, "data.")?;
            Notice::Fact { pledge_id, fact: PaymentFact::DisputeOpened { payment_id, dispute_id, amount } }
        }
        "dispute.won" => {
            let DisputeData { pledge_id, payment_id, dispute_id, amount } = parse_json(data, "data.")?;
            Notice::Fact { pledge_id, fact: PaymentFact::DisputeWon { payment_id, dispute_id, amount } }
        }
        "dispute.lost" => {
            let DisputeData { pledge_id, payment_id, dispute_id, amount } = parse_json(data, "data.")?;
            Notice::Fact { pledge_id, fact: PaymentFact::DisputeLost { payment_id, dispute_id, amount } }
        }
        _ => Notice::Ignored,
    };
    Ok((message, notice))
}

fn parse_json<T: DeserializeOwned>(json: &[u8], prefix: &str) -> Result<T, ParseError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value: T = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = match error.path().to_string().as_str() {
            "." => prefix.trim_end_matches('.').to_owned(),
            path => format!("{prefix}{path}"),
        };
        ParseError { path, detail: error.into_inner().to_string() }
    })?;
    deserializer.end().map_err(|error| ParseError { path: prefix.to_owned(), detail: error.to_string() })?;
    Ok(value)
}

/// What the provider is told when a session is opened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpenSession {
    /// The merchant's reference; opening is idempotent by it.
    pub reference: PledgeId,
    /// How much.
    pub amount: Money,
    /// Where the visitor goes afterwards.
    pub return_url: String,
}

/// What the provider answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpenedSession {
    /// The address of the payment page.
    pub url: String,
}

/// The provider's API over HTTP.
#[derive(Clone, Debug)]
pub struct Sandbox {
    base_url: String,
    api_key: String,
    http: reqwest::Client,
}

impl Sandbox {
    /// The provider at `base_url` (without a slash at the end), asked with `api_key`.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(base_url: String, api_key: String) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        Ok(Self { base_url, api_key, http })
    }

    async fn post(&self, path: &str, body: &impl Serialize) -> Result<reqwest::Response, ProviderError> {
        let response = self
            .http
            .post(format!("{}{path}", self.base_url))
            .bearer_auth(&self.api_key)
            .json(body)
            .send()
            .await
            .map_err(|error| ProviderError::Unavailable(error.to_string()))?;
        match response.status() {
            status if status.is_success() => Ok(response),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(ProviderError::Unavailable(status.to_string()))
            }
            status => Err(ProviderError::Refused(status.to_string())),
        }
    }
}

#[async_trait]
impl Provider for Sandbox {
    async fn check_out(&self, check_out: CheckOut) -> Result<String, ProviderError> {
        let CheckOut { pledge_id: reference, amount, return_url } = check_out;
        let opened: OpenedSession = self
            .post("/sandbox/sessions", &OpenSession { reference, amount, return_url })
            .await?
            .json()
            .await
            .map_err(|error| ProviderError::Unavailable(error.to_string()))?;
        Ok(opened.url)
    }

    async fn void(&self, payment_id: &PaymentId) -> Result<(), ProviderError> {
        self.post(&format!("/sandbox/payments/{payment_id}/void"), &serde_json::json!({})).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(r#type: &str, data: &str) -> Vec<u8> {
        format!(r#"{{"type":"{type}","timestamp":"2026-05-01T10:00:00Z","data":{data}}}"#).into_bytes()
    }

    const DATA: &str = r#"{"pledge_id":"00000000-0000-8000-8000-000000000001","payment_id":"pay_1",
        "amount":{"amount_minor":5000,"currency":"USD"}}"#;

    #[test]
    fn facts_are_read() {
        let (_, notice) = parse(&body("payment.captured", DATA)).unwrap();
        let Notice::Fact { fact, .. } = notice else { panic!("{notice:?}") };
        assert_eq!(
            fact,
            PaymentFact::Captured {
                payment_id: "pay_1".parse().unwrap(),
                amount: Money::new(5000, "USD".parse().unwrap()).unwrap(),
            }
        );
    }

    #[test]
    fn unknown_types_are_ignored_whatever_they_carry() {
        let (_, notice) = parse(&body("customer.sneezed", r#"{"tissue":true}"#)).unwrap();
        assert_eq!(notice, Notice::Ignored);
    }

    #[test]
    fn errors_say_where() {
        let negative = DATA.replace("5000", "-1");
        let error = parse(&body("payment.captured", &negative)).unwrap_err();
        assert_eq!(error.path, "data.amount");
        let error = parse(&body("payment.captured", "{}")).unwrap_err();
        assert!(error.detail.contains("pledge_id"), "{error}");
        let error = parse(br#"{"type": 1}"#).unwrap_err();
        assert_eq!(error.path, "type");
        let error = parse(br#"{"type": "#).unwrap_err();
        assert!(error.detail.contains("line 1"), "{error}");
    }
}
