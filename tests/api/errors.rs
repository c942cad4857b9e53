//! Every error: its status, one problem document, and nothing else.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};

use crate::harness::{Answer, App, Process, SILENT, eventually};

fn hexadecimal(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text.bytes().all(|b| b.is_ascii_hexdigit())
        && text.bytes().any(|b| b != b'0')
}

/// The answer is a problem document of `status` and `code` that leads to its trace and request.
fn assert_problem(answer: &Answer, status: u16, code: &str, detail: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem = answer.json();
    assert_eq!(
        problem["type"],
        format!("urn:signalbox:problem:{code}"),
        "{problem}"
    );
    assert_eq!(problem["status"], status);
    assert!(
        problem["title"]
            .as_str()
            .is_some_and(|title| !title.is_empty())
    );
    let found = problem["detail"].as_str().expect("a detail");
    assert!(found.contains(detail), "{detail:?} is not in {found:?}");
    assert_eq!(problem["trace_id"], answer.trace_id());
    assert!(hexadecimal(&answer.trace_id(), 32), "{problem}");
    assert_eq!(problem["request_id"], answer.header("x-request-id"));
}

#[test]
fn what_is_wrong_with_a_request_is_said() {
    let app = App::start();
    let long = "x".repeat(5000);
    let cases: [(&str, u16, &str, &str); 24] = [
        ("/nowhere", 404, "not-found", "nothing is served"),
        ("/docs/nowhere", 404, "not-found", "nothing is served"),
        (
            "/demo/logs?count=0",
            400,
            "invalid-request",
            "count must be a whole number, 1 to 1000",
        ),
        ("/demo/logs?count=1001", 400, "invalid-request", "1 to 1000"),
        ("/demo/logs?count=", 400, "invalid-request", "1 to 1000"),
        (
            "/demo/logs?count=1&count=2",
            400,
            "invalid-request",
            "duplicate",
        ),
        (
            "/demo/cpu?ms=5001",
            400,
            "invalid-request",
            "ms must be a whole number, 1 to 5000",
        ),
        ("/demo/cpu-error?ms=0", 400, "invalid-request", "1 to 5000"),
        (
            "/demo/memory?mb=129",
            400,
            "invalid-request",
            "mb must be a whole number, 1 to 128",
        ),
        (
            "/demo/memory?hold_ms=5001",
            400,
            "invalid-request",
            "hold_ms must be a whole number, 0 to 5000",
        ),
        (
            "/demo/memory-error?mb=0",
            400,
            "invalid-request",
            "1 to 128",
        ),
        (
            "/demo/work?quantity=101",
            400,
            "invalid-request",
            "quantity must be a whole number, 1 to 100",
        ),
        (
            "/api?sc=199",
            400,
            "invalid-request",
            "sc must be a whole number, 200 to 599",
        ),
        ("/api?sc=600", 400, "invalid-request", "200 to 599"),
        ("/api?sc=abc", 400, "invalid-request", "200 to 599"),
        (
            "/api?delay_ms=5001",
            400,
            "invalid-request",
            "delay_ms must be a whole number, 0 to 5000",
        ),
        (
            "/api?sc=418&delay_ms=0",
            418,
            "requested-status",
            "asked for",
        ),
        (
            "/api?sc=503&delay_ms=0",
            503,
            "requested-status",
            "asked for",
        ),
        (
            "/debug/pprof/profile?seconds=31",
            400,
            "invalid-request",
            "seconds must be a whole number, 1 to 30",
        ),
        (
            "/debug/pprof/flamegraph?seconds=0",
            400,
            "invalid-request",
            "1 to 30",
        ),
        (
            "/ping?fault=explode%3D1",
            400,
            "invalid-request",
            "no fault",
        ),
        (
            "/ping?fault=latency_ms%3D15001",
            400,
            "invalid-request",
            "latency_ms must be 0 to 15000",
        ),
        (
            "/demo/work-error",
            500,
            "database-failed",
            "refused the values",
        ),
        ("/demo/cpu-error?ms=1", 500, "internal", "does not fit"),
    ];
    for (path, status, code, detail) in cases {
        assert_problem(&app.get(path), status, code, detail);
    }
    assert_problem(
        &app.get("/demo/memory-error?mb=1&hold_ms=0"),
        500,
        "internal",
        "allocation failed",
    );
    assert_problem(
        &app.get(&format!("/ping?{long}")),
        414,
        "uri-too-long",
        "4096 bytes",
    );
    let answer = app
        .api
        .request(Method::GET, "/ping")
        .header("x-filler", "x".repeat(20_000))
        .send();
    assert_problem(&Answer::of(answer), 431, "headers-too-large", "16384 bytes");
    assert_problem(
        &app.worker.get("/quotes/ty%201"),
        400,
        "invalid-request",
        "sku must be",
    );
    assert_problem(
        &app.worker.get("/quotes/TY-001?quantity=0"),
        400,
        "invalid-request",
        "1 to 100",
    );
}

