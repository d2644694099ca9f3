//! Commands on one aggregate take turns, and find its state where the one before left it.

use std::any::Any;

use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use crate::loaded::LoadedAggregate;

/// Aggregates that share a place also take turns, which costs them only time.
const PLACES: usize = 1_024;

/// Within a process, commands on one aggregate go one after the other: meeting in the ledger, all
/// but one of them would have to be decided again. Each place remembers one aggregate, so the
/// memory is bounded.
pub(crate) struct Turns {
    places: Vec<Mutex<Option<Memory>>>,
}

/// The state after the last command. Another process may have moved on since, so it is good for a
/// decision that the ledger will check (by the expected sequence), and for nothing else.
struct Memory {
    id: Uuid,
    loaded: Box<dyn Any + Send>,
}

/// The turn of one command; it ends when this is dropped.
pub(crate) struct Turn<'a> {
    id: Uuid,
    place: MutexGuard<'a, Option<Memory>>,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self { places: (0..PLACES).map(|_| Mutex::default()).collect() }
    }

    /// Waits for the turn of a command on the aggregate `id`.
    pub(crate) async fn take(&self, id: Uuid) -> Turn<'_> {
        // The last bytes of every kind of UUID in use here are spread evenly.
        let [.., high, low] = *id.as_bytes();
        let place = usize::from(u16::from_be_bytes([high, low])) % PLACES;
        Turn { id, place: self.places[place].lock().await }
    }
}

impl Turn<'_> {
    /// The aggregate whose turn it is.
    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    /// Takes out what the command before left, if it was on the same aggregate. Whoever succeeds
    /// puts the new state back; after anything else the ledger is read again.
    pub(crate) fn recall<A: 'static>(&mut self) -> Option<LoadedAggregate<A>> {
        let remembered = self.place.take().filter(|remembered| remembered.id == self.id)?;
        remembered.loaded.downcast().ok().map(|loaded| *loaded)
    }

    /// Leaves the state for the next command.
    pub(crate) fn remember<A: Send + 'static>(&mut self, loaded: LoadedAggregate<A>) {
        *self.place = Some(Memory { id: self.id, loaded: Box::new(loaded) });
    }
}
