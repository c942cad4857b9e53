//! Every setting of the service, read once from the environment at start.
//!
//! An empty variable counts as absent. A wrong value stops the start and says its name, its value and what is allowed.
//! The telemetry folder reads its own (`OTEL_*`, `PYROSCOPE_*`, `LOG_FORMAT`, `RUST_LOG`): see `telemetry::Settings`.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use crate::faults::plan::Plan;
use signalbox_telemetry as telemetry;
pub use signalbox_telemetry::{SecretUrl, SettingError};

/// What this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The API that users call.
    Api,
    /// What the API calls and hands jobs to.
    Worker,
}

impl Role {
    /// `service.name` of the process.
    pub const fn service_name(self) -> &'static str {
        match self {
            Self::Api => "signalbox-api",
            Self::Worker => "signalbox-worker",
        }
    }
}

/// Where a process takes its listening socket from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// It binds this address itself.
    Address(SocketAddr),
    /// Whoever started it has bound the address and hands the socket over as standard input, as systemd does with
    /// `StandardInput=socket`. The starter knows the port and holds it from before the start, so it needs no word of it.
    Stdin,
}

impl FromStr for Listen {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "stdin" => Ok(Self::Stdin),
            address => address.parse().map(Self::Address).map_err(|_| ()),
        }
    }
}

impl Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Stdin => f.write_str("stdin"),
        }
    }
}

/// All settings of one process.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What this process is; from the command line.
    pub role: Role,
    /// `SIGNALBOX_LISTEN` (API, default `127.0.0.1:18080`) or `SIGNALBOX_WORKER_LISTEN` (worker, default
    /// `127.0.0.1:18081`): address and port to listen on. Port 0 takes a free one; the start-up record says which.
    /// `stdin` takes standard input, which must be a socket that listens already.
    pub listen: Listen,
    /// `SIGNALBOX_HTTP_THREADS`: threads that serve requests, 1 to 256. Absent: one per processor.
    pub http_threads: usize,
    /// `SIGNALBOX_SHUTDOWN_TIMEOUT_S`: seconds that requests and jobs in flight have after SIGTERM, 1 to 60. Default 2.
    pub shutdown_timeout: Duration,
    /// `SIGNALBOX_FLUSH_TIMEOUT_MS`: milliseconds that all signals together have to be flushed, 100 to 60000. Default 2000.
    pub flush_timeout: Duration,
    /// What a caller may ask for.
    pub limits: Limits,
    /// Where orders are kept. Only the API opens it.
    pub database: Database,
    /// Where prices are remembered.
    pub cache: Cache,
    /// `REDIS_URL`: `redis://` URL of the cache and of the job stream. Absent: cache in the process, jobs by HTTP.
    pub redis_url: Option<SecretUrl>,
    /// `SIGNALBOX_REDIS_TIMEOUT_MS`: milliseconds for a connection to and for an answer from Redis, 10 to 10000. Default 200.
    pub redis_timeout: Duration,
    /// `SIGNALBOX_WORKER_URL`: base URL of the worker. Default `http://127.0.0.1:18081`.
    pub worker_url: SecretUrl,
    /// `SIGNALBOX_WORKER_TIMEOUT_MS`: milliseconds for one call of the worker, 10 to 60000. Default 1000.
    pub worker_timeout: Duration,
    /// How jobs are held and done.
    pub queue: Queue,
    /// `SIGNALBOX_CLIENT_IDS`: comma-separated client ids that appear in the signals, at most 64 of `[A-Za-z0-9_-]{1,32}`.
    /// Default `11111,22222,33333`. Every other id is recorded as `other`, so that callers cannot invent attribute values.
    pub client_ids: ClientIds,
    /// Faults injected into every request that does not ask for its own. Absent: none.
    pub faults: Plan,
    /// Where the signals of a request can be looked at.
    pub links: Links,
    /// `SIGNALBOX_FARO_URL`: where the console page sends what the browser sees, in Faro's protocol. Absent: nowhere.
    pub faro_url: Option<SecretUrl>,
}

