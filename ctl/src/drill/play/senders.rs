//! Other programs that send telemetry, each in a way that costs the pipeline more than it needs.

use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use crate::drill::state::now_ms;
use crate::stack::send::sample::random_id;

/// What their records say.
const LINES: [&str; 3] = ["invoice booked", "parcel handed over", "mail accepted"];

/// A log agent that makes a label of what each line has a value of its own in. Sends to Loki's push API until it is dropped.
pub async fn label_streams(
    client: Client,
    loki: String,
    service: String,
    label: String,
    every: Duration,
) {
    send(every, || {
        client
            .post(format!("{loki}/loki/api/v1/push"))
            .json(&stream(&service, &label, &random_id(), now_ms()))
    })
    .await;
}

/// A program that exports each record by itself. Sends by OTLP until it is dropped.
pub async fn export_singly(client: Client, otlp: String, service: String, every: Duration) {
    send(every, || {
        client
            .post(format!("{otlp}/v1/logs"))
            .json(&export(&service, now_ms()))
    })
    .await;
}

async fn send(every: Duration, request: impl Fn() -> reqwest::RequestBuilder) {
    let mut turns = interval(every);
    turns.set_missed_tick_behavior(MissedTickBehavior::Burst);
    // Those under way end with this one.
    let mut under_way = tokio::task::JoinSet::new();
    loop {
        turns.tick().await;
        while under_way.try_join_next().is_some() {}
        // Whether it is taken is for the telemetry of who takes it to tell.
        under_way.spawn(request().send());
    }
}

fn stream(service: &str, label: &str, value: &str, ms: u64) -> Value {
    let line = fastrand::choice(LINES).unwrap_or_default();
    json!({ "streams": [{
        "stream": { "service_name": service, label: value },
        "values": [[format!("{ms}000000"), line]],
    }] })
}

fn export(service: &str, ms: u64) -> Value {
    let line = fastrand::choice(LINES).unwrap_or_default();
    json!({ "resourceLogs": [{
        "resource": { "attributes": [{ "key": "service.name", "value": { "stringValue": service } }] },
        "scopeLogs": [{ "logRecords": [{
            "timeUnixNano": format!("{ms}000000"), "severityNumber": 9, "severityText": "INFO", "body": { "stringValue": line },
        }] }],
    }] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;

    #[test]
    fn what_is_exported_is_otlp_with_one_record() {
        let read: ExportLogsServiceRequest = serde_json::from_value(export("mail", 7)).unwrap();
        let scope = &read.resource_logs[0].scope_logs[0];
        assert_eq!(scope.log_records.len(), 1);
        assert_eq!(scope.log_records[0].time_unix_nano, 7_000_000);
    }

    #[test]
    fn a_line_is_a_stream_of_its_own() {
        let sent = stream("mail", "trace_id", "5", 7);
        assert_eq!(
            sent["streams"][0]["stream"],
            json!({ "service_name": "mail", "trace_id": "5" })
        );
        assert_eq!(sent["streams"][0]["values"][0][0], "7000000");
    }
}
