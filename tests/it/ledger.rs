//! The event store, over real Postgres.

use std::convert::Infallible;
use std::sync::Arc;

use careforall_tests::fresh_database;
use chrono::Utc;
use cqrs_es::persist::PersistedEventStore;
use cqrs_es::{AggregateError, CqrsFramework, EventStore};
use domain::campaign::CampaignDetails;
use domain::payment::{Stated, Statement};
use domain::{
    Campaign, CampaignCommand, CampaignId, DonorId, EventKind, Money, PaymentFact, Pledge, PledgeCommand,
    PledgeError, PledgeEvent, Rules, VersionedEvent,
};
use event_store::{
    Append, AppendError, Condition, EventReader, ExecuteError, Ledger, LedgerRepository, Metadata, NewEvent,
    PledgeDonor, StreamEvents, pledge_of_payment,
};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use uuid::Uuid;

async fn ledger() -> Ledger {
    Ledger::start(PgPool::connect(&fresh_database().await).await.unwrap())
}

fn details(title: &str) -> CampaignDetails {
    CampaignDetails {
        title: title.parse().unwrap(),
        description: None,
        goal: Money::new(100, "USD".parse().unwrap()).unwrap(),
        ends_at: None,
    }
}

fn create_pledge() -> PledgeCommand {
    PledgeCommand::Create {
        campaign_id: CampaignId(Uuid::nil()),
        donor_id: DonorId(Uuid::nil()),
        amount: Money::new(100, "USD".parse().unwrap()).unwrap(),
        anonymous: false,
        made_at: Utc::now(),
    }
}

