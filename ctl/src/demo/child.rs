//! One child process: given its listening socket, started in its own group, its output read, stopped within a deadline.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::log::Log;
use crate::output::say;

/// After a child has ended, how long its last lines may take to be read.
const LAST_LINES: Duration = Duration::from_millis(500);

/// A program that this one has started and will stop.
pub struct Child {
    /// What people call it: `viewer`, `worker`, `service`.
    pub name: &'static str,
    /// What it says, on disk and its last lines in memory.
    pub log: Arc<Log>,
    pid: Option<Pid>,
    started: Instant,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Child {
    /// The child gets `listener` as its standard input, and here it is closed: when the child ends, nobody listens there.
    /// `echo` passes each line on to the terminal, with the child's name before it.
    ///
    /// Call it from the main task: on Linux the child gets SIGTERM when the *thread* that started it ends, so that not even
    /// `kill -9` of this program leaves it behind.
    pub fn start(
        name: &'static str,
        mut command: Command,
        listener: TcpListener,
        log: Log,
        echo: bool,
    ) -> io::Result<Self> {
        command
            .stdin(OwnedFd::from(listener))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .process_group(0); // a terminal's Ctrl-C reaches this program alone, which then stops the children in order
        #[cfg(target_os = "linux")]
        // SAFETY: between fork and exec only async-signal-safe calls are allowed; prctl(2) is a bare system call.
        unsafe {
            command.pre_exec(|| {
                nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).map_err(io::Error::from)
            });
        }
        let started = Instant::now();
        let mut process = command.spawn()?;
        let pid = process
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .map(Pid::from_raw);
        let log = Arc::new(log);
        let (ended, exit) = watch::channel(None);
        let out = process
            .stdout
            .take()
            .map(|out| tokio::spawn(read(name, out, Arc::clone(&log), echo)));
        let err = process
            .stderr
            .take()
            .map(|err| tokio::spawn(read(name, err, Arc::clone(&log), echo)));
        tokio::spawn(async move {
            // An error would say that there is nothing to wait for: the dropped sender then tells the same.
            if let Ok(status) = process.wait().await {
                for reader in [out, err].into_iter().flatten() {
                    let _: Result<_, _> = timeout(LAST_LINES, reader as JoinHandle<()>).await;
                }
                ended.send_replace(Some(status));
            }
        });
        Ok(Self {
            name,
            log,
            pid,
            started,
            exit,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> Option<i32> {
        self.pid.map(Pid::as_raw)
    }

    /// How long ago it was started.
    pub fn since_start(&self) -> Duration {
        self.started.elapsed()
    }

    /// How it ended, in words, once it has.
    pub async fn exited(&self) -> String {
        match self
            .exit
            .clone()
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|status| *status)
        {
            Some(status) => status.to_string(),
            None => "exit status unknown".into(),
        }
    }

    /// SIGTERM, and SIGKILL when the deadline has passed. True if it then was gone by itself with exit code 0.
    pub async fn stop(&self, deadline: Duration) -> bool {
        self.signal(Signal::SIGTERM);
        if timeout(deadline, self.exited()).await.is_err() {
            self.kill().await;
        }
        self.exit.borrow().is_some_and(|status| status.success())
    }

    /// SIGKILL; returns when it is gone.
    pub async fn kill(&self) {
        self.signal(Signal::SIGKILL);
        self.exited().await;
    }

    fn signal(&self, signal: Signal) {
        if let (Some(pid), None) = (self.pid, *self.exit.borrow()) {
            // It fails only when the child has ended meanwhile, which is what was wanted.
            let _ = kill(pid, signal);
        }
    }
}

async fn read(name: &'static str, stream: impl AsyncRead + Unpin, log: Arc<Log>, echo: bool) {
    let mut lines = BufReader::new(stream).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line);
        log.line(&line);
        if echo {
            say!("{name:>7} | {line}");
        }
    }
}

/// The program of that name beside this one: they are built and shipped together.
pub fn sibling(program: &str) -> Result<PathBuf, String> {
    let here = std::env::current_exe()
        .map_err(|error| format!("cannot find this program's own folder: {error}"))?;
    let path = here.parent().unwrap_or(Path::new(".")).join(program);
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!(
            "there is no {}: build all programs with `cargo build --workspace`",
            path.display()
        ))
    }
}
