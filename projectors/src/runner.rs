//! Runs one projector: lease, read, fold, checkpoint.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use event_store::{ReadError, RecordedEvent, Wakeup};
use service::Shutdown;
use sqlx::{Connection, PgConnection, PgPool};

use crate::feed::Feed;

/// Events folded in one transaction.
const BATCH: i64 = 2_000;
/// An idle projector looks again after this, even if nothing woke it.
const POLL: Duration = Duration::from_millis(100);
/// Under load a projector folds this often at most: events that come meanwhile share one
/// transaction, which leaves the machine to the writers. After a pause the first is folded at once.
const GATHER: Duration = Duration::from_millis(20);
/// A worker that says nothing for this long has lost its lease.
const LEASE_SECONDS: f64 = 5.0;
/// An idle worker renews its lease this often.
const RENEW: Duration = Duration::from_secs(1);
/// A worker without a lease asks for it this often.
const ASK: Duration = Duration::from_millis(250);
/// The pauses after a failure double from the first to the last of these.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// What one projector makes of events.
#[async_trait]
pub(crate) trait Projector: Send + 'static {
    /// Its name in the table of checkpoints and in metrics.
    const NAME: &'static str;
    /// Names its checkpoint. A changed fold needs a new version, and empty tables to fold into.
    const VERSION: i32 = 1;

    /// Called when this worker takes over.
    fn lease_taken(&mut self) {}

    /// Side effects outside of the database, before the checkpoint moves: they may be repeated
    /// after a crash, so they must be idempotent.
    async fn react(&mut self, _events: &[Arc<RecordedEvent>]) -> Result<(), ProjectError> {
        Ok(())
    }

    /// Writes rows, in the transaction that moves the checkpoint.
    async fn fold(
        &mut self,
        _connection: &mut PgConnection,
        _events: &[Arc<RecordedEvent>],
    ) -> Result<(), ProjectError> {
        Ok(())
    }

    /// Called when the rows of the last fold are durable.
    fn committed(&mut self, _position: i64) {}
}

/// Why a batch was not folded. It is tried again from the same position: nothing is skipped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProjectError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Provider(#[from] payments::ProviderError),
    #[error("another worker has taken the lease")]
    LeaseLost,
}

/// What every projector's loop needs.
#[derive(Clone)]
pub(crate) struct Runner {
    pub(crate) pool: PgPool,
    pub(crate) feed: Feed,
    pub(crate) wakeup: Wakeup,
    pub(crate) shutdown: Shutdown,
}

/// The right to move a checkpoint, and where it stands. All writing goes through the session that
/// took it: when that session ends, so does the lease.
struct Lease {
    session: PgConnection,
    token: i32,
    position: i64,
    renewed: Instant,
}

