//! Log records: from `tracing` events to OTLP and to stdout, both with the ids of the trace they belong to.
#[cfg(any(feature = "actix", feature = "tower"))]
mod access;
mod bridge;
mod filter;
mod line;
mod processor;
mod stdout;

use std::sync::Arc;

use opentelemetry_otlp::LogExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{
    BatchConfigBuilder, BatchLogProcessor, LoggerProviderBuilder, SdkLoggerProvider,
};

#[cfg(any(feature = "actix", feature = "tower"))]
pub(crate) use self::access::Access;
pub(crate) use self::bridge::{Bridge, Origin};
pub(crate) use self::filter::Filter;
use self::processor::Processor;
pub(crate) use self::stdout::Stdout;
use crate::Error;
use crate::base::names::Names;
use crate::base::settings::{Batch, Exporter, LogFormat, Logs, Otlp};
use crate::extensions::Extensions;
use crate::pipeline::buffers::Buffers;
use crate::pipeline::encoding::Run;
use crate::pipeline::export::{StockTransport, over_http};
use crate::pipeline::exporter::{self, Unsent};
use crate::pipeline::health::{Admission, Counted, Health};
use crate::pipeline::own_records::is_exporter;
use crate::pipeline::queue::Queue;
use crate::pipeline::transport::Transport;

/// What makes records and where they go.
#[derive(Default)]
pub(crate) struct Destinations {
    /// `None` when records go nowhere.
    pub(crate) provider: Option<SdkLoggerProvider>,
    pub(crate) stdout: Option<Stdout>,
    /// What our own exporter has not sent.
    pub(crate) unsent: Option<Unsent>,
}

/// Sends records where the settings say: by OTLP, to stdout, or both. `exporter` takes OTLP's place if given.
pub(crate) fn destinations(
    settings: &Logs,
    names: Names,
    resource: &Resource,
    health: &Health,
    extensions: &mut Extensions,
    exporter: Option<impl opentelemetry_sdk::logs::LogExporter + 'static>,
) -> Result<Destinations, Error> {
    let extended = extensions.extends_logs();
    // Before our processors, so that they send what others change.
    let mut builder =
        extensions.extend_logs(SdkLoggerProvider::builder().with_resource(resource.clone()));
    let mut direct = None;
    match (exporter, &settings.otlp, settings.exporter) {
        (Some(exporter), ..) => builder = stock(builder, settings.batch, health, exporter),
        (None, Some(otlp), Exporter::Direct) => direct = Some(otlp),
        // What most programs have: the SDK's batch processor and the exporter of `opentelemetry-otlp`.
        (None, Some(otlp), Exporter::Stock) => {
            builder = stock(
                builder,
                settings.batch,
                health,
                stock_exporter(otlp, health)?,
            );
        }
        (None, None, _) if settings.stdout == LogFormat::Off && !extended => {
            return Ok(Destinations::default());
        }
        (None, None, _) => {}
    }

    let otlp = direct.map(|_| Queue::new(settings.batch, exported, &health.logs));
    let lines = (settings.stdout != LogFormat::Off)
        .then(|| Queue::new(stdout::batch(settings.batch), |_| true, &health.stdout));
    let queues: Vec<_> = otlp.iter().chain(&lines).cloned().collect();
    if queues.is_empty() {
        let provider = Some(builder.build());
        return Ok(Destinations {
            provider,
            ..Destinations::default()
        });
    }
    let buffers = Arc::new(Buffers::new(queues));
    let mut unsent = None;
    if let (Some(settings), Some(queue)) = (direct, &otlp) {
        let transport = Transport::new(settings)?;
        let started = exporter::start("logs", &buffers, queue, transport, resource)?;
        unsent = Some(started);
    }
    let stdout = match &lines {
        Some(queue) => Some(stdout::start(
            settings.stdout,
            names.request_id,
            &buffers,
            queue,
        )?),
        None => None,
    };
    let provider = builder
        .with_log_processor(Processor { buffers, otlp })
        .build();
    Ok(Destinations {
        provider: Some(provider),
        stdout,
        unsent,
    })
}

/// Whether the collector gets a run: not what the crates log that carry the export, or each export would cause another.
fn exported(run: &Run) -> bool {
    !is_exporter(run.scope.name())
}

/// Adds the SDK's batch processor with `exporter`.
fn stock(
    builder: LoggerProviderBuilder,
    batch: Batch,
    health: &Health,
    exporter: impl opentelemetry_sdk::logs::LogExporter + 'static,
) -> LoggerProviderBuilder {
    let exporter = Counted {
        inner: exporter,
        signal: Arc::clone(&health.logs),
        attribute_length: None, // cut when the record is made
    };
    let inner = BatchLogProcessor::builder(exporter)
        .with_batch_config(
            BatchConfigBuilder::default()
                .with_max_queue_size(batch.stock_queue())
                .with_max_export_batch_size(batch.size)
                .with_scheduled_delay(batch.delay)
                .build(),
        )
        .build();
    builder.with_log_processor(Admission {
        inner,
        signal: Arc::clone(&health.logs),
        capacity: batch.stock_queue(),
    })
}

fn stock_exporter(otlp: &Otlp, health: &Health) -> Result<LogExporter, Error> {
    let transport = StockTransport::new(otlp, &health.logs, None)?;
    over_http(LogExporter::builder().with_http(), otlp, transport)
        .build()
        .map_err(|error| Error(format!("log exporter: {error}")))
}
