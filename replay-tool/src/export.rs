//! Events in files.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use serde_json::value::RawValue;
use service::csv;

use crate::connection::Connection;
use crate::ledger_rows::{LedgerRow, read_rows};
use crate::progress::Progress;
use crate::snapshot::Snapshot;
use crate::tuple::instant;

/// Events of a row group in a Parquet file; they are in memory together.
const ROW_GROUP_EVENTS: usize = 20_000;

/// Write events into a file
///
/// Writes every event between two positions, in order, exactly as the ledger holds it. It takes the
/// same memory however many there are.
///
/// ndjson has one object per line, with payload and metadata as objects. csv and parquet have the same
/// columns, with payload and metadata as JSON texts; times are microseconds in UTC. In csv, what a
/// spreadsheet would run as a formula stands as an escape in these texts, which mean the same.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  replay export > events.ndjson
  replay export --format csv --from 1000 --to 1999 --out events.csv
  replay export --out events.parquet

Exit codes: 0 written, 2 it could not be written.")]
pub(crate) struct Arguments {
    /// The form. [default: what the name of --out ends with, or else ndjson]
    #[arg(long, value_enum)]
    format: Option<Format>,

    /// The first position.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..))]
    from: i64,

    /// The last position. [default: the end of the ledger]
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
    to: Option<i64>,

    /// The file; it is written anew. [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Ndjson,
    Csv,
    Parquet,
}

/// Writes the events.
///
/// # Errors
/// The ledger cannot be read, or the file not be written.
pub(crate) async fn run(connection: &Connection, arguments: Arguments) -> anyhow::Result<bool> {
    let format = arguments.format()?;
    let mut snapshot = Snapshot::take(connection.addresses()?.database()?).await?;
    let head = event_store::head(snapshot.connection()).await?;
    let to = arguments.to.unwrap_or(head).min(head);
    let out: Box<dyn Write + Send> = match &arguments.out {
        Some(path) => {
            Box::new(File::create(path).with_context(|| format!("{} cannot be made", path.display()))?)
        }
        None => Box::new(io::stdout()),
    };
    let mut writer = EventWriter::new(format, BufWriter::new(out))?;
    let total = (to - arguments.from + 1).max(0);
    let bar = Progress::shown().begin("exporting", total.unsigned_abs());
    let mut written = 0;
    read_rows(snapshot.open().await?, arguments.from, to, |row| {
        written += 1;
        bar.at(written);
        writer.write(row)
    })
    .await?;
    bar.end();
    match writer.finish() {
        Err(error) if is_broken_pipe(&error) => Ok(true),
        finished => finished.map(|()| true),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

impl Arguments {
    fn format(&self) -> anyhow::Result<Format> {
        if let Some(format) = self.format {
            return Ok(format);
        }
        let Some(out) = &self.out else { return Ok(Format::Ndjson) };
        match out.extension().and_then(|extension| extension.to_str()) {
            Some("ndjson" | "jsonl" | "json") => Ok(Format::Ndjson),
            Some("csv") => Ok(Format::Csv),
            Some("parquet") => Ok(Format::Parquet),
            _ => bail!("{} does not say which form is meant; name one by --format", out.display()),
        }
    }
}

type Out = BufWriter<Box<dyn Write + Send>>;

enum EventWriter {
    Ndjson(Out),
    Csv(Out),
    Parquet(Box<ParquetWriter>),
}

const COLUMNS: [&str; 9] = [
    "position",
    "recorded_at",
    "aggregate_type",
    "aggregate_id",
    "sequence",
    "event_type",
    "event_version",
    "payload",
    "metadata",
];

impl EventWriter {
    fn new(format: Format, out: Out) -> anyhow::Result<Self> {
        Ok(match format {
            Format::Ndjson => Self::Ndjson(out),
            Format::Csv => {
                let mut out = out;
                let names = COLUMNS.map(|name| format!("\"{name}\"")).join(",");
                out.write_all(format!("{names}\r\n").as_bytes())?;
                Self::Csv(out)
            }
            Format::Parquet => Self::Parquet(Box::new(ParquetWriter::new(out)?)),
        })
    }

    fn write(&mut self, row: LedgerRow<'_>) -> anyhow::Result<()> {
        match self {
            Self::Ndjson(out) => write_json(out, &row),
            Self::Csv(out) => Ok(write_csv(out, &row)?),
            Self::Parquet(writer) => writer.write(&row),
        }
    }

    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Ndjson(mut out) => Ok(out.flush()?),
            Self::Csv(mut out) => Ok(out.flush()?),
            Self::Parquet(writer) => writer.finish(),
        }
    }
}

