//! What each child is told: its arguments and its environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use tokio::process::Command;

/// Settings of an exporter lead elsewhere: those of one signal would outrank the common ones set here, headers and certificates can
/// be another backend's, and the viewer speaks one protocol. So none is handed on, but for these endings, which lead nowhere.
const EXPORT_SETTINGS: &str = "OTEL_EXPORTER_OTLP_";
const KEPT_EXPORT_SETTINGS: [&str; 4] = [
    "TEMPORALITY_PREFERENCE",
    "DEFAULT_HISTOGRAM_AGGREGATION",
    "COMPRESSION",
    "TIMEOUT",
];

/// What one process is called. Handed on, service and worker would be one: one service in the viewer, one series for both.
const NAME_OF_ONE: &str = "OTEL_SERVICE_NAME";
const ATTRIBUTES_OF_ONE: [&str; 2] = ["service.name", "service.instance.id"];

/// Set unless the caller has set them: what one request caused is to be seen within a second or two. Milliseconds.
const DEFAULTS: [(&str, &str); 4] = [
    ("OTEL_BSP_SCHEDULE_DELAY", "500"),
    ("OTEL_BLRP_SCHEDULE_DELAY", "500"),
    ("OTEL_METRIC_EXPORT_INTERVAL", "2000"),
    ("LOG_FORMAT", "human"),
];

const DEFAULT_ATTRIBUTES: &str = "deployment.environment.name=demo";

/// Bytes of a path that a URL may hold as they are.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

pub struct Plan {
    pub signalbox: PathBuf,
    pub lens: PathBuf,
    pub data_dir: PathBuf,
    /// That of the caller, from which the children's is made.
    pub environment: BTreeMap<OsString, OsString>,
}

impl Plan {
    pub fn logs(&self) -> PathBuf {
        self.data_dir.join("logs")
    }

    pub fn viewer(&self) -> Command {
        let mut command = Command::new(&self.lens);
        command.env("LENS_LISTEN", "stdin");
        self.default(&mut command, "LENS_DATA_DIR", self.data_dir.join("lens"));
        // In a checkout, flame graphs lead to its lines.
        if Path::new("Cargo.toml").is_file() {
            self.default(&mut command, "LENS_SOURCE_DIR", ".");
            // Where cargo puts its programs it says of what it made them.
            let programs = self.lens.parent().unwrap_or(Path::new("."));
            self.default(&mut command, "LENS_SOURCE_DEPS", programs);
        }
        command
    }

    pub fn worker(&self, viewer: &str) -> Command {
        let mut command = self.signalbox("worker", viewer);
        command.env("SIGNALBOX_WORKER_LISTEN", "stdin");
        command
    }

    pub fn service(&self, viewer: &str, worker: &str) -> Command {
        let mut command = self.signalbox("serve", viewer);
        command.env("SIGNALBOX_LISTEN", "stdin");
        command.env("SIGNALBOX_WORKER_URL", worker);
        self.default(&mut command, "DATABASE_URL", database_url(&self.data_dir));
        for (variable, template) in links(viewer) {
            command.env(variable, template);
        }
        command
    }

    /// Both roles send all four signals to the viewer.
    fn signalbox(&self, role: &str, viewer: &str) -> Command {
        let mut command = self.program(&self.signalbox, viewer, "");
        command.arg(role);
        command
    }

