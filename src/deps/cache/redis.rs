//! The cache in Redis. The connection is made at first use and again after each loss, so Redis may come and go.

use std::time::Duration;

use redis::AsyncCommands;
use redis::aio::ConnectionManager;

use super::CacheError;
use crate::deps::database::Product;
use crate::deps::redis::{connection, fresh};
use crate::settings::Settings;

/// Bytes of an entry. Longer ones are not ours, and are not read.
const MAX_BYTES: usize = 16 * 1024;

#[derive(Clone)]
pub struct Redis {
    connection: ConnectionManager,
    namespace: String,
    host: String,
    port: u16,
    ttl: Duration,
    /// For one command, a reconnect included.
    deadline: Duration,
}

/// `db.operation.name` of a cache operation.
pub fn command(operation: &str) -> &'static str {
    if operation == "get" { "GET" } else { "SET" }
}

/// `db.query.text` of a cache operation, without values.
pub fn text(operation: &str) -> &'static str {
    if operation == "get" {
        "GET signalbox:product:?"
    } else {
        "SET signalbox:product:? ? PX ?"
    }
}

fn key(sku: &str) -> String {
    format!("signalbox:product:{sku}")
}

impl Redis {
    pub fn open(url: &str, settings: &Settings) -> Result<Self, CacheError> {
        let client = redis::Client::open(url)?;
        let info = client.get_connection_info();
        let (host, port) = match info.addr() {
            redis::ConnectionAddr::Tcp(host, port) => (host.clone(), *port),
            other => (other.to_string(), 0),
        };
        let namespace = info.redis_settings().db().to_string();
        Ok(Self {
            connection: connection(client, settings.redis_timeout)?,
            namespace,
            host,
            port,
            ttl: settings.cache.ttl,
            deadline: settings.redis_timeout * 2,
        })
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn server(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    pub async fn ping(&self) -> Result<(), CacheError> {
        let ping = async || {
            redis::cmd("PING")
                .query_async(&mut self.connection.clone())
                .await
        };
        self.bounded(fresh(ping)).await
    }

    pub async fn get(&self, sku: &str) -> Result<Option<Product>, CacheError> {
        let get = async || self.connection.clone().get(key(sku)).await;
        let stored: Option<Vec<u8>> = self.bounded(fresh(get)).await?;
        match stored {
            Some(bytes) if bytes.len() > MAX_BYTES => Err(CacheError::TooLarge(bytes.len())),
            Some(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            None => Ok(None),
        }
    }

    pub async fn set(&self, product: &Product) -> Result<Option<Product>, CacheError> {
        let ttl = u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX);
        let entry = serde_json::to_vec(product)?;
        let set = async || {
            let mut connection = self.connection.clone();
            connection.pset_ex(key(&product.sku), &entry, ttl).await
        };
        let () = self.bounded(fresh(set)).await?;
        Ok(None)
    }

    async fn bounded<T>(
        &self,
        command: impl Future<Output = redis::RedisResult<T>>,
    ) -> Result<T, CacheError> {
        match tokio::time::timeout(self.deadline, command).await {
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(CacheError::Timeout(self.deadline)),
        }
    }
}
