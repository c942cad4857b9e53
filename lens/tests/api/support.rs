//! A server of its own for each test, and short ways to write telemetry down.

use std::fs::File;
use std::io::Write;
use std::sync::Once;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lens::{Server, Settings};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, InstrumentationScope, KeyValue, any_value::Value,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use reqwest::{Client, Response};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub const JSON: &str = "application/json";
pub const PROTOBUF: &str = "application/x-protobuf";

/// A running lens; stops when it is told to or dropped.
pub struct Lens {
    pub client: Client,
    pub url: String,
    pub directory: Option<TempDir>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<std::io::Result<()>>,
}

impl Lens {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With settings other than the defaults.
    pub async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary directory"), change).await
    }

    pub async fn start_in(directory: TempDir, change: impl FnOnce(&mut Settings)) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            rustls::crypto::ring::default_provider()
                .install_default()
                .expect("the first provider")
        });
        let mut settings = Settings {
            data_dir: directory.path().to_owned(),
            ..Settings::default()
        };
        change(&mut settings);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let server = Server::build(settings, listener).await.expect("a server");
        let url = format!("http://127.0.0.1:{}", server.port());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run_until(async move {
            let _ = stopped.await;
        }));
        Self {
            // A connection for each request: one that is used again may be closed meanwhile, after 5 s or a refused body.
            client: Client::builder()
                .pool_max_idle_per_host(0)
                .build()
                .expect("a client"),
            url,
            directory: Some(directory),
            stop: Some(stop),
            running,
        }
    }

    /// Stops and gives the data directory back.
    pub async fn stop(mut self) -> TempDir {
        drop(self.stop.take());
        self.running.await.expect("no panic").expect("a clean stop");
        let directory = self.directory.take().expect("held until now");
        // The server's threads end a moment after it, and the store with them.
        let lock = File::open(directory.path().join("lock")).expect("a lock");
        let mut tries = 0;
        while lock.try_lock().is_err() {
            assert!(tries < 3000, "the store is never closed");
            tries += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        directory
    }

    pub async fn post(&self, path: &str, content_type: &str, body: Vec<u8>) -> Response {
        self.post_with(path, &[("content-type", content_type)], body)
            .await
    }

    /// With a body that is gzipped already.
    pub async fn post_gzipped(&self, path: &str, content_type: &str, body: Vec<u8>) -> Response {
        let headers = [("content-type", content_type), ("content-encoding", "gzip")];
        self.post_with(path, &headers, body).await
    }

    pub async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Response {
        let mut request = self.client.post(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body).send().await.expect("an answer")
    }

    /// Sends an OTLP message as exporters do, gzipped, and expects it to be taken.
    pub async fn export(&self, path: &str, message: &impl Message) {
        let body = gzip(&message.encode_to_vec());
        let response = self.post_gzipped(path, PROTOBUF, body).await;
        assert_eq!(
            response.status(),
            200,
            "{}",
            response.text().await.expect("a body")
        );
    }

    pub async fn export_spans(&self, service: &str, spans: Vec<Span>) {
        self.export("/v1/traces", &request_of(service, spans)).await;
    }

    pub async fn export_records(&self, service: &str, records: Vec<LogRecord>) {
        self.export("/v1/logs", &logs_of(service, records)).await;
    }

    pub async fn get(&self, path: &str) -> Response {
        self.client
            .get(format!("{}{path}", self.url))
            .send()
            .await
            .expect("an answer")
    }

    pub async fn status(&self, path: &str) -> u16 {
        self.get(path).await.status().as_u16()
    }

    /// The status of the answer to what is sent.
    pub async fn sent(&self, path: &str, content_type: &str, body: Vec<u8>) -> u16 {
        self.post(path, content_type, body).await.status().as_u16()
    }

    /// What stands between the tags of a page.
    pub async fn seen(&self, path: &str) -> String {
        visible(&self.text(path).await)
    }

    /// The page of the trace that [`span`] made with this number.
    pub async fn trace(&self, trace: u8) -> String {
        self.text(&format!("/traces/{}", hex(trace, 16))).await
    }

    /// The answer's text; it must be a 200.
    pub async fn text(&self, path: &str) -> String {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        response.text().await.expect("a body")
    }

    pub async fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> T {
        let text = self.text(path).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    /// All spans that `/api/traces` gives with this query.
    pub async fn spans(&self, query: &str) -> Vec<Span> {
        let request: ExportTraceServiceRequest = self.json(&format!("/api/traces{query}")).await;
        request
            .resource_spans
            .into_iter()
            .flat_map(|of| of.scope_spans)
            .flat_map(|of| of.spans)
            .collect()
    }
}

/// What stands between the tags.
pub fn visible(html: &str) -> String {
    let tags = html
        .split('<')
        .map(|tag| tag.split_once('>').map_or(tag, |(_, text)| text));
    let texts = tags.flat_map(str::split_whitespace);
    texts.collect::<Vec<_>>().join(" ")
}

/// How many elements of a page have this `data-testid`.
pub fn count(page: &str, name: &str) -> usize {
    page.matches(&format!("data-testid=\"{name}\"")).count()
}

/// Asserts that all of these stand in a text.
pub fn has(text: &str, expected: &[&str]) {
    for expected in expected {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

/// The id that is this byte so often.
pub fn hex(byte: u8, length: usize) -> String {
    format!("{byte:02x}").repeat(length)
}

/// The value of a header of an answer.
pub fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers()[name].to_str().expect("text")
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

pub fn string(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

pub fn int(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

pub fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

pub fn resource(service: &str) -> Resource {
    Resource {
        attributes: vec![
            string("service.name", service),
            string("service.version", "1.2.3"),
        ],
        ..Resource::default()
    }
}

pub fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "test".to_owned(),
        ..InstrumentationScope::default()
    }
}

pub fn request_of(service: &str, spans: Vec<Span>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource(service)),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope()),
                spans,
                schema_url: String::new(),
            }],
            schema_url: "https://opentelemetry.io/schemas/1.36.0".to_owned(),
        }],
    }
}

pub fn logs_of(service: &str, log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource(service)),
            scope_logs: vec![ScopeLogs {
                scope: Some(scope()),
                log_records,
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    }
}

/// A record of now that says `body`.
pub fn record(body: &str, severity: i32) -> LogRecord {
    LogRecord {
        time_unix_nano: now_ns(),
        severity_number: severity,
        body: Some(AnyValue {
            value: Some(Value::StringValue(body.to_owned())),
        }),
        ..LogRecord::default()
    }
}

pub fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_nanos() as u64
}

/// A server span that began now and took `ms`; `number` makes the ids.
pub fn span(trace: u8, number: u8, parent: u8, name: &str, ms: u64) -> Span {
    let start = now_ns();
    Span {
        trace_id: vec![trace; 16],
        span_id: vec![number; 8],
        parent_span_id: vec![parent; if parent == 0 { 0 } else { 8 }],
        name: name.to_owned(),
        kind: 2,
        start_time_unix_nano: start,
        end_time_unix_nano: start + ms * 1_000_000,
        ..Span::default()
    }
}

pub fn failed(mut span: Span) -> Span {
    span.status = Some(Status {
        message: "it broke".to_owned(),
        code: 2,
    });
    span
}

/// Names, sorted.
pub fn names(spans: &[Span]) -> Vec<&str> {
    let mut names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    names
}
