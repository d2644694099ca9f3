//! Builds a projection anew beside the live one, compares both at one position, and switches over.
//!
//! The new tables stand in a schema of their own, `rebuild_NAME`, under the same names. The fold is the
//! projector's own: its session sees only that schema, so it cannot touch a live table. Readers and the
//! live projector go on meanwhile. The switch is one short transaction that puts the tables into each
//! other's place and the live checkpoint to where the new tables are, under a new token: the live projector
//! goes on from there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event_store::{EventReader, ReadError};
use futures_util::future::BoxFuture;
use read_model::Projection;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, PgPool};

use crate::compare::{TableDifference, compare};
use crate::runner::{ProjectError, Projector};

/// Events folded in one transaction.
const BATCH: i64 = 5_000;
/// Most events that a switch folds: more would hold up readers.
const SWITCH_EVENTS: i64 = 1_000;
/// Longest wait for the locks of one switch, since readers queue behind it; after that it tries again.
const LOCK_TIMEOUT: &str = "set local lock_timeout = '150ms'";
/// Pause between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// Longest time spent on trying to lock the tables.
const LOCK_PATIENCE: Duration = Duration::from_secs(120);

/// Options of a rebuild.
#[derive(Clone, Copy, Debug, Default)]
pub struct RebuildOptions {
    /// Begins anew, even if an earlier run left something to go on from.
    pub restart: bool,
    /// Switches over even if the live tables differ from the new ones.
    pub accept_differences: bool,
    /// How it reads the ledger.
    pub reader: EventReader,
}

/// Stage of a rebuild.
#[derive(Clone, Debug)]
pub enum RebuildProgress {
    /// It begins, or goes on where an earlier run ended.
    Started {
        /// The last position that was folded already; 0 at the beginning.
        position: i64,
    },
    /// It has folded so far.
    Folded {
        /// The last position folded.
        position: i64,
        /// The end of the ledger.
        head: i64,
    },
    /// It compares the new tables with the live ones.
    Comparing {
        /// Where both are.
        position: i64,
    },
    /// It waits for a moment in which nobody uses the tables.
    Switching,
}

/// Outcome of a rebuild.
#[derive(Clone, Debug)]
pub struct Rebuilt {
    /// Where both were compared; none if the live projector was behind the new tables.
    pub compared_at: Option<i64>,
    /// The tables that differ there.
    pub differences: Vec<TableDifference>,
    /// Where the switch was made, and how long readers waited at most; none if it was not made,
    /// because of the differences.
    pub switched: Option<(i64, Duration)>,
}

/// Why a projection was not rebuilt. Whatever was built is kept, and the next run goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// Another run is at it.
    #[error("another run is rebuilding {0}")]
    Busy(&'static str),
    /// The user has no right to.
    #[error("{user} does not own the table {table}; use the user that runs `careforall migrate`")]
    NotOwner {
        /// Who asks.
        user: String,
        /// A table of somebody else.
        table: String,
    },
    /// Somebody added something to a table that the switch would lose.
    #[error("{0}, which the switch would lose; remove it first")]
    WouldLose(String),
    /// The projectors have never run.
    #[error("{0} was never folded; start the projectors, which fill it by themselves")]
    NeverFolded(&'static str),
    /// A later version of the program has taken over.
    #[error("version {live} of {name} is live, and this program has version {ours}; use the later program")]
    Outdated {
        /// The projection.
        name: &'static str,
        /// The version that is live.
        live: i32,
        /// The version of this program.
        ours: i32,
    },
    /// The tables were in use all the time.
    #[error("the tables were in use for {0:?} without a gap; run it again, it goes on from here")]
    NoGap(Duration),
    /// The ledger cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An event cannot be folded.
    #[error("behind position {position}: {reason}")]
    Fold {
        /// The last position that was folded.
        position: i64,
        /// The error, as a sentence.
        reason: String,
    },
    /// The database refuses something or is away.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Is told how far a rebuild has come.
pub(crate) type Report<'a> = Box<dyn FnMut(RebuildProgress) + Send + 'a>;

/// Builds the projection of `P` anew.
pub(crate) fn build<'a, P: Projector + Default>(
    pool: &'a PgPool,
    options: RebuildOptions,
    report: Report<'a>,
) -> BoxFuture<'a, Result<Rebuilt, RebuildError>> {
    Box::pin(Build::run(pool, P::default(), options, report))
}

