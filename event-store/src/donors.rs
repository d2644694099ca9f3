//! Personal data, which is kept beside the ledger.

use sqlx::{PgExecutor, Row};
use uuid::Uuid;

use crate::append::PledgeDonor;

/// The personal data of a pledge's donor; none once it was erased. It is found by the pledge's id only:
/// nobody who makes pledges can go through all donors.
///
/// # Errors
/// Any error of the database.
pub async fn donor_of(
    executor: impl PgExecutor<'_>,
    pledge_id: Uuid,
) -> Result<Option<PledgeDonor>, sqlx::Error> {
    let row = sqlx::query("select donor_id, name, email, message from pledge_donor_of($1)")
        .bind(pledge_id)
        .fetch_optional(executor)
        .await?;
    row.map(|row| {
        Ok(PledgeDonor {
            donor_id: row.try_get(0)?,
            name: row.try_get(1)?,
            email: row.try_get(2)?,
            message: row.try_get(3)?,
        })
    })
    .transpose()
}
