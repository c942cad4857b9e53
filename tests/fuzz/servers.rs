//! What programs of ours read of others, over real sockets: requests that the viewer, the service and the incident receiver
//! get, and answers that the exporter, the load generator and `verify` get.
//!
//! A law of all of them: what is sent gets an answer that is no 500, and the program lives.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use reqwest::blocking::{Client, Response};

use super::Target;
use super::harness::{Lens, Process, client, temp_dir};

/// Inputs after which pages are looked at.
const LOOK_EVERY: u32 = 256;

/// The answer, whose body is read whole.
fn answered(answer: reqwest::Result<Response>) -> (u16, Vec<u8>) {
    let answer = answer.expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.bytes().expect("a whole body").to_vec())
}

/// Statuses of refusals, and of success.
fn assert_lawful(status: u16) {
    assert!((200..500).contains(&status), "it answered {status}");
}

/// Telemetry in `content_type` and `encoding`, as each of the signals; and what pages make of what was taken.
fn ingest(
    paths: &'static [&'static str],
    content_type: &'static str,
    encoding: &'static str,
) -> Target {
    let (lens, client, seen) = (Lens::start(), client(), Cell::new(0));
    Box::new(move |input| {
        for path in paths {
            let request = client
                .post(format!("{}{path}", lens.url()))
                .header("content-type", content_type)
                .header("content-encoding", encoding);
            assert_lawful(answered(request.body(input.to_owned()).send()).0);
        }
        seen.set(seen.get() + 1);
        if seen.get() % LOOK_EVERY == 1 {
            look(&client, &lens);
        }
    })
}

/// Each list and each page is drawn, whatever was taken.
fn look(client: &Client, lens: &Lens) {
    for path in [
        "/",
        "/traces",
        "/logs",
        "/metrics",
        "/profiles",
        "/services",
        "/api/traces",
        "/api/logs",
        "/api/metrics",
        "/api/profiles",
        "/api/export?signal=traces",
        "/readyz",
    ] {
        let (status, body) = answered(client.get(format!("{}{path}", lens.url())).send());
        assert_lawful(status);
        if path.starts_with("/api/") && status == 200 && !path.contains("export") {
            serde_json::from_slice::<serde_json::Value>(&body).expect("JSON");
        }
    }
}

const SIGNALS: &[&str] = &["/v1/traces", "/v1/logs", "/v1/metrics"];

pub fn viewer_protobuf() -> Target {
    ingest(SIGNALS, "application/x-protobuf", "identity")
}

pub fn viewer_json() -> Target {
    ingest(SIGNALS, "application/json", "identity")
}

pub fn viewer_gzip() -> Target {
    ingest(SIGNALS, "application/json", "gzip")
}

pub fn viewer_profiles() -> Target {
    const PATHS: &[&str] = &[
        "/push.v1.PusherService/Push",
        "/ingest?name=a&format=pprof",
        "/ingest?name=a%7Bb%3D%22c%22%7D&format=folded",
    ];
    ingest(PATHS, "application/proto", "identity")
}

/// A path with a query, of the pages and of the API, asked of a viewer that has something to show.
pub fn viewer_query() -> Target {
    let (lens, client) = (Lens::start(), client());
    for (path, body) in [
        (
            "/v1/traces",
            include_bytes!("corpus/viewer_json/traces.json").as_slice(),
        ),
        ("/v1/logs", include_bytes!("corpus/viewer_json/logs.json")),
        (
            "/v1/metrics",
            include_bytes!("corpus/viewer_json/metrics.json"),
        ),
    ] {
        let request = client
            .post(format!("{}{path}", lens.url()))
            .header("content-type", "application/json");
        assert_eq!(answered(request.body(body).send()).0, 200, "{path}");
    }
    Box::new(move |input| {
        let text = String::from_utf8_lossy(input);
        let url = format!("{}/{}", lens.url(), text.trim_start_matches('/'));
        let Ok(url) = reqwest::Url::parse(&url) else {
            return;
        };
        // It answers for as long as somebody looks.
        if url.path().ends_with("live") {
            return;
        }
        assert_lawful(answered(client.get(url).send()).0);
    })
}