/// Bounds on what callers ask for.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `SIGNALBOX_MAX_BODY_BYTES`: bytes of a request body, 1024 to 16777216. Default 65536. Beyond: 413.
    pub body_bytes: usize,
    /// `SIGNALBOX_MAX_URI_BYTES`: bytes of path and query, 256 to 65536. Default 4096. Beyond: 414.
    pub uri_bytes: usize,
    /// `SIGNALBOX_MAX_HEADER_BYTES`: bytes of all header names and values, 1024 to 65536. Default 16384. Beyond: 431.
    /// The HTTP library itself answers 431, without a document, to more than 96 headers or 128 KiB.
    pub header_bytes: usize,
    /// `SIGNALBOX_MAX_CONCURRENT_REQUESTS`: requests in flight at once, 1 to 100000. Default 512. Beyond: 503.
    pub concurrent_requests: usize,
    /// `SIGNALBOX_MAX_CONNECTIONS`: open connections a thread, 16 to 100000. Default 4096. Beyond: not accepted yet.
    pub connections: usize,
    /// `SIGNALBOX_MAX_REQUESTS_PER_SECOND`: sustained rate, with one second's worth as burst, 1 to 1000000.
    /// Absent: no limit. Beyond: 429.
    pub requests_per_second: Option<u32>,
    /// `SIGNALBOX_REQUEST_TIMEOUT_MS`: milliseconds that one request may take, 50 to 120000. Default 10000. Beyond: 504.
    pub request_timeout: Duration,
    /// `SIGNALBOX_CPU_SLOTS`: CPU demos that burn at once, 1 to 256; others wait their turn. Absent: one per processor.
    pub cpu_slots: usize,
    /// `SIGNALBOX_MEMORY_BUDGET_MB`: mebibytes that all memory demos hold together, 1 to 65536. Default 256. Beyond: 503.
    pub memory_budget_mb: u32,
}

/// The database.
#[derive(Debug, Clone)]
pub struct Database {
    /// `DATABASE_URL`: `sqlite:` file, `postgres://` or `mysql://` URL (MySQL, MariaDB). Default `sqlite:data/signalbox.db` (made if missing).
    pub url: SecretUrl,
    /// `SIGNALBOX_DATABASE_CONNECTIONS`: connections at most, 2 to 100, and one more for readiness. Default 8.
    pub connections: u32,
    /// `SIGNALBOX_DATABASE_ACQUIRE_TIMEOUT_MS`: milliseconds to wait for a free connection, 10 to 60000. Default 1000.
    pub acquire_timeout: Duration,
    /// `SIGNALBOX_DATABASE_STATEMENT_TIMEOUT_MS`: milliseconds that one statement may take, 10 to 60000. Default 4000.
    pub statement_timeout: Duration,
    /// `SIGNALBOX_DATABASE_START_TIMEOUT_MS`: milliseconds that the start waits for a database that is away,
    /// 0 to 600000. Default 10000. Then the start fails and says why.
    pub start_timeout: Duration,
    /// `SIGNALBOX_DATABASE_MAX_MB`: mebibytes that SQLite's file may grow to, 1 to 1048576; what is beyond is answered 507.
    /// Absent: as large as its disk. Servers have bounds of their own.
    pub max_mb: Option<u32>,
    /// `SIGNALBOX_DATABASE_COMMENTS` (`true` or `false`, default `true`): statements of sampled requests name their span in
    /// an SQL comment, so that what PostgreSQL or MySQL shows of a session leads to its trace. SQLite has no use for it.
    pub comments: bool,
}

/// The cache.
#[derive(Debug, Clone)]
pub struct Cache {
    /// `SIGNALBOX_CACHE_ENTRIES`: entries of the in-process cache at most, 1 to 1000000. Default 1000.
    pub entries: u64,
    /// `SIGNALBOX_CACHE_TTL_MS`: milliseconds that an entry lives, 10 to 86400000. Default 5000: misses stay visible.
    pub ttl: Duration,
}

