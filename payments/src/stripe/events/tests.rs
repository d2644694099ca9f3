//! Events as Stripe documents them, and what each says.

use chrono::{DateTime, Utc};
use domain::payment::{DisputeState, Over, RefundState, Stated, Statement};
use domain::pledge::{FailureReason, Said};
use domain::{Money, PaymentFact, PaymentId, PledgeId};
use serde_json::{Value, json};

use super::*;

const PLEDGE: &str = "00000000-0000-8000-8000-000000000001";
const INTENT: &str = "pi_3MtwBwLkdIwHu7ix28a3tqPa";

fn usd(amount_minor: i64) -> Money {
    Money::new(amount_minor, "USD".parse().unwrap()).unwrap()
}

fn intent_id() -> PaymentId {
    INTENT.parse().unwrap()
}

/// When the events of these tests were made.
const CREATED: i64 = 1_686_089_970;

fn created() -> DateTime<Utc> {
    DateTime::from_timestamp(CREATED, 0).unwrap()
}

fn told(stated: Stated) -> PaymentFact {
    PaymentFact::stated(intent_id(), Statement::told(stated, created()))
}

fn captured(amount: Money) -> PaymentFact {
    told(Stated::payment(Some(amount), None))
}

fn refund(id: &str, state: RefundState) -> PaymentFact {
    told(Stated::refund(id.parse().unwrap(), state))
}

fn dispute_is(state: DisputeState) -> PaymentFact {
    told(Stated::dispute("du_1MtJUT2eZvKYlo2CNaw2HvEv".parse().unwrap(), state))
}

