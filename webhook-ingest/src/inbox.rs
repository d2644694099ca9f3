//! Storing verified messages, many in one commit.

use std::collections::HashSet;

use event_store::{BatchWriter, GroupCommit, OwnConnection, is_transient};
use service::Problem;
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

pub(crate) struct InboxWriter {
    session: OwnConnection,
}

pub(crate) fn start_writer(pool: PgPool) -> GroupCommit<InboxWriter> {
    GroupCommit::start(InboxWriter { session: OwnConnection::new(pool, &[]) }, MAX_WAITING, MAX_BATCH)
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

    /// A connection that broke while nothing came is noticed when it is used: then once more, on a new
    /// one. Whatever did get in before is found, and not new any more.
    async fn insert(&mut self, batch: &[Delivery]) -> Result<Vec<bool>, sqlx::Error> {
        let mut insert = async || self.session.run(async |session| insert(session, batch).await).await;
        match insert().await {
            Err(error) if is_transient(&error) => insert().await,
            result => result,
        }
    }
}

/// Inserts what is new, and says of each message whether it was. Of two equal messages in one
/// batch the first is new.
///
/// A message that another process is inserting is waited for. Every batch therefore goes in by the
/// order of the ids, so that no two processes ever wait for each other; those who arrive together have
/// no order of their own.
async fn insert(session: &mut PgConnection, batch: &[Delivery]) -> Result<Vec<bool>, sqlx::Error> {
    let mut order: Vec<usize> = (0..batch.len()).collect();
    order.sort_by_key(|&i| (&batch[i].webhook_id, batch[i].provider));
    let column = |of: fn(&Delivery) -> &str| order.iter().map(|&i| of(&batch[i])).collect::<Vec<_>>();
    let inserted: Vec<(String, String)> = sqlx::query_as(
        "insert into webhook_inbox (provider, webhook_id, event_type, pledge_id, body, status, finished_at)
         select provider, webhook_id, event_type, pledge_id, body,
             case when is_ignored then 'ignored' else 'pending' end,
             case when is_ignored then now() end
         from unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::boolean[])
             with ordinality as g (provider, webhook_id, event_type, pledge_id, body, is_ignored, ordinal)
         order by ordinal
         on conflict (webhook_id collate \"C\", provider collate \"C\") do nothing
         returning webhook_id, provider",
    )
    .bind(column(|d| d.provider))
    .bind(column(|d| &d.webhook_id))
    .bind(column(|d| &d.event_type))
    .bind(order.iter().map(|&i| batch[i].pledge_id).collect::<Vec<_>>())
    .bind(column(|d| &d.body))
    .bind(order.iter().map(|&i| batch[i].is_ignored).collect::<Vec<_>>())
    .fetch_all(session)
    .await?;
    let mut new: HashSet<(&str, &str)> =
        inserted.iter().map(|(webhook_id, provider)| (webhook_id.as_str(), provider.as_str())).collect();
    Ok(batch.iter().map(|d| new.remove(&(d.webhook_id.as_str(), d.provider))).collect())
}
