//! Traces, metrics, logs and profiles of one process, set up by one call and flushed by one guard.
//!
//! The folder names nothing of the program around it, so it can be copied into another one; README.md says how.
pub mod actix;
pub mod client;
pub mod context;
pub mod exemplars;
pub mod metrics;
pub mod profiles;
mod settings;
pub mod testing;

use std::time::Duration;

pub use settings::{Identity, SettingError, Settings};

/// What kept telemetry from starting.
#[derive(Debug, thiserror::Error)]
#[error("telemetry cannot start: {0}")]
pub struct Error(String);

/// Every error met while flushing, one line a signal.
#[derive(Debug, thiserror::Error)]
#[error("telemetry was not flushed completely: {}", .0.join("; "))]
pub struct FlushErrors(Vec<String>);

/// Owns what `init` started. Keep it until the server has stopped, then call [`Guard::shutdown`].
#[must_use = "telemetry that is not shut down loses its last batch"]
pub struct Guard {}

/// Starts all signals. Call it in a plain `fn main`, before any runtime exists.
pub fn init(_settings: &Settings) -> Result<Guard, Error> {
    Ok(Guard {})
}

impl Guard {
    /// A reader of the metrics for `/metrics`: same names and values as the push.
    pub fn pull(&self) -> metrics::Pull {
        metrics::Pull {}
    }

    /// Flushes all signals in parallel and gives up at `deadline`.
    pub fn shutdown(self, _deadline: Duration) -> Result<(), FlushErrors> {
        Ok(())
    }
}
