//! What a browser would send: an error and a span of one trace, posted to Faro's receiver, found in Loki and Tempo.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::World;
use crate::http;
use crate::stack::send::sample::random_id;

const RECEIVER: &str = "http://alloy-faro:12347/collect";
const MINUTE: Duration = Duration::from_secs(60);

pub struct Beacon {
    trace_id: String,
    span_id: String,
    time: Duration,
}

impl Beacon {
    pub fn new() -> Self {
        Self {
            trace_id: random_id() + &random_id(),
            span_id: random_id(),
            time: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        }
    }

    pub async fn send(&self, world: &World<'_>) -> Result<(), String> {
        let request = world
            .client
            .post(RECEIVER)
            .header("x-faro-session-id", &self.span_id)
            .json(&self.payload());
        let answer = http::ask(request).await;
        answer
            .map(drop)
            .map_err(|reason| format!("{RECEIVER} did not take the beacon: {reason}"))
    }

    fn payload(&self) -> Value {
        let attribute =
            |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
        let nanos = |time: Duration| time.as_nanos().to_string();
        json!({
            "meta": { "app": { "name": "signalbox-console" }, "session": { "id": self.span_id } },
            "exceptions": [{
                "type": "Error",
                "value": "thrown by make verify",
                "trace": { "trace_id": self.trace_id, "span_id": self.span_id },
            }],
            "traces": { "resourceSpans": [{
                "resource": { "attributes": [attribute("service.name", "signalbox-console")] },
                "scopeSpans": [{ "scope": { "name": "verify" }, "spans": [{
                    "traceId": self.trace_id,
                    "spanId": self.span_id,
                    "name": "make verify",
                    "kind": 3,
                    "startTimeUnixNano": nanos(self.time - Duration::from_millis(10)),
                    "endTimeUnixNano": nanos(self.time),
                }] }],
            }] },
        })
    }

    pub async fn in_loki(
        &self,
        world: &World<'_>,
        sent: &Result<(), String>,
    ) -> Result<String, String> {
        sent.clone()?;
        let query = format!(
            r#"{{service_name="signalbox-console",kind="exception"}} | trace_id="{}""#,
            self.trace_id
        );
        let records = world
            .store
            .logs(&query, self.time - MINUTE, self.time + 10 * MINUTE)
            .await?;
        match records.as_slice() {
            [record] if record.line.contains("thrown by make verify") => {
                Ok("the thrown error, with its trace id".into())
            }
            others => Err(format!(
                "{query} finds {} records: `make logs-alloy-faro`",
                others.len()
            )),
        }
    }

    pub async fn in_tempo(
        &self,
        world: &World<'_>,
        sent: &Result<(), String>,
    ) -> Result<String, String> {
        sent.clone()?;
        match world.store.trace(&self.trace_id).await?.as_slice() {
            [span] if span.id == self.span_id => Ok("the browser's span".into()),
            others => Err(format!(
                "{} spans of trace {}: `make logs-alloy-faro`",
                others.len(),
                self.trace_id
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_and_span_are_of_one_trace() {
        let beacon = Beacon::new();
        let payload = beacon.payload();
        let span = &payload["traces"]["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(span["traceId"], beacon.trace_id);
        assert_eq!(span["spanId"], beacon.span_id);
        assert_eq!(
            payload["exceptions"][0]["trace"],
            json!({ "trace_id": beacon.trace_id, "span_id": beacon.span_id })
        );
    }
}
