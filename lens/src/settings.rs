//! Every setting of lens; the only place that reads its environment.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

const MEBIBYTE: u64 = 1024 * 1024;

/// What lens can be told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `LENS_LISTEN`: address and port, loopback only, because lens has no login. Default `127.0.0.1:18090`; port 0 picks a free one.
    /// `stdin`, None here: standard input is a socket that listens already, on loopback too.
    pub listen: Option<SocketAddr>,
    /// `LENS_DATA_DIR`: directory of the database file, created if it is missing. Default `data/lens`. Only one lens may use it at a time.
    pub data_dir: PathBuf,
    /// `LENS_ALLOWED_HOSTS`: names, separated by commas, that a request's `Host` may carry besides `localhost`, `127.0.0.1` and `[::1]`
    /// (ports do not matter). Default: none. A name that is not listed is refused, so that no web page can reach lens by rebinding DNS.
    pub allowed_hosts: Vec<String>,
    /// `LENS_MAX_BODY_MB`: largest request body as sent, in MiB, 1 to 64. Default 8.
    pub max_body_bytes: usize,
    /// `LENS_MAX_DECODED_MB`: largest request body after decompression, in MiB, 1 to 256. Default 16.
    pub max_decoded_bytes: usize,
    /// `LENS_SOURCE_DIR`: a checkout whose sources are shown beside flame graphs, those that its programs were compiled of; nothing else in it is
    /// shown. Default: none.
    pub source_dir: Option<PathBuf>,
    /// `LENS_SOURCE_DEPS`: the folder with cargo's dep-info (`NAME.d`), which says what they were compiled of. Default: `target/debug` in that checkout.
    pub source_deps: Option<PathBuf>,
    /// `LENS_SOURCE_URL`: where a line of source leads to, with `{commit}`, `{file}` (from the checkout's root), `{path}` (whole) and `{line}`, such
    /// as `vscode://file/{path}:{line}`. Default: none, then lines lead nowhere.
    pub source_url: String,
    /// How much of each signal is kept.
    pub bounds: Bounds,
}

/// How much of each signal is kept; whichever of rows and bytes is reached first lets the oldest go.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// `LENS_MAX_SPANS` (rows, default 200000) and `LENS_MAX_SPANS_MB` (MiB, default 256). Whole traces are let go.
    pub spans: Bound,
    /// `LENS_MAX_LOGS` (records, default 200000) and `LENS_MAX_LOGS_MB` (MiB, default 256).
    pub logs: Bound,
    /// `LENS_MAX_POINTS` (metric data points, default 500000) and `LENS_MAX_POINTS_MB` (MiB, default 256).
    pub points: Bound,
    /// `LENS_MAX_PROFILES` (pushes, default 5000) and `LENS_MAX_PROFILES_MB` (MiB, default 256).
    pub profiles: Bound,
}

/// Bound of one signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Spans, log records, data points or profiles.
    pub rows: u64,
    /// Bytes of stored records, without SQLite's own overhead.
    pub bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        let bound = |rows| Bound {
            rows,
            bytes: 256 * MEBIBYTE,
        };
        Self {
            listen: Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 18090)),
            data_dir: PathBuf::from("data/lens"),
            allowed_hosts: Vec::new(),
            source_dir: None,
            source_deps: None,
            source_url: String::new(),
            max_body_bytes: 8 * MEBIBYTE as usize,
            max_decoded_bytes: 16 * MEBIBYTE as usize,
            bounds: Bounds {
                spans: bound(200_000),
                logs: bound(200_000),
                points: bound(500_000),
                profiles: bound(5_000),
            },
        }
    }
}

/// A variable holds what it may not.
#[derive(Debug, thiserror::Error)]
#[error("{name}={:?} is not allowed: {allowed}", shown(.value))]
pub struct SettingError {
    pub name: &'static str,
    pub value: String,
    pub allowed: &'static str,
}

/// A value in a message; what looks like a URL may have a password in it.
fn shown(value: &str) -> &str {
    if value.contains("://") || value.contains('@') {
        "***"
    } else {
        value
    }
}

