//! Histograms that remember trace ids of some of their values.
use opentelemetry::KeyValue;

/// A histogram of `f64` values whose sampled values keep their trace id as exemplars.
#[derive(Clone)]
pub struct Histogram {
    inner: opentelemetry::metrics::Histogram<f64>,
}

impl Histogram {
    /// Declares the histogram `name`. `meter` as from `opentelemetry::global::meter`.
    pub fn new(
        meter: &opentelemetry::metrics::Meter,
        name: &'static str,
        unit: &'static str,
        description: &'static str,
    ) -> Self {
        Self {
            inner: meter
                .f64_histogram(name)
                .with_unit(unit)
                .with_description(description)
                .build(),
        }
    }

    /// Records `value`, with the current span as its exemplar if that span is sampled.
    pub fn record(&self, value: f64, attributes: &[KeyValue]) {
        self.inner.record(value, attributes);
    }
}
