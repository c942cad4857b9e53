//! A span as `opentelemetry.proto.trace.v1.Span`.
use std::time::SystemTime;

use opentelemetry::trace::{Event, Link, SpanContext, SpanId, SpanKind, Status, TraceState};
use opentelemetry_sdk::trace::SpanData;

use super::repeated;
use super::value::attribute;
use super::wire::{self, bytes, count, fixed32, fixed64, integer, message, text};
use crate::base::time::nanos;

/// Says that the next bit is known.
const HAS_IS_REMOTE: u32 = 0x100;
/// The parent, or the linked span, is another process's.
const IS_REMOTE: u32 = 0x200;

/// Appends the fields of `span`. Texts of attributes have at most `limit` characters.
pub(crate) fn span(out: &mut Vec<u8>, span: &SpanData, limit: Option<usize>) {
    let ids = &span.span_context;
    wire::ids(out, 1, ids.trace_id(), ids.span_id());
    trace_state(out, ids);
    if span.parent_span_id != SpanId::INVALID {
        bytes(out, 4, &span.parent_span_id.to_bytes());
    }
    text(out, 5, &span.name);
    integer(out, 6, kind(&span.span_kind));
    time(out, 7, span.start_time);
    time(out, 8, span.end_time);
    repeated::attributes(out, span, limit);
    count(out, 10, span.dropped_attributes_count);
    for happened in &span.events.events {
        message(out, 11, |out| event(out, happened, limit));
    }
    count(out, 12, span.events.dropped_count);
    for linked in &span.links.links {
        message(out, 13, |out| link(out, linked, limit));
    }
    count(out, 14, span.links.dropped_count);
    message(out, 15, |out| status(out, &span.status));
    fixed32(out, 16, flags(ids, span.parent_span_is_remote));
}

fn event(out: &mut Vec<u8>, event: &Event, limit: Option<usize>) {
    time(out, 1, event.timestamp);
    text(out, 2, &event.name);
    for pair in &event.attributes {
        attribute(out, 3, pair, limit);
    }
    count(out, 4, event.dropped_attributes_count);
}

fn link(out: &mut Vec<u8>, link: &Link, limit: Option<usize>) {
    let ids = &link.span_context;
    wire::ids(out, 1, ids.trace_id(), ids.span_id());
    trace_state(out, ids);
    for pair in &link.attributes {
        attribute(out, 4, pair, limit);
    }
    count(out, 5, link.dropped_attributes_count);
    fixed32(out, 6, flags(ids, ids.is_remote()));
}

fn trace_state(out: &mut Vec<u8>, ids: &SpanContext) {
    // Comparing spares the text of a state that is nearly always empty.
    if *ids.trace_state() != TraceState::NONE {
        text(out, 3, &ids.trace_state().header());
    }
}

fn time(out: &mut Vec<u8>, number: u8, time: SystemTime) {
    fixed64(out, number, nanos(time));
}

fn kind(kind: &SpanKind) -> u64 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

fn status(out: &mut Vec<u8>, status: &Status) {
    match status {
        Status::Unset => {}
        Status::Ok => integer(out, 3, 1),
        Status::Error { description } => {
            text(out, 2, description);
            integer(out, 3, 2);
        }
    }
}

fn flags(ids: &SpanContext, remote: bool) -> u32 {
    let remote = if remote { IS_REMOTE } else { 0 };
    u32::from(ids.trace_flags().to_u8()) | HAS_IS_REMOTE | remote
}
