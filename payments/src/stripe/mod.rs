//! Stripe, by its Checkout: <https://docs.stripe.com/payments/checkout>.
//!
//! Stripe keeps the pledge's id in the metadata of all that is made for it, and repeats it in its
//! events. What an event leaves out is read from the payment itself.

mod amount;
mod events;
mod facts;
mod objects;
#[cfg(feature = "guarded")]
mod settings;
mod signature;

use std::pin::Pin;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{Currency, PaymentId, RefundId};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;

use crate::http::{http_client_builder, json, says_later, send};
use crate::signature::required;
use crate::{
    CheckOut, MessageError, Notice, ParseError, PayableAmounts, PaymentReport, PaymentSession, Provider,
    ProviderError, Refund, ReportPage, SessionId, VerifiedMessage,
};
use facts::Stood;
use objects::{
    BalanceLine, CANCELED, DisputeObject, ErrorBody, ErrorObject, Expandable, FAILED, Intent, IntentStatus,
    LineSource, List, RefundObject, Session, SessionStatus, pledge_id,
};

#[cfg(feature = "guarded")]
pub use settings::StripeSettings;
pub use signature::{EndpointSecrets, sign};

/// The provider's name in addresses, in the inbox and in metadata.
pub const NAME: &str = "stripe";

/// The version of the API that this adapter was written for. Stripe answers in its shapes for as
/// long as it exists, whatever the account's own version is.
pub const API_VERSION: &str = "2025-07-30.basil";

/// Payments asked for at once. Each that was refunded or disputed may cost a request of its own.
const PAGE: &str = "50";

/// Refunds or disputes of one payment asked for at once; Stripe's largest page.
const LARGEST_PAGE: &str = "100";

/// Pages of refunds or disputes of one payment that are read at most.
const MAX_PAGES: usize = 10;

/// Sessions that one pledge may have opened and closed within a day, for one amount.
const MAX_SESSIONS: usize = 10;

/// Keys that are tried for one change, where Stripe repeats a failure of its own under the earlier ones.
const MAX_KEYS: usize = 10;

/// Where a refund keeps the key under which it was asked for: Stripe forgets its own keys after a day.
const REFUND_KEY: &str = "careforall_refund_key";
const REFUND_KEY_FIELD: &str = "metadata[careforall_refund_key]";

