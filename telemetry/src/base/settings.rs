//! Every setting of the telemetry, read once from the environment.
//!
//! Names and meanings are those of
//! <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/> and
//! <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>. Unlike the specification, which lets a wrong value pass
//! with a warning, a wrong value here is an error: a demo that silently exports nowhere teaches nothing. An empty value
//! means the same as an absent one.
use std::cell::RefCell;
use std::collections::BTreeMap;
#[cfg(feature = "http-core")]
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

#[cfg(feature = "http-core")]
use ipnet::IpNet;
use tracing_subscriber::filter::{LevelFilter, Targets};

#[cfg(feature = "http-core")]
use super::redaction::Redaction;
use super::secret_url::SecretUrl;

/// Who emits: what the program says of itself when the environment says nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// `service.name`, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` says otherwise.
    pub service_name: &'static str,
    pub service_namespace: &'static str,
    pub service_version: &'static str,
    /// First part of the names of metrics and attributes that OpenTelemetry does not name, e.g. `shop`.
    pub metric_prefix: &'static str,
    /// Attribute that carries the id of the request, e.g. `request.id`: of its SERVER span, and of each record that
    /// is written in its course.
    pub request_id_attribute: &'static str,
}

/// A variable whose value is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}={value} is not allowed; allowed: {allowed}")]
pub struct SettingError {
    /// The variable.
    pub name: String,
    /// What it holds; credentials are replaced by `***`.
    pub value: String,
    /// What it may hold.
    pub allowed: String,
}

impl SettingError {
    /// `value` is kept without the credentials that it may have: those of a URL, or a key that was given in place of its
    /// file.
    pub fn new(name: &str, value: &str, allowed: impl Into<String>) -> Self {
        let shown = match value {
            pem if pem.contains("-----BEGIN") => "***".to_owned(),
            url if url.contains("://") || url.contains('@') => SecretUrl::new(url).to_string(),
            _ => value.to_owned(),
        };
        Self {
            name: name.to_owned(),
            value: shown,
            allowed: allowed.into(),
        }
    }
}

/// All settings of the telemetry.
#[derive(Debug, Clone)]
pub struct Settings {
    pub identity: Identity,
    /// `OTEL_SDK_DISABLED` (`true` or `false`, default `false`; any other value is `false` with a warning): no trace,
    /// metric, OTLP log or profile at all; records still reach stdout.
    pub disabled: bool,
    /// What was read otherwise than it may have been meant: warnings to log once there is somewhere to log them.
    pub warnings: Vec<String>,
    /// `OTEL_RESOURCE_ATTRIBUTES` (`key=value,…`, percent-encoded), over which `OTEL_SERVICE_NAME` is laid. They win over
    /// what is detected.
    pub resource: BTreeMap<String, String>,
    pub propagators: Propagators,
    pub traces: Traces,
    pub metrics: Metrics,
    pub logs: Logs,
    pub profiles: Profiles,
    #[cfg(feature = "http-core")]
    pub http: Http,
}

/// How HTTP requests are recorded.
#[cfg(feature = "http-core")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Http {
    /// `TELEMETRY_TRUSTED_PROXIES` (a list of addresses and networks, `10.0.0.0/8,::1`; default none): peers whose
    /// `Forwarded` and `X-Forwarded-For` headers name the client. Absent: the peer is the client, whatever it says.
    pub trusted_proxies: Vec<IpNet>,
    /// `TELEMETRY_REDACTED_QUERY_PARAMETERS` (a list of names, with their case; default none): query parameters whose
    /// values are recorded as `REDACTED`, beside `AWSAccessKeyId`, `Signature`, `sig` and `X-Goog-Signature`.
    pub redaction: Redaction,
}

/// `OTEL_PROPAGATORS` (a list of `tracecontext`, `baggage`, `none`; default `tracecontext,baggage`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Propagators {
    pub trace_context: bool,
    pub baggage: bool,
}

/// Traces.
#[derive(Debug, Clone)]
pub struct Traces {
    /// Absent with `OTEL_TRACES_EXPORTER=none` (default `otlp`): spans still get ids, so that logs carry them,
    /// and none is sampled.
    pub otlp: Option<Otlp>,
    /// `TELEMETRY_EXPORTER` (`direct`, the default, or `stock`).
    pub exporter: Exporter,
    /// `OTEL_TRACES_SAMPLER` (default `parentbased_always_on`).
    pub sampler: Sampler,
    /// `OTEL_TRACES_SAMPLER_ARG` (0 to 1, default 1): share of the traces that the `traceidratio` samplers keep.
    pub sampler_ratio: f64,
    /// `OTEL_BSP_SCHEDULE_DELAY` (ms, default 5000), `TELEMETRY_SPAN_QUEUE_BYTES` (default 33554432, which is 32 MiB),
    /// `OTEL_BSP_MAX_QUEUE_SIZE` (spans, no limit by default), `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` (spans, default 2048),
    /// `OTEL_BSP_EXPORT_TIMEOUT` (ms, default 30000).
    pub batch: Batch,
    /// `OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT` (characters, no limit by default), or
    /// `OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT`.
    pub attribute_length: Option<usize>,
    /// `OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT` or `OTEL_ATTRIBUTE_COUNT_LIMIT` (default 128).
    pub attribute_count: u32,
    /// `OTEL_SPAN_EVENT_COUNT_LIMIT` (default 128).
    pub event_count: u32,
    /// `OTEL_SPAN_LINK_COUNT_LIMIT` (default 128).
    pub link_count: u32,
    /// `OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT` (default 128).
    pub event_attribute_count: u32,
    /// `OTEL_LINK_ATTRIBUTE_COUNT_LIMIT` (default 128).
    pub link_attribute_count: u32,
}

