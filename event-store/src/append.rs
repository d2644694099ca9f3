//! Appending: batches of commands into one call of the SQL function `ledger_append`.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;

use crate::group_commit::{BatchWriter, QueueError};
use crate::own_connection::{OwnConnection, is_transient};
use crate::row_type;
use crate::rows::{JsonText, TextAs, VarChar};

/// How often a batch is tried again when the database goes away, and the first pause.
const RECONNECT_TRIES: u32 = 5;
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// "I saw this stream at this sequence": the command is refused if the stream has moved on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// The aggregate's type.
    pub aggregate_type: &'static str,
    /// The aggregate's id.
    pub aggregate_id: Uuid,
    /// The sequence of its last event, 0 when it has none.
    pub sequence: i64,
}

/// An event that is to be appended.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The event's name.
    pub event_type: String,
    /// The version of its shape.
    pub event_version: String,
    /// Its body as JSON text.
    pub payload: String,
    /// Metadata as JSON text, with the `command_id`.
    pub metadata: String,
    /// The payment of which it tells: it is this stream's and no other's.
    pub claim: Option<NewClaim>,
}

/// A payment that belongs to the stream of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewClaim {
    /// The provider's payment.
    pub payment_id: String,
    /// Whether it was another stream's until now.
    pub takes_over: bool,
}

/// Events that go to one stream, at the sequence that the command saw.
#[derive(Clone)]
pub struct StreamEvents {
    /// The stream, and where its caller saw its end.
    pub stream: Condition,
    /// The events, at least one.
    pub events: Vec<NewEvent>,
    /// The personal data behind the first of them, if it makes a pledge.
    pub donor: Option<Arc<PledgeDonor>>,
}

/// The personal data behind a new pledge, stored in the same transaction but not in the ledger: at the
/// position of the event that makes the pledge.
#[derive(Clone)]
pub struct PledgeDonor {
    /// The donor's pseudonym.
    pub donor_id: Uuid,
    /// The name to thank by.
    pub name: Option<String>,
    /// The normalised address.
    pub email: String,
    /// The donor's message.
    pub message: Option<String>,
}

/// One command's events: all of them are appended, or none.
#[derive(Clone)]
pub struct Append {
    /// The command's own id. It stands in the metadata; by it a retry is recognised.
    pub command_id: Uuid,
    /// The events of each stream, in this order; nearly always one stream.
    pub streams: Vec<StreamEvents>,
    /// Other streams that the decision rests on.
    pub conditions: Vec<Condition>,
}

impl Append {
    /// Every stream that must still be where the command saw it.
    fn all_streams(&self) -> impl Iterator<Item = &Condition> {
        self.streams.iter().map(|events| &events.stream).chain(&self.conditions)
    }

    fn count_events(&self) -> usize {
        self.streams.iter().map(|stream| stream.events.len()).sum()
    }
}

/// The pledge that a payment belongs to; none where nothing is known of it.
///
/// # Errors
/// Any error of the database.
pub async fn pledge_of_payment(pool: &PgPool, payment_id: &str) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar("select pledge_of_payment($1)").bind(payment_id).fetch_one(pool).await
}

/// Where a command's events stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The position of the last of them.
    pub position: i64,
    /// The instant of the append.
    pub recorded_at: DateTime<Utc>,
}

/// Why a command's events are not in the ledger.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// A stream has moved on: load again and decide anew.
    #[error("the stream has moved on")]
    Conflict,
    /// A payment of it is another pledge's: [`pledge_of_payment`] says whose.
    #[error("the payment is another pledge's")]
    ForeignPayment,
    /// The database refuses what is in it; trying again would not help.
    #[error("the ledger refuses the event: {0}")]
    Refused(String),
    /// The database is out of reach. Whether the events were appended is unknown until the same
    /// command is tried again.
    #[error("the ledger is out of reach: {0}")]
    Unavailable(String),
    /// The queue is full or closed: nothing was appended.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Writes batches of commands.
pub(crate) struct Appender {
    session: OwnConnection,
}

impl Appender {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { session: OwnConnection::new(pool) }
    }
}

