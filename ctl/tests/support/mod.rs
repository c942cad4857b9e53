//! A real demo on free ports, for the tests that need one.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// For anything that should take a second or two; reached only when something is wrong.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn signalboxctl() -> Command {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_signalboxctl"));
    for sibling in ["signalbox", "lens", "shop"] {
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
pub fn folder(test: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    if path.exists() {
        std::fs::remove_dir_all(&path).unwrap();
    }
    path
}

/// A running demo on free ports. Stopped when dropped, whatever becomes of the test.
pub struct Demo {
    pub process: Child,
    pub service: String,
    pub viewer: String,
    pub children: Vec<(Pid, String)>,
}

impl Demo {
    pub fn start(test: &str) -> Self {
        Self::start_in(&folder(test), &[])
    }

    pub fn start_in(data_dir: &Path, environment: &[(&str, &str)]) -> Self {
        let any = "127.0.0.1:0";
        let mut process = signalboxctl()
            .envs(environment.iter().copied())
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
            .arg(data_dir)
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

    pub fn errors(&mut self) -> String {
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

    pub fn child(&self, name: &str) -> Pid {
        self.children
            .iter()
            .find(|(_, command)| command.contains(name))
            .unwrap()
            .0
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id() as i32), signal).unwrap();
    }

    /// Exit code and what was said on stderr.
    pub fn ended(&mut self) -> (Option<i32>, String) {
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

    pub fn left_over(&self) -> Vec<&str> {
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
pub fn children(of: u32) -> Vec<(Pid, String)> {
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

pub fn client() -> reqwest::blocking::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::blocking::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

/// Where a link of the service leads on to.
pub fn location(link: &str) -> String {
    let answer = client().get(link).send().unwrap();
    assert_eq!(answer.status(), 302, "{link}");
    answer.headers()["location"].to_str().unwrap().to_owned()
}

pub fn get(url: &str) -> Option<Value> {
    client()
        .get(url)
        .send()
        .ok()
        .filter(|answer| answer.status() == 200)?
        .json()
        .ok()
}