/// `TELEMETRY_EXPORTER`: how spans and records become requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exporter {
    /// `direct`: encoded by the thread that makes them, a third of the cost.
    Direct,
    /// `stock`: by the SDK's batch processors and the exporters of `opentelemetry-otlp`, to compare with.
    Stock,
}

/// `OTEL_TRACES_SAMPLER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampler {
    /// `always_on`
    AlwaysOn,
    /// `always_off`
    AlwaysOff,
    /// `traceidratio`
    TraceIdRatio,
    /// `parentbased_always_on`: as the caller decided, and every trace that begins here.
    ParentBasedAlwaysOn,
    /// `parentbased_always_off`
    ParentBasedAlwaysOff,
    /// `parentbased_traceidratio`
    ParentBasedTraceIdRatio,
}

/// Metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Push. `OTEL_METRICS_EXPORTER` is a list of `otlp` (push and pull, the default), `prometheus` (pull alone) and
    /// `none` (neither).
    pub otlp: Option<Otlp>,
    /// Whether the metrics can be read on demand.
    pub pull: bool,
    /// `OTEL_METRIC_EXPORT_INTERVAL` (ms, default 60000).
    pub interval: Duration,
    /// `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` (`cumulative`, `delta`, `lowmemory`; default `cumulative`).
    pub temporality: Temporality,
    /// `OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION` (`explicit_bucket_histogram`, the default, or
    /// `base2_exponential_bucket_histogram`).
    pub exponential: bool,
    /// `OTEL_METRICS_EXEMPLAR_FILTER` (`trace_based`, the default, or `always_off`; `always_on` would name traces that
    /// nobody exported and is not offered).
    pub exemplars: bool,
}

/// `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temporality {
    /// Sums since the start.
    Cumulative,
    /// Sums since the last export.
    Delta,
    /// Delta for what the SDK need not remember then, cumulative for the rest.
    LowMemory,
}

/// Logs.
#[derive(Debug, Clone)]
pub struct Logs {
    /// Absent with `OTEL_LOGS_EXPORTER=none` (default `otlp`).
    pub otlp: Option<Otlp>,
    /// `TELEMETRY_EXPORTER`, as for spans.
    pub exporter: Exporter,
    /// `OTEL_BLRP_SCHEDULE_DELAY` (ms, default 1000), `TELEMETRY_LOG_QUEUE_BYTES` (default 16777216, which is 16 MiB) and
    /// their siblings, as for spans.
    pub batch: Batch,
    /// `OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT` (characters, no limit by default), or
    /// `OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT`.
    pub attribute_length: Option<usize>,
    /// `OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT` or `OTEL_ATTRIBUTE_COUNT_LIMIT` (default 128).
    pub attribute_count: usize,
    /// `LOG_FORMAT` (`json`, the default, `human` or `off`): how records are written to stdout.
    pub stdout: LogFormat,
    /// `RUST_LOG` (a level, or `target=level,…`; default `info`): which records are kept, on stdout and in OTLP. Spans of
    /// level INFO are always kept: a quieter log must not tear traces.
    pub filter: Targets,
}

/// `LOG_FORMAT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Words for a terminal.
    Human,
    /// Nothing is written.
    Off,
}

/// Profiles.
#[derive(Debug, Clone)]
pub struct Profiles {
    /// `PYROSCOPE_SERVER_ADDRESS` (an http or https URL without fragment). Absent: no profile is pushed.
    pub url: Option<SecretUrl>,
    /// `PYROSCOPE_PROFILES` (a list of `cpu`, `heap`, `none`; default `cpu,heap`). The program does not wait for the CPU profiler, which
    /// reads the program's debug information before its first sample: for milliseconds in a release build without it, for seconds in a debug
    /// build. Spans that end until then have no samples, and so no `pyroscope.profile.id`.
    pub cpu: bool,
    pub heap: bool,
    /// `PYROSCOPE_UPLOAD_INTERVAL` (seconds, 1 to 60, default 10).
    pub interval: Duration,
    /// `PYROSCOPE_SAMPLE_RATE` (samples a second, 1 to 1000, default 100).
    pub sample_rate: u32,
}

/// One OTLP/HTTP destination.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Otlp {
    /// `OTEL_EXPORTER_OTLP_{SIGNAL}_ENDPOINT` as it is, or `OTEL_EXPORTER_OTLP_ENDPOINT` (default
    /// `http://localhost:4318`) with `/v1/{signal}` added to its path. A fragment is refused, as none is ever sent.
    pub endpoint: SecretUrl,
    /// `OTEL_EXPORTER_OTLP_{SIGNAL}_HEADERS` or `OTEL_EXPORTER_OTLP_HEADERS` (`name=value,…`, percent-encoded).
    pub headers: Vec<(String, String)>,
    /// `OTEL_EXPORTER_OTLP_{SIGNAL}_TIMEOUT` or `OTEL_EXPORTER_OTLP_TIMEOUT` (ms, default 10000): of each attempt. The
    /// batch's own export timeout and `OTEL_METRIC_EXPORT_TIMEOUT` shorten it. For metrics it is also the time after which
    /// no other attempt is begun; spans and records are tried again until there is no room for newer ones.
    pub timeout: Duration,
    /// `OTEL_EXPORTER_OTLP_{SIGNAL}_COMPRESSION` or `OTEL_EXPORTER_OTLP_COMPRESSION` (`gzip`, `none`; default `none`, as
    /// the specification has it: compressing costs as much as all other exporting).
    pub gzip: bool,
    /// `OTEL_EXPORTER_OTLP_{SIGNAL}_CERTIFICATE` or `OTEL_EXPORTER_OTLP_CERTIFICATE`: PEM file of the authorities to
    /// trust. Absent: those of the system.
    pub certificate: Option<PathBuf>,
    /// `OTEL_EXPORTER_OTLP_{SIGNAL}_CLIENT_KEY` and `…_CLIENT_CERTIFICATE`, or those without signal: PEM files, both or
    /// neither.
    pub client_identity: Option<(PathBuf, PathBuf)>,
}

