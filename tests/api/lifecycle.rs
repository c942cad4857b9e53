//! Start and stop.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;

use crate::harness::{App, Lens, Process, SILENT, client, eventually, exporting, temp_dir};

/// An address that refuses connections, and is nobody else's as long as its socket is kept.
fn refusing() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind("127.0.0.1:0".parse().expect("an address"))
        .expect("a free port");
    let address = socket.local_addr().expect("an address");
    (socket, address)
}

/// A collector that accepts connections and never answers.
fn hanging_collector() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            kept.push(stream);
        }
    });
    url
}

#[test]
fn the_stop_lets_requests_finish_and_flushes() {
    // Arrange
    let mut app = App::start();
    let (status, trace_id) = std::thread::scope(|scope| {
        let request = scope.spawn(|| {
            app.api
                .request(reqwest::Method::GET, "/api?sc=200&delay_ms=4000")
                .send()
        });
        eventually("the request is in flight", || {
            let text = app.get("/metrics").text;
            let active = text
                .lines()
                .find(|line| line.starts_with("http_server_active_requests{"))?;
            (!active.ends_with(" 1") && !active.ends_with(" 0")).then_some(())
        });
        // Act
        app.api.signal("-TERM");
        let answer = crate::harness::Answer::of(request.join().expect("no panic"));
        (answer.status, answer.trace_id())
    });
    let exit = app.api.wait();
    // Assert
    assert_eq!((status, exit.code()), (200, Some(0)));
    let spans = app.lens.trace(&trace_id, |spans| !spans.is_empty());
    assert_eq!(spans[0].attributes["http.route"], "/api");
    let refused = std::net::TcpStream::connect(app.api.address());
    assert!(refused.is_err(), "nobody listens any more");
}

#[test]
fn accepted_jobs_are_done_before_the_worker_stops() {
    let mut app = App::with(&[("SIGNALBOX_JOB_CONCURRENCY", "1")]);
    for _ in 0..10 {
        assert!(app.get("/demo/work").json()["job_id"].is_string());
    }
    assert_eq!(app.worker.stop().code(), Some(0));
    let sent = app
        .worker
        .records()
        .iter()
        .filter(|record| record["message"] == "invoice sent")
        .count();
    assert_eq!(sent, 10);
}

#[test]
fn a_hanging_collector_does_not_hold_up_the_stop() {
    // Arrange: traces, metrics, logs and profiles all hang.
    let directory = temp_dir("hanging");
    let collector = hanging_collector();
    let exporting = exporting(&collector);
    let mut variables: Vec<(&str, &str)> =
        exporting.iter().map(|(n, v)| (*n, v.as_str())).collect();
    variables.extend([
        ("PYROSCOPE_SERVER_ADDRESS", &*collector),
        ("SIGNALBOX_SHUTDOWN_TIMEOUT_S", "2"),
        ("SIGNALBOX_FLUSH_TIMEOUT_MS", "2000"),
    ]);
    let mut api = Process::start("serve", directory.path(), &variables);
    for _ in 0..20 {
        assert_eq!(api.get("/ping").status, 200);
    }
    // Act
    let start = Instant::now();
    let status = api.stop();
    // Assert
    assert_eq!(status.code(), Some(0));
    // Its own deadlines add up to less than five seconds; one export that is waited for takes ten.
    let took = start.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert!(
        api.stderr().contains("not flushed"),
        "what was lost is said"
    );
}

