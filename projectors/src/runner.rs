//! Runs one projector: lease, read, fold, checkpoint.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::Utc;
use event_store::{ReadError, RecordedEvent, Wakeup};
use read_model::Projection;
use service::Shutdown;
use sqlx::{Connection, Executor, PgConnection, PgPool};

use crate::feed::Feed;

/// Events folded in one transaction.
const BATCH: i64 = 2_000;
/// An idle projector looks again after this, even if nothing woke it.
const POLL: Duration = Duration::from_millis(100);
/// A worker that says nothing for this long has lost its lease.
const LEASE_SECONDS: f64 = 4.0;
/// A worker that hangs in the middle of a transaction loses its session before its lease is over, so
/// that its locks do not hold up the next worker.
const HUNG_TRANSACTION: &str = "set idle_in_transaction_session_timeout = '3s'";
/// An idle worker renews its lease this often.
const RENEW: Duration = Duration::from_secs(1);
/// A worker without a lease asks for it this often.
const ASK: Duration = Duration::from_millis(250);
/// The pauses after a failure double from the first to the last of these.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Folds events into tables, or reacts to them.
#[async_trait]
pub(crate) trait Projector: Send + 'static {
    /// The projection whose tables it writes, and which is rebuilt as one; none for a reaction. The fold
    /// names tables without a schema, so that it can be run on others of the same names.
    const PROJECTION: Option<Projection> = None;
    /// Its name in the table of checkpoints and in metrics. A reaction has one of its own.
    const NAME: &'static str = match Self::PROJECTION {
        Some(projection) => projection.name(),
        None => panic!("a reaction has a name of its own"),
    };
    /// Names its checkpoint. A changed fold needs a new version.
    const VERSION: i32 = 1;
    /// Under load it folds this often at most: events that come meanwhile share one transaction,
    /// which leaves the machine to the writers. After a pause the first is folded at once.
    const GATHER: Duration = Duration::from_millis(50);

    /// Whether it could make something of an event of this aggregate and name. It stops at one that it
    /// needs and does not understand, and passes by others.
    fn needs(_aggregate_type: &str, _event_type: &str) -> bool {
        true
    }

    /// Called when this worker takes over.
    fn lease_taken(&mut self, _held: Held) {}

    /// Called when this worker holds the lease no longer.
    fn lease_lost(&mut self) {}

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

impl ProjectError {
    /// Whether an event is the reason, so that fewer events may do better; otherwise the database is.
    fn is_about_an_event(&self) -> bool {
        match self {
            Self::Database(error) | Self::Read(ReadError::Database(error)) => is_refused(error),
            Self::Read(ReadError::Decode { .. }) | Self::Provider(_) => true,
            Self::LeaseLost => false,
        }
    }
}

/// Whether Postgres does not want what it is given, rather than being away, overloaded or stopping.
fn is_refused(error: &sqlx::Error) -> bool {
    const STATEMENT_TOOK_TOO_LONG: &str = "57014";
    let Some(code) = error.as_database_error().and_then(|error| error.code()) else { return false };
    let passing = ["08", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class));
    !passing || code == STATEMENT_TOOK_TOO_LONG
}

/// The loop of a projector.
#[derive(Clone)]
pub(crate) struct Runner {
    pub(crate) pool: PgPool,
    pub(crate) feed: Feed,
    pub(crate) wakeup: Wakeup,
    pub(crate) shutdown: Shutdown,
}

/// The lease as its holder knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// The version of its projector.
    pub(crate) version: i32,
    /// Counts up whenever the lease is taken, which fences off the last holder.
    pub(crate) token: i32,
    /// Counts up when the rows were replaced otherwise than by folding on.
    pub(crate) generation: i32,
}

/// The right to move a checkpoint, and where it stands. All writing goes through the session that
/// took it: when that session ends, so does the lease.
struct Lease {
    session: PgConnection,
    held: Held,
    position: i64,
    renewed: Instant,
}

/// Events to fold, and the position after them.
struct Batch {
    events: Vec<Arc<RecordedEvent>>,
    up_to: i64,
}

