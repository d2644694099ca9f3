//! What Stripe's objects say about money.

use domain::{PaymentFact, PaymentId, RefundId};

use super::amount::{AmountError, from_stripe};
use super::objects::{
    BalanceTransaction, CANCELED, Charge, DisputeObject, Expandable, FAILED, Intent, IntentStatus,
    PaymentStatus, RefundObject, Session, payment_id,
};

type Facts = Result<Vec<PaymentFact>, AmountError>;

/// Facts stated by the payment itself. A failed attempt is not one: the donor may try again on the same
/// page.
pub(super) fn of_intent(intent: &Intent) -> Facts {
    match intent.status {
        IntentStatus::RequiresCapture => authorized(intent),
        IntentStatus::Succeeded => captured(intent),
        // What was captured before the rest was released stays captured.
        IntentStatus::Canceled if intent.amount_received > 0 => captured(intent),
        IntentStatus::Canceled => Ok(canceled(intent)),
        IntentStatus::RequiresPaymentMethod
        | IntentStatus::RequiresConfirmation
        | IntentStatus::RequiresAction
        | IntentStatus::Processing => Ok(vec![]),
    }
}

fn authorized(intent: &Intent) -> Facts {
    if intent.amount_capturable == 0 {
        return Ok(vec![]);
    }
    let amount = from_stripe(intent.amount_capturable, &intent.currency)?;
    Ok(vec![PaymentFact::Authorized { payment_id: intent.id.clone(), amount }])
}

fn captured(intent: &Intent) -> Facts {
    let amount = from_stripe(intent.amount_received, &intent.currency)?;
    let payment_id = intent.id.clone();
    let mut facts = vec![PaymentFact::Captured { payment_id: payment_id.clone(), amount }];
    if latest_charge(intent).is_some_and(is_settled) {
        facts.push(PaymentFact::Settled { payment_id, amount });
    }
    Ok(facts)
}

/// A payment that is canceled can never succeed. Where money was reserved, it has failed for good.
/// Where none was (nobody tried, or the last attempt failed), Stripe has closed the page and nothing
/// happened to any money: the donor may be on another page already, with another amount, and a
/// failure would end the pledge under them. Such a pledge expires by itself.
fn canceled(intent: &Intent) -> Vec<PaymentFact> {
    if intent.latest_charge.is_none() || intent.last_payment_error.is_some() {
        return vec![];
    }
    let reason = intent.cancellation_reason.as_ref().and_then(|reason| reason.parse().ok());
    vec![PaymentFact::Failed { payment_id: intent.id.clone(), reason }]
}

/// A payment is settled when its money is available in the account's balance.
fn is_settled(charge: &Charge) -> bool {
    matches!(
        &charge.balance_transaction,
        Some(Expandable::Object(transaction)) if is_available(transaction)
    )
}

/// A payment whose money was paid out was available before, so it is settled. What counts is what the
/// donor paid.
pub(super) fn of_paid_out(charge: &Charge) -> Facts {
    match (payment_id(charge.payment_intent.as_ref()), &charge.currency) {
        (Some(payment_id), Some(currency)) if charge.amount_captured > 0 => {
            let amount = from_stripe(charge.amount_captured, currency)?;
            Ok(vec![PaymentFact::Settled { payment_id, amount }])
        }
        _ => Ok(vec![]),
    }
}

fn is_available(transaction: &BalanceTransaction) -> bool {
    transaction.status == "available"
}

pub(super) fn latest_charge(intent: &Intent) -> Option<&Charge> {
    match &intent.latest_charge {
        Some(Expandable::Object(charge)) => Some(charge),
        Some(Expandable::Id(_)) | None => None,
    }
}

/// A page that was completed says that the money is taken, unless the payment takes days; then the
/// payment itself says so later.
pub(super) fn of_session(session: &Session) -> Facts {
    match session.payment_status {
        PaymentStatus::Paid => {}
        PaymentStatus::Unpaid | PaymentStatus::NoPaymentRequired => return Ok(vec![]),
    }
    match (payment_id(session.payment_intent.as_ref()), session.amount_total, &session.currency) {
        (Some(payment_id), Some(amount), Some(currency)) => {
            Ok(vec![PaymentFact::Captured { payment_id, amount: from_stripe(amount, currency)? }])
        }
        _ => Ok(vec![]),
    }
}

/// The refunds of a charge. Of a charge that was captured in part, the rest is released, and some versions of
/// the API list it as a refund: nobody had taken that money, so nobody gave it back.
pub(super) fn of_refunds(payment_id: &PaymentId, charge: &Charge, refunds: &[RefundObject]) -> Facts {
    let rest = if charge.amount_captured > 0 { charge.amount - charge.amount_captured } else { 0 };
    let is_rest = |refund: &&RefundObject| rest > 0 && refund.amount == rest;
    let released =
        refunds.iter().filter(is_rest).min_by_key(|refund| refund.created).map(|refund| &refund.id);
    let given_back = refunds.iter().filter(|refund| Some(&refund.id) != released);
    let facts: Result<Vec<_>, _> = given_back.map(|refund| of_refund(payment_id, refund)).collect();
    Ok(facts?.concat())
}

/// Those that came to nothing, be it after they had succeeded.
pub(super) fn failed_refunds(refunds: &[RefundObject]) -> impl Iterator<Item = RefundId> {
    let is_failed = |refund: &&RefundObject| matches!(refund.status.as_deref(), Some(FAILED | CANCELED));
    refunds.iter().filter(is_failed).map(|refund| refund.id.clone())
}

/// Only a refund that has succeeded has moved money, and one that moved no balance released money that was
/// never taken.
pub(super) fn of_refund(payment_id: &PaymentId, refund: &RefundObject) -> Facts {
    if refund.status.as_deref() != Some("succeeded") || refund.balance_transaction == Some(None) {
        return Ok(vec![]);
    }
    Ok(vec![PaymentFact::Refunded {
        payment_id: payment_id.clone(),
        refund_id: refund.id.clone(),
        amount: from_stripe(refund.amount, &refund.currency)?,
    }])
}

/// A dispute says by its status how it stands. An inquiry (`warning_…`) that is closed took nothing,
/// and neither did a dispute that was prevented.
pub(super) fn of_dispute(payment_id: &PaymentId, dispute: &DisputeObject) -> Facts {
    let payment_id = payment_id.clone();
    let dispute_id = dispute.id.clone();
    let amount = from_stripe(dispute.amount, &dispute.currency)?;
    Ok(vec![match dispute.status.as_str() {
        "won" | "warning_closed" | "prevented" => PaymentFact::DisputeWon { payment_id, dispute_id, amount },
        "lost" => PaymentFact::DisputeLost { payment_id, dispute_id, amount },
        _ => PaymentFact::DisputeOpened { payment_id, dispute_id, amount },
    }])
}