impl Runner {
    pub(crate) async fn run<P: Projector>(mut self, mut projector: P) {
        let mut pause = PAUSES.0;
        while !self.shutdown.is_cancelled() {
            let failed = match self.acquire::<P>().await {
                Ok(Some(lease)) => {
                    tracing::info!(projector = P::NAME, position = lease.position, "lease taken");
                    projector.lease_taken();
                    match self.run_leased(&mut projector, lease).await {
                        Ok(()) | Err(ProjectError::LeaseLost) => None,
                        Err(error) => Some(error),
                    }
                }
                Ok(None) => {
                    self.sleep(ASK).await;
                    None
                }
                Err(error) => Some(error.into()),
            };
            match failed {
                None => pause = PAUSES.0,
                Some(error) => {
                    stopped::<P>(true);
                    tracing::error!(projector = P::NAME, %error, "the projector stopped; trying again");
                    self.sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    async fn run_leased<P: Projector>(
        &mut self,
        projector: &mut P,
        mut lease: Lease,
    ) -> Result<(), ProjectError> {
        while !self.shutdown.is_cancelled() {
            let started = Instant::now();
            let events = self.feed.read_after(lease.position, BATCH).await?;
            if let Some(last) = events.last() {
                projector.react(&events).await?;
                self.fold(projector, &mut lease, &events).await?;
                projector.committed(lease.position);
                stopped::<P>(false);
                let more_follow = events.len() as i64 == BATCH;
                observe::<P>(last.recorded_at, more_follow);
                if !more_follow {
                    tokio::time::sleep(GATHER.saturating_sub(started.elapsed())).await;
                }
            } else {
                if lease.renewed.elapsed() >= RENEW {
                    self.renew::<P>(&mut lease).await?;
                    self.observe_lag::<P>(&lease).await?;
                    stopped::<P>(false);
                }
                self.wakeup.wait(POLL).await;
            }
        }
        self.release::<P>(&mut lease).await?;
        Ok(())
    }

    /// One transaction: the rows, and the checkpoint under the lease's token.
    async fn fold<P: Projector>(
        &self,
        projector: &mut P,
        lease: &mut Lease,
        events: &[Arc<RecordedEvent>],
    ) -> Result<(), ProjectError> {
        let position = events.last().map_or(lease.position, |event| event.position);
        let mut transaction = lease.session.begin().await?;
        projector.fold(&mut transaction, events).await?;
        let moved = sqlx::query(
            "update projector_checkpoints
             set position = $1, leased_until = now() + make_interval(secs => $2), updated_at = now()
             where name = $3 and version = $4 and lease_token = $5 and position = $6",
        )
        .bind(position)
        .bind(LEASE_SECONDS)
        .bind(P::NAME)
        .bind(P::VERSION)
        .bind(lease.token)
        .bind(lease.position)
        .execute(&mut *transaction)
        .await?;
        if moved.rows_affected() != 1 {
            return Err(ProjectError::LeaseLost);
        }
        transaction.commit().await?;
        lease.position = position;
        lease.renewed = Instant::now();
        Ok(())
    }

    /// Takes the lease if its time is over or its holder's session is gone. The token counts up,
    /// which fences off the last holder.
    async fn acquire<P: Projector>(&self) -> Result<Option<Lease>, sqlx::Error> {
        // Asked on a shared connection first: a worker that stands by opens no session of its own.
        if self.is_held::<P>().await? {
            return Ok(None);
        }
        let mut session = self.pool.acquire().await?.detach();
        sqlx::query(
            "insert into projector_checkpoints (name, version) values ($1, $2) on conflict do nothing",
        )
        .bind(P::NAME)
        .bind(P::VERSION)
        .execute(&mut session)
        .await?;
        // The advisory lock under the token is what the others see of this session.
        let taken: Option<(i32, i64)> = sqlx::query_as(
            "with taken as (
                 update projector_checkpoints c
                 set lease_token = lease_token + 1, leased_until = now() + make_interval(secs => $1)
                 where c.name = $2 and c.version = $3
                     and (c.leased_until < now() or not exists (
                         select from pg_locks l
                         where l.locktype = 'advisory' and l.classid::bigint = hashtext(c.name) & 2147483647
                             and l.objid::bigint = c.lease_token
                             and l.database = (select oid from pg_database where datname = current_database())
                     ))
                 returning c.name, c.lease_token, c.position
             )
             select lease_token, position from taken, lateral pg_advisory_lock(hashtext(name) & 2147483647, lease_token)",
        )
        .bind(LEASE_SECONDS)
        .bind(P::NAME)
        .bind(P::VERSION)
        .fetch_optional(&mut session)
        .await?;
        Ok(taken.map(|(token, position)| Lease { session, token, position, renewed: Instant::now() }))
    }

    async fn is_held<P: Projector>(&self) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar(
            "select exists (
                 select from projector_checkpoints c join pg_locks l
                     on l.locktype = 'advisory' and l.classid::bigint = hashtext(c.name) & 2147483647
                         and l.objid::bigint = c.lease_token
                         and l.database = (select oid from pg_database where datname = current_database())
                 where c.name = $1 and c.version = $2 and c.leased_until >= now()
             )",
        )
        .bind(P::NAME)
        .bind(P::VERSION)
        .fetch_one(&self.pool)
        .await
    }

    async fn renew<P: Projector>(&self, lease: &mut Lease) -> Result<(), ProjectError> {
        self.extend::<P>(lease, LEASE_SECONDS).await?;
        lease.renewed = Instant::now();
        Ok(())
    }

    /// Gives the lease back, so that another worker need not wait for its end.
    async fn release<P: Projector>(&self, lease: &mut Lease) -> Result<(), ProjectError> {
        self.extend::<P>(lease, -1.0).await
    }

    async fn extend<P: Projector>(&self, lease: &mut Lease, seconds: f64) -> Result<(), ProjectError> {
        let extended = sqlx::query(
            "update projector_checkpoints set leased_until = now() + make_interval(secs => $1)
             where name = $2 and version = $3 and lease_token = $4",
        )
        .bind(seconds)
        .bind(P::NAME)
        .bind(P::VERSION)
        .bind(lease.token)
        .execute(&mut lease.session)
        .await?;
        if extended.rows_affected() == 1 { Ok(()) } else { Err(ProjectError::LeaseLost) }
    }

    async fn observe_lag<P: Projector>(&self, lease: &Lease) -> Result<(), sqlx::Error> {
        let head = event_store::head(&self.pool).await?;
        metrics::gauge!("projector_lag_events", "projector" => P::NAME).set((head - lease.position) as f64);
        if head == lease.position {
            metrics::gauge!("projector_lag_seconds", "projector" => P::NAME).set(0.0);
        }
        Ok(())
    }

    async fn sleep(&self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.shutdown.cancelled() => {}
        }
    }
}

/// Whether the projector stands still because of an error.
fn stopped<P: Projector>(stopped: bool) {
    metrics::gauge!("projector_stopped", "projector" => P::NAME).set(f64::from(u8::from(stopped)));
}

/// How old the last folded event is; nothing, once the end is reached.
fn observe<P: Projector>(recorded_at: DateTime<Utc>, more_follow: bool) {
    let age = (Utc::now() - recorded_at).to_std().unwrap_or_default();
    metrics::histogram!("projector_fold_delay_seconds", "projector" => P::NAME).record(age.as_secs_f64());
    metrics::gauge!("projector_lag_seconds", "projector" => P::NAME).set(if more_follow {
        age.as_secs_f64()
    } else {
        0.0
    });
}
