//! Signalbox: a small REST service that instruments itself completely.
//!
//! In reading order:
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`settings`] | every setting: variable, unit, default, what absence means |
//! | [`signalbox_telemetry`] | traces, metrics, logs and profiles: a crate of its own, `telemetry/` |
//! | [`instruments`] | the catalogue of the metrics the service records itself |
//! | [`server`] | the process in its two roles, from listener to graceful stop |
//! | [`signals`] | SIGTERM and SIGINT |
//! | [`cli`] | the command line |
//! | [`check`] | the container's health probe |
//! | [`limits`] | what a caller may ask for, and the status beyond it |
//! | [`routes`] | the API, one lesson a file |
//! | [`faults`] | injected latency, errors, slow queries, lock waits and leaks |
//! | [`deps`] | database, cache, queue and the worker, one type each |
//! | [`jobs`] | what the worker does with the jobs it is handed |
//! | [`whole`] | whole numbers in JSON bodies |
//! | [`error`] | error → status and problem document, logged once |
//!
//! A request goes socket → root span → error edge → limits → faults → route → deps. Nothing goes back up: deps know
//! no route, routes know no exporter, telemetry knows no one.

pub mod check;
pub mod cli;
pub mod deps;
pub mod error;
pub mod faults;
pub mod instruments;
pub mod jobs;
pub mod limits;
pub mod routes;
pub mod server;
pub mod settings;
pub mod signals;
pub mod whole;

/// The listings of docs/learn/instrumenting-rust.md compile.
#[cfg(doctest)]
#[doc = include_str!("../docs/learn/instrumenting-rust.md")]
pub struct InstrumentingStepByStep;