// Headers hold credentials; a debug print of the settings must not.
impl std::fmt::Debug for Otlp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Otlp")
            .field("endpoint", &self.endpoint)
            .field("headers", &headers)
            .field("timeout", &self.timeout)
            .field("gzip", &self.gzip)
            .finish_non_exhaustive()
    }
}

const MIB: usize = 1024 * 1024;

/// A queue and how it is emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Longest wait before an export.
    pub delay: Duration,
    /// Bytes that wait at most, encoded as they will be sent. When there are more, the oldest are dropped and counted.
    pub queue_bytes: usize,
    /// Items that wait at most. The specification's default of 2,048 is a fifth of a second of a busy service, so it
    /// limits only where it is asked for.
    pub queue_items: usize,
    /// Items in one export; reaching it exports at once.
    pub size: usize,
    /// Longest attempt to export.
    pub timeout: Duration,
}

impl Batch {
    /// Items that the stock batch processors hold at most: they count no bytes and take memory for all at their start.
    pub(crate) fn stock_queue(&self) -> usize {
        self.queue_items.min(8 * self.size)
    }
}

impl Settings {
    /// Reads the process environment.
    ///
    /// # Errors
    /// For the first variable whose value is not allowed.
    pub fn from_env(identity: Identity) -> Result<Self, SettingError> {
        from_environment(|lookup| Self::from_lookup(identity, lookup))
    }

