//! OTLP in protobuf, written straight from the SDK's spans and records into a buffer.
//!
//! The stock exporter (`opentelemetry-otlp`) first copies every span into a tree of message structs, one allocation for
//! each text and each list, and then encodes the tree. That is two thirds of what a span costs. Here each field is
//! appended to the buffer as it will be sent, on the thread that ends the span. What arrives is the same by value: a test
//! decodes both payloads with `opentelemetry-proto` and compares them.
//!
//! Field numbers are those of <https://github.com/open-telemetry/opentelemetry-proto/tree/main/opentelemetry/proto>.
mod frame;
mod record;
mod repeated;
mod span;
mod value;
mod wire;

pub(crate) use frame::{Frame, ITEM, Run, frame, items, resource};
pub(crate) use record::record;
pub(crate) use span::span;
pub(crate) use value::cut;
pub(crate) use wire::{Field, Fields, long_message};

#[cfg(test)]
pub(crate) mod tests;
