//! Every version of every event ever written has a golden file, and reads back from it.
//!
//! When an event's shape must change, its version is counted up, a step is added to the
//! upcasters, and a new file is added beside the old one, which stays. To write the file of a new
//! event or version, run with `UPDATE_SNAPSHOTS=1`; a file that exists is never overwritten.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Once;

use chrono::{TimeZone, Utc};
use domain::campaign::CampaignDetails;
use domain::pledge::UnappliedReason;
use domain::{
    CampaignEvent, CampaignId, DonorId, Event, Money, MoneyHeld, PledgeEvent, PledgeId, PledgeStatus,
    UpcastTable, VersionedEvent,
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

fn pledge_events() -> Vec<PledgeEvent> {
    let campaign_id = CampaignId(Uuid::from_u128(1));
    let donor_id = DonorId(Uuid::from_u128(2));
    let payment_id = || "pay_1".parse().unwrap();
    let dispute_id = || "dp_1".parse().unwrap();
    let held = MoneyHeld::Raised;
    let amount = Money::new(5_000, "USD".parse().unwrap()).unwrap();
    vec![
        PledgeEvent::PledgeCreated { campaign_id, donor_id, amount, anonymous: true },
        PledgeEvent::PledgeAmended { campaign_id, amount },
        PledgeEvent::PledgeAuthorized { campaign_id, payment_id: payment_id(), amount },
        PledgeEvent::PledgeCaptured {
            campaign_id,
            donor_id,
            payment_id: payment_id(),
            amount,
            was_unapplied: false,
        },
        PledgeEvent::PledgeCompleted { campaign_id, payment_id: payment_id(), amount },
        PledgeEvent::PledgeFailed {
            campaign_id,
            from: PledgeStatus::Authorized,
            payment_id: payment_id(),
            amount,
            reason: Some("card declined".parse().unwrap()),
        },
        PledgeEvent::PledgeExpired { campaign_id, amount },
        PledgeEvent::PledgeCancelled { campaign_id, payment_id: payment_id(), amount },
        PledgeEvent::PaymentUnapplied {
            campaign_id,
            donor_id,
            payment_id: payment_id(),
            amount,
            reason: UnappliedReason::NotNeeded,
        },
        PledgeEvent::PaymentRefunded {
            campaign_id,
            donor_id,
            payment_id: payment_id(),
            refund_id: "re_1".parse().unwrap(),
            amount,
            held: MoneyHeld::Unapplied,
        },
        PledgeEvent::PaymentDisputed {
            campaign_id,
            donor_id,
            payment_id: payment_id(),
            dispute_id: dispute_id(),
            amount,
            held,
        },
        PledgeEvent::DisputeWon {
            campaign_id,
            donor_id,
            payment_id: payment_id(),
            dispute_id: dispute_id(),
            amount,
            held,
        },
        PledgeEvent::DisputeLost {
            campaign_id,
            donor_id,
            payment_id: payment_id(),
            dispute_id: dispute_id(),
            amount,
            held,
        },
        PledgeEvent::UnappliedAccepted {
            campaign_id,
            donor_id,
            payment_id: payment_id(),
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
