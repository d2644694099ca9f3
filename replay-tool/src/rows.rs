//! Rows of read tables: expected ones, found ones, and how they differ.

use std::hash::{BuildHasher, RandomState};
use std::io;

use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;

use crate::snapshot::copy;
use crate::sorter::{Room, Sorted, Sorter};
use crate::tuple::{ColumnType, Fields, Shown, Tuple};

/// A read table: all of its columns but those that Postgres makes by itself for a search.
pub(crate) struct Table {
    /// Its name.
    pub(crate) name: &'static str,
    /// How many of its first columns name a row.
    pub(crate) key: usize,
    /// Its columns.
    pub(crate) columns: &'static [(&'static str, ColumnType)],
}

impl Table {
    fn select(&self) -> String {
        let columns: Vec<String> =
            self.columns.iter().map(|(name, column_type)| format!("{name}::{}", column_type.sql())).collect();
        format!("select {} from {}", columns.join(", "), self.name)
    }

    /// The bytes of a row that name it.
    fn key<'a>(&self, row: &'a [u8]) -> &'a [u8] {
        let mut fields = Fields::of(row);
        fields.by_ref().take(self.key).for_each(drop);
        &row[2.min(row.len())..row.len() - fields.rest().len()]
    }

    /// A row's fields, with the names of their columns.
    pub(crate) fn read(&self, row: &[u8]) -> Vec<(&'static str, Shown)> {
        let columns = self.columns.iter().zip(Fields::of(row));
        columns.map(|((name, column_type), field)| (*name, Shown::of(*column_type, field))).collect()
    }
}

/// Says whether two heaps of rows are the same, whatever their order: the number of rows, and the sum
/// of keyed hashes of 64 bits. The key is drawn anew for each run, so nobody can prepare other rows of
/// the same sum, and none have it by chance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    /// How many rows.
    pub(crate) rows: u64,
    sum: u64,
}

/// The key of a run.
pub(crate) type Key = RandomState;

impl Fingerprint {
    fn add(&mut self, key: &Key, row: &[u8]) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(key.hash_one(row));
    }
}

/// Where the expected rows of a projection go.
pub(crate) struct Rows {
    tables: &'static [Table],
    tuple: Tuple,
    into: Into,
}

enum Into {
    Fingerprints(Key, Vec<Fingerprint>),
    /// Only the rows of some tables.
    Sorters(Vec<Option<Sorter>>),
}

impl Rows {
    /// Only a fingerprint of each table is kept.
    pub(crate) fn fingerprints(tables: &'static [Table], key: &Key) -> Self {
        let into = Into::Fingerprints(key.clone(), vec![Fingerprint::default(); tables.len()]);
        Self { tables, tuple: Tuple::default(), into }
    }

    /// The rows of one table are kept, by their keys.
    pub(crate) fn sorted(tables: &'static [Table], table: usize, room: &Room) -> Self {
        let sorters = (0..tables.len()).map(|n| (n == table).then(|| Sorter::new(room.clone()))).collect();
        Self { tables, tuple: Tuple::default(), into: Into::Sorters(sorters) }
    }

    /// Takes an expected row of a table.
    ///
    /// # Errors
    /// The temporary file cannot be written.
    pub(crate) fn put(
        &mut self,
        table: usize,
        row: impl for<'t> FnOnce(&'t mut Tuple) -> &'t mut Tuple,
    ) -> io::Result<()> {
        match &mut self.into {
            Into::Fingerprints(key, prints) => {
                prints[table].add(key, row(self.tuple.begin()).bytes());
                Ok(())
            }
            Into::Sorters(sorters) => match &mut sorters[table] {
                Some(sorter) => {
                    let row = row(self.tuple.begin()).bytes();
                    sorter.push(self.tables[table].key(row), &[row])
                }
                None => Ok(()),
            },
        }
    }

    /// The fingerprints of all tables.
    pub(crate) fn into_fingerprints(self) -> Vec<Fingerprint> {
        match self.into {
            Into::Fingerprints(_, fingerprints) => fingerprints,
            Into::Sorters(_) => Vec::new(),
        }
    }

    /// The rows of the table that were kept.
    ///
    /// # Errors
    /// The temporary file cannot be written.
    pub(crate) fn into_sorted(self) -> io::Result<Sorted> {
        let Into::Sorters(sorters) = self.into else { return Err(io::Error::other("no rows were kept")) };
        let kept = sorters.into_iter().flatten().next();
        kept.ok_or_else(|| io::Error::other("no rows were kept"))?.finish()
    }
}

/// The fingerprint of a table as it is.
///
/// # Errors
/// The table cannot be read.
pub(crate) async fn fingerprint(
    connection: PgConnection,
    table: &Table,
    key: &Key,
) -> anyhow::Result<Fingerprint> {
    let mut fingerprint = Fingerprint::default();
    copy(connection, &table.select(), |row| {
        fingerprint.add(key, row);
        Ok(true)
    })
    .await?;
    Ok(fingerprint)
}

