//! Spans on their way from the SDK to the queue.
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};

use crate::pipeline::buffers::Buffers;
use crate::pipeline::encoding;
use crate::pipeline::queue::Queue;

/// How long [`SpanProcessor::force_flush`] waits: as long as a shutdown of the SDK by default.
pub(crate) const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Encodes each sampled span on the thread that ends it.
#[derive(Debug)]
pub(super) struct Processor {
    pub(super) buffers: Arc<Buffers>,
    pub(super) queue: Arc<Queue>,
    /// Longest text of an attribute, in characters.
    pub(super) attribute_length: Option<usize>,
}

impl SpanProcessor for Processor {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            self.buffers.push(&span.instrumentation_scope, None, |out| {
                encoding::span(out, &span, self.attribute_length);
            });
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.flush(FLUSH_TIMEOUT)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.queue.shut_down(timeout)
    }
}
