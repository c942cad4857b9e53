//! The links between the signals. Each is taken from Grafana as provisioned, expanded for the marked request, and followed: the
//! query must return that very request.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::console::pane;
use super::grafana::{Grafana, expand, matchers};
use super::hops::{burnt, sampled, until};
use super::marked::{COUNTED, Marked};
use super::read::{Reader, Record, Span};
use super::report::Row;

const MINUTE: Duration = Duration::from_secs(60);

/// What the links start from.
struct Start {
    loki: Value,
    mimir: Value,
    tempo: Value,
    /// Where a click on a route's CPU in the dashboard *Profiles* leads.
    burnt: String,
    spans: Vec<Span>,
    /// The server span of `/demo/work`.
    work: Span,
    /// A record of the marked request.
    record: Record,
}

/// Every link, by its number in the table of links in docs/story.md.
pub async fn prove(grafana: &Grafana, marked: &Marked, deadline: Duration) -> Vec<Row> {
    let reader = grafana.reader();
    let start = match start(grafana, &reader, marked).await {
        Ok(start) => start,
        Err(reason) => return vec![Row::broken("links", "where they start", reason)],
    };
    let mut rows = Vec::new();
    macro_rules! link {
        ($number:literal, $name:literal, $follow:ident) => {{
            let started = Instant::now();
            let outcome = until(deadline, || $follow(&reader, marked, &start)).await;
            rows.push(Row::new(
                $number,
                $name,
                outcome.map(|seen| (seen, started.elapsed())),
            ));
        }};
    }
    link!("D1", "log → trace", log_to_trace);
    link!("D2", "trace → logs", trace_to_logs);
    link!("D3", "trace → metrics", trace_to_metrics);
    link!("D4", "trace → profile of the span", trace_to_profile);
    link!("D5", "exemplar → trace", exemplar_to_trace);
    link!("D5", "span metrics' exemplar → trace", generated_exemplar);
    link!("D6", "profile → trace", profile_to_trace);
    link!("D7", "request id → all its logs", request_to_logs);
    link!("D8", "service graph, span metrics", service_graph);
    rows
}

async fn start(grafana: &Grafana, reader: &Reader, marked: &Marked) -> Result<Start, String> {
    let spans = reader.trace(&marked.trace_id).await?;
    let work = spans
        .iter()
        .find(|span| span.name == "GET /demo/work")
        .cloned();
    let query = format!(
        r#"{{service_name="signalbox-api"}} | trace_id="{}""#,
        marked.trace_id
    );
    let records = reader
        .logs(&query, marked.time - MINUTE, marked.time + 10 * MINUTE)
        .await?;
    Ok(Start {
        loki: grafana.data_source("loki").await?,
        mimir: grafana.data_source("mimir").await?,
        tempo: grafana.data_source("tempo").await?,
        burnt: grafana
            .data_link("signalbox-profiles", "CPU by route")
            .await?,
        work: work.ok_or("the trace of the marked request is not there")?,
        record: records
            .into_iter()
            .next()
            .ok_or("no log record of the marked request is there")?,
        spans,
    })
}

