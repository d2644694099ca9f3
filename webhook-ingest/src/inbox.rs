//! Storing verified messages, many in one commit.

use std::collections::HashSet;

use event_store::{BatchWriter, GroupCommit, OwnConnection, is_transient, row_type};
use service::Problem;
use sqlx::error::DatabaseError;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

const MAX_WAITING: usize = 4_096;
const MAX_BATCH: usize = 500;

/// A verified message.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) provider: &'static str,
    pub(crate) webhook_id: String,
    pub(crate) event_type: String,
    /// None when it does not say, or means nothing to the ledger.
    pub(crate) pledge_id: Option<Uuid>,
    /// Whether it means nothing to the ledger: it is kept, and not worked on.
    pub(crate) is_ignored: bool,
    pub(crate) body: String,
}

impl Delivery {
    /// What names it.
    fn id(&self) -> (&str, &str) {
        (&self.webhook_id, self.provider)
    }
}

pub(crate) struct InboxWriter {
    session: OwnConnection,
}

pub(crate) fn start_writer(pool: PgPool) -> GroupCommit<InboxWriter> {
    GroupCommit::start(InboxWriter { session: OwnConnection::new(pool) }, MAX_WAITING, MAX_BATCH)
}

impl BatchWriter for InboxWriter {
    type Item = Delivery;
    /// Whether the message is new.
    type Outcome = Result<bool, Problem>;

    async fn write(&mut self, batch: Vec<Delivery>) -> Vec<Self::Outcome> {
        self.insert_bisecting(&batch).await
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
    /// another process inserted one of the messages at the same time. Whatever is in by then is found, and
    /// not new any more.
    async fn insert(&mut self, batch: &[Delivery]) -> Result<Vec<bool>, sqlx::Error> {
        let mut insert = async || self.session.run(async |session| insert(session, batch).await).await;
        match insert().await {
            Err(error) if is_transient(&error) || is_unique_violation(&error) => insert().await,
            result => result,
        }
    }
}

fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(DatabaseError::is_unique_violation)
}

/// Inserts what is new, and says of each message whether it was. Of two equal messages in one
/// batch the first is new.
///
/// A message that another process is inserting is waited for. Every batch therefore goes in by the
/// order of the ids, so that no two processes ever wait for each other; those who arrive together have
/// no order of their own.
async fn insert(session: &mut PgConnection, batch: &[Delivery]) -> Result<Vec<bool>, sqlx::Error> {
    let mut deliveries: Vec<&Delivery> = batch.iter().collect();
    deliveries.sort_by_key(|delivery| delivery.id());
    deliveries.dedup_by_key(|delivery| delivery.id());
    let rows: Vec<Row> = deliveries.into_iter().map(Row::of).collect();
    // To look up what is known costs less than to be ready for a conflict at each row.
    let inserted: Vec<(String, String)> = sqlx::query_as(
        "insert into webhook_inbox (provider, webhook_id, event_type, pledge_id, body, status, finished_at)
         select provider, webhook_id, event_type, pledge_id, body,
             case when is_ignored then 'ignored' else 'pending' end,
             case when is_ignored then now() end
         from unnest($1::webhook_delivery[]) with ordinality
             as d (provider, webhook_id, event_type, pledge_id, body, is_ignored, ordinal)
         where not exists (
             select from webhook_inbox known
             where known.webhook_id collate \"C\" = d.webhook_id and known.provider collate \"C\" = d.provider
         )
         order by ordinal
         returning webhook_id, provider",
    )
    .bind(rows)
    .fetch_all(session)
    .await?;
    let mut new: HashSet<(&str, &str)> =
        inserted.iter().map(|(webhook_id, provider)| (webhook_id.as_str(), provider.as_str())).collect();
    Ok(batch.iter().map(|delivery| new.remove(&delivery.id())).collect())
}

/// The type `webhook_delivery`.
#[derive(sqlx::Encode)]
struct Row<'a> {
    provider: &'a str,
    webhook_id: &'a str,
    event_type: &'a str,
    pledge_id: Option<Uuid>,
    body: &'a str,
    is_ignored: bool,
}
row_type!(Row, "webhook_delivery");

impl<'a> Row<'a> {
    fn of(delivery: &'a Delivery) -> Self {
        Self {
            provider: delivery.provider,
            webhook_id: &delivery.webhook_id,
            event_type: &delivery.event_type,
            pledge_id: delivery.pledge_id,
            body: &delivery.body,
            is_ignored: delivery.is_ignored,
        }
    }
}
