//! The read table `campaigns`.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::campaign::CampaignDetails;
use domain::{Campaign, CampaignEvent, CampaignId, CampaignStatus, Event, Rules};
use event_store::RecordedEvent;
use read_model::Projection;
use sqlx::PgConnection;

use crate::rows::{Rows, row};
use crate::runner::{ProjectError, Projector};

#[derive(Default)]
pub(crate) struct Campaigns;

#[async_trait]
impl Projector for Campaigns {
    const PROJECTION: Option<Projection> = Some(Projection::Campaigns);

    fn needs(aggregate_type: &str, _event_type: &str) -> bool {
        aggregate_type == Campaign::TYPE
    }

    /// One statement per event: campaigns are few, and change a handful of times.
    async fn fold(
        &mut self,
        connection: &mut PgConnection,
        events: &[Arc<RecordedEvent>],
    ) -> Result<(), ProjectError> {
        for recorded in events {
            let Event::Campaign(id, event) = &recorded.event else { continue };
            match event {
                CampaignEvent::CampaignCreated(details) | CampaignEvent::CampaignEdited(details) => {
                    write_details(connection, *id, details, recorded).await?;
                }
                CampaignEvent::CampaignPublished {} => {
                    write_status(connection, *id, CampaignStatus::Published, recorded).await?;
                }
                CampaignEvent::CampaignClosed {} => {
                    write_status(connection, *id, CampaignStatus::Closed, recorded).await?;
                }
            }
        }
        Ok(())
    }
}

row! {
    struct Step {
        campaign_id: CampaignId,
        status: &'static str,
        at: DateTime<Utc>,
        position: i64,
    }
}

/// Writes a later status, and the instant at which it was reached.
async fn write_status(
    connection: &mut PgConnection,
    id: CampaignId,
    status: CampaignStatus,
    recorded: &RecordedEvent,
) -> Result<(), sqlx::Error> {
    let row = Step {
        campaign_id: id,
        status: status.as_str(),
        at: recorded.recorded_at,
        position: recorded.position,
    };
    let sql = "update campaigns c
        set status = r.status, position = r.position,
            published_at = case when r.status = 'published' then r.at else c.published_at end,
            closed_at = case when r.status = 'closed' then r.at else c.closed_at end
        from {rows} where c.campaign_id = r.campaign_id";
    Rows::of(&[row])?.execute(connection, sql).await
}

row! {
    struct Details<'a> {
        campaign_id: CampaignId,
        status: &'static str,
        title: &'a str,
        description: Option<&'a str>,
        goal_minor: i64,
        currency: &'static str,
        ends_at: Option<DateTime<Utc>>,
        created_at: DateTime<Utc>,
        position: i64,
    }
}

/// Writes a draft; an edit keeps the instant of its creation.
async fn write_details(
    connection: &mut PgConnection,
    id: CampaignId,
    details: &CampaignDetails,
    recorded: &RecordedEvent,
) -> Result<(), sqlx::Error> {
    let row = Details {
        campaign_id: id,
        status: CampaignStatus::Draft.as_str(),
        title: details.title.as_str(),
        description: details.description.as_ref().map(|text| text.as_str()),
        goal_minor: details.goal.amount_minor(),
        currency: details.goal.currency().code(),
        ends_at: details.ends_at,
        created_at: recorded.recorded_at,
        position: recorded.position,
    };
    let sql = "insert into campaigns ({columns}) select {columns} from {rows}
        on conflict (campaign_id) do update set title = excluded.title,
            description = excluded.description, goal_minor = excluded.goal_minor,
            currency = excluded.currency, ends_at = excluded.ends_at, position = excluded.position";
    Rows::of(&[row])?.execute(connection, sql).await
}
