//! What the service depends on, one type each. Spans and metrics of a dependency live in its `mod.rs`, so that its
//! backends cannot differ in what they emit. None of them knows a route.
pub mod cache;
pub mod database;
pub mod queue;
mod redis;
pub mod worker_client;
