//! The read table `campaigns`.

use std::sync::Arc;

use async_trait::async_trait;
use cqrs_es::Aggregate;
use domain::campaign::CampaignDetails;
use domain::{Campaign, CampaignEvent, CampaignId, CampaignStatus, Event};
use event_store::RecordedEvent;
use read_model::Projection;
use sqlx::PgConnection;

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

/// Writes a later status, and the instant at which it was reached.
async fn write_status(
    connection: &mut PgConnection,
    id: CampaignId,
    status: CampaignStatus,
    recorded: &RecordedEvent,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update campaigns
         set status = $2, position = $4,
             published_at = case when $2 = 'published' then $3 else published_at end,
             closed_at = case when $2 = 'closed' then $3 else closed_at end
         where campaign_id = $1",
    )
    .bind(id.0)
    .bind(status.as_str())
    .bind(recorded.recorded_at)
    .bind(recorded.position)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes a draft; an edit keeps the instant of its creation.
async fn write_details(
    connection: &mut PgConnection,
    id: CampaignId,
    details: &CampaignDetails,
    recorded: &RecordedEvent,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into campaigns (campaign_id, status, title, description, goal_minor, currency, ends_at,
             created_at, position)
         values ($1, 'draft', $2, $3, $4, $5, $6, $7, $8)
         on conflict (campaign_id) do update set title = excluded.title,
             description = excluded.description, goal_minor = excluded.goal_minor,
             currency = excluded.currency, ends_at = excluded.ends_at, position = excluded.position",
    )
    .bind(id.0)
    .bind(details.title.as_str())
    .bind(details.description.as_ref().map(|text| text.as_str()))
    .bind(details.goal.amount_minor())
    .bind(details.goal.currency().code())
    .bind(details.ends_at)
    .bind(recorded.recorded_at)
    .bind(recorded.position)
    .execute(connection)
    .await?;
    Ok(())
}
