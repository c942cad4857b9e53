//! Real PostgreSQL and Redis on free ports, which a test can stop and start again.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{TempDir, eventually};

/// Says that a test does not run here, and fails it where everything must be installed.
pub fn skipped(needs: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{needs} is not installed: make test-deps"
    );
    eprintln!("skipped: {needs} is not installed; `make test-deps` adds it");
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// A server that was started as a child of the test.
fn start(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server starts")
}

fn answers(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// Redis in memory.
pub struct Redis {
    port: u16,
    directory: TempDir,
    child: Option<Child>,
}

impl Redis {
    /// `None` where it is not installed.
    pub fn start() -> Option<Self> {
        let installed = Command::new("redis-server")
            .arg("--version")
            .output()
            .is_ok();
        if !installed {
            skipped("redis-server");
            return None;
        }
        let mut redis = Self {
            port: free_port(),
            directory: TempDir::new("redis"),
            child: None,
        };
        redis.up();
        Some(redis)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub fn up(&mut self) {
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command
            .args([
                "--port",
                &port,
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .current_dir(self.directory.path());
        self.child = Some(start(&mut command));
        eventually("Redis answers", || answers(self.port).then_some(()));
    }

    pub fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.down();
    }
}

/// PostgreSQL with a database of its own. It refuses to run as root: then it runs as `postgres`.
pub struct Postgres {
    port: u16,
    programs: PathBuf,
    directory: TempDir,
    child: Option<Child>,
}

impl Postgres {
    /// `None` where it is not installed.
    pub fn start() -> Option<Self> {
        let Some(programs) = find_programs() else {
            skipped("postgresql");
            return None;
        };
        let mut postgres = Self {
            port: free_port(),
            programs,
            directory: TempDir::new("postgres"),
            child: None,
        };
        if is_root() {
            let owner = Command::new("chown")
                .arg("postgres")
                .arg(postgres.directory.path())
                .status();
            assert!(owner.expect("chown runs").success());
        }
        let initialised = postgres
            .run("initdb")
            .args([
                "--auth=trust",
                "--username=signalbox",
                "--no-sync",
                "-D",
                "data",
            ])
            .output()
            .expect("initdb runs");
        assert!(initialised.status.success(), "{initialised:?}");
        postgres.up();
        Some(postgres)
    }

    pub fn url(&self) -> String {
        format!("postgres://signalbox@127.0.0.1:{}/postgres", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn up(&mut self) {
        // A server that was killed leaves its lock behind.
        let _ = fs::remove_file(self.directory.path().join("data/postmaster.pid"));
        let port = self.port.to_string();
        let mut command = self.run("postgres");
        command.args([
            "-D",
            "data",
            "-p",
            &port,
            "-c",
            "listen_addresses=127.0.0.1",
        ]);
        command.args(["-c", "unix_socket_directories=", "-c", "fsync=off"]);
        self.child = Some(start(&mut command));
        eventually("PostgreSQL accepts connections", || {
            let ready = Command::new(self.programs.join("pg_isready"))
                .args(["-h", "127.0.0.1", "-p", &port])
                .output()
                .expect("pg_isready runs");
            ready.status.success().then_some(())
        });
    }

    /// Fast shutdown: sessions are ended.
    pub fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = Command::new("kill")
                .args(["-INT", &child.id().to_string()])
                .status();
            let ended = eventually_ended(&mut child);
            if !ended {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }

    /// A program of PostgreSQL, as a user that it accepts.
    fn run(&self, program: &str) -> Command {
        let path = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
                .arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir(self.directory.path());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.down();
    }
}

fn eventually_ended(child: &mut Child) -> bool {
    for _ in 0..100 {
        if !matches!(child.try_wait(), Ok(None)) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    false
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id runs");
    id.stdout.starts_with(b"0\n")
}

/// Debian keeps the programs of each major version in a directory of its own.
fn find_programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let programs = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    programs
        .filter(|path| Path::new(path).join("initdb").exists())
        .max()
}
