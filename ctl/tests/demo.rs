//! The real `demo` with the real programs, and the real `load` into it.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// For anything that should take a second or two; reached only when something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

fn signalboxctl() -> Command {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_signalboxctl"));
    for sibling in ["signalbox", "lens"] {
        let path = program.with_file_name(sibling);
        assert!(
            path.is_file(),
            "{} is missing: build it first with `cargo build --workspace`",
            path.display()
        );
    }
    let mut command = Command::new(program);
    for variable in [
        "SIGNALBOX_LISTEN",
        "SIGNALBOX_WORKER_LISTEN",
        "LENS_LISTEN",
        "LENS_DATA_DIR",
        "DATABASE_URL",
        "SIGNALBOX_URL",
    ] {
        command.env_remove(variable);
    }
    command
}

/// A folder of this test's own, empty at its start.
fn folder(test: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    if path.exists() {
        std::fs::remove_dir_all(&path).unwrap();
    }
    path
}

/// A running demo on free ports. Stopped when dropped, whatever becomes of the test.
struct Demo {
    process: Child,
    service: String,
    viewer: String,
    children: Vec<(Pid, String)>,
}

impl Demo {
    fn start(test: &str) -> Self {
        let any = "127.0.0.1:0";
        let mut process = signalboxctl()
            .args([
                "demo",
                "--listen",
                any,
                "--worker",
                any,
                "--lens",
                any,
                "--data-dir",
            ])
            .arg(folder(test))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, read) = mpsc::channel();
        let out = process.stdout.take().unwrap();
        std::thread::spawn(move || {
            BufReader::new(out)
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| lines.send(line))
        });
        let mut demo = Self {
            process,
            service: String::new(),
            viewer: String::new(),
            children: Vec::new(),
        };
        while demo.service.is_empty() || demo.viewer.is_empty() {
            let line = read
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("the demo did not become ready: {}", demo.errors()));
            let address = line
                .split_whitespace()
                .find(|word| word.starts_with("http://"))
                .unwrap_or_default();
            if line.contains("ready in") && line.contains("service") {
                demo.service = address.to_owned();
            } else if line.contains("ready in") && line.contains("viewer") {
                demo.viewer = address.to_owned();
            }
        }
        std::thread::spawn(move || read.iter().count()); // goes on reading, or the demo would block
        demo.children = children(demo.process.id());
        demo
    }

    fn errors(&mut self) -> String {
        let mut text = String::new();
        let _ = self.process.kill();
        self.process
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    fn child(&self, name: &str) -> Pid {
        self.children
            .iter()
            .find(|(_, command)| command.contains(name))
            .unwrap()
            .0
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id() as i32), signal).unwrap();
    }

    /// Exit code and what was said on stderr.
    fn ended(&mut self) -> (Option<i32>, String) {
        let begin = Instant::now();
        let status = loop {
            match self.process.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(begin.elapsed() < PATIENCE, "the demo did not end"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut text = String::new();
        self.process
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        (status.code(), text)
    }

    fn left_over(&self) -> Vec<&str> {
        let alive = |pid: &Pid| kill(*pid, None).is_ok();
        self.children
            .iter()
            .filter(|(pid, _)| alive(pid))
            .map(|(_, command)| command.as_str())
            .collect()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        for (pid, _) in &self.children {
            let _ = kill(*pid, Signal::SIGKILL);
        }
    }
}

/// Process id and command line of each child.
fn children(of: u32) -> Vec<(Pid, String)> {
    let listing = Command::new("ps")
        .args(["-A", "-o", "ppid=,pid=,args="])
        .output()
        .unwrap();
    let parent = of.to_string();
    String::from_utf8_lossy(&listing.stdout)
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == parent).then_some(())?;
            Some((
                Pid::from_raw(words.next()?.parse().ok()?),
                words.collect::<Vec<_>>().join(" "),
            ))
        })
        .collect()
}

fn load(url: &str, arguments: &[&str]) -> Output {
    signalboxctl()
        .args(["load", "--url", url])
        .args(arguments)
        .output()
        .unwrap()
}

fn get(url: &str) -> Option<Value> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::blocking::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .unwrap();
    client
        .get(url)
        .send()
        .ok()
        .filter(|answer| answer.status() == 200)?
        .json()
        .ok()
}