impl Runner {
    pub(crate) async fn run<P: Projector>(mut self, mut projector: P) {
        let mut pause = PAUSES.0;
        let mut limit = BATCH;
        while !self.shutdown.is_cancelled() {
            let mut lease = match self.acquire::<P>().await {
                Ok(Some(lease)) => lease,
                Ok(None) => {
                    pause = PAUSES.0;
                    self.sleep(ASK).await;
                    continue;
                }
                Err(error) => {
                    self.pause_after::<P>(&error.into(), &mut pause).await;
                    continue;
                }
            };
            let began_at = lease.position;
            tracing::info!(projector = P::NAME, position = began_at, "lease taken");
            projector.lease_taken(lease.held);
            let ended = self.run_leased(&mut projector, &mut lease, &mut limit).await;
            projector.lease_lost();
            self.feed.leave(P::NAME).await;
            if lease.position > began_at {
                pause = PAUSES.0;
            }
            match ended {
                Ok(()) | Err(ProjectError::LeaseLost) => {}
                Err(error) => {
                    if error.is_about_an_event()
                        && let Err(error) = self.record_stop::<P>(&mut lease, &error).await
                    {
                        tracing::warn!(projector = P::NAME, %error, "its stop cannot be written down");
                    }
                    self.pause_after::<P>(&error, &mut pause).await;
                }
            }
        }
    }

    async fn run_leased<P: Projector>(
        &mut self,
        projector: &mut P,
        lease: &mut Lease,
        limit: &mut i64,
    ) -> Result<(), ProjectError> {
        let mut read_ahead = None;
        while !self.shutdown.is_cancelled() {
            let started = Instant::now();
            let batch = match read_ahead.take() {
                Some(batch) => batch,
                None => self.read::<P>(lease.position, *limit).await?,
            };
            if batch.up_to == lease.position {
                if lease.renewed.elapsed() >= RENEW {
                    self.renew::<P>(lease).await?;
                    stopped::<P>(false);
                }
                self.wakeup.wait(POLL).await;
                continue;
            }
            let more_follow = batch.events.len() as i64 == *limit;
            let folded = if more_follow {
                // The next events are read and decoded while Postgres is busy with these.
                let reading = self.read::<P>(batch.up_to, *limit);
                let (folded, read) = tokio::join!(self.fold(projector, lease, &batch), reading);
                read_ahead = read.ok();
                folded
            } else {
                self.fold(projector, lease, &batch).await
            };
            match folded {
                Ok(()) => *limit = (*limit * 2).min(BATCH),
                // The next holder has folded these events already, and that may be what is wrong.
                Err(error) if error.is_about_an_event() && !self.still_holds::<P>(lease).await? => {
                    tracing::info!(projector = P::NAME, %error, "the lease was lost meanwhile");
                    return Err(ProjectError::LeaseLost);
                }
                // Halved until the event that cannot be folded stands alone.
                Err(error) if error.is_about_an_event() && batch.events.len() > 1 => {
                    *limit = batch.events.len() as i64 / 2;
                    read_ahead = None;
                    continue;
                }
                Err(error) => return Err(error),
            }
            stopped::<P>(false);
            observe::<P>(&batch);
            if !more_follow {
                tokio::time::sleep(P::GATHER.saturating_sub(started.elapsed())).await;
            }
        }
        self.release::<P>(lease).await
    }