/// The worker's jobs.
#[derive(Debug, Clone)]
pub struct Queue {
    /// `SIGNALBOX_QUEUE_CAPACITY`: jobs that wait at most, 1 to 100000. Default 256. Beyond, the order is placed without
    /// its job and says so; by HTTP the worker answers 503.
    pub capacity: usize,
    /// `SIGNALBOX_JOB_CONCURRENCY`: jobs done at once, 1 to 64. Default 4.
    pub concurrency: usize,
}

/// URL templates; placeholders `{trace_id} {span_id} {service} {route} {request_id} {profile_id} {from_ms} {to_ms}`.
/// Each is absent by default: then the console shows the id and no link. The service knows no viewer.
#[derive(Clone, Default, Serialize, utoipa::ToSchema)]
pub struct Links {
    /// `SIGNALBOX_LINK_TRACE_URL`
    pub trace: Option<String>,
    /// `SIGNALBOX_LINK_LOGS_URL`
    pub logs: Option<String>,
    /// `SIGNALBOX_LINK_METRICS_URL`
    pub metrics: Option<String>,
    /// `SIGNALBOX_LINK_PROFILE_URL`: what the route burnt around that time.
    pub profile: Option<String>,
    /// `SIGNALBOX_LINK_SPAN_PROFILE_URL`: in its place where the answer names samples of its own, which is `{profile_id}`.
    pub span_profile: Option<String>,
}

impl Links {
    /// Each with its name.
    pub fn named(&self) -> [(&'static str, Option<&str>); 5] {
        [
            ("trace", self.trace.as_deref()),
            ("logs", self.logs.as_deref()),
            ("metrics", self.metrics.as_deref()),
            ("profile", self.profile.as_deref()),
            ("span_profile", self.span_profile.as_deref()),
        ]
    }
}

/// The page shows them whole; messages do not.
impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let links = self.named();
        let links = links.map(|(name, link)| (name, link.map(SecretUrl::from)));
        f.debug_map().entries(links).finish()
    }
}

/// The closed list of client ids.
#[derive(Debug, Clone)]
pub struct ClientIds(Vec<String>);

impl ClientIds {
    /// `id` if it is on the list, else `other`.
    pub fn admit<'a>(&'a self, id: Option<&str>) -> &'a str {
        id.and_then(|id| self.0.iter().find(|known| *known == id))
            .map_or("other", String::as_str)
    }
}

impl FromStr for ClientIds {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let ids: Vec<String> = text.split(',').map(|id| id.trim().to_owned()).collect();
        let fit = |id: &String| {
            (1..=32).contains(&id.len())
                && id
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
        };
        (ids.len() <= 64 && ids.iter().all(fit))
            .then_some(Self(ids))
            .ok_or(())
    }
}

impl Settings {
    /// Reads the process environment.
    pub fn from_env(role: Role) -> Result<Self, SettingError> {
        telemetry::from_environment(|lookup| Self::from_lookup(role, lookup))
    }

    /// Reads the telemetry's settings. Where `RUST_LOG` is absent the records of the log demo are kept whatever their
    /// level: it is there to show all five.
    pub fn telemetry(role: Role) -> Result<telemetry::Settings, SettingError> {
        let identity = telemetry::Identity {
            service_name: role.service_name(),
            service_namespace: "signalbox",
            service_version: env!("CARGO_PKG_VERSION"),
            metric_prefix: "signalbox",
            request_id_attribute: "signalbox.request.id",
        };
        telemetry::from_environment(|lookup| {
            telemetry::Settings::from_lookup(identity, |name| {
                let given = lookup(name).filter(|value| !value.trim().is_empty());
                given.or_else(|| (name == "RUST_LOG").then(|| LOG_FILTER.to_owned()))
            })
        })
    }

