//! What each child is told: its arguments and its environment.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::process::Command;

/// Settings of an exporter for one signal would outrank the common ones set here and send that signal past the viewer, and
/// headers can hold another backend's password.
const FOREIGN_EXPORT_SETTINGS: [&str; 11] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
    "OTEL_EXPORTER_OTLP_LOGS_HEADERS",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
    "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL",
];

/// Set unless the caller has set them: what one request caused is to be seen within a second or two. Milliseconds.
const DEFAULTS: [(&str, &str); 5] = [
    ("OTEL_BSP_SCHEDULE_DELAY", "500"),
    ("OTEL_BLRP_SCHEDULE_DELAY", "500"),
    ("OTEL_METRIC_EXPORT_INTERVAL", "2000"),
    (
        "OTEL_RESOURCE_ATTRIBUTES",
        "deployment.environment.name=demo",
    ),
    ("LOG_FORMAT", "human"),
];

pub struct Plan {
    pub signalbox: PathBuf,
    pub lens: PathBuf,
    pub data_dir: PathBuf,
    pub lens_listen: SocketAddr,
    pub worker_listen: SocketAddr,
    pub service_listen: SocketAddr,
}

impl Plan {
    pub fn logs(&self) -> PathBuf {
        self.data_dir.join("logs")
    }

    pub fn viewer(&self) -> Command {
        let mut command = Command::new(&self.lens);
        command.env("LENS_LISTEN", self.lens_listen.to_string());
        default(&mut command, "LENS_DATA_DIR", self.data_dir.join("lens"));
        // In a checkout, flame graphs lead to its lines.
        if Path::new("Cargo.toml").is_file() {
            default(&mut command, "LENS_SOURCE_DIR", PathBuf::from("."));
        }
        command
    }

    pub fn worker(&self, viewer: &str) -> Command {
        let mut command = self.signalbox("worker", viewer);
        command.env("SIGNALBOX_WORKER_LISTEN", self.worker_listen.to_string());
        command
    }

    pub fn service(&self, viewer: &str, worker: &str) -> Command {
        let mut command = self.signalbox("serve", viewer);
        command.env("SIGNALBOX_LISTEN", self.service_listen.to_string());
        command.env("SIGNALBOX_WORKER_URL", worker);
        default(
            &mut command,
            "DATABASE_URL",
            format!("sqlite:{}", self.data_dir.join("signalbox.db").display()),
        );
        for (variable, template) in links(viewer) {
            command.env(variable, template);
        }
        command
    }

    /// Both roles send all four signals to the viewer.
    fn signalbox(&self, role: &str, viewer: &str) -> Command {
        let mut command = Command::new(&self.signalbox);
        command.arg(role);
        for variable in FOREIGN_EXPORT_SETTINGS {
            command.env_remove(variable);
        }
        command
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", viewer)
            .env("PYROSCOPE_SERVER_ADDRESS", viewer);
        for (variable, value) in DEFAULTS {
            default(&mut command, variable, value);
        }
        command.env("NO_PROXY", no_proxy(std::env::var("NO_PROXY").ok()));
        command
    }
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

fn default(command: &mut Command, variable: &str, value: impl AsRef<OsStr>) {
    if std::env::var_os(variable).is_none_or(|set| set.is_empty()) {
        command.env(variable, value);
    }
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
pub fn reachable(address: &str) -> String {
    match address.parse::<SocketAddr>() {
        Ok(socket) if socket.ip().is_unspecified() => format!("127.0.0.1:{}", socket.port()),
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(command: &Command) -> Vec<(String, Option<String>)> {
        let text = |value: &OsStr| value.to_string_lossy().into_owned();
        command
            .as_std()
            .get_envs()
            .map(|(name, value)| (text(name), value.map(text)))
            .collect()
    }

    #[test]
    fn the_service_is_told_of_viewer_and_worker_by_its_own_settings_only() {
        let plan = Plan {
            signalbox: "signalbox".into(),
            lens: "lens".into(),
            data_dir: "data".into(),
            lens_listen: "127.0.0.1:1".parse().unwrap(),
            worker_listen: "127.0.0.1:2".parse().unwrap(),
            service_listen: "127.0.0.1:3".parse().unwrap(),
        };
        let set = environment(&plan.service("http://127.0.0.1:1", "http://127.0.0.1:2"));
        let value = |name: &str| {
            set.iter()
                .find(|(set, _)| set == name)
                .and_then(|(_, value)| value.as_deref())
        };

        assert_eq!(value("SIGNALBOX_LISTEN"), Some("127.0.0.1:3"));
        assert_eq!(value("SIGNALBOX_WORKER_URL"), Some("http://127.0.0.1:2"));
        assert_eq!(
            value("OTEL_EXPORTER_OTLP_ENDPOINT"),
            Some("http://127.0.0.1:1")
        );
        assert_eq!(
            value("PYROSCOPE_SERVER_ADDRESS"),
            Some("http://127.0.0.1:1")
        );
        assert_eq!(
            value("SIGNALBOX_LINK_TRACE_URL"),
            Some("http://127.0.0.1:1/traces/{trace_id}#span-{span_id}")
        );
        let removed = |name: &str| set.contains(&(name.to_owned(), None));
        assert!(FOREIGN_EXPORT_SETTINGS.into_iter().all(removed));
    }

    #[test]
    fn an_address_of_every_interface_is_called_on_loopback() {
        assert_eq!(reachable("0.0.0.0:18080"), "127.0.0.1:18080");
        assert_eq!(reachable("[::]:18080"), "127.0.0.1:18080");
        assert_eq!(reachable("127.0.0.1:18080"), "127.0.0.1:18080");
    }

    #[test]
    fn a_proxy_of_the_callers_shell_is_kept_for_other_hosts() {
        assert_eq!(no_proxy(None), "127.0.0.1,localhost,::1");
        assert_eq!(
            no_proxy(Some("corp.example".into())),
            "corp.example,127.0.0.1,localhost,::1"
        );
    }
}
