//! The examples of the telemetry crate, run as their readers run them: every signal of each arrives in the viewer.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::harness::otlp::{Span, total};
use crate::harness::{Answer, Lens, client, eventually};

/// Builds the examples, once, and names one.
fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let package = ["build", "--quiet", "--package", "signalbox-telemetry"];
        let built = Command::new(env!("CARGO"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(package)
            .args(["--all-features", "--examples"])
            .status()
            .expect("cargo runs");
        assert!(built.success());
    });
    let test = std::env::current_exe().expect("own path");
    let folder = test.ancestors().nth(2).expect("target/debug");
    folder.join("examples").join(name)
}

/// A running example; ended with its owner.
struct Example {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Example {
    fn start(program: &Path, argument: &str, lens: &Lens) -> Self {
        let mut child = Command::new(program)
            .arg(argument)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", lens.url())
            .env("OTEL_METRIC_EXPORT_INTERVAL", "500")
            .env("PYROSCOPE_SERVER_ADDRESS", lens.url())
            .env("PYROSCOPE_UPLOAD_INTERVAL", "1")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let stdout = child.stdout.take().expect("piped");
        let lines = BufReader::new(stdout).lines();
        Self { child, lines }
    }

    /// The address it listens on, from its log.
    fn address(&mut self) -> String {
        let address = self.lines.find_map(|line| {
            let record: Value = serde_json::from_str(&line.ok()?).ok()?;
            let message = record["message"].as_str()?.to_owned();
            Some(message.strip_prefix("listening on ")?.to_owned())
        });
        address.expect("it says where it listens")
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn contains(profile: &[u8], name: &str) -> bool {
    profile
        .windows(name.len())
        .any(|part| part == name.as_bytes())
}

/// Does `work` again before each look, because the profiler may have started after what was done first.
fn profiles_arrive(lens: &Lens, service: &str, mut work: impl FnMut()) {
    let names = |kind: &str, name: &str| {
        let profile = lens.profile(&format!("/api/profiles/{kind}?service={service}"))?;
        contains(&profile, name).then_some(())
    };
    eventually("the CPU profile names the function", || {
        work();
        names("cpu", "count_primes")
    });
    if cfg!(target_os = "linux") {
        // One allocation in 512 KiB is sampled: what is large is sure to be seen, as the symbols that the profiler keeps are.
        eventually("the heap profile names who allocated", || {
            names("heap", "signalbox_telemetry")
        });
    }
}

/// One request to a server that counts primes, and what is recorded of it.
fn counts_primes(name: &str, service: &str) {
    // Arrange
    let lens = Lens::start();
    let mut example = Example::start(&example(name), "127.0.0.1:0", &lens);
    let address = example.address();
    // Act
    let request = || {
        client()
            .get(format!("{address}/primes/300000?sig=x"))
            .send()
    };
    let answer = Answer::of(request());
    // Assert: traces
    assert_eq!((answer.status, answer.text.as_str()), (200, "25997"));
    let spans = lens.trace(&answer.trace_id(), |spans| spans.len() >= 2);
    let named = |name: &str| -> &Span {
        let span = spans.iter().find(|span| span.name == name);
        span.unwrap_or_else(|| panic!("{name} in {spans:#?}"))
    };
    let server = named("GET /primes/{below}");
    let inner = named("count_primes");
    assert_eq!((server.kind, server.service.as_str()), (2, service));
    for (key, value) in [
        ("http.route", "/primes/{below}"),
        ("http.response.status_code", "200"),
        ("client.address", "127.0.0.1"),
        ("url.query", "sig=REDACTED"),
    ] {
        let found = server.attributes.get(key).map(String::as_str);
        assert_eq!(found, Some(value), "{key}");
    }
    assert_eq!(inner.parent, server.id);
    assert_eq!(inner.attributes["example.below"], "300000");
    // Logs
    let logs = lens.logs(&answer.trace_id(), |logs| logs.len() >= 2);
    let mut bodies: Vec<&str> = logs.iter().map(|log| log.body.as_str()).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, ["GET /primes/{below} 200", "primes counted"]);
    let counted = logs.iter().find(|log| log.body == "primes counted");
    let counted = counted.expect("the record");
    assert_eq!(counted.attributes["example.count"], "25997");
    assert_eq!(counted.span_id, server.id);
    assert_eq!(
        counted.attributes["request.id"],
        answer.header("x-request-id")
    );
    // Metrics
    eventually("the request is counted", || {
        let points = lens.metric(service, "http.server.request.duration");
        (total(&points, &[("http.route", "/primes/{below}")]) == 1.0).then_some(())
    });
    // Profiles
    profiles_arrive(&lens, service, || drop(request()));
}

#[test]
fn the_actix_example_has_all_signals() {
    counts_primes("actix", "actix-example");
}

#[test]
fn the_axum_example_has_all_signals() {
    counts_primes("axum", "axum-example");
}

#[test]
fn the_example_without_http_has_all_signals() {
    // Arrange
    let lens = Lens::start();
    // Act
    let mut example = Example::start(&example("worker"), "20", &lens);
    let ended = example.child.wait().expect("it ends");
    // Assert: metrics, which are flushed last
    assert!(ended.success());
    let points = lens.metric("worker-example", "example.job.duration");
    assert_eq!(total(&points, &[("example.job.kind", "primes")]), 20.0);
    let exported = lens.metric("worker-example", "otel.sdk.exporter.span.exported");
    assert_eq!(exported.iter().map(|point| point.value).sum::<f64>(), 40.0);
    // Traces and logs: each job is a trace, linked to the one that asked for it
    let records = lens
        .get("/api/logs?service=worker-example&limit=2000")
        .expect("logs");
    let records = crate::harness::otlp::logs(&records);
    let counted: Vec<_> = records
        .iter()
        .filter(|log| log.body == "primes counted")
        .collect();
    assert_eq!(counted.len(), 20);
    let job = lens.trace(&counted[0].trace_id, |spans| !spans.is_empty());
    assert_eq!((job[0].name.as_str(), job[0].kind), ("process primes", 5));
    assert_eq!(job[0].parent, "");
    let (cause, _) = &job[0].links[0];
    let cause = lens.trace(cause, |spans| !spans.is_empty());
    assert_eq!((cause[0].name.as_str(), cause[0].kind), ("send primes", 4));
    // Profiles
    profiles_arrive(&lens, "worker-example", || {});
}
