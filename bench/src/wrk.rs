//! Load by wrk, with a generated script that makes every request unique and reports as JSON.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use tokio::process::Command;
use uuid::Uuid;

use crate::rounds::{Latency, Sample};
use crate::stage::Stage;

/// More would only take the processor away from what is measured.
pub(crate) const THREADS: u64 = 1;

/// A request to the service.
pub(crate) enum Request {
    /// Make a new pledge for the campaign.
    Create { campaign_id: Uuid },
    /// Amend this one pledge, to another amount each time; 409 is to be expected.
    Amend { pledge_id: Uuid },
    /// Send whole requests of equal length, each once, from one file for each thread.
    Signed { files: Vec<PathBuf> },
    /// Show the campaign's totals.
    Totals { campaign_id: Uuid },
}

/// Results of wrk, as the script prints them.
#[derive(Debug, Deserialize)]
pub(crate) struct WrkResult {
    duration_us: u64,
    requests: u64,
    p50_us: f64,
    p99_us: f64,
    /// Connections that could not be made, broke, or waited too long.
    broken: u64,
    /// Answers with a status above 399.
    bad_status: u64,
    /// Answers of 409, where they are to be expected.
    conflicts: u64,
    /// Answers that are neither the expected one nor an expected 409, where each one is looked at.
    unexpected: u64,
}

impl WrkResult {
    /// The requests that did what they asked for.
    pub(crate) fn successes(&self) -> u64 {
        self.requests - self.conflicts
    }

    /// The figures, unless something went wrong.
    pub(crate) fn sample(&self) -> anyhow::Result<Sample> {
        ensure!(self.broken == 0, "{} requests broke: {self:?}", self.broken);
        let bad = self.bad_status - self.conflicts.min(self.bad_status) + self.unexpected;
        ensure!(bad == 0, "{bad} answers were unexpected: {self:?}");
        ensure!(self.successes() > 0, "nothing succeeded: {self:?}");
        let took = Duration::from_micros(self.duration_us);
        let latency = Latency { p50_ms: self.p50_us / 1e3, p99_ms: self.p99_us / 1e3 };
        let mut sample = Sample::new(self.successes(), took, Some(latency));
        sample.conflicts = self.conflicts as f64 / took.as_secs_f64();
        Ok(sample)
    }
}

