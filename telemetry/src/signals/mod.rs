//! Each signal, from its source to its exporter.
pub mod context;
mod log_processor;
pub(crate) mod logs;
pub mod metrics;
pub mod profiles;
pub(crate) mod runtime;
mod span_processor;
pub(crate) mod traces;