impl Settings {
    /// Reads the environment; an absent or empty variable leaves its default.
    ///
    /// # Errors
    /// Names the first variable whose value is not allowed, and what is.
    pub fn from_env() -> Result<Self, SettingError> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    fn from_lookup(lookup: impl Fn(&'static str) -> Option<String>) -> Result<Self, SettingError> {
        let lookup = |name| lookup(name).filter(|value| !value.trim().is_empty());
        let mut settings = Self::default();
        if let Some(value) = lookup("LENS_LISTEN") {
            settings.listen = match value.parse() {
                Ok(address) if SocketAddr::ip(&address).is_loopback() => Some(address),
                _ if value == "stdin" => None,
                _ => {
                    return Err(SettingError {
                        name: "LENS_LISTEN",
                        value,
                        allowed: "a loopback address and a port, such as 127.0.0.1:18090, or stdin",
                    });
                }
            };
        }
        if let Some(value) = lookup("LENS_DATA_DIR") {
            settings.data_dir = PathBuf::from(value);
        }
        settings.source_dir = lookup("LENS_SOURCE_DIR").map(PathBuf::from);
        settings.source_deps = lookup("LENS_SOURCE_DEPS").map(PathBuf::from);
        if let Some(value) = lookup("LENS_SOURCE_URL") {
            // A script in the place of an address would run on the page.
            let allowed = [
                "https://",
                "http://",
                "vscode://",
                "idea://",
                "zed://",
                "cursor://",
            ];
            if !allowed.iter().any(|scheme| value.starts_with(scheme)) {
                return Err(SettingError {
                    name: "LENS_SOURCE_URL",
                    value,
                    allowed: "an address that begins with https, http, vscode, idea, zed or cursor, and ://",
                });
            }
            settings.source_url = value;
        }
        if let Some(value) = lookup("LENS_ALLOWED_HOSTS") {
            settings.allowed_hosts = value
                .split(',')
                .map(|host| host.trim().to_ascii_lowercase())
                .filter(|host| !host.is_empty())
                .collect();
        }
        let mebibytes = |name, max, default: usize| -> Result<usize, SettingError> {
            let allowed = "whole MiB, from 1 to the largest its description names";
            Ok(number(&lookup, name, max, allowed)?
                .map_or(default, |value| (value * MEBIBYTE) as usize))
        };
        settings.max_body_bytes = mebibytes("LENS_MAX_BODY_MB", 64, settings.max_body_bytes)?;
        settings.max_decoded_bytes =
            mebibytes("LENS_MAX_DECODED_MB", 256, settings.max_decoded_bytes)?;
        let of = &mut settings.bounds;
        for (bound, rows, bytes) in [
            (&mut of.spans, "LENS_MAX_SPANS", "LENS_MAX_SPANS_MB"),
            (&mut of.logs, "LENS_MAX_LOGS", "LENS_MAX_LOGS_MB"),
            (&mut of.points, "LENS_MAX_POINTS", "LENS_MAX_POINTS_MB"),
            (
                &mut of.profiles,
                "LENS_MAX_PROFILES",
                "LENS_MAX_PROFILES_MB",
            ),
        ] {
            let allowed = "a whole number from 1 to 100000000";
            let rows = number(&lookup, rows, 100_000_000, allowed)?;
            bound.rows = rows.unwrap_or(bound.rows);
            let mebibytes = number(&lookup, bytes, 65_536, "whole MiB from 1 to 65536")?;
            bound.bytes = mebibytes.map_or(bound.bytes, |value| value * MEBIBYTE);
        }
        Ok(settings)
    }
}

fn number(
    lookup: &impl Fn(&'static str) -> Option<String>,
    name: &'static str,
    max: u64,
    allowed: &'static str,
) -> Result<Option<u64>, SettingError> {
    let Some(value) = lookup(name) else {
        return Ok(None);
    };
    match value.trim().parse() {
        Ok(number) if (1..=max).contains(&number) => Ok(Some(number)),
        _ => Err(SettingError {
            name,
            value,
            allowed,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_outside_its_range_names_its_variable() {
        let with = |name: &'static str, value: &'static str| {
            Settings::from_lookup(move |asked| (asked == name).then(|| value.to_owned()))
        };
        let rows = with("LENS_MAX_LOGS", "12").expect("allowed");
        assert_eq!(rows.bounds.logs.rows, 12);
        let bytes = with("LENS_MAX_LOGS_MB", "2").expect("allowed");
        assert_eq!(bytes.bounds.logs.bytes, 2 * MEBIBYTE);
        let hosts = with("LENS_ALLOWED_HOSTS", "Box, lens.test").expect("allowed");
        assert_eq!(hosts.allowed_hosts, ["box", "lens.test"]);
        for (name, value) in [
            ("LENS_LISTEN", "0.0.0.0:18090"),
            ("LENS_MAX_SPANS", "0"),
            ("LENS_MAX_BODY_MB", "65"),
            ("LENS_MAX_LOGS", "many"),
            ("LENS_SOURCE_URL", "javascript:alert(1)"),
            ("LENS_LISTEN", "http://user:secret@box:1"),
        ] {
            let error = with(name, value).expect_err("refused");
            assert_eq!((error.name, error.value.as_str()), (name, value));
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