struct Build<'a, P> {
    pool: &'a PgPool,
    reader: EventReader,
    projector: P,
    report: Report<'a>,
    /// Its name is `rebuild_NAME`.
    schema: String,
    /// Sees nothing but the schema, and holds the lock that makes this the only run.
    session: PgConnection,
    /// The last position folded.
    position: i64,
}

impl<'a, P: Projector> Build<'a, P> {
    async fn run(
        pool: &'a PgPool,
        projector: P,
        options: RebuildOptions,
        report: Report<'a>,
    ) -> Result<Rebuilt, RebuildError> {
        let schema = format!("rebuild_{}", P::NAME);
        let session = open_session(pool, &schema).await?;
        let mut build =
            Self { pool, reader: options.reader, projector, report, schema, session, position: 0 };
        build.lock().await?;
        build.check().await?;
        build.start_or_go_on(options.restart).await?;
        (build.report)(RebuildProgress::Started { position: build.position });
        build.fold_up_to_live().await?;
        let (compared_at, differences) = build.compare().await?;
        if !differences.is_empty() && !options.accept_differences {
            return Ok(Rebuilt { compared_at, differences, switched: None });
        }
        let switched = build.switch().await?;
        build.drop_old().await?;
        build.session.close().await?;
        Ok(Rebuilt { compared_at, differences, switched: Some(switched) })
    }

    /// One run at a time; the lock ends with the session.
    async fn lock(&mut self) -> Result<(), RebuildError> {
        let locked: bool = sqlx::query_scalar(
            "select pg_try_advisory_lock(hashtextextended('careforall rebuild ' || $1, 0))",
        )
        .bind(P::NAME)
        .fetch_one(&mut self.session)
        .await?;
        if locked { Ok(()) } else { Err(RebuildError::Busy(P::NAME)) }
    }

    /// Whether this user may do it, and whether the tables have only what is carried over.
    async fn check(&mut self) -> Result<(), RebuildError> {
        let foreign: Option<(String, String)> = sqlx::query_as(
            "select current_user::text, relname::text from pg_class
             where oid = any ($1::text[]::regclass[]) and not pg_has_role(relowner, 'usage') limit 1",
        )
        .bind(live_names::<P>())
        .fetch_optional(&mut self.session)
        .await?;
        if let Some((user, table)) = foreign {
            return Err(RebuildError::NotOwner { user, table });
        }
        let lost: Option<String> = sqlx::query_scalar(
            "select format('trigger %I stands on %s', tgname, tgrelid::regclass) from pg_trigger
             where tgrelid = any ($1::text[]::regclass[]) and not tgisinternal
             union all
             select format('the foreign key %I refers to %s', conname, confrelid::regclass) from pg_constraint
             where confrelid = any ($1::text[]::regclass[]) and contype = 'f'
             union all
             select format('the materialised view %s reads %s', v.oid::regclass, d.refobjid::regclass)
             from pg_depend d join pg_rewrite r on r.oid = d.objid join pg_class v on v.oid = r.ev_class
             where d.classid = 'pg_rewrite'::regclass and d.refobjid = any ($1::text[]::regclass[])
                 and v.relkind = 'm'
             limit 1",
        )
        .bind(live_names::<P>())
        .fetch_optional(&mut self.session)
        .await?;
        match lost {
            Some(what) => Err(RebuildError::WouldLose(what)),
            None => Ok(()),
        }
    }

    /// Goes on with what an earlier run has built, if the tables still have that shape.
    async fn start_or_go_on(&mut self, restart: bool) -> Result<(), RebuildError> {
        self.drop_old().await?;
        let kept: Option<i64> = sqlx::query_scalar(
            "select position from public.projection_rebuilds
             where name = $1 and version = $2
                 and migration = (select max(version) from public._sqlx_migrations)",
        )
        .bind(P::NAME)
        .bind(P::VERSION)
        .fetch_optional(&mut self.session)
        .await?;
        match kept {
            Some(position) if !restart => self.position = position,
            Some(_) | None => self.start().await?,
        }
        Ok(())
    }

