//! Real PostgreSQL, MariaDB and Redis on free ports, which a test can stop and start again.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{PATIENCE, eventually, temp_dir};
use tempfile::TempDir;

/// Says that a test does not run here, and fails it where everything must be installed.
pub fn skipped(needs: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{needs} is not installed: make test-deps"
    );
    eprintln!("skipped: {needs} is not installed; `make test-deps` adds it");
}

/// A port that stays this process's while its server is stopped: below those that systems give out by themselves, and
/// each process begins at 16 of its own.
fn free_port() -> u16 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    loop {
        let count = std::process::id() * 16 + COUNT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(20_000 + count % 12_000).expect("below 32000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
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
            directory: temp_dir("redis"),
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

/// A database server with a database of its own.
pub trait DatabaseServer {
    fn url(&self) -> String;
    fn port(&self) -> u16;
    /// Starts it; returns when it accepts connections.
    fn up(&mut self);
    /// Stops it as its service manager would: sessions are ended.
    fn down(&mut self);
}

/// PostgreSQL. It refuses to run as root: then it runs as `postgres`.
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
            directory: temp_dir("postgres"),
            child: None,
        };
        give(&postgres.directory, "postgres");
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

    fn run(&self, program: &str) -> Command {
        as_user("postgres", &self.programs.join(program), &self.directory)
    }
}

impl DatabaseServer for Postgres {
    fn url(&self) -> String {
        format!("postgres://signalbox@127.0.0.1:{}/postgres", self.port)
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn up(&mut self) {
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

    /// Fast shutdown.
    fn down(&mut self) {
        end(&mut self.child, "-INT");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.down();
    }
}

/// MariaDB. It refuses to run as root: then it runs as `mysql`.
pub struct MariaDb {
    port: u16,
    directory: TempDir,
    child: Option<Child>,
}

impl MariaDb {
    /// `None` where it is not installed.
    pub fn start() -> Option<Self> {
        if !Path::new(MARIADBD).exists() {
            skipped("mariadb-server");
            return None;
        }
        let mut mariadb = Self {
            port: free_port(),
            directory: temp_dir("mariadb"),
            child: None,
        };
        give(&mariadb.directory, "mysql");
        let initialised = mariadb
            .run("/usr/bin/mariadb-install-db")
            .args([
                "--no-defaults",
                &mariadb.data(),
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ])
            .output()
            .expect("mariadb-install-db runs");
        assert!(initialised.status.success(), "{initialised:?}");
        fs::write(
            mariadb.directory.path().join("init.sql"),
            "CREATE DATABASE IF NOT EXISTS signalbox;\n\
             CREATE USER IF NOT EXISTS signalbox IDENTIFIED BY 'secret';\n\
             GRANT ALL ON signalbox.* TO signalbox;\n",
        )
        .expect("a file");
        mariadb.up();
        Some(mariadb)
    }

    /// The URL of whoever operates it.
    pub fn operator_url(&self) -> String {
        format!("mysql://root@127.0.0.1:{}/signalbox", self.port)
    }

    /// Keeps the database in another directory, which is `mysql`'s. While the server is down.
    pub fn move_database_to(&self, other: &Path) {
        let here = self.directory.path().join("data/signalbox");
        let moved = Command::new("cp")
            .arg("-a")
            .arg(format!("{}/.", here.display()))
            .arg(other)
            .status();
        assert!(moved.expect("cp runs").success());
        fs::remove_dir_all(&here).expect("removed");
        std::os::unix::fs::symlink(other, &here).expect("a link");
    }

    /// It wants an absolute path.
    fn data(&self) -> String {
        let data = self.directory.path().join("data");
        format!("--datadir={}", data.display())
    }

    fn run(&self, program: &str) -> Command {
        as_user("mysql", Path::new(program), &self.directory)
    }
}

const MARIADBD: &str = "/usr/sbin/mariadbd";

impl DatabaseServer for MariaDb {
    fn url(&self) -> String {
        format!("mysql://signalbox:secret@127.0.0.1:{}/signalbox", self.port)
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn up(&mut self) {
        let directory = self.directory.path();
        let mut command = self.run(MARIADBD);
        command.args([
            "--no-defaults",
            "--bind-address=127.0.0.1",
            "--innodb-flush-log-at-trx-commit=0",
            &format!("--port={}", self.port),
            &self.data(),
            &format!("--socket={}", directory.join("socket").display()),
            &format!("--init-file={}", directory.join("init.sql").display()),
        ]);
        self.child = Some(start(&mut command));
        // It listens when its start, and the file above, are done.
        eventually("MariaDB answers", || answers(self.port).then_some(()));
    }

    fn down(&mut self) {
        end(&mut self.child, "-TERM");
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        self.down();
    }
}

/// A program as a user that it accepts, in its directory.
fn as_user(user: &str, program: &Path, directory: &TempDir) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command
            .args([&format!("--reuid={user}"), &format!("--regid={user}")])
            .arg("--clear-groups")
            .arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir(directory.path());
    command
}

/// Gives the directory to the user as whom the server runs.
pub fn give(directory: &TempDir, user: &str) {
    if is_root() {
        let owner = Command::new("chown")
            .arg(user)
            .arg(directory.path())
            .status();
        assert!(owner.expect("chown runs").success());
    }
}

/// Asks a server to end, and ends it if it does not.
fn end(child: &mut Option<Child>, signal: &str) {
    let Some(mut child) = child.take() else {
        return;
    };
    let _ = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    let give_up = Instant::now() + PATIENCE;
    while Instant::now() < give_up {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
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
