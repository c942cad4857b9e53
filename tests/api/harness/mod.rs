//! Starts the real program and the real viewer, and asks them.

pub mod otlp;
pub mod servers;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for anything that must happen; long, because the machine may have other work.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks `probe` again and again until it has an answer, and panics with `what` when it never has one.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < give_up, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A directory that is removed with its owner; `name` is part of its name.
pub fn temp_dir(name: &str) -> TempDir {
    let directory = tempfile::Builder::new()
        .prefix(&format!("signalbox-{name}-"))
        .tempdir();
    directory.expect("a temporary directory")
}

/// The viewer, in this process, on a thread of its own.
pub struct Lens {
    url: String,
    client: Client,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _data: TempDir,
}

impl Lens {
    pub fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("a free port"))
    }

    pub fn on(listener: TcpListener) -> Self {
        let data = temp_dir("lens");
        let settings = lens::Settings {
            data_dir: data.path().to_owned(),
            ..lens::Settings::default()
        };
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async {
                let server = lens::Server::build(settings, listener).await.expect("lens");
                let shutdown = async {
                    let _ = stopped.await;
                };
                server.run_until(shutdown).await.expect("lens runs");
            });
        });
        Self {
            url,
            client: client(),
            stop: Some(stop),
            thread: Some(thread),
            _data: data,
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// A JSON document of its API; `None` while there is none.
    pub fn get(&self, path: &str) -> Option<Value> {
        let response = self.client.get(format!("{}{path}", self.url)).send().ok()?;
        let found = response.status() == StatusCode::OK;
        found.then(|| response.json().expect("JSON"))
    }

    /// Unzipped pprof bytes; `None` while there is no profile.
    pub fn profile(&self, path: &str) -> Option<Vec<u8>> {
        let response = self.client.get(format!("{}{path}", self.url)).send().ok()?;
        let found = response.status() == StatusCode::OK;
        found.then(|| gunzip(&response.bytes().expect("a body")))
    }

    /// Spans of a trace as soon as `enough` of them are there.
    pub fn trace(&self, trace_id: &str, enough: impl Fn(&[otlp::Span]) -> bool) -> Vec<otlp::Span> {
        let mut last = Vec::new();
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            if let Some(document) = self.get(&format!("/api/traces/{trace_id}")) {
                last = otlp::spans(&document);
                if enough(&last) {
                    return last;
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("trace {trace_id} never was complete: {last:#?}");
    }

    /// Log records of a trace as soon as `enough` of them are there.
    pub fn logs(&self, trace_id: &str, enough: impl Fn(&[otlp::Log]) -> bool) -> Vec<otlp::Log> {
        let path = format!("/api/logs?trace_id={trace_id}&limit=2000");
        eventually(&format!("logs of {trace_id}"), || {
            let logs = otlp::logs(&self.get(&path)?);
            enough(&logs).then_some(logs)
        })
    }

    /// Points of a metric of a service, newest of each series.
    pub fn metric(&self, service: &str, name: &str) -> Vec<otlp::Point> {
        let path = format!("/api/metrics?service={service}&name={name}");
        self.get(&path)
            .map(|found| otlp::points(&found))
            .unwrap_or_default()
    }
}

impl Drop for Lens {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(bytes), &mut plain).expect("gzip");
    plain
}

/// A client that follows no redirect and has a bound on everything. Each request has a connection of its own: one that was idle may be
/// closed by its server at the very moment when it is used again, and then the request fails though nothing is wrong.
pub fn client() -> Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    Client::builder()
        .timeout(PATIENCE)
        .pool_max_idle_per_host(0)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client")
}

/// Settings of a process: variable and value.
pub type Variables<'a> = &'a [(&'a str, &'a str)];

/// One process of the program.
pub struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    url: String,
    client: Client,
}

impl Process {
    /// Starts `role` in `directory` and waits until it says where it listens.
    pub fn start(role: &str, directory: &Path, variables: Variables) -> Self {
        let mut process = Self::spawn(role, directory, variables);
        process.listens();
        process
    }

    /// Waits until it says where it listens.
    pub fn listens(&mut self) {
        self.url = eventually("the program listens", || {
            let lines = self.lines();
            let line = lines
                .iter()
                .find(|line| line.contains("listening on http://"))?;
            let rest = line.split("listening on ").nth(1)?;
            Some(rest.split('"').next()?.trim().to_owned())
        });
    }

    /// Waits for a line with `text` on its stdout.
    pub fn says(&self, text: &str) {
        eventually(&format!("it says {text:?}"), || {
            let lines = self.lines();
            lines.iter().any(|line| line.contains(text)).then_some(())
        });
    }

