//! The cache of products: in the process (moka) or in Redis, behind one type.
//!
//! A cache that is away is no error: the answer comes from the database, slower, with a warning. Every operation is one
//! span and one value of `signalbox.cache.operation.duration`; with Redis the span is a CLIENT span with the stable
//! `db.*` attributes and also counts in `db.client.operation.duration`.

mod memory;
mod redis;

use std::future::Future;
use std::time::{Duration, Instant};

use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::deps::database::Product;
use crate::deps::{Trouble, within};
use crate::instruments::{self, DatabaseOperation};
use crate::settings::Settings;

/// What a lookup found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    Hit(Product),
    Miss,
    /// The cache is away.
    Unavailable,
}

/// What kept a cache from being used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error(transparent)]
    Redis(#[from] ::redis::RedisError),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("an entry is not what was stored: {0}")]
    Entry(#[from] serde_json::Error),
    #[error("an entry has {0} bytes and is not read")]
    TooLarge(usize),
}

impl CacheError {
    /// `error.type`: a closed set.
    fn class(&self) -> &'static str {
        match self {
            Self::Redis(error) if error.is_timeout() => "timeout",
            Self::Redis(error) if error.is_io_error() => "unavailable",
            Self::Redis(_) => "_OTHER",
            Self::Timeout(_) => "timeout",
            Self::Entry(_) | Self::TooLarge(_) => "entry",
        }
    }
}

/// The cache. Cheap to clone.
#[derive(Clone)]
pub struct Cache(Backend);

#[derive(Clone)]
enum Backend {
    Memory(memory::Memory),
    Redis(redis::Redis),
}

impl Cache {
    /// Redis if settings name it; it may be away. Must be called inside a runtime.
    pub fn open(settings: &Settings) -> Result<Self, CacheError> {
        Ok(Self(match &settings.redis_url {
            Some(url) => Backend::Redis(redis::Redis::open(url.expose(), settings)?),
            None => Backend::Memory(memory::Memory::new(&settings.cache)),
        }))
    }

    /// Whether it answers, within `deadline`. Leaves no span.
    pub async fn ping(&self, deadline: Duration) -> Result<(), Trouble> {
        match &self.0 {
            Backend::Memory(_) => Ok(()),
            Backend::Redis(redis) => within(deadline, redis.ping()).await,
        }
    }

    /// Looks a product up.
    pub async fn get(&self, sku: &str) -> Lookup {
        let found = match &self.0 {
            Backend::Memory(memory) => {
                let get = async { Ok(memory.get(sku).await) };
                self.observed("get", get).await
            }
            Backend::Redis(redis) => self.observed("get", redis.get(sku)).await,
        };
        match found {
            Ok(Some(product)) => Lookup::Hit(product),
            Ok(None) => Lookup::Miss,
            Err(_) => Lookup::Unavailable,
        }
    }

    /// Remembers a product, if the cache is there.
    pub async fn set(&self, product: &Product) {
        // An error is in the signals already; nobody needs to hear of it here.
        let _ = match &self.0 {
            Backend::Memory(memory) => {
                let store = async {
                    memory.set(product).await;
                    Ok(None)
                };
                self.observed("set", store).await
            }
            Backend::Redis(redis) => self.observed("set", redis.set(product)).await,
        };
    }

    /// Runs one operation in its span; `None` stands for a miss, or for a store.
    async fn observed(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<Option<Product>, CacheError>>,
    ) -> Result<Option<Product>, CacheError> {
        let span = self.span(operation);
        let start = Instant::now();
        let outcome = work.instrument(span.clone()).await;
        let duration = start.elapsed();
        let _inside = span.enter();
        let (result, error) = match &outcome {
            Ok(_) if operation == "set" => ("stored", None),
            Ok(Some(_)) => ("hit", None),
            Ok(None) => ("miss", None),
            Err(error) => ("error", Some(error)),
        };
        span.record("signalbox.cache.result", result);
        let class = error.map(CacheError::class);
        if let (Some(error), Some(class)) = (error, class) {
            span.record("error.type", class);
            span.record("otel.status_code", "ERROR");
            tracing::warn!(
                error.type = class,
                signalbox.cache.operation = operation,
                "cache unavailable, going on without it: {error}"
            );
        }
        let backend = match &self.0 {
            Backend::Memory(_) => "memory",
            Backend::Redis(redis) => {
                let call = DatabaseOperation {
                    system: "redis",
                    namespace: redis.namespace(),
                    operation: redis::command(operation),
                    collection: None,
                    summary: redis::command(operation),
                    server: Some(redis.server()),
                };
                instruments::database_operation(&call, duration, class);
                "redis"
            }
        };
        instruments::cache_operation(backend, operation, result, duration);
        outcome
    }

    fn span(&self, operation: &'static str) -> Span {
        match &self.0 {
            Backend::Memory(_) => tracing::info_span!(
                "cache",
                otel.name = format!("cache {operation}"),
                otel.status_code = Empty,
                signalbox.cache.backend = "memory",
                signalbox.cache.operation = operation,
                signalbox.cache.result = Empty,
                error.type = Empty,
            ),
            Backend::Redis(redis) => {
                let command = redis::command(operation);
                let (host, port) = redis.server();
                tracing::info_span!(
                    "cache",
                    otel.name = command,
                    otel.kind = "client",
                    otel.status_code = Empty,
                    db.system.name = "redis",
                    db.namespace = redis.namespace(),
                    db.operation.name = command,
                    db.query.text = redis::text(operation),
                    db.query.summary = command,
                    server.address = host,
                    server.port = i64::from(port),
                    signalbox.cache.backend = "redis",
                    signalbox.cache.operation = operation,
                    signalbox.cache.result = Empty,
                    error.type = Empty,
                )
            }
        }
    }
}
