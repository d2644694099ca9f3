//! Totals in Redis: one hash per campaign that carries its own position.
//!
//! The values are absolute and a write is ignored unless its position is newer, so writes may be
//! repeated and reordered. A sentinel says up to which position everything was written; when it is
//! missing or older than remembered, Redis has lost something and all is written again.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig, PubSub};
use redis::{AsyncCommands, Client, RedisError, Script};
use uuid::Uuid;

use crate::totals::{PledgeCounts, Totals};

/// An answer that takes longer than this is given up: the read table answers instead.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Writes a campaign's totals and tells watchers, unless what is there is as new.
static WRITE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local known = redis.call('HGET', KEYS[1], 'position')
        if known and tonumber(known) >= tonumber(ARGV[1]) then return 0 end
        redis.call('HSET', KEYS[1], 'position', ARGV[1], unpack(ARGV, 4))
        redis.call('PUBLISH', ARGV[2], ARGV[3])
        return 1
        ",
    )
});

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
    client: Client,
    connection: ConnectionManager,
}

impl RedisTotals {
    /// Uses the Redis behind `client` for the totals of ledger `ledger_id`. Connects on first use
    /// and again by itself after a loss.
    ///
    /// # Errors
    /// The client's address cannot be used.
    pub fn new(client: Client, ledger_id: Uuid) -> Result<Self, RedisError> {
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_connection_timeout(Some(RESPONSE_TIMEOUT))
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_millis(500));
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), config)?;
        Ok(Self { ledger_id, client, connection })
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

    fn sentinel_key(&self) -> String {
        format!("careforall:{}:totals-written-to", self.ledger_id.simple())
    }

    /// Asks Redis for a sign of life.
    ///
    /// # Errors
    /// It gives none.
    pub async fn ping(&self) -> Result<(), RedisError> {
        redis::cmd("PING").exec_async(&mut self.connection.clone()).await
    }

    /// The totals of a campaign; none if Redis has none.
    ///
    /// # Errors
    /// [`RedisTotalsError`].
    pub async fn read(&self, campaign_id: Uuid) -> Result<Option<Totals>, RedisTotalsError> {
        let fields: HashMap<String, String> = self.connection.clone().hgetall(self.key(campaign_id)).await?;
        if fields.is_empty() {
            return Ok(None);
        }
        from_fields(campaign_id, &fields).map(Some)
    }

    /// Writes totals, each unless Redis has them as new or newer.
    ///
    /// # Errors
    /// Redis is out of reach; some may be written, and writing them again does no harm.
    pub async fn write(&self, totals: &[Totals]) -> Result<(), RedisTotalsError> {
        let mut connection = self.connection.clone();
        for totals in totals {
            let json = serde_json::to_string(totals).map_err(|_| RedisTotalsError::Malformed("json"))?;
            let mut call = WRITE.key(self.key(totals.campaign_id));
            call.arg(totals.position).arg(self.channel()).arg(json);
            for (field, value) in to_fields(totals) {
                call.arg(field).arg(value);
            }
            call.invoke_async::<()>(&mut connection).await?;
        }
        Ok(())
    }

    /// The position up to which all totals were written, as Redis remembers it.
    ///
    /// # Errors
    /// Redis is out of reach.
    pub async fn written_to(&self) -> Result<Option<i64>, RedisError> {
        self.connection.clone().get(self.sentinel_key()).await
    }

    /// Remembers in Redis up to which position all totals were written.
    ///
    /// # Errors
    /// Redis is out of reach.
    pub async fn set_written_to(&self, position: i64) -> Result<(), RedisError> {
        self.connection.clone().set(self.sentinel_key(), position).await
    }

    /// Subscribes to changes, on a connection of its own.
    ///
    /// # Errors
    /// Redis is out of reach.
    pub async fn subscribe(&self) -> Result<PubSub, RedisError> {
        let mut messages = self.client.get_async_pubsub().await?;
        messages.subscribe(self.channel()).await?;
        Ok(messages)
    }
}

/// The hash's fields other than the position.
fn to_fields(totals: &Totals) -> [(&'static str, String); 16] {
    let counts = &totals.pledges;
    [
        ("published", totals.published.to_string()),
        ("currency", totals.currency.clone()),
        ("goal_minor", totals.goal_minor.to_string()),
        ("raised_minor", totals.raised_minor.to_string()),
        ("refunded_minor", totals.refunded_minor.to_string()),
        ("charged_back_minor", totals.charged_back_minor.to_string()),
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
    // A hash that was written before money could go back lacks the figure, and stays as it is until
    // its campaign's next event: none means that nothing went back.
    let given_back = |field| if fields.contains_key(field) { number(field) } else { Ok(0) };
    Ok(Totals {
        campaign_id,
        published: text("published")?.parse().map_err(|_| RedisTotalsError::Malformed("published"))?,
        currency: text("currency")?.clone(),
        goal_minor: number("goal_minor")?,
        raised_minor: number("raised_minor")?,
        refunded_minor: given_back("refunded_minor")?,
        charged_back_minor: given_back("charged_back_minor")?,
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
