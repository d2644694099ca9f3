//! One instant of the database, seen by several connections at once.

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};

/// The header of a binary COPY, before its first row: a signature, flags, and the length of an
/// extension, which nobody uses.
const HEADER_BYTES: usize = 19;
/// The trailer of a binary COPY, in the place of a row's number of fields.
const END: [u8; 2] = [0xff, 0xff];

/// The ledger, the checkpoints and the read tables of one instant, however long one looks.
pub(crate) struct Snapshot {
    options: PgConnectOptions,
    holder: PgConnection,
    id: String,
}

impl Snapshot {
    /// The database as it is now.
    ///
    /// # Errors
    /// It cannot be reached.
    pub(crate) async fn take(options: PgConnectOptions) -> anyhow::Result<Self> {
        // Whoever looks for an hour is not idle, whatever the server thinks; and an auditor's query
        // is short enough to need no compiled plan. Rows come in the order of an index.
        let options = options.options([
            ("statement_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
            ("jit", "off"),
            ("enable_sort", "off"),
        ]);
        let mut holder = begin(&options).await?;
        let id: String = sqlx::query_scalar("select pg_export_snapshot()").fetch_one(&mut holder).await?;
        let harmless = |c: char| c.is_ascii_alphanumeric() || c == '-';
        ensure!(id.chars().all(harmless), "the server gives a snapshot a strange name: {id:?}");
        Ok(Self { options, holder, id })
    }

    /// The connection that holds the snapshot, for small questions.
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.holder
    }

    /// Another connection that sees the same instant, for a COPY of its own.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub(crate) async fn open(&self) -> anyhow::Result<PgConnection> {
        let mut connection = begin(&self.options).await?;
        connection.execute(format!("set transaction snapshot '{}'", self.id).as_str()).await?;
        Ok(connection)
    }
}

async fn begin(options: &PgConnectOptions) -> anyhow::Result<PgConnection> {
    let mut connection = options.connect().await.context("Postgres cannot be reached")?;
    connection.execute("begin isolation level repeatable read read only").await?;
    Ok(connection)
}

/// Reads the rows of `select` in Postgres's binary form, each of which is given to `row`, until it
/// returns false.
///
/// # Errors
/// The database says so, or `row` does.
pub(crate) async fn copy(
    mut connection: PgConnection,
    select: &str,
    mut row: impl FnMut(&[u8]) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let mut messages = connection.copy_out_raw(&format!("copy ({select}) to stdout (format binary)")).await?;
    let mut header = HEADER_BYTES;
    // A message holds one row; the header stands before the first.
    while let Some(message) = messages.next().await {
        let message = message.context("the rows were interrupted")?;
        let bytes = &message[header.min(message.len())..];
        header = 0;
        if bytes.is_empty() || bytes == END {
            continue;
        }
        if !row(bytes)? {
            drop(messages);
            // What is still on its way ends with the connection.
            return Ok(connection.close_hard().await?);
        }
    }
    drop(messages);
    Ok(connection.close().await?)
}
