//! Every version of every event ever written has a golden file, and reads back from it.
//!
//! When an event's shape must change, its version is counted up, a step is added to the
//! upcasters, and a new file is added beside the old one, which stays. To write the file of a new
//! event or version, run with `UPDATE_SNAPSHOTS=1`; a file that exists is never overwritten.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Once;

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use domain::campaign::CampaignDetails;
use domain::payment::{DisputeState, Over, PaymentHistory, RefundState, ReversalState, Stated, Statement};
use domain::pledge::{Acceptance, Corrected, CorrectionNote, News, Settlement, UnappliedReason};
use domain::{
    CampaignEvent, CampaignId, DonorId, Event, Money, MoneyMove, PaymentId, PledgeEvent, PledgeId,
    PledgeStatus, UpcastTable, VersionedEvent,
};
use serde_json::{Value, json};
use uuid::Uuid;

/// Where the files are. Those that are missing are written first, if that is asked for.
fn folder() -> PathBuf {
    static WRITTEN: Once = Once::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        WRITTEN.call_once(|| write_missing(&folder));
    }
    folder
}

fn write_missing(folder: &Path) {
    for event in samples() {
        let path = folder.join(file_name(&event));
        if !path.exists() {
            std::fs::write(path, format!("{event:#}\n")).unwrap();
        }
    }
}

fn details() -> CampaignDetails {
    CampaignDetails {
        title: "Wells for Kitui".parse().unwrap(),
        description: Some("Clean water\nfor 300 families.".parse().unwrap()),
        goal: Money::new(1_000_000, "KES".parse().unwrap()).unwrap(),
        ends_at: Some(Utc.with_ymd_and_hms(2026, 12, 31, 23, 59, 59).unwrap()),
    }
}

fn campaign_events() -> Vec<CampaignEvent> {
    vec![
        CampaignEvent::CampaignCreated(details()),
        CampaignEvent::CampaignEdited(CampaignDetails { description: None, ends_at: None, ..details() }),
        CampaignEvent::CampaignPublished {},
        CampaignEvent::CampaignClosed {},
    ]
}

fn usd(amount_minor: i64) -> Money {
    Money::new(amount_minor, "USD".parse().unwrap()).unwrap()
}

/// So many hours after the pledge was made.
fn after(hours: i64) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 12, 1, 12, 0, 0).unwrap() + TimeDelta::hours(hours)
}

/// A statement of every kind, of one payment.
fn statements() -> Vec<Statement> {
    let refund = |state| Stated::refund("re_1".parse().unwrap(), state);
    let dispute = |state| Stated::dispute("dp_1".parse().unwrap(), state);
    let reversal = |state| Stated::reversal("pay_1".parse().unwrap(), state);
    vec![
        Statement::told(Stated::payment(None, None), after(1)).authorized(usd(5_000)),
        Statement::told(Stated::payment(Some(usd(2_000)), None), after(2)).happened_at(after(1)),
        Statement::told(Stated::payment(Some(usd(5_000)), Some(Over::Failed)), after(3)),
        Statement::answered(Stated::payment(None, Some(Over::Cancelled)), after(4)),
        Statement::told(refund(RefundState::Asked), after(5)),
        Statement::told(refund(RefundState::Succeeded(usd(1_000))), after(6)).happened_at(after(5)),
        Statement::told(refund(RefundState::Failed), after(7)),
        Statement::told(refund(RefundState::Cancelled), after(8)),
        Statement::told(dispute(DisputeState::Inquiry), after(9)),
        Statement::told(dispute(DisputeState::Opened(None)), after(10)),
        Statement::told(dispute(DisputeState::Opened(Some(usd(5_230)))), after(11)),
        Statement::told(dispute(DisputeState::Lost(usd(5_230))), after(12)),
        Statement::told(dispute(DisputeState::Won), after(13)),
        Statement::answered(dispute(DisputeState::Reinstated), after(14)).happened_at(after(13)),
        Statement::told(reversal(ReversalState::Gone(usd(4_000))), after(15)),
        Statement::told(reversal(ReversalState::Cancelled), after(16)),
    ]
}