impl BatchWriter for Appender {
    type Item = Append;
    type Outcome = Result<Appended, AppendError>;

    async fn write(&mut self, batch: &[Append]) -> Vec<Self::Outcome> {
        let started = std::time::Instant::now();
        let late = conflicts_within(batch);
        let (index, first): (Vec<usize>, Vec<&Append>) =
            batch.iter().enumerate().filter(|(i, _)| !late.contains(i)).unzip();
        let mut outcomes = vec![Err(AppendError::Conflict); batch.len()];
        for (i, outcome) in index.into_iter().zip(self.append_bisecting(&first).await) {
            outcomes[i] = outcome;
        }
        record_metrics(&outcomes, batch, started.elapsed());
        outcomes
    }
}

impl Appender {
    /// Appends `commands` together; if the database refuses one of them, halves the batch until
    /// the bad one stands alone, so that it fails none of its neighbours.
    async fn append_bisecting(&mut self, commands: &[&Append]) -> Vec<Result<Appended, AppendError>> {
        if commands.is_empty() {
            return Vec::new();
        }
        match self.append_once_reachable(commands).await {
            Ok(outcomes) => outcomes,
            Err(AppendError::Refused(_)) if commands.len() > 1 => {
                let (left, right) = commands.split_at(commands.len() / 2);
                let mut outcomes = Box::pin(self.append_bisecting(left)).await;
                outcomes.extend(Box::pin(self.append_bisecting(right)).await);
                outcomes
            }
            Err(error) => vec![Err(error); commands.len()],
        }
    }

    /// Tries again while the database is out of reach. Repeating is safe after a lost reply:
    /// commands that did get in are found by their ids.
    async fn append_once_reachable(
        &mut self,
        commands: &[&Append],
    ) -> Result<Vec<Result<Appended, AppendError>>, AppendError> {
        let mut pause = RECONNECT_PAUSE;
        for _ in 1..RECONNECT_TRIES {
            match self.append(commands).await {
                Err(error) if is_transient(&error) => {
                    tracing::warn!(%error, "the ledger is out of reach; trying again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                result => return result.map_err(|error| refused_or_unavailable(&error)),
            }
        }
        self.append(commands).await.map_err(|error| refused_or_unavailable(&error))
    }

    async fn append(
        &mut self,
        commands: &[&Append],
    ) -> Result<Vec<Result<Appended, AppendError>>, sqlx::Error> {
        self.session.run(async |session| append_checking_late(session, commands).await).await
    }
}

/// Appends in the hope that no stream has moved on, which the unique index watches over without
/// being asked. Only when it refuses are the streams looked up one by one.
async fn append_checking_late(
    session: &mut PgConnection,
    commands: &[&Append],
) -> Result<Vec<Result<Appended, AppendError>>, sqlx::Error> {
    let batch = match Rows::of(commands, Lookup::OtherStreams).append(session).await {
        Err(error) if stream_has_moved_on(&error) => {
            Rows::of(commands, Lookup::AllStreams).append(session).await?
        }
        batch => batch?,
    };
    let refused: HashSet<i32> = batch.refused.unwrap_or_default().into_iter().collect();
    let foreign_payments = batch.foreign_payments.unwrap_or_default();
    let mut position = batch.position_before;
    let mut outcomes = Vec::with_capacity(commands.len());
    for (number, command) in (1..).zip(commands) {
        if foreign_payments.contains(&number) {
            outcomes.push(Err(AppendError::ForeignPayment));
        } else if refused.contains(&number) {
            outcomes.push(Err(AppendError::Conflict));
        } else {
            position += command.count_events() as i64;
            outcomes.push(Ok(Appended { position, recorded_at: batch.appended_at }));
        }
    }
    if !refused.is_empty() {
        recognise_repeated(session, commands, &mut outcomes).await?;
    }
    Ok(outcomes)
}

fn stream_has_moved_on(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.constraint() == Some("events_stream_is_ordered"))
}

/// Of the commands that were refused, those that are in the ledger already have succeeded before:
/// their reply was lost. They are found by their ids.
async fn recognise_repeated(
    session: &mut PgConnection,
    commands: &[&Append],
    outcomes: &mut [Result<Appended, AppendError>],
) -> Result<(), sqlx::Error> {
    let (mut index, mut types, mut ids, mut sequences, mut command_ids) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (i, (command, outcome)) in commands.iter().zip(outcomes.iter()).enumerate() {
        if let (Err(_), Some(StreamEvents { stream, events, .. })) = (outcome, command.streams.last()) {
            index.push(i as i64);
            types.push(stream.aggregate_type);
            ids.push(stream.aggregate_id.to_string());
            sequences.push(stream.sequence + events.len() as i64);
            command_ids.push(command.command_id.to_string());
        }
    }
    let found: Vec<(i64, i64, DateTime<Utc>)> = sqlx::query_as(
        "select r.index, e.position, e.recorded_at
         from unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::text[])
             as r (index, aggregate_type, aggregate_id, sequence, command_id)
         join events e using (aggregate_type, aggregate_id, sequence)
         where e.metadata ->> 'command_id' = r.command_id",
    )
    .bind(index)
    .bind(types)
    .bind(ids)
    .bind(sequences)
    .bind(command_ids)
    .fetch_all(session)
    .await?;
    for (i, position, recorded_at) in found {
        outcomes[i as usize] = Ok(Appended { position, recorded_at });
    }
    Ok(())
}

