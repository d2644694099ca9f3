//! The ledger, read once in the order of its positions and sorted by campaign and pledge.

use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::Context;
use chrono::{DateTime, Utc};
use domain::UpcastTable;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::progress::{Bar, Progress};
use crate::snapshot::copy;
use crate::sorter::{Room, Sorted, Sorter};
use crate::tuple::{Fields, int, time};

const SELECT: &str =
    "select position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
         recorded_at
     from events order by position";

/// Rows are handed over in heaps of about this size.
const HEAP_BYTES: usize = 256 * 1024;
/// How many heaps may wait.
const HEAPS: usize = 4;

/// Something in the ledger that cannot be right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fault {
    /// The first position that it is about.
    pub(crate) position: i64,
    /// The fault, as a sentence.
    pub(crate) what: String,
}

/// The events up to a position, by campaign and pledge.
pub(crate) struct SortedLedger {
    /// The records; [`StoredRecord`] reads them.
    pub(crate) sorted: Sorted,
    /// The last position that was read.
    pub(crate) position: i64,
    /// When it was recorded.
    pub(crate) as_of: Option<DateTime<Utc>>,
    /// How its events of the past are read.
    pub(crate) upcasts: UpcastTable,
    /// The fault that ended the reading early.
    pub(crate) fault: Option<Fault>,
}

/// The two kinds of aggregates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AggregateType {
    /// Sorted first.
    Campaign = 0,
    /// Sorted behind.
    Pledge = 1,
}

/// Kind, id and position: the key of an event.
const KEY_BYTES: usize = 25;

/// An event in the sorted ledger, not decoded yet.
pub(crate) struct StoredRecord<'a> {
    pub(crate) kind: AggregateType,
    pub(crate) id: Uuid,
    pub(crate) position: i64,
    pub(crate) sequence: i64,
    pub(crate) recorded_at: DateTime<Utc>,
    pub(crate) event_type: &'a str,
    pub(crate) event_version: &'a str,
    pub(crate) payload: &'a str,
}

impl<'a> StoredRecord<'a> {
    /// Reads a record of the sorted ledger; none if it is none.
    pub(crate) fn read(key: &'a [u8], value: &'a [u8]) -> Option<Self> {
        let key: &[u8; KEY_BYTES] = key.try_into().ok()?;
        let mut fields = Fields::after_number(value).map(Option::unwrap_or_default);
        let sequence = int(fields.next()?)?;
        let mut text = || std::str::from_utf8(fields.next()?).ok();
        let (event_type, event_version, payload) = (text()?, text()?, text()?);
        Some(Self {
            kind: if key[0] == AggregateType::Campaign as u8 {
                AggregateType::Campaign
            } else {
                AggregateType::Pledge
            },
            id: Uuid::from_slice(&key[1..17]).ok()?,
            position: int(&key[17..])?,
            sequence,
            recorded_at: time(int(fields.next()?)?)?,
            event_type,
            event_version,
            payload,
        })
    }
}

/// Reads the ledger up to position `up_to`, of which `head` is the last that was given out. One
/// thread reads while another sorts.
///
/// # Errors
/// The database cannot be read or the temporary file not be written. What is wrong with the ledger
/// is no error, but a [`Fault`].
pub(crate) async fn read_sorted(
    connection: PgConnection,
    upcasts: UpcastTable,
    up_to: i64,
    head: i64,
    room: Room,
    progress: &Progress,
) -> anyhow::Result<SortedLedger> {
    let (send, heaps) = sync_channel::<Heap>(HEAPS);
    let bar = progress.begin("reading the ledger", up_to.unsigned_abs());
    let reader = Reader::new(up_to, head, room, bar);
    let sorting = tokio::task::spawn_blocking(move || reader.take_all(&heaps, upcasts));
    let mut heap = Heap::default();
    // Nothing else runs on this thread, so it may wait while the other one is busy.
    copy(connection, SELECT, |row| {
        heap.add(row)?;
        Ok(!heap.is_full() || send.send(std::mem::take(&mut heap)).is_ok())
    })
    .await
    .context("the ledger cannot be read")?;
    // The other one has ended already if it found a fault or came to its end.
    let _ = send.send(heap);
    drop(send);
    sorting.await.context("sorting ended badly")?
}

/// Rows on their way from one thread to the other.
#[derive(Default)]
struct Heap {
    bytes: Vec<u8>,
    /// Where each row ends.
    ends: Vec<u32>,
}

