//! OTLP/JSON as the viewer answers it, in the form that assertions want.

use std::collections::BTreeMap;

use serde_json::Value;

pub type Attributes = BTreeMap<String, String>;

#[derive(Debug, Clone)]
pub struct Span {
    pub service: String,
    pub name: String,
    /// OTLP's number: 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub kind: u64,
    pub trace_id: String,
    pub id: String,
    pub parent: String,
    /// 0 unset, 1 ok, 2 error.
    pub status: u64,
    pub attributes: Attributes,
    /// Trace and span id of each link.
    pub links: Vec<(String, String)>,
    pub events: Vec<(String, Attributes)>,
    pub millis: f64,
}

#[derive(Debug, Clone)]
pub struct Log {
    pub service: String,
    pub severity: String,
    pub body: String,
    pub trace_id: String,
    pub span_id: String,
    pub target: String,
    pub attributes: Attributes,
}

#[derive(Debug, Clone)]
pub struct Point {
    pub unit: String,
    pub attributes: Attributes,
    /// The value, or a histogram's count.
    pub value: f64,
}

fn items<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

/// A number that JSON may write as text.
fn number(value: &Value) -> f64 {
    match value {
        Value::String(text) => text.parse().unwrap_or_default(),
        other => other.as_f64().unwrap_or_default(),
    }
}

fn attributes(value: &Value) -> Attributes {
    let pairs = items(value, "attributes").map(|pair| {
        let inner = pair["value"]
            .as_object()
            .and_then(|value| value.values().next());
        let inner = match inner {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        (text(pair, "key"), inner)
    });
    pairs.collect()
}

fn service(of: &Value) -> String {
    attributes(&of["resource"])
        .remove("service.name")
        .unwrap_or_default()
}

pub fn spans(document: &Value) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource in items(document, "resourceSpans") {
        for scope in items(resource, "scopeSpans") {
            for span in items(scope, "spans") {
                let nanos = number(&span["endTimeUnixNano"]) - number(&span["startTimeUnixNano"]);
                spans.push(Span {
                    service: service(resource),
                    name: text(span, "name"),
                    kind: span["kind"].as_u64().unwrap_or_default(),
                    trace_id: text(span, "traceId"),
                    id: text(span, "spanId"),
                    parent: text(span, "parentSpanId"),
                    status: span["status"]["code"].as_u64().unwrap_or_default(),
                    attributes: attributes(span),
                    links: items(span, "links")
                        .map(|link| (text(link, "traceId"), text(link, "spanId")))
                        .collect(),
                    events: items(span, "events")
                        .map(|event| (text(event, "name"), attributes(event)))
                        .collect(),
                    millis: nanos / 1e6,
                });
            }
        }
    }
    spans
}

pub fn logs(document: &Value) -> Vec<Log> {
    let mut logs = Vec::new();
    for resource in items(document, "resourceLogs") {
        for scope in items(resource, "scopeLogs") {
            for log in items(scope, "logRecords") {
                logs.push(Log {
                    service: service(resource),
                    severity: text(log, "severityText"),
                    body: text(&log["body"], "stringValue"),
                    trace_id: text(log, "traceId"),
                    span_id: text(log, "spanId"),
                    target: text(&scope["scope"], "name"),
                    attributes: attributes(log),
                });
            }
        }
    }
    logs
}

pub fn points(document: &Value) -> Vec<Point> {
    let mut points = Vec::new();
    for resource in items(document, "resourceMetrics") {
        for scope in items(resource, "scopeMetrics") {
            for metric in items(scope, "metrics") {
                let data = ["sum", "gauge", "histogram", "exponentialHistogram"];
                for data in data.iter().filter_map(|name| metric.get(name)) {
                    for point in items(data, "dataPoints") {
                        let values = ["asInt", "asDouble", "count"];
                        let value = values.iter().find_map(|name| point.get(name));
                        points.push(Point {
                            unit: text(metric, "unit"),
                            attributes: attributes(point),
                            value: value.map(number).unwrap_or_default(),
                        });
                    }
                }
            }
        }
    }
    points
}

/// The sum of all points whose attributes include `wanted`.
pub fn total(points: &[Point], wanted: &[(&str, &str)]) -> f64 {
    let fits = |point: &&Point| {
        wanted
            .iter()
            .all(|(name, value)| point.attributes.get(*name).map(String::as_str) == Some(*value))
    };
    points.iter().filter(fits).map(|point| point.value).sum()
}
