//! The real server on a free port, spoken to as exporters, scripts and browsers do.

mod hostile;
mod limits;
mod logs;
mod metrics;
mod pages;
mod profiles;
mod support;
mod traces;