/// The derived field of Loki that matches a label of the record: its URL, expanded. `to` is the data source it asks, none if it is
/// the address of a page.
fn derived(start: &Start, label: &str, to: &str) -> Result<String, String> {
    let fields = start.loki["derivedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let field = fields
        .iter()
        .find(|field| {
            field["matcherType"] == "label"
                && field["matcherRegex"] == format!("^{label}$")
                && field["datasourceUid"].as_str().unwrap_or_default() == to
        })
        .ok_or_else(|| {
            format!(
                "Loki's data source has no derived field for the label {label} that leads to {to}"
            )
        })?;
    let value = start.record.fields.get(label);
    let value =
        value.ok_or_else(|| format!("the record has no {label} in its structured metadata"))?;
    Ok(field["url"]
        .as_str()
        .unwrap_or_default()
        .replace("${__value.raw}", value))
}

async fn log_to_trace(reader: &Reader, marked: &Marked, start: &Start) -> Result<String, String> {
    let trace_id = derived(start, "trace_id", "tempo")?;
    let spans = reader.trace(&trace_id).await?;
    if trace_id != marked.trace_id || spans.is_empty() {
        return Err(format!(
            "the link leads to {trace_id}, which has {} spans",
            spans.len()
        ));
    }
    Ok(format!("the marked trace, {} spans", spans.len()))
}

async fn request_to_logs(
    reader: &Reader,
    marked: &Marked,
    start: &Start,
) -> Result<String, String> {
    let page = derived(start, "signalbox_request_id", "")?;
    let pane = pane(&format!("http://grafana{page}"))?;
    let query = pane["queries"][0]["expr"].as_str().unwrap_or_default();
    let records = reader
        .logs(query, marked.time - MINUTE, marked.time + 10 * MINUTE)
        .await?;
    let of = |service: &str| {
        let from = |record: &&Record| {
            record
                .fields
                .get("service_name")
                .is_some_and(|name| name == service)
        };
        records.iter().filter(from).count()
    };
    let (api, worker) = (of("signalbox-api"), of("signalbox-worker"));
    if !query.contains(&marked.request_id) || api == 0 || worker == 0 {
        return Err(format!(
            "{query} finds {api} records of the API and {worker} of the worker"
        ));
    }
    Ok(format!("{api} records of the API, {worker} of the worker"))
}

async fn trace_to_logs(reader: &Reader, marked: &Marked, start: &Start) -> Result<String, String> {
    let link = &start.tempo["tracesToLogsV2"];
    let query = expand(
        link["query"].as_str().unwrap_or_default(),
        &marked.trace_id,
        &start.work,
        &link["tags"],
    );
    let shift = |name: &str| minutes(link[name].as_str().unwrap_or_default());
    let (earlier, later) = (shift("spanStartTimeShift")?, shift("spanEndTimeShift")?);
    let records = reader
        .logs(&query, start.work.start - earlier, start.work.end + later)
        .await?;
    let of_span = |record: &&Record| {
        record
            .fields
            .get("span_id")
            .is_some_and(|id| *id == start.work.id)
    };
    let own = records.iter().filter(of_span).count();
    if own == 0
        || records
            .iter()
            .any(|record| record.fields.get("trace_id") != Some(&marked.trace_id))
    {
        return Err(format!(
            "{query} finds {} records, {own} of the span",
            records.len()
        ));
    }
    Ok(format!(
        "{} records of the trace, {own} of the span",
        records.len()
    ))
}

/// `-5m` and `5m` alike, as a length.
fn minutes(shift: &str) -> Result<Duration, String> {
    crate::duration::parse(shift.trim_start_matches('-'))
}

async fn trace_to_metrics(
    reader: &Reader,
    marked: &Marked,
    start: &Start,
) -> Result<String, String> {
    let link = &start.tempo["tracesToMetrics"];
    let queries = link["queries"].as_array().cloned().unwrap_or_default();
    let mut seen = Vec::new();
    for query in &queries {
        let text = expand(
            query["query"].as_str().unwrap_or_default(),
            &marked.trace_id,
            &start.work,
            &link["tags"],
        );
        let values = reader.instant(&text, None).await?;
        // Where nothing failed there is no share of failures.
        let failures = text.contains("5..");
        match values.first() {
            Some(value) if value.is_finite() => seen.push(format!("{value:.3}")),
            _ if failures => seen.push("none failed".into()),
            _ => return Err(format!("{text} returns nothing")),
        }
    }
    if seen.is_empty() {
        return Err("Tempo's data source has no tracesToMetrics.queries".into());
    }
    Ok(format!("{} queries: {}", seen.len(), seen.join(", ")))
}

async fn trace_to_profile(
    reader: &Reader,
    marked: &Marked,
    start: &Start,
) -> Result<String, String> {
    let link = &start.tempo["tracesToProfiles"];
    let span = sampled(&start.spans)?;
    let selector = format!("{{{}}}", matchers(&span.attributes, &link["tags"]));
    let profile_type = link["profileTypeId"].as_str().unwrap_or_default();
    let names = reader
        .span_profile(
            profile_type,
            &selector,
            &span.attributes["pyroscope.profile.id"],
            marked.time,
        )
        .await?;
    burnt(&names)
}

async fn exemplar_to_trace(
    reader: &Reader,
    marked: &Marked,
    start: &Start,
) -> Result<String, String> {
    let query = r#"http_server_request_duration_seconds_bucket{service_name="signalbox-api"}"#;
    let exemplars = reader.exemplars(query, marked.time).await?;
    let linked = linked(&exemplars, &start.mimir);
    let count = linked.iter().filter(|id| **id == marked.trace_id).count();
    if count == 0 {
        return Err(format!(
            "{} exemplars of the service, none of the marked request with a link to Tempo",
            exemplars.len()
        ));
    }
    let spans = reader.trace(&marked.trace_id).await?;
    Ok(format!(
        "{count} exemplars of the marked request lead to its trace of {} spans",
        spans.len()
    ))
}

/// Of each bucket Tempo's generator keeps the last exemplar of an interval: under load that may be another request's. So whichever came
/// since the marked request will do, if its link opens a trace of this route.
async fn generated_exemplar(
    reader: &Reader,
    marked: &Marked,
    start: &Start,
) -> Result<String, String> {
    const ROUTE: &str = "GET /demo/work";
    let query = format!(
        r#"traces_spanmetrics_latency_bucket{{service="signalbox-api",span_name="{ROUTE}"}}"#
    );
    let exemplars = reader.exemplars(&query, marked.time).await?;
    let mut ids = linked(&exemplars, &start.mimir);
    ids.sort_by_key(|id| !same_id(id, &marked.trace_id));
    for id in ids.into_iter().take(5) {
        // As it stands in the exemplar: what Grafana's link asks Tempo for.
        let spans = reader.trace(id).await?;
        if spans.iter().any(|span| span.name == ROUTE) {
            let whose = match same_id(id, &marked.trace_id) {
                true => "the marked request",
                false => "a later request",
            };
            return Ok(format!(
                "an exemplar of {whose} leads to its trace of {} spans",
                spans.len()
            ));
        }
    }
    Err(format!(
        "{} exemplars of {query} since the marked request, none with a link to a trace of it: metrics_generator in tempo/tempo.yaml",
        exemplars.len()
    ))
}

/// The trace ids among the labels of exemplars that Mimir's data source links to Tempo.
fn linked<'a>(exemplars: &'a [BTreeMap<String, String>], mimir: &Value) -> Vec<&'a str> {
    let destinations = mimir["exemplarTraceIdDestinations"].as_array();
    let leads_to_tempo = |label: &str| {
        destinations.into_iter().flatten().any(|destination| {
            destination["name"] == label && destination["datasourceUid"] == "tempo"
        })
    };
    let labels = exemplars.iter().flatten();
    labels
        .filter(|(label, _)| leads_to_tempo(label))
        .map(|(_, id)| id.as_str())
        .collect()
}

