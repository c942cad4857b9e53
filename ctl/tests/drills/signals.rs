//! What the viewer's API tells, for tests: the pages of a drill's walk-through ask for the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Demo, client, get, signalboxctl};

pub fn drill(demo: &Demo, data: &Path, arguments: &[&str]) -> Output {
    let addresses = ["--url", &demo.service, "--viewer", &demo.viewer];
    without_demo(data, &[&addresses, arguments].concat())
}

/// The same for what needs no demo: a recorded incident.
pub fn without_demo(data: &Path, arguments: &[&str]) -> Output {
    let drills = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../drills");
    signalboxctl()
        .args(["drill", "--drills"])
        .arg(drills)
        .arg("--data-dir")
        .arg(data)
        .args(arguments)
        .output()
        .unwrap()
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Ends the drill that is on when it is dropped, so that a test that fails leaves nothing running. Declared after the demo, it is dropped before it.
pub struct Healed<'a>(pub &'a Demo, pub &'a Path);

impl Drop for Healed<'_> {
    fn drop(&mut self) {
        drill(self.0, self.1, &["stop"]);
    }
}

/// For what a busy machine may take minutes for: the slowest of the drills.
const PATIENCE: Duration = Duration::from_secs(240);

/// Asks again and again until there is an answer.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub fn attribute(item: &Value, name: &str) -> String {
    let found = list(&item["attributes"])
        .iter()
        .find(|attribute| attribute["key"] == name);
    let value = found.map(|attribute| &attribute["value"]);
    let text = value.and_then(|value| value.as_object()?.values().next());
    text.map_or_else(String::new, |text| {
        text.as_str().map_or(text.to_string(), str::to_owned)
    })
}

/// Every record that the viewer's page of the walk-through shows.
pub fn records(viewer: &str, query: &str) -> Vec<Value> {
    let answer = get(&format!("{viewer}/api/logs?limit=1000&{query}")).unwrap_or_default();
    let scopes = list(&answer["resourceLogs"])
        .iter()
        .flat_map(|resource| list(&resource["scopeLogs"]));
    scopes
        .flat_map(|scope| list(&scope["logRecords"]).to_vec())
        .collect()
}

/// A span with what its resource says.
#[derive(Debug, Clone)]
pub struct Span {
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub service: String,
    /// `service.instance.id` and `service.version`
    pub instance: String,
    pub version: String,
    pub name: String,
    /// Nanoseconds since 1970.
    pub start: u128,
    pub ms: u128,
    pub attributes: Value,
}

impl Span {
    /// One of its attributes, or an empty text.
    pub fn get(&self, name: &str) -> String {
        attribute(&self.attributes, name)
    }
}

