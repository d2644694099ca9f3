//! An aggregate, loaded from the ledger.

/// An aggregate as it stands in the ledger; by default one without events.
#[derive(Clone, Debug, Default)]
pub struct LoadedAggregate<A> {
    /// Its state.
    pub aggregate: A,
    /// The sequence of its last event, 0 when it has none.
    pub sequence: i64,
}
