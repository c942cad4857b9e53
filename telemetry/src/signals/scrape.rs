//! Metrics on demand: the same pipeline, and so the same names and values, as the push.
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{
    InstrumentKind, ManualReader, MeterProviderBuilder, Pipeline, Temporality,
};

use crate::pipeline::exemplars::Store;
use crate::pipeline::openmetrics;

/// A reader that a provider owns and somebody else reads.
pub(crate) struct Shared<R>(Arc<R>);

pub(crate) fn shared<R: MetricReader>(reader: R) -> (Shared<R>, Shared<R>) {
    let reader = Arc::new(reader);
    (Shared(Arc::clone(&reader)), Shared(reader))
}

impl<R> fmt::Debug for Shared<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl<R: MetricReader> MetricReader for Shared<R> {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

/// Reads all metrics on demand: the same pipeline, and so the same names and values, as the push.
#[derive(Clone)]
pub struct Pull(Option<(Arc<dyn MetricReader>, Arc<Store>)>);

/// What kept the metrics from being read.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be read: {0}")]
pub struct PullError(String);

impl Pull {
    /// Media type of [`Pull::openmetrics`].
    pub const CONTENT_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// The OpenMetrics text of all metrics, with exemplars; no metric at all when metrics are switched off.
    ///
    /// # Errors
    /// When the SDK cannot collect them.
    pub fn openmetrics(&self) -> Result<String, PullError> {
        Ok(openmetrics::encode(&self.collect()?))
    }

    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// What reads the provider that `builder` makes, by a reader of its own.
    pub(crate) fn beside(
        builder: MeterProviderBuilder,
        exemplars: &Arc<Store>,
    ) -> (MeterProviderBuilder, Self) {
        let (reader, handle) = shared(ManualReader::default());
        (builder.with_reader(reader), Self::of(handle, exemplars))
    }

    /// What reads by `reader`.
    pub(crate) fn of(reader: impl MetricReader, exemplars: &Arc<Store>) -> Self {
        Self(Some((Arc::new(reader), Arc::clone(exemplars))))
    }

    /// The metrics as an OTLP request, with exemplars.
    pub(crate) fn collect(&self) -> Result<ExportMetricsServiceRequest, PullError> {
        let Some((reader, exemplars)) = &self.0 else {
            return Ok(ExportMetricsServiceRequest::default());
        };
        let mut metrics = ResourceMetrics::default();
        reader
            .collect(&mut metrics)
            .map_err(|error| PullError(error.to_string()))?;
        let mut request = ExportMetricsServiceRequest::from(&metrics);
        exemplars.add_all_to(&mut request);
        Ok(request)
    }
}
