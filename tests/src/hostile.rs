//! Requests to the webhook routes as an enemy, or a broken provider, would send them: genuine ones
//! with bodies that mean harm, and others. `make test` sends a few, `make soak` many.
//!
//! None may be answered with 5xx, none may break the worker, and none may lead to an event.

use std::collections::BTreeMap;
use std::fmt::Write;

use chrono::Utc;
use payments::stripe;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngCore, SeedableRng};
use reqwest::header::HeaderValue;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::app::TestApp;
use crate::client::{Client, answer};
use crate::credentials::WEBHOOK_SECRET;
use crate::stripe::{STRIPE_SECRET, StripeStub};
use crate::{completes, eventually};

/// Requests under way at once.
const AT_ONCE: u32 = 32;

/// A signature that is not good.
const NOT_GENUINE: &[u16] = &[401];
/// Genuine, and surely broken.
const MALFORMED: &[u16] = &[400];
/// Genuine, and broken or not: what can be read is kept, and must lead to nothing.
const KEPT_OR_MALFORMED: &[u16] = &[200, 400];
const TOO_LARGE: &[u16] = &[413];

/// Sends `requests` requests that `seed` chooses, of which every answer, and afterwards the ledger and
/// the worker, must be in order. Returns what was answered.
pub async fn webhooks(requests: u32, seed: u64) -> String {
    let stub = StripeStub::start().await;
    let flags = stub.flags();
    let app = TestApp::start_with(&flags.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let campaign = app.campaign().await;
    let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
    let head = app.head().await;

    let mut choices = Choices { random: StdRng::seed_from_u64(seed), pledge, number: 0 };
    let (mut answered, mut stored) = (BTreeMap::<u16, u32>::new(), 0);
    while choices.number < requests {
        let mut together = JoinSet::new();
        for _ in 0..AT_ONCE.min(requests - choices.number) {
            together.spawn(choices.next(&app).send());
        }
        for (status, is_new) in together.join_all().await {
            *answered.entry(status).or_default() += 1;
            stored += i64::from(is_new);
        }
    }
    let kept: i64 =
        sqlx::query_scalar("select count(*) from webhook_inbox").fetch_one(&app.pool).await.unwrap();
    assert_eq!(kept, stored, "messages are kept that were not answered with 200, or the other way round");
    let untried = async || -> i64 {
        let sql = "select count(*) from webhook_inbox where status = 'pending' and reason is null";
        sqlx::query_scalar(sql).fetch_one(&app.pool).await.unwrap()
    };
    eventually("every message that was kept has been tried", untried, |untried| *untried == 0).await;
    assert_eq!(app.head().await, head, "a hostile message led to an event");

    // The route and the worker are well: a genuine fact still counts.
    app.fact("payment.captured", pledge, "pay_1", 5000).await;
    app.pledge_with_status(pledge, "captured").await;
    app.assert_verified().await;
    assert_eq!(app.head().await, head + 2);
    let mut report = format!("{requests} hostile requests; {kept} kept and none applied; answers:");
    for (status, count) in answered {
        match status {
            0 => write!(report, " none {count}"),
            status => write!(report, " {status} × {count}"),
        }
        .unwrap();
    }
    report
}

/// Choices of requests, which follow from the seed alone.
struct Choices {
    random: StdRng,
    /// A pledge that waits for its payment: what is surely refused is about this one.
    pledge: Uuid,
    number: u32,
}

/// A hostile message, and the answers that it may get.
enum Hostile {
    Request {
        what: &'static str,
        request: Box<RequestBuilder>,
        expected: &'static [u16],
    },
    /// Bytes that are no, or half, an HTTP request.
    Bytes {
        address: String,
        bytes: Vec<u8>,
    },
}

impl Hostile {
    /// The status, 0 where the connection was closed without one, and whether a message was stored.
    async fn send(self) -> (u16, bool) {
        match self {
            Self::Request { what, request, expected } => {
                let (status, body) =
                    answer(request.send().await.unwrap_or_else(|e| panic!("{what}: {e}"))).await;
                assert!(
                    expected.contains(&status.as_u16()),
                    "{what}: {status} instead of {expected:?}: {body}"
                );
                (status.as_u16(), body["new"] == true)
            }
            Self::Bytes { address, bytes } => (send_bytes(&address, &bytes).await, false),
        }
    }
}

async fn send_bytes(address: &str, bytes: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The service may hang up in the middle.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut said = Vec::new();
    let what = format!("an answer or the end: {}", String::from_utf8_lossy(bytes));
    // The connection may be reset instead.
    let _ = completes(what, stream.read_to_end(&mut said)).await;
    let status =
        said.get(9..12).and_then(|status| std::str::from_utf8(status).ok()?.parse().ok()).unwrap_or(0);
    assert!(status < 500, "{status} for {}", String::from_utf8_lossy(bytes));
    status
}

impl Choices {
    fn next(&mut self, app: &Client) -> Hostile {
        self.number += 1;
        let kind = self.random.random_range(0..100);
        let (what, request, expected) = match kind {
            0..3 => {
                let address = app.base_url.trim_start_matches("http://").to_owned();
                return Hostile::Bytes { address, bytes: self.half_a_request() };
            }
            3..6 => ("too large", self.signed(app, &self.large()), TOO_LARGE),
            6..30 => ("not genuine", self.not_genuine(app), NOT_GENUINE),
            30..38 => {
                let mut bytes = vec![0; self.random.random_range(0..2_000)];
                self.random.fill_bytes(&mut bytes);
                // A digit or the like would be JSON, and still no message.
                ("random bytes", self.signed(app, &bytes), MALFORMED)
            }
            38..46 => {
                let body = self.body(self.pledge);
                let end = self.random.random_range(0..body.len());
                ("cut off", self.signed(app, &body.as_bytes()[..end]), MALFORMED)
            }
            46..54 => {
                let mut bytes = self.body(self.pledge).into_bytes();
                let quotes: Vec<usize> =
                    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'"').map(|(at, _)| at).collect();
                let at = *quotes.choose(&mut self.random).unwrap();
                let odd = *[&[0xff_u8][..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80"]
                    .choose(&mut self.random)
                    .unwrap();
                bytes.splice(at..at, odd.iter().copied());
                ("invalid UTF-8", self.signed(app, &bytes), MALFORMED)
            }
            54..64 => ("a number", self.number_body(app), MALFORMED),
            64..74 => {
                let mut body: Value = serde_json::from_str(&self.body(Uuid::new_v4())).unwrap();
                for _ in 0..self.random.random_range(1..4) {
                    replace_a_value(&mut body, &mut self.random);
                }
                ("wrong types", self.signed(app, body.to_string().as_bytes()), KEPT_OR_MALFORMED)
            }
            74..82 => ("deep", self.deep(app), KEPT_OR_MALFORMED),
            82..86 => {
                let body = self.body(self.pledge).replacen('{', "{\"type\":\"a\",\"type\":\"b\",", 1);
                ("a field twice", self.signed(app, body.as_bytes()), MALFORMED)
            }
            _ => {
                let mut bytes = self.body(Uuid::new_v4()).into_bytes();
                for _ in 0..self.random.random_range(1..6) {
                    let at = self.random.random_range(0..bytes.len());
                    match self.random.random_range(0..3) {
                        0 => bytes[at] = self.random.random(),
                        1 => bytes.insert(at, self.random.random()),
                        _ => drop(bytes.remove(at)),
                    }
                }
                ("altered", self.signed(app, &bytes), KEPT_OR_MALFORMED)
            }
        };
        Hostile::Request { what, request: Box::new(request), expected }
    }

    /// A message as its provider would send it.
    fn body(&mut self, pledge: Uuid) -> String {
        let n = self.number;
        if self.is_stripe() { stripe_body(n, pledge) } else { sandbox_body(n, pledge) }
    }

    /// Every second request is for the one provider, every other for the other.
    fn is_stripe(&self) -> bool {
        self.number.is_multiple_of(2)
    }

    /// A genuine request with this body.
    fn signed(&self, app: &Client, body: &[u8]) -> RequestBuilder {
        let now = Utc::now().timestamp();
        if self.is_stripe() {
            let request = StripeStub::message(app, body.to_vec());
            request.header("stripe-signature", stripe::sign(STRIPE_SECRET, now, body))
        } else {
            app.signed_webhook(&format!("msg_{}", self.number), now, body)
        }
    }

    /// A good message of a waiting pledge with something wrong in its headers.
    fn not_genuine(&mut self, app: &Client) -> RequestBuilder {
        let (now, body) = (Utc::now().timestamp(), self.body(self.pledge));
        let id = format!("msg_{}", self.number);
        let good = if self.is_stripe() {
            stripe::sign(STRIPE_SECRET, now, body.as_bytes())
        } else {
            payments::sign(&WEBHOOK_SECRET.parse().unwrap(), &id, now, body.as_bytes())
        };
        let path = if self.is_stripe() { "/webhooks/stripe" } else { "/webhooks/sandbox" };
        let names: &[&str] = if self.is_stripe() {
            &["stripe-signature"]
        } else {
            &["webhook-id", "webhook-timestamp", "webhook-signature"]
        };
        let odd = self.odd_header(&good);
        let (wrong, is_missing) = (*names.choose(&mut self.random).unwrap(), self.random.random_bool(0.3));
        let mut request =
            app.request(Method::POST, path).header("content-type", "application/json").body(body);
        for name in names {
            let value = match *name {
                name if name == wrong && is_missing => continue,
                name if name == wrong => odd.clone(),
                "webhook-id" => HeaderValue::from_str(&id).unwrap(),
                "webhook-timestamp" => HeaderValue::from(now),
                _ => HeaderValue::from_str(&good).unwrap(),
            };
            request = request.header(*name, value);
        }
        request
    }

    fn odd_header(&mut self, good: &str) -> HeaderValue {
        let numbers =
            ["-9223372036854775808", "9223372036854775807", "99999999999999999999", "1e9", "NaN", "0"];
        let number = *numbers.choose(&mut self.random).unwrap();
        let altered = good.replace("v1", ["v0", "v2", "V1"].choose(&mut self.random).unwrap());
        match self.random.random_range(0..8) {
            0 => HeaderValue::from_static(""),
            1 => HeaderValue::from_bytes(b"\xff\xfe,v1=\xf0\x9f").unwrap(),
            2 => HeaderValue::from_static(number),
            3 => HeaderValue::from_str(&format!("t={number},v1={}", "00".repeat(32))).unwrap(),
            4 => HeaderValue::from_str(&format!("t={}{}", Utc::now().timestamp(), ",v1=00".repeat(2_000)))
                .unwrap(),
            5 => HeaderValue::from_str(&"v1,AAAA ".repeat(2_000)).unwrap(),
            6 => HeaderValue::from_str(&",=t".repeat(100)).unwrap(),
            _ => HeaderValue::from_str(&altered).unwrap(),
        }
    }

    /// An amount that is none, of a waiting pledge.
    fn number_body(&mut self, app: &Client) -> RequestBuilder {
        let digits = "9".repeat(self.random.random_range(20..20_000));
        let numbers =
            ["1e400", "-1", "0", "1.5", "9223372036854775808", "-9223372036854775809", "1000000000001", "01"];
        let number =
            if self.random.random_bool(0.2) { &digits } else { *numbers.choose(&mut self.random).unwrap() };
        let body = if self.is_stripe() {
            let intent = intent(self.number, self.pledge).to_string();
            StripeStub::event(&format!("evt_{}", self.number), "payment_intent.succeeded", &json!("INTENT"))
                .replace("\"INTENT\"", &intent)
        } else {
            sandbox_body(self.number, self.pledge)
        };
        let body = ["\"amount_minor\":5000", "\"amount_received\":5000"].iter().fold(body, |body, field| {
            let (name, _) = field.split_once(':').unwrap();
            body.replace(field, &format!("{name}:{number}"))
        });
        self.signed(app, body.as_bytes())
    }

    /// Lists or objects within each other, as the message, as its data, or as a field.
    fn deep(&mut self, app: &Client) -> RequestBuilder {
        let (open, close) = if self.random.random_bool(0.5) { ("[", "]") } else { ("{\"a\":", "}") };
        let depth = self.random.random_range(1..60_000 / (open.len() + 1));
        let close = if self.random.random_bool(0.3) { String::new() } else { close.repeat(depth) };
        let deep = format!("{}1{close}", open.repeat(depth));
        let body = self.body(Uuid::new_v4());
        let body = match self.random.random_range(0..4) {
            0 => deep,
            1 => body.replacen("\"data\":", &format!("\"data\":{deep},\"ignored\":"), 1),
            2 => body.replacen("\"type\":", &format!("\"extra\":{deep},\"type\":"), 1),
            _ => body.replacen(":5000", &format!(":{deep}"), 1),
        };
        self.signed(app, body.as_bytes())
    }

    fn large(&self) -> Vec<u8> {
        let padding = " ".repeat(65 * 1024 + (self.number as usize % 50) * 4_096);
        [padding.as_bytes(), b"{}"].concat()
    }

    fn half_a_request(&mut self) -> Vec<u8> {
        let head = "POST /webhooks/sandbox HTTP/1.1\r\nhost: localhost\r\n";
        match self.random.random_range(0..7) {
            0 => format!("{head}content-length: 1000\r\n\r\n{{\"type\":").into_bytes(),
            1 => format!("{head}content-length: -1\r\n\r\n{{}}").into_bytes(),
            2 => format!("{head}content-length: 99999999999999999999999\r\n\r\n{{}}").into_bytes(),
            3 => {
                format!("{head}transfer-encoding: chunked\r\n\r\nffffffffffffffff1\r\n{{}}\r\n").into_bytes()
            }
            4 => format!("{head}transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\nzz\r\n").into_bytes(),
            5 => format!("{head}web hook: \u{1}\r\nconnection: close\r\n\r\n").into_bytes(),
            _ => {
                let mut bytes = vec![0; self.random.random_range(1..500)];
                self.random.fill_bytes(&mut bytes);
                bytes
            }
        }
    }
}

fn sandbox_body(n: u32, pledge: Uuid) -> String {
    let types = [
        "payment.authorized",
        "payment.captured",
        "settlement.confirmed",
        "payment.refunded",
        "dispute.opened",
        "dispute.lost",
    ];
    let mut body =
        Client::money_webhook(types[n as usize / 2 % types.len()], pledge, &format!("pay_{n}"), 5000);
    body["data"]["refund_id"] = json!(format!("re_{n}"));
    body["data"]["dispute_id"] = json!(format!("du_{n}"));
    body.to_string()
}

fn intent(n: u32, pledge: Uuid) -> Value {
    json!({
        "id": format!("pi_{n}"), "object": "payment_intent", "amount": 5000, "amount_capturable": 0,
        "amount_received": 5000, "currency": "usd", "status": "succeeded", "last_payment_error": null,
        "latest_charge": {"id": format!("ch_{n}"), "object": "charge", "payment_intent": format!("pi_{n}")},
        "cancellation_reason": null, "metadata": {"pledge_id": pledge},
    })
}

fn stripe_body(n: u32, pledge: Uuid) -> String {
    let payment = format!("pi_{n}");
    let of_payment = json!({
        "id": format!("x_{n}"), "amount": 5000, "currency": "usd", "payment_intent": payment,
        "status": "succeeded", "metadata": {"pledge_id": pledge}, "payment_status": "paid",
        "amount_total": 5000, "amount_refunded": 5000,
    });
    let (r#type, object) = match n / 2 % 6 {
        0 => ("payment_intent.succeeded", intent(n, pledge)),
        1 => ("checkout.session.completed", of_payment),
        2 => ("charge.refunded", of_payment),
        3 => ("refund.created", of_payment),
        4 => ("charge.dispute.created", of_payment),
        _ => ("payout.reconciliation_completed", of_payment),
    };
    StripeStub::event(&format!("evt_{n}"), r#type, &object)
}

/// Puts something odd in the place of some value, however deep.
fn replace_a_value(value: &mut Value, random: &mut StdRng) {
    let into = random.random_bool(0.85);
    match value {
        Value::Object(fields) if into && !fields.is_empty() => {
            let nth = random.random_range(0..fields.len());
            replace_a_value(fields.values_mut().nth(nth).unwrap(), random);
        }
        Value::Array(items) if into && !items.is_empty() => {
            let nth = random.random_range(0..items.len());
            replace_a_value(&mut items[nth], random);
        }
        value => {
            let long = "x".repeat(random.random_range(200..5_000));
            let odd = [
                json!(null),
                json!(true),
                json!(-1),
                json!(i64::MAX),
                json!(1e300),
                json!(""),
                json!("\u{0}"),
                json!("\u{202e}🦀"),
                json!(long),
                json!([]),
                json!({}),
                json!([[["x"]]]),
                json!({"id": {"id": {}}}),
            ];
            *value = odd.choose(random).unwrap().clone();
        }
    }
}
