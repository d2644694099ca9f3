//! What Stripe's objects say about money.

use chrono::{DateTime, Utc};
use domain::payment::{DisputeState, Over, RefundState, ReversalState, Stated, Statement};
use domain::pledge::{Said, Settlement};
use domain::{Money, PaymentFact, PaymentId};

use super::amount::{AmountError, from_stripe};
use super::objects::{
    BalanceTransaction, CANCELED, Charge, DisputeObject, Expandable, FAILED, Intent, IntentStatus, LOST,
    PaymentStatus, RefundObject, Session, instant, payment_id,
};

type Facts = Result<Vec<PaymentFact>, AmountError>;

/// When an object stood as it is, and how that reached us.
#[derive(Clone, Copy)]
pub(super) enum Stood {
    /// At an event of this time.
    Told(DateTime<Utc>),
    /// When it was asked for, at this time.
    Answered(DateTime<Utc>),
}

impl Stood {
    fn at(self) -> DateTime<Utc> {
        match self {
            Self::Told(at) | Self::Answered(at) => at,
        }
    }

    fn says(self, stated: Stated) -> Statement {
        match self {
            Self::Told(at) => Statement::told(stated, at),
            Self::Answered(at) => Statement::answered(stated, at),
        }
    }
}

/// A statement with the time at which a movement of the balance was made, where Stripe says it.
fn moved_by(statement: Statement, transaction: Option<&BalanceTransaction>) -> Statement {
    match transaction.and_then(|transaction| instant(transaction.created?)) {
        Some(at) => statement.happened_at(at),
        None => statement,
    }
}

/// What the payment itself says. A failed attempt says nothing: the donor may try again on the same page.
pub(super) fn of_intent(intent: &Intent, stood: Stood) -> Facts {
    match intent.status {
        // What was captured before the rest was released stays captured.
        IntentStatus::RequiresCapture | IntentStatus::Canceled if intent.amount_received > 0 => {
            captured(intent, stood)
        }
        IntentStatus::RequiresCapture => authorized(intent, stood),
        IntentStatus::Succeeded => captured(intent, stood),
        IntentStatus::Canceled => Ok(canceled(intent, stood)),
        IntentStatus::RequiresPaymentMethod
        | IntentStatus::RequiresConfirmation
        | IntentStatus::RequiresAction
        | IntentStatus::Processing => Ok(vec![]),
    }
}

fn authorized(intent: &Intent, stood: Stood) -> Facts {
    if intent.amount_capturable == 0 {
        return Ok(vec![]);
    }
    let amount = from_stripe(intent.amount_capturable, &intent.currency)?;
    let statement = stood.says(Stated::payment(None, None)).authorized(amount);
    Ok(vec![PaymentFact::stated(intent.id.clone(), statement)])
}

fn captured(intent: &Intent, stood: Stood) -> Facts {
    let amount = from_stripe(intent.amount_received, &intent.currency)?;
    let over = (intent.status == IntentStatus::Canceled).then_some(Over::Cancelled);
    let statement = stood.says(Stated::payment(Some(amount), over));
    let charge = latest_charge(intent);
    let transaction = charge.and_then(transaction);
    // What is captured by hand may be captured in parts. The balance moves with a card's capture; of a debit
    // from a bank account it has a movement days before the money is taken.
    let is_at_once = charge.is_some_and(Charge::is_of_card)
        && intent.capture_method.as_ref().is_some_and(|method| method.starts_with("automatic"));
    let statement = moved_by(statement, transaction.filter(|_| is_at_once));
    let mut facts = vec![PaymentFact::stated(intent.id.clone(), statement)];
    if let Some(available) = transaction.filter(|transaction| transaction.is_available()) {
        facts.push(settled(&intent.id, amount, available.available_on, stood));
    }
    Ok(facts)
}

/// A payment is settled when its money is available in the account's balance, and then not in the future.
fn settled(payment_id: &PaymentId, amount: Money, available_on: Option<i64>, stood: Stood) -> PaymentFact {
    let at = available_on.and_then(instant).map_or(stood.at(), |at| at.min(stood.at()));
    PaymentFact::settled(payment_id.clone(), Settlement { amount, at })
}

/// A payment that is canceled can never succeed. Where money was reserved, it has come to nothing. Where
/// none was (nobody tried, or the last attempt failed), Stripe has closed the page and nothing happened to
/// any money: the donor may be on another page already, with another amount, and an end would end the
/// pledge under them. Such a pledge expires by itself.
fn canceled(intent: &Intent, stood: Stood) -> Vec<PaymentFact> {
    if intent.latest_charge.is_none() || intent.last_payment_error.is_some() {
        return vec![];
    }
    let statement = stood.says(Stated::payment(None, Some(Over::Cancelled)));
    let reason = intent.cancellation_reason.as_ref().and_then(|reason| reason.parse().ok());
    let said = match reason {
        Some(reason) => Said::Failed(statement, reason),
        None => Said::Stated(statement),
    };
    vec![PaymentFact { payment_id: intent.id.clone(), said }]
}

