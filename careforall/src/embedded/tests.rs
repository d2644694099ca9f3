//! These tests need the Postgres and Redis programs, and work as any user.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::child::{ServerDir, Shutdown, end_leftover, identity};
use super::{DataDir, EmbeddedPostgres, EmbeddedRedis, postgres};

/// A folder of mode 0700, which the servers' account cannot traverse as root.
fn scratch() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

fn sql(url: &str, statement: &str) -> String {
    let psql = postgres::find_programs(None).unwrap().join("psql");
    let output = Command::new(psql).args(["-X", "-A", "-t", "-c", statement, url]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn process(pid: u32) -> Pid {
    Pid::from_raw(pid.cast_signed())
}

/// Far longer than any process takes to end, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(120);

fn wait_until_gone(pid: u32) {
    let begin = Instant::now();
    while identity(process(pid)).is_some() {
        assert!(begin.elapsed() < PATIENCE, "process {pid} lives on");
        sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn postgres_keeps_its_data() {
    let dir = scratch();
    let server = EmbeddedPostgres::start(dir.path()).await.unwrap();
    sql(server.url(), "create table gift as select 7 as amount");
    assert_eq!(sql(server.url(), "show fsync"), "on");
    assert_eq!(sql(server.url(), "show synchronous_commit"), "on");
    assert_eq!(sql(server.url(), "show server_encoding"), "UTF8");
    assert_eq!(sql(server.url(), "show timezone"), "UTC");
    let pid = server.pid();
    server.stop().await.unwrap();
    assert_eq!(identity(process(pid)), None);

    let server = EmbeddedPostgres::start_with(dir.path(), &[("work_mem", "5MB")]).await.unwrap();
    assert_eq!(sql(server.url(), "select amount from gift"), "7");
    assert_eq!(sql(server.url(), "show work_mem"), "5MB");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn two_data_folders_work_side_by_side() {
    let (one, two) = (scratch(), scratch());
    let starts = tokio::join!(EmbeddedPostgres::start(one.path()), EmbeddedPostgres::start(two.path()));
    let (one, two) = (starts.0.unwrap(), starts.1.unwrap());
    sql(one.url(), "create table gift ()");
    assert_eq!(sql(two.url(), "select to_regclass('gift') is null"), "t");
    one.stop().await.unwrap();
    two.stop().await.unwrap();
}

#[tokio::test]
async fn the_password_is_needed_and_kept_private() {
    let dir = scratch();
    let mut server = EmbeddedRedis::start(dir.path()).await.unwrap();
    let password = dir.path().join("redis.password");
    assert_eq!(fs::metadata(&password).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(server.url().contains(fs::read_to_string(&password).unwrap().trim()));
    // The address is understood by Redis's own client, which asks for the name of the user.
    let ping = Command::new("redis-cli").args(["--no-auth-warning", "-u", server.url(), "ping"]).output();
    assert_eq!(String::from_utf8(ping.unwrap().stdout).unwrap(), "PONG\n");
    let arguments = fs::read_to_string(format!("/proc/{}/cmdline", server.pid())).unwrap();
    assert!(!arguments.contains(fs::read_to_string(&password).unwrap().trim()));
    kill(process(server.pid()), Signal::SIGKILL).unwrap();
    server.exited().await;
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_start_says_why() {
    let dir = scratch();
    let refused = EmbeddedPostgres::start_with(dir.path(), &[("work_mem", "much")]).await;
    let error = refused.err().unwrap().to_string();
    assert!(error.contains("invalid value for parameter \"work_mem\""), "{error}");
}

#[tokio::test]
async fn an_interrupted_initialisation_is_begun_again() {
    let dir = scratch();
    fs::create_dir(dir.path().join("postgres.new")).unwrap();
    fs::write(dir.path().join("postgres.new/PG_VERSION"), "15\n").unwrap();
    EmbeddedPostgres::start(dir.path()).await.unwrap().stop().await.unwrap();
    assert!(!dir.path().join("postgres.new").exists());
}

#[tokio::test]
async fn a_lock_whose_process_id_was_used_again_does_not_hinder() {
    let dir = scratch();
    EmbeddedPostgres::start(dir.path()).await.unwrap().stop().await.unwrap();
    let home = ServerDir::open(&dir.path().join("postgres")).unwrap();
    // Postgres heeds only processes of its own user, so the stranger is one.
    let mut stranger = home.command(Path::new("/bin/sleep"), Signal::SIGKILL).arg("600").spawn().unwrap();
    let lock = format!("{}\n/proc/self/fd/9\n1\n5432\n\n127.0.0.1\n1 1\nready\n", stranger.id());
    fs::write(dir.path().join("postgres/postmaster.pid"), lock).unwrap();
    EmbeddedPostgres::start(dir.path()).await.unwrap().stop().await.unwrap();
    assert!(identity(process(stranger.id())).is_some(), "an unrelated process was ended");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

const SHUTDOWN: Shutdown = &[(Signal::SIGTERM, PATIENCE), (Signal::SIGKILL, PATIENCE)];

#[test]
fn of_an_earlier_run_only_the_recorded_process_is_ended() {
    let dir = scratch();
    let home = ServerDir::open(&dir.path().join("home")).unwrap();
    let mut process = home.command(Path::new("/bin/sleep"), Signal::SIGKILL).arg("600").spawn().unwrap();
    let is_alive = |id| identity(Pid::from_raw(id)).is_some();
    let (id, record) = (process.id().cast_signed(), dir.path().join("sleep.pid"));

    fs::write(&record, format!("{id} (sleep) 1\n")).unwrap();
    end_leftover(dir.path(), "sleep", SHUTDOWN).unwrap();
    assert!(is_alive(id), "a process with a used process id was ended");
    assert!(!record.exists());

    fs::write(&record, identity(Pid::from_raw(id)).unwrap()).unwrap();
    end_leftover(dir.path(), "sleep", SHUTDOWN).unwrap();
    assert!(!is_alive(id));
    process.wait().unwrap();
}

#[test]
fn a_data_folder_has_one_user() {
    let dir = scratch();
    let folder = dir.path().join("data");
    let held = DataDir::open(&folder).unwrap();
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let refused = DataDir::open(&folder).unwrap_err().to_string();
    assert!(refused.contains(&format!("another careforall (pid {})", std::process::id())), "{refused}");
    drop(held);
    DataDir::open(&folder).unwrap();
}

const PARENT_FOLDER: &str = "EMBEDDED_PARENT_FOLDER";

/// The process that the tests below kill: they run this test binary again.
#[tokio::test]
#[ignore = "run by other tests as a process of its own"]
async fn parent() {
    let Some(folder) = std::env::var_os(PARENT_FOLDER) else { return };
    let postgres = EmbeddedPostgres::start(Path::new(&folder)).await.unwrap();
    let redis = EmbeddedRedis::start(Path::new(&folder)).await.unwrap();
    sql(postgres.url(), "create table if not exists gift ()");
    println!("\nservers {} {}", postgres.pid(), redis.pid());
    std::future::pending::<()>().await;
}

/// Starts the servers in another process and kills that process.
fn start_and_kill_parent(folder: &Path, before: impl Fn(&[u32])) -> Vec<u32> {
    let test = format!("{}::parent", module_path!().split_once("::").unwrap().1);
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &test, "--ignored", "--nocapture"])
        .env(PARENT_FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find(|line| line.starts_with("servers ")).unwrap();
    let pids: Vec<u32> = line.split_whitespace().skip(1).map(|pid| pid.parse().unwrap()).collect();
    before(&pids);
    parent.kill().unwrap();
    parent.wait().unwrap();
    pids
}

#[tokio::test]
async fn servers_end_with_their_parent() {
    let dir = scratch();
    for pid in start_and_kill_parent(dir.path(), |_| {}) {
        wait_until_gone(pid);
    }
    let server = EmbeddedPostgres::start(dir.path()).await.unwrap();
    assert_eq!(sql(server.url(), "select count(*) from gift"), "0");
    server.stop().await.unwrap();
}

/// A stopped process cannot obey its death signal, which leaves both servers
/// behind, as if the signal had been lost.
#[tokio::test]
async fn servers_left_behind_are_ended_by_the_next_start() {
    let dir = scratch();
    let signal = |pids: &[u32], signal| pids.iter().for_each(|pid| kill(process(*pid), signal).unwrap());
    let pids = start_and_kill_parent(dir.path(), |pids| signal(pids, Signal::SIGSTOP));
    assert!(pids.iter().all(|pid| identity(process(*pid)).is_some()));
    let resume = pids.clone();
    let resumer = std::thread::spawn(move || {
        sleep(Duration::from_secs(1));
        signal(&resume, Signal::SIGCONT);
    });
    let postgres = EmbeddedPostgres::start(dir.path()).await.unwrap();
    let redis = EmbeddedRedis::start(dir.path()).await.unwrap();
    assert!(pids.iter().all(|pid| identity(process(*pid)).is_none()));
    resumer.join().unwrap();
    redis.stop().await.unwrap();
    postgres.stop().await.unwrap();
}
