//! Metrics.

/// Reads all metrics on demand.
#[derive(Clone)]
pub struct Pull {}

/// What kept the metrics from being read.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be read: {0}")]
pub struct PullError(String);

impl Pull {
    /// Media type of [`Pull::openmetrics`].
    pub const CONTENT_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// The OpenMetrics text of all metrics.
    pub fn openmetrics(&self) -> Result<String, PullError> {
        Ok("# EOF\n".to_owned())
    }
}
