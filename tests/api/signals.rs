//! What a request leaves behind, compared by value with the real viewer: spans, logs, metrics, stacks.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use reqwest::Method;

use crate::harness::otlp::{self, Log, Span, total};
use crate::harness::{Answer, App, Process, eventually, gunzip};

const SERVER: u64 = 2;
const CLIENT: u64 = 3;
const PRODUCER: u64 = 4;
const CONSUMER: u64 = 5;
const INTERNAL: u64 = 1;

/// A span as it must be: service, name, kind, parent's name, attributes.
type Expected = (
    &'static str,
    &'static str,
    u64,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const ORDER: [Expected; 16] = [
    (
        "signalbox-api",
        "GET /demo/work",
        SERVER,
        "caller",
        &[
            ("http.route", "/demo/work"),
            ("http.request.method", "GET"),
            ("http.response.status_code", "200"),
            ("url.scheme", "http"),
        ],
    ),
    (
        "signalbox-api",
        "cache get",
        INTERNAL,
        "GET /demo/work",
        &[
            ("signalbox.cache.backend", "memory"),
            ("signalbox.cache.operation", "get"),
            ("signalbox.cache.result", "miss"),
        ],
    ),
    (
        "signalbox-api",
        "SELECT products",
        CLIENT,
        "GET /demo/work",
        &[
            ("db.system.name", "sqlite"),
            ("db.namespace", "signalbox.db"),
            ("db.operation.name", "SELECT"),
            ("db.collection.name", "products"),
            ("db.query.summary", "SELECT products"),
            (
                "db.query.text",
                "SELECT sku, name, category, price_cents FROM products WHERE sku = $1",
            ),
        ],
    ),
    (
        "signalbox-api",
        "cache set",
        INTERNAL,
        "GET /demo/work",
        &[("signalbox.cache.result", "stored")],
    ),
    (
        "signalbox-api",
        "GET /quotes/{sku}",
        CLIENT,
        "GET /demo/work",
        &[
            ("http.request.method", "GET"),
            ("http.response.status_code", "200"),
            ("url.template", "/quotes/{sku}"),
        ],
    ),
    (
        "signalbox-worker",
        "GET /quotes/{sku}",
        SERVER,
        "GET /quotes/{sku}",
        &[
            ("http.route", "/quotes/{sku}"),
            ("http.response.status_code", "200"),
        ],
    ),
    (
        "signalbox-worker",
        "choose carrier",
        INTERNAL,
        "GET /quotes/{sku}",
        &[],
    ),
    (
        "signalbox-api",
        "BEGIN",
        CLIENT,
        "GET /demo/work",
        &[("db.operation.name", "BEGIN")],
    ),
    (
        "signalbox-api",
        "UPDATE products",
        CLIENT,
        "GET /demo/work",
        &[
            ("db.operation.name", "UPDATE"),
            ("db.collection.name", "products"),
        ],
    ),
    (
        "signalbox-api",
        "INSERT orders",
        CLIENT,
        "GET /demo/work",
        &[
            ("db.operation.name", "INSERT"),
            ("db.collection.name", "orders"),
        ],
    ),
    (
        "signalbox-api",
        "INSERT order_items",
        CLIENT,
        "GET /demo/work",
        &[("db.collection.name", "order_items")],
    ),
    (
        "signalbox-api",
        "COMMIT",
        CLIENT,
        "GET /demo/work",
        &[("db.operation.name", "COMMIT")],
    ),
    (
        "signalbox-api",
        "send signalbox.jobs",
        PRODUCER,
        "GET /demo/work",
        &[
            ("messaging.system", "http"),
            ("messaging.destination.name", "signalbox.jobs"),
            ("messaging.operation.name", "send"),
            ("messaging.operation.type", "send"),
            ("signalbox.order.id", "1"),
        ],
    ),
    (
        "signalbox-api",
        "POST /jobs",
        CLIENT,
        "send signalbox.jobs",
        &[("http.response.status_code", "202")],
    ),
    (
        "signalbox-worker",
        "POST /jobs",
        SERVER,
        "POST /jobs",
        &[
            ("http.route", "/jobs"),
            ("http.response.status_code", "202"),
        ],
    ),
    (
        "signalbox-api",
        "SELECT orders order_items",
        CLIENT,
        "GET /demo/work",
        &[("db.collection.name", "orders")],
    ),
];

#[test]
fn an_order_is_one_trace_without_orphans_and_its_job_is_linked() {
    // Arrange
    let app = App::start();
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const CALLER: &str = "b7ad6b7169203331";
    // Act: the caller's trace is continued.
    let context = format!("00-{TRACE}-{CALLER}-01");
    let request = app
        .api
        .request(Method::GET, "/demo/work?quantity=2")
        .header("traceparent", context);
    let answer = Answer::of(request.header("x-request-id", "order-1").send());
    // Assert: parents and children
    assert_eq!((answer.status, answer.trace_id().as_str()), (200, TRACE));
    let spans = app.lens.trace(TRACE, |spans| spans.len() >= ORDER.len());
    assert_eq!(spans.len(), ORDER.len(), "{spans:#?}");
    let by_id: BTreeMap<&str, &Span> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    for (service, name, kind, parent, attributes) in ORDER {
        let found = spans.iter().find(|span| {
            (span.service.as_str(), span.name.as_str(), span.kind) == (service, name, kind)
        });
        let span = found.unwrap_or_else(|| panic!("no {service} {name} of kind {kind}"));
        if parent == "caller" {
            assert_eq!(
                (span.parent.as_str(), span.id.as_str()),
                (CALLER, answer.span_id().as_str())
            );
        } else {
            let above = by_id
                .get(span.parent.as_str())
                .map(|span| span.name.as_str());
            assert_eq!(above, Some(parent), "parent of {service} {name}");
        }
        for (key, value) in attributes {
            assert_eq!(
                span.attributes.get(*key).map(String::as_str),
                Some(*value),
                "{key} of {name}"
            );
        }
        assert_ne!(span.status, 2, "{name} did not fail");
    }
    // Assert: the job, in a trace of its own
    let producer = spans
        .iter()
        .find(|span| span.kind == PRODUCER)
        .expect("a producer");
    let consumer = find_consumer(&app);
    assert_ne!(consumer.trace_id, TRACE);
    assert_eq!(consumer.parent, "");
    assert_eq!(consumer.links, [(TRACE.to_owned(), producer.id.clone())]);
    assert_eq!(consumer.name, "process signalbox.jobs");
    for (key, value) in [
        ("messaging.operation.type", "process"),
        ("signalbox.order.id", "1"),
        ("signalbox.request.id", "order-1"),
    ] {
        assert_eq!(
            consumer.attributes.get(key).map(String::as_str),
            Some(value),
            "{key}"
        );
    }
    assert_eq!(
        consumer.attributes["messaging.message.id"],
        producer.attributes["messaging.message.id"]
    );
    // Assert: every record carries ids of the trace and of one of its spans, and the request's id
    let logs = app.lens.logs(TRACE, |logs| logs.len() >= 5);
    let expected = [
        ("signalbox-api", "order accepted"),
        ("signalbox-api", "GET /demo/work 200"),
        ("signalbox-worker", "quoted"),
        ("signalbox-worker", "GET /quotes/{sku} 200"),
        ("signalbox-worker", "POST /jobs 202"),
    ];
    for (service, body) in expected {
        let log = logs
            .iter()
            .find(|log| log.service == service && log.body.starts_with(body));
        let log = log.unwrap_or_else(|| panic!("no record {body:?} in {logs:#?}"));
        assert!(by_id.contains_key(log.span_id.as_str()), "{body}");
        assert_eq!(
            log.attributes
                .get("signalbox.request.id")
                .map(String::as_str),
            Some("order-1"),
            "{body}"
        );
    }
    let job_logs = app.lens.logs(&consumer.trace_id, |logs| !logs.is_empty());
    assert_eq!(job_logs[0].body, "invoice sent");
    assert_eq!(job_logs[0].attributes["signalbox.request.id"], "order-1");
}

fn find_consumer(app: &App) -> Span {
    eventually("the job is done", || {
        let document = app
            .lens
            .get("/api/traces?service=signalbox-worker&limit=100")?;
        let spans = crate::harness::otlp::spans(&document);
        spans.into_iter().find(|span| span.kind == CONSUMER)
    })
}

#[test]
fn ping_is_four_nested_spans() {
    let app = App::start();
    let answer = app.get("/ping");
    let spans = app.lens.trace(&answer.trace_id(), |spans| spans.len() >= 5);
    let mut parent = answer.span_id();
    for name in ["receive", "decide", "compose", "send"] {
        let span = spans.iter().find(|span| span.name == name).expect(name);
        assert_eq!(span.parent, parent, "{name}");
        parent = span.id.clone();
    }
    assert_eq!(spans.len(), 5);
}

#[test]
fn errors_are_an_exception_a_record_and_a_metric_of_one_trace() {
    let app = App::start();
    let cases = [
        ("/demo/work-error", "database-failed"),
        ("/demo/cpu-error?ms=1", "internal"),
        ("/demo/memory-error?mb=1&hold_ms=0", "internal"),
    ];
    for (path, code) in cases {
        // Act
        let answer = app.get(path);
        let route = path.split('?').next().expect("a path");
        // Assert: the span
        assert_eq!(answer.status, 500, "{path}");
        let spans = app.lens.trace(&answer.trace_id(), |spans| {
            spans.iter().any(|span| span.kind == SERVER)
        });
        let server = spans
            .iter()
            .find(|span| span.kind == SERVER)
            .expect("a server span");
        assert_eq!(server.status, 2, "{path}");
        assert_eq!(server.attributes["error.type"], code, "{path}");
        let (name, exception) = server.events.first().expect("an event");
        assert_eq!(name, "exception");
        assert!(!exception["exception.message"].is_empty());
        assert!(
            exception["exception.type"].contains("Error"),
            "{exception:?}"
        );
        // Assert: the record
        let logs = app.lens.logs(&answer.trace_id(), |logs| {
            logs.iter().any(|log| log.severity == "ERROR")
        });
        let errors: Vec<&Log> = logs.iter().filter(|log| log.severity == "ERROR").collect();
        assert_eq!(errors.len(), 1, "logged once: {errors:#?}");
        assert_eq!(errors[0].attributes["error.type"], code);
        assert_eq!(errors[0].span_id, server.id);
        // Assert: the metric
        eventually(&format!("the metric counts {path}"), || {
            let points = app
                .lens
                .metric("signalbox-api", "http.server.request.duration");
            let wanted = [
                ("http.route", route),
                ("http.response.status_code", "500"),
                ("error.type", code),
            ];
            (total(&points, &wanted) == 1.0).then_some(())
        });
    }
}

#[test]
fn records_of_every_level_arrive_with_their_fields() {
    let app = App::start();
    let answer = app.get("/demo/logs?count=40");
    let written = answer.json();
    let logs = app.lens.logs(&answer.trace_id(), |logs| logs.len() >= 41);
    let demo: Vec<&Log> = logs
        .iter()
        .filter(|log| log.target.ends_with("demo::logs"))
        .collect();
    assert_eq!(demo.len(), 40);
    for (level, member) in [
        ("ERROR", "error"),
        ("WARN", "warn"),
        ("INFO", "info"),
        ("DEBUG", "debug"),
        ("TRACE", "trace"),
    ] {
        let count = demo.iter().filter(|log| log.severity == level).count();
        assert_eq!(written[member], count, "{level}");
        assert!(count >= 1, "{level}");
    }
    for log in demo {
        assert_eq!(
            (log.trace_id.as_str(), log.span_id.as_str()),
            (answer.trace_id().as_str(), answer.span_id().as_str())
        );
        let order: i64 = log.attributes["signalbox.order.id"]
            .parse()
            .expect("a number");
        assert!((1..100_000).contains(&order));
    }
    // The same records stand on stdout, with the same ids.
    let same = eventually("they are on stdout", || {
        let records = app.api.records().into_iter();
        let same = records.filter(|record| record["trace_id"] == answer.trace_id());
        Some(same.count()).filter(|count| *count >= 41)
    });
    assert_eq!(same, 41);
}

#[test]
fn client_ids_come_from_a_closed_list() {
    let app = App::with(&[("SIGNALBOX_CLIENT_IDS", "a1,b2")]);
    for (sent, recorded) in [(Some("b2"), "b2"), (Some("zz"), "other"), (None, "other")] {
        let mut request = app.api.request(Method::GET, "/api?sc=200&delay_ms=0");
        if let Some(id) = sent {
            request = request.header("client-id", id);
        }
        let answer = Answer::of(request.send());
        assert_eq!(answer.json()["client_id"], recorded);
        let spans = app
            .lens
            .trace(&answer.trace_id(), |spans| !spans.is_empty());
        assert_eq!(spans[0].attributes["signalbox.client.id"], recorded);
        let logs = app.lens.logs(&answer.trace_id(), |logs| logs.len() >= 2);
        for log in logs {
            assert_eq!(
                log.attributes["signalbox.client.id"], recorded,
                "{}",
                log.body
            );
        }
    }
    eventually("the metric counts by client", || {
        let points = app
            .lens
            .metric("signalbox-api", "http.server.request.duration");
        let count = |id| {
            total(
                &points,
                &[("http.route", "/api"), ("signalbox.client.id", id)],
            )
        };
        (count("b2") == 1.0 && count("other") == 2.0 && count("zz") == 0.0).then_some(())
    });
}

#[test]
fn counts_are_exact() {
    // Arrange
    const REQUESTS: usize = 200;
    let mut app = App::start();
    // Act: from four callers at once, then a stop that flushes.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope
                .spawn(|| (0..REQUESTS / 4).for_each(|_| assert_eq!(app.get("/ping").status, 200)));
        }
    });
    assert!(app.api.stop().success());
    // Assert
    let document = app
        .lens
        .get("/api/traces?route=/ping&limit=1000")
        .expect("traces");
    let spans = crate::harness::otlp::spans(&document);
    let servers = spans
        .iter()
        .filter(|span| span.kind == SERVER && span.name == "GET /ping");
    assert_eq!(servers.count(), REQUESTS);
    let points = app
        .lens
        .metric("signalbox-api", "http.server.request.duration");
    assert_eq!(
        total(
            &points,
            &[
                ("http.route", "/ping"),
                ("http.response.status_code", "200")
            ]
        ),
        REQUESTS as f64
    );
    let document = app
        .lens
        .get("/api/logs?q=ping&limit=2000&service=signalbox-api")
        .expect("logs");
    let logs = crate::harness::otlp::logs(&document);
    assert_eq!(
        logs.iter()
            .filter(|log| log.body == "GET /ping 200")
            .count(),
        REQUESTS
    );
    let access = app
        .api
        .records()
        .iter()
        .filter(|record| record["message"] == "GET /ping 200")
        .count();
    assert_eq!(access, REQUESTS);
}

