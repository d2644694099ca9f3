//! Many watchers of one campaign's live totals. The test runs it short, `make soak` at full length.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::ports::free_address;
use crate::program::Program;
use crate::servers::{fresh_database, redis_url};
use crate::waiting::{PATIENCE, eventually_within};
use crate::{Client, answer, completes, eventually};

/// Observations of one watcher.
struct Observations {
    /// How long each news was under way, from its event's append to this watcher.
    took: Vec<Duration>,
    /// The last position that was shown.
    position: i64,
}

/// `watchers` clients that read and `silent` ones that never do, while `news` pledges are made. Every
/// watcher must see the last one, and positions that never go back. Says how long news were under way, and
/// how much memory they all took.
pub async fn many_watchers(watchers: usize, silent: usize, news: u32) -> String {
    allow_connections();
    let (database, redis) = (fresh_database().await, redis_url().await);
    let folder = tempfile::tempdir().unwrap();
    let flags =
        ["--database-url", &database, "--redis-url", &redis, "--data-dir", folder.path().to_str().unwrap()];
    let listen = free_address();
    let program = Program::start("up", &listen, &flags).await;
    program.ready().await;
    let campaign = program.client.campaign().await;
    program.client.totals_with(campaign, "/raised_minor", 0).await;
    let before = resident_mb(&program);

    let (end, ended) = watch::channel(i64::MAX);
    let mut watching = JoinSet::new();
    for _ in 0..watchers {
        watching.spawn(watch_until(connect(&listen, campaign, None).await, ended.clone()));
    }
    let mut deaf = Vec::new();
    for _ in 0..silent {
        deaf.push(connect(&listen, campaign, Some(2_048)).await);
    }
    watchers_are(&program, watchers + silent).await;
    let with_watchers = resident_mb(&program);

    let mut last = 0;
    for _ in 0..news {
        last = make_news(&program.client, campaign).await;
        // Slow enough that each is shown by itself.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    end.send(last).unwrap();
    let mut took = Vec::new();
    let all = async {
        while let Some(seen) = watching.join_next().await {
            let seen = seen.unwrap();
            assert!(seen.position >= last, "a watcher saw {} of {last}", seen.position);
            took.extend(seen.took);
        }
    };
    completes("every watcher sees the last news", all).await;
    took.sort_unstable();
    let percentile = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_millis();
    let dropped = if silent > 0 { drop_the_deaf(&program, campaign, silent).await } else { String::new() };
    format!(
        "{watchers} watchers saw {} news; append to watcher p50 {} ms, p99 {} ms, max {} ms; \
         {with_watchers:.0} MB resident with all of them, {before:.0} MB before{dropped}",
        took.len(),
        percentile(0.5),
        percentile(0.99),
        percentile(1.0),
    )
}

/// A program may open fewer files at once than the machine allows it.
fn allow_connections() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

async fn connect(listen: &str, campaign: Uuid, receive_buffer: Option<u32>) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes).unwrap();
    }
    let mut stream = socket.connect(listen.parse().unwrap()).await.unwrap();
    let request = format!("GET /api/campaigns/{campaign}/totals/stream HTTP/1.1\r\nhost: {listen}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Reads events until the last news was seen, once it is known which that is.
async fn watch_until(stream: TcpStream, mut last: watch::Receiver<i64>) -> Observations {
    let mut lines = BufReader::with_capacity(2_048, stream).lines();
    let mut seen = Observations { took: Vec::new(), position: 0 };
    let mut events = 0;
    loop {
        if *last.borrow() <= seen.position {
            return seen;
        }
        let line = tokio::select! {
            line = lines.next_line() => line.unwrap().expect("the stream goes on"),
            Ok(()) = last.changed() => continue,
        };
        if let Some(id) = line.strip_prefix("id: ") {
            let position: i64 = id.parse().unwrap();
            assert!(position > seen.position, "{position} after {}", seen.position);
            seen.position = position;
            events += 1;
        } else if let Some(data) = line.strip_prefix("data: ")
            && events > 1
        {
            // The first event is what was there before.
            let (_, rest) = data.split_once("\"as_of\":\"").unwrap();
            let as_of: DateTime<Utc> = rest.split_once('"').unwrap().0.parse().unwrap();
            seen.took.push((Utc::now() - as_of).to_std().unwrap_or_default());
        }
    }
}

async fn make_news(client: &Client, campaign: Uuid) -> i64 {
    let body = Client::pledge_body(campaign, 100, &format!("{}@example.org", Uuid::new_v4()));
    let (status, made) = answer(client.post_pledge(&Uuid::new_v4().to_string(), &body).await).await;
    assert_eq!(status, 201, "{made}");
    made["position"].as_i64().unwrap()
}

async fn watchers_are(program: &Program, expected: usize) {
    let ask = async || metric(&program.client, "totals_watchers ").await;
    let what = format!("there are {expected} watchers");
    eventually(what, ask, |watchers| *watchers as usize == expected).await;
}

async fn metric(client: &Client, name: &str) -> f64 {
    let metrics = client.request(reqwest::Method::GET, "/metrics").send().await.unwrap();
    let text = metrics.text().await.unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)).map_or(0.0, |value| value.trim().parse().unwrap())
}

/// Makes news until those who never read are dropped, as they are once their buffers are full.
async fn drop_the_deaf(program: &Program, campaign: Uuid, silent: usize) -> String {
    let started = std::time::Instant::now();
    let dropped = async || {
        make_news(&program.client, campaign).await;
        metric(&program.client, "http_server_stalled_connections_total ").await
    };
    // Buffers are large, and a connection is stalled for a while before it is dropped.
    let what = "those who never read are dropped";
    eventually_within(5 * PATIENCE, what, dropped, |dropped| *dropped >= silent as f64).await;
    watchers_are(program, 0).await;
    format!(
        "; {silent} who never read were dropped after {:.0} s of news, {:.0} MB resident then",
        started.elapsed().as_secs_f64(),
        resident_mb(program),
    )
}

fn resident_mb(program: &Program) -> f64 {
    let pid = program.child.id().expect("the program runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
