//! Load by this program: pledges that go through their whole lives.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use payments::WebhookSecret;
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use uuid::Uuid;

use crate::http::Client;
use crate::messages;
use crate::wrk::create_body;

/// The provider's messages that complete a pledge, in their order.
const MESSAGES: [&str; 3] = ["payment.authorized", "payment.captured", "settlement.confirmed"];

/// Where the load goes, and how much of it.
#[derive(Args, Clone, Debug)]
pub(crate) struct LoadSettings {
    #[arg(long)]
    address: SocketAddr,
    #[arg(long)]
    campaign_id: Uuid,
    #[arg(long, env = "CAREFORALL_SANDBOX_WEBHOOK_SECRET", hide_env_values = true)]
    secret: WebhookSecret,
    #[arg(long)]
    connections: u64,
    #[arg(long)]
    seconds: u64,
}

/// Result of the load.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct LoadResult {
    /// Pledges that were created, and all of whose messages were taken.
    pub(crate) lifecycles: u64,
    /// How long each took, from the request to the last acknowledgement.
    pub(crate) took: Vec<Duration>,
}

/// Runs the load in a process of its own, as the clients would be.
pub(crate) async fn run(
    address: SocketAddr,
    campaign_id: Uuid,
    secret: &str,
    connections: u64,
    seconds: u64,
) -> anyhow::Result<LoadResult> {
    let output = Command::new(std::env::current_exe().context("where is this program")?)
        .arg("load")
        .args(["--address", &address.to_string(), "--campaign-id", &campaign_id.to_string()])
        .args(["--connections", &connections.to_string(), "--seconds", &seconds.to_string()])
        .env("CAREFORALL_SANDBOX_WEBHOOK_SECRET", secret)
        .kill_on_drop(true)
        .output()
        .await
        .context("the load cannot be started")?;
    anyhow::ensure!(output.status.success(), "the load failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("the load's report cannot be read")
}

/// Makes the load, and prints what it saw as JSON.
pub(crate) async fn load(settings: LoadSettings) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_secs(settings.seconds);
    let clients: Vec<_> =
        (0..settings.connections).map(|_| tokio::spawn(live_until(end, settings.clone()))).collect();
    let mut took = Vec::new();
    for client in clients {
        took.extend(client.await.context("a client panicked")??);
    }
    println!("{}", serde_json::to_string(&LoadResult { lifecycles: took.len() as u64, took })?);
    Ok(())
}

/// One client: one pledge after the other.
async fn live_until(end: Instant, settings: LoadSettings) -> anyhow::Result<Vec<Duration>> {
    let mut client = Client::connect(settings.address).await?;
    let mut took = Vec::new();
    while Instant::now() < end {
        let started = Instant::now();
        live_once(&mut client, &settings).await?;
        took.push(started.elapsed());
    }
    Ok(took)
}

#[derive(Deserialize)]
struct Created {
    pledge_id: Uuid,
}

async fn live_once(client: &mut Client, settings: &LoadSettings) -> anyhow::Result<()> {
    let id = Uuid::new_v4().to_string();
    let body = create_body(settings.campaign_id, &id);
    let headers = format!("idempotency-key: {id}\r\n");
    let answer = client.expect(201, "POST", "/api/pledges", &headers, &body).await?;
    let Created { pledge_id } = serde_json::from_slice(answer).context("a pledge's answer")?;
    for message in MESSAGES {
        let webhook_id = format!("msg_{message}_{id}");
        let signed = messages::money(&settings.secret, &webhook_id, message, pledge_id, &format!("pay_{id}"));
        client.expect(200, "POST", "/webhooks/sandbox", &signed.headers, &signed.body).await?;
    }
    Ok(())
}
