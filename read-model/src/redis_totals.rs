//! Totals in Redis: one hash per campaign that carries its own position.
//!
//! The values are absolute and a write is ignored unless its position is newer, so writes may be
//! repeated and reordered. Marks say up to which position everything was written; when one is missing
//! or not what its writer left, Redis has lost something and all is written again.
//!
//! Readers ask by a script that only the writer loads, after everything was written. A Redis that was
//! restarted has forgotten it, whatever snapshot it was started from, and so has a replica that took
//! over: until the writer has looked, nothing is read there, and the read table answers.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use futures_util::future::try_join_all;
use futures_util::{StreamExt, TryStreamExt, stream};
use redis::aio::PubSub;
use redis::{AsyncCommands, ErrorKind, RedisError, Script, ServerErrorKind};
use uuid::Uuid;

use crate::redis_connection::{Connection, Server};
use crate::totals::{PledgeCounts, Totals};

/// Writes under way at once; they share one connection per server.
const MAX_WRITES: usize = 64;
/// Marks in a cluster: their slots are this many, evenly spaced, so every node holds one unless it
/// has fewer than 2,048 slots in a row.
const CLUSTER_MARKS: u16 = 16;
const CLUSTER_SLOTS: u16 = 16_384;

/// Writes a campaign's totals, unless what is there is as new, and tells watchers of a new position.
/// Values of a later generation replace those of an earlier one at any position.
static WRITE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local known = redis.call('HMGET', KEYS[1], 'generation', 'position')
        local generation = tonumber(known[1] or 0)
        if known[2] then
            if generation > tonumber(ARGV[1]) then return 0 end
            if generation == tonumber(ARGV[1]) and tonumber(known[2]) >= tonumber(ARGV[2]) then return 0 end
        end
        redis.call('HSET', KEYS[1], 'generation', ARGV[1], 'position', ARGV[2], unpack(ARGV, 5))
        if known[2] ~= ARGV[2] then redis.call('PUBLISH', ARGV[3], ARGV[4]) end
        return 1
        ",
    )
});

/// Reads a campaign's totals. Loaded by the writer alone.
static READ: LazyLock<Script> = LazyLock::new(|| Script::new("return redis.call('HGETALL', KEYS[1])"));

/// Moves a mark on, if it is what its writer left. Loaded by the writer alone, like [`static@READ`].
static MOVE_MARK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local found = redis.call('GET', KEYS[1])
        if found == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) end
        return found
        ",
    )
});

/// Up to where everything was written, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The generation of the rows.
    pub generation: i32,
    /// The token of the writer's lease.
    pub token: i32,
    /// All totals up to this position were written.
    pub position: i64,
}

impl Mark {
    /// Whether its writer took the lease after that of `other`.
    pub fn is_later_lease_than(self, other: Self) -> bool {
        (self.generation, self.token) > (other.generation, other.token)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.generation, self.token, self.position)
    }
}

/// The mark in a text that [`Mark`]'s `Display` wrote.
fn parse_mark(text: &str) -> Option<Mark> {
    let mut parts = text.split(':');
    let mark = Mark {
        generation: parts.next()?.parse().ok()?,
        token: parts.next()?.parse().ok()?,
        position: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(mark)
}

/// A mark in Redis, seen by the writer that left one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkState {
    /// Unchanged since: nothing is lost.
    Intact,
    /// Another mark stands there: of another writer, or of an old snapshot.
    Replaced(Mark),
    /// None: Redis was wiped, or restarted.
    Missing,
}

/// Why totals could not be read from or written to Redis.
#[derive(Debug, thiserror::Error)]
pub enum RedisTotalsError {
    /// Out of reach, or it refuses the command.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// The hash is there, but not what this version writes.
    #[error("the totals in Redis cannot be understood: field {0}")]
    Malformed(&'static str),
}

/// The totals of one ledger in Redis.
#[derive(Clone)]
pub struct RedisTotals {
    ledger_id: Uuid,
    server: Server,
}

impl RedisTotals {
    /// Uses a Redis for the totals of ledger `ledger_id`: `redis://[user:password@]host:port`, or
    /// `redis+cluster://[user:password@]host:port,host:port` for a cluster. Connects on first use
    /// and again by itself after a loss.
    ///
    /// # Errors
    /// The address cannot be used.
    pub fn open(url: &str, ledger_id: Uuid) -> Result<Self, RedisError> {
        Ok(Self { ledger_id, server: Server::open(url)? })
    }

    /// The key of a campaign's hash. The braces make one cluster slot per campaign.
    pub fn key(&self, campaign_id: Uuid) -> String {
        format!("careforall:{}:{{{campaign_id}}}:totals", self.ledger_id.simple())
    }

