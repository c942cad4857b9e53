//! What the telemetry costs: processor time a request of a handler that does nothing, without and with instrumentation.
//!
//! `cargo bench --bench overhead`. Each variant is a process of its own with one worker; this process sends it requests
//! over loopback, receives its exports, and reads the processor time it used from /proc, which stays steady on a machine
//! where the requests a second do not. Linux only.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use signalbox_telemetry::{self as telemetry, Identity, Settings, actix::Instrument, profiles};

#[cfg(target_os = "linux")] // as in the service
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const CONNECTIONS: usize = 4;
const WARM_UP: usize = 10_000;
const ROUNDS: usize = 5;
const REQUESTS: usize = 50_000;

/// What is served: the handler alone, in the middleware, or there with its work marked as its span's.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Served {
    Bare,
    Wrapped,
    Marked,
}

/// Name, what is served, and the environment that makes the variant.
type Variant = (
    &'static str,
    Served,
    &'static [(&'static str, &'static str)],
);

/// Nobody listens there: profiles are taken and given up.
const NOWHERE: (&str, &str) = ("PYROSCOPE_SERVER_ADDRESS", "http://127.0.0.1:1");

const VARIANTS: [Variant; 10] = [
    (
        "bare handler",
        Served::Bare,
        &[("OTEL_SDK_DISABLED", "true"), ("LOG_FORMAT", "off")],
    ),
    (
        "middleware, SDK disabled",
        Served::Wrapped,
        &[("OTEL_SDK_DISABLED", "true"), ("LOG_FORMAT", "off")],
    ),
    (
        "traces, logs and metrics",
        Served::Wrapped,
        &[("LOG_FORMAT", "off")],
    ),
    (
        "… without traces",
        Served::Wrapped,
        &[("LOG_FORMAT", "off"), ("OTEL_TRACES_EXPORTER", "none")],
    ),
    (
        "… without logs",
        Served::Wrapped,
        &[("LOG_FORMAT", "off"), ("OTEL_LOGS_EXPORTER", "none")],
    ),
    (
        "… without metrics",
        Served::Wrapped,
        &[("LOG_FORMAT", "off"), ("OTEL_METRICS_EXPORTER", "none")],
    ),
    (
        "… without exemplars",
        Served::Wrapped,
        &[
            ("LOG_FORMAT", "off"),
            ("OTEL_METRICS_EXEMPLAR_FILTER", "always_off"),
        ],
    ),
    (
        "… and JSON lines on stdout",
        Served::Wrapped,
        &[("LOG_FORMAT", "json")],
    ),
    (
        "… and profiles",
        Served::Wrapped,
        &[("LOG_FORMAT", "off"), NOWHERE],
    ),
    (
        "… and a profile of each span",
        Served::Marked,
        &[("LOG_FORMAT", "off"), NOWHERE],
    ),
];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "serve") {
        let named = |served: &Served| format!("{served:?}") == arguments[at + 1];
        let all = [Served::Bare, Served::Wrapped, Served::Marked];
        return serve(all.into_iter().find(named).expect("what to serve"));
    }
    let collector = collector();
    let mut bare = 0.0;
    println!("{:30} {:>12} {:>12}", "variant", "µs/request", "over bare");
    for (name, served, vars) in VARIANTS {
        let mut times: Vec<f64> = measure(served, vars, collector);
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        if name == VARIANTS[0].0 {
            bare = median;
        }
        println!(
            "{name:30} {median:12.1} {:12.1}   ({:.1} to {:.1})",
            median - bare,
            times[0],
            times[ROUNDS - 1]
        );
    }
}

/// One variant: the server, one worker, until killed. Prints its port.
fn serve(served: Served) {
    let identity = Identity {
        service_name: "overhead",
        service_namespace: "bench",
        service_version: "0",
        metric_prefix: "bench",
        request_id_attribute: "bench.request.id",
    };
    let guard =
        telemetry::init(&Settings::from_env(identity).expect("settings")).expect("telemetry");
    actix_web::rt::System::new().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        eprintln!("{}", listener.local_addr().expect("an address").port());
        let route = move || {
            web::get().to(move || async move {
                if served == Served::Marked {
                    profiles::span_scope("/items/{id}", || ());
                }
                HttpResponse::Ok().body("ok")
            })
        };
        if served != Served::Bare {
            let app = move || {
                App::new()
                    .wrap(Instrument::new())
                    .route("/items/{id}", route())
            };
            HttpServer::new(app)
                .workers(1)
                .listen(listener)
                .expect("listens")
                .run()
                .await
        } else {
            let app = move || App::new().route("/items/{id}", route());
            HttpServer::new(app)
                .workers(1)
                .listen(listener)
                .expect("listens")
                .run()
                .await
        }
        .expect("serves");
    });
    let _ = guard.shutdown(Duration::from_secs(5));
}

/// Microseconds of processor time a request, one figure a round.
fn measure(served: Served, vars: &[(&str, &str)], collector: u16) -> Vec<f64> {
    let mut child = Command::new(std::env::current_exe().expect("own path"))
        .args(["serve", &format!("{served:?}")])
        .env(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            format!("http://127.0.0.1:{collector}"),
        )
        .envs(vars.iter().copied())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the server starts");
    let port = port(&mut child);
    load(port, WARM_UP);
    let times = (0..ROUNDS).map(|_| {
        let before = ticks(child.id());
        load(port, REQUESTS);
        (ticks(child.id()) - before) as f64 * 10_000.0 / REQUESTS as f64
    });
    let times = times.collect();
    child.kill().expect("the server can be stopped");
    child.wait().expect("the server ends");
    times
}

fn port(child: &mut Child) -> u16 {
    let mut line = String::new();
    let stderr = child.stderr.take().expect("piped");
    BufReader::new(stderr).read_line(&mut line).expect("a line");
    line.trim().parse().expect("a port")
}

/// Hundredths of a second of processor time that the process has used.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("/proc");
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .expect("a name")
        .1
        .split_whitespace()
        .collect();
    fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
}

fn load(port: u16, requests: usize) {
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(move || {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
                stream.set_nodelay(true).expect("an option");
                let mut answer = [0; 4096];
                for _ in 0..requests / CONNECTIONS {
                    let request = b"GET /items/7 HTTP/1.1\r\nhost: 127.0.0.1:80\r\nuser-agent: overhead/1\r\n\r\n";
                    stream.write_all(request).expect("is sent");
                    let mut length = 0;
                    while !answer[..length].ends_with(b"\r\n\r\nok") {
                        length += stream.read(&mut answer[length..]).expect("answers");
                    }
                }
            });
        }
    });
}

/// Takes whatever is exported and says that all is well.
fn collector() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || receive(stream));
        }
    });
    port
}

fn receive(stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).ok()?;
        writer
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .ok()?;
    }
}
