//! Redis in the data folder. All it holds can be rebuilt from Postgres, so it
//! writes nothing to disk.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tokio::task::spawn_blocking;

use super::child::{Launch, ServerDir, Shutdown, end_leftover};
use super::{Embedded, HOW_TO_GET_SERVICES, Running, ServerKind, kept_password};

const NAME: &str = "redis";

/// There is nothing to save, so a Redis that does not listen may be killed.
const SHUTDOWN: Shutdown =
    &[(Signal::SIGTERM, Duration::from_secs(10)), (Signal::SIGKILL, Duration::from_secs(5))];

const PATIENCE: Duration = Duration::from_secs(30);

/// Names the kind of [`EmbeddedRedis`].
pub struct Redis;

/// A Redis server of our own, with a folder in the data folder as its home. It starts empty.
pub type EmbeddedRedis = Embedded<Redis>;

impl ServerKind for Redis {
    const NAME: &'static str = "Redis";

    async fn launch(data_dir: &Path) -> Result<Running> {
        let folder = data_dir.to_owned();
        let home = spawn_blocking(move || Home::prepare(&folder))
            .await
            .context("preparing Redis was interrupted")??;
        let launch = Launch { name: NAME, data_dir, shutdown: SHUTDOWN, patience: PATIENCE };
        let command = |port| {
            // The settings, among them the password, are read from the pipe.
            let mut command = home.dir.command(&home.program, Signal::SIGTERM);
            command.arg("-");
            (command, home.settings(port))
        };
        let password = home.password.clone();
        let (child, port) = launch.start(command, move |_, port| answers(port, &password)).await?;
        // With the name of the user, which redis-cli asks for.
        let url = format!("redis://default:{}@127.0.0.1:{port}", home.password);
        Ok(Running { child, url })
    }
}

/// Everything that a start needs; no server is running yet.
struct Home {
    program: PathBuf,
    dir: ServerDir,
    password: String,
}

impl Home {
    fn prepare(data_dir: &Path) -> Result<Self> {
        end_leftover(data_dir, NAME, SHUTDOWN)?;
        let program = find_program()?;
        let password = kept_password(&data_dir.join("redis.password"))?;
        let dir = ServerDir::open(&data_dir.join(NAME))?;
        Ok(Self { program, dir, password })
    }

    fn settings(&self, port: u16) -> String {
        let (dir, password) = (self.dir.inherited_path(), &self.password);
        format!(
            "port {port}\nbind 127.0.0.1\nprotected-mode yes\nrequirepass {password}\ndir {dir}\n\
             save \"\"\nappendonly no\nmaxmemory-policy noeviction\ndaemonize no\nlogfile \"\"\n"
        )
    }
}

fn find_program() -> Result<PathBuf> {
    let candidates: Vec<PathBuf> = match std::env::var_os("CAREFORALL_REDIS_SERVER") {
        Some(program) => vec![program.into()],
        None => {
            let search_path = std::env::var_os("PATH").unwrap_or_default();
            let usual = ["/usr/bin", "/usr/sbin", "/usr/local/bin"].map(PathBuf::from);
            let folders = std::env::split_paths(&search_path).chain(usual);
            folders.map(|folder| folder.join("redis-server")).collect()
        }
    };
    let program = candidates.iter().find(|program| program.is_file());
    program.cloned().with_context(|| {
        let tried: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
        format!("Redis is needed, but there is no {}; {HOW_TO_GET_SERVICES}", tried.join(", no "))
    })
}

/// Whether our Redis answers: another program on the port lacks the password.
fn answers(port: u16, password: &str) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(stream, "AUTH {password}\r\nPING\r\n")?;
        let mut answer = [0; "+OK\r\n+PONG\r\n".len()];
        stream.read_exact(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    ask().is_ok_and(|answer| &answer == b"+OK\r\n+PONG\r\n")
}