#[test]
fn every_path_says_which_methods_it_answers() {
    let app = App::start();
    let cases = [
        ("/", "GET, HEAD"),
        ("/ping", "GET, HEAD"),
        ("/api", "GET, HEAD"),
        ("/links", "GET, HEAD"),
        ("/go/trace/0af7651916cd43dd8448eb211c80319c", "GET, HEAD"),
        ("/metrics", "GET, HEAD"),
        ("/demo/work", "GET, HEAD"),
        ("/demo/lock", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
        ("/docs/", "GET, HEAD"),
        ("/debug/pprof/profile", "GET, HEAD"),
        ("/debug/pprof/heap", "GET, HEAD"),
        ("/faults", "GET, HEAD, PUT, DELETE"),
    ];
    for (path, allow) in cases {
        let answer = Answer::of(app.api.request(Method::PATCH, path).send());
        assert_problem(
            &answer,
            405,
            "method-not-allowed",
            &format!("answers {allow}"),
        );
        assert_eq!(answer.header("allow"), allow, "{path}");
    }
    for path in ["/quotes/TY-001", "/metrics", "/readyz", "/debug/pprof/heap"] {
        let answer = Answer::of(app.worker.request(Method::DELETE, path).send());
        assert_problem(&answer, 405, "method-not-allowed", "answers GET, HEAD");
        assert_eq!(answer.header("allow"), "GET, HEAD", "{path}");
    }
    let answer = app.worker.get("/jobs");
    assert_problem(&answer, 405, "method-not-allowed", "answers POST");
    assert_eq!(answer.header("allow"), "POST");
}

#[test]
fn head_is_answered_as_get_without_the_body() {
    let app = App::start();
    let cases = [
        ("/", 200),
        ("/ping", 200),
        ("/healthz", 200),
        ("/metrics", 200),
        ("/links", 200),
        ("/faults", 200),
        ("/openapi.json", 200),
        ("/docs/", 200),
        ("/demo/logs?count=2", 200),
        ("/api?sc=503&delay_ms=0", 503),
        ("/demo/logs?count=0", 400),
        ("/nowhere", 404),
    ];
    for (path, status) in cases {
        let answer = Answer::of(app.api.request(Method::HEAD, path).send());
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (status, ""),
            "{path}"
        );
        let got = app.get(path);
        assert_eq!(
            answer.header("content-type"),
            got.header("content-type"),
            "{path}"
        );
        assert!(answer.headers.contains_key("traceresponse"), "{path}");
    }
    for path in ["/quotes/TY-001", "/readyz", "/metrics"] {
        let answer = Answer::of(app.worker.request(Method::HEAD, path).send());
        assert_eq!((answer.status, answer.text.as_str()), (200, ""), "{path}");
    }
}