#[test]
fn a_collector_that_restarts_loses_nothing() {
    // Arrange: a port that refuses connections until the collector listens on it
    let directory = temp_dir("restart");
    let (socket, address) = refusing();
    let url = format!("http://{address}");
    let exporting = exporting(&url);
    let mut variables: Vec<(&str, &str)> =
        exporting.iter().map(|(n, v)| (*n, v.as_str())).collect();
    // An export is repeated until then, and this machine may be slow to start the collector.
    variables.push(("OTEL_EXPORTER_OTLP_TIMEOUT", "30000"));
    let api = Process::start("serve", directory.path(), &variables);
    // Act: several batches come due before it is up
    let traces: Vec<String> = (0..5)
        .map(|_| {
            let answer = api.get("/ping");
            std::thread::sleep(Duration::from_millis(300));
            answer.trace_id()
        })
        .collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let listener = runtime.block_on(async { socket.listen(1024)?.into_std() });
    let lens = Lens::on(listener.expect("a listener"));
    // Assert
    for trace_id in traces {
        assert_eq!(lens.trace(&trace_id, |spans| spans.len() >= 5).len(), 5);
        assert!(!lens.logs(&trace_id, |logs| !logs.is_empty()).is_empty());
    }
    let metrics = api.get("/metrics").text;
    let failed = metrics
        .lines()
        .filter(|line| line.starts_with("otel_sdk_exporter_") && line.contains("error_type"))
        .filter(|line| line.contains("span") || line.contains("log"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum::<f64>();
    assert_eq!(failed, 0.0);
}

#[test]
fn a_stdout_that_nobody_reads_holds_up_neither_requests_nor_the_stop() {
    // Arrange
    let directory = temp_dir("stalled");
    let lens = Lens::start();
    let exporting = exporting(lens.url());
    let mut variables: Vec<(&str, &str)> =
        exporting.iter().map(|(n, v)| (*n, v.as_str())).collect();
    variables.extend([
        ("SIGNALBOX_SHUTDOWN_TIMEOUT_S", "2"),
        ("SIGNALBOX_FLUSH_TIMEOUT_MS", "2000"),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "10000"),
    ]);
    let mut api = Process::start("serve", directory.path(), &variables);
    let lines = api.reading();
    let stalled = lines.lock().expect("no panic");
    // Act: more records than a pipe and the queue hold
    for _ in 0..15 {
        assert_eq!(api.get("/demo/logs?count=1000").status, 200);
    }
    // Assert: what was dropped is counted, and the process ends. Of 15,000 records 10,000 wait; one batch of up to 2,048 is being
    // written, some of it is in the pipe, and what the request threads have begun joins the queue soon.
    eventually("records dropped and counted", || {
        let metrics = api.get("/metrics").text;
        let dropped: f64 = metrics
            .lines()
            .filter(|line| line.starts_with("otel_sdk_processor_log_processed_total{"))
            .filter(|line| line.contains("stdout_log_processor/0") && line.contains("queue_full"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        (2_500.0..6_500.0).contains(&dropped).then_some(())
    });
    api.signal("-TERM");
    assert_eq!(api.ended().code(), Some(0));
    drop(stalled);
}

#[test]
fn the_second_signal_exits_at_once() {
    // Arrange: a request that outlives the test, and a collector that hangs.
    let directory = temp_dir("second");
    let collector = hanging_collector();
    let exporting = exporting(&collector);
    let mut variables: Vec<(&str, &str)> =
        exporting.iter().map(|(n, v)| (*n, v.as_str())).collect();
    variables.extend([
        ("SIGNALBOX_SHUTDOWN_TIMEOUT_S", "60"),
        ("SIGNALBOX_FLUSH_TIMEOUT_MS", "60000"),
    ]);
    let mut api = Process::start("serve", directory.path(), &variables);
    let mut stream = std::net::TcpStream::connect(api.address()).expect("a connection");
    write!(
        stream,
        "GET /ping?fault=latency_ms%3D9000 HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    .expect("sent");
    api.says("fault injected");
    // Act
    api.signal("-TERM");
    api.says("stopping");
    api.signal("-INT");
    let status = api.wait();
    // Assert
    assert_eq!(status.code(), Some(130));
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(
        !answer.contains("200 OK"),
        "the request was cut off: {answer}"
    );
}

#[test]
fn the_port_is_said_and_a_taken_one_is_an_error_that_still_flushes() {
    // Arrange
    let lens = Lens::start();
    let directory = temp_dir("port");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let exporting = exporting(lens.url());
    let mut variables: Vec<(&str, &str)> =
        exporting.iter().map(|(n, v)| (*n, v.as_str())).collect();
    variables.push(("SIGNALBOX_LISTEN", &address));
    // Act
    let mut process = Process::spawn("serve", directory.path(), &variables);
    let status = process.wait();
    // Assert
    assert_eq!(status.code(), Some(1));
    let stderr = process.stderr();
    assert!(
        stderr.contains("SIGNALBOX_LISTEN") && stderr.contains(&address),
        "{stderr}"
    );
    eventually("the reason reached the viewer", || {
        let logs = crate::harness::otlp::logs(&lens.get("/api/logs?level=ERROR")?);
        logs.iter()
            .any(|log| log.body.contains(&address))
            .then_some(())
    });
}

#[test]
fn a_database_that_stays_away_fails_the_start() {
    let directory = temp_dir("away");
    let (_socket, address) = refusing();
    let url = format!("postgres://signalbox:secret@{address}/signalbox?pasword=secret");
    let variables = [
        SILENT[0],
        SILENT[2],
        ("DATABASE_URL", url.as_str()),
        ("SIGNALBOX_DATABASE_START_TIMEOUT_MS", "3000"),
    ];
    let mut process = Process::spawn("serve", directory.path(), &variables);
    let status = process.wait();
    let stderr = process.stderr();
    assert_eq!(status.code(), Some(1));
    assert!(
        stderr.contains("DATABASE_URL") && stderr.contains("cannot be opened"),
        "{stderr}"
    );
    assert!(!stderr.contains("secret"), "{stderr}");
    let lines = process.lines();
    assert!(
        !lines.iter().any(|line| line.contains("secret")),
        "{lines:#?}"
    );
    assert!(
        process
            .lines()
            .iter()
            .any(|line| line.contains("trying again"))
    );
}

#[test]
fn plain_http_needs_neither_authorities_nor_a_proxy() {
    // Arrange: as in a small image without certificates, on a network whose way out is a proxy
    let (_kept, nobody) = refusing();
    let proxy = format!("http://{nobody}");
    let mut variables = vec![
        ("SSL_CERT_FILE", "/nonexistent"),
        ("SSL_CERT_DIR", "/nonexistent"),
    ];
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        variables.push((name, proxy.as_str()));
    }
    let app = App::with(&variables);
    // Act
    let answer = app.get("/demo/work");
    // Assert: the worker was asked and had the job, and what happened was exported
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["degraded"], serde_json::json!([]));
    app.lens.trace(&answer.trace_id(), |spans| {
        let came = |name, kind| {
            spans
                .iter()
                .any(|span| span.name == name && span.kind == kind)
        };
        // From both processes: the service's span, and the worker's.
        came("GET /demo/work", 2) && came("GET /quotes/{sku}", 2)
    });
}

#[test]
fn what_a_service_lost_stands_on_the_viewers_overview() {
    // Arrange: its spans go where they are refused, everything else to the viewer.
    let viewer = Lens::start();
    let nowhere = format!("{}/there-are-no-spans-taken", viewer.url());
    let exporting = exporting(viewer.url());
    let mut all: Vec<(&str, &str)> = exporting.iter().map(|(n, v)| (*n, v.as_str())).collect();
    all.push(("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &nowhere));
    let directory = temp_dir("losing");
    let api = Process::start("serve", directory.path(), &all);
    let overview = || {
        let page = client()
            .get(format!("{}/", viewer.url()))
            .send()
            .expect("an answer");
        let page = page.text().expect("text");
        let (_, lost) = page.split_once("data-testid=\"lost\"")?;
        Some(lost.split_once("</p>")?.0.to_owned())
    };
    // Act
    for _ in 0..3 {
        assert_eq!(api.get("/api?sc=200&delay_ms=0").status, 200);
    }
    // Assert: as many as it counts itself, those of its start among them.
    eventually("the overview says what the service counts", || {
        let points = viewer.metric("signalbox-api", "otel.sdk.exporter.span.exported");
        let refused = points.iter().filter(|point| {
            let cause = point.attributes.get("error.type");
            cause.is_some_and(|cause| cause == "http_4xx")
        });
        let counted = refused.map(|point| point.value).sum::<f64>();
        let said = format!("signalbox-api</span> <span class=\"number\">{counted}</span>");
        (counted >= 3.0 && overview()?.contains(&said)).then_some(())
    });
}
