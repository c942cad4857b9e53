//! What the query strings of pages and API can ask for. Every parameter may be absent or empty; numbers are checked here, so that a form's empty
//! field is no error and a wrong one is a 400 that says what is allowed.

use serde::{Deserialize, Serialize};

use crate::attributes::is_hex;
use crate::problem::Problem;
use crate::store::{logs, profiles, traces};

const NS_PER_MS: f64 = 1e6;

/// `/traces` and `/api/traces`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Traces {
    pub service: String,
    pub route: String,
    /// `ok` or `error`
    pub status: String,
    pub min_ms: String,
    pub max_ms: String,
    pub from_ms: String,
    pub to_ms: String,
    pub limit: String,
}

impl Traces {
    pub fn filter(&self, default_limit: u32) -> Result<traces::Filter, Problem> {
        Ok(traces::Filter {
            service: self.service.clone(),
            route: self.route.clone(),
            failed: match self.status.as_str() {
                "" => None,
                "ok" => Some(false),
                "error" => Some(true),
                _ => return Err(Problem::BadRequest("status is ok or error".to_owned())),
            },
            min_ns: milliseconds("min_ms", &self.min_ms)?,
            max_ns: milliseconds("max_ms", &self.max_ms)?,
            from_ns: milliseconds("from_ms", &self.from_ms)?,
            to_ns: milliseconds("to_ms", &self.to_ms)?,
            limit: limit(&self.limit, default_limit, 1000)?,
        })
    }
}

/// `/logs` and `/api/logs`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Logs {
    pub q: String,
    /// `trace`, `debug`, `info`, `warn`, `error` or `fatal`
    pub level: String,
    pub service: String,
    /// `name=value`
    pub field: String,
    pub trace_id: String,
    pub span_id: String,
    pub from_ms: String,
    pub to_ms: String,
    /// Id of a record: only those that arrived before it.
    pub before: String,
    pub limit: String,
}

impl Logs {
    pub fn filter(&self, default_limit: u32) -> Result<logs::Filter, Problem> {
        Ok(logs::Filter {
            text: self.q.clone(),
            service: self.service.clone(),
            severity: severities(&self.level)?,
            field: match self.field.split_once('=') {
                Some((key, value)) => Some((key.trim().to_owned(), value.trim().to_owned())),
                None if self.field.is_empty() => None,
                None => {
                    return Err(Problem::BadRequest(
                        "field is written name=value".to_owned(),
                    ));
                }
            },
            trace_id: id("trace_id", &self.trace_id, 16)?,
            span_id: id("span_id", &self.span_id, 8)?,
            from_ns: milliseconds("from_ms", &self.from_ms)?,
            to_ns: milliseconds("to_ms", &self.to_ms)?,
            before: whole("before", &self.before)?,
            limit: limit(&self.limit, default_limit, 10_000)?,
        })
    }
}

/// `/metrics` and `/api/metrics`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Metrics {
    pub name: String,
    pub service: String,
    /// Attribute whose values each get a line of their own.
    pub by: String,
    /// `attribute=value`: only series that have it.
    pub only: String,
    /// Minutes to show.
    pub minutes: String,
    /// Newest points of each series (API only).
    pub points: String,
}

impl Metrics {
    pub fn points(&self) -> Result<u32, Problem> {
        limit(&self.points, 1, 1000)
    }

    /// Minutes to show, 15 unless told.
    pub fn minutes(&self) -> Result<u32, Problem> {
        match whole("minutes", &self.minutes)? {
            None => Ok(15),
            Some(minutes) if (1..=1440).contains(&minutes) => Ok(minutes as u32),
            Some(_) => Err(Problem::BadRequest("minutes is from 1 to 1440".to_owned())),
        }
    }
}

/// `/profiles` and `/api/profiles/{type}`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Profiles {
    /// `cpu` or `heap` (pages only; in the API it is in the path)
    pub r#type: String,
    pub service: String,
    /// A span's id: only its samples.
    pub profile_id: String,
    /// `name=value`: only samples with this label.
    pub label: String,
    pub from_ms: String,
    pub to_ms: String,
    /// Function to mark (pages only).
    pub q: String,
    /// `own` leaves the runtime's frames out (pages only).
    pub frames: String,
}

impl Profiles {
    pub fn filter(&self, kind: &str) -> Result<profiles::Filter, Problem> {
        Ok(profiles::Filter {
            kind: kind.to_owned(),
            service: self.service.clone(),
            span_id: id("profile_id", &self.profile_id, 8)?,
            label: match self.label.split_once('=') {
                Some((name, value)) => Some((name.to_owned(), value.to_owned())),
                None if self.label.is_empty() => None,
                None => {
                    return Err(Problem::BadRequest(
                        "label is written name=value".to_owned(),
                    ));
                }
            },
            from_ns: milliseconds("from_ms", &self.from_ms)?,
            to_ns: milliseconds("to_ms", &self.to_ms)?,
        })
    }
}

/// The id in lower case, as it is stored.
fn id(name: &str, text: &str, bytes: usize) -> Result<String, Problem> {
    if text.is_empty() || is_hex(text, bytes) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(Problem::BadRequest(format!(
        "{name} has {} hexadecimal digits",
        bytes * 2
    )))
}

fn milliseconds(name: &str, text: &str) -> Result<Option<i64>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse::<f64>() {
        Ok(number) if (0.0..1e13).contains(&number) => Ok(Some((number * NS_PER_MS) as i64)),
        _ => Err(Problem::BadRequest(format!(
            "{name} is a number of milliseconds"
        ))),
    }
}

fn whole(name: &str, text: &str) -> Result<Option<i64>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| Problem::BadRequest(format!("{name} is a whole number")))
}

fn limit(text: &str, default: u32, most: u32) -> Result<u32, Problem> {
    match whole("limit", text)? {
        None => Ok(default),
        Some(number) if (1..=i64::from(most)).contains(&number) => Ok(number as u32),
        Some(_) => Err(Problem::BadRequest(format!("limit is from 1 to {most}"))),
    }
}

/// Severity numbers of a level: <https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber>
fn severities(level: &str) -> Result<Option<(i32, i32)>, Problem> {
    let lowest = match level.to_ascii_lowercase().as_str() {
        "" => return Ok(None),
        "trace" => 1,
        "debug" => 5,
        "info" => 9,
        "warn" => 13,
        "error" => 17,
        "fatal" => 21,
        _ => {
            return Err(Problem::BadRequest(
                "level is trace, debug, info, warn, error or fatal".to_owned(),
            ));
        }
    };
    Ok(Some((lowest, lowest + 3)))
}