#[test]
fn media_types_and_encodings_are_compared_without_case() {
    // Arrange
    let app = App::start();
    let plan = br#"{"leak_kb": 8}"#;
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut zipped, plan).expect("zipped");
    let zipped = zipped.finish().expect("zipped");
    let put = |media_type: &str, encoding: Option<&str>, body: &[u8]| {
        let request = app.api.request(Method::PUT, "/faults");
        let mut request = request.header(CONTENT_TYPE, media_type);
        if let Some(encoding) = encoding {
            request = request.header("content-encoding", encoding);
        }
        Answer::of(request.body(body.to_vec()).send())
    };
    // Act and assert
    for (media_type, encoding) in [
        ("application/json", None),
        ("Application/JSON; charset=UTF-8", None),
        ("application/json", Some("identity")),
    ] {
        let answer = put(media_type, encoding, plan);
        assert_eq!(
            answer.json()["default"]["leak_kb"],
            8,
            "{media_type} {encoding:?}"
        );
    }
    for encoding in ["gzip", "GZip", "x-gzip", "X-GZIP"] {
        let answer = put("application/json", Some(encoding), &zipped);
        assert_eq!(answer.status, 200, "{encoding}: {}", answer.text);
        assert_eq!(answer.json()["default"]["leak_kb"], 8, "{encoding}");
    }
    let answer = put("application/json", Some("br"), plan);
    assert_problem(&answer, 415, "unsupported-media-type", "gzip, deflate");
    assert_eq!(answer.header("accept-encoding"), "gzip, deflate");
    // A small body that is large when it is unzipped
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut bomb, &vec![b' '; 20 * 1024 * 1024]).expect("zipped");
    let bomb = bomb.finish().expect("zipped");
    assert!(bomb.len() < 65_536);
    let answer = put("application/json", Some("gzip"), &bomb);
    assert_problem(&answer, 413, "body-too-large", "65536 bytes");
}

#[test]
fn the_command_line_says_what_it_takes() {
    let directory = crate::harness::temp_dir("cli");
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_signalbox"));
        let output = command
            .args(arguments)
            .current_dir(directory.path())
            .env_clear()
            .output();
        let output = output.expect("the program runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    for arguments in [["--help"], ["-h"], ["help"]] {
        let (code, stdout, stderr) = run(&arguments);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}");
        for command in ["serve", "worker", "check"] {
            assert!(stdout.contains(command), "{arguments:?}: {stdout}");
        }
    }
    for argument in ["--version", "-V"] {
        let version = format!("signalbox {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(run(&[argument]), (Some(0), version, String::new()));
    }
    for arguments in [&["--port=1"][..], &["serve", "now"], &["sreve"], &[]] {
        let (code, stdout, stderr) = run(arguments);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(
            stderr.contains("Usage: signalbox"),
            "{arguments:?}: {stderr}"
        );
    }
}

#[test]
fn bodies_are_bounded_and_checked() {
    // Arrange
    let app = App::start();
    let large = format!("{{\"latency_ms\": {}1}}", " ".repeat(70_000));
    let cases = [
        (
            "application/json",
            large.as_str(),
            413,
            "body-too-large",
            "65536 bytes",
        ),
        ("application/json", "{", 400, "invalid-request", ""),
        ("text/plain", "{}", 415, "unsupported-media-type", ""),
        (
            "application/json",
            r#"{"latency_ms": "long"}"#,
            422,
            "unprocessable",
            "expected a JSON number",
        ),
        (
            "application/json",
            r#"{"latency_ms": 15001}"#,
            422,
            "unprocessable",
            "latency_ms must be 0 to 15000",
        ),
        (
            "application/json",
            r#"{"error_rate": 1.5}"#,
            422,
            "unprocessable",
            "error_rate must be 0 to 1",
        ),
        (
            "application/json",
            r#"{"explode": 1}"#,
            422,
            "unprocessable",
            "explode",
        ),
    ];
    for (media_type, body, status, code, detail) in cases {
        // Act
        let request = app
            .api
            .request(Method::PUT, "/faults")
            .header(CONTENT_TYPE, media_type);
        let answer = Answer::of(request.body(body.to_owned()).send());
        // Assert
        assert_problem(&answer, status, code, detail);
    }
    let chunked = std::io::Cursor::new(large.into_bytes());
    let request = app
        .api
        .request(Method::PUT, "/faults")
        .header(CONTENT_TYPE, "application/json");
    let answer = Answer::of(request.body(reqwest::blocking::Body::new(chunked)).send());
    assert_problem(&answer, 413, "body-too-large", "65536 bytes");
    let job = r#"{"id": "", "order_id": 1, "total_cents": 1, "sent_ms": 0}"#;
    let request = app
        .worker
        .request(Method::POST, "/jobs")
        .header(CONTENT_TYPE, "application/json");
    assert_problem(
        &Answer::of(request.body(job).send()),
        422,
        "unprocessable",
        "id must have 1 to 64",
    );
}