fn append(id: Uuid, sequence: i64, event_type: &str) -> Append {
    let command_id = Uuid::new_v4();
    let event = NewEvent {
        event_type: event_type.to_owned(),
        event_version: "1".to_owned(),
        payload: "{}".to_owned(),
        metadata: format!(r#"{{"command_id":"{command_id}"}}"#),
        claim: None,
    };
    let stream = Condition { aggregate_type: "thing", aggregate_id: id, sequence };
    let streams = vec![StreamEvents { stream, events: vec![event], donor: None }];
    Append { command_id, streams, conditions: vec![] }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_and_a_conflict_fail_none_of_their_neighbours() {
    let ledger = ledger().await;
    let taken = Uuid::new_v4();
    ledger.append(append(taken, 0, "First")).await.unwrap();
    let too_long = "x".repeat(101);
    // All are handed in before any is written, so they share batches.
    let mut commands: Vec<Append> = (0..40).map(|_| append(Uuid::new_v4(), 0, "Good")).collect();
    commands.insert(7, append(taken, 0, "Conflict"));
    commands.insert(20, append(Uuid::new_v4(), 0, &too_long));
    let outcomes = join_all(commands.into_iter().map(|command| ledger.append(command))).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        match n {
            7 => assert!(matches!(outcome, Err(AppendError::Conflict)), "{outcome:?}"),
            20 => assert!(matches!(outcome, Err(AppendError::Refused(_))), "{outcome:?}"),
            _ => assert!(outcome.is_ok(), "{n}: {outcome:?}"),
        }
    }
    assert_eq!(event_store::head(ledger.pool()).await.unwrap(), 41);
}

/// A JSON string of `bytes` bytes, quotes included.
fn json_of(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

/// An append of one event with a donor, some part of which is as long as the number says.
type OfLength = fn(usize, &mut NewEvent, &mut PledgeDonor);

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_takes_texts_up_to_their_limits_and_nothing_longer() {
    let ledger = ledger().await;
    let limits: [(&str, usize, OfLength); 7] = [
        ("type", 100, |n, event, _| event.event_type = "ü".repeat(n)),
        ("version", 20, |n, event, _| event.event_version = "1".repeat(n)),
        ("payload", 65_536, |n, event, _| event.payload = json_of(n)),
        ("metadata", 8_192, |n, event, _| event.metadata = json_of(n)),
        ("name", 200, |n, _, donor| donor.name = Some("ü".repeat(n))),
        ("address", 320, |n, _, donor| donor.email = "x".repeat(n)),
        ("message", 2_000, |n, _, donor| donor.message = Some("ü".repeat(n))),
    ];
    for (what, limit, of_length) in limits {
        for length in [limit, limit + 1] {
            let mut command = append(Uuid::new_v4(), 0, "Made");
            let email = "ada@example.org".to_owned();
            let mut donor = PledgeDonor { donor_id: Uuid::new_v4(), name: None, email, message: None };
            of_length(length, &mut command.streams[0].events[0], &mut donor);
            command.streams[0].donor = Some(Arc::new(donor));
            match ledger.append(command).await {
                Ok(_) => assert_eq!(length, limit, "{what}"),
                Err(error) => {
                    assert!(matches!(error, AppendError::Refused(_)) && length > limit, "{what}: {error}")
                }
            }
        }
    }
    let before_the_first = ledger.append(append(Uuid::new_v4(), -1, "Made")).await;
    assert!(matches!(before_the_first, Err(AppendError::Refused(_))), "{before_the_first:?}");
    assert_eq!(event_store::head(ledger.pool()).await.unwrap(), limits.len() as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn personal_data_stands_at_its_own_event_whatever_else_is_in_the_batch() {
    let ledger = ledger().await;
    let taken = Uuid::new_v4();
    ledger.append(append(taken, 0, "First")).await.unwrap();
    let of_a_donor = |id: Uuid| {
        let mut command = append(id, 0, "Made");
        let email = format!("{id}@example.org");
        let donor = PledgeDonor { donor_id: Uuid::new_v4(), name: None, email, message: None };
        command.streams[0].donor = Some(Arc::new(donor));
        command
    };
    let mut commands: Vec<Append> = (0..40).map(|_| of_a_donor(Uuid::new_v4())).collect();
    let mut on_two_streams = append(Uuid::new_v4(), 0, "Without");
    on_two_streams.streams.extend(of_a_donor(Uuid::new_v4()).streams);
    commands.insert(10, on_two_streams);
    commands.insert(20, of_a_donor(taken));
    let outcomes = join_all(commands.into_iter().map(|command| ledger.append(command))).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.is_err(), n == 20, "{n}: {outcome:?}");
    }
    let kept: Vec<(String, String)> =
        sqlx::query_as("select e.aggregate_id, d.email from pledge_donors d join events e using (position)")
            .fetch_all(ledger.pool())
            .await
            .unwrap();
    assert_eq!(kept.len(), 41);
    for (id, email) in kept {
        assert_eq!(email, format!("{id}@example.org"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_all_or_nothing_and_two_on_one_stream_do_not_both_win() {
    let ledger = ledger().await;
    let id = Uuid::new_v4();
    let mut two_events = append(id, 0, "One");
    let again = two_events.streams[0].events[0].clone();
    two_events.streams[0].events.push(again);
    let appended = ledger.append(two_events).await.unwrap();
    assert_eq!(appended.position, 2);
    let rivals = join_all((0..10).map(|_| ledger.append(append(id, 2, "Rival")))).await;
    assert_eq!(rivals.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(event_store::head(ledger.pool()).await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_repeated_after_a_lost_reply_learns_that_it_succeeded() {
    let ledger = ledger().await;
    let command = append(Uuid::new_v4(), 0, "Once");
    let first = ledger.append(command.clone()).await.unwrap();
    ledger.append(append(Uuid::new_v4(), 0, "Between")).await.unwrap();
    let again = ledger.append(command).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(event_store::head(ledger.pool()).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_on_another_stream_holds_in_the_append_itself() {
    let ledger = ledger().await;
    let campaign = Uuid::new_v4();
    let create = CampaignCommand::Create(details("Wells"));
    ledger.create::<Campaign>(campaign, &create, vec![], &Metadata::default(), None).await.unwrap();
    let seen = Condition { aggregate_type: Campaign::TYPE, aggregate_id: campaign, sequence: 1 };
    let pledge = async || {
        let (id, conditions) = (Uuid::new_v4(), vec![seen.clone()]);
        ledger.create::<Pledge>(id, &create_pledge(), conditions, &Metadata::default(), None).await
    };
    pledge().await.unwrap();
    let publish = CampaignCommand::Publish { now: chrono::Utc::now() };
    ledger.execute::<Campaign>(campaign, &publish, &Metadata::default()).await.unwrap();
    let late = pledge().await;
    assert!(matches!(late, Err(ExecuteError::Append(AppendError::Conflict))), "{late:?}");
}

fn amend(amount_minor: i64) -> PledgeCommand {
    PledgeCommand::Amend { amount: Money::new(amount_minor, "USD".parse().unwrap()).unwrap() }
}

/// Three processes, each with a queue and a memory of its own.
async fn three_processes() -> [Ledger; 3] {
    let url = fresh_database().await;
    let start = async || Ledger::start(PgPool::connect(&url).await.unwrap());
    [start().await, start().await, start().await]
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_meet_are_decided_again() {
    let processes = three_processes().await;
    let id = Uuid::new_v4();
    processes[0].create::<Pledge>(id, &create_pledge(), vec![], &Metadata::default(), None).await.unwrap();
    // At most three of them meet at a time, because those of one process take turns.
    let amended = join_all((0..30).map(|n| {
        let ledger = processes[n % 3].clone();
        async move { ledger.execute::<Pledge>(id, &amend(200 + n as i64), &Metadata::default()).await }
    }))
    .await;
    let done = amended.iter().filter(|outcome| outcome.is_ok()).count();
    let lost =
        amended.iter().filter(|outcome| matches!(outcome, Err(ExecuteError::Append(AppendError::Conflict))));
    assert_eq!(done + lost.count(), 30, "{amended:?}");
    assert!(done >= 10, "whoever meets another one wins, or tries again: {amended:?}");
    let events = processes[0].read_stream::<Pledge>(id).await.unwrap();
    let sequences: Vec<i64> = events.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, (1..=done as i64 + 1).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_one_process_on_one_aggregate_never_meet() {
    let ledger = ledger().await;
    let id = Uuid::new_v4();
    ledger.create::<Pledge>(id, &create_pledge(), vec![], &Metadata::default(), None).await.unwrap();
    let amended = join_all((0..50).map(|n| {
        let ledger = ledger.clone();
        async move { ledger.execute::<Pledge>(id, &amend(200 + n), &Metadata::default()).await }
    }))
    .await;
    assert!(amended.iter().all(Result::is_ok), "{amended:?}");
    assert_eq!(event_store::head(ledger.pool()).await.unwrap(), 51);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_remembers_never_answers_for_the_ledger() {
    let [one, other, _] = three_processes().await;
    let id = Uuid::new_v4();
    one.create::<Pledge>(id, &create_pledge(), vec![], &Metadata::default(), None).await.unwrap();
    one.execute::<Pledge>(id, &amend(200), &Metadata::default()).await.unwrap();
    // The other process moves on behind the first one's back, which still remembers 200.
    other.execute::<Pledge>(id, &amend(300), &Metadata::default()).await.unwrap();
    let back = one.execute::<Pledge>(id, &amend(200), &Metadata::default()).await.unwrap();
    assert_eq!(back.events.len(), 1, "300 became 200 again");
    other.execute::<Pledge>(id, &PledgeCommand::Expire, &Metadata::default()).await.unwrap();
    let refused = one.execute::<Pledge>(id, &amend(400), &Metadata::default()).await;
    assert!(matches!(refused, Err(ExecuteError::Rule(PledgeError::NotPending(_)))), "{refused:?}");
}

/// An aggregate whose every decision is overtaken by another process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Overtaken;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Step;

impl VersionedEvent for Step {
    const KINDS: &'static [EventKind] = &[EventKind { name: "Step", version: "1" }];

    fn kind(&self) -> EventKind {
        Self::KINDS[0]
    }
}

impl Rules for Overtaken {
    const TYPE: &'static str = "overtaken";
    type Command = (Ledger, Uuid);
    type Event = Step;
    type Error = Infallible;

    fn decide(&self, (ledger, id): &(Ledger, Uuid)) -> Result<Vec<Step>, Infallible> {
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let head = event_store::head(ledger.pool()).await.unwrap();
                let stream = Condition { aggregate_type: Self::TYPE, aggregate_id: *id, sequence: head };
                let mut step = append(*id, head, "Step");
                step.streams[0].stream = stream;
                step.streams[0].events[0].payload = "null".to_owned();
                ledger.append(step).await.unwrap();
            });
        });
        Ok(vec![Step])
    }

    fn evolve(self, Step: Step) -> Self {
        self
    }

    fn allows(&self, Step: &Step) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_always_overtaken_gives_up_after_three_retries() {
    let [one, other, _] = three_processes().await;
    let id = Uuid::new_v4();
    let lost = one.execute::<Overtaken>(id, &(other, id), &Metadata::default()).await;
    assert!(matches!(lost, Err(ExecuteError::Append(AppendError::Conflict))), "{lost:?}");
    // One decision, three retries; each was overtaken by one event.
    assert_eq!(event_store::head(one.pool()).await.unwrap(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn cqrs_es_works_over_the_ledger() {
    let ledger = ledger().await;
    let store = PersistedEventStore::<_, Campaign>::new_event_store(LedgerRepository::new(ledger.clone()));
    let framework = CqrsFramework::new(store, vec![], ());
    let id = Uuid::new_v4().to_string();
    framework.execute(&id, CampaignCommand::Create(details("Wells"))).await.unwrap();
    framework.execute(&id, CampaignCommand::Publish { now: chrono::Utc::now() }).await.unwrap();
    let refused = framework.execute(&id, CampaignCommand::Create(details("Wells"))).await;
    assert!(matches!(refused, Err(AggregateError::UserError(_))), "{refused:?}");

    let store = PersistedEventStore::<_, Campaign>::new_event_store(LedgerRepository::new(ledger.clone()));
    let loaded = store.load_events(&id).await.unwrap();
    assert_eq!(loaded.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1, 2]);
    let executed = ledger
        .execute::<Campaign>(id.parse().unwrap(), &CampaignCommand::Close, &Metadata::default())
        .await
        .unwrap();
    assert_eq!((executed.position, executed.events.len()), (3, 1));
}

/// Output of psql for some statements.
async fn psql(url: &str, statements: &[String]) -> String {
    let mut psql = tokio::process::Command::new("psql");
    psql.args(["--no-psqlrc", "--set=ON_ERROR_STOP=1", url]);
    for statement in statements {
        psql.args(["--command", statement]);
    }
    let output = psql.output().await.expect("psql runs");
    assert!(!output.status.success(), "{statements:?} was not refused");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_aggregates_are_loaded_by_one_read() {
    let ledger = ledger().await;
    let (made, absent, broken) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    for id in [made, broken] {
        ledger.create::<Pledge>(id, &create_pledge(), vec![], &Metadata::default(), None).await.unwrap();
    }
    let (campaign_id, amount) = (CampaignId(Uuid::nil()), Money::new(200, "USD".parse().unwrap()).unwrap());
    let expired = PledgeEvent::PledgeExpired { campaign_id, amount };
    let named = |name: &str| Metadata { webhook_id: Some(name.to_owned()), ..Metadata::default() };
    let amended = PledgeEvent::PledgeAmended { campaign_id, amount };
    let events = [(amended, named("msg_1")), (expired, named("msg_2"))];
    ledger.append_events::<Pledge>(made, 1, &events).await.unwrap();
    let conflict = ledger.append_events::<Pledge>(made, 1, &events).await;
    assert!(matches!(conflict, Err(AppendError::Conflict)), "{conflict:?}");
    let mut unknown = append(broken, 1, "Unknown");
    unknown.streams[0].stream.aggregate_type = Pledge::TYPE;
    ledger.append(unknown).await.unwrap();

    let loaded = ledger.load_many::<Pledge>(&[made, absent, broken]).await.unwrap();
    let same = ledger.load::<Pledge>(made).await.unwrap();
    let many = loaded[&made].as_ref().unwrap();
    assert_eq!((&many.aggregate, many.sequence), (&same.aggregate, 3));
    let absent = loaded[&absent].as_ref().unwrap();
    assert_eq!((&absent.aggregate, absent.sequence), (&Pledge::Absent, 0));
    assert!(loaded[&broken].is_err());
    let stored = ledger.read_stream::<Pledge>(made).await.unwrap();
    let messages: Vec<_> = stored.iter().map(|e| e.metadata().webhook_id).collect();
    assert_eq!(messages, [None, Some("msg_1".to_owned()), Some("msg_2".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_append_only() {
    let url = fresh_database().await;
    let ledger = Ledger::start(PgPool::connect(&url).await.unwrap());
    ledger.append(append(Uuid::new_v4(), 0, "Fact")).await.unwrap();
    for statement in ["update events set event_type = 'Lie'", "delete from events", "truncate events"] {
        // The owner is refused by the trigger, everybody else for want of the right.
        let refused = psql(&url, &[statement.to_owned()]).await;
        assert!(refused.contains("append-only"), "{statement}: {refused}");
        for role in ["writer", "projector", "reader", "auditor", "sandbox"] {
            let become_role = format!("set role careforall_{role}");
            let refused = psql(&url, &[become_role, statement.to_owned()]).await;
            assert!(refused.contains("permission denied"), "{role} {statement}: {refused}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_has_the_rights_it_needs_and_no_more() {
    let pool = PgPool::connect(&fresh_database().await).await.unwrap();
    let may = async |role: &str, statement: &str| {
        let mut session = pool.acquire().await.unwrap().detach();
        sqlx::query(&format!("set role careforall_{role}")).execute(&mut session).await.unwrap();
        match sqlx::query(statement).execute(&mut session).await {
            Ok(_) => true,
            Err(error) if error.to_string().contains("permission denied") => false,
            Err(error) => panic!("{role}: {statement}: {error}"),
        }
    };
    let insert_event = "insert into events select 1, 't', 'i', 1, 'e', '1', '{}', '{}', now()";
    let rights = [
        ("select * from events", ["writer", "projector", "auditor"].as_slice()),
        (insert_event, &[]),
        ("update ledger_head set position = 9", &[]),
        ("select id_key from ledger_identity", &["writer"]),
        ("select ledger_id from ledger_identity", &["writer", "projector", "reader", "auditor"]),
        ("select email from pledge_donors", &[]),
        ("select name from pledge_donors", &["reader"]),
        ("select * from pledge_donor_of(gen_random_uuid())", &["writer"]),
        ("update payment_sessions set ended_at = now()", &["writer"]),
        ("select pledge_id, status, created_at from pledges", &["writer", "projector", "reader", "auditor"]),
        ("select donor_id from pledges", &["projector", "reader", "auditor"]),
        ("select * from webhook_inbox", &["writer", "auditor"]),
        ("delete from webhook_inbox", &[]),
        ("select * from webhook_inbox_claim(1, 1)", &["writer"]),
        ("select * from webhook_inbox_prune(0, 8000000, 1)", &["writer"]),
        ("select * from webhook_inbox_acts", &["writer", "auditor"]),
        ("update webhook_inbox_acts set acted_by = 'me'", &[]),
        ("select * from campaign_totals", &["projector", "reader", "auditor"]),
        ("update campaign_totals set raised_minor = 9", &["projector"]),
        ("select * from sandbox.sessions", &["sandbox"]),
    ];
    for (statement, allowed) in rights {
        for role in ["writer", "projector", "reader", "auditor", "sandbox"] {
            assert_eq!(may(role, statement).await, allowed.contains(&role), "{role}: {statement}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_not_understood_stops_the_reader() {
    let ledger = ledger().await;
    ledger
        .create::<Pledge>(Uuid::new_v4(), &create_pledge(), vec![], &Metadata::default(), None)
        .await
        .unwrap();
    ledger.append(append(Uuid::new_v4(), 0, "Unknown")).await.unwrap();
    assert_eq!(EventReader::default().read_after(ledger.pool(), 0, 10).await.unwrap().len(), 1);
    let stopped = EventReader::default().read_after(ledger.pool(), 1, 10).await.unwrap_err();
    assert!(stopped.to_string().contains("position 2"), "{stopped}");
}

/// Within one batch, across batches and across processes; others in the batch are not concerned.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_one_pledges_whoever_appends_at_once() {
    let pool = PgPool::connect(&fresh_database().await).await.unwrap();
    let ledgers = [Ledger::start(pool.clone()), Ledger::start(pool.clone())];
    let amount = Money::new(100, "USD".parse().unwrap()).unwrap();
    let capture = |payment: &str| {
        let captured = Statement::told(Stated::payment(Some(amount), None), Utc::now());
        PledgeCommand::record(PaymentFact::stated(payment.parse().unwrap(), captured), Utc::now())
    };
    let race = async |n: usize| {
        let payment = format!("pay_{n}");
        let command = capture(&payment);
        let pledges = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()];
        for id in pledges {
            let (new, metadata) = (create_pledge(), Metadata::default());
            ledgers[0].create::<Pledge>(id, &new, vec![], &metadata, None).await.unwrap();
        }
        let metadata = Metadata::default();
        // Two in one process, which share a batch, and one in another.
        let tried = pledges.iter().zip([0, 0, 1]);
        let tried = tried.map(|(id, of)| ledgers[of].execute::<Pledge>(*id, &command, &metadata));
        let tried = join_all(tried).await;
        let won: Vec<Uuid> =
            pledges.into_iter().zip(&tried).filter(|(_, tried)| tried.is_ok()).map(|(id, _)| id).collect();
        let foreign = |tried: &&_| matches!(tried, Err(ExecuteError::Append(AppendError::ForeignPayment)));
        assert_eq!((won.len(), tried.iter().filter(foreign).count()), (1, 2), "{tried:?}");
        assert_eq!(pledge_of_payment(&pool, &payment).await.unwrap(), Some(won[0]));
    };
    join_all((0..20).map(race)).await;
    assert_eq!(pledge_of_payment(&pool, "pay_unheard_of").await.unwrap(), None);
    let captured: i64 = sqlx::query_scalar("select count(*) from events where event_type = 'PledgeCaptured'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(captured, 20);
}
