//! Load by this program: facts about money, as fast as they are taken or at a steady pace.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::Args;
use payments::WebhookSecret;
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::http::Client;
use crate::messages;

/// Where the load goes, and how much of it.
#[derive(Args, Clone, Debug)]
pub(crate) struct FactSettings {
    #[arg(long)]
    address: SocketAddr,
    /// A JSON list of the pledges that are captured, one fact each.
    #[arg(long)]
    pledges: PathBuf,
    #[arg(long, env = "CAREFORALL_SANDBOX_WEBHOOK_SECRET", hide_env_values = true)]
    secret: WebhookSecret,
    #[arg(long)]
    connections: usize,
    /// Facts per second; without it each connection sends the next as soon as it is answered.
    #[arg(long)]
    rate: Option<u64>,
}

/// A fact that was taken.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Sent {
    pub(crate) pledge_id: Uuid,
    /// When it was sent, or should have been by the pace, in microseconds since 1970: what is late
    /// because the service was slow counts against the service.
    pub(crate) due_us: u64,
    /// When the last byte of the answer was there.
    pub(crate) answered_us: u64,
}

/// Microseconds since 1970, by the clock that all processes of the machine share.
pub(crate) fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

/// Captures `pledges` from a process of its own. The list goes through the file `list`.
pub(crate) async fn run(
    address: SocketAddr,
    list: &Path,
    pledges: &[Uuid],
    secret: &str,
    connections: usize,
    rate: Option<u64>,
) -> anyhow::Result<Vec<Sent>> {
    std::fs::write(list, serde_json::to_vec(pledges)?).context("the list of pledges cannot be written")?;
    let mut command = Command::new(std::env::current_exe().context("where is this program")?);
    command
        .arg("facts")
        .args(["--address", &address.to_string(), "--connections", &connections.to_string(), "--pledges"])
        .arg(list)
        .env("CAREFORALL_SANDBOX_WEBHOOK_SECRET", secret)
        .kill_on_drop(true);
    if let Some(rate) = rate {
        command.args(["--rate", &rate.to_string()]);
    }
    let output = command.output().await.context("the load cannot be started")?;
    anyhow::ensure!(output.status.success(), "the load failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("the load's report cannot be read")
}

/// Makes the load, and prints what was taken as JSON.
pub(crate) async fn load(settings: FactSettings) -> anyhow::Result<()> {
    let pledges: Arc<[Uuid]> =
        serde_json::from_slice::<Vec<Uuid>>(&std::fs::read(&settings.pledges)?)?.into();
    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::with_capacity(settings.connections);
    for _ in 0..settings.connections {
        clients.push(Client::connect(settings.address).await?);
    }
    // Everything is connected; the pace begins a moment later.
    let (start, start_us) = (Instant::now() + Duration::from_millis(20), now_us() + 20_000);
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|client| {
            tokio::spawn(send(client, settings.clone(), pledges.clone(), next.clone(), (start, start_us)))
        })
        .collect();
    let mut sent = Vec::with_capacity(pledges.len());
    for task in tasks {
        sent.extend(task.await.context("a client panicked")??);
    }
    println!("{}", serde_json::to_string(&sent)?);
    Ok(())
}

/// One connection: the next fact that no other one has taken.
async fn send(
    mut client: Client,
    settings: FactSettings,
    pledges: Arc<[Uuid]>,
    next: Arc<AtomicUsize>,
    (start, start_us): (Instant, u64),
) -> anyhow::Result<Vec<Sent>> {
    let mut sent = Vec::new();
    loop {
        let nth = next.fetch_add(1, Ordering::Relaxed);
        let Some(&pledge_id) = pledges.get(nth) else { return Ok(sent) };
        let due_us = match settings.rate {
            Some(rate) => {
                let offset = Duration::from_micros(nth as u64 * 1_000_000 / rate);
                sleep_until(start + offset).await;
                start_us + offset.as_micros() as u64
            }
            None => now_us(),
        };
        let message = messages::money(
            &settings.secret,
            &format!("msg_{pledge_id}"),
            "payment.captured",
            pledge_id,
            &format!("pay_{pledge_id}"),
        );
        client.expect(200, "POST", "/webhooks/sandbox", &message.headers, &message.body).await?;
        sent.push(Sent { pledge_id, due_us, answered_us: now_us() });
    }
}
