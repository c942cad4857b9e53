//! Asks the four stores, through whichever door: their own, the query balancer's, or Grafana's proxy.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use super::way::Door;
use crate::http;

/// How far around a moment is looked.
const AROUND: Duration = Duration::from_secs(600);

/// Base URLs of the four stores behind one door.
pub struct Reader {
    client: Client,
    loki: String,
    /// With `/prometheus`, where the door wants it.
    prometheus: String,
    tempo: String,
    pyroscope: String,
    /// User and password, where the door wants them.
    login: Option<(String, String)>,
}

/// One log record: its line and its labels and structured metadata.
pub struct Record {
    pub line: String,
    pub fields: BTreeMap<String, String>,
}

/// The labels of a series, and its value.
type Series = (BTreeMap<String, String>, f64);

/// One span of a trace.
#[derive(Debug, Clone)]
pub struct Span {
    pub id: String,
    pub parent: String,
    pub name: String,
    /// Those of the span and of its resource.
    pub attributes: BTreeMap<String, String>,
    pub start: Duration,
    pub end: Duration,
}

impl Reader {
    /// The four stores behind one door.
    pub fn at(client: Client, door: &Door) -> Self {
        Self {
            client,
            loki: door.logs.clone(),
            prometheus: format!("{}/prometheus", door.metrics),
            tempo: door.traces.clone(),
            pyroscope: door.profiles.clone(),
            login: None,
        }
    }

    /// One that only speaks PromQL: the other three are nowhere.
    pub fn prometheus(client: Client, url: String) -> Self {
        Self {
            client,
            loki: String::new(),
            prometheus: url,
            tempo: String::new(),
            pyroscope: String::new(),
            login: None,
        }
    }

    /// Grafana's own proxy to its data sources.
    pub fn grafana(client: Client, grafana: &str, login: (String, String)) -> Self {
        let proxy = |uid: &str| format!("{grafana}/api/datasources/proxy/uid/{uid}");
        Self {
            client,
            loki: proxy("loki"),
            prometheus: proxy("mimir"),
            tempo: proxy("tempo"),
            pyroscope: proxy("pyroscope"),
            login: Some(login),
        }
    }

    async fn json(&self, request: RequestBuilder) -> Result<Value, String> {
        let request = match &self.login {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        };
        http::ask_json(request).await
    }

