//! One Redis or a Redis Cluster, by its address.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig, PubSub};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{Client, Cmd, Pipeline, RedisError, RedisFuture, Value};
use tokio::sync::OnceCell;

/// An answer that takes longer than this is given up: the read table answers instead.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
/// How an address of a cluster begins.
const CLUSTER_SCHEME: &str = "redis+cluster://";

/// The way to Redis. It connects on first use, and again by itself after a loss.
#[derive(Clone)]
pub(crate) enum Server {
    Single(Client, ConnectionManager),
    /// The nodes that were named, and the cluster that they lead to.
    Cluster(Arc<[Client]>, Box<ClusterClient>, Arc<OnceCell<ClusterConnection>>),
}

impl Server {
    /// `redis://[user:password@]host:port`, or `redis+cluster://[user:password@]host:port,host:port…`
    /// with some nodes of a cluster, which name the others.
    pub(crate) fn open(url: &str) -> Result<Self, RedisError> {
        match url.strip_prefix(CLUSTER_SCHEME) {
            Some(rest) => Self::open_cluster(rest),
            None => Self::open_single(Client::open(url)?),
        }
    }

    fn open_single(client: Client) -> Result<Self, RedisError> {
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_connection_timeout(Some(RESPONSE_TIMEOUT))
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_millis(500));
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), config)?;
        Ok(Self::Single(client, connection))
    }

    fn open_cluster(rest: &str) -> Result<Self, RedisError> {
        let urls = node_urls(rest);
        let nodes = urls.iter().map(|url| Client::open(url.as_str())).collect::<Result<Vec<_>, _>>()?;
        let cluster = ClusterClient::builder(urls)
            .connection_timeout(RESPONSE_TIMEOUT)
            .response_timeout(RESPONSE_TIMEOUT)
            .retries(1)
            .build()?;
        Ok(Self::Cluster(nodes.into(), Box::new(cluster), Arc::default()))
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(..))
    }

    pub(crate) async fn connection(&self) -> Result<Connection, RedisError> {
        match self {
            Self::Single(_, connection) => Ok(Connection::Single(connection.clone())),
            Self::Cluster(_, client, connection) => {
                let connection = connection.get_or_try_init(|| client.get_async_connection()).await?;
                Ok(Connection::Cluster(connection.clone()))
            }
        }
    }

    /// A connection for messages. In a cluster every node passes on what is published on any.
    pub(crate) async fn subscriber(&self) -> Result<PubSub, RedisError> {
        let nodes = match self {
            Self::Single(client, _) => std::slice::from_ref(client),
            Self::Cluster(nodes, ..) => nodes,
        };
        let mut result = Err(RedisError::from((redis::ErrorKind::InvalidClientConfig, "no node is named")));
        for node in nodes {
            result = node.get_async_pubsub().await;
            if result.is_ok() {
                break;
            }
        }
        result
    }
}

/// The addresses of single nodes in what follows the scheme of a cluster's address.
fn node_urls(rest: &str) -> Vec<String> {
    let (credentials, hosts) = match rest.rsplit_once('@') {
        Some((credentials, hosts)) => (format!("{credentials}@"), hosts),
        None => (String::new(), rest),
    };
    let hosts = hosts.trim_end_matches('/').split(',').filter(|host| !host.is_empty());
    hosts.map(|host| format!("redis://{credentials}{host}")).collect()
}

/// An open connection. Clones share it.
#[derive(Clone)]
pub(crate) enum Connection {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::node_urls;

    #[test]
    fn every_node_gets_the_credentials() {
        assert_eq!(node_urls("a:1,b:2/"), ["redis://a:1", "redis://b:2"]);
        assert_eq!(node_urls(":p@ss@a:1,b:2"), ["redis://:p@ss@a:1", "redis://:p@ss@b:2"]);
        assert!(node_urls("").is_empty());
    }
}