/// The rows of a table as it is, by their keys.
///
/// # Errors
/// The table cannot be read, or a temporary file cannot be written.
pub(crate) async fn sort(connection: PgConnection, table: &Table, room: &Room) -> anyhow::Result<Sorted> {
    let mut sorter = Sorter::new(room.clone());
    copy(connection, &table.select(), |row| {
        sorter.push(table.key(row), &[row])?;
        Ok(true)
    })
    .await?;
    Ok(sorter.finish()?)
}

/// Something that the ledger says and a projection does not, or the other way round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Difference {
    /// Where: the name of a read table, or `Redis`, or `ledger`.
    pub(crate) place: String,
    /// The position in the ledger that it is about, where it is about one.
    pub(crate) position: Option<i64>,
    /// The row that it is about.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) row: String,
    /// The column, where one differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) column: Option<String>,
    /// The value that the ledger expects.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub(crate) ledger: Value,
    /// The value that stands there.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub(crate) found: Value,
    /// All of it as a sentence.
    pub(crate) what: String,
}

/// Differences, those of the smallest positions first. Those behind the limit are only counted.
pub(crate) struct Differences {
    limit: usize,
    list: Vec<Difference>,
    /// How many there are in all.
    pub(crate) count: u64,
}

impl Differences {
    /// Keeps at most `limit`.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, list: Vec::new(), count: 0 }
    }

    /// Adds one.
    pub(crate) fn add(&mut self, difference: Difference) {
        self.count += 1;
        let by_position = |d: &Difference| d.position.unwrap_or(i64::MAX);
        let at = self.list.partition_point(|known| by_position(known) <= by_position(&difference));
        if at < self.limit {
            self.list.insert(at, difference);
            self.list.truncate(self.limit);
        }
    }

    /// Adds one that is about no row.
    pub(crate) fn say(&mut self, place: &str, position: Option<i64>, what: String) {
        self.add(Difference {
            place: place.to_owned(),
            position,
            row: String::new(),
            column: None,
            ledger: Value::Null,
            found: Value::Null,
            what,
        });
    }

    /// Those that are kept, by position.
    pub(crate) fn list(&self) -> &[Difference] {
        &self.list
    }
}

/// Compares expected and found rows of a table, both by their keys.
///
/// # Errors
/// A temporary file cannot be read.
pub(crate) fn compare(
    table: &Table,
    expected: &Sorted,
    found: &Sorted,
    differences: &mut Differences,
) -> io::Result<()> {
    let (mut expected, mut found) = (expected.records()?, found.records()?);
    let (mut left, mut right) = (expected.next()?, found.next()?);
    loop {
        let order = match (&left, &right) {
            (None, None) => return Ok(()),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        match (order, left, right) {
            (std::cmp::Ordering::Equal, Some((_, a)), Some((_, b))) if a != b => {
                differ(table, a, b, differences);
            }
            (std::cmp::Ordering::Less, Some((_, row)), _) => {
                differences.add(one_sided(table, row, "is missing"));
            }
            (std::cmp::Ordering::Greater, _, Some((_, row))) => {
                differences.add(one_sided(table, row, "is not in the ledger"));
            }
            _ => {}
        }
        if order.is_le() {
            left = expected.next()?;
        }
        if order.is_ge() {
            right = found.next()?;
        }
    }
}

fn differ(table: &Table, expected: &[u8], found: &[u8], differences: &mut Differences) {
    let (row, position) = (named(table, expected), position(table, expected));
    for ((column, says), (_, found)) in table.read(expected).into_iter().zip(table.read(found)) {
        if says == found {
            continue;
        }
        differences.add(Difference {
            what: format!("{}: {column} of {row}: the ledger says {says}, found {found}", table.name),
            place: table.name.to_owned(),
            position,
            row: row.clone(),
            column: Some(column.to_owned()),
            ledger: says.0,
            found: found.0,
        });
    }
}

fn one_sided(table: &Table, row: &[u8], what: &str) -> Difference {
    let (named, position) = (named(table, row), position(table, row));
    Difference {
        what: format!("{}: row {named} {what}", table.name),
        place: table.name.to_owned(),
        position,
        row: named,
        column: None,
        ledger: Value::Null,
        found: Value::Null,
    }
}

/// A row as its key names it.
fn named(table: &Table, row: &[u8]) -> String {
    let key = table.read(row).into_iter().take(table.key);
    key.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
}

/// The position that a row carries.
fn position(table: &Table, row: &[u8]) -> Option<i64> {
    table.read(row).into_iter().find(|(name, _)| *name == "position")?.1.0.as_i64()
}