    /// Reads from `lookup` instead of the environment, for tests.
    ///
    /// # Errors
    /// As [`Settings::from_env`].
    pub fn from_lookup(
        identity: Identity,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingError> {
        let vars = Vars { lookup: &lookup };
        let mut warnings = Vec::new();
        let disabled = vars.boolean("OTEL_SDK_DISABLED", &mut warnings);
        // What is not used is not read: nobody is stopped by a protocol, a sampler or a file of no consequence.
        let used = |name: &str| match disabled && is_of_the_sdk(name) {
            true => None,
            false => lookup(name),
        };
        let vars = Vars { lookup: &used };
        let logs_batch = vars.batch("BLRP", 1000, "TELEMETRY_LOG_QUEUE_BYTES", 16 * MIB)?;
        let traces_batch = vars.batch("BSP", 5000, "TELEMETRY_SPAN_QUEUE_BYTES", 32 * MIB)?;
        let metric_timeout = vars.millis("OTEL_METRIC_EXPORT_TIMEOUT", 30_000)?;
        let metrics = vars.list(
            "OTEL_METRICS_EXPORTER",
            "otlp",
            &["otlp", "prometheus", "none"],
        )?;
        let propagators = vars.list(
            "OTEL_PROPAGATORS",
            "tracecontext,baggage",
            &["tracecontext", "baggage", "none"],
        )?;
        let profiles = vars.list("PYROSCOPE_PROFILES", "cpu,heap", &["cpu", "heap", "none"])?;
        let length = vars.optional_number("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT")?;
        let count = vars.number("OTEL_ATTRIBUTE_COUNT_LIMIT", 0..=u32::MAX, 128)?;
        let limit = |name| vars.number(name, 0..=u32::MAX, 128);
        let temporality = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
        let aggregation = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
        let has = |list: &[String], value: &str| list.iter().any(|item| item == value);
        let destination = |signal, path, longest| match disabled {
            true => Ok(None),
            false => vars.exporter(signal, path, longest),
        };
        let exporters = [("direct", Exporter::Direct), ("stock", Exporter::Stock)];
        let exporter = vars.choice("TELEMETRY_EXPORTER", &exporters)?;

        Ok(Self {
            identity,
            disabled,
            warnings,
            resource: vars.resource()?,
            propagators: Propagators {
                trace_context: has(&propagators, "tracecontext"),
                baggage: has(&propagators, "baggage"),
            },
            traces: Traces {
                otlp: destination("TRACES", "traces", traces_batch.timeout)?,
                exporter,
                sampler: vars.choice(
                    "OTEL_TRACES_SAMPLER",
                    &[
                        ("parentbased_always_on", Sampler::ParentBasedAlwaysOn),
                        ("parentbased_always_off", Sampler::ParentBasedAlwaysOff),
                        ("parentbased_traceidratio", Sampler::ParentBasedTraceIdRatio),
                        ("always_on", Sampler::AlwaysOn),
                        ("always_off", Sampler::AlwaysOff),
                        ("traceidratio", Sampler::TraceIdRatio),
                    ],
                )?,
                sampler_ratio: vars.number("OTEL_TRACES_SAMPLER_ARG", 0.0..=1.0, 1.0)?,
                batch: traces_batch,
                attribute_length: vars
                    .optional_number("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT")?
                    .or(length),
                attribute_count: vars.number(
                    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
                    0..=u32::MAX,
                    count,
                )?,
                event_count: limit("OTEL_SPAN_EVENT_COUNT_LIMIT")?,
                link_count: limit("OTEL_SPAN_LINK_COUNT_LIMIT")?,
                event_attribute_count: limit("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT")?,
                link_attribute_count: limit("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT")?,
            },
            metrics: Metrics {
                otlp: if has(&metrics, "otlp") && !disabled {
                    Some(vars.otlp("METRICS", "metrics", metric_timeout)?)
                } else {
                    None
                },
                pull: has(&metrics, "otlp") || has(&metrics, "prometheus"),
                interval: vars.millis("OTEL_METRIC_EXPORT_INTERVAL", 60_000)?,
                temporality: vars.choice(
                    temporality,
                    &[
                        ("cumulative", Temporality::Cumulative),
                        ("delta", Temporality::Delta),
                        ("lowmemory", Temporality::LowMemory),
                    ],
                )?,
                exponential: vars.choice(
                    aggregation,
                    &[
                        ("explicit_bucket_histogram", false),
                        ("base2_exponential_bucket_histogram", true),
                    ],
                )?,
                exemplars: vars.choice(
                    "OTEL_METRICS_EXEMPLAR_FILTER",
                    &[("trace_based", true), ("always_off", false)],
                )?,
            },
            logs: Logs {
                otlp: destination("LOGS", "logs", logs_batch.timeout)?,
                exporter,
                batch: logs_batch,
                attribute_length: vars
                    .optional_number("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT")?
                    .or(length),
                attribute_count: vars.number(
                    "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT",
                    0..=u32::MAX,
                    count,
                )? as usize,
                stdout: vars.choice(
                    "LOG_FORMAT",
                    &[
                        ("json", LogFormat::Json),
                        ("human", LogFormat::Human),
                        ("off", LogFormat::Off),
                    ],
                )?,
                filter: vars.filter()?,
            },
            profiles: Profiles {
                url: vars.url("PYROSCOPE_SERVER_ADDRESS")?,
                cpu: has(&profiles, "cpu"),
                heap: has(&profiles, "heap"),
                interval: Duration::from_secs(vars.number(
                    "PYROSCOPE_UPLOAD_INTERVAL",
                    1..=60,
                    10,
                )?),
                sample_rate: vars.number("PYROSCOPE_SAMPLE_RATE", 1..=1000, 100)?,
            },
            #[cfg(feature = "http-core")]
            http: vars.http()?,
        })
    }
}

/// What `read` makes of the process environment, unless a variable that it looks up is no text.
///
/// # Errors
/// That of `read`, or the name of that variable.
pub fn from_environment<T>(
    read: impl FnOnce(&dyn Fn(&str) -> Option<String>) -> Result<T, SettingError>,
) -> Result<T, SettingError> {
    let no_text = RefCell::new(None);
    let result = read(&|name| {
        let value = std::env::var_os(name)?.into_string();
        // The value may be a credential.
        value
            .map_err(|_| no_text.replace(Some(wrong(name, "***", "text in UTF-8"))))
            .ok()
    });
    no_text.take().map_or(result, Err)
}

/// Whether a variable means nothing where `OTEL_SDK_DISABLED` is true: lines on stdout and the resource stay.
fn is_of_the_sdk(name: &str) -> bool {
    const FAMILIES: [&str; 12] = [
        "OTEL_TRACES_",
        "OTEL_METRIC",
        "OTEL_LOGS_",
        "OTEL_EXPORTER_",
        "OTEL_BSP_",
        "OTEL_SPAN_",
        "OTEL_EVENT_",
        "OTEL_LINK_",
        "OTEL_PROPAGATORS",
        "PYROSCOPE_",
        "TELEMETRY_EXPORTER",
        "TELEMETRY_SPAN_",
    ];
    FAMILIES.iter().any(|family| name.starts_with(family))
}

/// Typed access to the variables.
struct Vars<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

fn wrong(name: &str, value: &str, allowed: impl Into<String>) -> SettingError {
    SettingError::new(name, value, allowed)
}

impl Vars<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.lookup)(name)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    }

    /// The first that is set of the signal's own variable and the one for all signals.
    fn of_signal(&self, signal: &str, suffix: &str) -> Option<(String, String)> {
        [
            format!("OTEL_EXPORTER_OTLP_{signal}_{suffix}"),
            format!("OTEL_EXPORTER_OTLP_{suffix}"),
        ]
        .into_iter()
        .find_map(|name| self.get(&name).map(|value| (name, value)))
    }

    /// `true` in any case; everything else is `false`, with a warning unless it says so:
    /// <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#boolean>
    fn boolean(&self, name: &str, warnings: &mut Vec<String>) -> bool {
        let value = self.get(name).unwrap_or_default();
        if !["", "true", "false"].contains(&value.to_lowercase().as_str()) {
            warnings.push(format!(
                "{}; taken as false",
                wrong(name, &value, "true, false")
            ));
        }
        value.eq_ignore_ascii_case("true")
    }

    /// One of `choices`; the first is the default. The specification asks for case-insensitive values.
    fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<T, SettingError> {
        let Some(value) = self.get(name) else {
            return Ok(choices[0].1);
        };
        choices
            .iter()
            .find(|(choice, _)| choice.eq_ignore_ascii_case(&value))
            .map(|(_, result)| *result)
            .ok_or_else(|| {
                let names: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
                wrong(name, &value, format!("one of {}", names.join(", ")))
            })
    }

    /// A comma-separated list of `allowed`, in which `none` stands alone.
    fn list(
        &self,
        name: &str,
        default: &str,
        allowed: &[&str],
    ) -> Result<Vec<String>, SettingError> {
        let value = self.get(name).unwrap_or_else(|| default.to_owned());
        let items: Vec<_> = value
            .split(',')
            .map(|item| item.trim().to_lowercase())
            .collect();
        let known = items.iter().all(|item| allowed.contains(&item.as_str()));
        let lone_none = items.len() == 1 || !items.iter().any(|item| item == "none");
        if known && lone_none {
            return Ok(items);
        }
        Err(wrong(
            name,
            &value,
            format!("a list of {}; none stands alone", allowed.join(", ")),
        ))
    }

    fn number<T>(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<T>,
        default: T,
    ) -> Result<T, SettingError>
    where
        T: FromStr + PartialOrd + std::fmt::Display + Copy,
    {
        let Some(value) = self.get(name) else {
            return Ok(default);
        };
        value
            .parse()
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (from, to) = (range.start(), range.end());
                wrong(name, &value, format!("a number from {from} to {to}"))
            })
    }

    fn optional_number(&self, name: &str) -> Result<Option<usize>, SettingError> {
        match self.get(name) {
            Some(_) => self.number(name, 0..=u32::MAX as usize, 0).map(Some),
            None => Ok(None),
        }
    }

    fn millis(&self, name: &str, default: u64) -> Result<Duration, SettingError> {
        self.number(name, 1..=86_400_000, default)
            .map(Duration::from_millis)
    }

    #[cfg(feature = "http-core")]
    fn http(&self) -> Result<Http, SettingError> {
        let items = |name| {
            let value = self.get(name).unwrap_or_default();
            let items = value.split(',').map(|item| item.trim().to_owned());
            items.filter(|item| !item.is_empty()).collect::<Vec<_>>()
        };
        let name = "TELEMETRY_TRUSTED_PROXIES";
        let network = |item: &String| {
            let address = item.parse().map(|address: IpAddr| IpNet::from(address));
            let network = address.or_else(|_| item.parse());
            network.map_err(|_| wrong(name, item, "addresses and networks, as 10.0.0.0/8,::1"))
        };
        Ok(Http {
            trusted_proxies: items(name).iter().map(network).collect::<Result<_, _>>()?,
            redaction: Redaction::new(items("TELEMETRY_REDACTED_QUERY_PARAMETERS")),
        })
    }

    /// The batch of a processor: `BSP` for spans, `BLRP` for records.
    fn batch(
        &self,
        kind: &str,
        delay: u64,
        bytes: &str,
        default: usize,
    ) -> Result<Batch, SettingError> {
        let items = format!("OTEL_{kind}_MAX_QUEUE_SIZE");
        let size = format!("OTEL_{kind}_MAX_EXPORT_BATCH_SIZE");
        let queue_items = match self.get(&items) {
            Some(_) => self.number(&items, 1..=1_048_576, 0)?,
            None => usize::MAX,
        };
        Ok(Batch {
            delay: self.millis(&format!("OTEL_{kind}_SCHEDULE_DELAY"), delay)?,
            // A few spans with many attributes must fit.
            queue_bytes: self.number(bytes, 64 * 1024..=16 * MIB * 1024, default)?,
            queue_items,
            size: self.number(&size, 1..=queue_items.min(1_048_576), queue_items.min(2048))?,
            timeout: self.millis(&format!("OTEL_{kind}_EXPORT_TIMEOUT"), 30_000)?,
        })
    }

    fn exporter(
        &self,
        signal: &str,
        path: &str,
        longest: Duration,
    ) -> Result<Option<Otlp>, SettingError> {
        let name = format!("OTEL_{signal}_EXPORTER");
        if self.choice(&name, &[("otlp", true), ("none", false)])? {
            return self.otlp(signal, path, longest).map(Some);
        }
        Ok(None)
    }

    fn otlp(&self, signal: &str, path: &str, longest: Duration) -> Result<Otlp, SettingError> {
        if let Some((name, _)) = self.of_signal(signal, "PROTOCOL") {
            self.choice(&name, &[("http/protobuf", ())])?;
        }
        let own_endpoint = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
        let endpoint = match self.url(&own_endpoint)? {
            Some(own) => own,
            None => self
                .url("OTEL_EXPORTER_OTLP_ENDPOINT")?
                .unwrap_or_else(|| SecretUrl::new("http://localhost:4318"))
                .with_path(&format!("/v1/{path}")),
        };
        let headers = match self.of_signal(signal, "HEADERS") {
            // The value may be a credential: the error names the variable alone.
            Some((name, value)) => pairs(&value)
                .filter(|pairs| pairs.iter().all(|(name, value)| fit_header(name, value)))
                .ok_or_else(|| wrong(&name, "***", "name=value,… (percent-encoded)"))?,
            None => Vec::new(),
        };
        let timeout = match self.of_signal(signal, "TIMEOUT") {
            Some((name, _)) => self.millis(&name, 0)?,
            None => Duration::from_secs(10),
        };
        let gzip = match self.of_signal(signal, "COMPRESSION") {
            Some((name, _)) => self.choice(&name, &[("none", false), ("gzip", true)])?,
            None => false,
        };
        let key = self.file(signal, "CLIENT_KEY")?;
        let client = self.file(signal, "CLIENT_CERTIFICATE")?;
        let client_identity = match (key, client) {
            (Some((_, key)), Some((_, client))) => Some((key, client)),
            (None, None) => None,
            (Some((name, file)), None) | (None, Some((name, file))) => {
                let value = file.display().to_string();
                return Err(wrong(
                    &name,
                    &value,
                    "CLIENT_KEY and CLIENT_CERTIFICATE, both or neither",
                ));
            }
        };
        Ok(Otlp {
            endpoint,
            headers,
            timeout: timeout.min(longest),
            gzip,
            certificate: self.file(signal, "CERTIFICATE")?.map(|(_, file)| file),
            client_identity,
        })
    }

    fn file(&self, signal: &str, suffix: &str) -> Result<Option<(String, PathBuf)>, SettingError> {
        let Some((name, value)) = self.of_signal(signal, suffix) else {
            return Ok(None);
        };
        let file = PathBuf::from(&value);
        if file.is_file() {
            return Ok(Some((name, file)));
        }
        Err(wrong(&name, &value, "the path of a PEM file"))
    }

    fn url(&self, name: &str) -> Result<Option<SecretUrl>, SettingError> {
        let Some(value) = self.get(name).map(SecretUrl::from) else {
            return Ok(None);
        };
        match reqwest::Url::parse(value.expose()) {
            Ok(url)
                if ["http", "https"].contains(&url.scheme())
                    && url.has_host()
                    && url.fragment().is_none() =>
            {
                Ok(Some(value))
            }
            _ => Err(wrong(
                name,
                &value.to_string(),
                "an http:// or https:// URL without fragment",
            )),
        }
    }

    fn resource(&self) -> Result<BTreeMap<String, String>, SettingError> {
        let name = "OTEL_RESOURCE_ATTRIBUTES";
        let mut resource: BTreeMap<_, _> = match self.get(name) {
            Some(value) => pairs(&value)
                .and_then(|pairs| {
                    let decoded = pairs.into_iter();
                    decoded
                        .map(|(key, value)| Some((percent_decode(&key)?, value)))
                        .collect()
                })
                .ok_or_else(|| wrong(name, &value, "key=value,… (percent-encoded)"))?,
            None => BTreeMap::new(),
        };
        // An empty name is no name: the program's own stands in.
        resource.retain(|key, value| key != "service.name" || !value.trim().is_empty());
        if let Some(service) = self.get("OTEL_SERVICE_NAME") {
            resource.insert("service.name".to_owned(), service);
        }
        Ok(resource)
    }

    fn filter(&self) -> Result<Targets, SettingError> {
        let value = self.get("RUST_LOG").unwrap_or_else(|| "info".to_owned());
        let refused = || {
            let allowed = "a level (off, error, warn, info, debug, trace) or target=level,…";
            wrong("RUST_LOG", &value, allowed)
        };
        // `Targets` takes an empty part for the level ERROR of everything.
        let parts = value.split(',').map(str::trim);
        let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
        let filter: Targets = parts.join(",").parse().map_err(|_| refused())?;
        // It reads "bananas" as a target to be traced in full; a lone word that is no level is a mistake. Spans and fields
        // in brackets, which other filters know, are a target's name to it.
        let lone = |part: &str| !part.contains(['=', ':', '_']);
        let no_level = |part: &str| part.parse::<LevelFilter>().is_err();
        let mistaken = parts.len() == 1 && lone(parts[0]) && no_level(parts[0]);
        if parts.is_empty() || mistaken || value.contains(['[', '{']) {
            return Err(refused());
        }
        Ok(filter)
    }
}

