//! The adapter for cqrs-es and postgres-es: the ledger as a repository of theirs, read by postgres-es and
//! written by group commit. Nothing else here knows them.

use std::future::Future;

use cqrs_es::Aggregate;
use cqrs_es::persist::{
    PersistedEventRepository, PersistenceError, ReplayStream, SerializedEvent, SerializedSnapshot,
};
use postgres_es::PostgresEventRepository;
use serde_json::Value;
use uuid::Uuid;

use crate::append::{Append, AppendError, Condition, NewEvent, StreamEvents};
use crate::ledger::Ledger;

/// Lets `PersistedEventStore`, upcasters and `CqrsFramework` work over a [`Ledger`].
///
/// Features that postgres-es does badly are refused with an error: snapshots (they apply events twice and
/// skip some) and streams (they panic inside a task and end as if complete; there is no global order). A
/// pledge has a handful of events and is simply loaded; readers of all events read by position.
pub struct LedgerRepository {
    ledger: Ledger,
    stored: PostgresEventRepository,
}

impl LedgerRepository {
    /// A repository over `ledger`.
    pub fn new(ledger: Ledger) -> Self {
        Self { stored: PostgresEventRepository::new(ledger.pool().clone()), ledger }
    }
}

fn unsupported<T>(what: &str) -> Result<T, PersistenceError> {
    Err(PersistenceError::UnknownError(format!("the ledger has no {what}").into()))
}

impl PersistedEventRepository for LedgerRepository {
    fn get_events<A: Aggregate>(
        &self,
        aggregate_id: &str,
    ) -> impl Future<Output = Result<Vec<SerializedEvent>, PersistenceError>> + Send {
        self.stored.get_events::<A>(aggregate_id)
    }

    fn get_last_events<A: Aggregate>(
        &self,
        aggregate_id: &str,
        last_sequence: usize,
    ) -> impl Future<Output = Result<Vec<SerializedEvent>, PersistenceError>> + Send {
        self.stored.get_last_events::<A>(aggregate_id, last_sequence)
    }

    async fn get_snapshot<A: Aggregate>(
        &self,
        _aggregate_id: &str,
    ) -> Result<Option<SerializedSnapshot>, PersistenceError> {
        unsupported("snapshots")
    }

    async fn persist<A: Aggregate>(
        &self,
        events: &[SerializedEvent],
        snapshot_update: Option<(String, Value, usize)>,
    ) -> Result<(), PersistenceError> {
        if snapshot_update.is_some() {
            return unsupported("snapshots");
        }
        let Some(first) = events.first() else { return Ok(()) };
        let aggregate_id: Uuid =
            first.aggregate_id.parse().map_err(|e| PersistenceError::UnknownError(Box::new(e)))?;
        let stream = Condition { aggregate_type: A::TYPE, aggregate_id, sequence: first.sequence as i64 - 1 };
        let append = Append {
            command_id: Uuid::now_v7(),
            streams: vec![StreamEvents {
                stream,
                events: events.iter().map(new_event).collect(),
                donor: None,
            }],
            conditions: Vec::new(),
        };
        self.ledger.append(append).await.map(drop).map_err(|error| match error {
            AppendError::Conflict => PersistenceError::OptimisticLockError,
            AppendError::Unavailable(_) => PersistenceError::ConnectionError(Box::new(error)),
            AppendError::ForeignPayment | AppendError::Refused(_) | AppendError::Queue(_) => {
                PersistenceError::UnknownError(Box::new(error))
            }
        })
    }

    async fn stream_events<A: Aggregate>(&self, _id: &str) -> Result<ReplayStream, PersistenceError> {
        unsupported("streams; read it by position")
    }

    async fn stream_all_events<A: Aggregate>(&self) -> Result<ReplayStream, PersistenceError> {
        unsupported("streams; read it by position")
    }
}

fn new_event(event: &SerializedEvent) -> NewEvent {
    NewEvent {
        event_type: event.event_type.clone(),
        event_version: event.event_version.clone(),
        payload: event.payload.to_string(),
        metadata: event.metadata.to_string(),
        // By this way come events whose meaning is not known here.
        claim: None,
    }
}