#[test]
fn a_load_into_the_demo_is_counted_and_its_links_lead_to_what_it_caused() {
    let mut demo = Demo::start("load");
    assert_eq!(demo.children.len(), 3, "{:?}", demo.children);

    let output = load(
        &demo.service,
        &[
            "--mix",
            "ping=3,work-error=1",
            "--count",
            "40",
            "--rate",
            "100",
        ],
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.starts_with("40 requests in "), "{text}");
    let row = |name: &str| -> Vec<&str> {
        let line = text
            .lines()
            .find(|line| line.split_whitespace().next() == Some(name))
            .unwrap();
        line.split_whitespace().skip(1).take(2).collect()
    };
    assert_eq!(
        (row("ping"), row("work-error"), row("all")),
        (vec!["30", "0"], vec!["10", "10"], vec!["40", "10"])
    );
    assert!(text.contains("answers:  200 × 30  500 × 10\n"), "{text}");

    let failing = text
        .split("failing request: GET /demo/work-error answered 500")
        .nth(1)
        .unwrap();
    let link = |name: &str| {
        failing
            .lines()
            .find_map(|line| line.trim().strip_prefix(name))
            .unwrap()
            .trim()
            .to_owned()
    };
    let trace_id = link("trace id");
    assert!(
        link("trace  ").starts_with(&format!("{}/traces/{trace_id}#span-", demo.viewer)),
        "{failing}"
    );
    assert_eq!(
        link("logs"),
        format!("{}/logs?trace_id={trace_id}", demo.viewer)
    );

    // The root span ends last, and may leave with a later export than those below it.
    let begin = Instant::now();
    loop {
        let trace = get(&format!("{}/api/traces/{trace_id}", demo.viewer)).unwrap_or_default();
        let spans = names(&trace);
        if spans.iter().any(|name| name == "GET /demo/work-error") {
            break;
        }
        assert!(
            begin.elapsed() < PATIENCE,
            "of the failing request's trace only {spans:?} arrived"
        );
        std::thread::sleep(Duration::from_millis(100));
    }

    demo.signal(Signal::SIGINT);
    assert_eq!(demo.ended(), (Some(0), String::new()));
    assert_eq!(demo.left_over(), Vec::<&str>::new());
}

/// Names of all spans of a trace in OTLP/JSON; none of null.
fn names(trace: &serde_json::Value) -> Vec<String> {
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    list(&trace["resourceSpans"])
        .iter()
        .flat_map(|resource| list(&resource["scopeSpans"]))
        .flat_map(|scope| list(&scope["spans"]))
        .filter_map(|span| Some(span["name"].as_str()?.to_owned()))
        .collect()
}

#[test]
fn sigterm_stops_the_demo_too() {
    let mut demo = Demo::start("sigterm");
    demo.signal(Signal::SIGTERM);
    assert_eq!(demo.ended(), (Some(0), String::new()));
    assert_eq!(demo.left_over(), Vec::<&str>::new());
}

#[test]
fn when_one_program_dies_the_others_are_stopped_and_it_is_named_with_its_last_lines() {
    let mut demo = Demo::start("death");
    kill(demo.child("signalbox worker"), Signal::SIGKILL).unwrap();
    let (code, said) = demo.ended();
    assert_eq!(code, Some(1));
    assert!(
        said.starts_with(
            "error: the worker ended by itself (signal: 9 (SIGKILL)); its last lines ("
        ),
        "{said}"
    );
    assert!(said.contains("listening on http://127.0.0.1:"), "{said}");
    assert_eq!(demo.left_over(), Vec::<&str>::new());
}

#[cfg(target_os = "linux")]
#[test]
fn killed_itself_it_leaves_nothing_behind() {
    let mut demo = Demo::start("killed");
    demo.signal(Signal::SIGKILL);
    assert_eq!(demo.ended().0, None);
    let begin = Instant::now();
    while !demo.left_over().is_empty() {
        assert!(
            begin.elapsed() < PATIENCE,
            "still running: {:?}",
            demo.left_over()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_taken_port_is_named_with_its_owner_and_nothing_is_started() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let data = folder("taken");
    let output = signalboxctl()
        .args([
            "demo",
            "--lens",
            "127.0.0.1:0",
            "--worker",
            "127.0.0.1:0",
            "--listen",
            &address,
            "--data-dir",
        ])
        .arg(&data)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with(&format!(
            "error: nothing was started:\n  {address}, wanted for the service, is taken"
        )),
        "{said}"
    );
    if cfg!(target_os = "linux") {
        assert!(
            said.contains(&format!("by process {} (demo-", std::process::id())),
            "{said}"
        );
    }
    assert!(
        said.contains("choose another with --listen or SIGNALBOX_LISTEN"),
        "{said}"
    );
    assert!(!data.exists());
}

#[test]
fn a_load_into_nothing_fails_and_says_how_to_start_the_service() {
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap(); // closed again at once
    let output = load(&format!("http://{address}"), &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with(&format!(
            "error: cannot reach http://{address}/: Connection refused"
        )),
        "{said}"
    );
    assert!(said.contains("make demo"), "{said}");
}