/// `key=value,…` with percent-encoded values, as in W3C baggage. `None` when a part is no pair.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (key, value) = part.split_once('=')?;
            let key = key.trim();
            (!key.is_empty()).then_some(())?;
            Some((key.to_owned(), percent_decode(value.trim())?))
        })
        .collect()
}

/// `None` where a `%` is not followed by two digits, or the bytes are no text.
fn percent_decode(text: &str) -> Option<String> {
    let digits = |rest: &str| {
        let two = rest.as_bytes().get(..2);
        two.is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    };
    text.split('%').skip(1).all(digits).then_some(())?;
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.ok().map(std::borrow::Cow::into_owned)
}

fn fit_header(name: &str, value: &str) -> bool {
    reqwest::header::HeaderName::from_str(name).is_ok()
        && reqwest::header::HeaderValue::from_str(value).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::IDENTITY;

    fn read(vars: &[(&str, &str)]) -> Result<Settings, SettingError> {
        Settings::from_lookup(IDENTITY, |name| {
            vars.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn defaults_are_those_of_the_specification() {
        let settings = read(&[]).unwrap();
        let traces = settings.traces.otlp.unwrap();
        assert_eq!(traces.endpoint.expose(), "http://localhost:4318/v1/traces");
        assert_eq!(traces.timeout, Duration::from_secs(10));
        assert_eq!(settings.traces.sampler, Sampler::ParentBasedAlwaysOn);
        assert_eq!(settings.traces.batch.delay, Duration::from_secs(5));
        assert_eq!(settings.logs.batch.delay, Duration::from_secs(1));
        assert_eq!(settings.traces.batch.queue_bytes, 32 * MIB);
        assert_eq!(settings.logs.batch.queue_bytes, 16 * MIB);
        assert_eq!(settings.traces.batch.queue_items, usize::MAX);
        assert_eq!(settings.traces.batch.size, 2048);
        assert_eq!(settings.metrics.interval, Duration::from_secs(60));
        assert_eq!(settings.metrics.temporality, Temporality::Cumulative);
        assert!(settings.propagators.trace_context && settings.propagators.baggage);
        assert_eq!(settings.traces.attribute_length, None);
        assert_eq!(settings.traces.attribute_count, 128);
        assert!(settings.profiles.url.is_none());
        assert!(!settings.disabled);
    }

    #[test]
    fn a_signal_s_own_variable_wins_and_keeps_its_path() {
        let settings = read(&[
            (
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                "https://collector:4318/base/",
            ),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://logs:1/in"),
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "authorization=Basic%20eA==,x-scope=a",
            ),
            ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "x-scope=b"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "3000"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "500"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "none"),
        ])
        .unwrap();
        let (traces, metrics, logs) = (
            settings.traces.otlp.unwrap(),
            settings.metrics.otlp.unwrap(),
            settings.logs.otlp.unwrap(),
        );
        assert_eq!(
            traces.endpoint.expose(),
            "https://collector:4318/base/v1/traces"
        );
        assert_eq!(logs.endpoint.expose(), "http://logs:1/in");
        assert_eq!(
            traces.headers,
            [
                ("authorization".to_owned(), "Basic eA==".to_owned()),
                ("x-scope".to_owned(), "a".to_owned())
            ]
        );
        assert_eq!(metrics.headers, [("x-scope".to_owned(), "b".to_owned())]);
        assert_eq!(traces.timeout, Duration::from_millis(500));
        assert_eq!(logs.timeout, Duration::from_secs(3));
        assert!(traces.gzip && !logs.gzip);
        assert!(!format!("{traces:?}").contains("Basic"));
    }

    #[test]
    fn each_signal_is_switched_off_alone() {
        let settings = read(&[("OTEL_TRACES_EXPORTER", "none")]).unwrap();
        assert!(settings.traces.otlp.is_none() && settings.logs.otlp.is_some());
        let settings = read(&[("OTEL_LOGS_EXPORTER", "none")]).unwrap();
        assert!(settings.logs.otlp.is_none() && settings.metrics.otlp.is_some());
        let settings = read(&[("OTEL_METRICS_EXPORTER", "prometheus")]).unwrap();
        assert!(settings.metrics.otlp.is_none() && settings.metrics.pull);
        let settings = read(&[("OTEL_METRICS_EXPORTER", "none")]).unwrap();
        assert!(settings.metrics.otlp.is_none() && !settings.metrics.pull);
        let settings = read(&[("PYROSCOPE_PROFILES", "heap")]).unwrap();
        assert!(settings.profiles.heap && !settings.profiles.cpu);
    }

    #[test]
    fn the_service_name_is_laid_over_the_resource_attributes() {
        let settings = read(&[
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.name=a,deployment.environment.name=test%2C1",
            ),
            ("OTEL_SERVICE_NAME", "b"),
        ])
        .unwrap();
        assert_eq!(settings.resource["service.name"], "b");
        assert_eq!(settings.resource["deployment.environment.name"], "test,1");
    }

    #[test]
    fn a_wrong_value_is_named_with_what_is_allowed() {
        for (name, value, allowed) in [
            (
                "OTEL_TRACES_SAMPLER",
                "jaeger_remote",
                "one of parentbased_always_on",
            ),
            ("OTEL_TRACES_SAMPLER_ARG", "2", "from 0 to 1"),
            ("OTEL_TRACES_EXPORTER", "zipkin", "one of otlp, none"),
            ("OTEL_PROPAGATORS", "none,baggage", "none stands alone"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "http://"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "none, gzip"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "no-such-file", "PEM file"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "from 1"),
            ("OTEL_METRICS_EXEMPLAR_FILTER", "always_on", "trace_based"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a", "key=value"),
            ("PYROSCOPE_SERVER_ADDRESS", "here:4040", "http://"),
            ("LOG_FORMAT", "xml", "json, human, off"),
            ("RUST_LOG", "bananas", "a level"),
            ("RUST_LOG", "info,shop[span]=debug", "a level"),
            ("RUST_LOG", ",", "a level"),
        ] {
            let error = read(&[(name, value)]).unwrap_err();
            assert_eq!((error.name.as_str(), error.value.as_str()), (name, value));
            assert!(error.allowed.contains(allowed), "{name}: {}", error.allowed);
        }
        let secret = read(&[("OTEL_EXPORTER_OTLP_HEADERS", "secret")]).unwrap_err();
        assert!(!secret.to_string().contains("secret"));
    }

    #[test]
    fn a_path_is_added_before_the_query_of_an_endpoint() {
        for (base, traces) in [
            (
                "http://c:4318/?tenant=a",
                "http://c:4318/v1/traces?tenant=a",
            ),
            (
                "http://c:4318/base/?t=a/b",
                "http://c:4318/base/v1/traces?t=a/b",
            ),
            ("http://c?t=a", "http://c/v1/traces?t=a"),
            ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
        ] {
            let settings = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", base)]).unwrap();
            assert_eq!(settings.traces.otlp.unwrap().endpoint.expose(), traces);
        }
        // A signal's own endpoint stays as it is, but for what could never arrive.
        let own = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        let settings = read(&[(own, "http://c/in?t=a")]).unwrap();
        let endpoint = settings.traces.otlp.unwrap().endpoint;
        assert_eq!(endpoint.expose(), "http://c/in?t=a");
        for name in [
            own,
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "PYROSCOPE_SERVER_ADDRESS",
        ] {
            let error = read(&[(name, "http://c:4318/#a")]).unwrap_err();
            assert!(error.allowed.contains("without fragment"), "{error}");
        }
    }

    #[test]
    fn credentials_in_a_url_are_never_printed() {
        let name = "OTEL_EXPORTER_OTLP_ENDPOINT";
        for name in [
            name,
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
            "PYROSCOPE_SERVER_ADDRESS",
        ] {
            for (wrong, shown) in [
                ("ftp://u:secret@c", "ftp://***@c"),
                ("http://u:sec/ret@c", "http://***@c"),
                ("u:secret@c:4318", "***@c:4318"),
                ("secret", "***"),
            ] {
                let error = read(&[(name, wrong)]).unwrap_err();
                assert_eq!(error.value, shown);
                assert!(!error.to_string().contains("sec"), "{error}");
            }
            let settings = read(&[(name, "http://u:secret@c?key=secret")]).unwrap();
            assert!(!format!("{settings:?}").contains("secret"), "{settings:?}");
        }
    }

    #[test]
    fn a_credential_in_another_s_variable_is_never_printed() {
        for (name, wrong) in [
            ("OTEL_BSP_SCHEDULE_DELAY", "redis://u:secret@c"),
            (
                "OTEL_EXPORTER_OTLP_CLIENT_KEY",
                "-----BEGIN PRIVATE KEY-----\nsecret",
            ),
        ] {
            let error = read(&[(name, wrong)]).unwrap_err();
            assert_eq!(error.name, name);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_boolean_that_is_neither_is_false_with_a_warning() {
        for value in ["1", "yes", "on", "truee"] {
            let settings = read(&[("OTEL_SDK_DISABLED", value)]).unwrap();
            assert!(!settings.disabled);
            let said = format!(
                "OTEL_SDK_DISABLED={value} is not allowed; allowed: true, false; taken as false"
            );
            assert_eq!(settings.warnings, [said]);
        }
        for (value, disabled) in [("TRUE", true), ("False", false), (" ", false)] {
            let settings = read(&[("OTEL_SDK_DISABLED", value)]).unwrap();
            assert_eq!((settings.disabled, settings.warnings), (disabled, vec![]));
        }
    }

    #[test]
    fn values_are_compared_without_case() {
        let settings = read(&[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "HTTP/Protobuf"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "GZIP"),
            ("OTEL_TRACES_SAMPLER", "Always_Off"),
            ("OTEL_TRACES_EXPORTER", "OTLP"),
            ("OTEL_METRICS_EXPORTER", "Prometheus"),
            ("OTEL_PROPAGATORS", "TraceContext"),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "DELTA"),
            ("OTEL_METRICS_EXEMPLAR_FILTER", "Always_Off"),
            ("PYROSCOPE_PROFILES", "CPU"),
            ("LOG_FORMAT", "Human"),
            ("RUST_LOG", "WARN"),
        ])
        .unwrap();
        assert!(settings.traces.otlp.unwrap().gzip);
        assert_eq!(settings.traces.sampler, Sampler::AlwaysOff);
        assert!(settings.metrics.otlp.is_none() && settings.metrics.pull);
        assert!(settings.propagators.trace_context && !settings.propagators.baggage);
        assert_eq!(settings.metrics.temporality, Temporality::Delta);
        assert!(!settings.metrics.exemplars);
        assert!(settings.profiles.cpu && !settings.profiles.heap);
        assert_eq!(settings.logs.stdout, LogFormat::Human);
        let untidy = read(&[("RUST_LOG", "info,, shop=debug, ")]).unwrap();
        assert_eq!(untidy.logs.filter, "info,shop=debug".parse().unwrap());
        assert!(read(&[("OTEL_SDK_DISABLED", "TRUE")]).unwrap().disabled);
    }

    #[test]
    fn what_is_not_used_stops_nobody() {
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        let file = ("OTEL_EXPORTER_OTLP_CERTIFICATE", "no-such-file");
        let disabled = read(&[("OTEL_SDK_DISABLED", "true"), grpc, file]).unwrap();
        assert!(disabled.disabled && disabled.metrics.otlp.is_none());
        for (name, value) in [
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_METRICS_EXPORTER", "console"),
            ("OTEL_METRICS_EXEMPLAR_FILTER", "always_on"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "1m"),
            ("OTEL_PROPAGATORS", "b3"),
            ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
            ("OTEL_SPAN_LINK_COUNT_LIMIT", "many"),
            ("PYROSCOPE_SERVER_ADDRESS", "nowhere"),
            ("PYROSCOPE_PROFILES", "wall"),
        ] {
            assert_eq!(read(&[(name, value)]).unwrap_err().name, name);
            read(&[("OTEL_SDK_DISABLED", "true"), (name, value)]).unwrap();
        }
        let lines = [("OTEL_SDK_DISABLED", "true"), ("LOG_FORMAT", "paper")];
        assert_eq!(read(&lines).unwrap_err().name, "LOG_FORMAT");
        read(&[
            grpc,
            ("OTEL_TRACES_EXPORTER", "none"),
            ("OTEL_METRICS_EXPORTER", "none"),
            ("OTEL_LOGS_EXPORTER", "none"),
        ])
        .unwrap();
        assert_eq!(
            read(&[grpc]).unwrap_err().name,
            "OTEL_EXPORTER_OTLP_PROTOCOL"
        );
    }

    #[test]
    fn resource_attributes_are_percent_decoded_and_an_empty_name_is_none() {
        let resource =
            |value| read(&[("OTEL_RESOURCE_ATTRIBUTES", value)]).map(|settings| settings.resource);
        let decoded = resource("a%20b=c%3Dd,service.name=,team=").unwrap();
        assert_eq!(decoded["a b"], "c=d");
        assert_eq!(
            decoded["team"], "",
            "only the service's name may not be empty"
        );
        assert_eq!(decoded.get("service.name"), None);
        assert_eq!(
            resource("service.name=%20").unwrap().get("service.name"),
            None
        );
        assert!(resource("a%2=b").is_err() && resource("%ff=b").is_err());
    }

    #[test]
    fn an_empty_value_is_an_absent_one() {
        assert!(!read(&[("OTEL_SDK_DISABLED", " ")]).unwrap().disabled);
    }

    #[cfg(feature = "http-core")]
    #[test]
    fn proxies_and_parameters_are_lists() {
        let lookup = |proxies: &'static str| {
            Settings::from_lookup(IDENTITY, move |name| match name {
                "TELEMETRY_TRUSTED_PROXIES" => Some(proxies.to_owned()),
                "TELEMETRY_REDACTED_QUERY_PARAMETERS" => Some("token, X-Key,".to_owned()),
                _ => None,
            })
        };
        let http = lookup("10.0.0.0/8, 192.0.2.1,::1").unwrap().http;
        let networks = ["10.0.0.0/8", "192.0.2.1/32", "::1/128"];
        assert_eq!(
            http.trusted_proxies,
            networks.map(|network| network.parse().unwrap())
        );
        assert_eq!(
            http.redaction.query("X-Key=1&token=2&q=3"),
            "X-Key=REDACTED&token=REDACTED&q=3"
        );
        let error = lookup("10.0.0.0/8,proxy.example").unwrap_err();
        assert_eq!(
            (error.name.as_str(), error.value.as_str()),
            ("TELEMETRY_TRUSTED_PROXIES", "proxy.example")
        );
    }
}
