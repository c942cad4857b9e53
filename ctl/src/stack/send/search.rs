//! Looks for a sample where Grafana would: through the query balancer, with the store's own language.

use reqwest::Client;
use serde_json::{Value, json};

use super::super::addresses::Addresses;
use super::super::exposition::{self, Series};
use super::Kind;
use super::sample::Sample;
use crate::http;

/// How far around the sample's time is looked, in seconds.
const WINDOW: u64 = 300;

/// What was found, in a few words; None if it is not there (yet). Err says what the store answered instead.
pub async fn find(
    client: &Client,
    at: &Addresses,
    sample: &Sample,
) -> Result<Option<String>, String> {
    let (from, to) = (
        sample.time.as_secs() - WINDOW,
        sample.time.as_secs() + WINDOW,
    );
    match sample.kind {
        Kind::Logs => {
            let request = client
                .get(format!("{}/loki/api/v1/query_range", at.loki))
                .query(&[
                    ("query", sample.query()),
                    ("start", from.to_string()),
                    ("end", to.to_string()),
                ]);
            Ok(logs(&http::ask_json(request).await?))
        }
        Kind::Gauge | Kind::Counter | Kind::Delta => {
            let request = client
                .get(format!("{}/prometheus/api/v1/query", at.mimir))
                .query(&[("query", sample.query())]);
            Ok(point(&http::ask_json(request).await?, sample.value))
        }
        Kind::Traces => {
            let request = client
                .get(format!("{}/api/v2/traces/{}", at.tempo, sample.trace_id))
                .header("accept", "application/json");
            match http::ask_json(request).await {
                Ok(answer) => Ok(trace(&answer)),
                Err(reason) if reason.starts_with("404") => Ok(None),
                Err(reason) => Err(reason),
            }
        }
        Kind::Profiles => {
            let (profile_type, selector) = sample.query().split_once('{').map_or_else(
                || (sample.query(), String::new()),
                |(profile_type, labels)| (profile_type.to_owned(), format!("{{{labels}")),
            );
            let request = client
                .post(format!(
                    "{}/querier.v1.QuerierService/SelectMergeStacktraces",
                    at.pyroscope
                ))
                .json(&json!({
                    "profileTypeID": profile_type,
                    "labelSelector": selector,
                    "start": from * 1000,
                    "end": to * 1000,
                }));
            Ok(profile(&http::ask_json(request).await?))
        }
    }
}

/// Data points that Alloy could not deliver to Mimir and gave up, since it started.
pub async fn refused_points(client: &Client, at: &Addresses) -> Result<f64, String> {
    let text = http::ask(client.get(format!("{}/metrics", at.alloy)))
        .await
        .map_err(|reason| format!("Alloy's metrics: {reason}"))?;
    Ok(refused(&exposition::parse(&text)))
}

fn refused(series: &[Series]) -> f64 {
    let to_mimir = |series: &&Series| {
        series.name == "otelcol_exporter_send_failed_metric_points_total"
            && series.label("component_id") == "otelcol.exporter.otlphttp.mimir"
    };
    series
        .iter()
        .filter(to_mimir)
        .map(|series| series.value)
        // Not sum(), whose result for nothing at all is -0.
        .fold(0.0, |all, value| all + value)
}

fn logs(answer: &Value) -> Option<String> {
    let streams = answer["data"]["result"].as_array()?;
    let lines: Vec<&Value> = streams
        .iter()
        .filter_map(|stream| stream["values"].as_array())
        .flatten()
        .collect();
    (lines.len() == 5).then(|| format!("5 records, the first says {}", lines[0][1]))
}

fn point(answer: &Value, value: u64) -> Option<String> {
    let series = answer["data"]["result"].as_array()?;
    let text = value.to_string();
    series
        .iter()
        .find(|series| series["value"][1].as_str() == Some(&text))
        .map(|series| format!("value {value} in series {}", series["metric"]))
}

fn trace(answer: &Value) -> Option<String> {
    let resources = answer["trace"]["resourceSpans"].as_array()?;
    let spans = resources
        .iter()
        .filter_map(|resource| resource["scopeSpans"].as_array())
        .flatten()
        .filter_map(|scope| scope["spans"].as_array())
        .map(Vec::len)
        .sum::<usize>();
    (spans == 3).then(|| format!("3 spans of {} services", resources.len()))
}

fn profile(answer: &Value) -> Option<String> {
    let names = answer["flamegraph"]["names"].as_array()?;
    names.iter().any(|name| name == "test_hash_block").then(|| {
        format!(
            "a flame graph with {} names, test_hash_block among them",
            names.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_points_are_summed_over_the_reasons_of_one_exporter() {
        let text = r#"otelcol_exporter_send_failed_metric_points_total{component_id="otelcol.exporter.otlphttp.mimir",error_type="InvalidArgument"} 3
otelcol_exporter_send_failed_metric_points_total{component_id="otelcol.exporter.otlphttp.mimir",error_type="Unavailable"} 4
otelcol_exporter_send_failed_metric_points_total{component_id="otelcol.exporter.otlphttp.other"} 100
otelcol_exporter_send_failed_spans_total{component_id="otelcol.exporter.otlphttp.mimir"} 50"#;
        assert_eq!(refused(&exposition::parse(text)), 7.0);
        assert_eq!(refused(&[]).to_string(), "0");
    }

    #[test]
    fn only_the_point_of_this_run_counts() {
        let answer = json!({ "data": { "result": [{ "metric": { "__name__": "test_gauge" }, "value": [1.0, "41"] }] } });
        assert!(point(&answer, 41).is_some_and(|found| found.contains("41")));
        assert_eq!(point(&answer, 42), None);
    }

    #[test]
    fn a_sample_is_found_only_when_it_is_whole() {
        let records = |count: usize| json!({ "data": { "result": [{ "values": vec![json!(["1", "line"]); count] }] } });
        assert_eq!(logs(&records(4)), None);
        assert!(logs(&records(5)).is_some());
        let spans = |count: usize| json!({ "trace": { "resourceSpans": [{ "scopeSpans": [{ "spans": vec![json!({}); count] }] }] } });
        assert_eq!(trace(&spans(2)), None);
        assert!(trace(&spans(3)).is_some());
        assert_eq!(trace(&Value::Null), None);
    }
}
