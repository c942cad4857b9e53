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
    /// The thread that made the `tracing` span, by the address of what it keeps; 0 before there is one.
    pub(crate) made_by: usize,
}

impl Held {
    pub(crate) fn new(context: Context, request: Option<Arc<str>>) -> Self {
        Self {
            context,
            request,
            made_by: 0,
        }
    }
}
