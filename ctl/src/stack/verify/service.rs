//! Another service on the stack: `make verify SERVICE=NAME`.
//!
//! Sends nothing. Takes what the service itself sent in the last ten minutes, says for each link whether its data carries what the link
//! needs (docs/your-service.md), and follows the link from there, expanded as Grafana expands it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use serde_json::Value;
use tokio::join;
use tokio::time::Instant;

use super::console::pane;
use super::grafana::{Grafana, expand, matchers};
use super::hops::{CPU, until};
use super::links::{SOURCES, by_label, linked, minutes};
use super::read::{Reader, Record, Span, Store};
use super::report::{Fault, Report, Row};

/// How far back is looked.
const SINCE: Duration = Duration::from_secs(600);
/// How long what was sent just now may take: a profile comes every 10 s.
const ARRIVES_WITHIN: Duration = Duration::from_secs(15);
/// How many traces are opened in search of a span that a link can start from.
const MAX_TRACES: usize = 5;
/// The span attribute that names its samples.
const PROFILE_ID: &str = "pyroscope.profile.id";
/// What the links to metrics ask for.
const DURATION: &str = "http_server_request_duration_seconds";
/// Labels of a record that lead to all records of a request.
const REQUEST_IDS: [&str; 2] = ["request_id", "signalbox_request_id"];

type Seen = Result<String, Fault>;

/// The service, and what its links lead through.
struct Service<'a> {
    /// As it stands between quotation marks in a query.
    name: String,
    reader: Reader,
    grafana: &'a Grafana,
    now: Duration,
    loki: Value,
    mimir: Value,
    tempo: Value,
}

/// Adds a row for each signal, for the dashboards that list the service, and for each link.
pub async fn prove(grafana: &Grafana, name: &str, report: &mut Report) -> Result<(), String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let service = Service {
        name: name.replace('\\', r"\\").replace('"', "\\\""),
        reader: grafana.reader(),
        grafana,
        now: now.unwrap_or_default(),
        loki: grafana.data_source("loki").await?,
        mimir: grafana.data_source("mimir").await?,
        tempo: grafana.data_source("tempo").await?,
    };
    macro_rules! row {
        ($signal:literal, $what:literal, $needs:expr, $look:ident) => {
            async {
                let started = Instant::now();
                let outcome = until(ARRIVES_WITHIN, || service.$look()).await;
                let outcome = outcome.map(|seen| (seen, started.elapsed()));
                Row::new($signal, $what, outcome).needs(&$needs)
            }
        };
    }
    // All at once: each of those whose data is lacking waits for it.
    let (signals, links) = join!(
        async {
            let (logs, metrics, traces, profiles, lists) = join!(
                row!("logs", "records in Loki", [], records),
                row!("metrics", "series in Mimir", [], series),
                row!("traces", "spans in Tempo", [], spans),
                row!("profiles", "samples in Pyroscope", [], samples),
                row!("dashboards", "list it", [], listed),
            );
            [logs, metrics, traces, profiles, lists]
        },
        async {
            let (d1, d2, d3, d4, d5, d5_generated, d6, d7, d8) = join!(
                row!("D1", "log → trace", ["logs", "traces"], log_to_trace),
                row!("D2", "trace → logs", ["logs", "traces"], trace_to_logs),
                row!(
                    "D3",
                    "trace → metrics",
                    ["metrics", "traces"],
                    trace_to_metrics
                ),
                row!(
                    "D4",
                    "trace → profile of the span",
                    ["profiles", "traces"],
                    trace_to_profile
                ),
                row!(
                    "D5",
                    "exemplar → trace",
                    ["metrics", "traces"],
                    exemplar_to_trace
                ),
                row!(
                    "D5",
                    "span metrics' exemplar → trace",
                    ["traces"],
                    generated_exemplar
                ),
                row!(
                    "D6",
                    "profile → trace",
                    ["profiles", "traces"],
                    profile_to_trace
                ),
                row!("D7", "request id → all its logs", ["logs"], request_to_logs),
                row!(
                    "D8",
                    "service graph, span metrics",
                    ["traces"],
                    service_graph
                ),
            );
            [d1, d2, d3, d4, d5, d5_generated, d6, d7, d8]
        }
    );
    for row in signals.into_iter().chain(links) {
        report.add(row);
    }
    Ok(())
}

