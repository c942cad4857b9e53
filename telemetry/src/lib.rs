//! Traces, metrics, logs and profiles of one process, set up by one call and flushed by one guard.
//!
//! The crate names nothing of the program around it, so it can be copied into another workspace; README.md says how.
#![cfg_attr(
    all(feature = "actix", feature = "tower", feature = "profiles"),
    doc = include_str!("../README.md")
)]
// What features share has no user where they are off; a build with all of them finds what has none at all.
#![cfg_attr(
    not(all(
        feature = "actix",
        feature = "tower",
        feature = "client",
        feature = "profiles",
        feature = "exemplars",
        feature = "scrape",
        feature = "runtime"
    )),
    allow(dead_code)
)]
mod base;
mod extensions;
#[cfg(feature = "http-core")]
mod http;
mod pipeline;
mod signals;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use opentelemetry::global;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::logs::{LogExporter, SdkLoggerProvider};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanExporter};
use tracing::{Dispatch, Subscriber};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

use base::locked;
use base::names::Names;
pub use base::proxy::goes_direct;
use base::resource;
pub use base::secret_url::SecretUrl;
use base::settings::Logs;
pub use base::settings::{Identity, SettingError, Settings, from_environment};
pub use extensions::Extensions;
#[cfg(any(feature = "actix", feature = "tower"))]
pub use http::RequestHandle;
#[cfg(feature = "actix")]
pub use http::actix;
#[cfg(feature = "client")]
pub use http::client;
#[cfg(feature = "tower")]
pub use http::tower;
use pipeline::exemplars::Store;
use pipeline::exporter::Unsent;
use pipeline::health::{self, Health};
use signals::layer::TelemetryLayer;
use signals::logs::Bridge;
#[cfg(feature = "profiles")]
pub use signals::profiles;
#[cfg(not(feature = "profiles"))]
use signals::profiles;
use signals::{Telemetry, logs, propagation, runtime, traces};
pub use signals::{context, metrics};

/// What kept telemetry from starting.
#[derive(Debug, thiserror::Error)]
#[error("telemetry cannot start: {0}")]
pub struct Error(String);

/// Every error met while flushing.
#[derive(Debug, thiserror::Error)]
#[error("telemetry was not flushed completely: {}", .0.join("; "))]
pub struct FlushErrors(Vec<String>);

/// Owns what [`init`] or [`start`] started. Keep it until the server has stopped, then call [`Guard::shutdown`].
#[must_use = "telemetry that is not shut down loses its last batch"]
pub struct Guard {
    telemetry: Arc<Telemetry>,
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
    stdout: Option<logs::Stdout>,
    /// Spans and records that have not been sent yet.
    unsent: Vec<Unsent>,
    log_settings: Logs,
    pull: metrics::Pull,
    profiles: profiles::Agents,
    /// What the settings ask for and cannot be had here, and what was read otherwise than it may have been meant.
    warnings: Vec<String>,
    health: Health,
}

/// Starts all signals and makes them the process': its `tracing` subscriber, and what `opentelemetry::global` hands to
/// other libraries. Call it once, in a plain `fn main`, before any runtime exists.
///
/// # Errors
/// When a TLS file cannot be read, or when the process already has a `tracing` subscriber.
pub fn init(settings: &Settings) -> Result<Guard, Error> {
    init_extended(settings, Extensions::default())
}

/// As [`init`], with what the program adds to the SDK's providers.
///
/// # Errors
/// As [`init`].
pub fn init_extended(settings: &Settings, extensions: Extensions) -> Result<Guard, Error> {
    let guard = start_extended(settings, extensions)?;
    guard.install_alone()?;
    Ok(guard)
}

/// Starts all signals without a subscriber: one is made of [`Guard::layer`] and handed to [`Guard::install`].
///
/// # Errors
/// When a TLS file cannot be read.
pub fn start(settings: &Settings) -> Result<Guard, Error> {
    start_extended(settings, Extensions::default())
}

/// As [`start`], with what the program adds to the SDK's providers.
///
/// # Errors
/// As [`start`].
pub fn start_extended(settings: &Settings, extensions: Extensions) -> Result<Guard, Error> {
    start_with(
        settings,
        extensions,
        None::<opentelemetry_otlp::SpanExporter>,
        None::<opentelemetry_otlp::LogExporter>,
    )
}

