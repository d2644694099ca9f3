//! The sandbox provider: its messages, and its API.

mod messages;
#[cfg(feature = "guarded")]
mod settings;

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::payment::{ObjectKey, Statement};
use domain::{Currency, Money, PaymentFact, PaymentId, PledgeId, RefundId};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::http::{http_client_builder, json, says_later, send};
use crate::json::short_text;
use crate::signature::StandardHeaders;
use crate::{
    CheckOut, MessageError, Notice, ParseError, PayableAmounts, PaymentReport, PaymentSession, Provider,
    ProviderError, Refund, ReportPage, SessionId, SignedMessage, VerifiedMessage, WebhookSecret, verify,
};

pub use messages::{
    CancellationData, DisputeData, FailureData, Message, MoneyData, RefundData, ReversalData, parse,
};
#[cfg(feature = "guarded")]
pub use settings::{API_KEY_FILE, SandboxSettings};

/// The provider's name in addresses, in the inbox and in metadata.
pub const NAME: &str = "sandbox";

/// Reports asked for at once.
const PAGE: &str = "100";

/// A request to open a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpenSession {
    /// The merchant's reference; opening is idempotent by it.
    pub reference: PledgeId,
    /// How much.
    pub amount: Money,
    /// Where the visitor goes afterwards.
    pub return_url: String,
}

/// The provider's answer to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpenedSession {
    /// The session.
    pub session_id: SessionId,
    /// The address of the payment page.
    pub url: String,
}

/// A session as the provider reports it.
#[derive(Clone, Debug, Deserialize)]
struct Report {
    reference: PledgeId,
    facts: Vec<Message>,
}

#[derive(Deserialize)]
struct Reports {
    items: Vec<Report>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct RefundRequest {
    amount: Money,
}

#[derive(Deserialize)]
struct Refunded {
    refund_id: RefundId,
}

/// The provider's API over HTTP.
pub struct Sandbox {
    base_url: Url,
    api_key: String,
    secrets: Vec<WebhookSecret>,
    http: reqwest::Client,
}

impl Sandbox {
    /// The provider at `base_url`, asked with `api_key`. Its messages are genuine if they are signed
    /// with one of `secrets`.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(base_url: Url, api_key: String, secrets: Vec<WebhookSecret>) -> Result<Self, reqwest::Error> {
        Ok(Self { base_url, api_key, secrets, http: http_client_builder().build()? })
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base_url.clone();
        // A base that cannot have a path is no http address, and fails when it is asked.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("sandbox").extend(path);
        }
        self.http.request(method, url).bearer_auth(&self.api_key)
    }

    fn post(&self, path: &[&str], body: &impl Serialize) -> RequestBuilder {
        self.request(Method::POST, path).json(body)
    }
}

async fn answer<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, ProviderError> {
    let response = send(request).await?;
    match response.status() {
        status if status.is_success() => json(response).await,
        status if says_later(status) => Err(ProviderError::Unavailable(status.to_string())),
        status => Err(ProviderError::Refused(match json::<ProblemBody>(response).await {
            Ok(ProblemBody { detail: Some(detail) }) => format!("{status}: {detail}"),
            Ok(ProblemBody { detail: None }) | Err(_) => status.to_string(),
        })),
    }
}

#[derive(Deserialize)]
struct ProblemBody {
    detail: Option<String>,
}

/// A report has every message, of which each may have been lost on its way, and says by them how each
/// object stood when it was asked for.
fn report(report: Report, asked_at: DateTime<Utc>) -> Result<PaymentReport, ProviderError> {
    let mut all = Vec::new();
    for message in &report.facts {
        let notice = messages::notice(message)
            .map_err(|error| ProviderError::Refused(format!("its report cannot be understood: {error}")))?;
        match notice {
            Notice::Facts { facts, .. } => all.extend(facts),
            Notice::Unaddressed { .. } | Notice::Payout { .. } | Notice::Ignored => {}
        }
    }
    let answers = answers(&all, asked_at);
    all.extend(answers);
    Ok(PaymentReport { facts: all, ..PaymentReport::nothing(report.reference) })
}