/// A charge that failed after its payment had received money took it back: a debit that bounced. Stripe has
/// no id for that, and a payment has one such charge, so the payment's id names it. A debit that failed on
/// its way looks the same by its charge; its payment received nothing, and nothing was taken back.
pub(super) fn of_bounced(intent: &Intent, charge: &Charge, stood: Stood) -> Facts {
    if !charge.may_have_bounced() || intent.amount_received <= 0 {
        return Ok(vec![]);
    }
    let Ok(reversal_id) = intent.id.as_str().parse() else { return Ok(vec![]) };
    let captured = from_stripe(intent.amount_received, &intent.currency)?;
    let gone = from_stripe(charge.amount_captured, &intent.currency)?;
    let stated =
        [Stated::payment(Some(captured), None), Stated::reversal(reversal_id, ReversalState::Gone(gone))];
    Ok(stated.map(|stated| PaymentFact::stated(intent.id.clone(), stood.says(stated))).into())
}

/// A payment whose money was paid out was available before, so it is settled. What counts is what the
/// donor paid.
pub(super) fn of_paid_out(charge: &Charge, available_on: Option<i64>, stood: Stood) -> Facts {
    match (payment_id(charge.payment_intent.as_ref()), &charge.currency) {
        (Some(payment_id), Some(currency)) if charge.amount_captured > 0 => {
            let amount = from_stripe(charge.amount_captured, currency)?;
            let captured = stood.says(Stated::payment(Some(amount), None));
            let settled = settled(&payment_id, amount, available_on, stood);
            Ok(vec![PaymentFact::stated(payment_id, captured), settled])
        }
        _ => Ok(vec![]),
    }
}

fn transaction(charge: &Charge) -> Option<&BalanceTransaction> {
    match &charge.balance_transaction {
        Some(Expandable::Object(transaction)) => Some(transaction),
        Some(Expandable::Id(_)) | None => None,
    }
}

pub(super) fn latest_charge(intent: &Intent) -> Option<&Charge> {
    match &intent.latest_charge {
        Some(Expandable::Object(charge)) => Some(charge),
        Some(Expandable::Id(_)) | None => None,
    }
}

/// A page that was completed says that the money is taken, unless the payment takes days; then the
/// payment itself says so later.
pub(super) fn of_session(session: &Session, stood: Stood) -> Facts {
    match session.payment_status {
        PaymentStatus::Paid => {}
        PaymentStatus::Unpaid | PaymentStatus::NoPaymentRequired => return Ok(vec![]),
    }
    match (payment_id(session.payment_intent.as_ref()), session.amount_total, &session.currency) {
        (Some(payment_id), Some(amount), Some(currency)) => {
            let stated = Stated::payment(Some(from_stripe(amount, currency)?), None);
            Ok(vec![PaymentFact::stated(payment_id, stood.says(stated))])
        }
        _ => Ok(vec![]),
    }
}

/// The refunds of a charge. Of a charge that was captured in part, the rest is released, and some versions of
/// the API list it as a refund: nobody had taken that money, so nobody gave it back.
pub(super) fn of_refunds(
    payment_id: &PaymentId,
    charge: &Charge,
    refunds: &[RefundObject],
    stood: Stood,
) -> Facts {
    let rest = if charge.amount_captured > 0 { charge.amount - charge.amount_captured } else { 0 };
    let is_rest = |refund: &&RefundObject| rest > 0 && refund.amount == rest;
    let released =
        refunds.iter().filter(is_rest).min_by_key(|refund| refund.created).map(|refund| &refund.id);
    let given_back = refunds.iter().filter(|refund| Some(&refund.id) != released);
    let facts: Result<Vec<_>, _> = given_back.map(|refund| of_refund(payment_id, refund, stood)).collect();
    Ok(facts?.concat())
}

/// Only a refund that has succeeded has moved money, and one that moved no balance released money that was
/// never taken.
pub(super) fn of_refund(payment_id: &PaymentId, refund: &RefundObject, stood: Stood) -> Facts {
    let state = match refund.status.as_deref() {
        Some("pending" | "requires_action") => RefundState::Asked,
        Some("succeeded") if refund.balance_transaction == Some(None) => return Ok(vec![]),
        Some("succeeded") => RefundState::Succeeded(from_stripe(refund.amount, &refund.currency)?),
        Some(FAILED) => RefundState::Failed,
        Some(CANCELED) => RefundState::Cancelled,
        Some(_) | None => return Ok(vec![]),
    };
    let statement = stood.says(Stated::refund(refund.id.clone(), state));
    let statement = match (state, &refund.balance_transaction) {
        (RefundState::Succeeded(_), Some(Some(Expandable::Object(transaction)))) => {
            moved_by(statement, Some(transaction))
        }
        _ => statement,
    };
    Ok(vec![PaymentFact::stated(payment_id.clone(), statement)])
}