    /// The channel on which every change is published as the JSON of [`Totals`]. Messages may be
    /// lost without harm: who reads them also looks for itself now and then.
    pub fn channel(&self) -> String {
        format!("careforall:{}:totals", self.ledger_id.simple())
    }

    /// One mark, and in a cluster one for each of some evenly spaced slots.
    fn mark_keys(&self) -> Vec<String> {
        let key = |tag: &str| format!("careforall:{}:{tag}:written-to", self.ledger_id.simple());
        if self.server.is_cluster() {
            MARK_TAGS.iter().map(|tag| key(tag)).collect()
        } else {
            vec![key("{0}")]
        }
    }

    /// Asks Redis for a sign of life.
    ///
    /// # Errors
    /// It gives none.
    pub async fn ping(&self) -> Result<(), RedisError> {
        redis::cmd("PING").exec_async(&mut self.server.connection().await?).await
    }

    /// The totals of a campaign; none if Redis has none, or may have lost some and the writer has not
    /// looked yet.
    ///
    /// # Errors
    /// [`RedisTotalsError`].
    pub async fn read(&self, campaign_id: Uuid) -> Result<Option<Totals>, RedisTotalsError> {
        let mut connection = self.server.connection().await?;
        let mut call = redis::cmd("EVALSHA");
        call.arg(READ.get_hash()).arg(1).arg(self.key(campaign_id));
        let fields: HashMap<String, String> = match call.query_async(&mut connection).await {
            Err(error) if is_no_script(&error) => return Ok(None),
            result => result?,
        };
        if fields.is_empty() {
            return Ok(None);
        }
        from_fields(campaign_id, &fields).map(Some)
    }

    /// Writes totals of one generation, each unless Redis has them as new or newer.
    ///
    /// # Errors
    /// Redis is out of reach; some may be written, and writing them again does no harm.
    pub async fn write(&self, totals: &[Totals], generation: i32) -> Result<(), RedisTotalsError> {
        let connection = self.server.connection().await?;
        let mut writes = Vec::with_capacity(totals.len());
        for totals in totals {
            writes.push(self.write_one(connection.clone(), totals, generation));
        }
        stream::iter(writes).buffer_unordered(MAX_WRITES).try_collect().await
    }

    async fn write_one(
        &self,
        mut connection: Connection,
        totals: &Totals,
        generation: i32,
    ) -> Result<(), RedisTotalsError> {
        let json = serde_json::to_string(totals).map_err(|_| RedisTotalsError::Malformed("json"))?;
        let mut call = WRITE.key(self.key(totals.campaign_id));
        call.arg(generation).arg(totals.position).arg(self.channel()).arg(json);
        for (field, value) in to_fields(totals) {
            call.arg(field).arg(value);
        }
        Ok(call.invoke_async(&mut connection).await?)
    }

    /// Moves the marks on from what this writer left to `to`. A mark that is not intact stays as it is, and
    /// is returned.
    ///
    /// # Errors
    /// Redis is out of reach.
    pub async fn move_marks(&self, left: Mark, to: Mark) -> Result<MarkState, RedisError> {
        let connection = self.server.connection().await?;
        let moves = self.mark_keys().into_iter().map(|key| move_mark(connection.clone(), key, left, to));
        let states = try_join_all(moves).await?;
        Ok(states.into_iter().find(|state| *state != MarkState::Intact).unwrap_or(MarkState::Intact))
    }

    /// A mark as Redis remembers it, whoever left it.
    ///
    /// # Errors
    /// Redis is out of reach.
    pub async fn mark(&self) -> Result<Option<Mark>, RedisError> {
        let connection = self.server.connection().await?;
        let gets = self.mark_keys().into_iter().map(|key| {
            let mut connection = connection.clone();
            async move { connection.get(key).await }
        });
        let found: Vec<Option<String>> = try_join_all(gets).await?;
        Ok(found
            .into_iter()
            .flatten()
            .filter_map(|mark| parse_mark(&mark))
            .max_by_key(|mark| (mark.generation, mark.token, mark.position)))
    }

    /// Says that everything up to the mark was written, and lets readers read.
    ///
    /// # Errors
    /// Redis is out of reach.
    pub async fn set_marks(&self, mark: Mark) -> Result<(), RedisError> {
        let connection = self.server.connection().await?;
        let sets = self.mark_keys().into_iter().map(|key| {
            let mut connection = connection.clone();
            async move { connection.set::<_, _, ()>(key, mark.to_string()).await }
        });
        try_join_all(sets).await?;
        for script in [&*MOVE_MARK, &*READ] {
            // In a cluster this goes to every node.
            script.load_async(&mut connection.clone()).await?;
        }
        Ok(())
    }

