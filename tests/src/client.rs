//! Speaks to the system as donors, organisers and the payment provider do.

use chrono::Utc;
use payments::sign;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::credentials::{ADMIN_TOKEN, SANDBOX_API_KEY, WEBHOOK_SECRET};
use crate::{PATIENCE, eventually};

#[derive(Clone)]
pub struct Client {
    pub base_url: String,
    pub http: reqwest::Client,
}

/// An answer of `/totals`: status and body.
pub type Totals = (StatusCode, Value);

impl Client {
    pub fn new(base_url: String) -> Self {
        let http = payments::http_client_builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .unwrap();
        Self { base_url, http }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base_url))
    }

    pub fn as_organiser(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path).bearer_auth(ADMIN_TOKEN)
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.request(Method::GET, path).send().await.unwrap()).await
    }

    /// An answer with all that happened up to a position; it must be a success. While the service says that
    /// it is behind, it is asked again, as its answer recommends.
    pub async fn get_at(&self, path: &str, position: i64) -> Value {
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{separator}min_position={position}");
        let is_served = |(_, body): &(StatusCode, Value)| body["type"] != "urn:careforall:problem:behind";
        let what = format!("{path} is served");
        let (status, body) = eventually(what, async || self.get(&path).await, is_served).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// A request with the key of the sandbox provider.
    pub fn at_provider(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, &format!("/sandbox{path}")).bearer_auth(SANDBOX_API_KEY)
    }

    pub async fn provider_get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.at_provider(Method::GET, path).send().await.unwrap()).await
    }

    pub async fn provider_post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        answer(self.at_provider(Method::POST, path).json(body).send().await.unwrap()).await
    }

    /// Asks the provider for something that needs no body.
    pub async fn provider_act(&self, path: &str) -> (StatusCode, Value) {
        answer(self.at_provider(Method::POST, path).send().await.unwrap()).await
    }

    /// Turns the provider's dial; what is left out is 0.
    pub async fn dial(&self, dial: Value) {
        let (status, body) =
            answer(self.at_provider(Method::PUT, "/dial").json(&dial).send().await.unwrap()).await;
        assert_eq!(status, 200, "{body}");
    }

    /// Opens a session at the provider, as the merchant does.
    pub async fn open_session(&self, reference: Uuid, amount_minor: i64) -> Uuid {
        let body = json!({
            "reference": reference,
            "amount": {"amount_minor": amount_minor, "currency": "USD"},
            "return_url": "http://merchant.example",
        });
        let (status, body) = self.provider_post("/sessions", &body).await;
        assert_eq!(status, 200, "{body}");
        id(&body, "session_id")
    }

    /// Approves a session, and returns the provider's id of the payment.
    pub async fn approve(&self, session_id: Uuid) -> String {
        let (status, body) = self.provider_act(&format!("/sessions/{session_id}/approve")).await;
        assert_eq!(status, 200, "{body}");
        body["payment_id"].as_str().unwrap().to_owned()
    }

    /// A payment that the provider has captured.
    pub async fn captured_payment(&self, reference: Uuid, amount_minor: i64) -> String {
        let session = self.open_session(reference, amount_minor).await;
        let payment = self.approve(session).await;
        self.reported(session, "payment.captured").await;
        payment
    }

    /// Waits until the provider's report of a session has a fact of a type, and returns the report.
    pub async fn reported(&self, session_id: Uuid, kind: &str) -> Value {
        let path = format!("/sessions/{session_id}");
        let holds = |(_, body): &(StatusCode, Value)| {
            body["facts"].as_array().is_some_and(|facts| facts.iter().any(|fact| fact["type"] == kind))
        };
        let what = format!("session {session_id} reports {kind}");
        eventually(what, async || self.provider_get(&path).await, holds).await.1
    }

    /// Asks the provider for a refund in US dollars.
    pub async fn refund(&self, payment_id: &str, key: &str, amount_minor: i64) -> (StatusCode, Value) {
        let body = json!({"amount": {"amount_minor": amount_minor, "currency": "USD"}});
        let request = self.at_provider(Method::POST, &format!("/payments/{payment_id}/refunds"));
        answer(request.header("idempotency-key", key).json(&body).send().await.unwrap()).await
    }

    /// Waits until every fact was told or lost and every genuine message was taken, and returns the
    /// provider's books.
    pub async fn settled_books(&self) -> Value {
        let holds = |(_, body): &(StatusCode, Value)| {
            let count = |name: &str| body["messages"][name].as_i64().unwrap_or(-1);
            count("facts") == count("sent") + count("lost") && count("unacknowledged") == 0
        };
        eventually("every message was taken", async || self.provider_get("/books").await, holds).await.1
    }

    /// A draft campaign in US dollars.
    pub async fn draft(&self) -> Uuid {
        let body = json!({"title": "Wells for Kitui", "goal": {"amount_minor": 100_000, "currency": "USD"}});
        let response = self.as_organiser(Method::POST, "/api/campaigns").json(&body).send().await.unwrap();
        let (status, body) = answer(response).await;
        assert_eq!(status, 201, "{body}");
        id(&body, "campaign_id")
    }

    /// A published campaign in US dollars.
    pub async fn campaign(&self) -> Uuid {
        let id = self.draft().await;
        assert_eq!(self.organiser_post(&format!("/api/campaigns/{id}/publish")).await.0, 200);
        id
    }

    pub async fn organiser_post(&self, path: &str) -> (StatusCode, Value) {
        answer(self.as_organiser(Method::POST, path).send().await.unwrap()).await
    }

    pub fn pledge_body(campaign_id: Uuid, amount_minor: i64, email: &str) -> Value {
        json!({
            "campaign_id": campaign_id,
            "amount": {"amount_minor": amount_minor, "currency": "USD"},
            "donor": {"name": "Ada Lovelace", "email": email},
            "message": "For water",
        })
    }

    pub async fn post_pledge(&self, key: &str, body: &Value) -> Response {
        let request = self.request(Method::POST, "/api/pledges").header("idempotency-key", key);
        request.json(body).send().await.unwrap()
    }

    /// A pledge of a donor, under a key of its own.
    pub async fn pledge(&self, campaign_id: Uuid, amount_minor: i64, email: &str) -> Uuid {
        let body = Self::pledge_body(campaign_id, amount_minor, email);
        let (status, body) = answer(self.post_pledge(&Uuid::new_v4().to_string(), &body).await).await;
        assert_eq!(status, 201, "{body}");
        id(&body, "pledge_id")
    }

    /// The body of a webhook about money.
    pub fn money_webhook(kind: &str, pledge_id: Uuid, payment_id: &str, amount_minor: i64) -> Value {
        json!({
            "type": kind,
            "timestamp": Utc::now(),
            "data": {
                "pledge_id": pledge_id,
                "payment_id": payment_id,
                "amount": {"amount_minor": amount_minor, "currency": "USD"},
            },
        })
    }

    pub fn signed_webhook(&self, webhook_id: &str, timestamp: i64, body: &[u8]) -> RequestBuilder {
        let signature = sign(&WEBHOOK_SECRET.parse().unwrap(), webhook_id, timestamp, body);
        self.request(Method::POST, "/webhooks/sandbox")
            .header("content-type", "application/json")
            .header("webhook-id", webhook_id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body.to_vec())
    }

    /// Sends a genuine webhook.
    pub async fn webhook(&self, webhook_id: &str, body: &Value) -> (StatusCode, Value) {
        let bytes = serde_json::to_vec(body).unwrap();
        let request = self.signed_webhook(webhook_id, Utc::now().timestamp(), &bytes);
        answer(request.send().await.unwrap()).await
    }

    /// Sends a genuine webhook about money, under an id of its own, and expects it to be taken.
    pub async fn fact(&self, kind: &str, pledge_id: Uuid, payment_id: &str, amount_minor: i64) {
        let body = Self::money_webhook(kind, pledge_id, payment_id, amount_minor);
        let (status, body) = self.webhook(&format!("msg_{}", Uuid::new_v4()), &body).await;
        assert_eq!(status, 200, "{body}");
    }

    pub async fn totals(&self, campaign_id: Uuid) -> Totals {
        self.get(&format!("/api/campaigns/{campaign_id}/totals")).await
    }

    /// The totals as they are behind the memory of the process that answers.
    pub async fn totals_now(&self, campaign_id: Uuid) -> Totals {
        let request = self.request(Method::GET, &format!("/api/campaigns/{campaign_id}/totals"));
        answer(request.header("cache-control", "no-cache").send().await.unwrap()).await
    }

    /// Waits until a field of the totals has a value, and returns the totals.
    pub async fn totals_with(&self, campaign_id: Uuid, field: &str, value: impl Into<Value>) -> Value {
        let value = value.into();
        let holds = |(_, body): &Totals| body.pointer(field) == Some(&value);
        let what = format!("{field} of the totals is {value}");
        eventually(what, async || self.totals(campaign_id).await, holds).await.1
    }

    /// Waits until a pledge has a status.
    pub async fn pledge_with_status(&self, pledge_id: Uuid, status: &str) -> Value {
        let path = format!("/api/pledges/{pledge_id}");
        let holds = |(_, body): &(StatusCode, Value)| body["status"] == status;
        let what = format!("pledge {pledge_id} is {status}");
        eventually(what, async || self.get(&path).await, holds).await.1
    }
}

/// The status and the JSON of an answer; null where the body is none.
pub async fn answer(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let body = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn id(body: &Value, field: &str) -> Uuid {
    body[field].as_str().unwrap().parse().unwrap()
}
