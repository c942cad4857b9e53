//! The end of a program, over real sockets: what the last metrics say of the other signals.
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point};
use prost::Message;
use signalbox_telemetry::{Guard, Identity, Settings, start};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;

type Request = (String, Vec<u8>);

/// A collector that takes everything but what is posted to the path `hangs`, which it never answers.
fn collector(hangs: &'static str) -> (String, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (taken, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let taken = taken.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while let Some((path, body)) = request(&mut reader) {
                    if path == hangs {
                        std::thread::park();
                    }
                    let _ = taken.send((path, body)); // the test may have ended
                    let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                }
            });
        }
    });
    (url, requests)
}

fn request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut lines = reader.by_ref().lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ")?;
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((path, body))
}

/// Telemetry that sends nothing before its end, with three spans and two records to send.
fn busy(url: &str) -> Guard {
    let identity = Identity {
        service_name: "flush",
        service_namespace: "test",
        service_version: "0",
        metric_prefix: "test",
        request_id_attribute: "test.request.id",
    };
    let settings = Settings::from_lookup(identity, |name| {
        let value = match name {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => url,
            "OTEL_BSP_SCHEDULE_DELAY" | "OTEL_BLRP_SCHEDULE_DELAY" => "3600000",
            "OTEL_METRIC_EXPORT_INTERVAL" => "3600000",
            "LOG_FORMAT" => "off",
            _ => return None,
        };
        Some(value.to_owned())
    });
    let guard = start(&settings.unwrap()).unwrap();
    tracing::subscriber::with_default(registry().with(guard.layer()), || {
        for n in 0..3 {
            tracing::info_span!("work", n).in_scope(|| ());
        }
        tracing::info!("one");
        tracing::info!("two");
    });
    guard
}

/// Values of a sum by `error.type`, empty where there is none; those that are not 0.
fn sums(body: &[u8], name: &str) -> BTreeMap<String, i64> {
    let request = ExportMetricsServiceRequest::decode(body).unwrap();
    let scopes = request
        .resource_metrics
        .iter()
        .flat_map(|of| &of.scope_metrics);
    let mut metrics = scopes.flat_map(|scope| &scope.metrics);
    let metric = metrics.find(|metric| metric.name == name).unwrap();
    let Some(Data::Sum(sum)) = &metric.data else {
        panic!("{name} is no sum");
    };
    let points = sum.data_points.iter().map(|point| {
        let mut error = point
            .attributes
            .iter()
            .filter(|pair| pair.key == "error.type");
        let error = error.next().and_then(|pair| pair.value.clone()?.value);
        let error = match error {
            Some(Value::StringValue(text)) => text,
            _ => String::new(),
        };
        match point.value {
            Some(number_data_point::Value::AsInt(value)) => (error, value),
            _ => panic!("no whole number"),
        }
    });
    points.filter(|(_, value)| *value != 0).collect()
}

#[test]
fn the_last_metrics_count_what_was_just_flushed() {
    let (url, requests) = collector("");
    busy(&url).shutdown(Duration::from_secs(60)).unwrap();
    let requests: Vec<_> = requests.try_iter().collect();
    let mut paths: Vec<_> = requests.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths.pop(), Some("/v1/metrics"));
    paths.sort_unstable();
    assert_eq!(paths, ["/v1/logs", "/v1/traces"]);
    let (_, metrics) = requests.last().unwrap();
    for (name, expected) in [
        ("otel.sdk.exporter.span.exported", 3),
        ("otel.sdk.exporter.log.exported", 2),
        ("otel.sdk.processor.span.processed", 3),
        ("otel.sdk.processor.log.processed", 2),
    ] {
        let expected = BTreeMap::from([(String::new(), expected)]);
        assert_eq!(sums(metrics, name), expected, "{name}");
    }
    assert_eq!(
        sums(metrics, "otel.sdk.processor.span.queue.size"),
        BTreeMap::new()
    );
}

#[test]
fn a_collector_that_hangs_leaves_time_for_the_metrics() {
    let (url, requests) = collector("/v1/traces");
    let errors = busy(&url).shutdown(Duration::from_secs(6)).unwrap_err();
    let errors = errors.to_string();
    assert!(errors.contains("traces: "), "{errors}");
    assert!(
        !errors.contains("metrics: ") && !errors.contains("logs: "),
        "{errors}"
    );
    let requests: Vec<_> = requests.try_iter().collect();
    let paths: Vec<_> = requests.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["/v1/logs", "/v1/metrics"]);
    let exported = sums(&requests[1].1, "otel.sdk.exporter.log.exported");
    assert_eq!(exported, BTreeMap::from([(String::new(), 2)]));
    // What could not be sent is counted as lost, to the last one.
    assert!(errors.contains("traces: 3 items lost"), "{errors}");
    let lost = sums(&requests[1].1, "otel.sdk.exporter.span.exported");
    assert_eq!(lost, BTreeMap::from([("timeout".to_owned(), 3)]));
    let waiting = sums(&requests[1].1, "otel.sdk.processor.span.queue.size");
    assert_eq!(waiting, BTreeMap::new());
}