impl Heap {
    fn add(&mut self, row: &[u8]) -> anyhow::Result<()> {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(HEAP_BYTES + row.len());
        }
        self.bytes.extend_from_slice(row);
        self.ends.push(u32::try_from(self.bytes.len()).context("an event is too large")?);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= HEAP_BYTES
    }

    fn rows(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start as usize..*end as usize])
    }
}

/// Looks at rows in the order of their positions, and sorts them.
struct Reader {
    up_to: i64,
    head: i64,
    sorter: Sorter,
    position: i64,
    /// In microseconds, as Postgres counts them.
    recorded_at: i64,
    bar: Bar,
}

impl Reader {
    fn new(up_to: i64, head: i64, room: Room, bar: Bar) -> Self {
        Self { up_to, head, sorter: Sorter::new(room), position: 0, recorded_at: i64::MIN, bar }
    }

    fn take_all(mut self, heaps: &Receiver<Heap>, upcasts: UpcastTable) -> anyhow::Result<SortedLedger> {
        let mut fault = None;
        'reading: for heap in heaps {
            for row in heap.rows() {
                match self.take(row)? {
                    Taken::Event => {}
                    Taken::Beyond => break 'reading,
                    Taken::Fault(what) => {
                        fault = Some(what);
                        break 'reading;
                    }
                }
            }
            self.bar.at(self.position.unsigned_abs());
        }
        if fault.is_none() && self.position < self.up_to {
            let what = format!("position {} is missing, and the head is {}", self.position + 1, self.head);
            fault = Some(Fault { position: self.position + 1, what });
        }
        self.bar.end();
        Ok(SortedLedger {
            sorted: self.sorter.finish().context("the temporary file cannot be written")?,
            position: self.position,
            as_of: time(self.recorded_at),
            upcasts,
            fault,
        })
    }

    fn take(&mut self, row: &[u8]) -> anyhow::Result<Taken> {
        let row = Row::read(row).context("the database sends events in a strange form")?;
        let (at, expected) = (row.position, self.position + 1);
        if at > self.up_to && self.up_to < self.head {
            return Ok(Taken::Beyond);
        }
        let fault = |position, what| Ok(Taken::Fault(Fault { position, what }));
        if at > self.head && expected > self.head {
            return fault(at, format!("position {at} is beyond the ledger's head, {}", self.head));
        }
        if at != expected {
            return fault(
                expected,
                format!("position {expected} is missing: {at} follows {}", self.position),
            );
        }
        if row.recorded_at < self.recorded_at {
            let before = self.position;
            return fault(at, format!("position {at}: its time is before that of position {before}"));
        }
        let kind = match row.aggregate_type {
            b"campaign" => AggregateType::Campaign,
            b"pledge" => AggregateType::Pledge,
            other => {
                let other = String::from_utf8_lossy(other);
                let what =
                    format!("event at position {at} cannot be understood: unknown aggregate type {other:?}");
                return fault(at, what);
            }
        };
        let Ok(id) = Uuid::try_parse_ascii(row.aggregate_id) else {
            let what = format!("event at position {at} cannot be understood: its aggregate's id is no UUID");
            return fault(at, what);
        };
        (self.position, self.recorded_at) = (at, row.recorded_at);
        let mut key = [0; KEY_BYTES];
        key[0] = kind as u8;
        key[1..17].copy_from_slice(id.as_bytes());
        key[17..].copy_from_slice(&at.to_be_bytes());
        // Sequence, name, version, body and time stand one after the other, as they came.
        self.sorter.push(&key, &[row.rest]).context("the temporary file cannot be written")?;
        Ok(Taken::Event)
    }
}

enum Taken {
    Event,
    /// It is behind the last that was asked for.
    Beyond,
    Fault(Fault),
}

/// A row of [`SELECT`].
struct Row<'a> {
    position: i64,
    aggregate_type: &'a [u8],
    aggregate_id: &'a [u8],
    recorded_at: i64,
    /// From the sequence on.
    rest: &'a [u8],
}

impl<'a> Row<'a> {
    fn read(row: &'a [u8]) -> Option<Self> {
        let mut fields = Fields::of(row);
        let position = int(fields.next()??)?;
        let (aggregate_type, aggregate_id) = (fields.next()??, fields.next()??);
        let rest = fields.rest();
        let (_, recorded_at): (_, &[u8; 8]) = row.split_last_chunk()?;
        let recorded_at = i64::from_be_bytes(*recorded_at);
        Some(Self { position, aggregate_type, aggregate_id, recorded_at, rest })
    }
}
