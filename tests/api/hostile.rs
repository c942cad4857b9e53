//! Bytes of others are read within bounds of depth and size: bodies, answers of the worker, entries of stream and cache.

use std::io::{Read, Write};
use std::net::TcpListener;

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::json;

use crate::harness::servers::Redis;
use crate::harness::{Answer, App, eventually};

/// JSON that is deeper than any stack, `bytes` long.
fn deep(bytes: usize) -> String {
    let half = bytes / 2;
    "[".repeat(half) + &"]".repeat(half)
}

#[test]
fn a_deep_body_is_refused() {
    let app = App::start();
    let bodies = [
        deep(60_000),
        "{\"a\":".repeat(10_000) + "1" + &"}".repeat(10_000),
        format!("{{\"latency_ms\":{}}}", deep(60_000)),
    ];
    for body in bodies {
        for (process, method, path) in [
            (&app.api, Method::PUT, "/faults"),
            (&app.worker, Method::POST, "/jobs"),
        ] {
            let request = process.request(method, path);
            let request = request.header(CONTENT_TYPE, "application/json");
            let answer = Answer::of(request.body(body.clone()).send());
            assert!(
                [400, 422].contains(&answer.status),
                "{path}: {}",
                answer.text
            );
            assert_eq!(answer.header("content-type"), "application/problem+json");
            assert_eq!(process.get("/healthz").status, 200);
        }
    }
}

/// A worker that answers every request with `head` and then `body`, again and again until `bytes` are sent.
fn answering(head: &'static str, body: String, bytes: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let body = body.clone();
            std::thread::spawn(move || {
                let mut request = [0; 8192];
                let _ = stream.read(&mut request);
                let _ = stream.write_all(head.as_bytes());
                let mut sent = 0;
                while sent < bytes && stream.write_all(body.as_bytes()).is_ok() {
                    sent += body.len();
                }
            });
        }
    });
    url
}

#[test]
fn an_answer_of_the_worker_is_read_within_bounds() {
    const HEAD: &str =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
    let cases = [
        ("too deep", deep(12_000), 1, "not what was asked for"),
        (
            "too long",
            " ".repeat(64 * 1024),
            1 << 30,
            "more than 16384 bytes",
        ),
        ("no JSON", "<html>".to_owned(), 1, "not what was asked for"),
        (
            "something else",
            "{\"carrier\":7}".to_owned(),
            1,
            "not what was asked for",
        ),
    ];
    for (what, body, bytes, reason) in cases {
        // Arrange
        let url = answering(HEAD, body, bytes);
        let app = App::start();
        let directory = crate::harness::temp_dir("hostile-worker");
        let exporting = crate::harness::exporting(app.lens.url());
        let mut variables: Vec<(&str, &str)> =
            exporting.iter().map(|(n, v)| (*n, v.as_str())).collect();
        variables.push(("SIGNALBOX_WORKER_URL", &url));
        let api = crate::harness::Process::start("serve", directory.path(), &variables);
        // Act
        let answer = api.get("/demo/work");
        // Assert: the order is placed without a quote, and the record says why
        assert_eq!(
            (answer.status, &answer.json()["degraded"]),
            (200, &json!(["worker"])),
            "{what}"
        );
        api.says(reason);
        let records = api.records();
        let warning = records.iter().find(|record| {
            record["message"]
                .as_str()
                .is_some_and(|message| message.starts_with("no quote"))
        });
        assert_eq!(
            warning.expect("a warning")["error.type"],
            "answer",
            "{what}"
        );
    }
}

#[test]
fn entries_of_others_in_redis_are_dropped_and_the_rest_is_done() {
    // Arrange
    let Some(redis) = Redis::start() else {
        return;
    };
    let app = App::with(&[
        ("REDIS_URL", &redis.url()),
        ("SIGNALBOX_CACHE_TTL_MS", "600000"),
    ]);
    assert_eq!(app.get("/demo/work").status, 200);
    let client = redis::Client::open(redis.url()).expect("a URL");
    let mut connection = client.get_connection().expect("a connection");
    // Act: jobs that are none, and entries that nobody of ours stored under the name of every product
    let large = "x".repeat(1024 * 1024);
    for body in [
        deep(60_000),
        large.clone(),
        "{}".to_owned(),
        "\u{0}".to_owned(),
    ] {
        let added: redis::RedisResult<String> = redis::cmd("XADD")
            .arg(&["signalbox:jobs", "*", "job", &body])
            .query(&mut connection);
        added.expect("added");
    }
    for (group, count) in [("BK", 5), ("TL", 5), ("TY", 5), ("GD", 5)] {
        for number in 1..=count {
            let entry = if number % 2 == 0 {
                deep(12_000)
            } else {
                large.clone()
            };
            let stored: redis::RedisResult<()> = redis::cmd("SET")
                .arg(&[&format!("signalbox:product:{group}-00{number}"), &entry])
                .query(&mut connection);
            stored.expect("stored");
        }
    }
    // Assert: the orders come from the database, and their jobs are done
    for _ in 0..5 {
        let answer = app.get("/demo/work");
        assert_eq!(
            (answer.status, &answer.json()["cache"]),
            (200, &json!("unavailable"))
        );
        assert!(answer.json()["job_id"].is_string());
    }
    eventually("all jobs are done and all others dropped", || {
        let records = app.worker.records();
        let count = |message: &str| {
            let said = |record: &&serde_json::Value| record["message"] == message;
            records.iter().filter(said).count()
        };
        let dropped = count("an entry of the job stream is no job and is dropped");
        (count("invoice sent") == 6 && dropped == 4).then_some(())
    });
}
