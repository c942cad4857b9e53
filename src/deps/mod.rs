//! What the service depends on, one type each. Spans and metrics of a dependency live in its `mod.rs`, so that its
//! backends cannot differ in what they emit. None of them knows a route.
pub mod cache;
pub mod database;
pub mod queue;
mod redis;
pub mod worker_client;

use std::error::Error;
use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::causes;

/// The outcome of `check` if it comes within `deadline`; what went wrong in words.
pub(crate) async fn within<E: Error>(
    deadline: Duration,
    check: impl Future<Output = Result<(), E>>,
) -> Result<(), String> {
    match tokio::time::timeout(deadline, check).await {
        Ok(outcome) => outcome.map_err(|error| causes(&error)),
        Err(_) => Err(format!("no answer within {} ms", deadline.as_millis())),
    }
}

/// Milliseconds since 1970.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}
