//! Stripe in miniature: what its API promises of the requests that we make, on loopback.
//!
//! It refuses what Stripe would refuse: a wrong key, another version of the API, a change without an
//! idempotency key, one key for two requests, a field that is missing or unknown.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::extract::{Path, Query, RawForm, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::Utc;
use payments::stripe::{API_VERSION, sign};
use reqwest::{RequestBuilder, Url};
use serde_json::{Value, json};

use crate::client::Client;

pub const STRIPE_API_KEY: &str = "sk_test_a_key_for_tests";
/// The secret that the stub signs with.
pub const STRIPE_SECRET: &str = "whsec_the_present_one";
/// The program's secrets: a new one beside the present one, as during a rotation.
const STRIPE_SECRETS: &str = "whsec_the_next_one,whsec_the_present_one";

type Fields = BTreeMap<String, String>;

/// A request that was let in.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    pub method: Method,
    pub path: String,
    pub idempotency_key: Option<String>,
}

#[derive(Default)]
struct Books {
    sessions: BTreeMap<String, Value>,
    intents: BTreeMap<String, Value>,
    refunds: Vec<Value>,
    disputes: Vec<Value>,
    /// The movements of the balance in each payout.
    payouts: BTreeMap<String, Vec<Value>>,
    /// The request and the answer under each idempotency key.
    answered: HashMap<String, (String, Fields, StatusCode, Value)>,
    asked: Vec<RecordedRequest>,
    is_down: bool,
    /// How many more changes fail on Stripe's side.
    failures: usize,
    /// Refunds take days.
    refunds_are_slow: bool,
    /// How long each answer takes.
    delay: Duration,
}

type Shared = Arc<Mutex<Books>>;

/// A running stub.
pub struct StripeStub {
    pub url: Url,
    books: Shared,
}