/// Every span of the newest traces that pass the filter.
pub fn spans(viewer: &str, query: &str) -> Vec<Span> {
    let answer = get(&format!("{viewer}/api/traces?{query}")).unwrap_or_default();
    let nanos = |value: &Value| {
        value
            .as_str()
            .and_then(|text| text.parse::<u128>().ok())
            .unwrap_or(0)
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut spans = Vec::new();
    for resource in list(&answer["resourceSpans"]) {
        let of = |name| attribute(&resource["resource"], name);
        for span in list(&resource["scopeSpans"])
            .iter()
            .flat_map(|scope| list(&scope["spans"]))
        {
            let start = nanos(&span["startTimeUnixNano"]);
            spans.push(Span {
                trace: text(&span["traceId"]),
                id: text(&span["spanId"]),
                parent: text(&span["parentSpanId"]),
                service: of("service.name"),
                instance: of("service.instance.id"),
                version: of("service.version"),
                name: text(&span["name"]),
                start,
                ms: nanos(&span["endTimeUnixNano"]).saturating_sub(start) / 1_000_000,
                attributes: span.clone(),
            });
        }
    }
    spans
}

/// Each series of a metric with its newest point.
pub fn series(viewer: &str, service: &str, name: &str) -> Vec<Value> {
    let query = format!("name={name}&service={service}");
    let answer = get(&format!("{viewer}/api/metrics?{query}")).unwrap_or_default();
    let metrics = list(&answer["resourceMetrics"])
        .iter()
        .flat_map(|resource| list(&resource["scopeMetrics"]))
        .flat_map(|scope| list(&scope["metrics"]));
    metrics
        .flat_map(|metric| {
            ["gauge", "sum", "histogram", "exponentialHistogram"]
                .map(|kind| &metric[kind]["dataPoints"])
        })
        .flat_map(|points| list(points).to_vec())
        .collect()
}

/// Whether the sums of a histogram are deltas. None while there is none of that name.
pub fn is_delta(viewer: &str, service: &str, name: &str) -> Option<bool> {
    let answer = get(&format!(
        "{viewer}/api/metrics?name={name}&service={service}"
    ))?;
    let mut metrics = list(&answer["resourceMetrics"])
        .iter()
        .flat_map(|resource| list(&resource["scopeMetrics"]))
        .flat_map(|scope| list(&scope["metrics"]));
    // OTLP/JSON writes an enumeration as its number: 1 is delta, 2 is cumulative.
    let temporality = &metrics.next()?["histogram"]["aggregationTemporality"];
    match temporality.as_u64() {
        Some(1) => Some(true),
        Some(2) => Some(false),
        _ => panic!("{name} of {service} has the temporality {temporality}"),
    }
}

/// A number that OTLP/JSON writes as a number or as a text.
pub fn number(value: &Value) -> f64 {
    let text = value.as_str().and_then(|text| text.parse().ok());
    text.or(value.as_f64()).unwrap_or(0.0)
}

/// Sum of what the points of a histogram count, by an attribute: how often and how long.
pub fn by(points: &[Value], name: &str) -> BTreeMap<String, (f64, f64)> {
    let mut sums: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for point in points {
        let sum = sums.entry(attribute(point, name)).or_default();
        sum.0 += number(&point["count"]);
        sum.1 += number(&point["sum"]);
    }
    sums
}

/// The functions that a page of profiles lists, each with its share of the whole in per cent.
pub fn functions(viewer: &str, query: &str) -> Vec<(String, f64)> {
    let rows = rows_of_functions(viewer, query).into_iter();
    rows.filter_map(|row| {
        let share = row.rsplit(" %</td>").nth(1)?.rsplit('>').next()?;
        Some((title(&row)?, share.trim().parse().ok()?))
    })
    .collect()
}

/// The same with what each holds in total, in bytes for a heap.
pub fn totals(viewer: &str, query: &str) -> Vec<(String, f64)> {
    let rows = rows_of_functions(viewer, query).into_iter();
    rows.filter_map(|row| {
        let total = row.split("data-total=\"").nth(1)?.split('"').next()?;
        Some((title(&row)?, total.parse().ok()?))
    })
    .collect()
}

fn title(row: &str) -> Option<String> {
    Some(row.split("title=\"").nth(1)?.split('"').next()?.to_owned())
}

fn rows_of_functions(viewer: &str, query: &str) -> Vec<String> {
    let page = client().get(format!("{viewer}/profiles?{query}")).send();
    let page = page
        .ok()
        .and_then(|page| page.text().ok())
        .unwrap_or_default();
    let rows = page.split("<tr").map(str::to_owned);
    rows.filter(|row| row.contains("data-testid=\"function-link\""))
        .collect()
}

/// The addresses of a drill's walk-through for the run that has this answer.
pub fn walk(number: u32, answer: &BTreeMap<&'static str, String>) -> Vec<String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../drills");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files = files.filter(|path| {
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with(&format!("{number:02}-"))
    });
    let text = std::fs::read_to_string(files.next().unwrap()).unwrap();
    let drill: toml::Table = text.parse().unwrap();
    let mut values: BTreeMap<&str, &str> = answer
        .iter()
        .map(|(field, value)| (*field, value.as_str()))
        .collect();
    // Of what is chosen together, the table that has most of the answer.
    let tables = drill
        .get("one_of")
        .and_then(toml::Value::as_array)
        .map_or(&[] as &[_], Vec::as_slice)
        .iter()
        .filter_map(toml::Value::as_table);
    let in_answer = |table: &&toml::Table| {
        let given = |value: &toml::Value| answer.values().any(|own| value.as_str() == Some(own));
        table.values().filter(|value| given(value)).count()
    };
    for (name, value) in tables.max_by_key(in_answer).into_iter().flatten() {
        values.entry(name).or_insert(value.as_str().unwrap());
    }
    let steps = drill["walk"].as_array().unwrap().iter();
    steps
        .map(|step| {
            let page = step["demo"].as_str().unwrap().to_owned();
            values.iter().fold(page, |page, (name, value)| {
                page.replace(&format!("{{{name}}}"), value)
            })
        })
        .collect()
}

/// Milliseconds since 1970.
pub fn now_ms() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_millis()
}
