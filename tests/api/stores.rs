//! Real PostgreSQL, MariaDB and Redis, taken away and brought back while the service runs.

use serde_json::{Value, json};

use crate::harness::otlp::{Span, total};
use crate::harness::servers::{DatabaseServer, MariaDb, Postgres, Redis};
use crate::harness::{App, Process, SILENT, eventually, temp_dir};

#[test]
fn postgres_serves_the_same_orders_with_the_same_spans() {
    if let Some(postgres) = Postgres::start() {
        let foreign_key_violation = "23503";
        serves_the_same_orders(postgres, "postgresql", "postgres", foreign_key_violation);
    }
}

#[test]
fn mariadb_serves_the_same_orders_with_the_same_spans() {
    if let Some(mariadb) = MariaDb::start() {
        let no_referenced_row = "1452";
        serves_the_same_orders(mariadb, "mariadb", "signalbox", no_referenced_row);
    }
}

/// The same statements as with SQLite; its own errors; faults that really wait in it; and it may go and come back.
fn serves_the_same_orders(
    mut database: impl DatabaseServer,
    system: &str,
    namespace: &str,
    foreign_key_violation: &str,
) {
    // Arrange
    let app = App::with(&[
        ("DATABASE_URL", &database.url()),
        ("SIGNALBOX_DATABASE_ACQUIRE_TIMEOUT_MS", "2000"),
    ]);
    // Act
    let answer = app.get("/demo/work?quantity=2");
    // Assert: the same statements in the same order as with SQLite
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(
        (&answer.json()["order"]["id"], &answer.json()["degraded"]),
        (&json!(1), &json!([]))
    );
    let spans = app.lens.trace(&answer.trace_id(), |spans| {
        spans.iter().any(|span| span.name == "GET /demo/work")
    });
    let calls: Vec<&Span> = spans
        .iter()
        .filter(|span| span.attributes.contains_key("db.system.name"))
        .collect();
    let mut names: Vec<&str> = calls.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "BEGIN",
            "COMMIT",
            "INSERT order_items",
            "INSERT orders",
            "SELECT orders order_items",
            "SELECT products",
            "UPDATE products"
        ]
    );
    let port = database.port().to_string();
    for span in calls {
        let expected = [
            ("db.system.name", system),
            ("db.namespace", namespace),
            ("server.address", "127.0.0.1"),
            ("server.port", &port),
        ];
        for (key, value) in expected {
            assert_eq!(
                span.attributes.get(key).map(String::as_str),
                Some(value),
                "{key} of {}",
                span.name
            );
        }
        assert_eq!(span.kind, 3);
    }
    // The database's own error is on its span
    let failed = app.get("/demo/work-error");
    assert_eq!(failed.status, 500);
    let spans = app.lens.trace(&failed.trace_id(), |spans| {
        spans.iter().any(|span| span.kind == 2)
    });
    let insert = spans
        .iter()
        .find(|span| span.name == "INSERT order_items")
        .expect("the insert");
    assert_eq!(
        insert.attributes["db.response.status_code"],
        foreign_key_violation
    );
    assert_eq!(insert.attributes["error.type"], "constraint");
    // A real wait in the database
    let answer = app.get("/ping?fault=slow_query_ms%3D200");
    assert_eq!(answer.status, 200, "{}", answer.text);
    let spans = app.lens.trace(&answer.trace_id(), |spans| {
        spans.iter().any(|span| span.kind == 2)
    });
    let slow = spans.iter().find(|span| span.name == "SELECT");
    let slow = slow.expect("the slow query");
    assert!(slow.millis >= 190.0, "{slow:#?}");
    // The text on the span is the statement's alone, whatever comment was sent with it.
    assert!(slow.attributes["db.query.text"].starts_with("SELECT "));

    // Act: the database goes
    database.down();
    // Assert
    let ready = eventually("not ready", || {
        let ready = app.get("/readyz");
        (ready.status == 503).then_some(ready)
    });
    let problem = ready.json();
    assert_eq!(ready.header("content-type"), "application/problem+json");
    assert_eq!(problem["checks"]["database"]["status"], "away");
    assert!(
        problem["checks"]["database"]["reason"]
            .as_str()
            .is_some_and(|reason| !reason.is_empty())
    );
    assert_eq!(app.get("/healthz").status, 200, "the process is alive");
    let refused = app.get("/demo/work-error");
    assert_eq!(
        (refused.status, &refused.json()["type"]),
        (503, &json!("urn:signalbox:problem:dependency-unavailable"))
    );

    // Act: and comes back
    database.up();
    // Assert
    eventually("ready again", || {
        (app.get("/readyz").status == 200).then_some(())
    });
    eventually("orders again", || {
        (app.get("/demo/work").status == 200).then_some(())
    });
    app.api.says("database is away");
    app.api.says("database answers again");
    // What the pool says of connections that broke goes by the conventions too.
    app.api.says("\"exception.message\":");
    let records = app.api.records();
    let mut fields = records.iter().filter_map(Value::as_object);
    assert!(fields.all(|record| !record.contains_key("error")));
}

