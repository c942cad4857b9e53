//! The real server on a free port, spoken to as exporters, scripts and browsers do.

mod disk;
mod hostile;
mod lawful;
mod limits;
mod logs;
mod metrics;
mod pages;
mod profiles;
mod support;
mod traces;
