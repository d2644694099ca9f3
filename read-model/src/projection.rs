//! The projections: their names and their tables.

use std::collections::BTreeMap;
use std::fmt;

use sqlx::PgExecutor;

/// The one list. A projection that is added here does not compile until it is registered in `projectors` and
/// in `replay-tool`; whatever else deals with projections goes through [`Projection::ALL`].
macro_rules! projections {
    ($($(#[doc = $doc:literal])+ $projection:ident = $name:literal [$($table:literal),+];)+) => {
        /// Tables that one projector makes of the ledger, at one position.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Projection {
            $($(#[doc = $doc])+ $projection,)+
        }

        impl Projection {
            /// Every projection.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$projection),+];

            /// Its name in the table of checkpoints, in metrics and on the command line.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$projection => $name,)+
                }
            }

            /// Its tables.
            pub const fn tables(self) -> &'static [&'static str] {
                match self {
                    $(Self::$projection => &[$($table),+],)+
                }
            }
        }
    };
}

projections! {
    /// Double entry: a journal, and balances.
    Accounts = "accounts" ["journal", "campaign_accounts"];
    /// Hourly series.
    CampaignHours = "campaign_hours" ["campaign_hours"];
    /// Amounts and donors of each campaign as they are now. Mirrored to Redis.
    CampaignTotals = "campaign_totals" ["campaign_totals", "campaign_donors", "campaign_captures"];
    /// Campaigns, for lists and the search.
    Campaigns = "campaigns" ["campaigns"];
    /// Daily series.
    Days = "days" ["campaign_days", "overall_days"];
    /// Pledges with their histories, the donation wall, and money held apart.
    Pledges = "pledges" ["pledges", "pledge_history", "donations", "pledge_captures", "unapplied_payments"];
    /// The totals of each campaign after each of its events.
    TotalsHistory = "totals_history" ["campaign_totals_history", "campaign_first_gifts"];
}

impl Projection {
    /// The projection of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|projection| projection.name() == name)
    }
}

impl fmt::Display for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The last position that each projection has folded: that of its live version, which is the highest.
/// One that was never folded is left out.
///
/// # Errors
/// Any error of the database.
pub async fn load_positions(executor: impl PgExecutor<'_>) -> Result<BTreeMap<Projection, i64>, sqlx::Error> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "select distinct on (name) name, position from projector_checkpoints order by name, version desc",
    )
    .fetch_all(executor)
    .await?;
    let known = |(name, position): (String, i64)| Some((Projection::named(&name)?, position));
    Ok(rows.into_iter().filter_map(known).collect())
}

/// The last position that one version of a projection has folded; none before its first run.
///
/// # Errors
/// Any error of the database.
pub async fn load_position(
    executor: impl PgExecutor<'_>,
    projection: Projection,
    version: i32,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("select position from projector_checkpoints where name = $1 and version = $2")
        .bind(projection.name())
        .bind(version)
        .fetch_optional(executor)
        .await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Projection;

    #[test]
    fn names_and_tables_are_distinct() {
        let names: BTreeSet<&str> = Projection::ALL.into_iter().map(Projection::name).collect();
        assert_eq!(names.len(), Projection::ALL.len());
        let tables: Vec<&str> = Projection::ALL.into_iter().flat_map(Projection::tables).copied().collect();
        assert_eq!(tables.iter().collect::<BTreeSet<_>>().len(), tables.len(), "{tables:?}");
        assert!(Projection::ALL.into_iter().all(|one| Projection::named(one.name()) == Some(one)));
    }
}
