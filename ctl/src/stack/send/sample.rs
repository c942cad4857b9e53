//! What is sent. Each sample carries something of this very run, so that an older one is never mistaken for it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::Client;
use serde_json::{Value, json};

use super::super::addresses::Addresses;
use super::Kind;
use crate::http;

const SERVICE: &str = "test-service";
const DAY: u64 = 86_400;
/// How long the sample's trace lasted. Longer than what systems/sampling calls slow, so that it is never among the dropped.
const TRACE: Duration = Duration::from_millis(600);

/// One sample, made but not yet sent.
pub struct Sample {
    pub kind: Kind,
    /// Marks this run: 16 hexadecimal digits.
    pub run: String,
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// The value of the point, different for every second of a day.
    pub value: u64,
    /// When it was made.
    pub time: Duration,
}

impl Sample {
    pub fn new(kind: Kind) -> Self {
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            kind,
            run: random_id(),
            trace_id: random_id() + &random_id(),
            value: time.as_secs() % DAY,
            time,
        }
    }

    /// Err unless `door`, by whatever name the reader knows it, accepted it.
    pub async fn send(&self, client: &Client, to: &Addresses, door: &str) -> Result<(), String> {
        let request = match self.kind {
            Kind::Logs => client.post(format!("{}/v1/logs", to.otlp)).json(&self.logs()),
            Kind::Gauge | Kind::Counter | Kind::Delta => client.post(format!("{}/v1/metrics", to.otlp)).json(&self.metric()),
            Kind::Traces => client.post(format!("{}/v1/traces", to.otlp)).json(&self.spans()),
            Kind::Profiles => client
                .post(format!("{}/ingest", to.profiles))
                .query(&[
                    ("name", format!("{SERVICE}{{test_run={}}}", self.run)),
                    ("from", (self.time.as_secs() - 10).to_string()),
                    ("until", self.time.as_secs().to_string()),
                    ("sampleRate", "100".into()),
                    ("format", "folded".into()),
                ])
                .body("main;handle_request;test_hash_block 70\nmain;handle_request;test_serialize 20\nmain;test_idle 10\n"),
        };
        let answer = http::ask(request).await;
        answer
            .map(drop)
            .map_err(|reason| format!("{door} did not take it: {reason}"))
    }

    /// For the person at the terminal.
    pub fn description(&self) -> String {
        let value = self.value;
        match self.kind {
            Kind::Logs => format!("5 log records, test.run {}", self.run),
            Kind::Gauge => format!("gauge test.gauge = {value}"),
            Kind::Counter => format!("cumulative sum test.counter = {value}"),
            Kind::Delta => format!("delta sum test.delta = {value}"),
            Kind::Traces => format!("3 spans of trace {}", self.trace_id),
            Kind::Profiles => format!("CPU profile of 100 samples, test_run {}", self.run),
        }
    }

    /// What finds it, to be pasted into Grafana's Explore.
    pub fn query(&self) -> String {
        match self.kind {
            Kind::Logs => format!(r#"{{service_name="{SERVICE}"}} | test_run="{}""#, self.run),
            Kind::Gauge => format!(r#"test_gauge{{service_name="{SERVICE}"}}"#),
            Kind::Counter => format!(r#"test_counter_total{{service_name="{SERVICE}"}}"#),
            Kind::Delta => format!(r#"test_delta_total{{service_name="{SERVICE}"}}"#),
            Kind::Traces => format!(r#"{{ trace:id = "{}" }}"#, self.trace_id),
            Kind::Profiles => format!(
                r#"process_cpu:cpu:nanoseconds:cpu:nanoseconds{{service_name="{SERVICE}",test_run="{}"}}"#,
                self.run
            ),
        }
    }

    fn logs(&self) -> Value {
        let span_id = &self.trace_id[..16];
        let levels = [
            ("DEBUG", 5),
            ("INFO", 9),
            ("WARN", 13),
            ("ERROR", 17),
            ("FATAL", 21),
        ];
        let records: Vec<Value> = levels
            .iter()
            .enumerate()
            .map(|(index, (text, number))| {
                json!({
                    "timeUnixNano": nanos(self.time + Duration::from_micros(index as u64)),
                    "severityNumber": number,
                    "severityText": text,
                    "body": { "stringValue": format!("a test record of severity {text}") },
                    "attributes": [attribute("test.run", &self.run)],
                    "traceId": self.trace_id,
                    "spanId": span_id,
                })
            })
            .collect();
        json!({ "resourceLogs": [{ "resource": resource(SERVICE), "scopeLogs": [{ "scope": scope(), "logRecords": records }] }] })
    }

    fn metric(&self) -> Value {
        let point = json!({
            // The sums began at midnight and grew by one a second: rate() of the cumulative one is 1.
            "startTimeUnixNano": nanos(Duration::from_secs(self.time.as_secs() - self.value)),
            "timeUnixNano": nanos(self.time),
            "asInt": self.value.to_string(),
        });
        let metric = match self.kind {
            Kind::Counter => {
                json!({ "name": "test.counter", "sum": { "aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [point] } })
            }
            Kind::Delta => {
                json!({ "name": "test.delta", "sum": { "aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [point] } })
            }
            _ => json!({ "name": "test.gauge", "gauge": { "dataPoints": [point] } }),
        };
        json!({ "resourceMetrics": [{ "resource": resource(SERVICE), "scopeMetrics": [{ "scope": scope(), "metrics": [metric] }] }] })
    }

    fn spans(&self) -> Value {
        const SERVER: u64 = 2;
        const CLIENT: u64 = 3;
        let ids = [&self.trace_id[..16], &self.trace_id[16..], &self.run];
        let began = self.time - TRACE;
        // From and to in tenths of the trace.
        let span = |name: &str, id: &str, parent: &str, kind: u64, from: u32, to: u32| {
            json!({
                "traceId": self.trace_id,
                "spanId": id,
                "parentSpanId": parent,
                "name": name,
                "kind": kind,
                "startTimeUnixNano": nanos(began + TRACE * from / 10),
                "endTimeUnixNano": nanos(began + TRACE * to / 10),
                "attributes": [attribute("test.run", &self.run)],
            })
        };
        let front = [
            span("GET /test", ids[0], "", SERVER, 0, 10),
            span("GET /behind", ids[1], ids[0], CLIENT, 1, 9),
        ];
        let back = [span("GET /behind", ids[2], ids[1], SERVER, 2, 8)];
        json!({ "resourceSpans": [
            { "resource": resource(SERVICE), "scopeSpans": [{ "scope": scope(), "spans": front }] },
            { "resource": resource("test-backend"), "scopeSpans": [{ "scope": scope(), "spans": back }] },
        ] })
    }
}

fn attribute(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn resource(service: &str) -> Value {
    json!({ "attributes": [attribute("service.name", service), attribute("deployment.environment.name", "test")] })
}

fn scope() -> Value {
    json!({ "name": "signalboxctl" })
}

fn nanos(time: Duration) -> String {
    time.as_nanos().to_string()
}

/// 64 random bits, never zero (which would be no id). `RandomState` is seeded by the operating system.
pub fn random_id() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish() | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_length_of_their_kind_and_differ_between_runs() {
        let (one, other) = (Sample::new(Kind::Traces), Sample::new(Kind::Traces));
        assert_eq!((one.run.len(), one.trace_id.len()), (16, 32));
        assert_ne!(one.trace_id, other.trace_id);
    }

    #[test]
    fn the_spans_are_one_chain() {
        let sample = Sample::new(Kind::Traces);
        let spans = sample.spans();
        let front = &spans["resourceSpans"][0]["scopeSpans"][0]["spans"];
        let back = &spans["resourceSpans"][1]["scopeSpans"][0]["spans"];
        assert_eq!(front[0]["parentSpanId"], "");
        assert_eq!(front[1]["parentSpanId"], front[0]["spanId"]);
        assert_eq!(back[0]["parentSpanId"], front[1]["spanId"]);
    }

    #[test]
    fn the_trace_is_slow_enough_to_be_kept_where_not_all_are() -> Result<(), std::num::ParseIntError>
    {
        let sampled = include_str!("../../../../alloy/modules/traces-sampled.alloy");
        let threshold = sampled
            .lines()
            .find_map(|line| line.trim().strip_prefix("threshold_ms = "))
            .unwrap_or_default()
            .parse()?;
        assert!(
            TRACE > Duration::from_millis(threshold),
            "{TRACE:?}, slow is {threshold} ms"
        );
        let spans = Sample::new(Kind::Traces).spans();
        let nanos = |name: &str| -> Result<u64, _> {
            let root = &spans["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
            root[name].as_str().unwrap_or_default().parse()
        };
        let lasted = nanos("endTimeUnixNano")? - nanos("startTimeUnixNano")?;
        assert_eq!(u128::from(lasted), TRACE.as_nanos());
        Ok(())
    }

    #[tokio::test]
    async fn a_closed_door_is_named() -> Result<(), Box<dyn std::error::Error>> {
        http::install_tls_provider();
        let client = http::client(Duration::from_secs(2), 1)?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        drop(listener);
        let to = Addresses {
            otlp: url.clone(),
            profiles: url.clone(),
            loki: url.clone(),
            mimir: url.clone(),
            tempo: url.clone(),
            pyroscope: url.clone(),
            alloy: url,
        };
        for kind in [Kind::Logs, Kind::Gauge, Kind::Traces, Kind::Profiles] {
            let sent = Sample::new(kind).send(&client, &to, "nginx-push").await;
            let reason = sent.expect_err("nobody listens");
            assert!(
                reason.starts_with("nginx-push did not take it: Connection refused"),
                "{reason}"
            );
        }
        Ok(())
    }

    #[test]
    fn only_the_delta_is_a_delta() {
        let temporality = |kind| {
            let metric =
                Sample::new(kind).metric()["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]
                    .clone();
            metric["sum"]["aggregationTemporality"].as_u64()
        };
        assert_eq!(temporality(Kind::Counter), Some(2));
        assert_eq!(temporality(Kind::Delta), Some(1));
        assert_eq!(temporality(Kind::Gauge), None);
    }
}
