//! Each signal, from its source to its exporter.
pub mod context;
pub(crate) mod logs;
pub mod metrics;
pub mod profiles;
pub(crate) mod runtime;
pub(crate) mod traces;
