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
    // than asked for, as clocks differ and SQLite's counts whole ones. The lock is waited for in a test of its own.
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
            Some(("UPDATE products", 0.0)),
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
fn a_slow_statement_of_sqlite_has_its_plan_on_its_span() {
    let app = App::start();
    let plan_of = |answer: &Answer, name: &str| {
        let spans = app.lens.trace(&answer.trace_id(), |spans| {
            spans.iter().any(|span| span.name == name)
        });
        let span = spans
            .into_iter()
            .find(|span| span.name == name)
            .expect("a statement");
        span.attributes.get("signalbox.db.query.plan").cloned()
    };
    let slow = fault(&app, "/ping", "slow_query_ms=200");
    let plan = plan_of(&slow, "SELECT").expect("a plan");
    assert!(
        plan.contains("RECURSIVE STEP") && plan.contains("SCAN tick"),
        "{plan}"
    );
    // What was fast has none: it would cost each statement another one.
    let fast = app.get("/demo/work");
    assert_eq!(plan_of(&fast, "COMMIT"), None);
}

#[test]
fn the_lock_fault_waits_for_whoever_holds_the_row() {
    // Arrange
    let app = App::start();
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| app.get("/demo/lock?ms=2500"));
        app.api.says("the row is locked for 2500 ms");
        // Act
        let impatient = fault(&app, "/ping", "lock_wait_ms=100");
        let waiter = fault(&app, "/ping", "lock_wait_ms=3000");
        // Assert
        let holder = holder.join().expect("no panic");
        assert_eq!(
            (holder.status, holder.json()),
            (200, json!({"held_ms": 2500}))
        );
        assert_eq!(
            (impatient.status, waiter.status),
            (504, 200),
            "{}",
            waiter.text
        );
        assert!(
            impatient
                .text
                .contains("UPDATE products took longer than 100 ms")
        );
        let statement = |answer: &Answer, name: &str| {
            let spans = app.lens.trace(&answer.trace_id(), |spans| {
                spans.iter().any(|span| span.kind == 2)
            });
            spans
                .into_iter()
                .find(|span| span.name == name)
                .expect("a statement")
        };
        assert_eq!(
            statement(&impatient, "UPDATE products").attributes["error.type"],
            "timeout"
        );
        let waited = statement(&waiter, "UPDATE products");
        assert_eq!(waited.status, 0);
        // It began after the hold and ended with it.
        assert!(waited.millis > 100.0, "{} ms", waited.millis);
        assert_eq!(statement(&holder, "ROLLBACK").status, 0);
    });
    // Nobody holds it, nobody waits.
    assert_eq!(fault(&app, "/ping", "lock_wait_ms=1").status, 200);
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
