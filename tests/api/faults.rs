//! Injected faults: each in every signal, all resettable, and no trace of them when off.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, App, eventually, otlp};

fn fault(app: &App, path: &str, plan: &str) -> Answer {
    Answer::of(
        app.api
            .request(Method::GET, path)
            .header("x-signalbox-fault", plan)
            .send(),
    )
}

#[test]
fn each_fault_is_in_every_signal() {
    // Arrange: what is asked, its kind, its status, a span that it makes longer, and by how many milliseconds: one less
    // than asked for, as clocks differ and SQLite's counts whole ones; and the lock is held a moment before the wait for it.
    let app = App::start();
    let cases = [
        (
            "latency_ms=150",
            "latency",
            200,
            Some(("injected latency", 149.0)),
        ),
        (
            "slow_query_ms=200",
            "slow_query",
            200,
            Some(("SELECT", 199.0)),
        ),
        (
            "lock_wait_ms=500",
            "lock_wait",
            200,
            Some(("UPDATE products", 350.0)),
        ),
        ("leak_kb=64", "leak", 200, Some(("injected leak", 0.0))),
        (
            "block_ms=150",
            "block",
            200,
            Some(("injected blocking", 149.0)),
        ),
        ("error_rate=1", "error", 500, None),
    ];
    for (plan, kind, status, slow) in cases {
        // Act
        let answer = fault(&app, "/ping", plan);
        // Assert: traces
        assert_eq!(answer.status, status, "{plan}: {}", answer.text);
        let spans = app.lens.trace(&answer.trace_id(), |spans| {
            spans.iter().any(|span| span.kind == 2)
        });
        let server = spans
            .iter()
            .find(|span| span.kind == 2)
            .expect("a server span");
        assert_eq!(server.status == 2, status == 500, "{plan}");
        if let Some((name, millis)) = slow {
            let longest = spans
                .iter()
                .filter(|span| span.name == name)
                .map(|span| span.millis);
            let longest = longest.fold(f64::NEG_INFINITY, f64::max);
            assert!(
                longest >= millis,
                "{plan}: {name} took {longest} ms: {spans:#?}"
            );
        }
        // Assert: logs
        let logs = app.lens.logs(&answer.trace_id(), |logs| {
            logs.iter().any(|log| {
                log.attributes
                    .get("signalbox.fault.kind")
                    .is_some_and(|found| found == kind)
            })
        });
        let warning = logs
            .iter()
            .find(|log| log.attributes.contains_key("signalbox.fault.kind"));
        assert_eq!(warning.map(|log| log.severity.as_str()), Some("WARN"));
        // Assert: metrics
        eventually(&format!("the metric counts {kind}"), || {
            let points = app
                .lens
                .metric("signalbox-api", "signalbox.faults.injected");
            (otlp::total(&points, &[("signalbox.fault.kind", kind)]) == 1.0).then_some(())
        });
    }
    eventually("the leak is a metric", || {
        let points = app.lens.metric("signalbox-api", "signalbox.faults.leaked");
        (otlp::total(&points, &[]) == 65_536.0).then_some(())
    });
    let reset = Answer::of(app.api.request(Method::DELETE, "/faults").send());
    assert_eq!(reset.json()["leaked_bytes"], 0);
}

#[test]
fn the_default_faults_can_be_set_and_reset() {
    // Arrange
    let app = App::with(&[("SIGNALBOX_FAULT_ERROR_RATE", "1")]);
    // Act and assert: from settings
    assert_eq!(app.get("/ping").status, 500);
    assert_eq!(
        fault(&app, "/ping", "error_rate=0").status,
        200,
        "a request overrides the default"
    );
    assert_eq!(
        app.get("/ping?fault=error_rate%3D0").status,
        200,
        "also by its query"
    );
    // set
    let plan = json!({"error_rate": 0.0, "leak_kb": 8});
    let set = Answer::of(app.api.request(Method::PUT, "/faults").json(&plan).send());
    assert_eq!(set.json()["default"]["leak_kb"], 8);
    assert_eq!(app.get("/ping").status, 200);
    assert_eq!(app.get("/faults").json()["leaked_bytes"], 8192);
    // reset
    let reset = Answer::of(app.api.request(Method::DELETE, "/faults").send()).json();
    let off = json!({"latency_ms": 0, "error_rate": 0.0, "slow_query_ms": 0, "lock_wait_ms": 0, "leak_kb": 0, "block_ms": 0});
    assert_eq!(reset, json!({"default": off, "leaked_bytes": 0}));
    assert_eq!(app.get("/ping").status, 200);
}

#[test]
fn off_leaves_no_trace() {
    // Arrange
    let mut app = App::start();
    // Act
    let trace_id = app.get("/demo/work").trace_id();
    assert!(app.api.stop().success());
    // Assert
    let spans = app.lens.trace(&trace_id, |spans| !spans.is_empty());
    assert!(
        spans
            .iter()
            .all(|span| !span.attributes.keys().any(|key| key.contains("fault")))
    );
    for metric in ["signalbox.faults.injected", "signalbox.faults.leaked"] {
        assert!(
            app.lens.metric("signalbox-api", metric).is_empty(),
            "{metric}"
        );
    }
    assert!(!app.api.lines().iter().any(|line| line.contains("fault")));
}
