//! What the telemetry costs: instructions and processor time a request, of a handler that does nothing, without and with
//! instrumentation. `make bench` writes the table of docs/overhead.md.
//!
//! Each variant is a process of its own with one worker; this process sends it requests over loopback and receives its
//! exports. Instructions are counted by callgrind (valgrind): they do not depend on what else the machine does. Processor
//! time comes from /proc, in rounds that alternate with the bare handler, because a busy machine slows both. Linux only.
use std::fmt::Write as _;
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
/// Rounds of processor time, and requests of each.
const ROUNDS: usize = 5;
const REQUESTS: usize = 20_000;
/// Requests of the two runs under callgrind: the difference leaves start and end out.
const FEW: usize = 1_000;
const MANY: usize = 7_000;
/// Spans, or records, that the handlers of the inner ones make.
const INNER: usize = 4;

/// What is served.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Served {
    /// The handler alone.
    Bare,
    /// The handler in the middleware.
    Wrapped,
    /// There, with its work marked as its span's for the profiler.
    Marked,
    /// There, with some spans inside, of two attributes each.
    Spans,
    /// There, with some records inside, of two attributes each.
    Records,
}

impl Served {
    const ALL: [Self; 5] = [
        Self::Bare,
        Self::Wrapped,
        Self::Marked,
        Self::Spans,
        Self::Records,
    ];

    fn handle(self) -> HttpResponse {
        match self {
            Self::Bare | Self::Wrapped => {}
            Self::Marked => {
                profiles::span_scope("/items/{id}", || ());
            }
            Self::Spans => {
                for n in 0..INNER {
                    let span = tracing::info_span!("step", otel.kind = "client", n, kind = "cache");
                    let _entered = span.entered();
                }
            }
            Self::Records => {
                for rows in 0..INNER {
                    tracing::info!(rows, table = "items", "read");
                }
            }
        }
        HttpResponse::Ok().body("ok")
    }
}

/// One line of the table.
struct Variant {
    name: &'static str,
    served: Served,
    /// Beside `LOG_FORMAT=off`.
    vars: &'static [(&'static str, &'static str)],
    /// Whether callgrind can run it: profilers interrupt it by signals.
    counted: bool,
}

const fn variant(
    name: &'static str,
    served: Served,
    vars: &'static [(&'static str, &'static str)],
) -> Variant {
    Variant {
        name,
        served,
        vars,
        counted: true,
    }
}

/// Nobody listens there: profiles are taken and given up.
const NOWHERE: (&str, &str) = ("PYROSCOPE_SERVER_ADDRESS", "http://127.0.0.1:1");
const DISABLED: (&str, &str) = ("OTEL_SDK_DISABLED", "true");

const BARE: Variant = variant("bare handler", Served::Bare, &[DISABLED]);

const VARIANTS: [Variant; 13] = [
    variant("middleware, SDK disabled", Served::Wrapped, &[DISABLED]),
    variant("traces, logs and metrics", Served::Wrapped, &[]),
    variant(
        "… without traces",
        Served::Wrapped,
        &[("OTEL_TRACES_EXPORTER", "none")],
    ),
    variant(
        "… without logs",
        Served::Wrapped,
        &[("OTEL_LOGS_EXPORTER", "none")],
    ),
    variant(
        "… without metrics",
        Served::Wrapped,
        &[("OTEL_METRICS_EXPORTER", "none")],
    ),
    variant(
        "… without exemplars",
        Served::Wrapped,
        &[("OTEL_METRICS_EXEMPLAR_FILTER", "always_off")],
    ),
    variant(
        "… with the stock exporters",
        Served::Wrapped,
        &[("TELEMETRY_EXPORTER", "stock")],
    ),
    variant(
        "… and gzip",
        Served::Wrapped,
        &[("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")],
    ),
    variant(
        "… and JSON lines on stdout",
        Served::Wrapped,
        &[("LOG_FORMAT", "json")],
    ),
    variant("… and four spans", Served::Spans, &[]),
    variant("… and four records", Served::Records, &[]),
    Variant {
        counted: false,
        ..variant("… and profiles", Served::Wrapped, &[NOWHERE])
    },
    Variant {
        counted: false,
        ..variant("… and a profile of each span", Served::Marked, &[NOWHERE])
    },
];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "serve") {
        let named = |served: &Served| format!("{served:?}") == arguments[at + 1];
        return serve(Served::ALL.into_iter().find(named).expect("what to serve"));
    }
    let only = arguments
        .iter()
        .find_map(|argument| argument.strip_prefix("only="));
    let quick = arguments.iter().any(|argument| argument == "quick");
    let collector = collector();
    let counting = Command::new("valgrind").arg("--version").output().is_ok();
    if !counting {
        eprintln!("valgrind is not installed: no instructions are counted");
    }
    let bare = counting.then(|| instructions(&BARE, collector));
    let mut table = String::from(
        "| variant | instructions | over bare | µs | over bare | resident MB |\n|---|---|---|---|---|---|\n",
    );
    if let Some(bare) = bare {
        let _ = writeln!(table, "| {} | {} | | | | |", BARE.name, thousands(bare));
    }
    let chosen = |variant: &&Variant| only.is_none_or(|only| variant.name.contains(only));
    for variant in VARIANTS.iter().filter(chosen) {
        let counted = bare.filter(|_| variant.counted).map(|bare| {
            let count = instructions(variant, collector);
            format!("{} | {}", thousands(count), thousands(count - bare))
        });
        let counted = counted.unwrap_or_else(|| " | ".to_owned());
        let time = match quick {
            true => " | | ".to_owned(),
            false => time(variant, collector),
        };
        let line = format!("| {} | {counted} | {time} |\n", variant.name);
        eprint!("{line}");
        table.push_str(&line);
    }
    println!("{table}");
    if let Some(page) = arguments
        .iter()
        .find_map(|argument| argument.strip_prefix("page="))
    {
        write_into(page, &table);
    }
}