#[test]
fn metrics_of_an_order_are_counted_under_their_names() {
    // Arrange
    let mut app = App::start();
    // Act
    for _ in 0..3 {
        assert_eq!(app.get("/demo/work").status, 200);
    }
    find_consumer(&app);
    eventually("the database has answered its check", || {
        (app.get("/readyz").status == 200).then_some(())
    });
    assert!(app.api.stop().success());
    assert!(app.worker.stop().success());
    // Assert: service, metric, unit, attributes, count
    type Count = (
        &'static str,
        &'static str,
        &'static str,
        &'static [(&'static str, &'static str)],
        f64,
    );
    let matrix: [Count; 12] = [
        (
            "signalbox-api",
            "http.server.request.duration",
            "s",
            &[("http.route", "/demo/work")],
            3.0,
        ),
        (
            "signalbox-api",
            "http.client.request.duration",
            "s",
            &[("http.request.method", "GET")],
            3.0,
        ),
        (
            "signalbox-api",
            "http.client.request.duration",
            "s",
            &[("http.request.method", "POST")],
            3.0,
        ),
        (
            "signalbox-api",
            "db.client.operation.duration",
            "s",
            &[
                ("db.operation.name", "COMMIT"),
                ("db.system.name", "sqlite"),
            ],
            3.0,
        ),
        (
            "signalbox-api",
            "db.client.operation.duration",
            "s",
            &[
                ("db.query.summary", "INSERT orders"),
                ("db.collection.name", "orders"),
            ],
            3.0,
        ),
        (
            "signalbox-api",
            "db.client.connection.max",
            "{connection}",
            &[("db.client.connection.pool.name", "orders-sqlite")],
            8.0,
        ),
        (
            "signalbox-api",
            "signalbox.cache.operation.duration",
            "s",
            &[("signalbox.cache.operation", "get")],
            3.0,
        ),
        (
            "signalbox-api",
            "signalbox.orders.created",
            "{order}",
            &[],
            3.0,
        ),
        (
            "signalbox-api",
            "messaging.client.sent.messages",
            "{message}",
            &[("messaging.system", "http")],
            3.0,
        ),
        (
            "signalbox-api",
            "signalbox.dependency.up",
            "1",
            &[("signalbox.dependency.name", "database")],
            1.0,
        ),
        (
            "signalbox-worker",
            "messaging.process.duration",
            "s",
            &[("messaging.destination.name", "signalbox.jobs")],
            3.0,
        ),
        (
            "signalbox-worker",
            "signalbox.queue.wait.duration",
            "s",
            &[("messaging.system", "http")],
            3.0,
        ),
    ];
    for (service, metric, unit, attributes, count) in matrix {
        let points = app.lens.metric(service, metric);
        assert_eq!(
            total(&points, attributes),
            count,
            "{service} {metric} {attributes:?}: {points:#?}"
        );
        assert_eq!(points[0].unit, unit, "{metric}");
    }
}

