//! How telemetry leaves the process: export, its health, exemplars and the scrape page.
pub mod exemplars;
pub(crate) mod export;
pub(crate) mod health;
pub(crate) mod openmetrics;