/// As [`start`], with exporters in the place of OTLP's if given.
fn start_with(
    settings: &Settings,
    mut extensions: Extensions,
    span_exporter: Option<impl SpanExporter + 'static>,
    log_exporter: Option<impl LogExporter + 'static>,
) -> Result<Guard, Error> {
    // One provider for every TLS client of the process; a second installation finds the first, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();

    let attributes = resource::attributes(settings);
    let resource = resource::resource(&attributes);
    let names = Names::of(&settings.identity);
    let health = Health::new(names);
    let mut telemetry = Telemetry {
        names: Some(names),
        #[cfg(feature = "http-core")]
        http: settings.http.clone(),
        exemplars: Arc::new(Store::new(settings.metrics.exemplars)),
        profiler: profiles::Profiler::new(&settings.profiles),
        ..Telemetry::default()
    };
    let (mut traces, mut pull) = (None, metrics::Pull::none());
    let mut unsent = Vec::new();

    if !settings.disabled {
        // Metrics first: the other signals' own counts are metrics.
        let exemplars = &telemetry.exemplars;
        (telemetry.meters, pull) =
            metrics::provider(&settings.metrics, &resource, &health, exemplars)?;

        let provider = match span_exporter {
            Some(exporter) => traces::provider_with(
                &settings.traces,
                &resource,
                &health,
                &mut extensions,
                exporter,
            ),
            None => {
                let (provider, spans) =
                    traces::provider(&settings.traces, &resource, &health, &mut extensions)?;
                unsent.extend(spans);
                provider
            }
        };
        telemetry.tracer = Some(provider.tracer("telemetry"));
        telemetry.propagator = propagation::propagator(settings.propagators);
        traces = Some(provider);
    }
    let logs::Destinations {
        provider: logs,
        stdout,
        unsent: records,
    } = logs::destinations(
        &settings.logs,
        names,
        &resource,
        &health,
        &mut extensions,
        log_exporter,
    )?;
    unsent.extend(records);
    if telemetry.meters.is_some() {
        let meter = telemetry.meter("telemetry");
        let prefix = settings.identity.metric_prefix;
        let queues = [
            settings.traces.batch.queue_items,
            settings.logs.batch.queue_items,
        ];
        health::observe(&meter, prefix, &health, queues);
        runtime::observe(&meter, prefix, &telemetry.runtimes);
    }
    let telemetry = Arc::new(telemetry);
    let (mut agents, mut missing) = (profiles::Agents::default(), None);
    if !settings.disabled {
        (agents, missing) = profiles::start(&settings.profiles, &attributes, &health, &telemetry)?;
    }
    Ok(Guard {
        telemetry,
        traces,
        logs,
        stdout,
        unsent,
        log_settings: settings.logs.clone(),
        pull,
        profiles: agents,
        warnings: settings.warnings.iter().cloned().chain(missing).collect(),
        health,
    })
}

