//! How telemetry leaves the process: from encoded items to the collector, its health, exemplars and the scrape page.
pub(crate) mod answer;
pub(crate) mod buffers;
pub(crate) mod chunk;
pub(crate) mod encoding;
#[cfg(feature = "exemplars")]
pub(crate) mod exemplars;
pub(crate) mod export;
pub(crate) mod exporter;
mod gzip;
pub(crate) mod health;
#[cfg(not(feature = "exemplars"))]
pub(crate) mod off;
#[cfg(feature = "scrape")]
pub(crate) mod openmetrics;
pub(crate) mod own_records;
pub(crate) mod queue;
mod retry;
pub(crate) mod transport;

#[cfg(not(feature = "exemplars"))]
pub(crate) use off as exemplars;

#[cfg(all(test, feature = "exemplars"))]
mod tests;
