//! Lens: one more OTLP and profile backend, for machines without Docker. It is one process with one SQLite file, and pages on which the four
//! signals can be followed into each other.
//!
//! A request's way: [`server`] (Host allow-list, headers) → [`ingest`] (body limits; [`wire`]: depth, JSON; decoding) → [`store`] (one writer, bounded per signal);
//! the other way: [`store`] → [`api`] (OTLP/JSON, pprof) or [`pages`] (HTML), with [`chart`], [`quantile`] and [`flame`] doing the arithmetic.

mod api;
mod attributes;
mod chart;
mod flame;
mod format;
mod ingest;
mod method;
mod pages;
mod problem;
mod quantile;
mod query;
mod server;
mod settings;
mod source;
mod store;
mod wire;

pub mod pprof;

pub use server::{BuildError, Server};
pub use settings::{Bound, Bounds, SettingError, Settings};