#[test]
fn a_database_that_starts_late_is_waited_for() {
    let Some(mut postgres) = Postgres::start() else {
        return;
    };
    postgres.down();
    let directory = temp_dir("late");
    let variables = [
        SILENT[0],
        SILENT[2],
        ("DATABASE_URL", &*postgres.url()),
        ("SIGNALBOX_DATABASE_START_TIMEOUT_MS", "60000"),
        ("SIGNALBOX_DATABASE_ACQUIRE_TIMEOUT_MS", "5000"),
        ("SIGNALBOX_WORKER_URL", "http://127.0.0.1:9"), // nobody
    ];
    let mut api = Process::spawn("serve", directory.path(), &variables);
    api.says("trying again");
    postgres.up();
    api.listens();
    assert_eq!(api.get("/demo/work").status, 200);
}

#[test]
fn redis_caches_and_carries_jobs_and_may_go_and_come_back() {
    // Arrange
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let app = App::with(&[
        ("REDIS_URL", &redis.url()),
        ("SIGNALBOX_CACHE_TTL_MS", "600000"),
    ]);
    // Act
    let answer = app.get("/demo/work");
    // Assert: cache spans and the stream
    assert_eq!(
        (
            answer.status,
            &answer.json()["cache"],
            &answer.json()["degraded"]
        ),
        (200, &json!("miss"), &json!([]))
    );
    let spans = app.lens.trace(&answer.trace_id(), |spans| {
        spans.iter().any(|span| span.name == "GET /demo/work")
    });
    for (name, operation, result) in [("GET", "get", "miss"), ("SET", "set", "stored")] {
        let span = spans
            .iter()
            .find(|span| span.name == name && span.kind == 3)
            .expect(name);
        let expected = [
            ("db.system.name", "redis"),
            ("db.operation.name", name),
            ("db.namespace", "0"),
            ("server.address", "127.0.0.1"),
            ("signalbox.cache.backend", "redis"),
            ("signalbox.cache.operation", operation),
            ("signalbox.cache.result", result),
        ];
        for (key, value) in expected {
            assert_eq!(
                span.attributes.get(key).map(String::as_str),
                Some(value),
                "{key} of {name}"
            );
        }
    }
    assert!(
        !spans.iter().any(|span| span.name == "POST /jobs"),
        "the job goes by stream"
    );
    let producer = spans
        .iter()
        .find(|span| span.kind == 4)
        .expect("a producer");
    assert_eq!(producer.attributes["messaging.system"], "redis");
    let consumer = consumer_of(&app, producer);
    assert_eq!(consumer.attributes["messaging.system"], "redis");
    assert_eq!(consumer.parent, "");
    eventually("the worker has its queue", || {
        let ready = app.worker.get("/readyz").json();
        (ready["checks"]["queue"]["status"] == "ok").then_some(())
    });

    // Act: Redis goes
    redis.down();
    let answer = eventually("the cache is missed", || {
        let answer = app.get("/demo/work");
        (answer.json()["degraded"] == json!(["cache"])).then_some(answer)
    });
    // Assert: an answer all the same, with a warning, and the job by HTTP
    assert_eq!(
        (answer.status, &answer.json()["cache"]),
        (200, &json!("unavailable"))
    );
    assert!(answer.json()["job_id"].is_string());
    let spans = app.lens.trace(&answer.trace_id(), |spans| {
        spans.iter().any(|span| span.name == "GET /demo/work")
    });
    let systems: Vec<(&str, u64)> = spans
        .iter()
        .filter(|span| span.kind == 4)
        .map(|span| (span.attributes["messaging.system"].as_str(), span.status))
        .collect();
    assert_eq!(systems, [("redis", 2), ("http", 0)]);
    let logs = app.lens.logs(&answer.trace_id(), |logs| {
        logs.iter()
            .any(|log| log.body.starts_with("GET /demo/work"))
    });
    assert_eq!(
        logs.iter()
            .filter(|log| log.severity == "WARN" && log.service == "signalbox-api")
            .count(),
        2,
        "{logs:#?}"
    );
    // Each check has half a second, which may be short for those that would answer.
    let ready = eventually("only the cache is away", || {
        let ready = app.get("/readyz");
        let checks = &ready.json()["checks"];
        let others = ["database", "worker"].map(|name| checks[name]["status"].clone());
        (others == ["ok", "ok"]).then_some(ready)
    });
    assert_eq!(
        (ready.status, &ready.json()["status"]),
        (200, &json!("degraded"))
    );
    assert_eq!(ready.json()["checks"]["cache"]["status"], "away");

    // Act: and comes back, empty
    redis.up();
    // Assert
    eventually("ready again", || {
        (app.get("/readyz").json()["status"] == "ok").then_some(())
    });
    let answer = eventually("cached again", || {
        let answer = app.get("/demo/work");
        (answer.json()["degraded"] == json!([])).then_some(answer)
    });
    let spans = app.lens.trace(&answer.trace_id(), |spans| {
        spans.iter().any(|span| span.name == "GET /demo/work")
    });
    let producer = spans
        .iter()
        .find(|span| span.kind == 4)
        .expect("a producer");
    assert_eq!(producer.attributes["messaging.system"], "redis");
    consumer_of(&app, producer);
    eventually("the outage is counted", || {
        let points = app
            .lens
            .metric("signalbox-api", "db.client.operation.duration");
        let wanted = [("db.system.name", "redis"), ("error.type", "unavailable")];
        (total(&points, &wanted) >= 1.0).then_some(())
    });
}