/// Replaces the table of `page`, which stands between two comments.
fn write_into(page: &str, table: &str) {
    let text = std::fs::read_to_string(page).expect("the page");
    let (begin, end) = ("<!-- made by `make bench` -->\n", "<!-- end -->");
    let (before, rest) = text.split_once(begin).expect("where the table begins");
    let (_, after) = rest.split_once(end).expect("where the table ends");
    std::fs::write(page, format!("{before}{begin}\n{table}\n{end}{after}")).expect("is written");
}

/// `12345` as `12,345`.
fn thousands(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 {
        format!("−{text}")
    } else {
        text
    }
}

/// One variant: the server, one worker, until it is told to end. Prints its port.
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
        let route = move || web::get().to(move || async move { served.handle() });
        if served == Served::Bare {
            let app = move || App::new().route("/items/{id}", route());
            HttpServer::new(app)
                .workers(1)
                .listen(listener)
                .expect("listens")
                .run()
                .await
        } else {
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
        }
        .expect("serves");
    });
    let _ = guard.shutdown(Duration::from_secs(5));
}

/// A server that runs.
struct Running {
    child: Child,
    port: u16,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Running {
    fn start(mut command: Command, variant: &Variant, collector: u16) -> Self {
        let mut child = command
            .args(["serve", &format!("{:?}", variant.served)])
            .env(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                format!("http://127.0.0.1:{collector}"),
            )
            .env("LOG_FORMAT", "off")
            .envs(variant.vars.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let port = loop {
            let mut line = String::new();
            assert!(
                stderr.read_line(&mut line).expect("a line") > 0,
                "the server ended"
            );
            if let Ok(port) = line.trim().parse() {
                break port; // callgrind says some things before
            }
        };
        Self {
            child,
            port,
            stderr,
        }
    }

    /// Ends the server as its users do, so that it flushes. Returns what it said meanwhile.
    fn end(mut self) -> String {
        let id = self.child.id().to_string();
        let signalled = Command::new("kill").args(["-TERM", &id]).status();
        assert!(signalled.expect("kill").success());
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).expect("text");
        self.child.wait().expect("the server ends");
        said
    }
}

fn own_program() -> std::path::PathBuf {
    std::env::current_exe().expect("own path")
}

/// Instructions a request, those of all threads.
fn instructions(variant: &Variant, collector: u16) -> i64 {
    let [few, many] = [FEW, MANY].map(|requests| {
        let mut callgrind = Command::new("valgrind");
        callgrind
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(own_program());
        let server = Running::start(callgrind, variant, collector);
        load(server.port, requests);
        let said = server.end();
        let collected = said.lines().find_map(|line| line.split_once("Collected :"));
        let collected = collected.unwrap_or_else(|| panic!("callgrind counts:\n{said}"));
        collected.1.trim().parse::<i64>().expect("a count")
    });
    (many - few) / (MANY - FEW) as i64
}

/// Microseconds of processor time a request, what they are over the bare handler's, and resident memory.
fn time(variant: &Variant, collector: u16) -> String {
    let bare = Running::start(Command::new(own_program()), &BARE, collector);
    let server = Running::start(Command::new(own_program()), variant, collector);
    for server in [&bare, &server] {
        load(server.port, WARM_UP);
    }
    let mut times = Vec::new();
    let mut over = Vec::new();
    for _ in 0..ROUNDS {
        let [bare, time] = [&bare, &server].map(|server| {
            let before = ticks(server.child.id());
            load(server.port, REQUESTS);
            (ticks(server.child.id()) - before) as f64 * 10_000.0 / REQUESTS as f64
        });
        times.push(time);
        over.push(time - bare);
    }
    times.sort_by(f64::total_cmp);
    over.sort_by(f64::total_cmp);
    let memory = resident(server.child.id());
    let (low, high) = (over[0], over[ROUNDS - 1]);
    let text = format!(
        "{:.1} | {:.1} ({low:.1} to {high:.1}) | {memory:.1}",
        times[ROUNDS / 2],
        over[ROUNDS / 2]
    );
    bare.end();
    server.end();
    text
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

/// Resident memory of the process in MB.
fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    kilobytes.expect("VmRSS").parse::<f64>().expect("a number") * 1024.0 / 1e6
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
