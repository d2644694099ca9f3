//! What Stripe's events say: <https://docs.stripe.com/api/events/types>.

use domain::{PaymentFact, PaymentId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::amount::AmountError;
use super::facts::{self, Stood};
use super::objects::{
    Charge, DisputeObject, Intent, Metadata, Payout, RefundObject, Session, instant, payment_id, pledge_id,
};
use crate::json::{parse_json, short_text};
use crate::{Notice, ParseError};

const OBJECT: &str = "data.object";

/// An event as Stripe sends it.
#[derive(Deserialize)]
struct Event {
    id: String,
    r#type: String,
    /// When its object stood as it is, in seconds since 1970.
    created: i64,
    /// Whether it is about real money.
    livemode: Option<bool>,
    /// The connected account that it is about; none for our own.
    account: Option<String>,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    /// Its shape depends on the type, and nothing looks inside where the type means nothing.
    object: Box<RawValue>,
}

/// An event that was read.
#[derive(Debug)]
pub(super) struct ParsedEvent {
    pub(super) id: String,
    pub(super) r#type: String,
    pub(super) notice: Notice,
}

/// Reads an event. One of the other mode than `is_live` or of another account says nothing to us.
pub(super) fn parse(body: &[u8], is_live: Option<bool>) -> Result<ParsedEvent, ParseError> {
    let event: Event = parse_json(body, "")?;
    let is_of_other_mode = is_live.zip(event.livemode).is_some_and(|(ours, its)| ours != its);
    let is_foreign = is_of_other_mode || event.account.is_some();
    Ok(ParsedEvent {
        id: short_text("id", &event.id)?,
        r#type: short_text("type", &event.r#type)?,
        notice: if is_foreign { Notice::Ignored } else { notice(&event)? },
    })
}

/// Types that are not listed mean nothing to the ledger, among them:
/// - `payment_intent.payment_failed`: an attempt that the donor can repeat on the same page;
/// - `checkout.session.expired`: nobody has paid, and the pledge expires by itself;
/// - `payout.paid`, `balance.available`: sums, whose payments cannot be asked for at that time or at
///   all; `payout.reconciliation_completed` says when they can.
fn notice(event: &Event) -> Result<Notice, ParseError> {
    let created = instant(event.created).ok_or_else(|| ParseError::at("created", "is no time"))?;
    let stood = Stood::Told(created);
    match event.r#type.as_str() {
        "checkout.session.completed" | "checkout.session.async_payment_succeeded" => {
            let session: Session = event.object()?;
            addressed(session.metadata.as_ref(), facts::of_session(&session, stood))
        }
        "payment_intent.amount_capturable_updated"
        | "payment_intent.succeeded"
        | "payment_intent.canceled" => {
            let intent: Intent = event.object()?;
            addressed(intent.metadata.as_ref(), facts::of_intent(&intent, stood))
        }
        "charge.refunded" => charge_refunded(&event.object()?, stood),
        "charge.failed" => Ok(charge_failed(&event.object()?)),
        "refund.created" | "refund.updated" | "refund.failed" | "charge.refund.updated" => {
            refund(&event.object()?, stood)
        }
        "charge.dispute.created"
        | "charge.dispute.updated"
        | "charge.dispute.closed"
        | "charge.dispute.funds_withdrawn" => {
            let object = event.object()?;
            dispute(&object, |payment_id| facts::of_dispute(payment_id, &object, stood))
        }
        "charge.dispute.funds_reinstated" => {
            let object = event.object()?;
            dispute(&object, |payment_id| facts::of_reinstated(payment_id, &object, stood))
        }
        "payout.reconciliation_completed" => {
            let Payout { id } = event.object()?;
            Ok(Notice::Payout { payout_id: short_text("data.object.id", &id)? })
        }
        _ => Ok(Notice::Ignored),
    }
}

impl Event {
    fn object<T: DeserializeOwned>(&self) -> Result<T, ParseError> {
        parse_json(self.data.object.get().as_bytes(), "data.object.")
    }
}

/// Facts of an object that says for which pledge it is, or else is not ours.
fn addressed(
    metadata: Option<&Metadata>,
    facts: Result<Vec<PaymentFact>, AmountError>,
) -> Result<Notice, ParseError> {
    let Some(pledge_id) = pledge_id(metadata) else { return Ok(Notice::Ignored) };
    let facts = facts.map_err(|error| ParseError::at(OBJECT, error))?;
    Ok(if facts.is_empty() { Notice::Ignored } else { Notice::Facts { pledge_id, facts } })
}

/// A charge has the metadata of its payment. Since 2022-11-15 it comes without its refunds, only
/// with their sum; then the payment is looked up.
fn charge_refunded(charge: &Charge, stood: Stood) -> Result<Notice, ParseError> {
    let ours = pledge_id(charge.metadata.as_ref()).is_some();
    let Some(payment_id) = payment_id(charge.payment_intent.as_ref()).filter(|_| ours) else {
        return Ok(Notice::Ignored);
    };
    match &charge.refunds {
        Some(refunds) if !refunds.has_more => {
            addressed(charge.metadata.as_ref(), facts::of_refunds(&payment_id, charge, &refunds.data, stood))
        }
        Some(_) | None => Ok(Notice::Unaddressed { payment_id, facts: vec![] }),
    }
}

/// An attempt that failed means nothing, unless its money had been taken: the payment says whether it had.
fn charge_failed(charge: &Charge) -> Notice {
    let ours = pledge_id(charge.metadata.as_ref()).is_some();
    match payment_id(charge.payment_intent.as_ref()) {
        Some(payment_id) if ours && charge.may_have_bounced() => {
            Notice::Unaddressed { payment_id, facts: vec![] }
        }
        Some(_) | None => Notice::Ignored,
    }
}

/// A refund has the metadata that whoever made it gave it, which need not name a pledge.
fn refund(refund: &RefundObject, stood: Stood) -> Result<Notice, ParseError> {
    let Some(payment_id) = payment_id(refund.payment_intent.as_ref()) else { return Ok(Notice::Ignored) };
    let facts =
        facts::of_refund(&payment_id, refund, stood).map_err(|error| ParseError::at(OBJECT, error))?;
    Ok(match pledge_id(refund.metadata.as_ref()) {
        _ if facts.is_empty() => Notice::Ignored,
        Some(pledge_id) => Notice::Facts { pledge_id, facts },
        None => Notice::Unaddressed { payment_id, facts },
    })
}

/// Disputes are opened by banks and carry nothing of ours.
fn dispute(
    dispute: &DisputeObject,
    facts: impl FnOnce(&PaymentId) -> Result<Vec<PaymentFact>, AmountError>,
) -> Result<Notice, ParseError> {
    let Some(payment_id) = payment_id(dispute.payment_intent.as_ref()) else { return Ok(Notice::Ignored) };
    let facts = facts(&payment_id).map_err(|error| ParseError::at(OBJECT, error))?;
    Ok(Notice::Unaddressed { payment_id, facts })
}

#[cfg(test)]
mod tests;
