//! The programs as a user runs them: started, interrupted, killed, and side by side.

use careforall_tests::{Program, completes, eventually, free_address, fresh_database, redis_url, replay};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::Value;

/// The processes whose command line or environment names `needle`, other than this one.
fn processes_with(needle: &str) -> Vec<i32> {
    let own = std::process::id().to_string();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|pid| *pid != own)
        .filter_map(|pid| {
            Some((pid.parse::<i32>().ok()?, std::fs::read(format!("/proc/{pid}/cmdline")).ok()?))
        })
        .filter(|(_, line)| String::from_utf8_lossy(line).contains(needle))
        .map(|(pid, _)| pid)
        .collect()
}

/// The embedded servers of a data folder: their processes, as the folder's records name them.
fn servers_of(data_dir: &std::path::Path) -> Vec<i32> {
    ["postgres.pid", "redis.pid"]
        .iter()
        .filter_map(|record| std::fs::read_to_string(data_dir.join(record)).ok())
        .map(|record| record.split_whitespace().next().unwrap().parse().unwrap())
        .collect()
}

fn runs(pid: i32) -> bool {
    // A zombie that nobody has waited for runs no more.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_the_pledge_and_its_webhook_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let listen = free_address();
    let up = Program::up(&listen, folder.path()).await;
    let campaign = up.client.campaign().await;
    let pledge = up.client.pledge(campaign, 5000, "ada@example.org").await;
    let servers = servers_of(folder.path());
    assert_eq!(servers.len(), 2);
    up.kill().await;
    let alive = async || servers.iter().any(|pid| runs(*pid));
    eventually("the servers end with their parent", alive, |alive| !alive).await;

    let up = Program::up(&listen, folder.path()).await;
    up.client.fact("payment.authorized", pledge, "pay_1", 5000).await;
    up.client.fact("payment.captured", pledge, "pay_1", 5000).await;
    up.client.totals_with(campaign, "/raised_minor", 5000).await;
    let (code, said) = replay(&["--data-dir", folder.path().to_str().unwrap(), "verify"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(up.interrupt().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_stops_everything_and_two_run_side_by_side() {
    let (one_folder, two_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let one = Program::up(&free_address(), one_folder.path()).await;
    let two = Program::up(&free_address(), two_folder.path()).await;
    let campaign = one.client.campaign().await;
    assert_eq!(two.client.totals(campaign).await.0, 404);
    let services = Program::services(one_folder.path());
    assert_eq!(format!("http://{}", services.listen), one.client.base_url);
    assert_eq!(Some(services.pid), one.child.id());

    // A second one on the same folder is refused, and says why.
    let folder = one_folder.path().to_str().unwrap();
    let mut rival = Program::start("up", &free_address(), &["--data-dir", folder]).await;
    let exit = completes("the second one ends", rival.child.wait()).await.unwrap();
    assert_eq!(exit.code(), Some(1));

    let servers = [servers_of(one_folder.path()), servers_of(two_folder.path())].concat();
    assert_eq!(servers.len(), 4);
    assert_eq!(one.interrupt().await, Some(0));
    assert_eq!(two.interrupt().await, Some(0));
    assert!(servers.iter().all(|pid| !runs(*pid)), "{servers:?}");
    assert!(processes_with(folder).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_die_are_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let up = Program::up(&free_address(), folder.path()).await;
    let campaign = up.client.campaign().await;
    for server in servers_of(folder.path()) {
        kill(Pid::from_raw(server), Signal::SIGKILL).unwrap();
        // Connections to the old one may answer for a moment.
        let servers = async || servers_of(folder.path());
        let is_another = |now: &Vec<i32>| now.len() == 2 && !now.contains(&server);
        eventually("another server is started", servers, is_another).await;
        up.ready().await;
    }
    let pledge = up.client.pledge(campaign, 5000, "ada@example.org").await;
    up.client.fact("payment.captured", pledge, "pay_1", 5000).await;
    let ask = async || up.client.totals_now(campaign).await.1;
    let from_redis = |totals: &Value| totals["raised_minor"] == 5000 && totals["source"] == "redis";
    eventually("Redis has the gift", ask, from_redis).await;
    let (code, said) = replay(&["--data-dir", folder.path().to_str().unwrap(), "verify"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(up.interrupt().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_runs_by_itself() {
    let (database, redis) = (fresh_database().await, redis_url().await);
    let folder = tempfile::tempdir().unwrap();
    let [command, ingest, projectors, query, sandbox] = std::array::from_fn(|_| free_address());
    let at = |address: &str| format!("http://{address}");
    let webhook_url = format!("{}/webhooks/sandbox", at(&ingest));
    let (sandbox_url, public_url) = (at(&sandbox), at(&command));
    let flags = [
        "--database-url",
        &database,
        "--redis-url",
        &redis,
        "--data-dir",
        folder.path().to_str().unwrap(),
        "--sandbox-url",
        &sandbox_url,
        "--sandbox-webhook-url",
        &webhook_url,
    ];
    let with_public = |url: &'_ str| {
        [flags.as_slice(), &["--public-url", url]]
            .concat()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let start = async |service: &str, listen: &str, public: &str| {
        let flags = with_public(public);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let program = Program::start(service, listen, &flags).await;
        program.ready().await;
        program
    };
    let command = start("command-api", &command, &public_url).await;
    let ingest = start("webhook-ingest", &ingest, &public_url).await;
    let projectors = start("projectors", &projectors, &public_url).await;
    let query = start("query-api", &query, &public_url).await;
    let sandbox = start("payment-sandbox", &sandbox, &sandbox_url).await;

    let campaign = command.client.campaign().await;
    let pledge = command.client.pledge(campaign, 5000, "ada@example.org").await;
    let pay = command.client.request(Method::GET, &format!("/pay/{pledge}")).send().await.unwrap();
    let page = pay.headers()["location"].to_str().unwrap().to_owned();
    assert!(page.starts_with(&sandbox_url), "{page}");
    let approved = sandbox.client.http.post(format!("{page}/approve")).send().await.unwrap();
    assert_eq!(approved.headers()["location"], format!("{public_url}/pay/{pledge}"));
    query.client.totals_with(campaign, "/raised_minor", 5000).await;
    let (code, said) = replay(&["--database-url", &database, "--redis-url", &redis, "verify"]).await;
    assert_eq!(code, Some(0), "{said}");
    for program in [sandbox, query, projectors, ingest, command] {
        assert_eq!(program.interrupt().await, Some(0));
    }
}

/// Compose files set a variable to nothing where nobody has chosen a value.
#[tokio::test]
async fn an_empty_variable_counts_as_unset_and_an_empty_flag_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = async |flags: &[&str]| {
        let output = tokio::process::Command::new(careforall_tests::program("careforall").await)
            .args(["migrate", "--data-dir", folder.path().to_str().unwrap()])
            .args(flags)
            .env("DATABASE_URL", " ")
            .output()
            .await
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run(&[]).await;
    assert!(code == Some(1) && said.contains("services.json"), "{said}");
    let (code, said) = run(&["--database-url", ""]).await;
    assert!(code == Some(2) && said.contains("--database-url"), "{said}");
}