impl StripeStub {
    pub async fn start() -> Self {
        let books = Shared::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let routes = Router::new()
            .route("/v1/checkout/sessions", post(create_session))
            .route("/v1/checkout/sessions/{id}", get(read_session))
            .route("/v1/checkout/sessions/{id}/expire", post(expire_session))
            .route("/v1/payment_intents", get(list_intents))
            .route("/v1/payment_intents/{id}", get(read_intent))
            .route("/v1/payment_intents/{id}/cancel", post(cancel_intent))
            .route("/v1/refunds", get(list_refunds).post(create_refund))
            .route("/v1/disputes", get(list_disputes))
            .route("/v1/balance_transactions", get(list_balance))
            .layer(middleware::from_fn_with_state(books.clone(), let_in))
            .with_state(books.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { url, books }
    }

    /// The flags by which the program uses it.
    pub fn flags(&self) -> Vec<String> {
        [
            "--payment-provider=stripe",
            &format!("--stripe-api-key={STRIPE_API_KEY}"),
            &format!("--stripe-webhook-secret={STRIPE_SECRETS}"),
            &format!("--stripe-api-base={}", self.url),
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    pub fn go_down(&self, is_down: bool) {
        self.books().is_down = is_down;
    }

    /// The next changes fail on Stripe's side, and fail again under the same keys.
    pub fn fail_changes(&self, count: usize) {
        self.books().failures = count;
    }

    /// From now on refunds take days.
    pub fn refund_slowly(&self) {
        self.books().refunds_are_slow = true;
    }

    /// A day later: the keys are forgotten.
    pub fn forget_keys(&self) {
        self.books().answered.clear();
    }

    /// A refund does not reach the donor, and the money comes back.
    pub fn fail_refund(&self, id: &str) {
        let mut books = self.books();
        let refund = books.refunds.iter_mut().find(|refund| refund["id"] == id).unwrap();
        refund["status"] = json!("failed");
        refund["failure_reason"] = json!("expired_or_canceled_card");
        let (payment, amount) = (refund["payment_intent"].clone(), refund["amount"].as_i64().unwrap());
        let charge = &mut books.intents.get_mut(payment.as_str().unwrap()).unwrap()["latest_charge"];
        charge["amount_refunded"] = json!(charge["amount_refunded"].as_i64().unwrap() - amount);
    }

    pub fn answer_after(&self, delay: Duration) {
        self.books().delay = delay;
    }

    /// The requests so far, those to a stub that is down included.
    pub fn asked(&self) -> Vec<RecordedRequest> {
        self.books().asked.clone()
    }

    /// The sessions in the order in which they were opened.
    pub fn sessions(&self) -> Vec<Value> {
        self.books().sessions.values().cloned().collect()
    }

    pub fn intent(&self, id: &str) -> Value {
        self.books().intents[id].clone()
    }

    pub fn refunds(&self) -> Vec<Value> {
        self.books().refunds.clone()
    }

    /// The visitor pays on a session: the payment's id.
    pub fn pay(&self, session_id: &str, status: &str) -> String {
        let mut books = self.books();
        let id = format!("pi_{}", books.intents.len() + 1);
        let session = books.sessions.get_mut(session_id).unwrap();
        assert_eq!(session["status"], "open", "{session}");
        let amount = session["amount_total"].clone();
        session["status"] = json!("complete");
        session["url"] = Value::Null;
        session["payment_intent"] = json!(id);
        let taken = status == "succeeded";
        session["payment_status"] = json!(if taken { "paid" } else { "unpaid" });
        let intent = json!({
            "id": id, "object": "payment_intent", "amount": amount, "currency": session["currency"],
            "amount_capturable": if taken { json!(0) } else { amount.clone() },
            "amount_received": if taken { amount.clone() } else { json!(0) },
            "cancellation_reason": null, "last_payment_error": null, "status": status,
            "metadata": session["metadata"],
            "latest_charge": {
                "id": format!("ch_{id}"), "object": "charge", "amount": amount, "amount_refunded": 0,
                "disputed": false, "payment_intent": id, "metadata": session["metadata"],
                "balance_transaction": {"id": format!("txn_{id}"), "object": "balance_transaction", "status": "pending"},
            },
        });
        books.intents.insert(id.clone(), intent);
        id
    }

    /// Money that was reserved, or was on its way, is taken.
    pub fn capture(&self, intent_id: &str) {
        let mut books = self.books();
        let intent = books.intents.get_mut(intent_id).unwrap();
        intent["status"] = json!("succeeded");
        intent["amount_capturable"] = json!(0);
        intent["amount_received"] = intent["amount"].clone();
    }

    /// A payment of another business on the same account.
    pub fn foreign_payment(&self) -> String {
        let mut books = self.books();
        let id = format!("pi_{}", books.intents.len() + 1);
        let intent = json!({
            "id": id, "object": "payment_intent", "amount": 900, "currency": "usd", "amount_received": 900,
            "status": "succeeded", "metadata": {}, "latest_charge": null,
        });
        books.intents.insert(id.clone(), intent);
        id
    }

    /// The money of a payment becomes available.
    pub fn settle(&self, intent_id: &str) {
        let mut books = self.books();
        books.intents.get_mut(intent_id).unwrap()["latest_charge"]["balance_transaction"]["status"] =
            json!("available");
    }

    /// Pays out all that was taken until now, less the fee, to the account's bank: the payout.
    pub fn pay_out(&self) -> Value {
        let mut books = self.books();
        let id = format!("po_{}", books.payouts.len() + 1);
        let mut lines = vec![
            json!({"id": format!("txn_{id}"), "type": "payout", "source": {"object": "payout", "id": id}}),
        ];
        for intent in books.intents.values().filter(|intent| intent["status"] == "succeeded") {
            let mut charge = intent["latest_charge"].clone();
            if charge.is_null() {
                charge = json!({"amount_captured": intent["amount_received"]});
            }
            charge["object"] = json!("charge");
            charge["currency"] = intent["currency"].clone();
            charge["amount_captured"] = intent["amount_received"].clone();
            charge["metadata"] = intent["metadata"].clone();
            charge["payment_intent"] = intent["id"].clone();
            let line = format!("txn_{}_{id}", intent["id"].as_str().unwrap());
            lines.push(json!({"id": line, "type": "charge", "fee": 59, "source": charge}));
        }
        books.payouts.insert(id.clone(), lines);
        json!({"id": id, "object": "payout", "automatic": true, "reconciliation_status": "completed"})
    }

    /// A bank disputes a payment: the dispute.
    pub fn dispute(&self, intent_id: &str) -> Value {
        let mut books = self.books();
        let intent = books.intents.get_mut(intent_id).unwrap();
        if !intent["latest_charge"].is_null() {
            intent["latest_charge"]["disputed"] = json!(true);
        }
        let dispute = json!({
            "id": format!("du_{intent_id}"), "object": "dispute", "amount": intent["amount"],
            "currency": intent["currency"], "payment_intent": intent_id, "status": "needs_response",
            "charge": format!("ch_{intent_id}"), "metadata": {},
        });
        books.disputes.push(dispute.clone());
        dispute
    }

    /// The body of an event.
    pub fn event(id: &str, r#type: &str, object: &Value) -> String {
        json!({
            "id": id, "object": "event", "api_version": API_VERSION, "created": Utc::now().timestamp(),
            "type": r#type, "data": {"object": object},
        })
        .to_string()
    }

    /// Sends a genuine event: the answer.
    pub async fn send(client: &Client, id: &str, r#type: &str, object: &Value) -> (StatusCode, Value) {
        let body = Self::event(id, r#type, object);
        let signature = sign(STRIPE_SECRET, Utc::now().timestamp(), body.as_bytes());
        let request = Self::message(client, body).header("stripe-signature", signature);
        crate::client::answer(request.send().await.unwrap()).await
    }

    /// A message that is not signed yet.
    pub fn message(client: &Client, body: impl Into<reqwest::Body>) -> RequestBuilder {
        let request = client.request(Method::POST, "/webhooks/stripe");
        request.header("content-type", "application/json").body(body)
    }
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let body = json!({"error": {"type": "invalid_request_error", "code": code, "message": message}});
    (status, Json(body)).into_response()
}

/// Checks that Stripe makes of every request.
async fn let_in(State(books): State<Shared>, request: Request, next: Next) -> Response {
    let delay = books.lock().unwrap().delay;
    tokio::time::sleep(delay).await;
    match refused(&books, &request) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    }
}

fn refused(books: &Shared, request: &Request) -> Option<Response> {
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let idempotency_key = header("idempotency-key");
    let asked = RecordedRequest {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        idempotency_key: idempotency_key.clone(),
    };
    let is_down = {
        let mut books = books.lock().unwrap();
        books.asked.push(asked);
        books.is_down
    };
    if is_down {
        return Some(error(StatusCode::SERVICE_UNAVAILABLE, "api_error", "try again later"));
    }
    if header("authorization") != Some(format!("Bearer {STRIPE_API_KEY}")) {
        return Some(error(StatusCode::UNAUTHORIZED, "invalid_api_key", "Invalid API Key provided"));
    }
    if header("stripe-version").as_deref() != Some(API_VERSION) {
        return Some(error(StatusCode::BAD_REQUEST, "version", "the version is not pinned"));
    }
    if request.method() == Method::POST && idempotency_key.is_none() {
        return Some(error(StatusCode::BAD_REQUEST, "idempotency", "a change without a key"));
    }
    None
}

/// Answers a change once under its key, and repeats that answer; another request under it is refused.
fn once(
    books: &Shared,
    request: &(RecordedRequest, Fields),
    change: impl FnOnce(&mut Books, &Fields) -> (StatusCode, Value),
) -> Response {
    let (asked, fields) = request;
    let key = asked.idempotency_key.clone().unwrap();
    let mut books = books.lock().unwrap();
    if let Some((path, known, status, body)) = books.answered.get(&key) {
        if (path, known) != (&asked.path, fields) {
            return error(
                StatusCode::BAD_REQUEST,
                "idempotency_error",
                "the key was used for another request",
            );
        }
        return (*status, [("idempotent-replayed", "true")], Json(body.clone())).into_response();
    }
    let (status, body) = if books.failures > 0 {
        books.failures -= 1;
        let error = json!({"type": "api_error", "message": "something went wrong on Stripe's end"});
        (StatusCode::INTERNAL_SERVER_ERROR, json!({"error": error}))
    } else {
        change(&mut books, fields)
    };
    books.answered.insert(key, (asked.path.clone(), fields.clone(), status, body.clone()));
    (status, Json(body)).into_response()
}

fn refusal(message: &str) -> (StatusCode, Value) {
    let error = json!({"type": "invalid_request_error", "code": "refused_by_stub", "message": message});
    (StatusCode::BAD_REQUEST, json!({"error": error}))
}

/// A change: the request, and the fields of its form.
struct Change((RecordedRequest, Fields));

impl<S: Send + Sync> axum::extract::FromRequest<S> for Change {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let key = request.headers()["idempotency-key"].to_str().unwrap().to_owned();
        let asked = RecordedRequest {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            idempotency_key: Some(key),
        };
        let RawForm(bytes) =
            RawForm::from_request(request, state).await.map_err(IntoResponse::into_response)?;
        let url =
            Url::parse(&format!("http://form/?{}", String::from_utf8(bytes.to_vec()).unwrap())).unwrap();
        Ok(Self((asked, url.query_pairs().into_owned().collect())))
    }
}

async fn create_session(State(books): State<Shared>, Change(request): Change) -> Response {
    once(&books, &request, |books, form| {
        let expected = [
            "cancel_url",
            "client_reference_id",
            "line_items[0][price_data][currency]",
            "line_items[0][price_data][product_data][name]",
            "line_items[0][price_data][unit_amount]",
            "line_items[0][quantity]",
            "metadata[pledge_id]",
            "mode",
            "payment_intent_data[metadata][pledge_id]",
            "submit_type",
            "success_url",
        ];
        if form.keys().ne(&expected) || form["mode"] != "payment" || form["line_items[0][quantity]"] != "1" {
            return refusal("the fields of a session are not as expected");
        }
        let pledge = &form["metadata[pledge_id]"];
        if [&form["client_reference_id"], &form["payment_intent_data[metadata][pledge_id]"]] != [pledge; 2] {
            return refusal("the pledge is not named everywhere");
        }
        let id = format!("cs_test_{}", books.sessions.len() + 1);
        let amount: i64 = form["line_items[0][price_data][unit_amount]"].parse().unwrap();
        let session = json!({
            "id": id, "object": "checkout.session", "amount_total": amount,
            "currency": form["line_items[0][price_data][currency]"], "mode": "payment",
            "client_reference_id": pledge, "metadata": {"pledge_id": pledge}, "payment_intent": null,
            "payment_status": "unpaid", "status": "open", "success_url": form["success_url"],
            "url": format!("https://checkout.stripe.com/c/pay/{id}"),
        });
        books.sessions.insert(id, session.clone());
        (StatusCode::OK, session)
    })
}

async fn read_session(State(books): State<Shared>, Path(id): Path<String>) -> Response {
    let books = books.lock().unwrap();
    let Some(mut session) = books.sessions.get(&id).cloned() else { return missing() };
    if let Some(intent) = session["payment_intent"].as_str() {
        session["payment_intent"] = books.intents[intent].clone();
    }
    Json(session).into_response()
}

fn missing() -> Response {
    error(StatusCode::NOT_FOUND, "resource_missing", "No such object")
}

async fn expire_session(
    State(books): State<Shared>,
    Path(id): Path<String>,
    Change(request): Change,
) -> Response {
    once(&books, &request, |books, _| {
        let Some(session) = books.sessions.get_mut(&id) else { return refusal("no such session") };
        if session["status"] != "open" {
            return refusal("only open sessions can be expired");
        }
        session["status"] = json!("expired");
        session["url"] = Value::Null;
        (StatusCode::OK, session.clone())
    })
}

async fn read_intent(State(books): State<Shared>, Path(id): Path<String>) -> Response {
    books.lock().unwrap().intents.get(&id).map_or_else(missing, |intent| Json(intent.clone()).into_response())
}

/// Newest first, two to a page.
async fn list_intents(State(books): State<Shared>, Query(query): Query<Fields>) -> Json<Value> {
    let books = books.lock().unwrap();
    let mut intents: Vec<Value> = books.intents.values().rev().cloned().collect();
    if let Some(after) = query.get("starting_after") {
        let position = intents.iter().position(|intent| intent["id"] == **after).unwrap();
        intents.drain(..=position);
    }
    let has_more = intents.len() > 2;
    intents.truncate(2);
    Json(json!({"object": "list", "data": intents, "has_more": has_more}))
}

async fn cancel_intent(
    State(books): State<Shared>,
    Path(id): Path<String>,
    Change(request): Change,
) -> Response {
    once(&books, &request, |books, _| {
        let Some(intent) = books.intents.get_mut(&id) else { return refusal("no such payment") };
        if intent["status"] != "requires_capture" {
            return refusal("only what is not captured can be canceled");
        }
        intent["status"] = json!("canceled");
        intent["amount_capturable"] = json!(0);
        (StatusCode::OK, intent.clone())
    })
}

async fn create_refund(State(books): State<Shared>, Change(request): Change) -> Response {
    once(&books, &request, |books, form| {
        if form.keys().ne(["amount", "metadata[careforall_refund_key]", "payment_intent"]) {
            return refusal("the fields of a refund are not as expected");
        }
        let amount: i64 = form["amount"].parse().unwrap();
        let id = format!("re_{}", books.refunds.len() + 1);
        let status = if books.refunds_are_slow { "pending" } else { "succeeded" };
        let Some(intent) = books.intents.get_mut(&form["payment_intent"]) else {
            return refusal("no such payment");
        };
        let charge = &mut intent["latest_charge"];
        let refunded = charge["amount_refunded"].as_i64().unwrap() + amount;
        if refunded > charge["amount"].as_i64().unwrap() {
            return refusal("more than is left of the charge");
        }
        charge["amount_refunded"] = json!(refunded);
        let refund = json!({
            "id": id, "object": "refund", "amount": amount, "currency": intent["currency"],
            "payment_intent": form["payment_intent"], "status": status,
            "metadata": {"careforall_refund_key": form["metadata[careforall_refund_key]"]},
        });
        books.refunds.push(refund.clone());
        (StatusCode::OK, refund)
    })
}

async fn list_refunds(State(books): State<Shared>, Query(query): Query<Fields>) -> Json<Value> {
    Json(list(&books.lock().unwrap().refunds, &query))
}

async fn list_disputes(State(books): State<Shared>, Query(query): Query<Fields>) -> Json<Value> {
    Json(list(&books.lock().unwrap().disputes, &query))
}

/// Those of one payment, one to a page.
fn list(all: &[Value], query: &Fields) -> Value {
    let of_payment: Vec<&Value> =
        all.iter().filter(|item| item["payment_intent"] == *query["payment_intent"]).collect();
    let from = query
        .get("starting_after")
        .map_or(0, |after| 1 + of_payment.iter().position(|item| item["id"] == **after).unwrap());
    let page: Vec<&Value> = of_payment.iter().skip(from).take(1).copied().collect();
    json!({"object": "list", "data": page, "has_more": of_payment.len() > from + 1})
}

/// Those of one payout, two to a page. What moved the balance is there only if it is asked for.
async fn list_balance(State(books): State<Shared>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let field = |name: &str| query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    if field("expand[]") != Some("data.source") {
        return error(StatusCode::BAD_REQUEST, "not_expanded", "the source is not asked for");
    }
    let books = books.lock().unwrap();
    let Some(lines) = field("payout").and_then(|payout| books.payouts.get(payout)) else { return missing() };
    let from = field("starting_after")
        .map_or(0, |after| 1 + lines.iter().position(|line| line["id"] == after).unwrap());
    let page: Vec<&Value> = lines.iter().skip(from).take(2).collect();
    Json(json!({"object": "list", "data": page, "has_more": lines.len() > from + 2})).into_response()
}