#[test]
fn a_request_that_takes_too_long_is_given_up() {
    let app = App::with(&[("SIGNALBOX_REQUEST_TIMEOUT_MS", "2000")]);
    assert_problem(
        &app.get("/api?delay_ms=5000"),
        504,
        "deadline-exceeded",
        "2000 ms",
    );
    assert_eq!(app.get("/ping").status, 200);
}

#[test]
fn requests_beyond_the_rate_are_told_to_come_back() {
    let app = App::with(&[("SIGNALBOX_MAX_REQUESTS_PER_SECOND", "1")]);
    assert_eq!(app.get("/ping").status, 200);
    let refused = eventually("a second one within the same second", || {
        let answer = app.get("/ping");
        (answer.status != 200).then_some(answer)
    });
    assert_problem(&refused, 429, "rate-limited", "1 requests per second");
    assert_eq!(refused.header("retry-after"), "1");
    for path in ["/healthz", "/metrics"] {
        assert_eq!(app.get(path).status, 200, "{path} is always answered");
    }
    // What it depends on may need longer than its check has.
    assert_ne!(app.get("/readyz").status, 429);
}

#[test]
fn requests_beyond_the_number_at_once_are_told_to_come_back() {
    // Arrange: one request holds the only place.
    let app = App::with(&[("SIGNALBOX_MAX_CONCURRENT_REQUESTS", "1")]);
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| app.get("/api?sc=200&delay_ms=5000"));
        // Act
        eventually("the place is taken", || {
            let text = app.get("/metrics").text;
            let mut lines = text.lines();
            let active = lines.find(|line| line.starts_with("http_server_active_requests{"))?;
            // This request for the metrics is one of them.
            active.ends_with(" 2").then_some(())
        });
        let refused = app.get("/links");
        // Assert
        assert_problem(&refused, 503, "overloaded", "1 requests are served at once");
        assert_eq!(refused.header("retry-after"), "1");
        assert_eq!(app.get("/healthz").status, 200);
        assert_eq!(holder.join().expect("no panic").status, 200);
    });
    assert_eq!(app.get("/links").status, 200, "the place is free again");
}

#[test]
fn what_all_requests_hold_together_is_bounded() {
    // Arrange: one request holds 60 of 64 MiB.
    let app = App::with(&[("SIGNALBOX_MEMORY_BUDGET_MB", "64")]);
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| app.get("/demo/memory?mb=60&hold_ms=5000"));
        // Act
        eventually("the memory is held", || {
            let text = app.get("/metrics").text;
            let mut lines = text.lines();
            lines
                .find(|line| *line == "signalbox_demo_memory_held_bytes 62914560")
                .map(drop)
        });
        let refused = app.get("/demo/memory?mb=32&hold_ms=0");
        // Assert
        assert_problem(&refused, 503, "memory-budget", "together may hold 64 MiB");
        assert_eq!(holder.join().expect("no panic").status, 200);
    });
    assert_eq!(
        app.get("/demo/memory?mb=32&hold_ms=0").status,
        200,
        "given back"
    );
    assert_problem(
        &app.get("/demo/memory?mb=65"),
        503,
        "memory-budget",
        "64 MiB",
    );
}

