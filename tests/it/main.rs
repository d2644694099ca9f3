//! The integration, end-to-end and fault tests, over real Postgres and Redis.
#![allow(clippy::unwrap_used)]

mod analytics;
mod any_order;
mod architecture;
mod back_pressure;
mod campaigns;
mod capture_limit;
mod circles;
mod contracts;
mod event_versions;
mod faults;
mod inbox;
mod inputs;
mod last_word;
mod ledger;
mod limits;
mod money;
mod payment_flow;
mod pledges;
mod processes;
mod projections;
mod projectors;
mod queries;
mod rebuild;
mod reconcile;
mod replay_tool;
mod sandbox;
mod schema;
mod snapshots;
mod spreadsheets;
mod stripe;
mod tables;
mod third_provider;
mod tidy;
mod webhooks;
