//! Metrics: pushed by OTLP, and read on demand from the same pipeline.
use std::fmt;
use std::sync::Arc;

use opentelemetry::metrics::{BoundHistogram, Meter};
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::MetricExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{
    Aggregation, Instrument, InstrumentKind, MeterProviderBuilder, PeriodicReader,
    SdkMeterProvider, Stream, Temporality as SdkTemporality,
};

use crate::Error;
use crate::base::buckets::boundaries;
use crate::base::settings::{Metrics, Otlp, Temporality};
use crate::pipeline::exemplars::{self, Reservoirs, Store};
use crate::pipeline::export::{StockTransport, over_http};
use crate::pipeline::health::{Counted, Health};
use crate::signals::Telemetry;
#[cfg(not(feature = "scrape"))]
pub(crate) use crate::signals::off::Pull;
#[cfg(feature = "scrape")]
pub use crate::signals::scrape::{Pull, PullError};

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
    exemplars: &Arc<Store>,
) -> Result<(Option<SdkMeterProvider>, Pull), Error> {
    let Some(otlp) = &settings.otlp else {
        if settings.pull {
            let (builder, pull) = Pull::beside(builder(settings, resource), exemplars);
            return Ok((Some(builder.build()), pull));
        }
        return Ok((None, Pull::none()));
    };
    let exporter = exporter(otlp, settings.temporality, health, exemplars)?;
    let (provider, pull) = provider_with(settings, resource, health, exporter, exemplars);
    Ok((Some(provider), pull))
}

/// A provider that pushes to `exporter`, and its reader.
pub(crate) fn provider_with(
    settings: &Metrics,
    resource: &Resource,
    health: &Health,
    exporter: impl PushMetricExporter,
    exemplars: &Arc<Store>,
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
    let (builder, pull) = match settings.temporality {
        Temporality::Cumulative => (builder, Pull::of(push, exemplars)),
        // Reading deltas takes them away from the push: whoever pulls needs a pipeline of their own.
        _ => Pull::beside(builder, exemplars),
    };
    (builder.build(), pull)
}

fn builder(settings: &Metrics, resource: &Resource) -> MeterProviderBuilder {
    let exponential = settings.exponential;
    SdkMeterProvider::builder()
        .with_resource(resource.clone())
        .with_view(move |instrument: &Instrument| view(instrument, exponential))
}

fn exporter(
    otlp: &Otlp,
    temporality: Temporality,
    health: &Health,
    exemplars: &Arc<Store>,
) -> Result<MetricExporter, Error> {
    let exemplars = Some(Arc::clone(exemplars));
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

/// A histogram of `f64` values whose sampled values leave their trace id behind.
#[derive(Debug, Clone)]
pub struct Histogram {
    inner: opentelemetry::metrics::Histogram<f64>,
    exemplars: Arc<Reservoirs>,
}

impl Histogram {
    /// Declares the histogram `name`, after the telemetry has started. `meter` is one of `opentelemetry::global::meter`.
    pub fn new(
        meter: &Meter,
        name: &'static str,
        unit: &'static str,
        description: &'static str,
    ) -> Self {
        let telemetry = Telemetry::current();
        Self::within(&telemetry.exemplars, meter, name, unit, description)
    }

    pub(crate) fn within(
        store: &Arc<Store>,
        meter: &Meter,
        name: &'static str,
        unit: &'static str,
        description: &'static str,
    ) -> Self {
        let builder = meter.f64_histogram(name).with_unit(unit);
        Self {
            inner: builder.with_description(description).build(),
            exemplars: store.reservoirs(name, boundaries(name, unit)),
        }
    }

    /// Records `value`, with the current span as its exemplar if that span is sampled.
    pub fn record(&self, value: f64, attributes: &[KeyValue]) {
        self.inner.record(value, attributes);
        if !self.exemplars.enabled() {
            return;
        }
        Context::map_current(|context| {
            let span = context.span();
            let ids = span.span_context();
            if ids.is_sampled()
                && let Some(series) = self.exemplars.series(attributes)
            {
                series.offer(value, ids);
            }
        });
    }

    /// The series with these attributes, for those who record it again and again.
    pub(crate) fn bind(&self, attributes: &[KeyValue]) -> Series {
        Series {
            inner: self.inner.bind(attributes),
            exemplars: self.exemplars.series(attributes),
        }
    }
}

/// One series of a histogram.
pub(crate) struct Series {
    inner: BoundHistogram<f64>,
    exemplars: Option<exemplars::Series>,
}

impl Series {
    /// Records `value`, with `ids` as its exemplar if that span is sampled.
    pub(crate) fn record(&self, value: f64, ids: &SpanContext) {
        self.inner.record(value);
        if let Some(exemplars) = &self.exemplars {
            exemplars.offer(value, ids);
        }
    }
}

impl fmt::Debug for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Series")
    }
}