    /// Subscribes to changes, on a connection of its own.
    ///
    /// # Errors
    /// Redis is out of reach.
    pub async fn subscribe(&self) -> Result<PubSub, RedisError> {
        let mut messages = self.server.subscriber().await?;
        messages.subscribe(self.channel()).await?;
        Ok(messages)
    }
}

async fn move_mark(
    mut connection: Connection,
    key: String,
    left: Mark,
    to: Mark,
) -> Result<MarkState, RedisError> {
    let mut call = redis::cmd("EVALSHA");
    call.arg(MOVE_MARK.get_hash()).arg(1).arg(key).arg(left.to_string()).arg(to.to_string());
    let found: Option<String> = match call.query_async(&mut connection).await {
        Err(error) if is_no_script(&error) => return Ok(MarkState::Missing),
        result => result?,
    };
    Ok(match found.as_deref().and_then(parse_mark) {
        None => MarkState::Missing,
        Some(found) if found == left => MarkState::Intact,
        Some(found) => MarkState::Replaced(found),
    })
}

fn is_no_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// A tag for each of the evenly spaced slots.
static MARK_TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let width = CLUSTER_SLOTS / CLUSTER_MARKS;
    let mut tags: HashMap<u16, String> = HashMap::new();
    let mut number = 0_u32;
    while tags.len() < usize::from(CLUSTER_MARKS) {
        let tag = number.to_string();
        tags.entry(slot(&tag) / width).or_insert_with(|| format!("{{{tag}}}"));
        number += 1;
    }
    tags.into_values().collect()
});

/// The cluster's slot of a tag: CRC-16 as Redis Cluster's specification has it (XMODEM).
fn slot(tag: &str) -> u16 {
    let crc = tag.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % CLUSTER_SLOTS
}

/// The hash's fields other than the position.
fn to_fields(totals: &Totals) -> [(&'static str, String); 19] {
    let counts = &totals.pledges;
    [
        ("published", totals.published.to_string()),
        ("currency", totals.currency.clone()),
        ("goal_minor", totals.goal_minor.to_string()),
        ("raised_minor", totals.raised_minor.to_string()),
        ("refunded_minor", totals.refunded_minor.to_string()),
        ("reversed_minor", totals.reversed_minor.to_string()),
        ("charged_back_minor", totals.charged_back_minor.to_string()),
        ("loss_minor", totals.loss_minor.to_string()),
        ("in_dispute_minor", totals.in_dispute_minor.to_string()),
        ("unapplied_minor", totals.unapplied_minor.to_string()),
        ("donors", totals.donors.to_string()),
        ("pending", counts.pending.to_string()),
        ("authorized", counts.authorized.to_string()),
        ("captured", counts.captured.to_string()),
        ("completed", counts.completed.to_string()),
        ("failed", counts.failed.to_string()),
        ("expired", counts.expired.to_string()),
        ("cancelled", counts.cancelled.to_string()),
        ("as_of", totals.as_of.to_rfc3339()),
    ]
}

fn from_fields(campaign_id: Uuid, fields: &HashMap<String, String>) -> Result<Totals, RedisTotalsError> {
    let text = |field| fields.get(field).ok_or(RedisTotalsError::Malformed(field));
    let number = |field| text(field)?.parse().map_err(|_| RedisTotalsError::Malformed(field));
    // A hash that was written before a figure was kept lacks it, and stays as it is until its campaign's
    // next event: none means that nothing is gone.
    let gone = |field| if fields.contains_key(field) { number(field) } else { Ok(0) };
    Ok(Totals {
        campaign_id,
        published: text("published")?.parse().map_err(|_| RedisTotalsError::Malformed("published"))?,
        currency: text("currency")?.clone(),
        goal_minor: number("goal_minor")?,
        raised_minor: number("raised_minor")?,
        refunded_minor: gone("refunded_minor")?,
        reversed_minor: gone("reversed_minor")?,
        charged_back_minor: gone("charged_back_minor")?,
        loss_minor: gone("loss_minor")?,
        in_dispute_minor: gone("in_dispute_minor")?,
        unapplied_minor: number("unapplied_minor")?,
        donors: number("donors")?,
        pledges: PledgeCounts {
            pending: number("pending")?,
            authorized: number("authorized")?,
            captured: number("captured")?,
            completed: number("completed")?,
            failed: number("failed")?,
            expired: number("expired")?,
            cancelled: number("cancelled")?,
        },
        position: number("position")?,
        as_of: text("as_of")?.parse().map_err(|_| RedisTotalsError::Malformed("as_of"))?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{MARK_TAGS, slot};

    #[test]
    fn slots_are_those_of_the_specification() {
        // The check value of CRC-16/XMODEM, which the specification names.
        assert_eq!(slot("123456789"), 0x31C3);
        let ranges: BTreeSet<u16> =
            MARK_TAGS.iter().map(|tag| slot(tag.trim_matches(['{', '}'])) / 1_024).collect();
        assert_eq!(ranges.len(), 16);
    }
}