#[test]
fn a_full_stream_takes_no_more_jobs_and_loses_none() {
    // Arrange: room for five, and nobody who does them
    let Some(redis) = Redis::start() else {
        return;
    };
    let settings = [
        ("REDIS_URL", &*redis.url()),
        ("SIGNALBOX_QUEUE_CAPACITY", "5"),
    ];
    let mut app = App::with(&settings);
    app.worker.stop();
    // Act
    let orders: Vec<_> = (0..8).map(|_| app.get("/demo/work").json()).collect();
    // Assert: the order is placed all the same, and says that its job was not handed over
    let of = |refused: bool| {
        let says = |order: &&Value| {
            let degraded = order["degraded"].as_array().expect("a list");
            degraded.contains(&json!("queue")) == refused
        };
        orders.iter().filter(says).collect::<Vec<_>>()
    };
    let (taken, refused) = (of(false), of(true));
    assert_eq!((taken.len(), refused.len()), (5, 3), "{orders:#?}");
    assert!(taken.iter().all(|order| order["job_id"].is_string()));
    assert!(refused.iter().all(|order| order["job_id"].is_null()));

    // Act: somebody comes
    let client = redis::Client::open(redis.url()).expect("a URL");
    let mut connection = client.get_connection().expect("a connection");
    let mut waiting = || {
        let command = redis::cmd("XLEN").arg("signalbox:jobs").to_owned();
        command.query::<usize>(&mut connection).expect("a length")
    };
    assert_eq!(waiting(), 5);
    let directory = temp_dir("late-worker");
    let patient = ("SIGNALBOX_REDIS_TIMEOUT_MS", "2000");
    let settings = [settings[0], SILENT[1], patient];
    let worker = Process::start("worker", directory.path(), &settings);
    // Assert: all five are done, and nothing is left
    eventually("nothing waits", || (waiting() == 0).then_some(()));
    let done = eventually("five invoices", || {
        let records = worker.records().into_iter();
        let sent = records.filter(|record| record["message"] == "invoice sent");
        (sent.count() == 5).then_some(5)
    });
    assert_eq!(done, 5);
}

/// The span that does the job that `producer` handed over.
fn consumer_of(app: &App, producer: &Span) -> Span {
    eventually("the job is done", || {
        let document = app
            .lens
            .get("/api/traces?service=signalbox-worker&limit=200")?;
        let spans = crate::harness::otlp::spans(&document);
        let link = [(producer.trace_id.clone(), producer.id.clone())];
        spans
            .into_iter()
            .find(|span| span.kind == 5 && span.links == link)
    })
}

#[test]
fn a_start_without_redis_is_no_failure() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    redis.down();
    let app = App::with(&[("REDIS_URL", &redis.url())]);
    let answer = app.get("/demo/work");
    assert_eq!(
        (answer.status, &answer.json()["degraded"]),
        (200, &json!(["cache"]))
    );
    redis.up();
    eventually("Redis is found", || {
        (app.get("/demo/work").json()["degraded"] == json!([])).then_some(())
    });
    eventually("the worker finds it too", || {
        (app.worker.get("/readyz").json()["status"] == "ok").then_some(())
    });
}
