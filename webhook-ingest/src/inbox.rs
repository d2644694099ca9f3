//! Storing verified messages, many in one commit.

use std::collections::HashSet;

use event_store::{BatchWriter, GroupCommit, OwnConnection, TextAs, VarChar, is_transient, row_type};
use service::Problem;
use sqlx::error::DatabaseError;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

const MAX_WAITING: usize = 4_096;
const MAX_BATCH: usize = 500;

/// How a message came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub(crate) enum Origin {
    /// The provider delivered it, and signed its body.
    Webhook,
    /// The provider was polled, and the body is one fact of its answer.
    Poll,
}

impl Origin {
    fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Poll => "poll",
        }
    }
}

/// A verified message.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) provider: &'static str,
    pub(crate) origin: Origin,
    pub(crate) webhook_id: String,
    pub(crate) event_type: String,
    /// None when it does not say, or means nothing to the ledger.
    pub(crate) pledge_id: Option<Uuid>,
    /// Whether it means nothing to the ledger: it is kept, and not worked on.
    pub(crate) is_ignored: bool,
    pub(crate) body: String,
}

impl Delivery {
    /// Its identity: the provider's id of it, and the provider.
    fn id(&self) -> (&str, &str) {
        (&self.webhook_id, self.provider)
    }
}

pub(crate) struct InboxWriter {
    session: OwnConnection,
    /// Whether the last batch had a message that was known. Few have, and the unique index says so: only
    /// after one of them is each message looked up before it is inserted.
    look_up: bool,
}

pub(crate) fn start_writer(pool: PgPool) -> GroupCommit<InboxWriter> {
    let writer = InboxWriter { session: OwnConnection::new(pool), look_up: false };
    GroupCommit::start(writer, MAX_WAITING, MAX_BATCH)
}

impl BatchWriter for InboxWriter {
    type Item = Delivery;
    /// Whether the message is new.
    type Outcome = Result<bool, Problem>;

    async fn write(&mut self, batch: &[Delivery]) -> Vec<Self::Outcome> {
        self.insert_bisecting(batch).await
    }
}

impl InboxWriter {
    /// Inserts a batch; if the database refuses one of its messages, halves it until that one stands
    /// alone, so that it fails none of its neighbours.
    async fn insert_bisecting(&mut self, batch: &[Delivery]) -> Vec<Result<bool, Problem>> {
        match self.insert(batch).await {
            Ok(new) => new.into_iter().map(Ok).collect(),
            Err(error @ sqlx::Error::Database(_)) if batch.len() > 1 && !is_transient(&error) => {
                let (left, right) = batch.split_at(batch.len() / 2);
                let mut outcomes = Box::pin(self.insert_bisecting(left)).await;
                outcomes.extend(Box::pin(self.insert_bisecting(right)).await);
                outcomes
            }
            Err(error) => {
                let problem = Problem::from(error);
                batch.iter().map(|_| Err(problem.clone())).collect()
            }
        }
    }

    /// Once more where that helps: on a new connection after one that broke while nothing came, and after
    /// the unique index refused a message that is known, or that another process inserted at the same time.
    /// Whatever is in by then is found, and not new any more.
    async fn insert(&mut self, batch: &[Delivery]) -> Result<Vec<bool>, sqlx::Error> {
        let mut insert =
            async |look_up| self.session.run(async |session| insert(session, batch, look_up).await).await;
        let result = match insert(self.look_up).await {
            Err(error) if is_transient(&error) || is_unique_violation(&error) => insert(true).await,
            result => result,
        };
        self.look_up = result.as_ref().is_ok_and(|new| new.contains(&false));
        result
    }
}

fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(DatabaseError::is_unique_violation)
}

/// The statement that inserts the messages of `$1`, up to which of them and what it returns.
macro_rules! insert {
    ($rest:literal) => {
        concat!(
            "insert into webhook_inbox
                 (provider, origin, webhook_id, event_type, pledge_id, body, status, finished_at)
             select provider, origin, webhook_id, event_type, pledge_id, body,
                 case when is_ignored then 'ignored' else 'pending' end,
                 case when is_ignored then now() end
             from unnest($1::webhook_delivery[]) with ordinality
                 as d (provider, origin, webhook_id, event_type, pledge_id, body, is_ignored, ordinal) ",
            $rest
        )
    };
}

/// Inserts what is new, and says of each message whether it was. Of two equal messages in one
/// batch the first is new. Unless each message is looked up, one that is known refuses the whole batch.
///
/// A message that another process is inserting is waited for. Every batch therefore goes in by the
/// order of the ids, so that no two processes ever wait for each other; those who arrive together have
/// no order of their own.
async fn insert(
    session: &mut PgConnection,
    batch: &[Delivery],
    look_up: bool,
) -> Result<Vec<bool>, sqlx::Error> {
    let mut firsts: Vec<usize> = (0..batch.len()).collect();
    firsts.sort_by_key(|i| batch[*i].id());
    firsts.dedup_by_key(|i| batch[*i].id());
    let rows: Vec<Row> = firsts.iter().map(|i| Row::of(&batch[*i])).collect();
    let mut new = vec![false; batch.len()];
    if look_up {
        let inserted = insert_unknown(session, rows).await?;
        let inserted: HashSet<_> = inserted.iter().map(|(id, provider)| (&**id, &**provider)).collect();
        firsts.retain(|i| inserted.contains(&batch[*i].id()));
    } else {
        sqlx::query(insert!("order by ordinal")).bind(rows).execute(session).await?;
    }
    firsts.into_iter().for_each(|i| new[i] = true);
    Ok(new)
}

/// Inserts the messages that are not known, and returns their names. To be ready for a conflict at each
/// row would cost more than to look it up.
async fn insert_unknown(
    session: &mut PgConnection,
    rows: Vec<Row<'_>>,
) -> Result<Vec<(String, String)>, sqlx::Error> {
    sqlx::query_as(insert!(
        "where not exists (
             select from webhook_inbox known
             where known.webhook_id collate \"C\" = d.webhook_id and known.provider collate \"C\" = d.provider
         )
         order by ordinal
         returning webhook_id, provider"
    ))
    .bind(rows)
    .fetch_all(session)
    .await
}

/// The type `webhook_delivery`.
#[derive(sqlx::Encode)]
struct Row<'a> {
    provider: VarChar<&'a str>,
    origin: &'a str,
    webhook_id: VarChar<&'a str>,
    event_type: VarChar<&'a str>,
    pledge_id: Option<Uuid>,
    body: &'a str,
    is_ignored: bool,
}
row_type!(Row, "webhook_delivery");

impl<'a> Row<'a> {
    fn of(delivery: &'a Delivery) -> Self {
        Self {
            provider: TextAs(delivery.provider),
            origin: delivery.origin.as_str(),
            webhook_id: TextAs(&delivery.webhook_id),
            event_type: TextAs(&delivery.event_type),
            pledge_id: delivery.pledge_id,
            body: &delivery.body,
            is_ignored: delivery.is_ignored,
        }
    }
}
