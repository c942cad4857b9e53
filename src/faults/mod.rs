//! Faults on demand: latency, errors, a slow query, a lock wait, a leak, a blocked thread.
//!
//! A request asks for its own by the header `x-signalbox-fault: latency_ms=200,error_rate=1` or the same text as query
//! parameter `fault`; what it does not name is taken from the default plan, which settings set at start and
//! `PUT /faults` and `DELETE /faults` at run time. All are bounded, all can be reset, and a plan that is off leaves
//! nothing in any signal.
//!
//! Where to look: a fault is a WARN record, a child span (`injected latency`, `SELECT` with its `pg_sleep` or counting
//! query, a long `UPDATE products` while `/demo/lock` keeps its row locked, `injected leak`, `injected blocking`; an error is the request's own span) and
//! `signalbox.faults.injected` by kind. A leak stands in the heap profile as `leak_memory`, a blocked thread in the CPU
//! profile as `block_thread`.

pub mod inject;
pub mod plan;
