//! What a program adds to the providers of the SDK: processors, a sampler, an id generator of its own.
use opentelemetry_sdk::logs::LoggerProviderBuilder;
use opentelemetry_sdk::trace::TracerProviderBuilder;

type Extend<B> = Option<Box<dyn FnOnce(B) -> B>>;

/// Changes to the providers before they are built. They are made after those of the settings, and so win over them.
///
/// ```
/// use opentelemetry_sdk::trace::RandomIdGenerator;
/// use signalbox_telemetry::Extensions;
///
/// let extensions = Extensions::default()
///     .traces(|builder| builder.with_id_generator(RandomIdGenerator::default()));
/// # let _ = extensions;
/// ```
#[derive(Default)]
pub struct Extensions {
    traces: Extend<TracerProviderBuilder>,
    logs: Extend<LoggerProviderBuilder>,
}

impl Extensions {
    /// Has `extend` change the provider of traces: `with_span_processor`, `with_sampler`, `with_id_generator`.
    #[must_use]
    pub fn traces(
        mut self,
        extend: impl FnOnce(TracerProviderBuilder) -> TracerProviderBuilder + 'static,
    ) -> Self {
        self.traces = Some(Box::new(extend));
        self
    }

    /// Has `extend` change the provider of logs: `with_log_processor`. What such a processor changes of a record is sent.
    #[must_use]
    pub fn logs(
        mut self,
        extend: impl FnOnce(LoggerProviderBuilder) -> LoggerProviderBuilder + 'static,
    ) -> Self {
        self.logs = Some(Box::new(extend));
        self
    }

    pub(crate) fn extend_traces(
        &mut self,
        builder: TracerProviderBuilder,
    ) -> TracerProviderBuilder {
        match self.traces.take() {
            Some(extend) => extend(builder),
            None => builder,
        }
    }

    pub(crate) fn extends_logs(&self) -> bool {
        self.logs.is_some()
    }

    pub(crate) fn extend_logs(&mut self, builder: LoggerProviderBuilder) -> LoggerProviderBuilder {
        match self.logs.take() {
            Some(extend) => extend(builder),
            None => builder,
        }
    }
}