/// As numbers: Tempo's generator leaves leading zeros out.
fn same_id(one: &str, other: &str) -> bool {
    let number = |id| u128::from_str_radix(id, 16);
    matches!((number(one), number(other)), (Ok(one), Ok(other)) if one == other)
}

async fn profile_to_trace(
    reader: &Reader,
    marked: &Marked,
    start: &Start,
) -> Result<String, String> {
    let span = sampled(&start.spans)?;
    let id = &span.attributes["pyroscope.profile.id"];
    let by_id = format!(r#"{{ span."pyroscope.profile.id" = "{id}" }}"#);
    let traces = reader.search(&by_id, marked.time).await?;
    if traces != [marked.trace_id.as_str()] {
        return Err(format!("{by_id} finds {traces:?}"));
    }
    let link = start
        .burnt
        .replace("${service}", "signalbox-api")
        .replace("${__field.labels.route}", "/demo/cpu");
    let pane = pane(&format!("http://grafana{link}"))?;
    let query = pane["queries"][0]["query"].as_str().unwrap_or_default();
    let traces = reader.search(query, marked.time).await?;
    if !traces.contains(&marked.trace_id) {
        return Err(format!(
            "{query} finds {} traces, not the marked one",
            traces.len()
        ));
    }
    Ok(format!(
        "the profile's id finds the marked trace alone, the link of its route {} traces with it",
        traces.len()
    ))
}

/// Growth since the marked request: what was counted before would also be there if the generator had stopped.
async fn service_graph(reader: &Reader, marked: &Marked, _: &Start) -> Result<String, String> {
    // Nobody else asks for this status.
    let calls = format!(
        r#"traces_spanmetrics_calls_total{{service="signalbox-api",span_name="GET /api",http_response_status_code="{}"}}"#,
        marked.status
    );
    let counted = reader.grown(&calls, marked.time).await?;
    if counted != COUNTED {
        return Err(format!("{calls} has grown by {counted}, not {COUNTED}"));
    }
    // Everybody's orders are on this edge: at least the marked one.
    let edge =
        r#"traces_service_graph_request_total{client="signalbox-api",server="signalbox-worker"}"#;
    let called = reader.grown(edge, marked.time).await?;
    if called < 1.0 {
        return Err(format!("{edge} has not grown since the marked request"));
    }
    Ok(format!(
        "exactly {counted} more spans with status {}, {called} more calls of the worker by the API",
        marked.status
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_trace_id_is_the_same_without_its_leading_zeros() {
        let whole = "00f067aa0ba902b7000000000000000a";
        assert!(same_id("f067aa0ba902b7000000000000000a", whole));
        assert!(same_id(whole, whole));
        assert!(!same_id("f067aa0ba902b7000000000000000b", whole));
        assert!(!same_id("", ""));
    }

    #[test]
    fn an_exemplar_is_linked_by_a_label_that_leads_to_tempo() {
        let exemplar = |label: &str, id: &str| {
            BTreeMap::from([
                (label.to_owned(), id.to_owned()),
                ("span_id".to_owned(), "1".to_owned()),
            ])
        };
        let exemplars = [
            exemplar("trace_id", "a"),
            exemplar("traceID", "b"),
            exemplar("other", "c"),
        ];
        let destinations = |uid: &str| json!({ "exemplarTraceIdDestinations": [{ "name": "traceID", "datasourceUid": uid }] });
        assert_eq!(linked(&exemplars, &destinations("tempo")), ["b"]);
        assert!(linked(&exemplars, &destinations("jaeger")).is_empty());
        assert!(linked(&exemplars, &Value::Null).is_empty());
    }
}
