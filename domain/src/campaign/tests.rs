//! Given a state, when a command, then these events or that error: every cell.

use chrono::{TimeZone, Utc};

use super::*;
use crate::{Money, MoneyError, Rules};

fn at(hour: u32) -> chrono::DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 5, 1, hour, 0, 0).unwrap()
}

fn details(goal_minor: i64) -> CampaignDetails {
    CampaignDetails {
        title: "Wells for Kitui".parse().unwrap(),
        description: None,
        goal: Money::new(goal_minor, "USD".parse().unwrap()).unwrap(),
        ends_at: Some(at(12)),
    }
}

fn given(events: Vec<CampaignEvent>) -> Campaign {
    events.into_iter().fold(Campaign::default(), |state, event| {
        assert!(state.allows(&event), "{state:?} {event:?}");
        state.evolve(event)
    })
}

fn draft() -> Campaign {
    given(vec![CampaignEvent::CampaignCreated(details(100))])
}

fn published() -> Campaign {
    given(vec![CampaignEvent::CampaignCreated(details(100)), CampaignEvent::CampaignPublished {}])
}

fn closed() -> Campaign {
    published().evolve(CampaignEvent::CampaignClosed {})
}

#[test]
fn every_command_in_every_state() {
    use CampaignCommand::{Close, Create, Edit, Publish};
    use CampaignError::{AlreadyExists, NotADraft, NotFound, NotPublished};
    use CampaignEvent::{CampaignClosed, CampaignCreated, CampaignEdited, CampaignPublished};
    let publish = || Publish { now: at(8) };
    let edit = || Edit(CampaignEdit { goal: Some(details(5).goal), ..CampaignEdit::default() });

    let table = [
        (Campaign::Absent, Create(details(100)), Ok(vec![CampaignCreated(details(100))])),
        (Campaign::Absent, edit(), Err(NotFound)),
        (Campaign::Absent, publish(), Err(NotFound)),
        (Campaign::Absent, Close, Err(NotFound)),
        (draft(), Create(details(100)), Err(AlreadyExists)),
        (draft(), edit(), Ok(vec![CampaignEdited(details(5))])),
        (draft(), Edit(CampaignEdit::default()), Ok(vec![])),
        (draft(), publish(), Ok(vec![CampaignPublished {}])),
        (draft(), Publish { now: at(12) }, Err(CampaignError::Ended(at(12)))),
        (draft(), Close, Err(NotPublished)),
        (published(), Create(details(100)), Err(AlreadyExists)),
        (published(), edit(), Err(NotADraft(CampaignStatus::Published))),
        (published(), publish(), Ok(vec![])),
        (published(), Close, Ok(vec![CampaignClosed {}])),
        (closed(), Create(details(100)), Err(AlreadyExists)),
        (closed(), edit(), Err(NotADraft(CampaignStatus::Closed))),
        (closed(), publish(), Err(CampaignError::Closed)),
        (closed(), Close, Ok(vec![])),
    ];
    for (state, command, expected) in table {
        assert_eq!(state.decide(&command), expected, "{state:?} {command:?}");
    }
}

#[test]
fn an_edit_changes_what_it_names_and_clears_what_it_says_is_gone() {
    let edit =
        CampaignEdit { title: Some("New".parse().unwrap()), ends_at: Some(None), ..Default::default() };
    let edited = edit.apply_to(&details(100));
    assert_eq!(edited.title.as_str(), "New");
    assert_eq!(edited.ends_at, None);
    assert_eq!(edited.goal, details(100).goal);
}

#[test]
fn pledges_are_taken_while_published_and_in_its_currency() {
    let usd = Money::new(10, "USD".parse().unwrap()).unwrap();
    let eur = Money::new(10, "EUR".parse().unwrap()).unwrap();
    assert_eq!(Campaign::Absent.accepts(usd, at(8)), Err(CampaignError::NotFound));
    assert_eq!(draft().accepts(usd, at(8)), Err(CampaignError::NotOpen));
    assert_eq!(published().accepts(usd, at(8)), Ok(()));
    assert_eq!(published().accepts(usd, at(12)), Err(CampaignError::Ended(at(12))));
    assert_eq!(
        published().accepts(eur, at(8)),
        Err(CampaignError::Currency(MoneyError::CurrencyMismatch {
            expected: usd.currency(),
            found: eur.currency()
        }))
    );
    assert_eq!(closed().accepts(usd, at(8)), Err(CampaignError::Closed));
}

#[test]
fn the_edges_are_draft_published_closed() {
    let events = [
        CampaignEvent::CampaignCreated(details(1)),
        CampaignEvent::CampaignEdited(details(2)),
        CampaignEvent::CampaignPublished {},
        CampaignEvent::CampaignClosed {},
    ];
    let allowed = |state: Campaign| events.clone().map(|event| state.allows(&event));
    assert_eq!(allowed(Campaign::Absent), [true, false, false, false]);
    assert_eq!(allowed(draft()), [false, true, true, false]);
    assert_eq!(allowed(published()), [false, false, false, true]);
    assert_eq!(allowed(closed()), [false, false, false, false]);
}

#[tokio::test]
async fn the_bridge_to_cqrs_es_says_the_same() {
    cqrs_es::test::TestFramework::<Campaign>::with(())
        .given(vec![CampaignEvent::CampaignCreated(details(100))])
        .when_async(CampaignCommand::Publish { now: at(8) })
        .await
        .then_expect_events(vec![CampaignEvent::CampaignPublished {}]);
}
