//! What cache and queue have in common when they talk to Redis.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisResult};

/// A connection that is made at first use and again after each loss. Must be called inside a runtime.
///
/// `timeout` bounds connecting and each answer. A failed attempt is not repeated here: [`fresh`] does that once, so that
/// a Redis that is away costs two short attempts and not a series of growing waits.
pub fn connection(client: Client, timeout: Duration) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(0)
        .set_connection_timeout(Some(timeout))
        .set_response_timeout(Some(timeout));
    ConnectionManager::new_lazy_with_config(client, config)
}

/// Runs `command`, once more if no connection could be made: the manager answers the first command after an outage with
/// the error of its last attempt, and only then makes a new one.
pub async fn fresh<T>(command: impl AsyncFn() -> RedisResult<T>) -> RedisResult<T> {
    match command().await {
        Err(error) if error.is_connection_refusal() => command().await,
        outcome => outcome,
    }
}
