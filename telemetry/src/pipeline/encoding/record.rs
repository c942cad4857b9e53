//! A log record as `opentelemetry.proto.logs.v1.LogRecord`.
use opentelemetry_sdk::logs::SdkLogRecord;

use super::value::{any_of_record, record_attribute};
use super::wire::{self, fixed32, fixed64, integer, message, text};
use crate::base::time::nanos;

/// Appends the fields of `record`. Its limits were applied when it was made.
pub(crate) fn record(out: &mut Vec<u8>, record: &SdkLogRecord) {
    if let Some(time) = record.timestamp() {
        fixed64(out, 1, nanos(time));
    }
    if let Some(severity) = record.severity_number() {
        integer(out, 2, severity as u64);
    }
    text(out, 3, record.severity_text().unwrap_or_default());
    if let Some(body) = record.body() {
        message(out, 5, |out| any_of_record(out, body));
    }
    for (key, value) in record.attributes_iter() {
        record_attribute(out, 6, key.as_str(), value);
    }
    if let Some(ids) = record.trace_context() {
        fixed32(
            out,
            8,
            ids.trace_flags.map_or(0, |flags| u32::from(flags.to_u8())),
        );
        wire::ids(out, 9, ids.trace_id, ids.span_id);
    }
    if let Some(time) = record.observed_timestamp() {
        fixed64(out, 11, nanos(time));
    }
    text(out, 12, record.event_name().unwrap_or_default());
}