    /// Reads from `lookup` instead of the environment, for tests.
    pub fn from_lookup(
        role: Role,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingError> {
        let read = Reader(lookup);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let address = "an address and a port, such as 127.0.0.1:18080, or stdin";
        Ok(Self {
            role,
            listen: match role {
                Role::Api => read.parse("SIGNALBOX_LISTEN", "127.0.0.1:18080", address)?,
                Role::Worker => {
                    read.parse("SIGNALBOX_WORKER_LISTEN", "127.0.0.1:18081", address)?
                }
            },
            http_threads: read.number("SIGNALBOX_HTTP_THREADS", processors.min(256), 1..=256)?,
            shutdown_timeout: Duration::from_secs(read.number(
                "SIGNALBOX_SHUTDOWN_TIMEOUT_S",
                2,
                1..=60,
            )?),
            flush_timeout: read.millis("SIGNALBOX_FLUSH_TIMEOUT_MS", 2000, 100..=60_000)?,
            limits: Limits {
                body_bytes: read.number("SIGNALBOX_MAX_BODY_BYTES", 65_536, 1024..=16_777_216)?,
                uri_bytes: read.number("SIGNALBOX_MAX_URI_BYTES", 4096, 256..=65_536)?,
                header_bytes: read.number("SIGNALBOX_MAX_HEADER_BYTES", 16_384, 1024..=65_536)?,
                concurrent_requests: read.number(
                    "SIGNALBOX_MAX_CONCURRENT_REQUESTS",
                    512,
                    1..=100_000,
                )?,
                connections: read.number("SIGNALBOX_MAX_CONNECTIONS", 4096, 16..=100_000)?,
                requests_per_second: read
                    .optional_number("SIGNALBOX_MAX_REQUESTS_PER_SECOND", 1..=1_000_000)?,
                request_timeout: read.millis(
                    "SIGNALBOX_REQUEST_TIMEOUT_MS",
                    10_000,
                    50..=120_000,
                )?,
                cpu_slots: read.number("SIGNALBOX_CPU_SLOTS", processors.min(256), 1..=256)?,
                memory_budget_mb: read.number("SIGNALBOX_MEMORY_BUDGET_MB", 256, 1..=65_536)?,
            },
            database: Database {
                url: read.database()?,
                connections: read.number("SIGNALBOX_DATABASE_CONNECTIONS", 8, 2..=100)?,
                acquire_timeout: read.millis(
                    "SIGNALBOX_DATABASE_ACQUIRE_TIMEOUT_MS",
                    1000,
                    10..=60_000,
                )?,
                statement_timeout: read.millis(
                    "SIGNALBOX_DATABASE_STATEMENT_TIMEOUT_MS",
                    4000,
                    10..=60_000,
                )?,
                start_timeout: read.millis(
                    "SIGNALBOX_DATABASE_START_TIMEOUT_MS",
                    10_000,
                    0..=600_000,
                )?,
                max_mb: read.optional_number("SIGNALBOX_DATABASE_MAX_MB", 1..=1_048_576)?,
                comments: read.parse("SIGNALBOX_DATABASE_COMMENTS", "true", "true or false")?,
            },
            cache: Cache {
                entries: read.number("SIGNALBOX_CACHE_ENTRIES", 1000, 1..=1_000_000)?,
                ttl: read.millis("SIGNALBOX_CACHE_TTL_MS", 5000, 10..=86_400_000)?,
            },
            redis_url: read.url("REDIS_URL", &["redis://"], None)?,
            redis_timeout: read.millis("SIGNALBOX_REDIS_TIMEOUT_MS", 200, 10..=10_000)?,
            worker_url: read
                .url(
                    "SIGNALBOX_WORKER_URL",
                    &["http://", "https://"],
                    Some("http://127.0.0.1:18081"),
                )?
                .unwrap_or_default(),
            worker_timeout: read.millis("SIGNALBOX_WORKER_TIMEOUT_MS", 1000, 10..=60_000)?,
            queue: Queue {
                capacity: read.number("SIGNALBOX_QUEUE_CAPACITY", 256, 1..=100_000)?,
                concurrency: read.number("SIGNALBOX_JOB_CONCURRENCY", 4, 1..=64)?,
            },
            client_ids: read.parse(
                "SIGNALBOX_CLIENT_IDS",
                "11111,22222,33333",
                "at most 64 comma-separated ids of 1 to 32 letters, digits, _ or -",
            )?,
            faults: read.faults()?,
            links: Links {
                trace: read.link("SIGNALBOX_LINK_TRACE_URL")?,
                logs: read.link("SIGNALBOX_LINK_LOGS_URL")?,
                metrics: read.link("SIGNALBOX_LINK_METRICS_URL")?,
                profile: read.link("SIGNALBOX_LINK_PROFILE_URL")?,
                span_profile: read.link("SIGNALBOX_LINK_SPAN_PROFILE_URL")?,
            },
            faro_url: read.url("SIGNALBOX_FARO_URL", &["http://", "https://"], None)?,
        })
    }
}

/// `RUST_LOG` where it is absent.
const LOG_FILTER: &str = "info,actix_server=warn,signalbox::routes::demo::logs=trace";

/// Looks variables up and says what is allowed when one is wrong.
struct Reader<L>(L);

impl<L: Fn(&str) -> Option<String>> Reader<L> {
    fn text(&self, name: &str) -> Option<String> {
        (self.0)(name)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    }

