//! The current trace: its ids, and passing it on.
use std::collections::HashMap;
use std::error::Error;

/// Ids of the current span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// 32 lower-case hex digits.
    pub trace_id: String,
    /// 16 lower-case hex digits.
    pub span_id: String,
    /// Whether the span is exported.
    pub sampled: bool,
}

/// Ids of the current span; `None` outside any, or when telemetry is off.
pub fn current() -> Option<Ids> {
    None
}

/// The current context as headers (`traceparent`, …) for a message of any kind.
pub fn inject() -> HashMap<String, String> {
    HashMap::new()
}

/// Links `span` to the span whose context `carrier` holds. Returns whether it held one.
pub fn link(_span: &tracing::Span, _carrier: &HashMap<String, String>) -> bool {
    false
}

/// Makes the span whose context `carrier` holds the parent of `span`, which must not have been entered yet.
pub fn set_parent(_span: &tracing::Span, _carrier: &HashMap<String, String>) -> bool {
    false
}

/// Puts `error` as an exception event on the current span and sets its status to error.
pub fn record_exception(_error: &dyn Error) {}