/// The commands that rest on a stream which an earlier command of the batch moves on. They would
/// be decided on a state that no longer holds, so their callers load again.
fn conflicts_within(batch: &[Append]) -> HashSet<usize> {
    let mut moved = HashSet::new();
    let mut late = HashSet::new();
    for (i, command) in batch.iter().enumerate() {
        if command.all_streams().any(|c| moved.contains(&(c.aggregate_type, c.aggregate_id))) {
            late.insert(i);
        } else {
            moved.extend(command.streams.iter().map(|s| (s.stream.aggregate_type, s.stream.aggregate_id)));
        }
    }
    late
}

fn refused_or_unavailable(error: &sqlx::Error) -> AppendError {
    match error {
        sqlx::Error::Database(_) if !is_transient(error) => AppendError::Refused(error.to_string()),
        _ => AppendError::Unavailable(error.to_string()),
    }
}

fn record_metrics(outcomes: &[Result<Appended, AppendError>], batch: &[Append], took: Duration) {
    let events: usize =
        outcomes.iter().zip(batch).filter(|(o, _)| o.is_ok()).map(|(_, c)| c.count_events()).sum();
    let conflicts = outcomes.iter().filter(|o| matches!(o, Err(AppendError::Conflict))).count();
    metrics::histogram!("ledger_append_duration_seconds").record(took.as_secs_f64());
    metrics::histogram!("ledger_append_batch_events").record(events as f64);
    metrics::counter!("ledger_append_conflicts_total").increment(conflicts as u64);
}

/// Outcome of a batch: the events of the commands that were not refused follow `position_before` in the
/// order given.
#[derive(FromRow)]
struct AppendedBatch {
    position_before: i64,
    appended_at: DateTime<Utc>,
    /// Numbers of commands, from 1.
    refused: Option<Vec<i32>>,
    /// Those of them that named another pledge's payment.
    foreign_payments: Option<Vec<i32>>,
}

/// A batch as `ledger_append` takes it. Commands, conditions and events are numbered from 1.
#[derive(Default)]
struct Rows<'a> {
    conditions: Vec<ConditionRow<'a>>,
    /// Which command rests on which condition.
    resting_commands: Vec<i32>,
    resting_conditions: Vec<i32>,
    events: Vec<EventRow<'a>>,
    donors: Vec<DonorRow<'a>>,
    claims: Vec<ClaimRow<'a>>,
}

/// The type `ledger_condition`.
#[derive(sqlx::Encode)]
struct ConditionRow<'a> {
    aggregate_type: &'a str,
    aggregate_id: String,
    sequence: i64,
}

/// The type `ledger_event`.
#[derive(sqlx::Encode)]
struct EventRow<'a> {
    command: i32,
    aggregate_type: VarChar<&'a str>,
    aggregate_id: VarChar<String>,
    sequence: i64,
    event_type: VarChar<&'a str>,
    event_version: VarChar<&'a str>,
    payload: JsonText<&'a str>,
    metadata: JsonText<&'a str>,
}