/// A dispute says by its status how it stands. An inquiry (`warning_…`) moves nothing, and neither did one
/// that was closed, or a dispute that was prevented.
pub(super) fn of_dispute(payment_id: &PaymentId, dispute: &DisputeObject, stood: Stood) -> Facts {
    let amount = from_stripe(dispute.amount, &dispute.currency)?;
    let state = match dispute.status.as_str() {
        "warning_needs_response" | "warning_under_review" => DisputeState::Inquiry,
        "won" | "warning_closed" | "prevented" => DisputeState::Won,
        LOST if dispute.is_reinstated() => DisputeState::Reinstated,
        LOST => DisputeState::Lost(amount),
        _ => DisputeState::Opened(Some(amount)),
    };
    let statement = stood.says(Stated::dispute(dispute.id.clone(), state));
    Ok(vec![PaymentFact::stated(payment_id.clone(), statement)])
}

/// Its money was given back, whatever its status says.
pub(super) fn of_reinstated(payment_id: &PaymentId, dispute: &DisputeObject, stood: Stood) -> Facts {
    if dispute.status != LOST {
        return of_dispute(payment_id, dispute, stood);
    }
    let stated = Stated::dispute(dispute.id.clone(), DisputeState::Reinstated);
    Ok(vec![PaymentFact::stated(payment_id.clone(), stood.says(stated))])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ASKED_AT: i64 = 1_700_000_000;

    fn at(seconds: i64) -> DateTime<Utc> {
        instant(seconds).unwrap()
    }

    fn stood() -> Stood {
        Stood::Answered(at(ASKED_AT))
    }

    fn eur(amount_minor: i64) -> Money {
        Money::new(amount_minor, "EUR".parse().unwrap()).unwrap()
    }

    fn id() -> PaymentId {
        "pi_1".parse().unwrap()
    }

    fn intent(charge: &Value, received: i64, capture_method: &str, status: &str) -> Intent {
        serde_json::from_value(json!({
            "id": "pi_1", "status": status, "currency": "eur", "amount_received": received,
            "capture_method": capture_method, "latest_charge": charge,
        }))
        .unwrap()
    }

    fn charge(method: &str) -> Value {
        json!({
            "payment_intent": "pi_1", "amount": 5000, "amount_captured": 5000, "captured": true,
            "currency": "eur", "status": "succeeded", "payment_method_details": {"type": method},
            "balance_transaction": {
                "status": "pending", "amount": 4800, "created": 1_600_000_000, "available_on": 1_600_086_400,
            },
        })
    }

    fn captured() -> Statement {
        Statement::answered(Stated::payment(Some(eur(5000)), None), at(ASKED_AT))
    }

    #[test]
    fn a_card_is_charged_when_the_balance_moves() {
        let moved = captured().happened_at(at(1_600_000_000));
        for (method, capture_method, expected) in [
            ("card", "automatic", moved.clone()),
            ("card", "automatic_async", moved),
            // It may have been captured in parts.
            ("card", "manual", captured()),
            // Its movement was made when the bank was asked.
            ("sepa_debit", "automatic", captured()),
        ] {
            let intent = intent(&charge(method), 5000, capture_method, "succeeded");
            assert_eq!(
                of_intent(&intent, stood()),
                Ok(vec![PaymentFact::stated(id(), expected)]),
                "{method}"
            );
        }
    }

    #[test]
    fn a_payment_is_settled_when_its_money_is_available() {
        let settled_at = |available_on: i64| {
            let mut charge = charge("sepa_debit");
            charge["balance_transaction"]["status"] = json!("available");
            charge["balance_transaction"]["available_on"] = json!(available_on);
            let facts = of_intent(&intent(&charge, 5000, "automatic", "succeeded"), stood()).unwrap();
            let [_, settled] = facts.try_into().unwrap();
            settled
        };
        let settled = |seconds| PaymentFact::settled(id(), Settlement { amount: eur(5000), at: at(seconds) });
        assert_eq!(settled_at(1_600_086_400), settled(1_600_086_400));
        assert_eq!(settled_at(ASKED_AT + 60), settled(ASKED_AT));
    }

    #[test]
    fn what_was_paid_out_was_captured_and_is_settled() {
        let charge: Charge = serde_json::from_value(charge("card")).unwrap();
        for (available_on, expected) in [(Some(1_600_086_400), 1_600_086_400), (None, ASKED_AT)] {
            let settlement = Settlement { amount: eur(5000), at: at(expected) };
            let facts = vec![PaymentFact::stated(id(), captured()), PaymentFact::settled(id(), settlement)];
            assert_eq!(of_paid_out(&charge, available_on, stood()), Ok(facts));
        }
    }

    #[test]
    fn only_what_was_received_can_bounce() {
        let mut failed = charge("sepa_debit");
        failed["status"] = json!("failed");
        let bounced = |charge: &Value, received| {
            let intent = intent(charge, received, "automatic", "requires_payment_method");
            of_bounced(&intent, latest_charge(&intent).unwrap(), stood()).unwrap()
        };
        let gone = Stated::reversal("pi_1".parse().unwrap(), ReversalState::Gone(eur(5000)));
        let gone = Statement::answered(gone, at(ASKED_AT));
        let expected = [captured(), gone].map(|statement| PaymentFact::stated(id(), statement));
        assert_eq!(bounced(&failed, 5000), expected);
        assert_eq!(bounced(&failed, 0), [], "it failed on its way");
        assert_eq!(bounced(&charge("sepa_debit"), 5000), []);
    }
}
