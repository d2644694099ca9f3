//! The projections, one file each. Every one is registered here, once: running and rebuilding follow from it.

mod accounts;
mod campaigns;
mod days;
mod donations;
mod history;
mod hours;
mod pledges;
#[cfg(test)]
mod told;
mod totals;
mod unapplied;

use futures_util::future::BoxFuture;
use read_model::Projection;
use sqlx::PgPool;

use self::accounts::Accounts;
use self::campaigns::Campaigns;
use self::days::Days;
use self::history::TotalsHistory;
use self::hours::CampaignHours;
use self::pledges::Pledges;
use self::totals::CampaignTotals;
use crate::Config;
use crate::mirror::Mirror;
use crate::rebuild::{RebuildError, RebuildOptions, RebuildProgress, Rebuilt, Report, build};
use crate::runner::{Projector, Runner};

/// The projector of a projection.
pub(crate) struct Registration {
    /// Its name and its version, which are those of its checkpoint.
    pub(crate) name: &'static str,
    pub(crate) version: i32,
    /// Folds until shutdown.
    pub(crate) run: fn(Runner, &Config) -> BoxFuture<'static, ()>,
    /// Builds the tables anew beside the live ones, and switches over.
    pub(crate) rebuild:
        for<'a> fn(&'a PgPool, RebuildOptions, Report<'a>) -> BoxFuture<'a, Result<Rebuilt, RebuildError>>,
}

impl Registration {
    fn of<P: Projector + Default>() -> Self {
        Self {
            name: P::NAME,
            version: P::VERSION,
            run: |runner, _| Box::pin(runner.run(P::default())),
            rebuild: build::<P>,
        }
    }
}

/// The projector that makes a projection.
pub(crate) fn registration(projection: Projection) -> Registration {
    match projection {
        Projection::Campaigns => Registration::of::<Campaigns>(),
        Projection::Pledges => Registration::of::<Pledges>(),
        Projection::CampaignTotals => Registration {
            // Only live totals go to Redis, not those of a rebuild.
            run: |runner, config| {
                let mirror =
                    Mirror::start(config.pool.clone(), config.redis.clone(), runner.shutdown.clone());
                Box::pin(runner.run(CampaignTotals::mirrored(mirror)))
            },
            ..Registration::of::<CampaignTotals>()
        },
        Projection::TotalsHistory => Registration::of::<TotalsHistory>(),
        Projection::Accounts => Registration::of::<Accounts>(),
        Projection::CampaignHours => Registration::of::<CampaignHours>(),
        Projection::Days => Registration::of::<Days>(),
    }
}

/// Builds `projection` anew and switches over, as the owner of the schema. `report` is told how far it
/// has come. It may be killed at any moment: the next run goes on.
///
/// # Errors
/// [`RebuildError`].
pub async fn rebuild(
    pool: &PgPool,
    projection: Projection,
    options: RebuildOptions,
    report: impl FnMut(RebuildProgress) + Send,
) -> Result<Rebuilt, RebuildError> {
    (registration(projection).rebuild)(pool, options, Box::new(report)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_projection_is_made_by_its_own_projector() {
        for projection in Projection::ALL {
            assert_eq!(registration(projection).name, projection.name());
        }
    }
}