    fn parse<T: FromStr>(
        &self,
        name: &str,
        default: &str,
        allowed: &str,
    ) -> Result<T, SettingError> {
        let value = self.text(name).unwrap_or_else(|| default.to_owned());
        value.parse().map_err(|_| wrong(name, &value, allowed))
    }

    fn optional_number<T>(
        &self,
        name: &str,
        range: RangeInclusive<T>,
    ) -> Result<Option<T>, SettingError>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => Err(wrong(
                name,
                &text,
                &format!("{} to {}", range.start(), range.end()),
            )),
        }
    }

    fn number<T>(&self, name: &str, default: T, range: RangeInclusive<T>) -> Result<T, SettingError>
    where
        T: FromStr + PartialOrd + Display,
    {
        Ok(self.optional_number(name, range)?.unwrap_or(default))
    }

    fn millis(
        &self,
        name: &str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<Duration, SettingError> {
        self.number(name, default, range).map(Duration::from_millis)
    }

    /// A URL that starts with one of `schemes`.
    fn url(
        &self,
        name: &str,
        schemes: &[&str],
        default: Option<&str>,
    ) -> Result<Option<SecretUrl>, SettingError> {
        let Some(url) = self.text(name).or(default.map(str::to_owned)) else {
            return Ok(None);
        };
        if schemes
            .iter()
            .any(|scheme| url.starts_with(scheme) && url.len() > scheme.len())
        {
            return Ok(Some(SecretUrl::new(url)));
        }
        Err(wrong(
            name,
            &SecretUrl::new(url).to_string(),
            &format!("a URL starting with {}", schemes.join(" or ")),
        ))
    }

    fn database(&self) -> Result<SecretUrl, SettingError> {
        const NAME: &str = "DATABASE_URL";
        let schemes = ["sqlite:", "postgres://", "postgresql://", "mysql://"];
        let url = self.url(NAME, &schemes, Some("sqlite:data/signalbox.db"))?;
        let url = url.unwrap_or_default();
        let whole = url.expose();
        if whole.contains(":memory:") || whole.contains("mode=memory") {
            // Each connection of the pool would have a database of its own.
            return Err(wrong(NAME, &url.to_string(), "a file, for SQLite"));
        }
        Ok(url)
    }

    /// A link template: an absolute http(s) URL or a path, with known placeholders only.
    fn link(&self, name: &str) -> Result<Option<String>, SettingError> {
        const PLACEHOLDERS: [&str; 8] = [
            "trace_id",
            "span_id",
            "service",
            "route",
            "request_id",
            "profile_id",
            "from_ms",
            "to_ms",
        ];
        let Some(template) = self.text(name) else {
            return Ok(None);
        };
        let absolute = ["http://", "https://", "/"]
            .iter()
            .any(|start| template.starts_with(start));
        let inner = template.split('{').skip(1);
        let mut inner = inner.map(|rest| rest.split('}').next().unwrap_or_default());
        let unknown = inner.find(|inner| {
            // A brace that opens no placeholder is text, as in the JSON that Grafana's Explore links carry.
            inner.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                && !inner.is_empty()
                && !PLACEHOLDERS.contains(inner)
        });
        if absolute && unknown.is_none() {
            return Ok(Some(template));
        }
        let mut allowed = format!(
            "an http(s) URL or a path, with placeholders of {{{}}}",
            PLACEHOLDERS.join("} {")
        );
        if let Some(unknown) = unknown {
            allowed.push_str(&format!(", not {{{unknown}}}"));
        }
        Err(wrong(name, &SecretUrl::new(template).to_string(), &allowed))
    }

    /// `SIGNALBOX_FAULT_LATENCY_MS`, `_ERROR_RATE`, `_SLOW_QUERY_MS`, `_LOCK_WAIT_MS`, `_LEAK_KB`, `_BLOCK_MS`: see [`Plan`].
    fn faults(&self) -> Result<Plan, SettingError> {
        Ok(Plan {
            latency_ms: self.number("SIGNALBOX_FAULT_LATENCY_MS", 0, 0..=Plan::MAX_LATENCY_MS)?,
            error_rate: self.number("SIGNALBOX_FAULT_ERROR_RATE", 0.0, 0.0..=1.0)?,
            slow_query_ms: self.number(
                "SIGNALBOX_FAULT_SLOW_QUERY_MS",
                0,
                0..=Plan::MAX_SLOW_QUERY_MS,
            )?,
            lock_wait_ms: self.number(
                "SIGNALBOX_FAULT_LOCK_WAIT_MS",
                0,
                0..=Plan::MAX_LOCK_WAIT_MS,
            )?,
            leak_kb: self.number("SIGNALBOX_FAULT_LEAK_KB", 0, 0..=Plan::MAX_LEAK_KB)?,
            block_ms: self.number("SIGNALBOX_FAULT_BLOCK_MS", 0, 0..=Plan::MAX_BLOCK_MS)?,
        })
    }
}

