//! Tests of the real program: both of its processes on free ports, exporting to the real viewer.
//!
//! One binary, Arrange / Act / Assert. Where a test waits for something to arrive it polls with a bound; nothing is
//! asserted about how long anything takes, except where a deadline is the promise.

mod architecture;
mod endpoints;
mod errors;
mod examples;
mod faults;
mod harness;
mod hostile;
mod lifecycle;
mod openapi;
mod schema;
mod signals;
mod storage;
mod stores;
mod traced_statements;
