//! The server that is measured: a process of its own with one worker.
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use signalbox_telemetry::{
    self as telemetry, Guard, Identity, Settings, actix::Instrument, profiles,
};

/// Spans, or records, that the handlers of the inner ones make.
const INNER: usize = 4;

/// How long a connection may say nothing: under callgrind on a busy machine the first request takes longer than the five
/// seconds that are the default.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// What is served.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Served {
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
    pub const ALL: [Self; 5] = [
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

/// Starts the telemetry that the environment asks for.
pub fn init() -> Guard {
    let identity = Identity {
        service_name: "overhead",
        service_namespace: "bench",
        service_version: "0",
        metric_prefix: "bench",
        request_id_attribute: "bench.request.id",
    };
    telemetry::init(&Settings::from_env(identity).expect("settings")).expect("telemetry")
}

/// Serves until it is told to end. Prints the port.
pub fn serve(served: Served) {
    let guard = init();
    actix_web::rt::System::new().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        eprintln!("{}", listener.local_addr().expect("an address").port());
        let route = move || web::get().to(move || async move { served.handle() });
        if served == Served::Bare {
            let app = move || App::new().route("/items/{id}", route());
            HttpServer::new(app)
                .workers(1)
                .client_request_timeout(IDLE_TIMEOUT)
                .keep_alive(IDLE_TIMEOUT)
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
                .client_request_timeout(IDLE_TIMEOUT)
                .keep_alive(IDLE_TIMEOUT)
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
pub struct Running {
    child: Child,
    pub port: u16,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Running {
    /// Has `command` serve, with these variables beside `LOG_FORMAT=off`.
    pub fn start(
        mut command: Command,
        served: Served,
        vars: &[(&str, &str)],
        collector: u16,
    ) -> Self {
        let mut child = command
            .args(["serve", &format!("{served:?}")])
            .env(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                format!("http://127.0.0.1:{collector}"),
            )
            .env("LOG_FORMAT", "off")
            .envs(vars.iter().copied())
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

    /// Of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the server as its users do, so that it flushes. Returns what it said meanwhile.
    pub fn end(mut self) -> String {
        let id = self.child.id().to_string();
        let signalled = Command::new("kill").args(["-TERM", &id]).status();
        assert!(signalled.expect("kill").success());
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).expect("text");
        self.child.wait().expect("the server ends");
        said
    }
}

/// This program, for another process of it.
pub fn own_program() -> Command {
    Command::new(std::env::current_exe().expect("own path"))
}
