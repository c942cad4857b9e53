//! Traces, metrics, logs and profiles of one process, set up by one call and flushed by one guard.
//!
//! The crate names nothing of the program around it, so it can be copied into another workspace; README.md says how.
mod base;
mod http;
mod pipeline;
mod signals;
pub mod testing;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use opentelemetry::global;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::logs::{LogExporter, SdkLoggerProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanExporter};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

pub use base::proxy::goes_direct;
use base::resource;
pub use base::secret_url::SecretUrl;
pub use base::settings::{Identity, SettingError, Settings, from_environment};
pub use http::{actix, client};
pub use pipeline::exemplars;
use pipeline::exemplars::Store;
use pipeline::health::{self, Health};
pub use signals::{context, metrics, profiles};
use signals::{logs, runtime, traces};

/// What kept telemetry from starting.
#[derive(Debug, thiserror::Error)]
#[error("telemetry cannot start: {0}")]
pub struct Error(String);

/// Every error met while flushing.
#[derive(Debug, thiserror::Error)]
#[error("telemetry was not flushed completely: {}", .0.join("; "))]
pub struct FlushErrors(Vec<String>);

/// Owns what [`init`] started. Keep it until the server has stopped, then call [`Guard::shutdown`].
#[must_use = "telemetry that is not shut down loses its last batch"]
pub struct Guard {
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
    metrics: Option<SdkMeterProvider>,
    pull: metrics::Pull,
    profiles: profiles::Agents,
    health: Health,
}

/// Starts all signals. Call it once, in a plain `fn main`, before any runtime exists.
///
/// # Errors
/// When a TLS file cannot be read, or when the process already has a `tracing` subscriber.
pub fn init(settings: &Settings) -> Result<Guard, Error> {
    start(settings, None::<testing::Spans>, None::<testing::Records>)
}

/// As [`init`], with exporters in the place of OTLP's if given.
fn start(
    settings: &Settings,
    span_exporter: Option<impl SpanExporter + 'static>,
    log_exporter: Option<impl LogExporter + 'static>,
) -> Result<Guard, Error> {
    // One provider for every TLS client of the process; a second installation finds the first, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();

    let attributes = resource::attributes(settings);
    let resource = resource::resource(&attributes);
    let health = Health::default();
    let mut guard = Guard {
        traces: None,
        logs: None,
        metrics: None,
        pull: metrics::Pull::none(),
        profiles: profiles::Agents::default(),
        health: Health::default(),
    };

    if !settings.disabled {
        // Metrics first: the other signals' own counts are metrics.
        let (provider, pull) = metrics::provider(&settings.metrics, &resource, &health)?;
        if let Some(provider) = &provider {
            global::set_meter_provider(provider.clone());
            Store::global().enable(settings.metrics.exemplars);
        }
        (guard.metrics, guard.pull) = (provider, pull);

        let provider = match span_exporter {
            Some(exporter) => traces::provider_with(&settings.traces, &resource, &health, exporter),
            None => traces::provider(&settings.traces, &resource, &health)?,
        };
        traces::set_tracer(provider.tracer("telemetry"));
        context::set_propagator(traces::propagator(settings.propagators));
        guard.traces = Some(provider);

        guard.logs = match log_exporter {
            Some(exporter) => Some(logs::provider_with(
                &settings.logs,
                &resource,
                &health,
                exporter,
            )),
            None => logs::provider(&settings.logs, &resource, &health)?,
        };
    }

    subscribe(settings, guard.logs.as_ref(), &health)?;

    if guard.metrics.is_some() {
        let meter = global::meter("telemetry");
        let prefix = settings.identity.metric_prefix;
        let queues = [
            settings.traces.batch.queue_items,
            settings.logs.batch.queue_items,
        ];
        health::observe(&meter, prefix, &health, queues);
        runtime::observe(&meter, prefix);
        actix::observe(&meter);
    }
    if !settings.disabled {
        // Last, so that their threads' failures are logged.
        guard.profiles = profiles::start(&settings.profiles, &attributes, &health)?;
    }
    guard.health = health;
    Ok(guard)
}

