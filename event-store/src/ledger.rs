//! Load, decide, append.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::{Claim, DecodeError, EventKind, Rules, StoredEvent, UpcastTable, VersionedEvent};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use crate::append::{
    Append, AppendError, Appended, Appender, Condition, NewClaim, NewEvent, PledgeDonor, StreamEvents,
};
use crate::group_commit::GroupCommit;
use crate::loaded::LoadedAggregate;
use crate::metadata::{CommandMetadata, Metadata};
use crate::read::{EventReader, ReadError, RecordedEvent};
use crate::turns::{Turn, Turns};

/// How many commands may wait for their commit, and how many share one.
const MAX_WAITING: usize = 8_192;
const MAX_BATCH: usize = 500;

/// How often a command that met another one is loaded and decided again.
const MAX_RETRIES: u32 = 3;

/// The ledger. Clones share one queue of appends.
#[derive(Clone)]
pub struct Ledger {
    pool: PgPool,
    upcasts: UpcastTable,
    appends: GroupCommit<Appender>,
    turns: Arc<Turns>,
}

/// Outcome of a command.
#[derive(Clone, Debug)]
pub struct Executed<A: Rules> {
    /// The state after it.
    pub aggregate: A,
    /// Its events; none when it had nothing new to say.
    pub events: Vec<A::Event>,
    /// The position of the aggregate's last event.
    pub position: i64,
    /// When that event was appended.
    pub recorded_at: DateTime<Utc>,
}

/// Why a command did nothing.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError<E: std::error::Error> {
    /// A rule refuses it.
    #[error(transparent)]
    Rule(E),
    /// It could not be appended.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The aggregate could not be read.
    #[error("the aggregate cannot be read: {0}")]
    Load(LoadError),
}

