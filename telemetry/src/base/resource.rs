//! What emits: the resource that every span, record, point and profile carries.
use std::collections::BTreeMap;
use std::fs;
use std::time::SystemTime;

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{ResourceDetector, TelemetryResourceDetector};

use crate::base::random;
use crate::base::settings::Settings;
use crate::base::time::rfc_3339;

/// The semantic conventions by which attributes are named here.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.42.0";

/// What is detected, with what the environment says laid over it.
pub(crate) fn attributes(settings: &Settings) -> BTreeMap<String, String> {
    let identity = settings.identity;
    let mut found = BTreeMap::new();
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            found.insert(key.to_owned(), value);
        }
    };
    put("service.name", Some(identity.service_name.to_owned()));
    put(
        "service.namespace",
        Some(identity.service_namespace.to_owned()),
    );
    put("service.version", Some(identity.service_version.to_owned()));
    put("service.instance.id", Some(random_uuid()));
    // Not known by itself; whoever deploys says so in OTEL_RESOURCE_ATTRIBUTES.
    put(
        "deployment.environment.name",
        Some("development".to_owned()),
    );
    for (key, value) in TelemetryResourceDetector.detect().iter() {
        put(key.as_str(), Some(value.to_string()));
    }
    put("host.name", line("/proc/sys/kernel/hostname"));
    put("host.id", line("/etc/machine-id"));
    put("host.arch", Some(architecture().to_owned()));
    put("os.type", Some(operating_system().to_owned()));
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    put("os.name", release_field(&release, "NAME"));
    put("os.version", release_field(&release, "VERSION_ID"));
    put("os.description", release_field(&release, "PRETTY_NAME"));
    put("process.pid", Some(std::process::id().to_string()));
    // Telemetry starts first of all: now is then, give or take a few milliseconds.
    put("process.creation.time", Some(rfc_3339(SystemTime::now())));
    if let Ok(executable) = std::env::current_exe() {
        let name = executable
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        put("process.executable.name", name);
        put(
            "process.executable.path",
            Some(executable.to_string_lossy().into_owned()),
        );
    }
    put("process.runtime.name", Some("rust".to_owned()));
    let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    put("container.id", container_id(&cgroup, &mounts));
    found.extend(settings.resource.clone());
    found
}

/// The attributes as the SDK wants them. `process.pid` is the one number among them.
pub(crate) fn resource(attributes: &BTreeMap<String, String>) -> Resource {
    let attributes = attributes.iter().map(|(key, value)| {
        let key = key.clone();
        match value.parse::<i64>() {
            Ok(pid) if key == "process.pid" => KeyValue::new(key, pid),
            _ => KeyValue::new(key, value.clone()),
        }
    });
    Resource::builder_empty()
        .with_schema_url(attributes, SCHEMA_URL)
        .build()
}

/// A UUID of version 4: <https://www.rfc-editor.org/rfc/rfc9562#name-uuid-version-4>.
fn random_uuid() -> String {
    let bits = random() & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

fn line(path: &str) -> Option<String> {
    fs::read_to_string(path)
        .ok()
        .map(|text| text.trim().to_owned())
}

/// The convention's names differ from Rust's.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "x86",
        "arm" => "arm32",
        other => other,
    }
}

fn operating_system() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    }
}

fn release_field(release: &str, name: &str) -> Option<String> {
    release.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key == name).then(|| value.trim_matches('"').to_owned())
    })
}

/// A container's id: 64 hex digits in the control group's path, or, where that is just `/` (cgroup v2), in the path from
/// which the engine mounts the container's `hostname` file. In a pod that file is the sandbox's, whose id is not the
/// container's: there the id is absent rather than wrong.
fn container_id(cgroup: &str, mounts: &str) -> Option<String> {
    let in_pod = mounts.contains("/kubelet/pods/") || mounts.contains("/sandboxes/");
    let engine = if in_pod { "" } else { mounts };
    let mounted = engine.lines().filter(|line| line.contains("/hostname "));
    cgroup
        .lines()
        .chain(mounted)
        .flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric()))
        .find(|part| part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::settings;
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;

    #[test]
    fn detected_and_given_attributes_meet() {
        let attributes = attributes(&settings(&[
            ("OTEL_SERVICE_NAME", "other"),
            ("OTEL_RESOURCE_ATTRIBUTES", "host.name=h,team=t"),
        ]));
        assert_eq!(attributes["service.name"], "other");
        assert_eq!(attributes["service.namespace"], "test");
        assert_eq!(attributes["host.name"], "h");
        assert_eq!(attributes["team"], "t");
        assert_eq!(attributes["process.pid"], std::process::id().to_string());
        let created = &attributes["process.creation.time"];
        let created = OffsetDateTime::parse(created, &Rfc3339).unwrap();
        assert!(created <= SystemTime::now() && created.year() >= 2026);
        let id = uuid::Uuid::parse_str(&attributes["service.instance.id"]).unwrap();
        assert_eq!(id.get_version_num(), 4);
        assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(attributes["telemetry.sdk.name"], "opentelemetry");
        assert_eq!(attributes["telemetry.sdk.language"], "rust");
        let version = attributes["telemetry.sdk.version"].split('.');
        assert!(version.clone().count() == 3 && version.clone().all(|part| !part.is_empty()));
        let pid = opentelemetry::Key::new("process.pid");
        let expected = i64::from(std::process::id());
        assert_eq!(resource(&attributes).get(&pid), Some(expected.into()));
    }

    #[test]
    fn the_container_is_found_in_both_kinds_of_control_group() {
        let id = "0123456789abcdef".repeat(4);
        let v1 = format!("12:cpu:/docker/{id}\n");
        assert_eq!(container_id(&v1, ""), Some(id.clone()));
        let scope = format!("0::/system.slice/docker-{id}.scope\n");
        assert_eq!(container_id(&scope, ""), Some(id.clone()));
        let mounts = format!("1 2 8:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw\n");
        assert_eq!(container_id("0::/\n", &mounts), Some(id.clone()));
        let sandboxes = "/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes";
        let containerd = format!("1 2 8:1 {sandboxes}/{id}/hostname /etc/hostname rw\n");
        assert_eq!(container_id("0::/\n", &containerd), None);
        let crio = format!(
            "1 2 8:1 /containers/storage/overlay-containers/{id}/userdata/hostname /etc/hostname rw\n\
             3 2 8:1 /var/lib/kubelet/pods/1/etc-hosts /etc/hosts rw\n"
        );
        assert_eq!(container_id("0::/\n", &crio), None);
        let pod = format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope\n");
        assert_eq!(container_id(&pod, &containerd), Some(id.clone()));
        assert_eq!(container_id("0::/\n", "1 2 8:1 / / rw\n"), None);
    }

    #[test]
    fn the_release_file_is_read() {
        assert_eq!(
            release_field("A=1\nNAME=\"Debian GNU\"\n", "NAME"),
            Some("Debian GNU".to_owned())
        );
    }
}