/// Connects `tracing` with traces, OTLP logs and stdout.
fn subscribe(
    settings: &Settings,
    logs: Option<&SdkLoggerProvider>,
    health: &Health,
) -> Result<(), Error> {
    let request_id = settings.identity.request_id_attribute;
    logs::set_prefix(settings.identity.metric_prefix);
    let subscriber = Registry::default()
        .with(logs::Filter::new(&settings.logs.filter))
        .with(traces::bridge(traces::tracer().cloned()))
        .with(logs.map(|provider| logs::otlp_layer(provider, &settings.logs, request_id)))
        .with(logs::stdout_layer(
            settings.logs.stdout,
            request_id,
            health,
        )?);
    tracing::subscriber::set_global_default(subscriber).map_err(|error| Error(error.to_string()))
}

impl Guard {
    /// A reader of the metrics for `/metrics`: same names and values as the push.
    pub fn pull(&self) -> metrics::Pull {
        self.pull.clone()
    }

    /// Exports what waits. For tests; the export threads do it by themselves.
    fn flush(&self) {
        let results = [
            self.traces.as_ref().map(SdkTracerProvider::force_flush),
            self.logs.as_ref().map(SdkLoggerProvider::force_flush),
        ];
        for error in results.into_iter().flatten().filter_map(Result::err) {
            tracing::warn!(target: "telemetry", "flush: {error}");
        }
    }

    /// Flushes all signals in parallel and gives up at `deadline`: each thread that has not ended by then is left to
    /// the end of the process.
    ///
    /// # Errors
    /// One for each signal that was not flushed, with its reason.
    pub fn shutdown(self, deadline: Duration) -> Result<(), FlushErrors> {
        let until = Instant::now() + deadline;
        let Self {
            traces,
            logs,
            metrics,
            profiles,
            health,
            ..
        } = self;
        let lost_before = health.lost();
        type Job = Box<dyn FnOnce() -> Result<(), String> + Send>;
        let mut jobs: Vec<(&'static str, Job)> = profiles.into_shutdowns();
        if let Some(traces) = traces {
            jobs.push((
                "traces",
                Box::new(move || text(traces.shutdown_with_timeout(deadline))),
            ));
        }
        if let Some(logs) = logs {
            jobs.push((
                "logs",
                Box::new(move || text(logs.shutdown_with_timeout(deadline))),
            ));
        }
        if let Some(metrics) = metrics {
            jobs.push((
                "metrics",
                Box::new(move || text(metrics.shutdown_with_timeout(deadline))),
            ));
        }
        let mut waiting: Vec<&str> = jobs.iter().map(|(signal, _)| *signal).collect();
        let (sender, results) = mpsc::channel();
        for (signal, job) in jobs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let _ = sender.send((signal, job())); // nobody listens after the deadline
            });
        }
        let mut errors = Vec::new();
        while !waiting.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            let Ok((signal, result)) = results.recv_timeout(left) else {
                break;
            };
            waiting.retain(|waiting| *waiting != signal);
            errors.extend(result.err().map(|error| format!("{signal}: {error}")));
        }
        errors.extend(
            waiting
                .iter()
                .map(|signal| format!("{signal}: not flushed within {deadline:?}")),
        );
        // After the others, which may still have something to say.
        if !health.stdout.drained(until) {
            errors.push(format!("stdout: not flushed within {deadline:?}"));
        }
        // The SDK's batch processors keep the failure of their last export to themselves.
        for ((signal, before), (_, after)) in lost_before.into_iter().zip(health.lost()) {
            if after > before {
                errors.push(format!("{signal}: {} items lost", after - before));
            }
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(FlushErrors(errors))
        }
    }
}

fn text(result: opentelemetry_sdk::error::OTelSdkResult) -> Result<(), String> {
    result.map_err(|error| error.to_string())
}

/// An error and its causes as one text. Some libraries repeat the next cause in their own message, some do not: what has
/// been said is not said again.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

/// `error.type` of what was given up before its end.
const CANCELLED: &str = "cancelled";

/// The methods the conventions know, and what stands for all others.
const METHODS: [&str; 11] = [
    "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY",
    "_OTHER",
];

fn method_index(method: &str) -> usize {
    METHODS
        .iter()
        .position(|known| *known == method)
        .unwrap_or(METHODS.len() - 1)
}

/// The method as an attribute.
fn method(method: &str) -> &'static str {
    METHODS[method_index(method)]
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(sources(&path));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
        found
    }

    #[test]
    fn only_the_settings_read_the_environment() {
        let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
        assert!(sources.len() > 10);
        for (path, text) in sources {
            let reads = text.contains(concat!("env", "::var"));
            assert_eq!(reads, path.ends_with("settings.rs"), "{}", path.display());
        }
    }
}