/// Why an aggregate could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The database is out of reach or refuses the query.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// One of its events cannot be understood.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl Ledger {
    /// Opens the ledger in `pool`'s database and starts its queue of appends.
    pub fn start(pool: PgPool) -> Self {
        Self::start_with(pool, UpcastTable::CURRENT)
    }

    /// Like [`Self::start`], with another table for events of the past.
    pub fn start_with(pool: PgPool, upcasts: UpcastTable) -> Self {
        Self {
            upcasts,
            appends: GroupCommit::start(Appender::new(pool.clone()), MAX_WAITING, MAX_BATCH),
            turns: Arc::new(Turns::new()),
            pool,
        }
    }

    /// The database it is in.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Appends one command's events, in one commit with whatever else is waiting.
    ///
    /// # Errors
    /// [`AppendError`].
    pub async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.appends.submit(append).await?
    }

    /// Loads an aggregate by folding its events.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn load<A: Rules>(&self, id: Uuid) -> Result<LoadedAggregate<A>, LoadError> {
        let rows = sqlx::query(
            "select aggregate_id, sequence, event_type, event_version, payload::text as payload
             from events where aggregate_type = $1 and aggregate_id = $2 order by sequence",
        )
        .bind(A::TYPE)
        .bind(id.to_string())
        .fetch_all(&self.pool)
        .await?;
        let mut loaded = LoadedAggregate::default();
        for row in &rows {
            apply_row(self.upcasts, &mut loaded, row)??;
        }
        Ok(loaded)
    }

    /// The whole history of an aggregate, in order.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read_stream<A: Rules>(&self, id: Uuid) -> Result<Vec<RecordedEvent>, ReadError> {
        EventReader::new(self.upcasts).read_stream(&self.pool, A::TYPE, &id.to_string()).await
    }

    /// Loads many aggregates by one read. One whose events cannot be understood fails by itself;
    /// one without events is in its first state.
    ///
    /// # Errors
    /// Any error of the database.
    pub async fn load_many<A: Rules>(
        &self,
        ids: &[Uuid],
    ) -> Result<HashMap<Uuid, Result<LoadedAggregate<A>, DecodeError>>, sqlx::Error> {
        let rows = sqlx::query(
            "select wanted.id, e.aggregate_id, e.sequence, e.event_type, e.event_version,
                    e.payload::text as payload
             from unnest($2::uuid[]) as wanted (id)
             join events e on e.aggregate_type = $1 and e.aggregate_id = wanted.id::text
             order by wanted.id, e.sequence",
        )
        .bind(A::TYPE)
        .bind(ids)
        // Planned anew each time: a plan from when the ledger was small would read all of it.
        .persistent(false)
        .fetch_all(&self.pool)
        .await?;
        let absent = || Ok(LoadedAggregate::default());
        let mut loaded: HashMap<_, _> = ids.iter().map(|id| (*id, absent())).collect();
        for row in &rows {
            let slot = loaded.entry(row.try_get("id")?).or_insert_with(absent);
            if let Ok(before) = slot
                && let Err(error) = apply_row(self.upcasts, before, row)?
            {
                *slot = Err(error);
            }
        }
        Ok(loaded)
    }

    /// Appends what was decided on an aggregate, in one commit with whatever else is waiting. The
    /// events go in all or none; each carries metadata of its own beside the command's id.
    ///
    /// # Errors
    /// [`AppendError`]; [`AppendError::Conflict`] when the aggregate is no longer at `sequence`.
    pub async fn append_events<A: Rules>(
        &self,
        id: Uuid,
        sequence: i64,
        events: &[(A::Event, Metadata)],
    ) -> Result<Appended, AppendError> {
        let command_id = Uuid::now_v7();
        let new_events =
            events.iter().map(|(event, metadata)| new_event(event, json(&metadata.of_command(command_id))?));
        let stream = StreamEvents {
            stream: Condition { aggregate_type: A::TYPE, aggregate_id: id, sequence },
            events: new_events.collect::<Result<_, _>>().map_err(not_json)?,
            donor: None,
        };
        self.append(Append { command_id, streams: vec![stream], conditions: vec![] }).await
    }

    /// Makes an aggregate under a fresh or derived id, without loading it first: if it is there
    /// already, the append itself says so.
    ///
    /// # Errors
    /// [`ExecuteError`]; [`AppendError::Conflict`] when the id is taken or a condition fails.
    pub async fn create<A: Rules>(
        &self,
        id: Uuid,
        command: &A::Command,
        conditions: Vec<Condition>,
        metadata: &Metadata,
        donor: Option<Arc<PledgeDonor>>,
    ) -> Result<Executed<A>, ExecuteError<A::Error>> {
        let new = LoadedAggregate::<A>::default();
        let events = new.aggregate.decide(command).map_err(ExecuteError::Rule)?;
        self.append_decided(id, new, events, conditions, metadata, donor).await
    }

    /// Loads an aggregate, decides, and appends. When another command got in between, it loads
    /// and decides again, at most three times.
    ///
    /// Commands of this process on one aggregate take turns, and are decided on the state that the
    /// one before left. Only an append proves that this state still holds, so a decision that appends
    /// nothing is made again on what the ledger says.
    ///
    /// # Errors
    /// [`ExecuteError`].
    pub async fn execute<A: Rules + 'static>(
        &self,
        id: Uuid,
        command: &A::Command,
        metadata: &Metadata,
    ) -> Result<Executed<A>, ExecuteError<A::Error>> {
        let mut turn = self.turns.take(id).await;
        if let Some(remembered) = turn.recall::<A>()
            && let Ok(events) = remembered.aggregate.decide(command)
            && !events.is_empty()
        {
            match self.append_in_turn(&mut turn, remembered, events, metadata).await {
                Err(ExecuteError::Append(AppendError::Conflict)) => {}
                result => return result,
            }
        }
        let mut retries = 0;
        loop {
            let loaded = self.load::<A>(id).await.map_err(ExecuteError::Load)?;
            let events = loaded.aggregate.decide(command).map_err(ExecuteError::Rule)?;
            if events.is_empty() {
                return self.nothing_new(id, loaded.aggregate).await;
            }
            match self.append_in_turn(&mut turn, loaded, events, metadata).await {
                Err(ExecuteError::Append(AppendError::Conflict)) if retries < MAX_RETRIES => retries += 1,
                result => return result,
            }
        }
    }

    async fn append_in_turn<A: Rules + 'static>(
        &self,
        turn: &mut Turn<'_>,
        loaded: LoadedAggregate<A>,
        events: Vec<A::Event>,
        metadata: &Metadata,
    ) -> Result<Executed<A>, ExecuteError<A::Error>> {
        let sequence = loaded.sequence + events.len() as i64;
        let executed = self.append_decided(turn.id(), loaded, events, vec![], metadata, None).await?;
        turn.remember(LoadedAggregate { aggregate: executed.aggregate.clone(), sequence });
        Ok(executed)
    }

    /// Executes a command and, in the same append, makes another aggregate of the same kind, which
    /// follows from what was decided. Both are in the ledger or neither is. A command that has
    /// nothing new to say makes nothing either.
    ///
    /// `create` is given the aggregate as it stands after the command. `donor` belongs to the new one,
    /// whose events follow those of the command; the position is that of the last of them.
    ///
    /// # Errors
    /// [`ExecuteError`]; [`AppendError::Conflict`] also when `new_id` is taken.
    pub async fn execute_and_create<A: Rules>(
        &self,
        id: Uuid,
        command: &A::Command,
        new_id: Uuid,
        create: impl Fn(&A) -> Result<A::Command, A::Error> + Send,
        metadata: &Metadata,
        donor: Option<Arc<PledgeDonor>>,
    ) -> Result<Executed<A>, ExecuteError<A::Error>> {
        let mut retries = 0;
        loop {
            let mut loaded = self.load::<A>(id).await.map_err(ExecuteError::Load)?;
            let events = loaded.aggregate.decide(command).map_err(ExecuteError::Rule)?;
            if events.is_empty() {
                return self.nothing_new(id, loaded.aggregate).await;
            }
            let metadata = metadata.of_command(Uuid::now_v7());
            let stream = Self::prepare(id, &loaded, &events, &metadata)?;
            apply(&mut loaded.aggregate, &events);
            let new = LoadedAggregate::<A>::default();
            let created = create(&loaded.aggregate).and_then(|create| new.aggregate.decide(&create));
            let mut new_stream =
                Self::prepare(new_id, &new, &created.map_err(ExecuteError::Rule)?, &metadata)?;
            new_stream.donor = donor.clone();
            let streams = vec![stream, new_stream];
            let append = Append { command_id: metadata.command_id, streams, conditions: vec![] };
            match self.append(append).await {
                Err(AppendError::Conflict) if retries < MAX_RETRIES => retries += 1,
                Err(error) => return Err(error.into()),
                Ok(Appended { position, recorded_at }) => {
                    return Ok(Executed { aggregate: loaded.aggregate, events, position, recorded_at });
                }
            }
        }
    }

    /// One aggregate's part of an append: its events, at the sequence at which it was loaded.
    fn prepare<A: Rules>(
        id: Uuid,
        loaded: &LoadedAggregate<A>,
        events: &[A::Event],
        metadata: &CommandMetadata<'_>,
    ) -> Result<StreamEvents, AppendError> {
        let events = events.iter().map(|event| new_event(event, json(metadata)?));
        Ok(StreamEvents {
            stream: Condition { aggregate_type: A::TYPE, aggregate_id: id, sequence: loaded.sequence },
            events: events.collect::<Result<_, _>>().map_err(not_json)?,
            donor: None,
        })
    }

    async fn append_decided<A: Rules>(
        &self,
        id: Uuid,
        mut loaded: LoadedAggregate<A>,
        events: Vec<A::Event>,
        conditions: Vec<Condition>,
        metadata: &Metadata,
        donor: Option<Arc<PledgeDonor>>,
    ) -> Result<Executed<A>, ExecuteError<A::Error>> {
        let metadata = metadata.of_command(Uuid::now_v7());
        let mut stream = Self::prepare(id, &loaded, &events, &metadata)?;
        stream.donor = donor;
        let append = Append { command_id: metadata.command_id, streams: vec![stream], conditions };
        let Appended { position, recorded_at } = self.append(append).await?;
        apply(&mut loaded.aggregate, &events);
        Ok(Executed { aggregate: loaded.aggregate, events, position, recorded_at })
    }

    /// The answer to a command without events: the aggregate stands where its last event stands.
    async fn nothing_new<A: Rules>(
        &self,
        id: Uuid,
        aggregate: A,
    ) -> Result<Executed<A>, ExecuteError<A::Error>> {
        let (position, recorded_at) = sqlx::query_as(
            "select position, recorded_at from events
             where aggregate_type = $1 and aggregate_id = $2 order by sequence desc limit 1",
        )
        .bind(A::TYPE)
        .bind(id.to_string())
        .fetch_one(&self.pool)
        .await
        .map_err(|error| ExecuteError::Load(error.into()))?;
        Ok(Executed { aggregate, events: Vec::new(), position, recorded_at })
    }
}

