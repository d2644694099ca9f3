//! The auditor's rules for each projection, one file each.
//!
//! A projection says which tables it has, and which rows the ledger expects in them at its position.
//! These are rules of their own: nothing here is shared with the projectors but the domain.

pub(crate) mod accounts;
pub(crate) mod campaign_totals;
mod campaigns;
mod days;
mod hours;
mod pledges;
mod steps;
mod totals_history;

use std::io;

use domain::{Campaign, Pledge};

use crate::occurrence::{FinalState, Occurrence};
use crate::rows::{Rows, Table};
use crate::sorter::Room;

/// The rows that the ledger expects of a projection. Campaigns come first, then pledges, each with
/// all its events in order, and then as it stands at the end.
pub(crate) trait Projection: Send {
    /// An event of a campaign, and the campaign before it.
    ///
    /// # Errors
    /// The temporary file cannot be written.
    fn campaign_event(&mut self, _: &Occurrence<'_, Campaign>, _: &mut Rows) -> io::Result<()> {
        Ok(())
    }

    /// A campaign as it stands at the end.
    ///
    /// # Errors
    /// As above.
    fn campaign(&mut self, _: &FinalState<'_, Campaign>, _: &mut Rows) -> io::Result<()> {
        Ok(())
    }

    /// An event of a pledge, and the pledge before it.
    ///
    /// # Errors
    /// As above.
    fn pledge_event(&mut self, _: &Occurrence<'_, Pledge>, _: &mut Rows) -> io::Result<()> {
        Ok(())
    }

    /// A pledge as it stands at the end.
    ///
    /// # Errors
    /// As above.
    fn pledge(&mut self, _: &FinalState<'_, Pledge>, _: &mut Rows) -> io::Result<()> {
        Ok(())
    }

    /// All campaigns and pledges were given.
    ///
    /// # Errors
    /// As above.
    fn finish(&mut self, _: &mut Rows) -> io::Result<()> {
        Ok(())
    }
}

/// A projection that is compared.
pub(crate) struct Audit {
    /// Which one.
    pub(crate) projection: read_model::Projection,
    /// Its tables.
    pub(crate) tables: &'static [Table],
    /// Makes it anew, within some room.
    pub(crate) make: fn(&Room) -> Box<dyn Projection>,
}

/// How a projection is compared.
pub(crate) fn audit(projection: read_model::Projection) -> &'static Audit {
    use read_model::Projection;
    match projection {
        Projection::Campaigns => &campaigns::AUDIT,
        Projection::Pledges => &pledges::AUDIT,
        Projection::CampaignHours => &hours::AUDIT,
        Projection::CampaignTotals => &campaign_totals::AUDIT,
        Projection::TotalsHistory => &totals_history::AUDIT,
        Projection::Accounts => &accounts::AUDIT,
        Projection::Days => &days::AUDIT,
    }
}

#[cfg(test)]
mod tests {
    use super::audit;

    #[test]
    fn every_table_of_every_projection_is_compared() {
        for projection in read_model::Projection::ALL {
            let audit = audit(projection);
            assert_eq!(audit.projection, projection);
            let tables: Vec<&str> = audit.tables.iter().map(|table| table.name).collect();
            assert_eq!(tables, projection.tables());
        }
    }
}
