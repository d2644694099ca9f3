//! Rows as Postgres sends them in a binary COPY: the number of fields, then the length and the bytes
//! of each. Expected rows are written in the same form, so rows are compared as bytes.

use std::fmt;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

/// Seconds between 1970, where our instants count from, and 2000, where those of Postgres do.
const SECONDS_TO_2000: i64 = 946_684_800;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColumnType {
    /// `uuid`
    Uuid,
    /// `bigint`
    Int,
    /// `text`
    Text,
    /// `boolean`
    Bool,
    /// `timestamptz`
    Time,
    /// `date`
    Date,
}

impl ColumnType {
    /// The type in SQL, to which a column is cast: both sides then have one form.
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Int => "bigint",
            Self::Text => "text",
            Self::Bool => "boolean",
            Self::Time => "timestamptz",
            Self::Date => "date",
        }
    }
}

/// A row under construction; it is used again for the next one.
#[derive(Default)]
pub(crate) struct Tuple {
    bytes: Vec<u8>,
    fields: i16,
}

impl Tuple {
    /// Begins a row.
    pub(crate) fn begin(&mut self) -> &mut Self {
        self.bytes.clear();
        self.bytes.extend_from_slice(&[0, 0]);
        self.fields = 0;
        self
    }

    /// Adds a field.
    pub(crate) fn push(&mut self, field: impl Field) -> &mut Self {
        self.fields += 1;
        field.write(&mut self.bytes);
        self
    }

    /// The row as Postgres would send it.
    pub(crate) fn bytes(&mut self) -> &[u8] {
        self.bytes[..2].copy_from_slice(&self.fields.to_be_bytes());
        &self.bytes
    }
}

/// A value in a row.
pub(crate) trait Field {
    /// Writes its length and its bytes.
    fn write(&self, bytes: &mut Vec<u8>);
}

fn write(bytes: &mut Vec<u8>, field: &[u8]) {
    // Texts of the ledger are at most 64 KiB long.
    let length = i32::try_from(field.len()).unwrap_or(i32::MAX).to_be_bytes();
    bytes.reserve(length.len() + field.len());
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(field);
}

impl Field for Uuid {
    fn write(&self, bytes: &mut Vec<u8>) {
        write(bytes, self.as_bytes());
    }
}

impl Field for i64 {
    fn write(&self, bytes: &mut Vec<u8>) {
        write(bytes, &self.to_be_bytes());
    }
}

impl Field for bool {
    fn write(&self, bytes: &mut Vec<u8>) {
        write(bytes, &[u8::from(*self)]);
    }
}

impl Field for &str {
    fn write(&self, bytes: &mut Vec<u8>) {
        write(bytes, self.as_bytes());
    }
}

impl Field for DateTime<Utc> {
    fn write(&self, bytes: &mut Vec<u8>) {
        write(bytes, &(self.timestamp_micros() - SECONDS_TO_2000 * 1_000_000).to_be_bytes());
    }
}

impl Field for chrono::NaiveDate {
    fn write(&self, bytes: &mut Vec<u8>) {
        let days = self.signed_duration_since(chrono::NaiveDate::default()).num_days();
        let days = days - SECONDS_TO_2000 / 86_400;
        write(bytes, &i32::try_from(days).unwrap_or(i32::MAX).to_be_bytes());
    }
}

impl<F: Field> Field for Option<F> {
    fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Some(field) => field.write(bytes),
            None => bytes.extend_from_slice(&(-1_i32).to_be_bytes()),
        }
    }
}

/// The fields of a row, one after the other; none is null.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of `row`.
    pub(crate) fn of(row: &'a [u8]) -> Self {
        Self { rest: row.get(2..).unwrap_or_default() }
    }

    /// Fields that stand one after the other, without their number.
    pub(crate) fn after_number(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// The bytes that were not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Option<&'a [u8]>> {
        let (length, rest) = self.rest.split_first_chunk()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            self.rest = rest;
            return Some(None);
        };
        let (field, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(Some(field))
    }
}

/// A number as Postgres sends a `bigint`.
pub(crate) fn int(field: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(field.try_into().ok()?))
}

/// An instant as Postgres sends a `timestamptz`.
pub(crate) fn time(micros_since_2000: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(micros_since_2000.checked_add(SECONDS_TO_2000 * 1_000_000)?)
}

/// A field as people and programs read it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shown(pub(crate) Value);

impl Shown {
    /// Reads a field of a kind; null where there is none.
    pub(crate) fn of(column_type: ColumnType, field: Option<&[u8]>) -> Self {
        Self(field.and_then(|field| read(column_type, field)).unwrap_or(Value::Null))
    }
}

fn read(column_type: ColumnType, field: &[u8]) -> Option<Value> {
    Some(match column_type {
        ColumnType::Uuid => json!(Uuid::from_slice(field).ok()?),
        ColumnType::Int => json!(int(field)?),
        ColumnType::Text => json!(String::from_utf8_lossy(field)),
        ColumnType::Bool => json!(field == [1]),
        ColumnType::Time => json!(instant(time(int(field)?)?)),
        ColumnType::Date => {
            let days = i32::from_be_bytes(field.try_into().ok()?);
            let days = i64::from(days) + SECONDS_TO_2000 / 86_400;
            json!(chrono::NaiveDate::default() + chrono::Duration::days(days))
        }
    })
}

/// An instant to the microsecond, as Postgres keeps it.
pub(crate) fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// For people: texts without quotation marks, nothing as a dash.
impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Value::String(text) => f.write_str(text),
            Value::Null => f.write_str("-"),
            other => write!(f, "{other}"),
        }
    }
}