impl Guard {
    /// The layer that makes traces, OTLP logs and lines on stdout of what `tracing` records, for a subscriber that has
    /// other layers too. `RUST_LOG` rules this layer and no other. One a [`Guard`] is enough.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        self.telemetry_layer(false)
    }

    /// `alone` says that nobody but this layer listens.
    fn telemetry_layer(&self, alone: bool) -> TelemetryLayer {
        let filter = logs::Filter::new(&self.log_settings.filter);
        let names = self.telemetry.names.as_ref();
        let logs = self.logs.as_ref().zip(names);
        let logs = logs.map(|(logs, names)| Bridge::new(logs, &self.log_settings, names));
        TelemetryLayer::new(&self.telemetry, filter, alone, logs)
    }

    /// Makes `subscriber`, which this guard's [`Guard::layer`] is part of, the process', and this telemetry what
    /// `opentelemetry::global` hands to other libraries. Call it once, before instruments are made.
    ///
    /// # Errors
    /// When the process already has a `tracing` subscriber, or when `subscriber` hides the layer, as `reload::Layer` does.
    pub fn install<S>(&self, subscriber: S) -> Result<(), Error>
    where
        S: Subscriber + Send + Sync + 'static,
    {
        let subscriber = Dispatch::new(subscriber);
        if subscriber.downcast_ref::<TelemetryLayer>().is_none() {
            let hidden = "the subscriber does not show Guard::layer: it is not part of it, or in a reload::Layer";
            return Err(Error(hidden.to_owned()));
        }
        tracing::dispatcher::set_global_default(subscriber)
            .map_err(|error| Error(error.to_string()))?;
        for warning in &self.warnings {
            tracing::warn!(target: "telemetry", "{warning}");
        }
        if let Some(traces) = &self.traces {
            global::set_tracer_provider(traces.clone());
        }
        if let Some(meters) = &self.telemetry.meters {
            global::set_meter_provider(meters.clone());
        }
        Ok(())
    }

    /// [`Guard::install`], for a process with no other layer.
    fn install_alone(&self) -> Result<(), Error> {
        self.install(Registry::default().with(self.telemetry_layer(true)))
    }

    /// A reader of the metrics for `/metrics`: same names and values as the push.
    #[cfg(feature = "scrape")]
    pub fn pull(&self) -> metrics::Pull {
        self.pull.clone()
    }

    /// Exports what waits. For tests; the export threads do it by themselves.
    #[cfg(any(test, feature = "testing"))]
    fn flush(&self) {
        let results = [
            self.traces.as_ref().map(SdkTracerProvider::force_flush),
            self.logs.as_ref().map(SdkLoggerProvider::force_flush),
        ];
        for error in results.into_iter().flatten().filter_map(Result::err) {
            tracing::warn!(target: "telemetry", "flush: {error}");
        }
    }

    /// Flushes all signals and gives up at `deadline`: each thread that has not ended by then is left to the end of the
    /// process. Metrics go last, because they count what became of the others, which may use two thirds of the time: what they have not sent by then is lost.
    ///
    /// # Errors
    /// One for each signal that was not flushed, with its reason.
    pub fn shutdown(self, deadline: Duration) -> Result<(), FlushErrors> {
        let until = Instant::now() + deadline;
        let first = Instant::now() + deadline * 2 / 3;
        let lost_before = self.health.lost();
        let mut jobs: Vec<Job> = self.profiles.into_shutdowns();
        if let Some(traces) = self.traces {
            let flush = move || text(traces.shutdown_with_timeout(left(first)));
            jobs.push(("traces", Box::new(flush)));
        }
        if let Some(logs) = self.logs {
            let flush = move || text(logs.shutdown_with_timeout(left(first)));
            jobs.push(("logs", Box::new(flush)));
        }
        let mut errors = finish(jobs, first, deadline);
        self.unsent.iter().for_each(Unsent::give_up);
        if let Some(metrics) = self.telemetry.meters.clone() {
            let flush = move || text(metrics.shutdown_with_timeout(left(until)));
            errors.extend(finish(vec![("metrics", Box::new(flush))], until, deadline));
        }
        // After the others, which may still have something to say.
        if let Some(stdout) = self.stdout
            && stdout.flush(left(until)).is_err()
        {
            errors.push(format!("stdout: not flushed within {deadline:?}"));
        }
        // The SDK's batch processors keep the failure of their last export to themselves.
        for ((signal, before), (_, after)) in lost_before.into_iter().zip(self.health.lost()) {
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

type Job = (&'static str, Box<dyn FnOnce() -> Result<(), String> + Send>);

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

/// Runs `jobs` side by side, or one after the other where the system gives no thread, until all have ended or the time has come. Returns what went wrong; `deadline` is for the text.
fn finish(jobs: Vec<Job>, until: Instant, deadline: Duration) -> Vec<String> {
    let mut waiting: Vec<&str> = jobs.iter().map(|(signal, _)| *signal).collect();
    let (sender, results) = mpsc::channel();
    for (signal, job) in jobs {
        let sender = sender.clone();
        let job = Arc::new(Mutex::new(Some(job)));
        let run = {
            let job = Arc::clone(&job);
            move || {
                if let Some(job) = locked(&job).take() {
                    let _ = sender.send((signal, job())); // nobody listens after the deadline
                }
            }
        };
        if std::thread::Builder::new().spawn(run.clone()).is_err() {
            run();
        }
    }
    let mut errors = Vec::new();
    while !waiting.is_empty() {
        let Ok((signal, result)) = results.recv_timeout(left(until)) else {
            break;
        };
        waiting.retain(|waiting| *waiting != signal);
        errors.extend(result.err().map(|error| format!("{signal}: {error}")));
    }
    let late = waiting.iter();
    errors.extend(late.map(|signal| format!("{signal}: not flushed within {deadline:?}")));
    errors
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};
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

    /// Packages that a feature adds, by those of its parts.
    fn added(features: &HashMap<&str, Vec<&str>>, feature: &str) -> BTreeSet<String> {
        let parts = features[feature].iter();
        parts
            .flat_map(|part| match part.strip_prefix("dep:") {
                Some(package) => BTreeSet::from([package.to_owned()]),
                None if part.contains('/') => BTreeSet::new(), // a feature of a package
                None => added(features, part),
            })
            .collect()
    }

    #[test]
    fn the_readme_counts_the_dependencies() {
        let manifest = include_str!("../Cargo.toml");
        let section = |name: &str| {
            let (_, rest) = manifest.split_once(&format!("[{name}]\n")).unwrap();
            rest.lines().take_while(|line| !line.starts_with('['))
        };
        let always = section("dependencies")
            .filter(|line| line.contains(" = ") && !line.contains("optional = true"));
        let features = section("features").filter_map(|line| line.split_once(" = "));
        let features: HashMap<&str, Vec<&str>> = features
            .map(|(name, parts)| (name, parts.split('"').skip(1).step_by(2).collect()))
            .collect();
        let readme = include_str!("../README.md");
        let mut seen = 0;
        for row in readme.lines().filter(|line| line.starts_with('|')) {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let feature = cells[2].trim_matches('`');
            if cells[2].starts_with("none (") {
                assert_eq!(cells[3], always.clone().count().to_string());
            } else if features.contains_key(feature) {
                let expected = match added(&features, feature).len() {
                    0 => "none".to_owned(),
                    count => format!("{count} more"),
                };
                assert_eq!(cells[3], expected, "{feature}");
                seen += 1;
            }
        }
        assert_eq!(seen, features.len() - 2, "all but default and http-core");
    }

    /// Where what a feature adds stands; what both servers need is `SERVERS`.
    const PLACES: [(&str, &[&str]); 8] = [
        ("actix", &["http/actix"]),
        ("tower", &["http/tower"]),
        ("client", &["http/client"]),
        ("profiles", &["signals/profiles"]),
        ("exemplars", &["pipeline/exemplars"]),
        ("scrape", &["pipeline/openmetrics", "signals/scrape"]),
        ("runtime", &["signals/runtime"]),
        ("testing", &["testing"]),
    ];
    const SERVERS: &[&str] = &[
        "http/mod",
        "http/server",
        "http/outcome",
        "http/forwarded",
        "signals/logs/access",
    ];

    #[test]
    fn the_readme_counts_the_lines() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let files = sources(&root);
        // Without tests, which stand at a file's end or in one of their own.
        let count = |is_counted: &dyn Fn(&str) -> bool| -> usize {
            let files = files.iter().filter(|(path, _)| {
                let path = path.strip_prefix(&root).unwrap().to_str().unwrap();
                is_counted(path) && !path.ends_with("tests.rs")
            });
            files
                .map(|(_, text)| {
                    let code = text.lines().scan(false, |tests, line| {
                        let first = *tests && line.starts_with("mod ");
                        *tests = line == "#[cfg(test)]";
                        (!first).then_some(())
                    });
                    code.count()
                })
                .sum()
        };
        let among = |path: &str, places: &[&str]| places.iter().any(|at| path.starts_with(at));
        let servers = count(&|path| among(path, SERVERS));
        let core = count(&|path| {
            let mut places = PLACES.iter();
            !among(path, SERVERS) && !places.any(|(_, places)| among(path, places))
        });
        let about = |said: &str, counted: usize, of: &str| {
            let said: usize = said.replace(',', "").parse().unwrap();
            let near = said.abs_diff(counted) * 10 <= counted;
            assert!(near, "{of}: the README says {said} of {counted} lines");
        };
        let mut seen = 0;
        for row in include_str!("../README.md").lines() {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let [_, _, feature, _, lines, _] = cells[..] else {
                continue;
            };
            let mut words = lines
                .split([' ', ';'])
                .filter(|word| word.contains(char::is_numeric));
            let mut next = || words.next().unwrap().trim_end_matches(',');
            let feature = feature.trim_matches('`');
            if feature.starts_with("none (") {
                about(next(), core, "core");
            } else if let Some((_, places)) = PLACES.iter().find(|(name, _)| *name == feature) {
                let is_server = matches!(feature, "actix" | "tower");
                let own = count(&|path| among(path, places));
                about(next(), own + if is_server { servers } else { 0 }, feature);
                if is_server {
                    about(next(), servers, "what actix and tower share");
                }
                seen += 1;
            }
        }
        assert_eq!(seen, PLACES.len());
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