/// What alert sources send, in either format, and the page that shows it.
pub fn incidents() -> Target {
    let directory = temp_dir("incidents");
    let file = directory.path().join("incidents.json");
    let arguments = ["incidents", "--listen", "127.0.0.1:0", "--file"];
    let mut command = Command::new(ctl());
    command.args(arguments).arg(&file);
    let (receiver, client) = (Child::start(&mut command), client());
    Box::new(move |input| {
        let _kept = &directory;
        for path in ["/alertmanager", "/integrations/v1/formatted_webhook/a/"] {
            let request = client
                .post(format!("{}{path}", receiver.url))
                .header("content-type", "application/json");
            assert_lawful(answered(request.body(input.to_owned()).send()).0);
        }
        let (status, list) = answered(
            client
                .get(format!("{}/api/v1/alert_groups", receiver.url))
                .send(),
        );
        assert_eq!(status, 200);
        serde_json::from_slice::<serde_json::Value>(&list).expect("JSON");
        assert_eq!(answered(client.get(&receiver.url).send()).0, 200);
    })
}

/// A service that tells its trace's id and sends nothing.
fn service() -> (Process, tempfile::TempDir) {
    let directory = temp_dir("fuzz");
    let quiet = [
        ("SIGNALBOX_LISTEN", "127.0.0.1:0"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_LOGS_EXPORTER", "none"),
        ("OTEL_METRICS_EXPORTER", "none"),
        ("RUST_LOG", "warn,signalbox::server=info,access=off"),
    ];
    (Process::start("serve", directory.path(), &quiet), directory)
}

/// What the service answers to these bytes. The end of the request is told, so that nothing waits for more.
fn exchange(service: &Process, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(service.address()).expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a timeout");
    let mut answer = Vec::new();
    // It may have refused and gone before all was written.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    std::str::from_utf8(line)
        .ok()?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()
}

/// Whole requests: an answer, if any, is lawful, and the next request is served.
pub fn request() -> Target {
    let (service, directory) = service();
    Box::new(move |input| {
        let _kept = &directory;
        let answer = exchange(&service, input);
        // It may be asked to say first that it reads on.
        let mut answer = answer.as_slice();
        while let Some(rest) = answer.strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n") {
            answer = rest;
        }
        if !answer.is_empty() {
            assert_lawful(status(answer).expect("a status"));
        }
        assert_eq!(service.get("/ping").status, 200);
    })
}

/// Lines that are the values of `traceparent`, `tracestate` and `baggage`: a trace goes on under the caller's id or under a new one.
pub fn context() -> Target {
    let (service, directory) = service();
    Box::new(move |input| {
        let _kept = &directory;
        let mut lines = input.split(|byte| *byte == b'\n');
        let mut request = b"GET /ping HTTP/1.1\r\nhost: a\r\nconnection: close\r\n".to_vec();
        for name in ["traceparent", "tracestate", "baggage"] {
            request.extend_from_slice(name.as_bytes());
            request.extend_from_slice(b": ");
            let value = lines.next().unwrap_or_default().iter();
            // Others would end the header, and are no value of one: see `request`.
            request.extend(value.filter(|byte| **byte >= b' ' && **byte != 0x7f));
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        let answer = exchange(&service, &request);
        let text = String::from_utf8_lossy(&answer);
        if status(&answer) != Some(200) {
            // Too long, together.
            assert_eq!(status(&answer), Some(431), "{text}");
            return;
        }
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("traceresponse: "));
        let line = line.expect("a traceresponse");
        let parts: Vec<&str> = line.split('-').collect();
        let hex = |text: &str, length| {
            text.len() == length
                && text.bytes().all(|byte| byte.is_ascii_hexdigit())
                && text.bytes().any(|byte| byte != b'0')
        };
        assert!(
            parts.len() == 4 && hex(parts[1], 32) && hex(parts[2], 16),
            "{line}"
        );
    })
}

/// The bytes to answer with, how many requests there were, and who waits for one.
type Given = (Mutex<(Vec<u8>, u64)>, Condvar);

/// A server that answers each request with the bytes that it was given last.
struct Answering {
    url: String,
    state: Arc<Given>,
}