    /// A program that sends all four signals to the viewer. `attributes` are added to its resource: `name=value,…`.
    pub fn program(&self, program: &Path, viewer: &str, attributes: &str) -> Command {
        let mut command = Command::new(program);
        let own = attributes;
        let names = self.environment.keys();
        for name in names.filter(|name| is_of_another(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        let attributes = shared(self.text("OTEL_RESOURCE_ATTRIBUTES"));
        let attributes = [attributes.as_str(), own].join(",");
        command
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", viewer)
            .env("PYROSCOPE_SERVER_ADDRESS", viewer)
            .env("OTEL_RESOURCE_ATTRIBUTES", attributes.trim_matches(','));
        for (variable, value) in DEFAULTS {
            self.default(&mut command, variable, value);
        }
        // Programs read either spelling, and not all read the same one first.
        let hosts = no_proxy(self.text("NO_PROXY").or(self.text("no_proxy")));
        command.env("NO_PROXY", &hosts).env("no_proxy", hosts);
        command
    }

    /// The caller's value of a variable; an empty one counts as unset.
    fn text(&self, variable: &str) -> Option<String> {
        let value = self.environment.get(OsStr::new(variable))?;
        Some(value.to_string_lossy().into_owned()).filter(|value| !value.trim().is_empty())
    }

    fn default(&self, command: &mut Command, variable: &str, value: impl AsRef<OsStr>) {
        if self.text(variable).is_none() {
            command.env(variable, value);
        }
    }
}

/// The demo's database in a URL. Its path is made of components, because a URL that begins with `sqlite://` would lose two slashes.
pub fn database_url(data_dir: &Path) -> String {
    sqlite_url(data_dir, "signalbox.db")
}

/// The URL of a file of SQLite.
pub fn sqlite_url(folder: &Path, file: &str) -> String {
    let file: PathBuf = folder.join(file).components().collect();
    let path = percent_encode(file.as_os_str().as_encoded_bytes(), PATH);
    format!("sqlite:{path}")
}

/// Whether a variable would lead the telemetry elsewhere, or make one of two processes.
fn is_of_another(variable: &str) -> bool {
    let exports = variable.strip_prefix(EXPORT_SETTINGS);
    variable == NAME_OF_ONE
        || exports.is_some_and(|setting| {
            !KEPT_EXPORT_SETTINGS
                .iter()
                .any(|kept| setting.ends_with(kept))
        })
}

/// The caller's resource attributes, without those that only one process can have.
fn shared(attributes: Option<String>) -> String {
    let Some(attributes) = attributes else {
        return DEFAULT_ATTRIBUTES.to_owned();
    };
    let is_shared = |attribute: &&str| {
        let key = attribute.split('=').next().unwrap_or_default().trim();
        let key = percent_decode_str(key).decode_utf8_lossy();
        !ATTRIBUTES_OF_ONE.contains(&key.as_ref())
    };
    let kept: Vec<&str> = attributes.split(',').filter(is_shared).collect();
    kept.join(",")
}

/// The viewer's pages, as templates that the service fills in and hands out.
fn links(viewer: &str) -> [(&'static str, String); 5] {
    [
        (
            "SIGNALBOX_LINK_TRACE_URL",
            format!("{viewer}/traces/{{trace_id}}#span-{{span_id}}"),
        ),
        (
            "SIGNALBOX_LINK_LOGS_URL",
            format!("{viewer}/logs?trace_id={{trace_id}}"),
        ),
        (
            "SIGNALBOX_LINK_METRICS_URL",
            format!(
                "{viewer}/metrics?service={{service}}&name=http.server.request.duration&only=http.route%3D{{route}}"
            ),
        ),
        (
            "SIGNALBOX_LINK_PROFILE_URL",
            format!(
                "{viewer}/profiles?type=cpu&service={{service}}&from_ms={{from_ms}}&to_ms={{to_ms}}"
            ),
        ),
        (
            "SIGNALBOX_LINK_SPAN_PROFILE_URL",
            format!("{viewer}/profiles?type=cpu&service={{service}}&profile_id={{profile_id}}"),
        ),
    ]
}

/// The children speak to one another on this machine, whatever proxy the caller's shell is set to.
fn no_proxy(set: Option<String>) -> String {
    let local = "127.0.0.1,localhost,::1";
    match set.filter(|set| !set.is_empty()) {
        Some(set) => format!("{set},{local}"),
        None => local.to_owned(),
    }
}

/// An address to call, for one to listen on: `0.0.0.0` and `[::]` mean every interface, so the loopback one serves.
pub fn reachable(address: SocketAddr) -> String {
    match address.ip() {
        ip if ip.is_unspecified() => format!("127.0.0.1:{}", address.port()),
        _ => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a child of a caller with these variables is told: None for a variable that is taken from it.
    fn told(
        caller: &[(&str, &str)],
        data_dir: &str,
        child: impl Fn(&Plan) -> Command,
    ) -> BTreeMap<String, Option<String>> {
        let plan = Plan {
            signalbox: "signalbox".into(),
            lens: "lens".into(),
            data_dir: data_dir.into(),
            environment: caller
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        };
        let text = |value: &OsStr| value.to_string_lossy().into_owned();
        child(&plan)
            .as_std()
            .get_envs()
            .map(|(name, value)| (text(name), value.map(text)))
            .collect()
    }

    fn service(plan: &Plan) -> Command {
        plan.service("http://127.0.0.1:1", "http://127.0.0.1:2")
    }

    #[test]
    fn the_service_is_told_of_viewer_and_worker_by_its_own_settings_only() {
        let told = told(&[], "data", service);
        for (variable, value) in [
            ("SIGNALBOX_LISTEN", "stdin"),
            ("SIGNALBOX_WORKER_URL", "http://127.0.0.1:2"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
            ("PYROSCOPE_SERVER_ADDRESS", "http://127.0.0.1:1"),
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "deployment.environment.name=demo",
            ),
            ("DATABASE_URL", "sqlite:data/signalbox.db"),
            (
                "SIGNALBOX_LINK_TRACE_URL",
                "http://127.0.0.1:1/traces/{trace_id}#span-{span_id}",
            ),
        ] {
            assert_eq!(told[variable].as_deref(), Some(value), "{variable}");
        }
    }

    #[test]
    fn what_leads_elsewhere_or_merges_the_processes_is_not_handed_on() {
        let taken = [
            "OTEL_SERVICE_NAME",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "OTEL_EXPORTER_OTLP_HEADERS",
            "OTEL_EXPORTER_OTLP_LOGS_HEADERS",
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
            "OTEL_EXPORTER_OTLP_INSECURE",
        ];
        let kept = [
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            "OTEL_EXPORTER_OTLP_TIMEOUT",
            "OTEL_TRACES_SAMPLER",
            "PYROSCOPE_PROFILES",
            "LOG_FORMAT",
        ];
        let caller: Vec<(&str, &str)> = taken
            .into_iter()
            .chain(kept)
            .map(|name| (name, "x"))
            .collect();
        for child in [service, |plan: &Plan| plan.worker("http://127.0.0.1:1")] {
            let told = told(&caller, "data", child);
            for variable in taken {
                assert_eq!(told.get(variable), Some(&None), "{variable}");
            }
            for variable in kept {
                assert_eq!(told.get(variable), None, "{variable} is not inherited");
            }
        }
    }

    #[test]
    fn resource_attributes_of_one_process_are_left_out_and_the_others_kept() {
        for (given, handed_on) in [
            ("service.name=mine,team=shop", "team=shop"),
            ("team=shop, service.instance.id=1", "team=shop"),
            ("service%2Ename=mine", ""),
            (
                "service.namespace=a,service.version=2",
                "service.namespace=a,service.version=2",
            ),
        ] {
            assert_eq!(shared(Some(given.into())), handed_on, "{given}");
        }
    }

    #[test]
    fn any_folder_is_escaped_in_the_databases_url() {
        for (folder, url) in [
            ("a b/50%", "sqlite:a%20b/50%25/signalbox.db"),
            ("/x?y#z", "sqlite:/x%3Fy%23z/signalbox.db"),
            ("//x", "sqlite:/x/signalbox.db"),
            (":memory:", "sqlite:%3Amemory%3A/signalbox.db"),
            ("größe", "sqlite:gr%C3%B6%C3%9Fe/signalbox.db"),
        ] {
            let told = told(&[], folder, service);
            assert_eq!(told["DATABASE_URL"].as_deref(), Some(url));
        }
    }

    #[test]
    fn an_empty_variable_of_the_caller_counts_as_unset() {
        let told = told(
            &[("DATABASE_URL", ""), ("LOG_FORMAT", " ")],
            "data",
            service,
        );
        assert_eq!(
            (
                told["DATABASE_URL"].as_deref(),
                told["LOG_FORMAT"].as_deref()
            ),
            (Some("sqlite:data/signalbox.db"), Some("human"))
        );
    }

    #[test]
    fn an_address_of_every_interface_is_called_on_loopback() {
        for (listens, called) in [
            ("0.0.0.0:18080", "127.0.0.1:18080"),
            ("[::]:18080", "127.0.0.1:18080"),
            ("127.0.0.1:18080", "127.0.0.1:18080"),
            ("[::1]:18080", "[::1]:18080"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()), called);
        }
    }

    #[test]
    fn a_proxy_of_the_callers_shell_is_kept_for_other_hosts() {
        let local = "127.0.0.1,localhost,::1";
        let hosts = |caller: &[(&str, &str)]| told(caller, "data", service)["NO_PROXY"].clone();
        assert_eq!(hosts(&[]), Some(local.into()));
        for spelling in ["NO_PROXY", "no_proxy"] {
            let expected = format!("corp.example,{local}");
            assert_eq!(hosts(&[(spelling, "corp.example")]), Some(expected));
        }
    }
}