    /// The events that follow `position`. One that cannot be understood and is not needed is passed by.
    async fn read<P: Projector>(&self, position: i64, limit: i64) -> Result<Batch, ProjectError> {
        match self.feed.read_after(P::NAME, position, limit).await {
            Ok(events) => {
                let up_to = events.last().map_or(position, |event| event.position);
                Ok(Batch { events, up_to })
            }
            Err(ReadError::Decode { position, aggregate_type, event_type, .. })
                if !P::needs(&aggregate_type, &event_type) =>
            {
                Ok(Batch { events: vec![], up_to: position })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reacts; then, in one transaction, the rows, and the checkpoint under the lease's token.
    async fn fold<P: Projector>(
        &self,
        projector: &mut P,
        lease: &mut Lease,
        batch: &Batch,
    ) -> Result<(), ProjectError> {
        projector.react(&batch.events).await?;
        let mut transaction = lease.session.begin().await?;
        projector.fold(&mut transaction, &batch.events).await?;
        let moved = sqlx::query(
            "update projector_checkpoints
             set position = $1, leased_until = now() + make_interval(secs => $2), updated_at = now(),
                 status = 'running', blocked_position = null, reason = null, stopped_at = null
             where name = $3 and version = $4 and lease_token = $5 and position = $6",
        )
        .bind(batch.up_to)
        .bind(LEASE_SECONDS)
        .bind(P::NAME)
        .bind(P::VERSION)
        .bind(lease.held.token)
        .bind(lease.position)
        .execute(&mut *transaction)
        .await?;
        if moved.rows_affected() != 1 {
            return Err(ProjectError::LeaseLost);
        }
        transaction.commit().await?;
        lease.position = batch.up_to;
        lease.renewed = Instant::now();
        projector.committed(lease.position);
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
        session.execute(HUNG_TRANSACTION).await?;
        // A program of a later version ends the time of the earlier ones.
        sqlx::query(
            "with outdated as (delete from projector_checkpoints where name = $1 and version < $2)
             insert into projector_checkpoints (name, version, generation)
             select $1, $2, coalesce(max(generation) + 1, 0) from projector_checkpoints where name = $1
             having coalesce(max(version), 0) < $2",
        )
        .bind(P::NAME)
        .bind(P::VERSION)
        .execute(&mut session)
        .await?;
        // The advisory lock under the token is what the others see of this session.
        let taken: Option<(i32, i32, i64)> = sqlx::query_as(
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
                 returning c.name, c.lease_token, c.generation, c.position
             )
             select lease_token, generation, position
             from taken, lateral pg_advisory_lock(hashtext(name) & 2147483647, lease_token)",
        )
        .bind(LEASE_SECONDS)
        .bind(P::NAME)
        .bind(P::VERSION)
        .fetch_optional(&mut session)
        .await?;
        Ok(taken.map(|(token, generation, position)| Lease {
            session,
            held: Held { version: P::VERSION, token, generation },
            position,
            renewed: Instant::now(),
        }))
    }

    /// Whether another worker holds the lease, or a program of a later version has taken over.
    async fn is_held<P: Projector>(&self) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar(
            "select exists (
                 select from projector_checkpoints c join pg_locks l
                     on l.locktype = 'advisory' and l.classid::bigint = hashtext(c.name) & 2147483647
                         and l.objid::bigint = c.lease_token
                         and l.database = (select oid from pg_database where datname = current_database())
                 where c.name = $1 and c.version = $2 and c.leased_until >= now()
             ) or exists (select from projector_checkpoints c where c.name = $1 and c.version > $2)",
        )
        .bind(P::NAME)
        .bind(P::VERSION)
        .fetch_one(&self.pool)
        .await
    }

    async fn still_holds<P: Projector>(&self, lease: &mut Lease) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar(
            "select exists (
                 select from projector_checkpoints where name = $1 and version = $2 and lease_token = $3
             )",
        )
        .bind(P::NAME)
        .bind(P::VERSION)
        .bind(lease.held.token)
        .fetch_one(&mut lease.session)
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
        .bind(lease.held.token)
        .execute(&mut lease.session)
        .await?;
        if extended.rows_affected() == 1 { Ok(()) } else { Err(ProjectError::LeaseLost) }
    }

    /// Writes down where it stands still and why, and gives the lease back: a worker of another
    /// version may know what to make of the event.
    async fn record_stop<P: Projector>(
        &self,
        lease: &mut Lease,
        error: &ProjectError,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "update projector_checkpoints
             set status = 'stopped', blocked_position = $1, reason = left($2, 1000),
                 stopped_at = coalesce(stopped_at, now()), leased_until = '-infinity'
             where name = $3 and version = $4 and lease_token = $5",
        )
        .bind(lease.position + 1)
        .bind(error.to_string())
        .bind(P::NAME)
        .bind(P::VERSION)
        .bind(lease.held.token)
        .execute(&mut lease.session)
        .await?;
        Ok(())
    }

    async fn pause_after<P: Projector>(&self, error: &ProjectError, pause: &mut Duration) {
        stopped::<P>(true);
        tracing::error!(projector = P::NAME, %error, "the projector stopped; trying again");
        self.sleep(*pause).await;
        *pause = (*pause * 2).min(PAUSES.1);
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

/// How old the last folded event is.
fn observe<P: Projector>(batch: &Batch) {
    if let Some(last) = batch.events.last() {
        let age = (Utc::now() - last.recorded_at).to_std().unwrap_or_default();
        metrics::histogram!("projector_fold_delay_seconds", "projector" => P::NAME).record(age.as_secs_f64());
    }
}
