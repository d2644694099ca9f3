//! `campaigns`.

use std::io;

use chrono::{DateTime, Utc};
use domain::{Campaign, CampaignEvent};

use super::{Audited, Projection};
use crate::fold::{Happened, Settled};
use crate::rows::{Rows, Table};
use crate::tuple::Kind;

pub(super) const AUDITED: Audited = Audited {
    projection: read_model::Projection::Campaigns,
    tables: &[Table {
        name: "campaigns",
        key: 1,
        columns: &[
            ("campaign_id", Kind::Uuid),
            ("status", Kind::Text),
            ("title", Kind::Text),
            ("description", Kind::Text),
            ("goal_minor", Kind::Int),
            ("currency", Kind::Text),
            ("ends_at", Kind::Time),
            ("created_at", Kind::Time),
            ("published_at", Kind::Time),
            ("closed_at", Kind::Time),
            ("position", Kind::Int),
        ],
    }],
    make: |_| Box::new(Campaigns::default()),
};

/// When the present campaign was opened and closed.
#[derive(Default)]
struct Campaigns {
    published_at: Option<DateTime<Utc>>,
    closed_at: Option<DateTime<Utc>>,
}

impl Projection for Campaigns {
    fn campaign_event(&mut self, happened: &Happened<'_, Campaign>, _: &mut Rows) -> io::Result<()> {
        let at = happened.at.recorded_at;
        match happened.event {
            CampaignEvent::CampaignCreated(_) => *self = Self::default(),
            CampaignEvent::CampaignEdited(_) => {}
            CampaignEvent::CampaignPublished {} => self.published_at = Some(at),
            CampaignEvent::CampaignClosed {} => self.closed_at = Some(at),
        }
        Ok(())
    }

    fn campaign(&mut self, settled: &Settled<'_, Campaign>, rows: &mut Rows) -> io::Result<()> {
        let (Some(status), Some(details)) = (settled.state.status(), settled.state.details()) else {
            return Ok(());
        };
        rows.put(0, |row| {
            row.push(settled.id)
                .push(status.as_str())
                .push(details.title.as_str())
                .push(details.description.as_ref().map(|text| text.as_str()))
                .push(details.goal.amount_minor())
                .push(details.goal.currency().code())
                .push(details.ends_at)
                .push(settled.first.recorded_at)
                .push(self.published_at)
                .push(self.closed_at)
                .push(settled.last.position)
        })
    }
}