fn read(r#type: &str, object: &Value) -> Result<Notice, ParseError> {
    let event = json!({
        "id": "evt_1NG8Du2eZvKYlo2CUI79vXWy", "object": "event", "api_version": "2025-07-30.basil",
        "created": CREATED, "livemode": false, "pending_webhooks": 0,
        "request": {"id": null, "idempotency_key": null}, "type": r#type, "data": {"object": object},
    });
    let parsed = parse(event.to_string().as_bytes(), Some(false))?;
    assert_eq!((parsed.id.as_str(), parsed.r#type.as_str()), ("evt_1NG8Du2eZvKYlo2CUI79vXWy", r#type));
    Ok(parsed.notice)
}

/// Fields of `change` over those of `object`.
fn with(mut object: Value, change: Value) -> Value {
    for (name, value) in change.as_object().unwrap() {
        object[name] = value.clone();
    }
    object
}

fn says(r#type: &str, object: &Value, fact: PaymentFact) {
    let pledge_id: PledgeId = PLEDGE.parse().unwrap();
    assert_eq!(read(r#type, object), Ok(Notice::Facts { pledge_id, facts: vec![fact] }), "{type}");
}

fn says_nothing(r#type: &str, object: &Value) {
    assert_eq!(read(r#type, object), Ok(Notice::Ignored), "{type} {object}");
}

fn names_no_pledge(r#type: &str, object: &Value, facts: Vec<PaymentFact>) {
    let expected = Notice::Unaddressed { payment_id: intent_id(), facts };
    assert_eq!(read(r#type, object), Ok(expected), "{type}");
}

fn session() -> Value {
    json!({
        "id": "cs_test_a11YYufWQzNY63zpQ6QSNRQhkUpVph4WRmzW0zWJO2znZKdVujZ0N0S22u",
        "object": "checkout.session", "amount_subtotal": 5000, "amount_total": 5000, "currency": "usd",
        "client_reference_id": PLEDGE, "mode": "payment", "payment_intent": INTENT,
        "payment_status": "paid", "status": "complete", "url": null, "livemode": false,
        "metadata": {"pledge_id": PLEDGE},
    })
}

fn intent() -> Value {
    json!({
        "id": INTENT, "object": "payment_intent", "amount": 5000, "amount_capturable": 0,
        "amount_details": {"tip": {}}, "amount_received": 5000, "canceled_at": null,
        "cancellation_reason": null, "capture_method": "automatic_async", "created": 1_680_800_504,
        "currency": "usd", "last_payment_error": null, "latest_charge": "ch_3MmlLrLkdIwHu7ix0snN0B15",
        "livemode": false, "metadata": {"pledge_id": PLEDGE}, "status": "succeeded",
    })
}

fn charge() -> Value {
    json!({
        "id": "ch_3MmlLrLkdIwHu7ix0snN0B15", "object": "charge", "amount": 5000, "amount_captured": 5000,
        "amount_refunded": 1500, "balance_transaction": "txn_3MmlLrLkdIwHu7ix0uke3Ezy", "currency": "usd",
        "captured": true, "disputed": false, "paid": true, "payment_intent": INTENT, "refunded": false,
        "status": "succeeded", "metadata": {"pledge_id": PLEDGE},
    })
}

fn refund_object() -> Value {
    json!({
        "id": "re_1Nispe2eZvKYlo2Cd31jOCgZ", "object": "refund", "amount": 1500,
        "balance_transaction": "txn_1Nispe2eZvKYlo2CYezqFhEx", "charge": "ch_3MmlLrLkdIwHu7ix0snN0B15",
        "created": 1_692_942_318, "currency": "usd", "metadata": {}, "payment_intent": INTENT,
        "reason": null, "receipt_number": null, "status": "succeeded",
    })
}

fn dispute_object() -> Value {
    json!({
        "id": "du_1MtJUT2eZvKYlo2CNaw2HvEv", "object": "dispute", "amount": 5000,
        "balance_transactions": [], "charge": "ch_3MmlLrLkdIwHu7ix0snN0B15", "created": 1_680_651_737,
        "currency": "usd", "evidence_details": {"submission_count": 0}, "is_charge_refundable": true,
        "livemode": false, "metadata": {}, "payment_intent": INTENT, "reason": "general",
        "status": "needs_response",
    })
}

fn refunded() -> PaymentFact {
    refund("re_1Nispe2eZvKYlo2Cd31jOCgZ", RefundState::Succeeded(usd(1500)))
}

#[test]
fn a_completed_session_that_is_paid_is_a_capture() {
    says("checkout.session.completed", &session(), captured(usd(5000)));
    says("checkout.session.async_payment_succeeded", &session(), captured(usd(5000)));
    for unpaid in [
        json!({"payment_status": "unpaid"}),
        json!({"payment_status": "no_payment_required"}),
        json!({"payment_intent": null}),
        json!({"amount_total": null}),
        json!({"metadata": {}}),
        json!({"metadata": null}),
        json!({"metadata": {"pledge_id": "somebody else's"}}),
    ] {
        says_nothing("checkout.session.completed", &with(session(), unpaid));
    }
}

#[test]
fn a_payment_is_authorised_and_captured() {
    let reserved = json!({"status": "requires_capture", "amount_capturable": 5000, "amount_received": 0});
    let statement = Statement::told(Stated::payment(None, None), created()).authorized(usd(5000));
    says(
        "payment_intent.amount_capturable_updated",
        &with(intent(), reserved),
        PaymentFact::stated(intent_id(), statement),
    );
    let in_part = json!({"status": "requires_capture", "amount_capturable": 3000, "amount_received": 2000});
    let r#type = "payment_intent.amount_capturable_updated";
    says(r#type, &with(intent(), in_part), captured(usd(2000)));
    // What counts is what was taken, which may be less than was asked for.
    let less = json!({"amount_received": 4000});
    says("payment_intent.succeeded", &with(intent(), less), captured(usd(4000)));
    let yen = json!({"currency": "jpy", "amount_received": 700});
    let yens = Money::new(700, "JPY".parse().unwrap()).unwrap();
    says("payment_intent.succeeded", &with(intent(), yen), captured(yens));
    says_nothing("payment_intent.succeeded", &with(intent(), json!({"metadata": {}})));
}

#[test]
fn an_attempt_that_failed_is_no_fact() {
    let failed = json!({
        "status": "requires_payment_method", "amount_received": 0,
        "last_payment_error": {"code": "card_declined", "type": "card_error"},
    });
    says_nothing("payment_intent.payment_failed", &with(intent(), failed));
}

#[test]
fn a_canceled_payment_is_over_where_money_was_reserved() {
    let canceled = with(
        intent(),
        json!({"status": "canceled", "amount_received": 0, "cancellation_reason": "requested_by_customer"}),
    );
    let over = Stated::payment(None, Some(Over::Cancelled));
    let reason: FailureReason = "requested_by_customer".parse().unwrap();
    let said = Said::Failed(Statement::told(over.clone(), created()), reason);
    says("payment_intent.canceled", &canceled, PaymentFact { payment_id: intent_id(), said });
    let unexplained = with(canceled.clone(), json!({"cancellation_reason": null}));
    says("payment_intent.canceled", &unexplained, told(over));
    // A page that was closed: nobody had tried, or the last attempt had failed.
    says_nothing("payment_intent.canceled", &with(canceled.clone(), json!({"latest_charge": null})));
    let declined = json!({"last_payment_error": {"code": "card_declined", "type": "card_error"}});
    says_nothing("payment_intent.canceled", &with(canceled, declined));
}

#[test]
fn a_refunded_charge_has_its_refunds_or_is_looked_up() {
    let second = with(refund_object(), json!({"id": "re_2", "amount": 500}));
    let pending = with(refund_object(), json!({"id": "re_3", "status": "pending"}));
    let refunds = json!({"object": "list", "data": [refund_object(), second, pending], "has_more": false});
    let older = with(charge(), json!({"refunds": refunds}));
    let second = refund("re_2", RefundState::Succeeded(usd(500)));
    let facts = vec![refunded(), second, refund("re_3", RefundState::Asked)];
    let expected = Notice::Facts { pledge_id: PLEDGE.parse().unwrap(), facts };
    assert_eq!(read("charge.refunded", &older), Ok(expected));

    names_no_pledge("charge.refunded", &charge(), vec![]);
    let incomplete = json!({"refunds": {"object": "list", "data": [refund_object()], "has_more": true}});
    names_no_pledge("charge.refunded", &with(charge(), incomplete), vec![]);
    says_nothing("charge.refunded", &with(charge(), json!({"metadata": {}})));
    says_nothing("charge.refunded", &with(charge(), json!({"payment_intent": null})));
}

#[test]
fn a_refund_says_by_its_status_how_it_stands() {
    for r#type in ["refund.created", "refund.updated", "refund.failed", "charge.refund.updated"] {
        names_no_pledge(r#type, &refund_object(), vec![refunded()]);
        let ours = with(refund_object(), json!({"metadata": {"pledge_id": PLEDGE}}));
        says(r#type, &ours, refunded());
        for (status, state) in [
            ("pending", RefundState::Asked),
            ("requires_action", RefundState::Asked),
            ("failed", RefundState::Failed),
            ("canceled", RefundState::Cancelled),
        ] {
            let fact = refund("re_1Nispe2eZvKYlo2Cd31jOCgZ", state);
            names_no_pledge(r#type, &with(refund_object(), json!({"status": status})), vec![fact]);
        }
        says_nothing(r#type, &with(refund_object(), json!({"status": "of a later version"})));
        says_nothing(r#type, &with(refund_object(), json!({"status": null})));
        says_nothing(r#type, &with(refund_object(), json!({"payment_intent": null})));
    }
}

#[test]
fn a_refund_happened_when_it_moved_the_balance() {
    let transaction = json!({"id": "txn_1", "status": "pending", "amount": -1500, "created": CREATED - 60});
    let moved = with(refund_object(), json!({"balance_transaction": transaction}));
    let Said::Stated(statement) = refunded().said else { panic!() };
    let statement = statement.happened_at(created() - chrono::TimeDelta::seconds(60));
    names_no_pledge("refund.updated", &moved, vec![PaymentFact::stated(intent_id(), statement)]);
    // That is not when it failed.
    let failed = refund("re_1Nispe2eZvKYlo2Cd31jOCgZ", RefundState::Failed);
    names_no_pledge("refund.failed", &with(moved, json!({"status": "failed"})), vec![failed]);
}

#[test]
fn a_dispute_says_by_its_status_how_it_stands() {
    for r#type in [
        "charge.dispute.created",
        "charge.dispute.updated",
        "charge.dispute.closed",
        "charge.dispute.funds_withdrawn",
    ] {
        for (status, state) in [
            ("warning_needs_response", DisputeState::Inquiry),
            ("warning_under_review", DisputeState::Inquiry),
            ("warning_closed", DisputeState::Won),
            ("needs_response", DisputeState::Opened(Some(usd(5000)))),
            ("under_review", DisputeState::Opened(Some(usd(5000)))),
            ("won", DisputeState::Won),
            ("prevented", DisputeState::Won),
            ("lost", DisputeState::Lost(usd(5000))),
        ] {
            let object = with(dispute_object(), json!({"status": status}));
            names_no_pledge(r#type, &object, vec![dispute_is(state)]);
        }
    }
}

#[test]
fn a_lost_dispute_whose_money_came_back_is_reinstated() {
    let lost = with(dispute_object(), json!({"status": "lost"}));
    let reinstated = || vec![dispute_is(DisputeState::Reinstated)];
    names_no_pledge("charge.dispute.funds_reinstated", &lost, reinstated());
    let won = with(dispute_object(), json!({"status": "won"}));
    names_no_pledge("charge.dispute.funds_reinstated", &won, vec![dispute_is(DisputeState::Won)]);

    let with_moves = |amounts: &[i64]| {
        let moves: Vec<_> =
            amounts.iter().map(|amount| json!({"amount": amount, "status": "pending"})).collect();
        with(lost.clone(), json!({"balance_transactions": moves}))
    };
    names_no_pledge("charge.dispute.updated", &with_moves(&[-5000, 5000]), reinstated());
    let still_lost = || vec![dispute_is(DisputeState::Lost(usd(5000)))];
    names_no_pledge("charge.dispute.updated", &with_moves(&[-5000]), still_lost());
    names_no_pledge("charge.dispute.updated", &with_moves(&[-5000, 2000]), still_lost());
}

#[test]
fn a_captured_charge_that_failed_is_looked_up() {
    let bounced = with(charge(), json!({"status": "failed", "paid": false}));
    names_no_pledge("charge.failed", &bounced, vec![]);
    says_nothing("charge.failed", &charge());
    for declined in [
        json!({"captured": false}),
        json!({"amount_captured": 0}),
        json!({"metadata": {}}),
        json!({"payment_intent": null}),
    ] {
        says_nothing("charge.failed", &with(bounced.clone(), declined));
    }
}

#[test]
fn a_payout_whose_payments_can_be_asked_for_is_looked_up() {
    let payout = json!({
        "id": "po_1OaFDbEcg9tTZuTgNYmX0PKB", "object": "payout", "amount": 1100, "automatic": true,
        "currency": "usd", "reconciliation_status": "completed", "status": "in_transit", "type": "bank_account",
    });
    let expected = Notice::Payout { payout_id: "po_1OaFDbEcg9tTZuTgNYmX0PKB".to_owned() };
    assert_eq!(read("payout.reconciliation_completed", &payout), Ok(expected));
    let long = with(payout, json!({"id": "x".repeat(201)}));
    assert_eq!(read("payout.reconciliation_completed", &long).unwrap_err().path, "data.object.id");
}

#[test]
fn other_types_are_ignored_whatever_they_carry() {
    for r#type in ["payout.paid", "balance.available", "checkout.session.expired", "x.y"] {
        says_nothing(r#type, &json!({"unexpected": [1, 2, 3]}));
    }
}

#[test]
fn errors_say_where() {
    let error =
        read("payment_intent.succeeded", &with(intent(), json!({"amount_received": "x"}))).unwrap_err();
    assert_eq!(error.path, "data.object.amount_received");
    let error = read("payment_intent.succeeded", &with(intent(), json!({"currency": "xxx"}))).unwrap_err();
    assert_eq!(error.path, "data.object");
    let no_time =
        json!({"id": "evt_1", "type": "x", "created": i64::MAX, "data": {"object": {}}}).to_string();
    assert_eq!(parse(no_time.as_bytes(), None).unwrap_err().path, "created");
    let error = parse(br#"{"id": "evt_1", "type": 1}"#, None).unwrap_err();
    assert_eq!(error.path, "type");
    let long = json!({"id": "x".repeat(201), "type": "x", "created": 0, "data": {"object": {}}}).to_string();
    assert_eq!(parse(long.as_bytes(), None).unwrap_err().path, "id");
}

#[test]
fn events_of_the_other_mode_or_of_another_account_say_nothing() {
    let event = |change: Value| {
        let event = json!({
            "id": "evt_1", "type": "checkout.session.completed", "created": CREATED, "livemode": true,
            "data": {"object": session()},
        });
        with(event, change).to_string()
    };
    let says_something = |change: Value, is_live: Option<bool>| {
        parse(event(change).as_bytes(), is_live).unwrap().notice != Notice::Ignored
    };
    assert!(says_something(json!({}), Some(true)));
    assert!(says_something(json!({"livemode": false}), Some(false)));
    assert!(!says_something(json!({"livemode": false}), Some(true)));
    assert!(!says_something(json!({}), Some(false)));
    assert!(!says_something(json!({"account": "acct_other"}), Some(true)));
    assert!(!says_something(json!({"account": "acct_other"}), None));
}

#[test]
fn what_was_reserved_and_not_taken_is_no_refund() {
    let made = |id: &str, amount: i64, created: i64| {
        json!({
            "id": id, "amount": amount, "currency": "usd", "payment_intent": INTENT, "status": "succeeded",
            "created": created, "metadata": {"pledge_id": PLEDGE},
        })
    };
    let refunded = |id: &str, amount: i64| refund(id, RefundState::Succeeded(usd(amount)));
    let charge = |refunds: Value| {
        json!({
            "id": "ch_1", "payment_intent": INTENT, "amount": 20_675, "amount_captured": 20_300,
            "amount_refunded": 375, "currency": "usd", "metadata": {"pledge_id": PLEDGE},
            "refunds": {"data": refunds, "has_more": false},
        })
    };
    let rest = made("re_rest", 375, 1);
    says_nothing("charge.refunded", &charge(json!([rest])));
    // A refund of as much, and another one, are refunds.
    says("charge.refunded", &charge(json!([made("re_2", 375, 2), rest])), refunded("re_2", 375));
    says("charge.refunded", &charge(json!([made("re_2", 100, 2), rest])), refunded("re_2", 100));
    let moved_nothing = with(rest.clone(), json!({"balance_transaction": null}));
    says_nothing("refund.created", &moved_nothing);
    let moved = with(rest, json!({"balance_transaction": "txn_1"}));
    says("refund.created", &moved, refunded("re_rest", 375));
}

/// What was captured before the rest was released stays captured.
#[test]
fn a_payment_that_is_canceled_after_a_part_was_taken_keeps_it() {
    let canceled = json!({
        "id": INTENT, "amount": 5000, "amount_received": 2000, "currency": "usd", "status": "canceled",
        "latest_charge": "ch_1", "cancellation_reason": "abandoned", "metadata": {"pledge_id": PLEDGE},
    });
    let fact = told(Stated::payment(Some(usd(2000)), Some(Over::Cancelled)));
    says("payment_intent.canceled", &canceled, fact);
}
