//! Every endpoint that answers well.

use serde_json::json;

use crate::harness::{App, SILENT, eventually};

#[test]
fn every_endpoint_answers_what_it_promises() {
    // Arrange
    let app = App::with(&SILENT[2..]);
    let cases = [
        ("/ping", 200, json!({"message": "pong"})),
        (
            "/api?sc=201&delay_ms=3",
            201,
            json!({"status": 201, "delay_ms": 3, "client_id": "other"}),
        ),
        ("/demo/logs?count=7", 200, json!({"records": 7})),
        (
            "/demo/work?quantity=3",
            200,
            json!({"cache": "miss", "degraded": [], "order": {"id": 1, "quantity": 3}}),
        ),
        ("/demo/cpu?ms=5", 200, json!({"primes": 2262})),
        (
            "/demo/memory?mb=2&hold_ms=0",
            200,
            json!({"bytes": 2_097_152, "pieces": 2, "hold_ms": 0}),
        ),
        (
            "/faults",
            200,
            json!({"leaked_bytes": 0, "default": {"latency_ms": 0, "error_rate": 0.0}}),
        ),
        ("/healthz", 200, json!({"status": "ok"})),
        (
            "/links",
            200,
            json!({"trace": null, "logs": null, "metrics": null, "profile": null}),
        ),
    ];
    for (path, status, expected) in cases {
        // Act
        let answer = app.get(path);
        // Assert
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        assert_eq!(answer.header("content-type"), "application/json", "{path}");
        assert_includes(&answer.json(), &expected, path);
    }
    // Each check has half a second, which a busy machine may need for itself.
    let ready = eventually("all are there", || {
        let answer = app.get("/readyz");
        (answer.json()["status"] == "ok").then_some(answer)
    });
    assert_eq!(ready.status, 200);
    assert_eq!(ready.header("content-type"), "application/json");
    let ok = json!({"status": "ok"});
    assert_eq!(
        ready.json()["checks"],
        json!({"database": ok, "cache": ok, "worker": ok})
    );
}

/// Every member of `expected` stands in `found` with its value.
fn assert_includes(found: &serde_json::Value, expected: &serde_json::Value, path: &str) {
    match expected {
        serde_json::Value::Object(members) => {
            for (name, value) in members {
                assert_includes(&found[name], value, &format!("{path} {name}"));
            }
        }
        value => assert_eq!(found, value, "{path}"),
    }
}

#[test]
fn an_order_adds_up_and_stands_first_among_the_newest() {
    // Arrange
    let app = App::with(&SILENT[2..]);
    // Act
    let answers: Vec<_> = (0..6)
        .map(|_| app.get("/demo/work?quantity=4").json())
        .collect();
    // Assert
    for (index, answer) in answers.iter().enumerate() {
        let id = index as i64 + 1;
        let total = answer["product"]["price_cents"].as_i64().expect("a price") * 4;
        assert_eq!(
            answer["order"],
            json!({"id": id, "quantity": 4, "total_cents": total})
        );
        assert_eq!(answer["recent"][0]["id"], id);
        assert_eq!(
            answer["recent"].as_array().map(Vec::len),
            Some(5.min(index + 1))
        );
        assert!(answer["quote"]["shipping_cents"].as_i64().expect("a quote") > 300);
        assert!(answer["job_id"].is_string());
    }
}

#[test]
fn the_cache_remembers_a_product() {
    // Arrange: 20 products, so at most 20 misses while nothing expires.
    let app = App::with(&[SILENT[2], ("SIGNALBOX_CACHE_TTL_MS", "600000")]);
    // Act
    let found: Vec<String> = (0..60)
        .map(|_| {
            app.get("/demo/work").json()["cache"]
                .as_str()
                .expect("text")
                .to_owned()
        })
        .collect();
    // Assert
    let misses = found.iter().filter(|found| *found == "miss").count();
    let hits = found.iter().filter(|found| *found == "hit").count();
    assert_eq!((found[0].as_str(), misses + hits), ("miss", 60));
    assert!((1..=20).contains(&misses), "{misses} misses");
}

#[test]
fn statuses_without_a_body_have_none() {
    let app = App::with(&SILENT[2..]);
    for status in [204, 304] {
        let answer = app.get(&format!("/api?sc={status}&delay_ms=0"));
        assert_eq!((answer.status, answer.text.as_str()), (status, ""));
        assert!(!answer.headers.contains_key("content-type"));
    }
}