fn apply<A: Rules>(aggregate: &mut A, events: &[A::Event]) {
    for event in events {
        aggregate.apply_event(event.clone());
    }
}

/// Folds one more stored event into an aggregate, borrowing from the row whatever is not kept.
fn apply_row<A: Rules>(
    upcasts: UpcastTable,
    loaded: &mut LoadedAggregate<A>,
    row: &PgRow,
) -> Result<Result<(), DecodeError>, sqlx::Error> {
    let stored = StoredEvent {
        aggregate_type: A::TYPE,
        aggregate_id: row.try_get("aggregate_id")?,
        event_type: row.try_get("event_type")?,
        event_version: row.try_get("event_version")?,
        payload: row.try_get("payload")?,
    };
    loaded.sequence = row.try_get("sequence")?;
    Ok(upcasts.decode_as(stored).map(|event| loaded.aggregate.apply_event(event)))
}

fn new_event<E: VersionedEvent>(event: &E, metadata: String) -> Result<NewEvent, serde_json::Error> {
    let EventKind { name, version } = event.kind();
    Ok(NewEvent {
        event_type: name.to_owned(),
        event_version: version.to_owned(),
        payload: json(event)?,
        metadata,
        claim: event.claim().map(|Claim { payment_id, takes_over }| NewClaim {
            payment_id: payment_id.as_str().to_owned(),
            takes_over,
        }),
    })
}

/// With room for most, so that it is not moved as it grows.
fn json(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::with_capacity(256);
    serde_json::to_writer(&mut bytes, value)?;
    String::from_utf8(bytes).map_err(serde::ser::Error::custom)
}

/// Our own events always serialise; should one not, the ledger refuses it.
fn not_json(error: serde_json::Error) -> AppendError {
    AppendError::Refused(error.to_string())
}