fn lacks<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Lacks(what.into()))
}

impl Service<'_> {
    fn selector(&self) -> String {
        format!(r#"{{service_name="{}"}}"#, self.name)
    }

    // ── what has arrived ──

    async fn records(&self) -> Seen {
        let records = self.logs("").await?;
        match records.len() {
            0 => lacks(format!(
                "no record of that name; there are those of {}. Does it send logs by OTLP (OTEL_LOGS_EXPORTER, a log bridge)?",
                self.known(Store::Loki).await
            )),
            // What Loki gives at most.
            1_000.. => Ok("1,000 records or more".into()),
            count => Ok(format!("{count} records")),
        }
    }

    async fn series(&self) -> Seen {
        // Of the functions over time this one alone keeps the name, without which two metrics are the same series.
        let query = format!("count(last_over_time({}[10m]))", self.selector());
        match self.reader.instant(&query, None).await?.first() {
            Some(count) => Ok(format!("{count} series")),
            None => lacks(format!(
                "no series of that name; there are those of {}. OTEL_METRICS_EXPORTER, OTEL_METRIC_EXPORT_INTERVAL",
                self.known(Store::Mimir).await
            )),
        }
    }

    async fn spans(&self) -> Seen {
        match self.traces("").await?.len() {
            0 => lacks(
                "no span of that name: OTEL_SERVICE_NAME, OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER",
            ),
            count => Ok(format!("{count} traces")),
        }
    }

    async fn samples(&self) -> Seen {
        let names = self.reader.profile(CPU, &self.selector(), self.now).await?;
        match names.len() {
            // The root of a flame graph without samples.
            0 | 1 => lacks(format!(
                "no CPU sample with the label service_name of that name; there are those of {}: PYROSCOPE_SERVER_ADDRESS",
                self.known(Store::Pyroscope).await
            )),
            count => Ok(format!("a flame graph of {count} names")),
        }
    }

    /// Which services a store has heard of, for whoever mistyped.
    async fn known(&self, store: Store) -> String {
        let names = self
            .reader
            .label_values(store, "service_name", None, self.now);
        names.await.unwrap_or_default().join(", ")
    }

    /// Whether the variable `service` of every dashboard that has one offers it.
    async fn listed(&self) -> Seen {
        let variables = self.grafana.variables("service").await?;
        let asked = variables.iter().map(|(title, variable)| async move {
            let Some((store, label, metric)) = values_of(variable) else {
                let told = format!("{title}: {} cannot be read", variable["query"]);
                return Err(Fault::Broken(told));
            };
            let values = self
                .reader
                .label_values(store, &label, metric.as_deref(), self.now);
            let listed = values.await?.contains(&self.name);
            Ok((title.as_str(), listed))
        });
        let mut on = Vec::new();
        let mut off = Vec::new();
        for answer in join_all(asked).await {
            match answer? {
                (title, true) => on.push(title),
                (title, false) => off.push(title),
            }
        }
        if off.is_empty() {
            return Ok(on.join(", "));
        }
        lacks(format!(
            "{} {} it, {} {} not: the signal that each lists by has not arrived",
            on.join(", "),
            if on.len() == 1 { "lists" } else { "list" },
            off.join(", "),
            if off.len() == 1 { "does" } else { "do" },
        ))
    }

    // ── where links start ──

    /// The newest records first; `filter` is a pipeline.
    async fn logs(&self, filter: &str) -> Result<Vec<Record>, String> {
        let query = format!("{} {filter}", self.selector());
        self.reader
            .logs(&query, self.now - SINCE, later(self.now))
            .await
    }

    /// Ids of its traces with a span that `condition` describes (`&& …`, of TraceQL).
    async fn traces(&self, condition: &str) -> Result<Vec<String>, String> {
        let query = format!(
            r#"{{ resource.service.name = "{}" {condition} }}"#,
            self.name
        );
        self.reader.search(&query, self.now).await
    }

    /// A span of its own that carries `attribute`, and the trace it is of.
    async fn span_with(&self, attribute: &str) -> Result<Option<(String, Span)>, String> {
        let ids = self
            .traces(&format!(r#"&& span."{attribute}" != nil"#))
            .await?;
        self.span_among(ids, attribute).await
    }

    /// The same, of one of these traces.
    async fn span_among(
        &self,
        ids: Vec<String>,
        attribute: &str,
    ) -> Result<Option<(String, Span)>, String> {
        for id in ids.into_iter().take(MAX_TRACES) {
            let spans = self.reader.trace(&id).await?;
            let own = spans.into_iter().find(|span| {
                let is_own = span.attributes.get("service.name") == Some(&self.name);
                is_own && span.attributes.contains_key(attribute)
            });
            if let Some(span) = own {
                return Ok(Some((id, span)));
            }
        }
        Ok(None)
    }

    /// Where a trace id of its own leads; a sampler may have left the trace out.
    async fn opens(&self, trace_id: &str, from: &str) -> Seen {
        match self.reader.trace(trace_id).await?.len() {
            0 => lacks(format!(
                "{from} names the trace {trace_id}, which is not in Tempo: was it sampled (OTEL_TRACES_SAMPLER), and sent?"
            )),
            spans => Ok(format!("{from} → its trace of {spans} spans")),
        }
    }

    // ── the links ──

    async fn log_to_trace(&self) -> Seen {
        let records = self.logs(r#"| trace_id != """#).await?;
        let Some(record) = records.first() else {
            return lacks(
                "no record has a trace id: log inside a span, through the log bridge of the SDK",
            );
        };
        let trace_id = by_label(&self.loki, record, "trace_id", "tempo")?;
        self.opens(&trace_id, "a record").await
    }

    async fn trace_to_logs(&self) -> Seen {
        let records = self.logs(r#"| trace_id != "" | span_id != """#).await?;
        let Some(record) = records.first() else {
            return lacks("no record has both a trace id and a span id");
        };
        let (trace_id, span_id) = (&record.fields["trace_id"], &record.fields["span_id"]);
        let spans = self.reader.trace(trace_id).await?;
        let Some(span) = spans.iter().find(|span| span.id == *span_id) else {
            return lacks(format!(
                "a record was written in span {span_id} of trace {trace_id}, which Tempo does not have"
            ));
        };
        let link = &self.tempo["tracesToLogsV2"];
        let template = link["query"].as_str().unwrap_or_default();
        let query = expand(template, trace_id, span, &link["tags"]);
        let shift = |name: &str| minutes(link[name].as_str().unwrap_or_default());
        let (before, after) = (shift("spanStartTimeShift")?, shift("spanEndTimeShift")?);
        let found = self
            .reader
            .logs(&query, span.start - before, span.end + after)
            .await?;
        let own = found
            .iter()
            .filter(|record| record.fields.get("span_id") == Some(span_id))
            .count();
        match own {
            0 => Err(Fault::Broken(format!(
                "{query} finds {} records, none of the span: tracesToLogsV2 in {SOURCES}",
                found.len()
            ))),
            _ => Ok(format!(
                "{} records of the trace, {own} of the span",
                found.len()
            )),
        }
    }

    async fn trace_to_metrics(&self) -> Seen {
        let Some((trace_id, span)) = self.span_with("http.route").await? else {
            return lacks("no span has http.route, by which the series are found");
        };
        let count = format!(
            "count(count_over_time({DURATION}_count{}[10m]))",
            self.selector()
        );
        if self.reader.instant(&count, None).await?.is_empty() {
            return lacks(
                "no metric http.server.request.duration in seconds: stable conventions (OTEL_SEMCONV_STABILITY_OPT_IN=http)",
            );
        }
        let link = &self.tempo["tracesToMetrics"];
        let mut seen = Vec::new();
        for query in link["queries"].as_array().into_iter().flatten() {
            let template = query["query"].as_str().unwrap_or_default();
            let query = expand(template, &trace_id, &span, &link["tags"]);
            // The page shows a range: anything in it will do.
            let range = format!("max_over_time(({query})[10m:15s])");
            let values = self.reader.instant(&range, None).await?;
            match values.first() {
                Some(value) if value.is_finite() => seen.push(format!("{value:.3}")),
                // Where nothing failed there is no share of failures.
                _ if query.contains("5..") => seen.push("none failed".into()),
                _ => {
                    return lacks(format!(
                        "{query} returns nothing: a rate needs two exports with http.route as the span has it, and the span metrics a span of that name"
                    ));
                }
            }
        }
        Ok(format!("{} queries: {}", seen.len(), seen.join(", ")))
    }

    async fn trace_to_profile(&self) -> Seen {
        let Some((_, span)) = self.span_with(PROFILE_ID).await? else {
            return lacks(format!(
                "no span has {PROFILE_ID}: a span-profile package of Pyroscope sets it, in Rust profiles::span_scope of the crate telemetry/"
            ));
        };
        let link = &self.tempo["tracesToProfiles"];
        let selector = format!("{{{}}}", matchers(&span.attributes, &link["tags"]));
        let profile_type = link["profileTypeId"].as_str().unwrap_or_default();
        let id = &span.attributes[PROFILE_ID];
        let names = self
            .reader
            .span_profile(profile_type, &selector, id, self.now)
            .await?;
        match names.len() {
            0 | 1 => lacks(format!(
                "no sample of {selector} carries the id {id} of its span: service_name of the profile must be OTEL_SERVICE_NAME, and the work longer than a sample"
            )),
            count => Ok(format!("the span's own flame graph of {count} names")),
        }
    }

    async fn exemplar_to_trace(&self) -> Seen {
        let query = format!("{DURATION}_bucket{}", self.selector());
        self.exemplar(
            &query,
            "no exemplar: OTEL_METRICS_EXEMPLAR_FILTER=trace_based, and the metric recorded inside a sampled span",
        )
        .await
    }

    async fn generated_exemplar(&self) -> Seen {
        let query = format!(
            r#"traces_spanmetrics_latency_bucket{{service="{}"}}"#,
            self.name
        );
        self.exemplar(&query, "no exemplar of Tempo's generator yet")
            .await
    }

    async fn exemplar(&self, query: &str, without: &str) -> Seen {
        let exemplars = self.reader.exemplars(query, self.now - SINCE).await?;
        if exemplars.is_empty() {
            return lacks(format!("{query}: {without}"));
        }
        let ids = linked(&exemplars, &self.mimir);
        let Some(id) = ids.last() else {
            let labels: BTreeMap<_, _> = exemplars.into_iter().flatten().collect();
            let labels: Vec<String> = labels.into_keys().collect();
            return lacks(format!(
                "exemplars have {}; trace_id or traceID leads to Tempo",
                labels.join(", ")
            ));
        };
        self.opens(id, "an exemplar").await
    }

    async fn profile_to_trace(&self) -> Seen {
        let Some((trace_id, span)) = self.span_with(PROFILE_ID).await? else {
            return lacks(format!("no span has {PROFILE_ID}"));
        };
        let id = &span.attributes[PROFILE_ID];
        let found = self
            .traces(&format!(r#"&& span."{PROFILE_ID}" = "{id}""#))
            .await?;
        if found != [trace_id.as_str()] {
            return Err(Fault::Broken(format!(
                "the profile id {id} finds {found:?}, not the trace {trace_id}: query_frontend in tempo/tempo.yaml"
            )));
        }
        // As the dashboard has it: a route is listed there only if a request of it burnt CPU.
        let burnt = format!(
            r#"{{ resource.service.name = "{}" && span.http.route != nil }} && {{ span."{PROFILE_ID}" != nil }}"#,
            self.name
        );
        let burnt = self.reader.search(&burnt, self.now).await?;
        let Some((trace_id, span)) = self.span_among(burnt, "http.route").await? else {
            return lacks(format!(
                "no span with http.route, by which the dashboard Profiles finds traces, is in a trace with {PROFILE_ID}"
            ));
        };
        let link = self
            .grafana
            .data_link("signalbox-profiles", "CPU by route")
            .await?
            .replace("${service}", &self.name)
            .replace("${__field.labels.route}", &span.attributes["http.route"]);
        let pane = pane(&format!("http://grafana{link}"))?;
        let query = pane["queries"][0]["query"].as_str().unwrap_or_default();
        let traces = self.reader.search(query, self.now).await?;
        match traces.contains(&trace_id) {
            true => Ok(format!(
                "its id finds the trace, its route {} traces",
                traces.len()
            )),
            false => Err(Fault::Broken(format!(
                "{query} finds {} traces, not {trace_id}: the data link of the panel \"CPU by route\" in grafana/dashboards",
                traces.len()
            ))),
        }
    }

    async fn request_to_logs(&self) -> Seen {
        for label in REQUEST_IDS {
            let records = self.logs(&format!(r#"| {label} != """#)).await?;
            let Some(record) = records.first() else {
                continue;
            };
            let page = by_label(&self.loki, record, label, "")?;
            let pane = pane(&format!("http://grafana{page}"))?;
            let query = pane["queries"][0]["expr"].as_str().unwrap_or_default();
            let found = self
                .reader
                .logs(query, self.now - SINCE, later(self.now))
                .await?;
            return match found.len() {
                0 => Err(Fault::Broken(format!(
                    "{query} finds nothing: derivedFields in {SOURCES}"
                ))),
                count => Ok(format!("{count} records of one request, by {label}")),
            };
        }
        lacks("no record has an attribute request.id or request_id")
    }

    async fn service_graph(&self) -> Seen {
        let name = &self.name;
        let now = format!(r#"count(traces_spanmetrics_calls_total{{service="{name}"}})"#);
        if self.reader.instant(&now, None).await?.is_empty() {
            return lacks(
                "no span metrics of the last five minutes: Tempo makes them of SERVER and CLIENT spans",
            );
        }
        let edges = format!(
            r#"count(traces_service_graph_request_total{{client="{name}"}} or traces_service_graph_request_total{{server="{name}"}})"#
        );
        match self.reader.instant(&edges, None).await?.first() {
            Some(edges) => Ok(format!("span metrics, and {edges} edges")),
            None => lacks(
                "no edge: a CLIENT span and the SERVER span of who is called in one trace (W3C traceparent), or db.system.name or peer.service on the CLIENT span",
            ),
        }
    }
}

/// The end of a window around now: clocks differ.
fn later(now: Duration) -> Duration {
    now + Duration::from_secs(60)
}

/// Whom a variable asks for the values of which label, of which metric if not of all.
fn values_of(variable: &Value) -> Option<(Store, String, Option<String>)> {
    let query = &variable["query"];
    if let Some(label) = query["labelName"].as_str() {
        return Some((Store::Pyroscope, label.to_owned(), None));
    }
    let store = match variable["datasource"]["uid"].as_str()? {
        "loki" => Store::Loki,
        _ => Store::Mimir,
    };
    let text = query.as_str().or(query["query"].as_str())?;
    let inner = text.strip_prefix("label_values(")?.strip_suffix(')')?;
    Some(match inner.rsplit_once(',') {
        Some((metric, label)) => (store, label.trim().into(), Some(metric.trim().into())),
        None => (store, inner.trim().into(), None),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_variable_is_asked_for_as_grafana_asks() {
        let mimir = |query: &str| json!({ "datasource": { "uid": "mimir" }, "query": { "qryType": 1, "query": query } });
        assert_eq!(
            values_of(&mimir("label_values(service_name)")),
            Some((Store::Mimir, "service_name".into(), None))
        );
        assert_eq!(
            values_of(&mimir(
                "label_values(calls_total{a=\"1\",b=\"2\"}, service)"
            )),
            Some((
                Store::Mimir,
                "service".into(),
                Some("calls_total{a=\"1\",b=\"2\"}".into())
            ))
        );
        let loki =
            json!({ "datasource": { "uid": "loki" }, "query": "label_values(service_name)" });
        assert_eq!(
            values_of(&loki),
            Some((Store::Loki, "service_name".into(), None))
        );
        let pyroscope = json!({ "datasource": { "uid": "pyroscope" }, "query": { "type": "labelValue", "labelName": "service_name" } });
        assert_eq!(
            values_of(&pyroscope),
            Some((Store::Pyroscope, "service_name".into(), None))
        );
        assert_eq!(values_of(&mimir("metrics(.*)")), None);
    }

    #[test]
    fn every_dashboard_variable_of_services_can_be_read() -> Result<(), Box<dyn std::error::Error>>
    {
        let mut read = 0;
        for entry in std::fs::read_dir(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../grafana/dashboards"
        ))? {
            let path = entry?.path();
            let board: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
            let list = board["templating"]["list"].as_array();
            for variable in list.into_iter().flatten() {
                if variable["name"] == "service" {
                    assert!(values_of(variable).is_some(), "{}", path.display());
                    read += 1;
                }
            }
        }
        assert!(read >= 6, "{read}");
        Ok(())
    }
}