impl Answering {
    /// `head` goes before the bytes; those that close tell their end so.
    fn start(head: fn(usize) -> String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new((Mutex::new((Vec::new(), 0)), Condvar::new()));
        let given = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let given = Arc::clone(&given);
                std::thread::spawn(move || answer(&stream, &given, head));
            }
        });
        Self { url, state }
    }

    /// Answers with `bytes` from now on. How many requests there were.
    fn give(&self, bytes: &[u8]) -> u64 {
        let mut state = self.state.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = bytes.to_owned();
        state.1
    }

    /// Waits until there were more than `count`.
    fn wait(&self, count: u64) {
        let state = self.state.0.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = Duration::from_secs(60);
        let (_state, waited) = self
            .state
            .1
            .wait_timeout_while(state, patience, |state| state.1 <= count)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "nobody asked");
    }
}

fn answer(stream: &TcpStream, given: &Given, head: fn(usize) -> String) {
    let mut reader = BufReader::new(stream);
    let mut length = 0_u64;
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    let _ = std::io::copy(&mut reader.take(length), &mut std::io::sink());
    let mut state = given.0.lock().unwrap_or_else(PoisonError::into_inner);
    let answer = [head(state.0.len()).as_bytes(), &state.0].concat();
    let mut stream = stream;
    let _ = stream.write_all(&answer);
    state.1 += 1;
    given.1.notify_all();
}

fn success(length: usize) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

/// Bodies that a collector answers to the exporter: the service goes on.
pub fn exporter() -> Target {
    let collector = Answering::start(success);
    let directory = temp_dir("fuzz");
    let variables = [
        ("SIGNALBOX_LISTEN", "127.0.0.1:0"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.url),
        ("OTEL_BSP_SCHEDULE_DELAY", "1"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "1"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "50"),
    ];
    let service = Process::start("serve", directory.path(), &variables);
    Box::new(move |input| {
        let _kept = &directory;
        let before = collector.give(input);
        assert_eq!(service.get("/ping").status, 200);
        collector.wait(before);
    })
}

/// Whole answers to the load generator: it reports, and ends as a program does.
pub fn load() -> Target {
    let service = Answering::start(|_| String::new());
    Box::new(move |input| {
        service.give(input);
        let mut command = Command::new(ctl());
        command.args([
            "load",
            "--count",
            "8",
            "--rate",
            "1000",
            "--timeout",
            "2s",
            "--url",
        ]);
        ends(command.arg(&service.url));
    })
}

/// Documents that the stores answer to `verify`: it names what is broken.
pub fn verify() -> Target {
    let stack = Answering::start(success);
    let directory = temp_dir("verify");
    let way = include_str!("../../ctl/src/stack/verify/way.json");
    let mut way: serde_json::Value = serde_json::from_str(way).expect("JSON");
    lead_to(&mut way, &stack.url);
    let file = directory.path().join("way.json");
    std::fs::write(&file, way.to_string()).expect("written");
    Box::new(move |input| {
        let _kept = &directory;
        stack.give(input);
        let mut command = Command::new(ctl());
        let urls = ["--api", &stack.url, "--grafana", &stack.url];
        ends(
            command
                .args(["verify", "--deadline", "1s"])
                .args(urls)
                .arg("--way")
                .arg(&file),
        );
    })
}

/// Every URL in `way` is `url`.
fn lead_to(way: &mut serde_json::Value, url: &str) {
    match way {
        serde_json::Value::String(text) if text.starts_with("http://") => *text = url.to_owned(),
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| lead_to(item, url)),
        serde_json::Value::Object(members) => {
            members.values_mut().for_each(|member| lead_to(member, url));
        }
        _ => {}
    }
}

/// A program that ends by itself, neither by a panic (101) nor by a signal.
fn ends(command: &mut Command) {
    let output = command.output().expect("it runs");
    let code = output.status.code();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        matches!(code, Some(0 | 1)),
        "it ended with {code:?}: {said}"
    );
}

/// The other program of the workspace, which `cargo test --workspace` builds beside the service.
fn ctl() -> &'static Path {
    let path = Path::new(concat!(env!("CARGO_BIN_EXE_signalbox"), "ctl"));
    assert!(
        path.exists(),
        "{} is missing: cargo build --workspace",
        path.display()
    );
    path
}

/// A program that says where it listens, and is ended with its owner.
struct Child {
    child: std::process::Child,
    /// Held open, for what it says later.
    _stdout: BufReader<std::process::ChildStdout>,
    url: String,
}

impl Child {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        let (_, url) = line.split_once("listening on ").expect("where it listens");
        Self {
            child,
            _stdout: stdout,
            url: url.trim().to_owned(),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