/// Fields of a request's body or query, by Stripe's names.
type Fields = Vec<(&'static str, String)>;

/// Finds out whether a change was made.
type Looking<'a, T> = Pin<Box<dyn Future<Output = Result<Option<T>, ProviderError>> + Send + 'a>>;

/// Stripe's API over HTTP.
pub struct Stripe {
    base_url: Url,
    api_key: String,
    /// Whether the key moves real money, where it says so.
    is_live: Option<bool>,
    secrets: Option<EndpointSecrets>,
    http: reqwest::Client,
}

/// Why a change was not made under a key.
enum PostError {
    /// The key brings nothing any more: Stripe repeats a failure of its own under it for a day, or holds it
    /// for another request.
    KeySpent(String),
    Provider(ProviderError),
}

impl From<ProviderError> for PostError {
    fn from(error: ProviderError) -> Self {
        Self::Provider(error)
    }
}

/// An answer to a request that may have been made before.
struct Answer<T> {
    body: T,
    /// Whether this is the answer to the first request under its key, as it was then.
    is_replayed: bool,
}

impl Stripe {
    /// Stripe at `base_url`, asked with `api_key`. Its messages are genuine if they are signed with
    /// one of `secrets`; without any, none is.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(
        base_url: Url,
        api_key: String,
        secrets: Option<EndpointSecrets>,
    ) -> Result<Self, reqwest::Error> {
        let is_live = ["sk_", "rk_"].iter().find_map(|kind| match api_key.strip_prefix(kind)? {
            rest if rest.starts_with("live_") => Some(true),
            rest if rest.starts_with("test_") => Some(false),
            _ => None,
        });
        Ok(Self { base_url, api_key, is_live, secrets, http: http_client_builder().build()? })
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base_url.clone();
        // A base that cannot have a path is no http address, and fails when it is asked.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        self.http.request(method, url).bearer_auth(&self.api_key).header("stripe-version", API_VERSION)
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &Fields) -> Result<T, ProviderError> {
        let response = send(self.request(Method::GET, path).query(query)).await?;
        if response.status().is_success() {
            json(response).await
        } else {
            Err(refusal(response).await.into())
        }
    }

    /// Makes a change once. Where a key is spent, `look` finds out whether the change was made all the same;
    /// if it was not, the next key is tried. The keys follow from `key`, so that a repetition finds them.
    async fn post<'a, T: DeserializeOwned>(
        &self,
        path: &[&str],
        form: &Fields,
        key: &str,
        look: impl Fn() -> Looking<'a, T> + Send + Sync,
    ) -> Result<Answer<T>, ProviderError> {
        let mut spent = String::new();
        for n in 1..=MAX_KEYS {
            let next = if n == 1 { key.to_owned() } else { format!("{key}-{n}") };
            match self.post_under(path, form, &next).await {
                Ok(answer) => return Ok(answer),
                Err(PostError::Provider(error)) => return Err(error),
                Err(PostError::KeySpent(reason)) => spent = reason,
            }
            if let Some(body) = look().await? {
                return Ok(Answer { body, is_replayed: true });
            }
        }
        Err(ProviderError::Unavailable(spent))
    }

    /// Every change carries a key, by which Stripe makes it once.
    async fn post_under<T: DeserializeOwned>(
        &self,
        path: &[&str],
        form: &Fields,
        idempotency_key: &str,
    ) -> Result<Answer<T>, PostError> {
        let request = self.request(Method::POST, path).header("idempotency-key", idempotency_key).form(form);
        let response = send(request).await?;
        let is_replayed = response.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
        if response.status().is_success() {
            return Ok(Answer { body: json(response).await?, is_replayed });
        }
        let refusal = refusal(response).await;
        let repeats_a_failure = is_replayed && refusal.status.is_server_error();
        if repeats_a_failure || refusal.is_about_the_key {
            return Err(PostError::KeySpent(refusal.reason));
        }
        Err(ProviderError::from(refusal).into())
    }

    /// The refund that was made under a key, whenever that was.
    fn refund_under<'a>(&'a self, payment_id: &'a PaymentId, key: &'a str) -> Looking<'a, RefundObject> {
        let is_it = move |refund: &RefundObject| {
            refund.metadata.as_ref().and_then(|own| own.get(REFUND_KEY)).is_some_and(|own| own == key)
        };
        Box::pin(async move { Ok(self.refunds(payment_id).await?.into_iter().find(is_it)) })
    }

    /// A session, if nobody can pay on it any more.
    fn closed_session<'a>(&'a self, session_id: &'a SessionId) -> Looking<'a, Session> {
        Box::pin(async move {
            let session = self.session(session_id).await?;
            Ok(match session.status {
                Some(SessionStatus::Complete | SessionStatus::Expired) => Some(session),
                Some(SessionStatus::Open) | None => None,
            })
        })
    }

    /// A payment, if it is canceled.
    fn canceled_intent<'a>(&'a self, payment_id: &'a PaymentId) -> Looking<'a, Intent> {
        Box::pin(async move {
            let intent = self.intent(payment_id).await?;
            Ok((intent.status == IntentStatus::Canceled).then_some(intent))
        })
    }

    /// The refunds of a payment, each with how it moved the balance.
    async fn refunds(&self, payment_id: &PaymentId) -> Result<Vec<RefundObject>, ProviderError> {
        let expand = [("expand[]", "data.balance_transaction".to_owned())];
        self.all_of("refunds", payment_id, &expand, |refund: &RefundObject| refund.id.to_string()).await
    }

    async fn disputes(&self, payment_id: &PaymentId) -> Result<Vec<DisputeObject>, ProviderError> {
        self.all_of("disputes", payment_id, &[], |dispute: &DisputeObject| dispute.id.to_string()).await
    }

    /// The refunds or disputes of a payment.
    async fn all_of<T: DeserializeOwned>(
        &self,
        what: &str,
        payment_id: &PaymentId,
        expand: &[(&'static str, String)],
        id: impl Fn(&T) -> String,
    ) -> Result<Vec<T>, ProviderError> {
        let mut all = Vec::new();
        let mut first = vec![("payment_intent", payment_id.to_string()), ("limit", LARGEST_PAGE.to_owned())];
        first.extend_from_slice(expand);
        let mut query = first.clone();
        for _ in 0..MAX_PAGES {
            let page: List<T> = self.get(&[what], &query).await?;
            let last = page.data.last().map(&id).filter(|_| page.has_more);
            all.extend(page.data);
            let Some(last) = last else { return Ok(all) };
            query.clone_from(&first);
            query.push(("starting_after", last));
        }
        Err(ProviderError::Refused(format!("{payment_id} has too many {what} to be read")))
    }

    async fn session(&self, session_id: &SessionId) -> Result<Session, ProviderError> {
        let expand = vec![
            ("expand[]", "payment_intent.latest_charge.balance_transaction".to_owned()),
            ("expand[]", "payment_intent.latest_charge.refunds".to_owned()),
        ];
        self.get(&["checkout", "sessions", session_id.as_str()], &expand).await
    }

    async fn intent(&self, payment_id: &PaymentId) -> Result<Intent, ProviderError> {
        let expand = vec![
            ("expand[]", "latest_charge.balance_transaction".to_owned()),
            ("expand[]", "latest_charge.refunds".to_owned()),
        ];
        self.get(&["payment_intents", payment_id.as_str()], &expand).await
    }

    /// All that is known of a payment; none when it is for no pledge of ours.
    async fn report(&self, intent: &Intent, stood: Stood) -> Result<Option<PaymentReport>, ProviderError> {
        let Some(pledge_id) = pledge_id(intent.metadata.as_ref()) else { return Ok(None) };
        let mut all = facts::of_intent(intent, stood).map_err(not_understood)?;
        if let Some(charge) = facts::latest_charge(intent) {
            all.extend(facts::of_bounced(intent, charge, stood).map_err(not_understood)?);
            let refunds = match &charge.refunds {
                Some(refunds) if !refunds.has_more => refunds.data.clone(),
                // Also where nothing is refunded now: a refund that failed is listed all the same.
                Some(_) | None => self.refunds(&intent.id).await?,
            };
            all.extend(facts::of_refunds(&intent.id, charge, &refunds, stood).map_err(not_understood)?);
            if charge.disputed {
                for dispute in self.disputes(&intent.id).await? {
                    all.extend(facts::of_dispute(&intent.id, &dispute, stood).map_err(not_understood)?);
                }
            }
        }
        let is_underway = intent.status == IntentStatus::Processing;
        Ok(Some(PaymentReport { pledge_id, facts: all, is_underway }))
    }
}

/// An answer that says no.
struct Refusal {
    status: StatusCode,
    reason: String,
    /// The key was used for another request.
    is_about_the_key: bool,
}

async fn refusal(response: Response) -> Refusal {
    let status = response.status();
    let ErrorObject { r#type, code, message } = match json::<ErrorBody>(response).await {
        Ok(body) => body.error,
        Err(_) => ErrorObject::default(),
    };
    let is_about_the_key = [&r#type, &code].into_iter().flatten().any(|name| name == "idempotency_error");
    let reason =
        [Some(status.to_string()), code, message].into_iter().flatten().collect::<Vec<_>>().join(": ");
    Refusal { status, reason, is_about_the_key }
}

impl From<Refusal> for ProviderError {
    /// Whether it says "later" or "no" follows from its status: a conflict is another request under the same
    /// key that is still under way.
    fn from(Refusal { status, reason, .. }: Refusal) -> Self {
        if says_later(status) || status == StatusCode::CONFLICT {
            Self::Unavailable(reason)
        } else {
            Self::Refused(reason)
        }
    }
}

fn not_understood(error: impl std::fmt::Display) -> ProviderError {
    ProviderError::Refused(format!("its answer cannot be understood: {error}"))
}

/// Fields of a new session. The pledge's id stands where people at Stripe look for it
/// (`client_reference_id`), on the session, and on the payment, which repeats it in every event.
fn session_fields(check_out: &CheckOut) -> Result<Fields, ProviderError> {
    let amount =
        amount::to_stripe(check_out.amount).map_err(|error| ProviderError::Refused(error.to_string()))?;
    let pledge_id = check_out.pledge_id.to_string();
    let currency = check_out.amount.currency().code().to_ascii_lowercase();
    Ok(vec![
        ("mode", "payment".to_owned()),
        ("submit_type", "donate".to_owned()),
        ("client_reference_id", pledge_id.clone()),
        ("metadata[pledge_id]", pledge_id.clone()),
        ("payment_intent_data[metadata][pledge_id]", pledge_id),
        ("line_items[0][quantity]", "1".to_owned()),
        ("line_items[0][price_data][currency]", currency),
        ("line_items[0][price_data][unit_amount]", amount.to_string()),
        ("line_items[0][price_data][product_data][name]", "Donation".to_owned()),
        ("success_url", check_out.return_url.clone()),
        ("cancel_url", check_out.return_url.clone()),
    ])
}

#[async_trait]
impl Provider for Stripe {
    fn name(&self) -> &'static str {
        NAME
    }

    fn owns(&self, payment_id: &PaymentId) -> bool {
        payment_id.as_str().starts_with("pi_")
    }

    fn payable(&self, currency: Currency) -> PayableAmounts {
        amount::payable(currency)
    }

    /// The key of the request is pledge and amount, so that a second visit finds the first one's
    /// session. Stripe repeats its first answer under a key as it was; where that session has been
    /// closed since, the next key follows from it.
    async fn check_out(&self, check_out: CheckOut) -> Result<PaymentSession, ProviderError> {
        let fields = session_fields(&check_out)?;
        let CheckOut { pledge_id, amount, .. } = check_out;
        let first_key = format!("check-out-{pledge_id}-{}-{}", amount.amount_minor(), amount.currency());
        let mut key = first_key.clone();
        for _ in 0..MAX_SESSIONS {
            // One that a failure has left behind cannot be looked for: nobody was sent there.
            let opened: Answer<Session> =
                self.post(&["checkout", "sessions"], &fields, &key, || Box::pin(async { Ok(None) })).await?;
            let session = if opened.is_replayed { self.session(&opened.body.id).await? } else { opened.body };
            let Session { id: session_id, status, url, .. } = session;
            match status {
                Some(SessionStatus::Open) => return Ok(PaymentSession { session_id, url }),
                Some(SessionStatus::Complete) | None => return Ok(PaymentSession { session_id, url: None }),
                Some(SessionStatus::Expired) => key = format!("{first_key}-after-{session_id}"),
            }
        }
        Err(ProviderError::Refused("too many sessions were opened and closed for this pledge".to_owned()))
    }

    /// Stripe expires open sessions only; one that is not open is what was asked for.
    async fn close(&self, session_id: &SessionId) -> Result<(), ProviderError> {
        let path = ["checkout", "sessions", session_id.as_str(), "expire"];
        let closed = || self.closed_session(session_id);
        match self.post(&path, &vec![], &format!("close-{session_id}"), closed).await {
            Ok(_) => Ok(()),
            Err(refused @ ProviderError::Refused(_)) => closed().await?.map(|_| ()).ok_or(refused),
            Err(error @ ProviderError::Unavailable(_)) => Err(error),
        }
    }

    /// The key stands in the refund's metadata too: it is looked for before it is made, because Stripe
    /// forgets its keys after a day.
    async fn refund(&self, refund: Refund) -> Result<RefundId, ProviderError> {
        let Refund { payment_id, amount, idempotency_key: key } = refund;
        let amount = amount::to_stripe(amount).map_err(|error| ProviderError::Refused(error.to_string()))?;
        let made = match self.refund_under(&payment_id, &key).await? {
            Some(made) => made,
            None => {
                let form = vec![
                    ("payment_intent", payment_id.to_string()),
                    ("amount", amount.to_string()),
                    (REFUND_KEY_FIELD, key.clone()),
                ];
                self.post(&["refunds"], &form, &key, || self.refund_under(&payment_id, &key)).await?.body
            }
        };
        match made.status.as_deref() {
            Some(status @ (FAILED | CANCELED)) => {
                let reason = made.failure_reason.as_deref().unwrap_or("no reason given");
                Err(ProviderError::Refused(format!("the refund has {status}: {reason}")))
            }
            Some(_) | None => Ok(made.id),
        }
    }

    /// Stripe cancels a payment once only; one that is canceled is what was asked for.
    async fn void(&self, payment_id: &PaymentId) -> Result<(), ProviderError> {
        let path = ["payment_intents", payment_id.as_str(), "cancel"];
        let canceled = || self.canceled_intent(payment_id);
        match self.post(&path, &vec![], &format!("void-{payment_id}"), canceled).await {
            Ok(_) => Ok(()),
            Err(refused @ ProviderError::Refused(_)) => canceled().await?.map(|_| ()).ok_or(refused),
            Err(error @ ProviderError::Unavailable(_)) => Err(error),
        }
    }

    async fn fetch(&self, session_id: &SessionId) -> Result<PaymentReport, ProviderError> {
        let stood = Stood::Answered(Utc::now());
        let session = self.session(session_id).await?;
        let pledge_id = pledge_id(session.metadata.as_ref())
            .ok_or_else(|| ProviderError::Refused(format!("{session_id} is for no pledge")))?;
        let nothing_yet = PaymentReport::nothing(pledge_id);
        match session.payment_intent {
            Some(Expandable::Object(intent)) => Ok(self.report(&intent, stood).await?.unwrap_or(nothing_yet)),
            Some(Expandable::Id(_)) => Err(not_understood("payment_intent is not expanded")),
            None => Ok(nothing_yet),
        }
    }

    async fn look_up(&self, payment_id: &PaymentId) -> Result<Option<PaymentReport>, ProviderError> {
        let stood = Stood::Answered(Utc::now());
        self.report(&self.intent(payment_id).await?, stood).await
    }

    async fn list(&self, cursor: Option<&str>) -> Result<ReportPage, ProviderError> {
        let mut query = vec![
            ("limit", PAGE.to_owned()),
            ("expand[]", "data.latest_charge.balance_transaction".to_owned()),
            ("expand[]", "data.latest_charge.refunds".to_owned()),
        ];
        query.extend(cursor.map(|after| ("starting_after", after.to_owned())));
        let stood = Stood::Answered(Utc::now());
        let page: List<Intent> = self.get(&["payment_intents"], &query).await?;
        let mut reports = Vec::new();
        for intent in &page.data {
            reports.extend(self.report(intent, stood).await?);
        }
        let next = page.data.last().map(|intent| intent.id.to_string()).filter(|_| page.has_more);
        Ok(ReportPage { reports, next })
    }

    /// A charge repeats the metadata of its payment, and with it the pledge.
    async fn paid_out(&self, payout_id: &str, cursor: Option<&str>) -> Result<ReportPage, ProviderError> {
        let mut query = vec![
            ("payout", payout_id.to_owned()),
            ("limit", LARGEST_PAGE.to_owned()),
            ("expand[]", "data.source".to_owned()),
        ];
        query.extend(cursor.map(|after| ("starting_after", after.to_owned())));
        let stood = Stood::Answered(Utc::now());
        let page: List<BalanceLine> = self.get(&["balance_transactions"], &query).await?;
        let next = page.data.last().map(|line| line.id.clone()).filter(|_| page.has_more);
        let mut reports = Vec::new();
        for line in page.data {
            let Some(LineSource::Charge(charge)) = line.source else { continue };
            let Some(pledge_id) = pledge_id(charge.metadata.as_ref()) else { continue };
            let facts = facts::of_paid_out(&charge, line.available_on, stood).map_err(not_understood)?;
            reports.push(PaymentReport { facts, ..PaymentReport::nothing(pledge_id) });
        }
        Ok(ReportPage { reports, next })
    }

    fn verify_and_parse(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<VerifiedMessage, MessageError> {
        let header = required(headers, signature::HEADER)?;
        let secrets = self.secrets.as_ref().ok_or(crate::SignatureError::NoMatch)?;
        signature::verify(secrets, header, body, now)?;
        let events::ParsedEvent { id, r#type, notice } = events::parse(body, self.is_live)?;
        Ok(VerifiedMessage { webhook_id: id, event_type: r#type, notice })
    }

    fn parse(&self, body: &[u8]) -> Result<Notice, ParseError> {
        events::parse(body, self.is_live).map(|parsed| parsed.notice)
    }
}

/// The provider's row in the registry.
#[cfg(feature = "guarded")]
pub(crate) fn descriptor() -> crate::ProviderDescriptor {
    crate::ProviderDescriptor {
        name: NAME,
        summary: "Stripe",
        key_variable: settings::API_KEY,
        webhooks: crate::WebhookFormat {
            summary: "Take an event of Stripe",
            signature: "Signed in the header Stripe-Signature.",
            headers: &[("stripe-signature", "t=TIMESTAMP,v1=HEX")],
            body: "An event, as Stripe describes it",
        },
        build: std::sync::Arc::new(|settings, context| settings.stripe.build(context)),
    }
}