/// The type `ledger_donor`.
#[derive(sqlx::Encode)]
struct DonorRow<'a> {
    event: i32,
    donor_id: Uuid,
    name: Option<VarChar<&'a str>>,
    email: VarChar<&'a str>,
    message: Option<VarChar<&'a str>>,
}

/// The type `ledger_claim`.
#[derive(sqlx::Encode)]
struct ClaimRow<'a> {
    command: i32,
    payment_id: VarChar<&'a str>,
    pledge_id: Uuid,
    takes_over: bool,
}

row_type!(ClaimRow, "ledger_claim");
row_type!(ConditionRow, "ledger_condition");
row_type!(EventRow, "ledger_event");
row_type!(DonorRow, "ledger_donor");

/// Which streams of a command are looked up before it is appended.
#[derive(Clone, Copy)]
enum Lookup {
    /// Those that it only looked at: the unique index watches over its own.
    OtherStreams,
    /// Its own as well, after the unique index has refused the batch.
    AllStreams,
}

impl<'a> Rows<'a> {
    fn of(commands: &[&'a Append], lookup: Lookup) -> Self {
        let mut rows = Self::default();
        let mut known = HashMap::new();
        for (number, command) in (1..).zip(commands) {
            match lookup {
                Lookup::OtherStreams => rows.push_conditions(number, &command.conditions, &mut known),
                Lookup::AllStreams => rows.push_conditions(number, command.all_streams(), &mut known),
            }
            rows.push(number, command);
        }
        rows
    }

    /// Many commands rest on the same streams (pledges on their campaign), which are listed once.
    fn push_conditions(
        &mut self,
        number: i32,
        streams: impl IntoIterator<Item = &'a Condition>,
        known: &mut HashMap<&'a Condition, i32>,
    ) {
        for condition in streams {
            let next = known.len() as i32 + 1;
            let condition_number = *known.entry(condition).or_insert(next);
            if condition_number == next {
                self.conditions.push(ConditionRow {
                    aggregate_type: condition.aggregate_type,
                    aggregate_id: condition.aggregate_id.to_string(),
                    sequence: condition.sequence,
                });
            }
            self.resting_commands.push(number);
            self.resting_conditions.push(condition_number);
        }
    }

    fn push(&mut self, number: i32, command: &'a Append) {
        for StreamEvents { stream, events, donor } in &command.streams {
            if let Some(donor) = donor {
                self.donors.push(DonorRow {
                    event: self.events.len() as i32 + 1,
                    donor_id: donor.donor_id,
                    name: donor.name.as_deref().map(TextAs),
                    email: TextAs(&donor.email),
                    message: donor.message.as_deref().map(TextAs),
                });
            }
            for (sequence, event) in (stream.sequence + 1..).zip(events) {
                if let Some(NewClaim { payment_id, takes_over }) = &event.claim {
                    self.claims.push(ClaimRow {
                        command: number,
                        payment_id: TextAs(payment_id),
                        pledge_id: stream.aggregate_id,
                        takes_over: *takes_over,
                    });
                }
                self.events.push(EventRow {
                    command: number,
                    aggregate_type: TextAs(stream.aggregate_type),
                    aggregate_id: TextAs(stream.aggregate_id.to_string()),
                    sequence,
                    event_type: TextAs(&event.event_type),
                    event_version: TextAs(&event.event_version),
                    payload: TextAs(&event.payload),
                    metadata: TextAs(&event.metadata),
                });
            }
        }
    }

    /// One statement outside of any transaction block: it commits by itself, in one round trip.
    async fn append(self, session: &mut PgConnection) -> Result<AppendedBatch, sqlx::Error> {
        sqlx::query_as(
            "select position_before, appended_at, refused, foreign_payments
             from ledger_append($1, $2, $3, $4, $5, $6)",
        )
        .bind(self.conditions)
        .bind(self.resting_commands)
        .bind(self.resting_conditions)
        .bind(self.events)
        .bind(self.donors)
        .bind(self.claims)
        .fetch_one(session)
        .await
    }
}
