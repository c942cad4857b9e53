//! The links between the signals. Each is taken from Grafana as provisioned, expanded for the marked request, and followed: the
//! query must return that very request.

use std::collections::BTreeMap;
use std::time::Duration;

use regex::Regex;
use serde_json::Value;
use tokio::time::Instant;

use super::console::pane;
use super::grafana::{Grafana, expand, matchers};
use super::hops::{burnt, sampled, until};
use super::marked::{COUNTED, Marked};
use super::read::{Reader, Record, Span};
use super::report::{Report, Row};

const MINUTE: Duration = Duration::from_secs(60);

/// What the links start from. Each link says what of it it misses.
struct Start {
    loki: Result<Value, String>,
    mimir: Result<Value, String>,
    tempo: Result<Value, String>,
    /// Where a click on a route's CPU in the dashboard *Profiles* leads.
    burnt: Result<String, String>,
    spans: Result<Vec<Span>, String>,
    /// The server span of `/demo/work`.
    work: Result<Span, String>,
    /// A record of the marked request.
    record: Result<Record, String>,
    /// Whether tail sampling is on.
    sampled: bool,
}

/// Every link, by its number in the table of links in docs/story.md. One that needs a broken signal is not followed.
/// `sampled` says that tail sampling is on.
pub async fn prove(
    grafana: &Grafana,
    marked: &Marked,
    sampled: bool,
    deadline: Duration,
    report: &mut Report,
) {
    let reader = grafana.reader();
    let patience = |signal| match report.is_broken(signal) {
        true => Duration::ZERO,
        false => deadline,
    };
    let start = start(
        grafana,
        &reader,
        marked,
        sampled,
        patience("traces"),
        patience("logs"),
    )
    .await;
    macro_rules! link {
        ($number:literal, $name:literal, $needs:expr, $follow:ident) => {{
            let started = Instant::now();
            let needs: &[&'static str] = &$needs;
            let outcome = match needs.iter().any(|signal| report.is_broken(signal)) {
                true => Err(String::new()),
                false => until(deadline, || $follow(&reader, marked, &start)).await,
            };
            let outcome = outcome.map(|seen| (seen, started.elapsed()));
            report.add(Row::new($number, $name, outcome).needs(needs));
        }};
    }
    link!("D1", "log → trace", ["logs", "traces"], log_to_trace);
    link!("D2", "trace → logs", ["logs", "traces"], trace_to_logs);
    link!(
        "D3",
        "trace → metrics",
        ["metrics", "traces"],
        trace_to_metrics
    );
    link!(
        "D4",
        "trace → profile of the span",
        ["profiles", "traces"],
        trace_to_profile
    );
    link!(
        "D5",
        "exemplar → trace",
        ["metrics", "traces"],
        exemplar_to_trace
    );
    link!(
        "D5",
        "span metrics' exemplar → trace",
        ["metrics", "traces"],
        generated_exemplar
    );
    link!("D6", "profile → trace", ["traces"], profile_to_trace);
    link!("D7", "request id → all its logs", ["logs"], request_to_logs);
    link!(
        "D8",
        "service graph, span metrics",
        ["metrics", "traces"],
        service_graph
    );
}

/// Each part is asked for until it is there: one answer that does not come in time would be laid to what the links need.
async fn start(
    grafana: &Grafana,
    reader: &Reader,
    marked: &Marked,
    sampled: bool,
    traces_within: Duration,
    logs_within: Duration,
) -> Start {
    let spans = until(traces_within, || async {
        let spans = reader.trace(&marked.trace_id).await?;
        match spans.is_empty() {
            true => Err("the trace of the marked request is not there".to_owned()),
            false => Ok(spans),
        }
    })
    .await;
    let work = spans.clone().and_then(|spans| {
        let work = spans.into_iter().find(|span| span.name == "GET /demo/work");
        work.ok_or_else(|| "the marked request's trace has no span GET /demo/work".to_owned())
    });
    let query = format!(
        r#"{{service_name="signalbox-api"}} | trace_id="{}""#,
        marked.trace_id
    );
    let record = until(logs_within, || async {
        let records = reader
            .logs(&query, marked.time - MINUTE, marked.time + 10 * MINUTE)
            .await?;
        let first = records.into_iter().next();
        first.ok_or_else(|| "no log record of the marked request is there".to_owned())
    })
    .await;
    let source = async |uid| until(logs_within, || grafana.data_source(uid)).await;
    Start {
        loki: source("loki").await,
        mimir: source("mimir").await,
        tempo: source("tempo").await,
        burnt: until(logs_within, || {
            grafana.data_link("signalbox-profiles", "CPU by route")
        })
        .await,
        spans,
        work,
        record,
        sampled,
    }
}

/// What is there of a start, or why it is not.
fn there<T>(part: &Result<T, String>) -> Result<&T, String> {
    part.as_ref().map_err(Clone::clone)
}

/// Where the links of Grafana's data sources stand.
pub(super) const SOURCES: &str = "grafana/provisioning/datasources/signalbox.yaml";

/// The derived field of Loki that matches a label of the record: its URL, expanded. `to` is the data source it asks, none if it is
/// the address of a page.
fn derived(start: &Start, label: &str, to: &str) -> Result<String, String> {
    by_label(there(&start.loki)?, there(&start.record)?, label, to)
}

/// The same for any record, by the settings of Loki's data source. As Grafana reads them: of fields that share a name the first
/// expression alone decides, and the links of all are shown.
pub(super) fn by_label(
    loki: &Value,
    record: &Record,
    label: &str,
    to: &str,
) -> Result<String, String> {
    let fields = loki["derivedFields"].as_array();
    let fields = fields.map(Vec::as_slice).unwrap_or_default();
    let named = |name: &Value| -> Vec<&Value> {
        let fields = fields.iter();
        fields.filter(|field| field["name"] == *name).collect()
    };
    let finds = |field: &Value| {
        let expression = field["matcherRegex"].as_str().unwrap_or_default();
        let whole = expression.starts_with('^') && expression.ends_with('$');
        let label_is_found = || Regex::new(expression).is_ok_and(|found| found.is_match(label));
        field["matcherType"] == "label" && whole && label_is_found()
    };
    let leads = |field: &Value| field["datasourceUid"].as_str().unwrap_or_default() == to;
    let mut fields = fields.iter();
    let field = fields
        .find(|field| leads(field) && finds(named(&field["name"])[0]))
        .ok_or_else(|| {
            let to = if to.is_empty() { "a page" } else { to };
            format!(
                "Loki's data source has no derived field with matcherType: label and matcherRegex: ^{label}$ that leads to {to}: {SOURCES}"
            )
        })?;
    let links = named(&field["name"]).len();
    if links > 1 {
        let name = &field["name"];
        return Err(format!(
            "{links} derived fields are named {name}: a record with {label} shows the links of all: {SOURCES}"
        ));
    }
    let value = record.fields.get(label);
    let value = value.ok_or_else(|| {
        format!(
            "the record has no {label} in its structured metadata: otlp_config in loki/loki.yaml"
        )
    })?;
    Ok(field["url"]
        .as_str()
        .unwrap_or_default()
        .replace("${__value.raw}", value))
}

/// The derived field of Loki called `name`, which matches the text of a line: its URL, expanded with what its expression captures.
pub(super) fn by_text(loki: &Value, line: &str, name: &str) -> Result<String, String> {
    let fields = loki["derivedFields"].as_array();
    let mut fields = fields.into_iter().flatten();
    let field = fields
        .find(|field| field["name"] == name && field["matcherType"] != "label")
        .ok_or_else(|| {
            format!("Loki's data source has no derived field {name:?} that matches text: {SOURCES}")
        })?;
    let expression = field["matcherRegex"].as_str().unwrap_or_default();
    let wrong = |reason| format!("matcherRegex of {name:?} in {SOURCES}: {reason}");
    let expression = Regex::new(expression).map_err(|error| wrong(error.to_string()))?;
    let captured = expression.captures(line).and_then(|found| found.get(1));
    let captured = captured.ok_or_else(|| wrong(format!("finds nothing in {line}")))?;
    Ok(field["url"]
        .as_str()
        .unwrap_or_default()
        .replace("${__value.raw}", captured.as_str()))
}

async fn log_to_trace(reader: &Reader, marked: &Marked, start: &Start) -> Result<String, String> {
    let trace_id = derived(start, "trace_id", "tempo")?;
    let spans = reader.trace(&trace_id).await?;
    if trace_id != marked.trace_id || spans.is_empty() {
        return Err(format!(
            "the link leads to {trace_id}, which has {} spans: derivedFields in {SOURCES}",
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
            "{query} finds {api} records of the API and {worker} of the worker: derivedFields in {SOURCES}"
        ));
    }
    Ok(format!("{api} records of the API, {worker} of the worker"))
}

/// What *Logs for this span* asks for, and its answer. `tempo` is the settings of Tempo's data source.
pub(super) async fn logs_of_span(
    reader: &Reader,
    tempo: &Value,
    trace_id: &str,
    span: &Span,
) -> Result<(String, Vec<Record>), String> {
    let link = &tempo["tracesToLogsV2"];
    let template = link["query"].as_str().unwrap_or_default();
    let query = expand(template, trace_id, span, &link["tags"]);
    let shift = |name: &str| minutes(link[name].as_str().unwrap_or_default());
    let (earlier, later) = (shift("spanStartTimeShift")?, shift("spanEndTimeShift")?);
    let (from, to) = (span.start - earlier, span.end + later);
    let records = reader.logs(&query, from, to).await?;
    Ok((query, records))
}

async fn trace_to_logs(reader: &Reader, marked: &Marked, start: &Start) -> Result<String, String> {
    let work = there(&start.work)?;
    let tempo = there(&start.tempo)?;
    let (query, records) = logs_of_span(reader, tempo, &marked.trace_id, work).await?;
    let of_span = |record: &&Record| {
        record
            .fields
            .get("span_id")
            .is_some_and(|id| *id == work.id)
    };
    let own = records.iter().filter(of_span).count();
    if own == 0
        || records
            .iter()
            .any(|record| record.fields.get("trace_id") != Some(&marked.trace_id))
    {
        return Err(format!(
            "{query} finds {} records, {own} of the span: tracesToLogsV2 in {SOURCES}",
            records.len()
        ));
    }
    Ok(format!(
        "{} records of the trace, {own} of the span",
        records.len()
    ))
}

/// `-5m` and `5m` alike, as a length.
pub fn minutes(shift: &str) -> Result<Duration, String> {
    let told = |reason| format!("tracesToLogsV2 in {SOURCES}: {reason}");
    crate::duration::parse(shift.trim_start_matches('-')).map_err(told)
}

async fn trace_to_metrics(
    reader: &Reader,
    marked: &Marked,
    start: &Start,
) -> Result<String, String> {
    let link = &there(&start.tempo)?["tracesToMetrics"];
    let queries = link["queries"].as_array().cloned().unwrap_or_default();
    let mut seen = Vec::new();
    for query in &queries {
        let text = expand(
            query["query"].as_str().unwrap_or_default(),
            &marked.trace_id,
            there(&start.work)?,
            &link["tags"],
        );
        let values = reader.instant(&text, None).await?;
        // Where nothing failed there is no share of failures.
        let failures = text.contains("5..");
        match values.first() {
            Some(value) if value.is_finite() => seen.push(format!("{value:.3}")),
            _ if failures => seen.push("none failed".into()),
            _ => {
                return Err(format!(
                    "{text} returns nothing: tracesToMetrics in {SOURCES}"
                ));
            }
        }
    }
    if seen.is_empty() {
        return Err(format!(
            "Tempo's data source has no tracesToMetrics.queries: {SOURCES}"
        ));
    }
    Ok(format!("{} queries: {}", seen.len(), seen.join(", ")))
}

async fn trace_to_profile(
    reader: &Reader,
    marked: &Marked,
    start: &Start,
) -> Result<String, String> {
    let link = &there(&start.tempo)?["tracesToProfiles"];
    let span = sampled(there(&start.spans)?)?;
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
    burnt(&names).map_err(|reason| format!("{reason}: tracesToProfiles in {SOURCES}"))
}

async fn exemplar_to_trace(
    reader: &Reader,
    marked: &Marked,
    start: &Start,
) -> Result<String, String> {
    let query = r#"http_server_request_duration_seconds_bucket{service_name="signalbox-api"}"#;
    let exemplars = reader.exemplars(query, marked.time).await?;
    let linked = linked(&exemplars, there(&start.mimir)?);
    let count = linked.iter().filter(|id| **id == marked.trace_id).count();
    if count == 0 {
        let cause = no_exemplar(exemplars.len(), linked.len());
        return Err(format!("{query} since the marked request: {cause}"));
    }
    let spans = reader.trace(&marked.trace_id).await?;
    Ok(format!(
        "{count} exemplars of the marked request lead to its trace of {} spans",
        spans.len()
    ))
}

/// Why no exemplar of the service leads to the marked request, of so many that there are and so many that lead to Tempo.
fn no_exemplar(all: usize, linked: usize) -> String {
    match (all, linked) {
        (0, _) => {
            "Mimir has no exemplar: max_global_exemplars_per_user in mimir/mimir.yaml, or the service makes none \
             (OTEL_METRICS_EXEMPLAR_FILTER)"
                .to_owned()
        }
        (all, 0) => format!(
            "of {all} exemplars none has a label that leads to Tempo: exemplarTraceIdDestinations in {SOURCES}"
        ),
        (_, linked) => format!("{linked} exemplars lead to Tempo, none to the marked request"),
    }
}

/// Of each bucket Tempo's generator keeps the last exemplar of an interval: under load that may be another request's. So whichever came
/// since the marked request will do, if its link opens a trace of this route.
async fn generated_exemplar(
    reader: &Reader,
    marked: &Marked,
    start: &Start,
) -> Result<String, String> {
    // With tail sampling most exemplars lead nowhere, since they are made before the decision. Those of failed requests always lead to a trace.
    let (route, only) = match start.sampled {
        false => ("GET /demo/work", ""),
        true => ("GET /api", r#",http_response_status_code="500""#),
    };
    let query = format!(
        r#"traces_spanmetrics_latency_bucket{{service="signalbox-api",span_name="{route}"{only}}}"#
    );
    let exemplars = reader.exemplars(&query, marked.time).await?;
    let mut ids = linked(&exemplars, there(&start.mimir)?);
    ids.sort_by_key(|id| !same_id(id, &marked.trace_id));
    for id in ids.into_iter().take(5) {
        // As it stands in the exemplar: what Grafana's link asks Tempo for.
        let spans = reader.trace(id).await?;
        if spans.iter().any(|span| span.name == route) {
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
        "{} exemplars of {query} since the marked request, none with a link to a trace of it: exemplarTraceIdDestinations in {SOURCES} (traceID), or \
         max_global_exemplars_per_user in mimir/mimir.yaml",
        exemplars.len()
    ))
}

/// The trace ids among the labels of exemplars that Mimir's data source links to Tempo.
pub fn linked<'a>(exemplars: &'a [BTreeMap<String, String>], mimir: &Value) -> Vec<&'a str> {
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
    let span = sampled(there(&start.spans)?)?;
    let id = &span.attributes["pyroscope.profile.id"];
    let by_id = format!(r#"{{ span."pyroscope.profile.id" = "{id}" }}"#);
    let traces = reader.search(&by_id, marked.time).await?;
    if traces != [marked.trace_id.as_str()] {
        return Err(format!(
            "{by_id} finds {traces:?}: the service's span attribute, or query_frontend in tempo/tempo.yaml"
        ));
    }
    let link = there(&start.burnt)?
        .replace("${service}", "signalbox-api")
        .replace("${__field.labels.route}", "/demo/cpu");
    let pane = pane(&format!("http://grafana{link}"))?;
    let query = pane["queries"][0]["query"].as_str().unwrap_or_default();
    let traces = reader.search(query, marked.time).await?;
    if !traces.contains(&marked.trace_id) {
        return Err(format!(
            "{query} finds {} traces, not the marked one: the data link of the panel \"CPU by route\" in grafana/dashboards",
            traces.len()
        ));
    }
    Ok(format!(
        "the profile's id finds the marked trace alone, the link of its route {} traces with it",
        traces.len()
    ))
}

/// What makes metrics of spans.
const GENERATOR: &str = "metrics_generator and overrides.defaults.metrics_generator.processors in tempo/tempo.yaml, `make logs-tempo`; \
     with PROFILE=sampling alloy/modules/traces-sampled.alloy, `make logs-alloy`";

/// Growth since the marked request: what was counted before would also be there if the generator had stopped.
async fn service_graph(reader: &Reader, marked: &Marked, _: &Start) -> Result<String, String> {
    // Nobody else asks for this status.
    let calls = format!(
        r#"traces_spanmetrics_calls_total{{service="signalbox-api",span_name="GET /api",http_response_status_code="{}"}}"#,
        marked.status
    );
    let counted = reader.grown(&calls, marked.time).await?;
    if counted != COUNTED {
        return Err(format!(
            "{calls} has grown by {counted}, not {COUNTED}: {GENERATOR}"
        ));
    }
    // Everybody's orders are on this edge: at least the marked one.
    let edge =
        r#"traces_service_graph_request_total{client="signalbox-api",server="signalbox-worker"}"#;
    let called = reader.grown(edge, marked.time).await?;
    if called < 1.0 {
        return Err(format!(
            "{edge} has not grown since the marked request: {GENERATOR}"
        ));
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
    fn a_missing_exemplar_is_laid_to_what_takes_it_away() {
        for (all, linked, cause) in [
            (0, 0, "max_global_exemplars_per_user in mimir/mimir.yaml"),
            (7, 0, "exemplarTraceIdDestinations in grafana/"),
            (
                7,
                3,
                "3 exemplars lead to Tempo, none to the marked request",
            ),
        ] {
            let told = no_exemplar(all, linked);
            assert!(told.contains(cause), "{told}");
        }
    }

    #[test]
    fn of_derived_fields_with_one_name_the_first_expression_decides() {
        let field = |name: &str, expression: &str| json!({ "name": name, "matcherType": "label", "matcherRegex": expression, "url": "/explore?id=${__value.raw}" });
        let record = |label: &str| Record {
            line: String::new(),
            fields: BTreeMap::from([(label.to_owned(), "r-1".to_owned())]),
        };
        let follow = |fields: &[Value], label: &str| {
            by_label(
                &json!({ "derivedFields": fields }),
                &record(label),
                label,
                "",
            )
        };
        let both = [field("Request", "^(shop_)?request_id$")];
        assert_eq!(follow(&both, "request_id"), Ok("/explore?id=r-1".into()));
        assert_eq!(
            follow(&both, "shop_request_id"),
            Ok("/explore?id=r-1".into())
        );
        let twice = [
            field("Request", "^shop_request_id$"),
            field("Request", "^request_id$"),
        ];
        let told = follow(&twice, "request_id").unwrap_err();
        assert!(told.contains("has no derived field"), "{told}");
        let told = follow(&twice, "shop_request_id").unwrap_err();
        assert!(
            told.contains("2 derived fields are named \"Request\""),
            "{told}"
        );
        let anywhere = [field("Request", "request_id")];
        assert!(follow(&anywhere, "request_id").is_err());
    }

    #[test]
    fn a_link_that_starts_from_text_takes_what_its_expression_captures() {
        let loki = json!({ "derivedFields": [{
            "name": "Sessions that block", "matcherRegex": r#"blocked_by_pids="\[(\d+)"#, "url": "/explore?pid=${__value.raw}",
        }] });
        let of = |line| by_text(&loki, line, "Sessions that block");
        let waits = r#"pid="61" wait_event_type="Lock" blocked_by_pids="[54 55]""#;
        assert_eq!(of(waits), Ok("/explore?pid=54".into()));
        let told = of(r#"pid="61" blocked_by_pids="[]""#);
        assert!(
            told.as_ref()
                .is_err_and(|told| told.contains("finds nothing in pid=")),
            "{told:?}"
        );
        assert!(by_text(&loki, waits, "Session").is_err());
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