/// What is newly known by some of these statements.
fn news(heard: std::ops::Range<usize>, moves: Vec<MoneyMove>) -> News {
    News { heard: statements()[heard].to_vec(), moves, ..News::default() }
}

fn moved(hours: i64) -> MoneyMove {
    MoneyMove::none(after(hours), usd(1).currency())
}

fn settlement() -> Settlement {
    Settlement { amount: usd(5_000), at: after(20) }
}

/// A refund that has failed since its second hour, by a person's word.
fn corrected() -> Corrected {
    let history = PaymentHistory::new(usd(1).currency(), after(0));
    let failed = Stated::refund("re_1".parse().unwrap(), RefundState::Failed);
    let correction = history.correction(failed, after(18), Some(after(2)), &statements()).unwrap();
    let note = CorrectionNote { correction_id: Uuid::from_u128(5), text_sha256: "5e".repeat(32) };
    Corrected { correction, note }
}

/// A refund, a dispute, a reversal, a correction and the settlement.
fn everything() -> News {
    News {
        heard: statements()[4..].to_vec(),
        corrected: vec![corrected()],
        settled: Some(settlement()),
        moves: vec![
            MoneyMove { refunded_minor: 1_000, ..moved(5) },
            MoneyMove { charged_back_minor: 4_000, loss_minor: 1_230, in_dispute_minor: -5_230, ..moved(12) },
            MoneyMove { reversed_minor: 4_000, charged_back_minor: -4_000, ..moved(15) },
            MoneyMove { settled_minor: 5_000, ..moved(20) },
        ],
    }
}

/// Together they tell of every kind of statement.
fn pledge_events() -> Vec<PledgeEvent> {
    let campaign_id = CampaignId(Uuid::from_u128(1));
    let donor_id = DonorId(Uuid::from_u128(2));
    let payment_id: PaymentId = "pay_1".parse().unwrap();
    let pay_1 = || payment_id.clone();
    let (amount, made_at) = (usd(5_000), after(0));
    let held = MoneyMove { unapplied_minor: 2_000, ..moved(1) };
    let settled = settlement();
    vec![
        PledgeEvent::PledgeCreated { campaign_id, donor_id, amount, anonymous: true, made_at },
        PledgeEvent::PledgeAmended { campaign_id, amount },
        PledgeEvent::PledgeAuthorized { campaign_id, payment_id: pay_1(), amount, news: news(0..1, vec![]) },
        PledgeEvent::PledgeCaptured {
            campaign_id,
            donor_id,
            payment_id: pay_1(),
            amount,
            accepted: Some(Acceptance { at: after(30), held_since: made_at }),
            news: news(
                0..3,
                vec![MoneyMove { gifts: 1, captured_minor: 5_000, unapplied_minor: -5_000, ..moved(30) }],
            ),
        },
        PledgeEvent::PledgeCompleted {
            campaign_id,
            donor_id,
            payment_id: pay_1(),
            amount,
            news: News {
                settled: Some(settled),
                moves: vec![MoneyMove { settled_minor: 5_000, ..moved(20) }],
                ..News::default()
            },
        },
        PledgeEvent::PledgeFailed {
            campaign_id,
            from: PledgeStatus::Authorized,
            payment_id: pay_1(),
            amount,
            reason: Some("card declined".parse().unwrap()),
            news: news(3..4, vec![]),
        },
        PledgeEvent::PledgeExpired { campaign_id, amount },
        PledgeEvent::PledgeCancelled { campaign_id, payment_id: pay_1(), amount },
        PledgeEvent::PaymentUnapplied {
            campaign_id,
            donor_id,
            payment_id: pay_1(),
            amount: usd(2_000),
            reason: UnappliedReason::NotNeeded,
            news: news(1..2, vec![held]),
        },
        PledgeEvent::PaymentRecorded {
            campaign_id,
            donor_id,
            payment_id: pay_1(),
            captured: Some(amount),
            news: everything(),
        },
        PledgeEvent::UnappliedAccepted {
            campaign_id,
            donor_id,
            payment_id: pay_1(),
            amount,
            accepted_as: PledgeId(Uuid::from_u128(3)),
        },
    ]
}

