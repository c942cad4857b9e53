//! What the service depends on, one type each. Spans and metrics of a dependency live in its `mod.rs`, so that its
//! backends cannot differ in what they emit. None of them knows a route.
pub mod cache;
pub mod database;
pub mod job;
pub mod queue;
mod redis;
pub mod worker_client;

use std::error::Error;
use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::causes;

/// Why a dependency failed its check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// `away`, or what a database that answers says of writes: `full`, `read_only`.
    pub status: &'static str,
    /// The reason in words.
    pub reason: String,
}

impl Trouble {
    /// It does not do what it is asked.
    pub fn away(reason: impl Into<String>) -> Self {
        Self {
            status: "away",
            reason: reason.into(),
        }
    }
}

/// The outcome of `check` if it comes within `deadline`.
pub(crate) async fn within<E: Error>(
    deadline: Duration,
    check: impl Future<Output = Result<(), E>>,
) -> Result<(), Trouble> {
    within_told(deadline, check, |_| "away").await
}

/// The same, with the status that `tell` reads from an error.
pub(crate) async fn within_told<E: Error>(
    deadline: Duration,
    check: impl Future<Output = Result<(), E>>,
    tell: impl FnOnce(&E) -> &'static str,
) -> Result<(), Trouble> {
    match tokio::time::timeout(deadline, check).await {
        Ok(outcome) => outcome.map_err(|error| Trouble {
            status: tell(&error),
            reason: causes(&error),
        }),
        Err(_) => Err(Trouble::away(format!(
            "no answer within {} ms",
            deadline.as_millis()
        ))),
    }
}

/// Milliseconds since 1970.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}
