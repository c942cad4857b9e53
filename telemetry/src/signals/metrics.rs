//! Metrics: pushed by OTLP, and read on demand from the same pipeline.
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use opentelemetry_otlp::MetricExporter;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{
    Aggregation, Instrument, InstrumentKind, ManualReader, PeriodicReader, Pipeline,
    SdkMeterProvider, Stream, Temporality as SdkTemporality,
};

use crate::Error;
use crate::base::settings::{Metrics, Otlp, Temporality};
use crate::pipeline::exemplars::Store;
use crate::pipeline::export::{StockTransport, over_http};
use crate::pipeline::health::{Counted, Health};
use crate::pipeline::openmetrics;

/// Boundaries in seconds that the conventions ask for:
/// <https://opentelemetry.io/docs/specs/semconv/http/http-metrics/>.
const SECONDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Those of <https://opentelemetry.io/docs/specs/semconv/db/database-metrics/>.
const DATABASE_SECONDS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// The SDK's own.
const DEFAULT: [f64; 15] = [
    0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0,
    10000.0,
];

/// Bucket boundaries of the histogram `name`.
pub(crate) fn boundaries(name: &str, unit: &str) -> &'static [f64] {
    match unit {
        "s" if name.starts_with("db.client.") => &DATABASE_SECONDS,
        "s" => &SECONDS,
        _ => &DEFAULT,
    }
}

/// How an instrument is aggregated, where that is not the SDK's default.
pub(crate) fn view(instrument: &Instrument, exponential: bool) -> Option<Stream> {
    if instrument.kind() != InstrumentKind::Histogram {
        return None;
    }
    let aggregation = if exponential {
        Aggregation::Base2ExponentialHistogram {
            max_size: 160,
            max_scale: 20,
            record_min_max: true,
        }
    } else {
        Aggregation::ExplicitBucketHistogram {
            boundaries: boundaries(instrument.name(), instrument.unit()).to_vec(),
            record_min_max: true,
        }
    };
    // Both are valid by construction; the SDK's default stands in if it disagrees.
    Stream::builder().with_aggregation(aggregation).build().ok()
}

/// Provider of the instruments and what reads them; both empty when metrics are switched off.
pub(crate) fn provider(
    settings: &Metrics,
    resource: &Resource,
    health: &Health,
) -> Result<(Option<SdkMeterProvider>, Pull), Error> {
    let Some(otlp) = &settings.otlp else {
        if settings.pull {
            let (provider, pull) = pulled(settings, resource);
            return Ok((Some(provider), pull));
        }
        return Ok((None, Pull(None)));
    };
    let exporter = exporter(otlp, settings.temporality, health)?;
    let (provider, pull) = provider_with(settings, resource, health, exporter);
    Ok((Some(provider), pull))
}

/// A provider that pushes to `exporter`, and its reader.
pub(crate) fn provider_with(
    settings: &Metrics,
    resource: &Resource,
    health: &Health,
    exporter: impl PushMetricExporter,
) -> (SdkMeterProvider, Pull) {
    let exporter = Counted {
        inner: exporter,
        signal: Arc::clone(&health.points),
        attribute_length: None,
    };
    let push = PeriodicReader::builder(exporter)
        .with_interval(settings.interval)
        .build();
    let builder = builder(settings, resource).with_reader(push.clone());
    if settings.temporality == Temporality::Cumulative {
        return (builder.build(), Pull(Some(Arc::new(push))));
    }
    // Reading deltas takes them away from the push: whoever pulls needs a pipeline of their own.
    let (reader, handle) = shared(ManualReader::default());
    (
        builder.with_reader(reader).build(),
        Pull(Some(Arc::new(handle))),
    )
}

/// A provider that is only read on demand.
fn pulled(settings: &Metrics, resource: &Resource) -> (SdkMeterProvider, Pull) {
    let (reader, handle) = shared(ManualReader::default());
    (
        builder(settings, resource).with_reader(reader).build(),
        Pull(Some(Arc::new(handle))),
    )
}

fn builder(
    settings: &Metrics,
    resource: &Resource,
) -> opentelemetry_sdk::metrics::MeterProviderBuilder {
    let exponential = settings.exponential;
    SdkMeterProvider::builder()
        .with_resource(resource.clone())
        .with_view(move |instrument: &Instrument| view(instrument, exponential))
}

fn exporter(
    otlp: &Otlp,
    temporality: Temporality,
    health: &Health,
) -> Result<MetricExporter, Error> {
    let exemplars = Some(Arc::clone(Store::global()));
    let transport = StockTransport::new(otlp, &health.points, exemplars)?;
    let builder = MetricExporter::builder()
        .with_http()
        .with_temporality(match temporality {
            Temporality::Cumulative => SdkTemporality::Cumulative,
            Temporality::Delta => SdkTemporality::Delta,
            Temporality::LowMemory => SdkTemporality::LowMemory,
        });
    over_http(builder, otlp, transport)
        .build()
        .map_err(|error| Error(format!("metric exporter: {error}")))
}

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

    fn temporality(&self, kind: InstrumentKind) -> SdkTemporality {
        self.0.temporality(kind)
    }
}

/// Reads all metrics on demand: the same pipeline, and so the same names and values, as the push.
#[derive(Clone)]
pub struct Pull(Option<Arc<dyn MetricReader>>);

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

    /// The metrics as an OTLP request, with exemplars.
    pub(crate) fn collect(&self) -> Result<ExportMetricsServiceRequest, PullError> {
        let Some(reader) = &self.0 else {
            return Ok(ExportMetricsServiceRequest::default());
        };
        let mut metrics = ResourceMetrics::default();
        reader
            .collect(&mut metrics)
            .map_err(|error| PullError(error.to_string()))?;
        let mut request = ExportMetricsServiceRequest::from(&metrics);
        Store::global().add_all_to(&mut request);
        Ok(request)
    }
}
