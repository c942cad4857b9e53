//! The real `demo` with the real programs, and the real `load` into it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Output;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

mod support;

use support::{Demo, PATIENCE, folder, get, location, signalboxctl};

fn load(url: &str, arguments: &[&str]) -> Output {
    signalboxctl()
        .args(["load", "--url", url])
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn a_load_into_the_demo_is_counted_and_its_links_lead_to_what_it_caused() {
    let mut demo = Demo::start("load");
    assert_eq!(demo.children.len(), 3, "{:?}", demo.children);

    let output = load(
        &demo.service,
        &[
            "--mix",
            "ping=3,work-error=1",
            "--count",
            "40",
            "--rate",
            "100",
        ],
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.starts_with("40 requests in "), "{text}");
    let row = |name: &str| -> Vec<&str> {
        let line = text
            .lines()
            .find(|line| line.split_whitespace().next() == Some(name))
            .unwrap();
        line.split_whitespace().skip(1).take(2).collect()
    };
    assert_eq!(
        (row("ping"), row("work-error"), row("all")),
        (vec!["30", "0"], vec!["10", "10"], vec!["40", "10"])
    );
    assert!(text.contains("answers:  200 × 30  500 × 10\n"), "{text}");

    let failing = text
        .split("failing request: GET /demo/work-error answered 500")
        .nth(1)
        .unwrap();
    let link = |name: &str| {
        failing
            .lines()
            .find_map(|line| line.trim().strip_prefix(name))
            .unwrap()
            .trim()
            .to_owned()
    };
    let trace_id = link("trace id");
    let target = location(&link("trace  "));
    assert!(
        target.starts_with(&format!("{}/traces/{trace_id}#span-", demo.viewer)),
        "{target}"
    );
    assert_eq!(
        location(&link("logs")),
        format!("{}/logs?trace_id={trace_id}", demo.viewer)
    );

    // The root span ends last, and may leave with a later export than those below it.
    let begin = Instant::now();
    loop {
        let trace = get(&format!("{}/api/traces/{trace_id}", demo.viewer)).unwrap_or_default();
        let spans = names(&trace);
        if spans.iter().any(|name| name == "GET /demo/work-error") {
            break;
        }
        assert!(
            begin.elapsed() < PATIENCE,
            "of the failing request's trace only {spans:?} arrived"
        );
        std::thread::sleep(Duration::from_millis(100));
    }

    demo.signal(Signal::SIGINT);
    assert_eq!(demo.ended(), (Some(0), String::new()));
    assert_eq!(demo.left_over(), Vec::<&str>::new());
}

/// Names of all spans of a trace in OTLP/JSON; none of null.
fn names(trace: &serde_json::Value) -> Vec<String> {
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    list(&trace["resourceSpans"])
        .iter()
        .flat_map(|resource| list(&resource["scopeSpans"]))
        .flat_map(|scope| list(&scope["spans"]))
        .filter_map(|span| Some(span["name"].as_str()?.to_owned()))
        .collect()
}

/// What a shell may have set for another program, each of which once kept the demo from getting ready or made one service of two.
#[test]
fn whatever_the_shell_and_the_folder_are_called_it_gets_ready_and_its_programs_keep_apart() {
    let data = folder("odd").join("a b%20?x#y");
    let demo = Demo::start_in(
        &data,
        &[
            ("RUST_LOG", "warn"),
            ("LOG_FORMAT", "off"),
            ("OTEL_SERVICE_NAME", "mine"),
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.name=mine,service.instance.id=1,team=shop",
            ),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/does/not/exist.pem"),
        ],
    );
    assert!(data.join("signalbox.db").is_file());
    assert!(data.join("lens").is_dir());

    let output = load(
        &demo.service,
        &["--mix", "work=1", "--count", "1", "--rate", "10"],
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let trace_id = text.split("trace id ").nth(1).unwrap();
    let trace_id = trace_id.split_whitespace().next().unwrap();
    let both = ["signalbox-api", "signalbox-worker"];
    let begin = Instant::now();
    let resources = loop {
        let trace = get(&format!("{}/api/traces/{trace_id}", demo.viewer)).unwrap_or_default();
        let resources = resources(&trace);
        let named = |name: &&str| resources.iter().any(|r| r["service.name"] == **name);
        if both.iter().all(named) {
            break resources;
        }
        assert!(begin.elapsed() < PATIENCE, "only {resources:?} arrived");
        std::thread::sleep(Duration::from_millis(100));
    };
    let ids: BTreeSet<&String> = resources
        .iter()
        .map(|r| &r["service.instance.id"])
        .collect();
    assert_eq!(ids.len(), 2, "{resources:?}");
    assert!(
        resources.iter().all(|r| r["team"] == "shop"),
        "{resources:?}"
    );
}

/// Text attributes of each resource of a trace in OTLP/JSON.
fn resources(trace: &Value) -> Vec<BTreeMap<String, String>> {
    let attributes = |resource: &Value| {
        let list = resource["resource"]["attributes"].as_array();
        list.into_iter()
            .flatten()
            .filter_map(|attribute| {
                let value = attribute["value"]["stringValue"].as_str()?;
                Some((attribute["key"].as_str()?.to_owned(), value.to_owned()))
            })
            .collect()
    };
    let resources = trace["resourceSpans"].as_array();
    resources.into_iter().flatten().map(attributes).collect()
}

#[test]
fn a_program_that_cannot_start_is_named_with_its_own_reason() {
    let output = signalboxctl()
        .env("OTEL_TRACES_EXPORTER", "console")
        .args(["demo", "--lens", "127.0.0.1:0", "--worker", "127.0.0.1:0"])
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder("console"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.starts_with(
            "error: the worker ended before it was ready (exit status: 2); its last lines ("
        ),
        "{said}"
    );
    assert!(said.contains("OTEL_TRACES_EXPORTER=console"), "{said}");
}

#[test]
fn sigterm_stops_the_demo_too() {
    let mut demo = Demo::start("sigterm");
    demo.signal(Signal::SIGTERM);
    assert_eq!(demo.ended(), (Some(0), String::new()));
    assert_eq!(demo.left_over(), Vec::<&str>::new());
}

#[test]
fn when_one_program_dies_the_others_are_stopped_and_it_is_named_with_its_last_lines() {
    let data = folder("death");
    let mut demo = Demo::start_in(&data, &[]);
    // The service writes its lines a moment after they are made.
    let (log, begin) = (data.join("logs/worker.log"), Instant::now());
    let written = || std::fs::read_to_string(&log).unwrap_or_default();
    while !written().contains("listening on") {
        assert!(begin.elapsed() < PATIENCE, "{}", written());
        std::thread::sleep(Duration::from_millis(20));
    }
    kill(demo.child("signalbox worker"), Signal::SIGKILL).unwrap();
    let (code, said) = demo.ended();
    assert_eq!(code, Some(1));
    assert!(
        said.starts_with(
            "error: the worker ended by itself (signal: 9 (SIGKILL)); its last lines ("
        ),
        "{said}"
    );
    assert!(said.contains("listening on http://127.0.0.1:"), "{said}");
    assert_eq!(demo.left_over(), Vec::<&str>::new());
}

#[cfg(target_os = "linux")]
#[test]
fn killed_itself_it_leaves_nothing_behind() {
    let mut demo = Demo::start("killed");
    demo.signal(Signal::SIGKILL);
    assert_eq!(demo.ended().0, None);
    let begin = Instant::now();
    while !demo.left_over().is_empty() {
        assert!(
            begin.elapsed() < PATIENCE,
            "still running: {:?}",
            demo.left_over()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_taken_port_is_named_with_its_owner_and_nothing_is_started() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let data = folder("taken");
    let output = signalboxctl()
        .args([
            "demo",
            "--lens",
            "127.0.0.1:0",
            "--worker",
            "127.0.0.1:0",
            "--listen",
            &address,
            "--data-dir",
        ])
        .arg(&data)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with(&format!(
            "error: nothing was started:\n  {address}, wanted for the service, is taken"
        )),
        "{said}"
    );
    if cfg!(target_os = "linux") {
        assert!(
            said.contains(&format!("by process {} (demo-", std::process::id())),
            "{said}"
        );
    }
    assert!(
        said.contains("choose another with --listen or SIGNALBOX_LISTEN"),
        "{said}"
    );
    assert!(!data.exists());
}

#[test]
fn a_load_into_nothing_fails_and_says_how_to_start_the_service() {
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap(); // closed again at once
    let output = load(&format!("http://{address}"), &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with(&format!(
            "error: cannot reach http://{address}/: Connection refused"
        )),
        "{said}"
    );
    assert!(said.contains("make demo"), "{said}");
}

#[test]
fn plain_http_needs_neither_authorities_nor_a_proxy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let read = stream.read(&mut request).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .unwrap();
        String::from_utf8_lossy(&request[..read]).into_owned()
    });
    let mut probe = signalboxctl();
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        probe.env(name, "http://127.0.0.1:9"); // nobody
    }
    let output = probe
        .args(["probe", &url])
        .env("SSL_CERT_FILE", "/nonexistent")
        .env("SSL_CERT_DIR", "/nonexistent")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(answering.join().unwrap().starts_with("GET / HTTP/1.1\r\n"));
}