#[test]
fn the_default_delay_is_at_most_500_milliseconds() {
    let app = App::with(&SILENT[2..]);
    let delays: Vec<u64> = (0..4)
        .map(|_| {
            app.get("/api").json()["delay_ms"]
                .as_u64()
                .expect("a delay")
        })
        .collect();
    assert!(delays.iter().all(|delay| *delay <= 500), "{delays:?}");
    assert!(
        delays.iter().any(|delay| *delay != delays[0]),
        "random: {delays:?}"
    );
}

#[test]
fn pages_load_only_what_the_service_serves() {
    let app = App::with(&SILENT[2..]);
    let pages = [
        ("/", "text/html; charset=utf-8", "<title>Signalbox</title>"),
        ("/console.css", "text/css; charset=utf-8", "color-scheme"),
        (
            "/console.js",
            "text/javascript; charset=utf-8",
            "use strict",
        ),
        ("/docs/", "text/html", "swagger-ui"),
        ("/docs/swagger-ui-bundle.js", "text/javascript", "openapi"),
    ];
    for (path, media_type, text) in pages {
        let answer = app.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), media_type, "{path}");
        assert!(answer.text.contains(text), "{path}");
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'self'; "),
            "{path}: {policy}"
        );
        assert!(
            policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
    }
}

#[test]
fn link_templates_are_shown_as_they_were_set() {
    let template = "http://viewer.test/traces/{trace_id}?from={from_ms}";
    let app = App::with(&[SILENT[2], ("SIGNALBOX_LINK_TRACE_URL", template)]);
    let links = app.get("/links").json();
    assert_eq!(
        links,
        json!({"trace": template, "logs": null, "metrics": null, "profile": null, "span_profile": null})
    );
}

#[test]
fn short_links_lead_to_the_templates_of_each_signal() {
    let app = App::with(&[
        SILENT[2],
        (
            "SIGNALBOX_LINK_TRACE_URL",
            "http://v.test/t/{trace_id}#{span_id}",
        ),
        (
            "SIGNALBOX_LINK_METRICS_URL",
            "http://v.test/m?r={route}&f={from_ms}&t={to_ms}",
        ),
        ("SIGNALBOX_LINK_PROFILE_URL", "http://v.test/p?r={route}"),
        (
            "SIGNALBOX_LINK_SPAN_PROFILE_URL",
            "http://v.test/p?id={profile_id}",
        ),
    ]);
    let id = "0af7651916cd43dd8448eb211c80319c";
    for (link, target) in [
        (
            "trace?span=b7ad6b7169203331",
            "http://v.test/t/{id}#b7ad6b7169203331",
        ),
        (
            "metrics?route=/demo/cpu&at_ms=100000&took_ms=40",
            "http://v.test/m?r=%2Fdemo%2Fcpu&f=40000&t=160040",
        ),
        ("profile?route=/demo/cpu", "http://v.test/p?r=%2Fdemo%2Fcpu"),
        (
            "profile?profile=00f067aa0ba902b7",
            "http://v.test/p?id=00f067aa0ba902b7",
        ),
    ] {
        let (signal, query) = link.split_once('?').expect("a query");
        let answer = app.get(&format!("/go/{signal}/{id}?{query}"));
        assert_eq!(answer.status, 302, "{link}: {}", answer.text);
        assert_eq!(
            answer.header("location"),
            target.replace("{id}", id),
            "{link}"
        );
    }
    for (path, status, detail) in [
        (
            format!("/go/logs/{id}"),
            404,
            "SIGNALBOX_LINK_LOGS_URL is not set",
        ),
        (
            "/go/trace/short".to_owned(),
            400,
            "trace_id must be 32 hexadecimal digits",
        ),
        (
            format!("/go/trace/{id}?route=%22%7D"),
            400,
            "route must be a pattern",
        ),
        (
            format!("/go/nothing/{id}"),
            400,
            "expected one of `trace`, `logs`",
        ),
    ] {
        let answer = app.get(&path);
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        assert!(answer.text.contains(detail), "{path}: {}", answer.text);
    }
}

#[test]
fn the_worker_quotes_and_takes_jobs() {
    // Arrange
    let app = App::with(&SILENT[2..]);
    let job = json!({"id": "j-1", "order_id": 1, "total_cents": 1190, "sent_ms": 0});
    // Act
    let quote = app.worker.get("/quotes/TY-001?quantity=2");
    let again = app.worker.get("/quotes/TY-001?quantity=2");
    let accepted = app
        .worker
        .request(reqwest::Method::POST, "/jobs")
        .json(&job)
        .send();
    let accepted = crate::harness::Answer::of(accepted);
    // Assert
    assert_eq!((quote.status, quote.json()), (200, again.json()));
    assert_eq!(accepted.status, 202);
    assert_eq!(accepted.json(), json!({"id": "j-1"}));
}
