//! Records on their way from the SDK to the queues.
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogProcessor, SdkLogRecord};

use crate::pipeline::buffers::Buffers;
use crate::pipeline::encoding;
use crate::pipeline::queue::Queue;
use crate::signals::traces::FLUSH_TIMEOUT;

/// Encodes each record on the thread that emits it, once for the collector and stdout.
#[derive(Debug)]
pub(super) struct Processor {
    pub(super) buffers: Arc<Buffers>,
    /// Absent where records go to stdout alone. Stdout's own queue ends later: what ends last still has something to say.
    pub(super) otlp: Option<Arc<Queue>>,
}

impl LogProcessor for Processor {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        self.buffers
            .push(scope, record.target(), |out| encoding::record(out, record));
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.otlp
            .as_ref()
            .map_or(Ok(()), |otlp| otlp.flush(FLUSH_TIMEOUT))
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.otlp
            .as_ref()
            .map_or(Ok(()), |otlp| otlp.shut_down(timeout))
    }
}
