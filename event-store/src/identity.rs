//! The secret of this ledger under which pseudonyms and derived ids are made.

use domain::IdKey;
use sqlx::{PgExecutor, Row};

/// Loads the key that the migrations made. All processes over one ledger share it, so that a
/// retry that meets another process is recognised.
///
/// # Errors
/// Any error of the database, or that the key does not have 32 bytes.
pub async fn load_id_key(executor: impl PgExecutor<'_>) -> Result<IdKey, sqlx::Error> {
    let row = sqlx::query("select id_key from ledger_identity").fetch_one(executor).await?;
    let bytes: Vec<u8> = row.try_get("id_key")?;
    let bytes = bytes.try_into().map_err(|_| sqlx::Error::Decode("id_key must have 32 bytes".into()))?;
    Ok(IdKey::new(bytes))
}