    /// Starts `role` and does not wait.
    pub fn spawn(role: &str, directory: &Path, variables: Variables) -> Self {
        let mut child = command(role, directory, variables)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (written, stdout) = (lines.clone(), child.stdout.take().expect("piped"));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                written
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
            }
        });
        Self {
            child,
            lines,
            reader: Some(reader),
            url: String::new(),
            client: client(),
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What it wrote to stdout, parsed.
    pub fn records(&self) -> Vec<Value> {
        let lines = self.lines();
        let parsed = lines.iter().map(|line| serde_json::from_str(line));
        parsed
            .collect::<Result<_, _>>()
            .expect("every line is JSON")
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path).send())
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// As long as this is locked nobody reads what the program writes to stdout.
    pub fn reading(&self) -> Arc<Mutex<Vec<String>>> {
        Arc::clone(&self.lines)
    }

    /// Waits for the end, bounded, whether or not all that it wrote has been read.
    pub fn ended(&mut self) -> ExitStatus {
        eventually("the program ends", || {
            self.child.try_wait().expect("a child")
        })
    }

    /// Waits for the end, bounded, and for the last line.
    pub fn wait(&mut self) -> ExitStatus {
        let status = self.ended();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        status
    }

    /// SIGTERM and the end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("-TERM");
        self.wait()
    }

    /// What it wrote to stderr; only after its end.
    pub fn stderr(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            std::io::Read::read_to_string(&mut stderr, &mut text).expect("text");
        }
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program with nothing of this process's environment but its path.
pub fn command(role: &str, directory: &Path, variables: Variables) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox"));
    command.arg(role).current_dir(directory).env_clear();
    for name in ["PATH", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(variables.iter().copied());
    command
}

/// A response, read.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn of(response: reqwest::Result<Response>) -> Self {
        let response = response.expect("an answer");
        Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().expect("text"),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no header {name} in {self:?}"))
            .to_str()
            .expect("text")
    }

    /// The trace id of `traceresponse`: `00-<trace>-<span>-<flags>`.
    pub fn trace_id(&self) -> String {
        self.header("traceresponse")
            .split('-')
            .nth(1)
            .expect("four parts")
            .to_owned()
    }

    pub fn span_id(&self) -> String {
        self.header("traceresponse")
            .split('-')
            .nth(2)
            .expect("four parts")
            .to_owned()
    }
}

/// API and worker with their signals going to a viewer.
pub struct App {
    pub api: Process,
    pub worker: Process,
    pub lens: Lens,
    pub directory: TempDir,
}

impl App {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts both with `variables` on top of what exports quickly to the viewer.
    pub fn with(variables: Variables) -> Self {
        let lens = Lens::start();
        let directory = temp_dir("app");
        let exporting = exporting(lens.url());
        let mut all: Vec<(&str, &str)> = exporting.iter().map(|(n, v)| (*n, v.as_str())).collect();
        all.extend_from_slice(variables);
        let worker = Process::start("worker", directory.path(), &all);
        all.push(("SIGNALBOX_WORKER_URL", worker.url()));
        let api = Process::start("serve", directory.path(), &all);
        Self {
            api,
            worker,
            lens,
            directory,
        }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.api.get(path)
    }
}

/// Variables that make a process export to `lens` at once, without profiles. Its deadlines are long, so that a busy
/// machine does not miss them; a test whose subject a deadline is sets it itself.
pub fn exporting(lens: &str) -> Vec<(&'static str, String)> {
    vec![
        ("SIGNALBOX_LISTEN", "127.0.0.1:0".to_owned()),
        ("SIGNALBOX_WORKER_LISTEN", "127.0.0.1:0".to_owned()),
        ("SIGNALBOX_HTTP_THREADS", "2".to_owned()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", lens.to_owned()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned()),
        ("OTEL_BLRP_SCHEDULE_DELAY", "100".to_owned()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "500".to_owned()),
        ("SIGNALBOX_REDIS_TIMEOUT_MS", "2000".to_owned()),
        ("SIGNALBOX_WORKER_TIMEOUT_MS", "8000".to_owned()),
        ("SIGNALBOX_DATABASE_ACQUIRE_TIMEOUT_MS", "5000".to_owned()),
        ("SIGNALBOX_FLUSH_TIMEOUT_MS", "15000".to_owned()),
        ("SIGNALBOX_SHUTDOWN_TIMEOUT_S", "15".to_owned()),
    ]
}

/// Variables of a process that emits nothing.
pub const SILENT: [(&str, &str); 3] = [
    ("SIGNALBOX_LISTEN", "127.0.0.1:0"),
    ("SIGNALBOX_WORKER_LISTEN", "127.0.0.1:0"),
    ("OTEL_SDK_DISABLED", "true"),
];
