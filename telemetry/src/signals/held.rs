//! What the `tracing` layer keeps with each span.
use std::sync::Arc;

use opentelemetry::Context;

/// What a `tracing` span stands for.
#[derive(Clone)]
pub(crate) struct Held {
    /// Carries the OpenTelemetry span.
    pub(crate) context: Context,
    /// The id of the request that it belongs to. Beside the context, not in it: a value in a context costs three
    /// allocations a request.
    pub(crate) request: Option<Arc<str>>,
}
