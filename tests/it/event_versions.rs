//! Events of the past, carried step by step into the shape of today, among events of today.

use std::sync::Arc;

use careforall_tests::upcasts::{STEPS, reader};
use careforall_tests::{TestApp, all_folded, assert_books_agree, replay, replay_by};
use chrono::Utc;
use domain::payment::{Stated, Statement};
use domain::pledge::Settlement;
use domain::{Event, PaymentFact, Pledge, PledgeCommand, PledgeEvent, UpcastTable};
use event_store::{
    Append, Condition, EventReader, ExecuteError, Ledger, LoadError, Metadata, NewEvent, StreamEvents,
};
use payments::Providers;
use payments::sandbox::Sandbox;
use read_model::RedisTotals;
use serde_json::Value;
use service::Shutdown;
use sqlx::PgPool;
use uuid::Uuid;

/// In the shapes in which they were written, with the spaces that nobody writes any more.
fn bodies(campaign: Uuid) -> [(&'static str, String); 3] {
    let field = format!(r#""campaign_id": "{campaign}""#);
    [
        ("1", format!(r#"{{"PledgeChanged": {{{field}, "cents": 4100, "currency": "USD"}}}}"#)),
        ("2", format!(r#"{{"PledgeChanged": {{{field}, "amount_minor": 4200, "currency": "USD"}}}}"#)),
        (
            "3",
            format!(
                r#"{{"PledgeChanged": {{{field}, "money": {{"amount_minor": 4300, "currency": "USD"}}}}}}"#
            ),
        ),
    ]
}

async fn append(ledger: &Ledger, pledge: Uuid, version: &str, payload: &str) {
    let event = NewEvent {
        event_type: "PledgeChanged".to_owned(),
        event_version: version.to_owned(),
        payload: payload.to_owned(),
        metadata: "{}".to_owned(),
        claim: None,
    };
    let stream = Condition { aggregate_type: "pledge", aggregate_id: pledge, sequence: 1 };
    let streams = vec![StreamEvents { stream, events: vec![event], donor: None }];
    ledger.append(Append { command_id: Uuid::new_v4(), streams, conditions: vec![] }).await.unwrap();
}

/// A system at rest with three pledges, each of which was changed in a shape of the past.
struct Past {
    app: TestApp,
    pool: PgPool,
    campaign: Uuid,
    pledges: Vec<Uuid>,
    ledger: Ledger,
}

async fn past() -> Past {
    let mut app = TestApp::start().await;
    let campaign = app.campaign().await;
    let mut pledges = Vec::new();
    for donor in ["ada@example.org", "bob@example.org", "eve@example.org"] {
        pledges.push(app.pledge(campaign, 5000, donor).await);
    }
    all_folded(&app.pool).await;
    app.stop().await;
    let pool = PgPool::connect(&app.database_url).await.unwrap();
    let ledger = Ledger::start_with(pool.clone(), UpcastTable(STEPS));
    for (pledge, (version, payload)) in pledges.iter().zip(bodies(campaign)) {
        append(&ledger, *pledge, version, &payload).await;
    }
    // And on with events of today.
    let amount = domain::Money::new(4200, "USD".parse().unwrap()).unwrap();
    let captured = Statement::told(Stated::payment(Some(amount), None), Utc::now());
    let captured = PledgeCommand::record(PaymentFact::stated("pay_1".parse().unwrap(), captured), Utc::now());
    ledger.execute::<Pledge>(pledges[1], &captured, &Metadata::default()).await.unwrap();
    let settlement = Settlement { amount, at: Utc::now() };
    let settled =
        PledgeCommand::record(PaymentFact::settled("pay_1".parse().unwrap(), settlement), Utc::now());
    ledger.execute::<Pledge>(pledges[1], &settled, &Metadata::default()).await.unwrap();
    ledger.execute::<Pledge>(pledges[2], &PledgeCommand::Expire, &Metadata::default()).await.unwrap();
    Past { app, pool, campaign, pledges, ledger }
}

impl Past {
    /// Projectors that read by the tests' table, until they are at the end of the ledger.
    async fn project(&self) {
        let sandbox = Sandbox::new("http://127.0.0.1:9".parse().unwrap(), "key".to_owned(), vec![]).unwrap();
        let ledger_id = read_model::ledger_id(&self.pool).await.unwrap();
        let config = projectors::Config {
            pool: self.pool.clone(),
            reader: reader(),
            redis: RedisTotals::open(&self.app.redis_url, ledger_id).unwrap(),
            providers: Providers::new(Arc::new(sandbox), vec![]),
        };
        let shutdown = Shutdown::new();
        let workers = tokio::spawn(projectors::run_workers(config, shutdown.clone()));
        assert_books_agree(&self.pool).await;
        shutdown.cancel();
        workers.await.unwrap();
    }

    async fn replay(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let places = ["--database-url", self.app.database_url.as_str(), "--redis-url", &self.app.redis_url];
        replay_by("replay-of-versions", &[&places[..], arguments].concat()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_versions_of_an_event_are_read_as_one_of_today() {
    let past = past().await;
    let events = reader().read_after(&past.pool, 0, 100).await.unwrap();
    let changed: Vec<_> = events.iter().filter(|event| event.event_type == "PledgeChanged").collect();
    let amounts = changed.iter().map(|recorded| match &recorded.event {
        Event::Pledge(_, PledgeEvent::PledgeAmended { amount, .. }) => amount.amount_minor(),
        other => panic!("{other:?}"),
    });
    assert_eq!(amounts.collect::<Vec<_>>(), [4100, 4200, 4300]);
    // The settlement and the end, which follow, were decided on the changed amounts.
    assert_eq!(events.last().unwrap().event_type, "PledgeExpired");
    assert_eq!(events.len(), 2 + 3 + 3 + 3 + 1);

    let (first, second) = (past.pledges[0], past.pledges[1]);
    let loaded = past.ledger.load_many::<Pledge>(&past.pledges).await.unwrap();
    assert_eq!(loaded[&first].as_ref().unwrap().aggregate.record().unwrap().amount.amount_minor(), 4100);
    let one = past.ledger.load::<Pledge>(second).await.unwrap();
    assert_eq!((one.sequence, one.aggregate.record().unwrap().amount.amount_minor()), (5, 4200));
}

/// Without a step, or without the table, nothing is guessed.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_is_left_out_stops_the_reader() {
    let past = past().await;
    for steps in [&STEPS[..0], &STEPS[..2], &STEPS[1..]] {
        let refused = EventReader::new(UpcastTable(steps)).read_after(&past.pool, 5, 100).await.unwrap_err();
        assert!(refused.to_string().contains("position 6 cannot be understood"), "{refused}");
    }
    let programs = Ledger::start(past.pool.clone());
    let amend = PledgeCommand::Expire;
    let refused =
        programs.execute::<Pledge>(past.pledges[0], &amend, &Metadata::default()).await.unwrap_err();
    assert!(matches!(refused, ExecuteError::Load(LoadError::Decode(_))), "{refused:?}");
    let (code, said) = replay(&["--database-url", &past.app.database_url, "verify"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("position 6 cannot be understood"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_the_past_are_projected_verified_shown_and_exported() {
    let past = past().await;
    past.project().await;
    let amounts: Vec<(Uuid, i64, String)> =
        sqlx::query_as("select pledge_id, amount_minor, status from pledges order by amount_minor")
            .fetch_all(&past.pool)
            .await
            .unwrap();
    let expected = past.pledges.iter().zip([(4100, "pending"), (4200, "completed"), (4300, "expired")]);
    let expected: Vec<_> = expected.map(|(id, (amount, status))| (*id, amount, status.to_owned())).collect();
    assert_eq!(amounts, expected);

    let (code, said) = past.replay(&["verify"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("all is well"), "{said}");

    let (code, said) = past.replay(&["--json", "show", "pledge", &past.pledges[0].to_string()]).await;
    assert_eq!(code, Some(0), "{said}");
    let shown: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(shown["events"][1]["event_type"], "PledgeChanged");
    assert_eq!(shown["events"][1]["payload"]["PledgeAmended"]["amount"]["amount_minor"], 4100);

    let (code, said) = past.replay(&["export"]).await;
    assert_eq!(code, Some(0), "{said}");
    for (version, payload) in bodies(past.campaign) {
        let stored = format!(r#""event_version":"{version}","payload":{payload}"#);
        assert!(said.contains(&stored), "{stored} is not in {said}");
    }
}
