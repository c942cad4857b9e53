//! The current trace: its ids, and passing it on.
use std::collections::HashMap;
use std::error::Error;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanContext, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};

use crate::base::hex;
use crate::causes;
use crate::signals::{Telemetry, layer};

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
    Context::map_current(|context| {
        let span = context.span();
        let ids = span.span_context();
        ids.is_valid().then(|| Ids {
            trace_id: ids.trace_id().to_string(),
            span_id: ids.span_id().to_string(),
            sampled: ids.is_sampled(),
        })
    })
}

/// `ids` as the value of a `traceparent` or `traceresponse` header. By hand: formatting costs a microsecond, and every
/// answer carries one.
pub(crate) fn traceparent(ids: &SpanContext) -> [u8; 55] {
    let mut text = *b"00-................................-................-00";
    hex(&ids.trace_id().to_bytes(), &mut text[3..35]);
    hex(&ids.span_id().to_bytes(), &mut text[36..52]);
    text[54] += u8::from(ids.is_sampled());
    text
}

/// The current context as headers (`traceparent`, …) for a message of any kind.
pub fn inject() -> HashMap<String, String> {
    let mut carrier = HashMap::new();
    Telemetry::current().propagator.inject(&mut carrier);
    carrier
}

/// The remote context that `carrier` holds, if it holds one.
fn extract(carrier: &HashMap<String, String>) -> Option<Context> {
    let telemetry = Telemetry::current();
    let propagator = &telemetry.propagator;
    let context = propagator.extract_with_context(&Context::new(), carrier);
    context.span().span_context().is_valid().then_some(context)
}

/// Links `span` to the span whose context `carrier` holds. Returns whether it held one.
pub fn link(span: &tracing::Span, carrier: &HashMap<String, String>) -> bool {
    let Some(cause) = extract(carrier) else {
        return false;
    };
    let cause = cause.span().span_context().clone();
    layer::with_context(span, |context| context.span().add_link(cause, Vec::new())).is_some()
}

/// Makes the span that `make` creates a child of the span whose context `carrier` holds; without one it is a child of
/// the current span as always. A span's parent is fixed when it starts, hence the closure.
pub fn child_of(
    carrier: &HashMap<String, String>,
    make: impl FnOnce() -> tracing::Span,
) -> tracing::Span {
    let _guard = extract(carrier).map(Context::attach);
    make()
}

/// Makes the span that `make` creates the first of a new trace, whatever is current.
pub fn new_trace(make: impl FnOnce() -> tracing::Span) -> tracing::Span {
    let _guard = Context::new().attach();
    make()
}

/// Puts `error` as an exception event on the current span and sets the span's status to error.
pub fn record_exception<E: Error>(error: &E) {
    Context::map_current(|context| {
        let span = context.span();
        if !span.is_recording() {
            return;
        }
        let message = causes(error);
        span.set_status(Status::error(message.clone()));
        span.add_event(
            "exception",
            vec![
                KeyValue::new("exception.type", std::any::type_name::<E>()),
                KeyValue::new("exception.message", message),
            ],
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{TraceFlags, TraceState};

    #[test]
    fn a_header_has_the_form_of_w3c() {
        let ids = |flags| {
            SpanContext::new(
                0x1b.into(),
                0xa2.into(),
                flags,
                false,
                TraceState::default(),
            )
        };
        let text = |flags| String::from_utf8(traceparent(&ids(flags)).to_vec()).unwrap();
        let expected = "00-0000000000000000000000000000001b-00000000000000a2-0";
        assert_eq!(text(TraceFlags::SAMPLED), format!("{expected}1"));
        assert_eq!(text(TraceFlags::default()), format!("{expected}0"));
    }
}
