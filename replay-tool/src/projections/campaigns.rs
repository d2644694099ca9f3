//! `campaigns`.

use std::io;

use chrono::{DateTime, Utc};
use domain::{Campaign, CampaignEvent};

use super::{Audit, Projection};
use crate::occurrence::{FinalState, Occurrence};
use crate::rows::{Rows, Table};
use crate::tuple::ColumnType;

pub(super) const AUDIT: Audit = Audit {
    projection: read_model::Projection::Campaigns,
    tables: &[Table {
        name: "campaigns",
        key: 1,
        columns: &[
            ("campaign_id", ColumnType::Uuid),
            ("status", ColumnType::Text),
            ("title", ColumnType::Text),
            ("description", ColumnType::Text),
            ("goal_minor", ColumnType::Int),
            ("currency", ColumnType::Text),
            ("ends_at", ColumnType::Time),
            ("created_at", ColumnType::Time),
            ("published_at", ColumnType::Time),
            ("closed_at", ColumnType::Time),
            ("position", ColumnType::Int),
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
    fn campaign_event(&mut self, occurrence: &Occurrence<'_, Campaign>, _: &mut Rows) -> io::Result<()> {
        let at = occurrence.at.recorded_at;
        match occurrence.event {
            CampaignEvent::CampaignCreated(_) => *self = Self::default(),
            CampaignEvent::CampaignEdited(_) => {}
            CampaignEvent::CampaignPublished {} => self.published_at = Some(at),
            CampaignEvent::CampaignClosed {} => self.closed_at = Some(at),
        }
        Ok(())
    }

    fn campaign(&mut self, end: &FinalState<'_, Campaign>, rows: &mut Rows) -> io::Result<()> {
        let (Some(status), Some(details)) = (end.state.status(), end.state.details()) else {
            return Ok(());
        };
        rows.put(0, |row| {
            row.push(end.id)
                .push(status.as_str())
                .push(details.title.as_str())
                .push(details.description.as_ref().map(|text| text.as_str()))
                .push(details.goal.amount_minor())
                .push(details.goal.currency().code())
                .push(details.ends_at)
                .push(end.first.recorded_at)
                .push(self.published_at)
                .push(self.closed_at)
                .push(end.last.position)
        })
    }
}
