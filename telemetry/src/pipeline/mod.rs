//! How telemetry leaves the process: from encoded items to the collector, its health, exemplars and the scrape page.
pub(crate) mod answer;
pub(crate) mod buffers;
pub(crate) mod encoding;
pub mod exemplars;
pub(crate) mod export;
pub(crate) mod exporter;
pub(crate) mod health;
pub(crate) mod openmetrics;
pub(crate) mod queue;
mod retry;
pub(crate) mod transport;

#[cfg(test)]
mod tests;
