//! What is measured.

mod accept;
mod append;
mod create;
mod growth;
mod hot;
mod mixed;
mod projections;
mod read;
mod to_total;
mod totals;
mod verify;

use std::fmt;

use clap::ValueEnum;
use read_model::Projection;

use crate::Options;
use crate::report::Entry;
use crate::stage::Stage;
use crate::subject::Extent;

/// One comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// POST /api/pledges on 64 connections, against axum answering the same request with a constant
    #[value(name = "create_route_64")]
    CreateRoute64,
    /// Durable creates on 64 connections, against a plain postgres-es service
    #[value(name = "create_pledge_64")]
    CreatePledge64,
    /// Durable creates on 256 connections, against a plain postgres-es service
    #[value(name = "create_pledge_256")]
    CreatePledge256,
    /// The same while everything runs and folds what is appended
    #[value(name = "whole_system_256")]
    WholeSystem256,
    /// Appends by many tasks of one process, against one session inserting batches of 500
    #[value(name = "append_limit")]
    AppendLimit,
    /// 64 connections amending one pledge, against a plain postgres-es service
    #[value(name = "hot_aggregate")]
    HotAggregate,
    /// Taking signed webhooks on 256 connections, against one insert per request behind axum
    #[value(name = "webhook_accept")]
    WebhookAccept,
    /// Facts from the webhook to the total in Redis
    #[value(name = "webhook_to_total")]
    WebhookToTotal,
    /// Whole lives of pledges, from the request to completed in the read table
    #[value(name = "mixed")]
    Mixed,
    /// Durable creates with many events in the ledger, against an empty ledger
    #[value(name = "growth")]
    Growth,
    /// Reading the whole ledger by position, against COPY TO STDOUT
    #[value(name = "read_after")]
    ReadAfter,
    /// Checking the whole ledger and every read table, against COPY TO STDOUT of the ledger
    #[value(name = "replay_verify")]
    ReplayVerify,
    /// GET of totals on 64 connections, against axum answering the same bytes
    #[value(name = "get_totals")]
    GetTotals,
    /// The same while 2,000 events/s are written
    #[value(name = "get_totals_busy")]
    GetTotalsBusy,
    /// From the commit of an event to its position in Redis, at 5,000 events/s
    #[value(name = "projection_lag")]
    ProjectionLag,
    /// From position 1 to the end: the totals and Redis alone
    #[value(name = "catch_up_totals")]
    CatchUpTotals,
    /// From position 1 to the end: all projections together
    #[value(name = "catch_up_all")]
    CatchUpAll,
}

impl Scenario {
    /// Those that are asked for, in the order of the list; all when none is.
    pub(crate) fn chosen(only: &[Self]) -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied().filter(|scenario| only.is_empty() || only.contains(scenario))
    }

    /// Measures it.
    pub(crate) async fn run(self, stage: &Stage, options: &Options) -> anyhow::Result<Entry> {
        match self {
            Self::CreateRoute64 => create::route(stage, options, self).await,
            Self::CreatePledge64 => create::pledge(stage, options, self, Extent::CommandApi, 64).await,
            Self::CreatePledge256 => create::pledge(stage, options, self, Extent::CommandApi, 256).await,
            Self::WholeSystem256 => create::pledge(stage, options, self, Extent::Whole, 256).await,
            Self::AppendLimit => append::run(stage, options, self).await,
            Self::HotAggregate => hot::run(stage, options, self).await,
            Self::WebhookAccept => accept::run(stage, options, self).await,
            Self::WebhookToTotal => to_total::run(stage, options, self).await,
            Self::Mixed => mixed::run(stage, options, self).await,
            Self::Growth => growth::run(stage, options, self).await,
            Self::ReadAfter => read::run(stage, options, self).await,
            Self::ReplayVerify => verify::run(stage, options, self).await,
            Self::GetTotals => totals::get(stage, options, self, 0).await,
            Self::GetTotalsBusy => totals::get(stage, options, self, 2_000).await,
            Self::ProjectionLag => projections::lag(stage, options, self).await,
            Self::CatchUpTotals => {
                projections::catch_up(stage, options, self, Some(Projection::CampaignTotals)).await
            }
            Self::CatchUpAll => projections::catch_up(stage, options, self, None).await,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// Connections get opened, statements prepared and pages read before anything is counted.
const WARM_UP_SECONDS: u64 = 1;