    /// The records that `query` finds between two moments since 1970, at most 1,000.
    pub async fn logs(
        &self,
        query: &str,
        from: Duration,
        to: Duration,
    ) -> Result<Vec<Record>, String> {
        let request = self
            .client
            .get(format!("{}/loki/api/v1/query_range", self.loki))
            .query(&[
                ("query", query.to_owned()),
                ("start", from.as_nanos().to_string()),
                ("end", to.as_nanos().to_string()),
                ("limit", "1000".into()),
            ]);
        let answer = self.json(request).await?;
        let streams = answer["data"]["result"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        Ok(streams
            .iter()
            .flat_map(|stream| {
                let fields = texts(&stream["stream"]);
                let values = stream["values"].as_array().cloned().unwrap_or_default();
                values.into_iter().map(move |value| Record {
                    line: value[1].as_str().unwrap_or_default().into(),
                    fields: fields.clone(),
                })
            })
            .collect())
    }

    /// What a PromQL `query` says at `time`: a value for each series.
    pub async fn instant(&self, query: &str, time: Option<Duration>) -> Result<Vec<f64>, String> {
        let series = self.series(query, time).await?;
        Ok(series.into_iter().map(|(_, value)| value).collect())
    }

    /// How much the counters that `query` selects have grown since `time`, exactly: a store knows what was counted then, whatever is
    /// asked for now.
    pub async fn grown(&self, query: &str, time: Duration) -> Result<f64, String> {
        let before = self.series(query, Some(time)).await?;
        let now = self.series(query, None).await?;
        Ok(growth(&before, &now))
    }

    async fn series(&self, query: &str, time: Option<Duration>) -> Result<Vec<Series>, String> {
        let mut parameters = vec![("query", query.to_owned())];
        parameters.extend(time.map(|time| ("time", time.as_secs().to_string())));
        let request = self
            .client
            .get(format!("{}/api/v1/query", self.prometheus))
            .query(&parameters);
        let answer = self.json(request).await?;
        let series = answer["data"]["result"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let read = |series: &Value| {
            let value = series["value"][1].as_str()?.parse().ok()?;
            Some((texts(&series["metric"]), value))
        };
        Ok(series.iter().filter_map(read).collect())
    }

    /// Labels of the exemplars of `query` that were recorded since `time`.
    pub async fn exemplars(
        &self,
        query: &str,
        time: Duration,
    ) -> Result<Vec<BTreeMap<String, String>>, String> {
        let request = self
            .client
            .get(format!("{}/api/v1/query_exemplars", self.prometheus))
            .query(&[
                ("query", query.to_owned()),
                ("start", time.as_secs().to_string()),
                ("end", (time + AROUND).as_secs().to_string()),
            ]);
        let answer = self.json(request).await?;
        let series = answer["data"].as_array().cloned().unwrap_or_default();
        Ok(series
            .iter()
            .filter_map(|series| series["exemplars"].as_array())
            .flatten()
            .map(|exemplar| texts(&exemplar["labels"]))
            .collect())
    }

    /// Requests of `/api` that were answered with `status`, since the service started.
    pub async fn counted(&self, status: u32) -> Result<f64, String> {
        let query = format!(
            r#"sum(http_server_request_duration_seconds_count{{service_name="signalbox-api",http_route="/api",http_response_status_code="{status}"}})"#
        );
        Ok(self
            .instant(&query, None)
            .await?
            .first()
            .copied()
            .unwrap_or_default())
    }

    /// The spans of a trace; none if the store does not know it (yet).
    pub async fn trace(&self, trace_id: &str) -> Result<Vec<Span>, String> {
        let request = self
            .client
            .get(format!("{}/api/v2/traces/{trace_id}", self.tempo))
            .header("accept", "application/json");
        match self.json(request).await {
            Ok(answer) => Ok(spans(&answer["trace"])),
            Err(reason) if reason.starts_with("404") => Ok(Vec::new()),
            Err(reason) => Err(reason),
        }
    }

    /// Ids of the traces that a TraceQL `query` finds around `time`.
    pub async fn search(&self, query: &str, time: Duration) -> Result<Vec<String>, String> {
        let request = self
            .client
            .get(format!("{}/api/search", self.tempo))
            .query(&[
                ("q", query.to_owned()),
                // After a load a route has more than the 20 that Tempo answers with unasked.
                ("limit", "1000".to_owned()),
                ("start", (time - AROUND).as_secs().to_string()),
                ("end", (time + AROUND).as_secs().to_string()),
            ]);
        let answer = self.json(request).await?;
        let traces = answer["traces"].as_array().cloned().unwrap_or_default();
        Ok(traces
            .iter()
            .filter_map(|trace| Some(format!("{:0>32}", trace["traceID"].as_str()?)))
            .collect())
    }

    /// Names of the functions in the flame graph of all samples that `selector` selects, around `time`.
    pub async fn profile(
        &self,
        profile_type: &str,
        selector: &str,
        time: Duration,
    ) -> Result<Vec<String>, String> {
        let url = format!(
            "{}/querier.v1.QuerierService/SelectMergeStacktraces",
            self.pyroscope
        );
        let request = self.client.post(url).json(&json!({
            "profileTypeID": profile_type,
            "labelSelector": selector,
            "start": (time - AROUND).as_millis() as u64,
            "end": (time + AROUND).as_millis() as u64,
        }));
        Ok(names(&self.json(request).await?))
    }

    /// Names of the functions in a span's own flame graph.
    pub async fn span_profile(
        &self,
        profile_type: &str,
        selector: &str,
        span_id: &str,
        time: Duration,
    ) -> Result<Vec<String>, String> {
        let url = format!(
            "{}/querier.v1.QuerierService/SelectMergeSpanProfile",
            self.pyroscope
        );
        let request = self.client.post(url).json(&json!({
            "profileTypeID": profile_type,
            "labelSelector": selector,
            "spanSelector": [span_id],
            "start": (time - AROUND).as_millis() as u64,
            "end": (time + AROUND).as_millis() as u64,
        }));
        Ok(names(&self.json(request).await?))
    }

    /// The values that a dashboard's variable offers around `time`, as Grafana asks for them: of `label` of the series of `metric`, or of all.
    pub async fn label_values(
        &self,
        store: Store,
        label: &str,
        metric: Option<&str>,
        time: Duration,
    ) -> Result<Vec<String>, String> {
        let (from, to) = (time - AROUND, time + AROUND);
        let request = match store {
            Store::Loki => self
                .client
                .get(format!("{}/loki/api/v1/label/{label}/values", self.loki))
                .query(&[("start", from.as_nanos()), ("end", to.as_nanos())]),
            Store::Mimir => {
                let url = format!("{}/api/v1/label/{label}/values", self.prometheus);
                let window = [("start", from.as_secs()), ("end", to.as_secs())];
                let request = self.client.get(url).query(&window);
                match metric {
                    Some(metric) => request.query(&[("match[]", metric)]),
                    None => request,
                }
            }
            Store::Pyroscope => self
                .client
                .post(format!(
                    "{}/querier.v1.QuerierService/LabelValues",
                    self.pyroscope
                ))
                .json(&json!({
                    "name": label,
                    "start": from.as_millis() as u64,
                    "end": to.as_millis() as u64,
                })),
        };
        let answer = self.json(request).await?;
        // Pyroscope leaves `names` out where there are none.
        let values = answer["data"].as_array().or(answer["names"].as_array());
        let values = values.into_iter().flatten();
        Ok(values
            .filter_map(|value| Some(value.as_str()?.to_owned()))
            .collect())
    }
}

/// Whom a dashboard's variable asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    Loki,
    Mimir,
    Pyroscope,
}

/// Names of the functions in a flame graph.
fn names(answer: &Value) -> Vec<String> {
    let names = answer["flamegraph"]["names"].as_array();
    let names = names.into_iter().flatten();
    names
        .filter_map(|name| Some(name.as_str()?.to_owned()))
        .collect()
}

/// What was counted between two looks at the same counters. A series that was not there began at zero, and so did one that is smaller
/// than before: Prometheus' own rule for a program that was started again.
fn growth(before: &[Series], now: &[Series]) -> f64 {
    let was = |labels: &BTreeMap<String, String>| {
        let found = before.iter().find(|(known, _)| known == labels);
        found.map_or(0.0, |(_, value)| *value)
    };
    now.iter()
        .map(|(labels, value)| match value - was(labels) {
            grown if grown < 0.0 => *value,
            grown => grown,
        })
        // Not sum(), whose result for nothing at all is -0.
        .fold(0.0, |all, grown| all + grown)
}

/// The members of an object that are texts.
fn texts(object: &Value) -> BTreeMap<String, String> {
    let members = object.as_object().into_iter().flatten();
    members
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn spans(trace: &Value) -> Vec<Span> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut spans = Vec::new();
    for resource in list(&trace["resourceSpans"]) {
        let shared = attributes(&resource["resource"]["attributes"]);
        for scope in list(&resource["scopeSpans"]) {
            for span in list(&scope["spans"]) {
                let mut all = shared.clone();
                all.extend(attributes(&span["attributes"]));
                spans.push(Span {
                    id: hex_of(&span["spanId"]),
                    parent: hex_of(&span["parentSpanId"]),
                    name: span["name"].as_str().unwrap_or_default().into(),
                    attributes: all,
                    start: nanos(&span["startTimeUnixNano"]),
                    end: nanos(&span["endTimeUnixNano"]),
                });
            }
        }
    }
    spans
}

fn attributes(list: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| {
        value.as_object()?.values().next().map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    };
    let entries = list.as_array().into_iter().flatten();
    entries
        .filter_map(|entry| Some((entry["key"].as_str()?.to_owned(), text(&entry["value"])?)))
        .collect()
}

/// Tempo writes ids as OTLP's JSON has them (hexadecimal) or as protobuf's JSON does (base64).
fn hex_of(id: &Value) -> String {
    let text = id.as_str().unwrap_or_default();
    match BASE64_STANDARD.decode(text) {
        Ok(bytes) if bytes.len() == 8 => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        _ => text.to_lowercase(),
    }
}

fn nanos(text: &Value) -> Duration {
    Duration::from_nanos(
        text.as_str()
            .and_then(|text| text.parse().ok())
            .unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_in_either_spelling() {
        assert_eq!(hex_of(&json!("00F067AA0BA902B7")), "00f067aa0ba902b7");
        assert_eq!(hex_of(&json!("APBnqgupArc=")), "00f067aa0ba902b7");
        assert_eq!(hex_of(&Value::Null), "");
    }

    #[test]
    fn growth_is_counted_per_series_and_through_a_restart() {
        let series = |values: &[(&str, f64)]| -> Vec<Series> {
            let one = |&(route, value): &(&str, f64)| {
                (
                    BTreeMap::from([("route".to_owned(), route.to_owned())]),
                    value,
                )
            };
            values.iter().map(one).collect()
        };
        let before = series(&[("a", 7.0), ("b", 5.0), ("gone", 9.0)]);
        assert_eq!(growth(&before, &series(&[("a", 7.0), ("b", 5.0)])), 0.0);
        assert_eq!(growth(&before, &series(&[("a", 8.0), ("b", 7.0)])), 3.0);
        assert_eq!(growth(&before, &series(&[("a", 7.0), ("new", 2.0)])), 2.0);
        assert_eq!(growth(&before, &series(&[("a", 1.0), ("b", 5.0)])), 1.0);
        assert_eq!(growth(&[], &series(&[("a", 3.0)])), 3.0);
        assert_eq!(growth(&[], &[]).to_string(), "0");
    }

    #[test]
    fn a_span_has_its_resources_attributes() {
        let trace = json!({ "resourceSpans": [{
            "resource": { "attributes": [{ "key": "service.name", "value": { "stringValue": "a" } }] },
            "scopeSpans": [{ "spans": [{
                "spanId": "00f067aa0ba902b7", "name": "GET /", "startTimeUnixNano": "1500",
                "attributes": [{ "key": "http.response.status_code", "value": { "intValue": "200" } }],
            }] }],
        }] });
        let spans = spans(&trace);
        assert_eq!(spans.len(), 1);
        assert_eq!(spans[0].attributes["service.name"], "a");
        assert_eq!(spans[0].attributes["http.response.status_code"], "200");
        assert_eq!(spans[0].start, Duration::from_nanos(1500));
    }
}