fn wrong(name: &str, value: &str, allowed: &str) -> SettingError {
    SettingError::new(name, value, allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, SettingError> {
        Settings::from_lookup(Role::Api, |name| {
            variables
                .iter()
                .find(|(variable, _)| *variable == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn defaults_need_no_server() {
        let settings = read(&[]).expect("defaults are allowed");
        assert_eq!(settings.listen.to_string(), "127.0.0.1:18080");
        let handed_over = read(&[("SIGNALBOX_LISTEN", "stdin")]).expect("stdin is allowed");
        assert_eq!(handed_over.listen, Listen::Stdin);
        assert_eq!(settings.database.url.expose(), "sqlite:data/signalbox.db");
        assert_eq!(settings.redis_url, None);
        assert_eq!(settings.faults, Plan::OFF);
        assert_eq!(settings.limits.request_timeout, Duration::from_secs(10));
    }

    #[test]
    fn wrong_values_name_the_variable_its_value_and_what_is_allowed() {
        let cases = [
            ("SIGNALBOX_LISTEN", "here", "127.0.0.1:18080"),
            ("SIGNALBOX_MAX_BODY_BYTES", "12", "1024 to 16777216"),
            ("SIGNALBOX_REQUEST_TIMEOUT_MS", "soon", "50 to 120000"),
            ("SIGNALBOX_FAULT_ERROR_RATE", "NaN", "0 to 1"),
            ("DATABASE_URL", "sqlite::memory:", "a file"),
            ("SIGNALBOX_CLIENT_IDS", "a b", "letters, digits"),
            ("SIGNALBOX_LINK_TRACE_URL", "http://x/{trace}", "{trace_id}"),
            ("SIGNALBOX_LINK_TRACE_URL", "grafana:3000", "http(s)"),
        ];
        for (name, value, allowed) in cases {
            let error = read(&[(name, value)]).expect_err(name);
            assert_eq!((error.name.as_str(), error.value.as_str()), (name, value));
            assert!(error.allowed.contains(allowed), "{name}: {}", error.allowed);
        }
    }

    /// Each variable that holds a URL, with a lawful beginning of one.
    const URLS: [(&str, &str); 9] = [
        ("DATABASE_URL", "postgres://"),
        ("REDIS_URL", "redis://"),
        ("SIGNALBOX_WORKER_URL", "http://"),
        ("SIGNALBOX_FARO_URL", "https://"),
        ("SIGNALBOX_LINK_TRACE_URL", "http://"),
        ("SIGNALBOX_LINK_LOGS_URL", "http://"),
        ("SIGNALBOX_LINK_METRICS_URL", "http://"),
        ("SIGNALBOX_LINK_PROFILE_URL", "http://"),
        ("SIGNALBOX_LINK_SPAN_PROFILE_URL", "http://"),
    ];

    #[test]
    fn a_wrong_url_is_refused_without_repeating_its_password() {
        for (name, _) in URLS {
            for wrong in [
                "oracle://u:tiger@db/x?key=tiger",
                "u:tiger@db",
                "gopher://tiger@h",
                "tiger",
                "javascript:tiger()",
            ] {
                let error = read(&[(name, wrong)]).expect_err(name).to_string();
                assert!(error.contains(name) && !error.contains("tiger"), "{error}");
            }
        }
        let error = read(&[("SIGNALBOX_LISTEN", "http://u:tiger@h")]).expect_err("refused");
        assert_eq!(error.value, "http://***@h");
        let error = read(&[("DATABASE_URL", "oracle://scott:tiger@db/x")]).expect_err("refused");
        assert_eq!(error.value, "oracle://***@db/x");
        let link = "http://u:tiger@x/?token=tiger&id={trace}";
        let error = read(&[("SIGNALBOX_LINK_TRACE_URL", link)])
            .expect_err("refused")
            .to_string();
        assert!(
            error.contains("not {trace}") && !error.contains("tiger"),
            "{error}"
        );
    }

    #[test]
    fn settings_are_printed_without_the_credentials_of_their_urls() {
        let urls =
            URLS.map(|(name, scheme)| (name, format!("{scheme}u:tiger@host/x?key=tiger#tiger")));
        let given: Vec<(&str, &str)> = urls
            .iter()
            .map(|(name, url)| (*name, url.as_str()))
            .collect();
        let settings = read(&given).expect("lawful");
        assert_eq!(
            settings.worker_url.expose(),
            "http://u:tiger@host/x?key=tiger#tiger"
        );
        assert_eq!(
            settings.links.logs.as_deref(),
            Some("http://u:tiger@host/x?key=tiger#tiger")
        );
        let printed = format!("{settings:?} {settings:#?}");
        assert!(
            printed.contains("***@host/x?***") && !printed.contains("tiger"),
            "{printed}"
        );
    }

    #[test]
    fn an_empty_variable_counts_as_absent() {
        let settings = read(&[("REDIS_URL", ""), ("SIGNALBOX_MAX_BODY_BYTES", " ")]);
        let settings = settings.expect("absent values are allowed");
        assert_eq!(
            (settings.redis_url, settings.limits.body_bytes),
            (None, 65_536)
        );
    }

    #[test]
    fn only_listed_client_ids_are_admitted() {
        let ids: ClientIds = "11111, 22222".parse().expect("fit ids");
        assert_eq!(ids.admit(Some("22222")), "22222");
        assert_eq!(ids.admit(Some("33333")), "other");
        assert_eq!(ids.admit(None), "other");
    }
}
