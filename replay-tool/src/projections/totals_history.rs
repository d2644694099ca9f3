//! `campaign_totals_history`: one row for each event, and the last row of each campaign is its totals.
//!
//! What the rows before the last say of money is not compared yet.

use std::io;

use domain::{Campaign, Pledge};

use super::campaign_totals::{COLUMNS, CampaignTotals};
use super::{Audited, Projection};
use crate::fold::{Happened, Settled};
use crate::rows::{Rows, Table};
use crate::tuple::Kind;

const EVENT_ROWS: usize = 1;

pub(super) const AUDITED: Audited = Audited {
    name: "totals_history",
    tables: &[
        Table {
            name: "campaign_totals_history (last)",
            from: Some(
                "(select distinct on (campaign_id) * from campaign_totals_history
                  order by campaign_id, position desc) last",
            ),
            key: 1,
            columns: COLUMNS,
        },
        Table {
            name: "campaign_totals_history",
            from: None,
            key: 2,
            columns: &[("campaign_id", Kind::Uuid), ("position", Kind::Int), ("as_of", Kind::Time)],
        },
    ],
    make: |room| Box::new(TotalsHistory(CampaignTotals::new(room, false))),
};

struct TotalsHistory(CampaignTotals);

impl Projection for TotalsHistory {
    fn campaign_event(&mut self, happened: &Happened<'_, Campaign>, rows: &mut Rows) -> io::Result<()> {
        let at = happened.at;
        rows.put(EVENT_ROWS, |row| row.push(happened.id).push(at.position).push(at.recorded_at))
    }

    fn campaign(&mut self, settled: &Settled<'_, Campaign>, rows: &mut Rows) -> io::Result<()> {
        self.0.campaign(settled, rows)
    }

    fn pledge_event(&mut self, happened: &Happened<'_, Pledge>, rows: &mut Rows) -> io::Result<()> {
        let (campaign_id, at) = (happened.event.campaign_id().0, happened.at);
        rows.put(EVENT_ROWS, |row| row.push(campaign_id).push(at.position).push(at.recorded_at))?;
        self.0.pledge_event(happened, rows)
    }

    fn pledge(&mut self, settled: &Settled<'_, Pledge>, rows: &mut Rows) -> io::Result<()> {
        self.0.pledge(settled, rows)
    }

    fn finish(&mut self, rows: &mut Rows) -> io::Result<()> {
        self.0.finish(rows)
    }
}