/// Sends requests on `connections` for `seconds`, each connection the next as soon as it is answered.
pub(crate) async fn run(
    stage: &Stage,
    address: SocketAddr,
    request: &Request,
    connections: u64,
    seconds: u64,
) -> anyhow::Result<WrkResult> {
    let path = stage.file("wrk.lua");
    std::fs::write(&path, script(request)?).context("the script for wrk cannot be written")?;
    let output = Command::new("wrk")
        .args(["--threads", &THREADS.min(connections).to_string()])
        .args(["--connections", &connections.to_string()])
        .args(["--duration", &format!("{seconds}s"), "--timeout", "10s", "--script"])
        .arg(&path)
        .arg(format!("http://{address}"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("wrk cannot be run; apt-get install wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(json) = text.lines().find(|line| line.starts_with('{')) else {
        bail!("wrk reports nothing: {text}{}", String::from_utf8_lossy(&output.stderr));
    };
    serde_json::from_str(json).with_context(|| format!("wrk's report cannot be read: {json}"))
}

/// The whole script. The requests are put together here as far as possible, because Lua shares
/// the processor with the service; bodies of one kind all have the same length.
fn script(request: &Request) -> anyhow::Result<String> {
    let seed = rand::random::<u32>();
    let mut script = format!("local seed = {seed}\n{COMMON}");
    match request {
        Request::Create { campaign_id } => {
            let id = Uuid::nil();
            let body = create_body(*campaign_id, &id.to_string());
            let head = head("POST", "/api/pledges", body.len());
            let (before, after) =
                body.split_once(&id.to_string()).context("the body has no place for the id")?;
            write!(
                script,
                "local head = {head:?} .. 'Idempotency-Key: '\nlocal before = '\\r\\n\\r\\n{before}'\n\
                 local after = '{after}'\n{CREATE}"
            )?;
        }
        Request::Amend { pledge_id } => {
            let head = head("PUT", &format!("/api/pledges/{pledge_id}"), amend_body("100000").len());
            let body = amend_body("%d");
            write!(script, "local request_format = {head:?} .. '\\r\\n{body}'\n{AMEND}")?;
        }
        Request::Signed { files } => {
            let first = std::fs::read_to_string(files.first().context("no requests were signed")?)?;
            let length = first[1..].find("POST /").map_or(first.len(), |next| next + 1);
            let files = files.iter().map(|file| format!("{:?}", file.display().to_string()));
            let files = files.collect::<Vec<_>>().join(", ");
            write!(script, "local files, length = {{{files}}}, {length}\n{SIGNED}")?;
        }
        Request::Totals { campaign_id } => {
            // The same each time: wrk puts it together once.
            writeln!(script, "wrk.path = '/api/campaigns/{campaign_id}/totals'")?;
        }
    }
    Ok(script)
}

/// A new pledge of a donor whose address is unique by `id`.
pub(crate) fn create_body(campaign_id: Uuid, id: &str) -> String {
    format!(
        r#"{{"campaign_id":"{campaign_id}","amount":{{"amount_minor":2500,"currency":"EUR"}},"donor":{{"name":"Ada Lovelace","email":"{id}@example.org"}},"anonymous":false,"message":"With love"}}"#
    )
}

fn amend_body(amount_minor: &str) -> String {
    format!(r#"{{"amount":{{"amount_minor":{amount_minor},"currency":"EUR"}}}}"#)
}

/// The head of a request with a JSON body, up to further headers.
pub(crate) fn head(method: &str, path: &str, length: usize) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n"
    )
}

const COMMON: &str = r#"
local threads = {}
conflicts, unexpected = 0, 0

function setup(thread)
  thread:set('thread_id', #threads)
  table.insert(threads, thread)
end

function init()
  math.randomseed(seed * 16 + thread_id)
end

function done(summary, latency)
  local conflicts, unexpected = 0, 0
  for _, thread in ipairs(threads) do
    conflicts = conflicts + thread:get('conflicts')
    unexpected = unexpected + thread:get('unexpected')
  end
  local errors = summary.errors
  io.write('\n', string.format(
    '{"duration_us":%d,"requests":%d,"p50_us":%.0f,"p99_us":%.0f,"broken":%d,"bad_status":%d,' ..
    '"conflicts":%d,"unexpected":%d}',
    summary.duration, summary.requests, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.timeout, errors.status,
    conflicts, unexpected), '\n')
end
"#;

const CREATE: &str = r#"
local random, format = math.random, string.format

function request()
  local id = format('%04x%04x-%04x-4%03x-8%03x-%06x%06x', random(0, 0xffff), random(0, 0xffff),
    random(0, 0xffff), random(0, 0xfff), random(0, 0xfff), random(0, 0xffffff), random(0, 0xffffff))
  return head .. id .. before .. id .. after
end
"#;

// Threads take even and odd amounts: an amount never equals the one before it.
const AMEND: &str = r#"
local counter = 0

function request()
  counter = counter + 1
  return string.format(request_format, 100000 + (2 * counter + thread_id) % 900000)
end

function response(status)
  if status == 409 then
    conflicts = conflicts + 1
  elseif status ~= 200 then
    unexpected = unexpected + 1
  end
end
"#;

// The requests are cut apart before the round, so that neither cutting nor collecting what was cut off
// takes the processor away from it. A thread that runs out of them says so, and its round gives no figure.
const SIGNED: &str = r#"
local sent, count, requests = 0, 0, {}

function init()
  local file = assert(io.open(files[thread_id + 1], 'rb'))
  for request in function() return file:read(length) end do
    count = count + 1
    requests[count] = request
  end
  file:close()
  collectgarbage()
  collectgarbage('stop')
end

function request()
  if sent == count then
    unexpected = unexpected + 1
    sent = 0
  end
  sent = sent + 1
  return requests[sent]
end
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> WrkResult {
        WrkResult {
            duration_us: 2_000_000,
            requests: 100,
            p50_us: 1_000.0,
            p99_us: 2_000.0,
            broken: 0,
            bad_status: 0,
            conflicts: 0,
            unexpected: 0,
        }
    }

    #[test]
    fn only_a_clean_round_gives_a_figure() {
        assert_eq!(seen().sample().unwrap().rate, 50.0);
        let conflicts = WrkResult { bad_status: 40, conflicts: 40, ..seen() };
        assert_eq!(conflicts.sample().unwrap().rate, 30.0);
        assert!(WrkResult { broken: 1, ..seen() }.sample().is_err());
        assert!(WrkResult { bad_status: 1, ..seen() }.sample().is_err());
        assert!(WrkResult { unexpected: 1, ..seen() }.sample().is_err());
        assert!(WrkResult { requests: 0, ..seen() }.sample().is_err());
    }

    #[test]
    fn a_script_is_lua_with_the_right_length() {
        let script = script(&Request::Amend { pledge_id: Uuid::nil() }).unwrap();
        assert!(script.contains(r"Content-Length: 51\r\n"), "{script}");
    }
}