    /// Makes empty tables that are like the live ones in everything but their content.
    async fn start(&mut self) -> Result<(), RebuildError> {
        let mut transaction = self.session.begin().await?;
        transaction.execute(format!("drop schema if exists {} cascade", self.schema).as_str()).await?;
        transaction.execute(format!("create schema {}", self.schema).as_str()).await?;
        let statements: Vec<String> = sqlx::query_scalar(COPY_SHAPE)
            .bind(&self.schema)
            .bind(tables::<P>())
            .fetch_all(&mut *transaction)
            .await?;
        for statement in statements {
            transaction.execute(statement.as_str()).await?;
        }
        sqlx::query(
            "insert into public.projection_rebuilds (name, version, migration)
             select $1, $2, max(version) from public._sqlx_migrations
             on conflict (name) do update set version = excluded.version, migration = excluded.migration,
                 position = 0, started_at = now(), updated_at = now()",
        )
        .bind(P::NAME)
        .bind(P::VERSION)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Folds until the new tables are nearly where the live ones are.
    async fn fold_up_to_live(&mut self) -> Result<(), RebuildError> {
        loop {
            let live = self.live_position().await?;
            if self.position + BATCH >= live {
                return Ok(());
            }
            self.fold_up_to(live).await?;
        }
    }

    async fn live_position(&mut self) -> Result<i64, RebuildError> {
        let live: Option<(i32, i64)> = sqlx::query_as(
            "select version, position from public.projector_checkpoints
             where name = $1 order by version desc limit 1",
        )
        .bind(P::NAME)
        .fetch_optional(&mut self.session)
        .await?;
        match live {
            None => Err(RebuildError::NeverFolded(P::NAME)),
            Some((live, _)) if live > P::VERSION => {
                Err(RebuildError::Outdated { name: P::NAME, live, ours: P::VERSION })
            }
            Some((_, position)) => Ok(position),
        }
    }

    /// Folds up to exactly `end`, batch by batch; the next one is read while Postgres folds one.
    async fn fold_up_to(&mut self, end: i64) -> Result<(), RebuildError> {
        let head = event_store::head(self.pool).await?.max(end);
        let mut events =
            self.reader.read_after(self.pool, self.position, BATCH.min(end - self.position)).await?;
        while let Some(last) = events.last() {
            let up_to = last.position;
            let batch: Vec<_> = std::mem::take(&mut events).into_iter().map(Arc::new).collect();
            let mut transaction = self.session.begin().await?;
            let folding = async {
                fold(&mut self.projector, &mut transaction, &batch, self.position).await?;
                set_position::<P>(&mut transaction, up_to).await?;
                transaction.commit().await?;
                Ok::<_, RebuildError>(())
            };
            let (folded, read) =
                tokio::join!(folding, self.reader.read_after(self.pool, up_to, BATCH.min(end - up_to)));
            folded?;
            self.position = up_to;
            (self.report)(RebuildProgress::Folded { position: up_to, head });
            events = read?;
        }
        Ok(())
    }

    /// Compares the new tables with the live ones, both at one position: the live ones as they are now,
    /// kept in a snapshot, and the new ones once they have been folded up to there.
    async fn compare(&mut self) -> Result<(Option<i64>, Vec<TableDifference>), RebuildError> {
        let mut live = open_session(self.pool, "public").await?;
        let mut snapshot = live.begin_with("begin isolation level repeatable read read only").await?;
        let position: i64 = sqlx::query_scalar(
            "select position from projector_checkpoints where name = $1 order by version desc limit 1",
        )
        .bind(P::NAME)
        .fetch_one(&mut *snapshot)
        .await?;
        if position < self.position {
            return Ok((None, vec![]));
        }
        self.fold_up_to(position).await?;
        (self.report)(RebuildProgress::Comparing { position });
        let mut differences = Vec::new();
        for table in tables::<P>() {
            differences.extend(compare(&mut snapshot, &mut self.session, table).await?);
        }
        Ok((Some(position), differences))
    }

    /// Catches up, and puts the new tables into the place of the live ones.
    async fn switch(&mut self) -> Result<(i64, Duration), RebuildError> {
        for table in tables::<P>() {
            // The planner knows the new tables from the first query on.
            self.session.execute(format!("analyze {table}").as_str()).await?;
        }
        let started = Instant::now();
        while started.elapsed() < LOCK_PATIENCE {
            let head = event_store::head(self.pool).await?;
            self.fold_up_to(head).await?;
            (self.report)(RebuildProgress::Switching);
            if let Some(held) = self.try_switch().await? {
                return Ok((self.position, held));
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        Err(RebuildError::NoGap(LOCK_PATIENCE))
    }

    /// None if the tables are in use, or too many events have come: then nothing has changed.
    async fn try_switch(&mut self) -> Result<Option<Duration>, RebuildError> {
        let started = Instant::now();
        match self.switch_now().await {
            Ok(switched) => Ok(switched.then(|| started.elapsed())),
            Err(RebuildError::Database(error)) if is_in_use(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn switch_now(&mut self) -> Result<bool, RebuildError> {
        let mut transaction = self.session.begin().await?;
        transaction.execute(LOCK_TIMEOUT).await?;
        // In the order in which a fold takes its locks: the tables first, the checkpoint last.
        let lock = format!("lock table {} in access exclusive mode", live_names::<P>().join(", "));
        transaction.execute(lock.as_str()).await?;
        sqlx::query("select from public.projector_checkpoints where name = $1 for update")
            .bind(P::NAME)
            .execute(&mut *transaction)
            .await?;
        if event_store::head(self.pool).await? - self.position > SWITCH_EVENTS {
            return Ok(false);
        }
        let events = self.reader.read_after(self.pool, self.position, SWITCH_EVENTS).await?;
        let events: Vec<_> = events.into_iter().map(Arc::new).collect();
        fold(&mut self.projector, &mut transaction, &events, self.position).await?;
        let position = events.last().map_or(self.position, |event| event.position);
        exchange::<P>(&mut transaction, &self.schema).await?;
        move_checkpoint::<P>(&mut transaction, position).await?;
        transaction.commit().await?;
        self.position = position;
        Ok(true)
    }

    /// Readers that began before the switch may still look for the old tables, so dropping them must
    /// not wait for readers that wait for it.
    async fn drop_old(&mut self) -> Result<(), RebuildError> {
        let drop = format!("drop schema if exists {}_old cascade", self.schema);
        let started = Instant::now();
        while started.elapsed() < LOCK_PATIENCE {
            let mut transaction = self.session.begin().await?;
            transaction.execute(LOCK_TIMEOUT).await?;
            match transaction.execute(drop.as_str()).await {
                Ok(_) => return Ok(transaction.commit().await?),
                Err(error) if is_in_use(&error) => transaction.rollback().await?,
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        // The next run drops them.
        Ok(())
    }
}

/// A session that finds tables in one schema only.
async fn open_session(pool: &PgPool, schema: &str) -> Result<PgConnection, sqlx::Error> {
    let options: PgConnectOptions = (*pool.connect_options()).clone();
    let options = options.application_name("careforall-rebuild").options([
        ("search_path", schema),
        ("timezone", "UTC"),
        ("synchronous_commit", "off"),
        ("jit", "off"),
    ]);
    options.connect().await
}

fn tables<P: Projector>() -> &'static [&'static str] {
    P::PROJECTION.map_or(&[], Projection::tables)
}

fn live_names<P: Projector>() -> Vec<String> {
    tables::<P>().iter().map(|table| format!("public.{table}")).collect()
}

async fn fold<P: Projector>(
    projector: &mut P,
    connection: &mut PgConnection,
    events: &[Arc<event_store::RecordedEvent>],
    position: i64,
) -> Result<(), RebuildError> {
    projector.fold(connection, events).await.map_err(|error| match error {
        ProjectError::Database(error) if error.as_database_error().is_none() => error.into(),
        error => RebuildError::Fold { position, reason: error.to_string() },
    })
}

async fn set_position<P: Projector>(connection: &mut PgConnection, position: i64) -> Result<(), sqlx::Error> {
    sqlx::query("update public.projection_rebuilds set position = $1, updated_at = now() where name = $2")
        .bind(position)
        .bind(P::NAME)
        .execute(connection)
        .await?;
    Ok(())
}

fn is_in_use(error: &sqlx::Error) -> bool {
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    const DEADLOCK: &str = "40P01";
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == LOCK_NOT_AVAILABLE || code == DEADLOCK)
}

/// Puts the tables of `schema` into the place of the live ones, which go to a schema of their own, and
/// lets views read the new ones: a view keeps to the table that it was made for, whatever its name.
async fn exchange<P: Projector>(transaction: &mut PgConnection, schema: &str) -> Result<(), sqlx::Error> {
    let views: Vec<String> = sqlx::query_scalar(
        "select format('create or replace view %s %s as %s', v.oid::regclass,
             coalesce('with (' || array_to_string(v.reloptions, ', ') || ')', ''), pg_get_viewdef(v.oid))
         from pg_class v
         where v.relkind = 'v' and v.oid in (
             select r.ev_class from pg_depend d join pg_rewrite r on r.oid = d.objid
             where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
                 and d.refobjid = any ($1::text[]::regclass[])
         )",
    )
    .bind(live_names::<P>())
    .fetch_all(&mut *transaction)
    .await?;
    transaction.execute(format!("create schema {schema}_old").as_str()).await?;
    for table in tables::<P>() {
        transaction.execute(format!("alter table public.{table} set schema {schema}_old").as_str()).await?;
        transaction.execute(format!("alter table {schema}.{table} set schema public").as_str()).await?;
    }
    for view in views {
        transaction.execute(view.as_str()).await?;
    }
    transaction.execute(format!("drop schema {schema} cascade").as_str()).await?;
    sqlx::query("delete from public.projection_rebuilds where name = $1")
        .bind(P::NAME)
        .execute(transaction)
        .await?;
    Ok(())
}

/// The live projector loses its lease, takes it again and goes on from `position`. A new generation
/// makes Redis take the rows as they are now.
async fn move_checkpoint<P: Projector>(
    transaction: &mut PgConnection,
    position: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update public.projector_checkpoints
         set version = $1, position = $2, lease_token = lease_token + 1, generation = generation + 1,
             leased_until = '-infinity', status = 'running', blocked_position = null, reason = null,
             stopped_at = null, updated_at = now()
         where name = $3",
    )
    .bind(P::VERSION)
    .bind(position)
    .bind(P::NAME)
    .execute(transaction)
    .await?;
    Ok(())
}

/// The statements that make, in the schema $1, empty tables like the live ones of the names $2.
const COPY_SHAPE: &str = "
    with live as (
        select c.oid, c.relname, c.reloptions, c.relacl, n.ordinal
        from unnest($2::text[]) with ordinality as n (name, ordinal)
        join pg_class c on c.oid = ('public.' || quote_ident(n.name))::regclass
    ), statements as (
        select 1 as step, ordinal,
            format('create table %I.%I (like public.%I including all excluding indexes)', $1, relname, relname)
                as statement
        from live
        union all
        select 2, ordinal, format('alter table %I.%I set (%s)', $1, relname, array_to_string(reloptions, ', '))
        from live where reloptions is not null
        union all
        select 3, ordinal, format('alter table %I.%I add constraint %I %s', $1, relname, c.conname,
            pg_get_constraintdef(c.oid))
        from live join pg_constraint c on c.conrelid = live.oid and c.contype in ('p', 'u', 'x')
        union all
        select 4, ordinal, replace(pg_get_indexdef(i.indexrelid), format(' ON public.%I ', relname),
            format(' ON %I.%I ', $1, relname))
        from live join pg_index i on i.indrelid = live.oid
        where not exists (select from pg_constraint c where c.conindid = i.indexrelid and c.conrelid = live.oid)
        union all
        select 5, ordinal, format('grant %s on %I.%I to %s', a.privilege_type, $1, relname,
            case a.grantee when 0 then 'public' else a.grantee::regrole::text end)
        from live, aclexplode(relacl) a
        union all
        select 6, ordinal, format('grant %s (%I) on %I.%I to %s', a.privilege_type, t.attname, $1, relname,
            case a.grantee when 0 then 'public' else a.grantee::regrole::text end)
        from live join pg_attribute t on t.attrelid = live.oid and t.attnum > 0 and not t.attisdropped,
            aclexplode(t.attacl) a
    )
    select statement from statements order by step, ordinal";