/// The stored form of an event, apart from where it stands.
fn stored<E: VersionedEvent>(aggregate_type: &str, event: &E) -> Value {
    json!({
        "aggregate_type": aggregate_type,
        "event_type": event.kind().name,
        "event_version": event.kind().version,
        "payload": event,
    })
}

fn samples() -> Vec<Value> {
    let campaigns = campaign_events().iter().map(|event| stored("campaign", event)).collect::<Vec<_>>();
    campaigns.into_iter().chain(pledge_events().iter().map(|event| stored("pledge", event))).collect()
}

fn file_name(event: &Value) -> String {
    format!("{}.v{}.json", event["event_type"].as_str().unwrap(), event["event_version"].as_str().unwrap())
}

#[test]
fn events_are_written_as_their_golden_files_say() {
    for event in samples() {
        let path = folder().join(file_name(&event));
        let golden =
            std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("{} is missing", path.display()));
        let golden: Value = serde_json::from_str(&golden).unwrap();
        assert_eq!(event, golden, "{} is written in another shape; count its version up", file_name(&event));
    }
}

#[test]
fn every_event_has_a_golden_file_of_its_version() {
    for kind in CampaignEvent::KINDS.iter().chain(PledgeEvent::KINDS) {
        let name = format!("{}.v{}.json", kind.name, kind.version);
        assert!(folder().join(&name).exists(), "{name} is missing");
    }
}

#[test]
fn every_golden_file_reads_back_and_is_written_again_as_the_current_version() {
    let id = Uuid::from_u128(9).to_string();
    let current: BTreeSet<String> = samples().iter().map(file_name).collect();
    let mut read = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let golden: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let text = |field: &str| golden[field].as_str().unwrap();
        let event = UpcastTable::CURRENT
            .decode(domain::StoredEvent {
                aggregate_type: text("aggregate_type"),
                aggregate_id: &id,
                event_type: text("event_type"),
                event_version: text("event_version"),
                payload: &golden["payload"].to_string(),
            })
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let again = match event {
            Event::Campaign(_, event) => stored("campaign", &event),
            Event::Pledge(_, event) => stored("pledge", &event),
        };
        assert!(current.contains(&file_name(&again)), "{}", path.display());
        if file_name(&again) == file_name(&golden) {
            assert_eq!(again, golden, "{} is not read as it is written", path.display());
        }
        read += 1;
    }
    assert!(read >= current.len(), "golden files are missing");
}

#[test]
fn what_is_not_known_is_an_error() {
    let campaign = json!({"CampaignClosed": {}}).to_string();
    let id = Uuid::from_u128(9).to_string();
    let known = domain::StoredEvent {
        aggregate_type: "campaign",
        aggregate_id: &id,
        event_type: "CampaignClosed",
        event_version: "1",
        payload: &campaign,
    };
    assert!(UpcastTable::CURRENT.decode(known).is_ok());
    for unknown in [
        domain::StoredEvent { aggregate_type: "saint", ..known },
        domain::StoredEvent { aggregate_id: "nine", ..known },
        domain::StoredEvent { event_type: "CampaignPublished", ..known },
        domain::StoredEvent { event_version: "2", ..known },
        domain::StoredEvent { payload: r#"{"CampaignBlessed":{}}"#, ..known },
        domain::StoredEvent { payload: "{", ..known },
    ] {
        assert!(UpcastTable::CURRENT.decode(unknown).is_err(), "{unknown:?}");
    }
}
