//! A collector that counts what it is sent, and those that services must bear.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message;

/// How a collector treats what it is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Manner {
    /// Takes and counts it.
    Takes,
    /// Answers 503, as a collector does whose own backend is away.
    Away,
    /// Reads it and never answers.
    Hangs,
    /// Reads [`SLOW_BYTES`] a second.
    Slow,
    /// Nobody listens.
    Refuses,
}

const SLOW_BYTES: usize = 200;

/// What has arrived since the start.
#[derive(Default)]
pub struct Collector {
    /// Says 503 to everything.
    pub away: AtomicBool,
    pub spans: AtomicU64,
    pub records: AtomicU64,
    /// Requests by the latest count of `http.server.request.duration`.
    pub requests: AtomicU64,
}

impl Collector {
    /// Starts one. Returns its port.
    pub fn start(manner: Manner) -> (Arc<Self>, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let collector = Arc::<Self>::default();
        collector.away.store(manner == Manner::Away, Relaxed);
        if manner == Manner::Refuses {
            return (collector, port);
        }
        let own = Arc::clone(&collector);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let own = Arc::clone(&own);
                std::thread::spawn(move || match manner {
                    Manner::Hangs => swallow(stream, 64 * 1024, Duration::ZERO),
                    Manner::Slow => swallow(stream, SLOW_BYTES, Duration::from_secs(1)),
                    _ => own.receive(stream),
                });
            }
        });
        (collector, port)
    }

    fn receive(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut writer = stream;
        loop {
            let mut request = String::new();
            let (mut length, mut gzip) = (0, false);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                let line = line.trim().to_ascii_lowercase();
                match line.split_once(':') {
                    Some(("content-length", value)) => length = value.trim().parse().ok()?,
                    Some(("content-encoding", value)) => gzip = value.trim() == "gzip",
                    _ if request.is_empty() => request = line,
                    _ if line.is_empty() => break,
                    _ => {}
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            if self.away.load(Relaxed) {
                writer
                    .write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
                    .ok()?;
                continue;
            }
            if gzip {
                let mut plain = Vec::new();
                GzDecoder::new(&*body).read_to_end(&mut plain).ok()?;
                body = plain;
            }
            self.count(&request, &body);
            writer
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .ok()?;
        }
    }

    fn count(&self, request: &str, body: &[u8]) {
        if request.contains("/v1/traces") {
            let traces = ExportTraceServiceRequest::decode(body).expect("spans");
            let scopes = traces.resource_spans.iter().flat_map(|of| &of.scope_spans);
            let spans: usize = scopes.map(|scope| scope.spans.len()).sum();
            self.spans.fetch_add(spans as u64, Relaxed);
        } else if request.contains("/v1/logs") {
            let logs = ExportLogsServiceRequest::decode(body).expect("records");
            let scopes = logs.resource_logs.iter().flat_map(|of| &of.scope_logs);
            let records: usize = scopes.map(|scope| scope.log_records.len()).sum();
            self.records.fetch_add(records as u64, Relaxed);
        } else if request.contains("/v1/metrics") {
            let metrics = ExportMetricsServiceRequest::decode(body).expect("points");
            let scopes = metrics.resource_metrics.into_iter();
            let scopes = scopes.flat_map(|of| of.scope_metrics);
            for metric in scopes.flat_map(|scope| scope.metrics) {
                if metric.name == "http.server.request.duration"
                    && let Some(Data::Histogram(histogram)) = metric.data
                {
                    let points = histogram.data_points.iter();
                    let count = points.map(|point| point.count).sum();
                    self.requests.store(count, Relaxed);
                }
            }
        }
    }
}

/// Reads `bytes` at a time, with a pause after each, until the other side gives up.
fn swallow(mut stream: TcpStream, bytes: usize, pause: Duration) -> Option<()> {
    let mut buffer = vec![0; bytes];
    while stream.read(&mut buffer).ok()? > 0 {
        std::thread::sleep(pause);
    }
    Some(())
}