/// As in the other exports, no cell is run by a spreadsheet.
fn write_csv(out: &mut Out, row: &LedgerRow<'_>) -> io::Result<()> {
    let mut line = row.position.to_string().into_bytes();
    for text in [&instant(row.recorded_at), row.aggregate_type, row.aggregate_id] {
        line.push(b',');
        csv::write_cell(text, &mut line)?;
    }
    line.extend(format!(",{}", row.sequence).bytes());
    for text in [row.event_type, row.event_version] {
        line.push(b',');
        csv::write_cell(text, &mut line)?;
    }
    for json in [row.payload, row.metadata] {
        line.push(b',');
        csv::write_json_cell(json, &mut line)?;
    }
    line.extend(b"\r\n");
    out.write_all(&line)
}

/// One object per line. The bytes of payload and metadata stay as they are in the ledger.
fn write_json(out: &mut Out, row: &LedgerRow<'_>) -> anyhow::Result<()> {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        position: i64,
        recorded_at: String,
        aggregate_type: &'a str,
        aggregate_id: &'a str,
        sequence: i64,
        event_type: &'a str,
        event_version: &'a str,
        payload: &'a RawValue,
        metadata: &'a RawValue,
    }
    let line = Line {
        position: row.position,
        recorded_at: instant(row.recorded_at),
        aggregate_type: row.aggregate_type,
        aggregate_id: row.aggregate_id,
        sequence: row.sequence,
        event_type: row.event_type,
        event_version: row.event_version,
        payload: serde_json::from_str(row.payload)?,
        metadata: serde_json::from_str(row.metadata)?,
    };
    serde_json::to_writer(&mut *out, &line)?;
    Ok(out.write_all(b"\n")?)
}

const SCHEMA: &str = "
    message event {
        required int64 position;
        required int64 recorded_at (timestamp(micros, true));
        required binary aggregate_type (utf8);
        required binary aggregate_id (utf8);
        required int64 sequence;
        required binary event_type (utf8);
        required binary event_version (utf8);
        required binary payload (json);
        required binary metadata (json);
    }";

/// The columns of the events that are not written yet, in the order of the schema.
struct ParquetWriter {
    file: SerializedFileWriter<Out>,
    positions: Vec<i64>,
    recorded_at: Vec<i64>,
    sequences: Vec<i64>,
    texts: [Vec<ByteArray>; 6],
}

impl ParquetWriter {
    fn new(out: Out) -> anyhow::Result<Self> {
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let file = SerializedFileWriter::new(out, schema, Arc::new(properties))?;
        Ok(Self {
            file,
            positions: Vec::new(),
            recorded_at: Vec::new(),
            sequences: Vec::new(),
            texts: Default::default(),
        })
    }

    fn write(&mut self, row: &LedgerRow<'_>) -> anyhow::Result<()> {
        self.positions.push(row.position);
        self.recorded_at.push(row.recorded_at.timestamp_micros());
        self.sequences.push(row.sequence);
        let texts = [
            row.aggregate_type,
            row.aggregate_id,
            row.event_type,
            row.event_version,
            row.payload,
            row.metadata,
        ];
        for (column, text) in self.texts.iter_mut().zip(texts) {
            column.push(ByteArray::from(text));
        }
        if self.positions.len() < ROW_GROUP_EVENTS { Ok(()) } else { self.write_group() }
    }

    fn write_group(&mut self) -> anyhow::Result<()> {
        if self.positions.is_empty() {
            return Ok(());
        }
        let mut group = self.file.next_row_group()?;
        let [types, ids, events, versions, payloads, metadata] = &mut self.texts;
        write_ints(&mut group, &mut self.positions)?;
        write_ints(&mut group, &mut self.recorded_at)?;
        write_texts(&mut group, types)?;
        write_texts(&mut group, ids)?;
        write_ints(&mut group, &mut self.sequences)?;
        for column in [events, versions, payloads, metadata] {
            write_texts(&mut group, column)?;
        }
        group.close()?;
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<()> {
        self.write_group()?;
        self.file.finish()?;
        Ok(self.file.inner_mut().flush()?)
    }
}

fn write_ints(group: &mut SerializedRowGroupWriter<'_, Out>, ints: &mut Vec<i64>) -> anyhow::Result<()> {
    let mut column = group.next_column()?.context("the schema has a column less")?;
    column.typed::<Int64Type>().write_batch(ints, None, None)?;
    column.close()?;
    ints.clear();
    Ok(())
}

fn write_texts(
    group: &mut SerializedRowGroupWriter<'_, Out>,
    texts: &mut Vec<ByteArray>,
) -> anyhow::Result<()> {
    let mut column = group.next_column()?.context("the schema has a column less")?;
    column.typed::<ByteArrayType>().write_batch(texts, None, None)?;
    column.close()?;
    texts.clear();
    Ok(())
}