/// How each object stands by the last of these facts about it.
fn answers(facts: &[PaymentFact], asked_at: DateTime<Utc>) -> Vec<PaymentFact> {
    let mut last: HashMap<(&PaymentId, &ObjectKey), (&PaymentFact, &Statement)> = HashMap::new();
    for fact in facts {
        let Some(statement) = fact.statement() else { continue };
        let key = (&fact.payment_id, statement.object());
        let is_repeated = last.get(&key).is_some_and(|(_, before)| before.stated() == statement.stated());
        // The first to say so knows when it happened.
        if !is_repeated {
            last.insert(key, (fact, statement));
        }
    }
    let mut last: Vec<_> = last.into_iter().collect();
    last.sort_unstable_by_key(|(key, _)| *key);
    let answered = |(_, (fact, statement)): (_, (&PaymentFact, &Statement))| {
        PaymentFact::stated(fact.payment_id.clone(), statement.clone().answered_at(asked_at))
    };
    last.into_iter().map(answered).collect()
}

#[async_trait]
impl Provider for Sandbox {
    fn name(&self) -> &'static str {
        NAME
    }

    fn owns(&self, payment_id: &PaymentId) -> bool {
        payment_id.as_str().starts_with("pay_")
    }

    fn payable(&self, _: Currency) -> PayableAmounts {
        PayableAmounts::ALL
    }

    async fn check_out(&self, check_out: CheckOut) -> Result<PaymentSession, ProviderError> {
        let CheckOut { pledge_id: reference, amount, return_url } = check_out;
        let open = OpenSession { reference, amount, return_url };
        let OpenedSession { session_id, url } = answer(self.post(&["sessions"], &open)).await?;
        Ok(PaymentSession { session_id, url: Some(url) })
    }

    async fn close(&self, session_id: &SessionId) -> Result<(), ProviderError> {
        let request = self.request(Method::POST, &["sessions", session_id.as_str(), "close"]);
        answer::<serde_json::Value>(request).await.map(drop)
    }

    async fn refund(&self, refund: Refund) -> Result<RefundId, ProviderError> {
        let Refund { payment_id, amount, idempotency_key } = refund;
        let request = self
            .post(&["payments", payment_id.as_str(), "refunds"], &RefundRequest { amount })
            .header("idempotency-key", idempotency_key);
        let Refunded { refund_id } = answer(request).await?;
        Ok(refund_id)
    }

    async fn void(&self, payment_id: &PaymentId) -> Result<(), ProviderError> {
        let request = self.request(Method::POST, &["payments", payment_id.as_str(), "void"]);
        answer::<serde_json::Value>(request).await.map(drop)
    }

    async fn fetch(&self, session_id: &SessionId) -> Result<PaymentReport, ProviderError> {
        let asked_at = Utc::now();
        report(answer(self.request(Method::GET, &["sessions", session_id.as_str()])).await?, asked_at)
    }

    async fn look_up(&self, payment_id: &PaymentId) -> Result<Option<PaymentReport>, ProviderError> {
        let asked_at = Utc::now();
        let request = self.request(Method::GET, &["payments", payment_id.as_str()]);
        report(answer(request).await?, asked_at).map(Some)
    }

    async fn list(&self, cursor: Option<&str>) -> Result<ReportPage, ProviderError> {
        let mut request = self.request(Method::GET, &["sessions"]).query(&[("limit", PAGE)]);
        if let Some(after) = cursor {
            request = request.query(&[("after", after)]);
        }
        let asked_at = Utc::now();
        let Reports { items, next_cursor } = answer(request).await?;
        let reports = items.into_iter().map(|item| report(item, asked_at)).collect::<Result<_, _>>()?;
        Ok(ReportPage { reports, next: next_cursor })
    }

    /// By the Standard Webhooks specification.
    fn verify_and_parse(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<VerifiedMessage, MessageError> {
        let StandardHeaders { id, timestamp, signatures } = StandardHeaders::of(headers)?;
        let signed = SignedMessage { id, timestamp, signatures: &signatures, body };
        verify(&self.secrets, signed, now)?;
        let webhook_id = short_text("webhook-id", signed.id)?;
        let (message, notice) = parse(body)?;
        Ok(VerifiedMessage { webhook_id, event_type: short_text("type", &message.r#type)?, notice })
    }

    fn parse(&self, body: &[u8]) -> Result<Notice, ParseError> {
        parse(body).map(|(_, notice)| notice)
    }
}

/// The provider's row in the registry.
#[cfg(feature = "guarded")]
pub(crate) fn descriptor() -> crate::ProviderDescriptor {
    crate::ProviderDescriptor {
        name: NAME,
        summary: "The stand-in: no money moves",
        key_variable: settings::API_KEY,
        webhooks: crate::WebhookFormat {
            summary: "Take a message of the sandbox provider",
            signature: "Signed by the Standard Webhooks specification. The headers may also be called svix-id, \
                        svix-timestamp and svix-signature.",
            headers: &[
                ("webhook-id", "The message's id, the same for every delivery"),
                ("webhook-timestamp", "Seconds since 1970"),
                ("webhook-signature", "v1, and base64; several separated by spaces, or in several lines"),
            ],
            body: "{type, timestamp, data}",
        },
        build: std::sync::Arc::new(|settings, context| settings.sandbox.build(context)),
    }
}

#[cfg(test)]
mod tests {
    use domain::payment::{DisputeState, Origin, RefundState, Stated};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_has_every_message_and_answers_for_every_object_how_it_stands() {
        let usd = |amount_minor: i64| json!({"amount_minor": amount_minor, "currency": "USD"});
        let message = |r#type: &str, second: i64, data: serde_json::Value| {
            let mut data = data;
            data["pledge_id"] = json!("00000000-0000-8000-8000-000000000001");
            data["payment_id"] = json!("pay_1");
            json!({"type": r#type, "timestamp": at(second), "data": data})
        };
        let body = json!({
            "reference": "00000000-0000-8000-8000-000000000001",
            "facts": [
                message("payment.authorized", 1, json!({"amount": usd(5000)})),
                message("payment.captured", 2, json!({"amount": usd(5000)})),
                message("payment.refunded", 3, json!({"amount": usd(500), "refund_id": "ref_1"})),
                message("dispute.opened", 4, json!({"amount": usd(5000), "dispute_id": "dis_1"})),
                message("settlement.confirmed", 5, json!({"amount": usd(5000)})),
                message("dispute.lost", 6, json!({"amount": usd(5000), "dispute_id": "dis_1"})),
                message("refund.failed", 7, json!({"amount": usd(500), "refund_id": "ref_1"})),
                message("dispute.won", 8, json!({"amount": usd(5000), "dispute_id": "dis_1"})),
            ],
        });
        let facts = report(serde_json::from_str(&body.to_string()).unwrap(), at(60)).unwrap().facts;
        let statements: Vec<_> = facts.iter().filter_map(PaymentFact::statement).collect();
        let (told, answered): (Vec<_>, Vec<_>) =
            statements.into_iter().partition(|statement| statement.origin() == Origin::Told);
        let times: Vec<_> = told.iter().map(|statement| statement.stood_at()).collect();
        assert_eq!(times, (1..=8).map(at).collect::<Vec<_>>(), "every message, at its time");
        assert_eq!(facts.iter().filter(|fact| fact.statement().is_none()).count(), 1, "settled");
        let captured = domain::Money::new(5000, "USD".parse().unwrap()).unwrap();
        let expected = [
            // It was captured in second 2; the settlement only repeats it.
            Statement::answered(Stated::payment(Some(captured), None), at(60)).happened_at(at(2)),
            Statement::answered(Stated::refund("ref_1".parse().unwrap(), RefundState::Failed), at(60))
                .happened_at(at(7)),
            Statement::answered(Stated::dispute("dis_1".parse().unwrap(), DisputeState::Won), at(60))
                .happened_at(at(8)),
        ];
        assert_eq!(answered, expected.iter().collect::<Vec<_>>());
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }
}