#[test]
fn pull_shows_what_push_sends() {
    // Arrange
    let app = App::start();
    for _ in 0..5 {
        app.get("/ping");
    }
    // Act
    let pulled = app.get("/metrics");
    // Assert
    assert_eq!(
        pulled.header("content-type"),
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(pulled.text.ends_with("# EOF\n"));
    let count = pulled.text.lines().find(|line| {
        line.starts_with("http_server_request_duration_seconds_count{")
            && line.contains("http_route=\"/ping\"")
    });
    assert!(count.is_some_and(|line| line.ends_with(" 5")), "{count:?}");
    eventually("the push agrees", || {
        let points = app
            .lens
            .metric("signalbox-api", "http.server.request.duration");
        (total(&points, &[("http.route", "/ping")]) == 5.0).then_some(())
    });
    // The worker has a page of its own: what it was asked, and what it depends on.
    for _ in 0..3 {
        assert_eq!(app.worker.get("/quotes/TY-001").status, 200);
    }
    assert_eq!(app.worker.get("/readyz").status, 200);
    let worker = app.worker.get("/metrics").text;
    let value = |name: &str, label: &str| {
        let mut lines = worker.lines();
        let line =
            lines.find(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
        line.and_then(|line| line.rsplit(' ').next())
            .map(str::to_owned)
    };
    let count = value(
        "http_server_request_duration_seconds_count",
        "http_route=\"/quotes/{sku}\"",
    );
    assert_eq!(count.as_deref(), Some("3"));
    let up = value(
        "signalbox_dependency_up_ratio",
        "signalbox_dependency_name=\"queue\"",
    );
    assert_eq!(up.as_deref(), Some("1"), "{worker}");
}

#[test]
fn who_prefers_the_older_text_format_gets_the_same_samples_in_it() {
    let app = App::start();
    assert_eq!(app.get("/ping").status, 200);
    let accepting = |accept: &str| {
        let request = app.api.request(Method::GET, "/metrics");
        Answer::of(request.header("accept", accept).send())
    };
    let openmetrics =
        accepting("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5");
    assert!(
        openmetrics
            .header("content-type")
            .starts_with("application/openmetrics-text; version=1.0.0")
    );
    assert!(openmetrics.text.contains("# TYPE target info\n"));
    let text = accepting("text/plain;version=0.0.4,*/*;q=0.1");
    assert_eq!(
        text.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert_eq!(text.header("vary"), "accept");
    assert!(text.text.contains("# TYPE target_info gauge\n"));
    assert!(
        !text.text.contains("# EOF")
            && !text.text.contains("# UNIT")
            && !text.text.contains(" # {")
    );
    let of_ping = |page: &str| {
        let mut lines = page.lines();
        let line = lines.find(|line| {
            line.starts_with("http_server_request_duration_seconds_count{")
                && line.contains("\"/ping\"")
        });
        line.map(str::to_owned)
    };
    assert!(of_ping(&text.text).is_some_and(|line| line.ends_with(" 1")));
    assert_eq!(of_ping(&text.text), of_ping(&openmetrics.text));
}

#[test]
fn a_worker_that_is_away_is_seen_in_the_trace_and_degrades_the_answer() {
    // Arrange
    let mut app = App::start();
    assert!(app.worker.stop().success());
    // Act
    let answer = app.get("/demo/work");
    // Assert
    let found = answer.json();
    assert_eq!(
        (answer.status, &found["degraded"]),
        (200, &serde_json::json!(["worker", "queue"]))
    );
    assert!(found.get("quote").is_none() && found.get("job_id").is_none());
    let spans = app.lens.trace(&answer.trace_id(), |spans| {
        spans.iter().any(|span| span.kind == SERVER)
    });
    for (name, kind) in [
        ("GET /quotes/{sku}", CLIENT),
        ("send signalbox.jobs", PRODUCER),
    ] {
        let span = spans
            .iter()
            .find(|span| span.name == name && span.kind == kind)
            .expect(name);
        assert_eq!(span.status, 2, "{name}");
        assert!(span.attributes.contains_key("error.type"), "{name}");
    }
    let logs = app.lens.logs(&answer.trace_id(), |logs| logs.len() >= 3);
    assert_eq!(
        logs.iter().filter(|log| log.severity == "WARN").count(),
        2,
        "{logs:#?}"
    );
    let ready = eventually("all others are there", || {
        let ready = app.get("/readyz");
        (ready.status == 200).then_some(ready)
    });
    assert_eq!(ready.json()["status"], "degraded");
    assert!(
        ready.json()["checks"]["worker"]["reason"]
            .as_str()
            .is_some_and(|reason| !reason.is_empty())
    );
}

#[test]
fn a_statement_that_the_deadline_cuts_off_is_recorded_as_cancelled() {
    // Arrange
    let app = App::with(&[("SIGNALBOX_REQUEST_TIMEOUT_MS", "1500")]);
    // Act
    let answer = app.get("/ping?fault=slow_query_ms%3D3000");
    // Assert
    assert_eq!(answer.status, 504);
    let spans = app.lens.trace(&answer.trace_id(), |spans| spans.len() >= 2);
    let statement = spans
        .iter()
        .find(|span| span.kind == CLIENT)
        .expect("a statement");
    assert_eq!(statement.attributes["error.type"], "cancelled");
    eventually("the metric counts it", || {
        let points = app
            .lens
            .metric("signalbox-api", "db.client.operation.duration");
        let cancelled = [("error.type", "cancelled"), ("db.operation.name", "SELECT")];
        (total(&points, &cancelled) == 1.0).then_some(())
    });
}

#[test]
fn what_is_refused_before_routing_is_in_every_signal() {
    // Arrange
    let app = App::start();
    let address = app.api.url().trim_start_matches("http://").to_owned();
    let huge = format!("GET /ping HTTP/1.1\r\nx-filler: {}", "x".repeat(200_000));
    for (sent, status) in [
        ("GET /ping HTTP/7\r\n\r\n", 400),
        ("GET /ping HTTP/1.1\r\nhost: a\r\n", 408),
        (&huge, 431),
    ] {
        // Act
        let mut connection = TcpStream::connect(&address).expect("a connection");
        connection.write_all(sent.as_bytes()).expect("it is sent");
        let mut answer = Vec::new();
        // What was not read resets the connection, after the answer.
        let _ = connection.read_to_end(&mut answer);
        // Assert
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        let said = format!("unread request {status}");
        let path =
            format!("/api/logs?service=signalbox-api&field=http.response.status_code%3D{status}");
        let logged = eventually(&said, || {
            let logs = otlp::logs(&app.lens.get(&path)?);
            logs.into_iter().find(|log| log.body == said)
        });
        assert_eq!(logged.attributes.get("http.route"), None);
        let spans = app.lens.trace(&logged.trace_id, |spans| !spans.is_empty());
        assert_eq!((spans[0].name.as_str(), spans[0].kind), ("HTTP", SERVER));
        assert_eq!(
            spans[0].attributes["http.response.status_code"],
            status.to_string()
        );
        assert_eq!(spans[0].attributes["client.address"], "127.0.0.1");
        eventually("the metric counts it", || {
            let points = app
                .lens
                .metric("signalbox-api", "http.server.request.duration");
            let status = status.to_string();
            let wanted = [
                ("http.request.method", "_OTHER"),
                ("http.response.status_code", &*status),
            ];
            (total(&points, &wanted) == 1.0).then_some(())
        });
    }
}

#[test]
fn each_signal_can_be_off_alone() {
    let cases = [
        ("OTEL_TRACES_EXPORTER", "/api/traces", "resourceSpans"),
        ("OTEL_LOGS_EXPORTER", "/api/logs", "resourceLogs"),
        ("OTEL_METRICS_EXPORTER", "/api/metrics", "resourceMetrics"),
    ];
    for (off, _, _) in cases {
        let mut app = App::with(&[(off, "none")]);
        let answer = app.get("/ping");
        assert_eq!(answer.status, 200);
        // What is not exported is not named as if it were: not in the answer, not by an exemplar.
        let traced = off != "OTEL_TRACES_EXPORTER";
        assert_eq!(answer.header("traceresponse").ends_with("-01"), traced);
        let page = app.get("/metrics").text;
        let named = page.contains(&answer.trace_id());
        assert_eq!(named, traced && off != "OTEL_METRICS_EXPORTER", "{off}");
        assert!(app.api.stop().success() && app.worker.stop().success());
        for (variable, path, member) in cases {
            let found = app.lens.get(path).expect("a document");
            let empty = found[member].as_array().is_none_or(Vec::is_empty);
            assert_eq!(empty, variable == off, "{path} while {off}=none");
        }
    }
}

#[test]
fn profiles_name_the_functions_that_burn_and_hold() {
    // Arrange: profiles are pushed to the viewer as they would be to Pyroscope.
    let lens = crate::harness::Lens::start();
    let app = App::with(&[
        ("PYROSCOPE_SERVER_ADDRESS", lens.url()),
        ("PYROSCOPE_UPLOAD_INTERVAL", "5"),
        ("SIGNALBOX_REQUEST_TIMEOUT_MS", "60000"),
    ]);
    // Act and assert: CPU, by push
    eventually("the CPU profile names the functions", || {
        assert_eq!(app.get("/demo/cpu?ms=1500").status, 200);
        let profile = lens.profile("/api/profiles/cpu?service=signalbox-api")?;
        // Debug information of line tables alone leaves the path off where something was inlined.
        let names = [
            "burn_cpu",
            "count_primes",
            "mix_words",
            "signalbox::routes::demo::cpu::",
        ];
        names
            .iter()
            .all(|name| contains(&profile, name))
            .then_some(())
    });
    // Heap, by pull while it is held
    if !cfg!(target_os = "linux") {
        return;
    }
    let heap = eventually("the heap profile names the function", || {
        let held = times_held(&app);
        std::thread::scope(|scope| {
            scope.spawn(|| app.get("/demo/memory?mb=100&hold_ms=5000"));
            eventually("it is held", || (times_held(&app) > held).then_some(()));
            let taken = app.api.request(Method::GET, "/debug/pprof/heap").send();
            let profile = taken.expect("a profile");
            assert_eq!(profile.status(), 200);
            let profile = gunzip(&profile.bytes().expect("a body"));
            contains(&profile, "allocate_page").then_some(profile)
        })
    });
    assert!(contains(&heap, "allocate_order_book"));
    // CPU, by pull. What is slow to burn is burnt again.
    let pulled = |path: &str| {
        std::thread::scope(|scope| {
            let busy = scope.spawn(|| app.get("/demo/cpu?ms=3000").status);
            let taken = app.api.request(Method::GET, path).send();
            assert_eq!(busy.join().expect("no panic"), 200);
            taken.expect("an answer")
        })
    };
    eventually("the pulled profile names the function", || {
        let profile = pulled("/debug/pprof/profile?seconds=2");
        assert_eq!(profile.status(), 200);
        let profile = gunzip(&profile.bytes().expect("a body"));
        contains(&profile, "burn_cpu").then_some(())
    });
    // A process that sleeps has a graph too: an empty one.
    let idle = app.worker.get("/debug/pprof/flamegraph?seconds=1");
    assert_eq!(
        (idle.status, idle.header("content-type")),
        (200, "image/svg+xml")
    );
    assert!(idle.text.contains("<svg") && idle.text.contains("CPU samples in 1 s"));
    eventually("the picture names the function", || {
        let picture = Answer::of(Ok(pulled("/debug/pprof/flamegraph?seconds=2")));
        assert_eq!(
            (picture.status, picture.header("content-type")),
            (200, "image/svg+xml")
        );
        picture.text.contains("burn_cpu").then_some(())
    });
}

fn times_held(app: &App) -> usize {
    let lines = app.api.lines().into_iter();
    lines
        .filter(|line| line.contains("holding 100 MiB"))
        .count()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[test]
fn check_is_a_health_probe() {
    let mut app = App::start();
    let probe = |role: &str, variable: &str, address: &str| {
        let mut command =
            crate::harness::command("check", app.directory.path(), &[(variable, address)]);
        command.arg(role).output().expect("the probe runs")
    };
    let ready = |role, variable, address| {
        eventually(&format!("{role} is ready"), || {
            let probed = probe(role, variable, address);
            probed.status.success().then_some(())
        });
    };
    ready("serve", "SIGNALBOX_LISTEN", app.api.address());
    ready("worker", "SIGNALBOX_WORKER_LISTEN", app.worker.address());
    let gone = app.worker.address().to_owned();
    let away: &mut Process = &mut app.worker;
    assert!(away.stop().success());
    let failed = crate::harness::command(
        "check",
        app.directory.path(),
        &[("SIGNALBOX_WORKER_LISTEN", &gone)],
    )
    .arg("worker")
    .output()
    .expect("the probe runs");
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("does not answer"));
}
