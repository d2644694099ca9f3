//! A Redis Cluster of three nodes on loopback.

use std::process::Stdio;

use redis::aio::MultiplexedConnection;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::eventually;
use crate::ports::free_port;

/// Three masters that share the slots, without replicas.
pub struct RedisCluster {
    nodes: Vec<Node>,
}

struct Node {
    port: u16,
    bus_port: u16,
    folder: TempDir,
    server: Option<Child>,
}

impl Node {
    fn new() -> Self {
        let (port, bus_port) = (free_port(), free_port());
        let folder = tempfile::tempdir().unwrap();
        let mut node = Self { port, bus_port, folder, server: None };
        node.start();
        node
    }

    fn start(&mut self) {
        let number = |port: u16| port.to_string();
        let server = Command::new("redis-server")
            .args(["--port", &number(self.port), "--cluster-port", &number(self.bus_port)])
            .args(["--bind", "127.0.0.1", "--cluster-enabled", "yes", "--cluster-node-timeout", "2000"])
            // With one node away the others go on answering for their slots.
            .args(["--cluster-require-full-coverage", "no"])
            .args(["--save", "", "--appendonly", "no", "--dir", self.folder.path().to_str().unwrap()])
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("redis-server is needed; scripts/install-services.sh installs it");
        self.server = Some(server);
    }

    async fn connect(&self) -> MultiplexedConnection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap();
        let ask = async || client.get_multiplexed_async_connection().await.ok().map(Some);
        let connect = async || ask().await.flatten().is_some();
        eventually(format!("port {} accepts connections", self.port), connect, |connected| *connected).await;
        client.get_multiplexed_async_connection().await.unwrap()
    }
}

impl RedisCluster {
    pub async fn start() -> Self {
        let cluster = Self { nodes: (0..3).map(|_| Node::new()).collect() };
        let first = &cluster.nodes[0];
        for (node, slots) in cluster.nodes.iter().zip([(0, 5_460), (5_461, 10_922), (10_923, 16_383)]) {
            let mut connection = node.connect().await;
            let mut add = redis::cmd("CLUSTER");
            add.arg("ADDSLOTSRANGE").arg(slots.0).arg(slots.1);
            add.exec_async(&mut connection).await.unwrap();
            let mut meet = redis::cmd("CLUSTER");
            meet.arg("MEET").arg("127.0.0.1").arg(first.port).arg(first.bus_port);
            meet.exec_async(&mut connection).await.unwrap();
        }
        cluster.is_whole().await;
        cluster
    }

    /// Waits until every node knows of all slots.
    async fn is_whole(&self) {
        for node in &self.nodes {
            let connection = node.connect().await;
            let ask = async || {
                let mut info = redis::cmd("CLUSTER");
                let info: String =
                    info.arg("INFO").query_async(&mut connection.clone()).await.unwrap_or_default();
                info
            };
            let whole = |info: &String| {
                info.contains("cluster_state:ok")
                    && info.contains("cluster_slots_ok:16384")
                    && info.contains("cluster_known_nodes:3")
            };
            eventually("the cluster is whole", ask, whole).await;
        }
    }

    /// The address of all nodes.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// The keys of each node.
    pub async fn keys(&self) -> Vec<Vec<String>> {
        let mut keys = Vec::new();
        for node in &self.nodes {
            keys.push(redis::cmd("KEYS").arg("*").query_async(&mut node.connect().await).await.unwrap());
        }
        keys
    }

    /// Kills a node and starts it again, empty, under its old name in the cluster.
    pub async fn restart_empty(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        node.server.take().unwrap().kill().await.unwrap();
        node.start();
        self.is_whole().await;
    }
}