#[test]
fn a_full_queue_refuses_jobs_and_the_order_is_placed_all_the_same() {
    // Arrange: a queue of one, and one job at a time.
    let app = App::with(&[
        ("SIGNALBOX_QUEUE_CAPACITY", "1"),
        ("SIGNALBOX_JOB_CONCURRENCY", "1"),
    ]);
    let job = r#"{"id": "j", "order_id": 1, "total_cents": 1, "sent_ms": 0}"#;
    let post = || {
        let request = app
            .worker
            .request(Method::POST, "/jobs")
            .header(CONTENT_TYPE, "application/json");
        Answer::of(request.body(job).send())
    };
    // Act: 80 at once do not fit, unless this machine is too slow to make them so
    let refused = eventually("more jobs at once than there is room for", || {
        let answers = std::thread::scope(|scope| {
            let posts: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..10).map(|_| post()).collect::<Vec<_>>()))
                .collect();
            let answers = posts
                .into_iter()
                .flat_map(|post| post.join().expect("no panic"));
            answers.collect::<Vec<_>>()
        });
        let refused = answers.into_iter().filter(|answer| answer.status != 202);
        Some(refused.collect::<Vec<_>>()).filter(|refused| !refused.is_empty())
    });
    // Assert
    for answer in refused {
        assert_problem(&answer, 503, "overloaded", "1 jobs wait already");
    }
}

#[test]
fn request_ids_are_the_callers_if_they_are_fit() {
    let app = App::start();
    let fit = "Az09_-".repeat(10);
    let cases = [
        (fit.as_str(), true),
        ("a b", false),
        ("", false),
        (&"x".repeat(65), false),
        ("é", false),
    ];
    for (id, kept) in cases {
        let value = HeaderValue::from_bytes(id.as_bytes()).expect("a header");
        let name = HeaderName::from_static("x-request-id");
        let answer = Answer::of(
            app.api
                .request(Method::GET, "/ping")
                .header(name, value)
                .send(),
        );
        let given = answer.header("x-request-id");
        assert_eq!(given == id, kept, "{id:?} became {given:?}");
        assert!((1..=64).contains(&given.len()));
    }
}

#[test]
fn a_wrong_setting_stops_the_start() {
    let directory = crate::harness::temp_dir("settings");
    let cases = [
        ("SIGNALBOX_LISTEN", "nowhere"),
        ("SIGNALBOX_FAULT_ERROR_RATE", "2"),
        ("SIGNALBOX_MAX_BODY_BYTES", "1"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
    ];
    for (name, value) in cases {
        let mut process = Process::spawn("serve", directory.path(), &[SILENT[0], (name, value)]);
        let status = process.wait();
        let stderr = process.stderr();
        assert_eq!(status.code(), Some(2), "{name}: {stderr}");
        assert!(
            stderr.contains(name) && stderr.contains(value) && stderr.contains("allowed"),
            "{stderr}"
        );
    }
}

#[test]
fn a_setting_that_is_no_text_stops_the_start() {
    let directory = crate::harness::temp_dir("no-text");
    for name in ["SIGNALBOX_LISTEN", "OTEL_SERVICE_NAME"] {
        let mut command = crate::harness::command("serve", directory.path(), &[SILENT[0]]);
        command.env(name, OsStr::from_bytes(b"\xff"));
        let output = command.output().expect("the program runs");
        assert_eq!(output.status.code(), Some(2), "{name}");
        let expected = format!("signalbox: {name}=*** is not allowed; allowed: text in UTF-8\n");
        assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
    }
}
