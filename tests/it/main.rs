//! The integration, end-to-end and fault tests, over real Postgres and Redis.
#![allow(clippy::unwrap_used)]

mod architecture;
mod campaigns;
mod contracts;
mod faults;
mod ledger;
mod limits;
mod payment_flow;
mod pledges;
mod processes;
mod projections;
mod replay_tool;
mod sandbox;
mod webhooks;
