//! Orders are acknowledged when they are stored, and only then: full disks, read-only databases, requests that are cut off
//! in the middle of a transaction, servers that go away while it is committed.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, PgConnection, SqliteConnection};

use crate::harness::servers::{self, DatabaseServer, MariaDb, Postgres};
use crate::harness::{Answer, App, eventually, temp_dir};
use tempfile::TempDir;

/// The database as the test itself sees it.
struct Observer {
    runtime: tokio::runtime::Runtime,
    connection: Session,
}

enum Session {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    MySql(MySqlConnection),
}

/// Runs an expression with whichever connection.
macro_rules! on_session {
    ($observer:expr, $connection:ident => $run:expr) => {
        match &mut $observer.connection {
            Session::Sqlite($connection) => $observer.runtime.block_on($run),
            Session::Postgres($connection) => $observer.runtime.block_on($run),
            Session::MySql($connection) => $observer.runtime.block_on($run),
        }
    };
}

impl Observer {
    fn of(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime");
        let connection = runtime.block_on(async {
            Ok::<_, sqlx::Error>(match url.split(':').next() {
                Some("sqlite") => Session::Sqlite(SqliteConnection::connect(url).await?),
                Some("mysql") => Session::MySql(MySqlConnection::connect(url).await?),
                _ => Session::Postgres(PgConnection::connect(url).await?),
            })
        });
        Self {
            runtime,
            connection: connection.expect("a connection"),
        }
    }

    fn run(&mut self, sql: &str) {
        let done = on_session!(self, connection => async {
            let run = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
            run.execute(connection).await.map(drop)
        });
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    fn numbers(&mut self, sql: &str) -> Vec<i64> {
        let found = on_session!(self, connection => async {
            let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
            query.fetch_all(connection).await
        });
        found.unwrap_or_else(|error: sqlx::Error| panic!("{sql}: {error}"))
    }

    fn orders(&mut self) -> BTreeSet<i64> {
        self.numbers("SELECT id FROM orders").into_iter().collect()
    }
}

/// The URL of the file in a directory.
fn file_url(directory: &Path) -> String {
    format!("sqlite:{}", directory.join("signalbox.db").display())
}

/// The orders that `app` acknowledged.
#[derive(Default)]
struct Acknowledged(BTreeSet<i64>);

impl Acknowledged {
    fn order(&mut self, app: &App) -> Answer {
        let answer = app.get("/demo/work");
        if answer.status == 200 {
            self.note(&answer);
        }
        answer
    }

    fn note(&mut self, answer: &Answer) {
        let id = answer.json()["order"]["id"].as_i64().expect("an id");
        assert!(self.0.insert(id), "{id} was acknowledged twice");
    }

    /// Each of them is stored, and nothing else is.
    fn assert_stored(&self, observer: &mut Observer) {
        assert_eq!(observer.orders(), self.0);
    }
}

fn assert_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(
        answer.json()["type"],
        format!("urn:signalbox:problem:{code}"),
        "{}",
        answer.text
    );
}

/// Readiness says `status` of the database.
fn becomes(app: &App, status: &str) -> Answer {
    eventually(&format!("the database is {status}"), || {
        let answer = app.get("/readyz");
        (answer.json()["checks"]["database"]["status"] == status).then_some(answer)
    })
}

/// The failed statement of a refused order is on its span, and no COMMIT is said to have succeeded.
fn assert_failed_statement(app: &App, answer: &Answer, class: &str, code: &str) {
    // The worker's span may be there before that of the API.
    let spans = app.lens.trace(&answer.trace_id(), |spans| {
        spans.iter().any(|span| span.name == "GET /demo/work")
    });
    let failed: Vec<_> = spans
        .iter()
        .filter(|span| span.attributes.contains_key("db.system.name") && span.status == 2)
        .collect();
    assert_eq!(failed.len(), 1, "{spans:#?}");
    assert_eq!(failed[0].attributes["error.type"], class);
    assert_eq!(failed[0].attributes["db.response.status_code"], code);
    let committed = |name| {
        spans
            .iter()
            .any(|span| span.name == name && span.status != 2)
    };
    assert!(!committed("COMMIT"), "{spans:#?}");
}

/// What holds of a database at `url` that is full, which it says with `code`: `fill` leaves no room, `free` gives it back.
fn refuses_until_there_is_room(
    app: &App,
    url: &str,
    code: &str,
    fill: impl FnOnce(),
    free: impl FnOnce(),
) {
    let mut acknowledged = Acknowledged::default();
    assert_eq!(acknowledged.order(app).status, 200);

    // Act: some orders still fit into pages that are there already
    fill();
    let refused = (0..2000)
        .map(|_| acknowledged.order(app))
        .find(|answer| answer.status != 200);
    let refused = refused.expect("no order fits any more");
    // Assert: said, and nothing acknowledged that is not there
    assert_problem(&refused, 507, "storage-full");
    assert!(refused.text.contains("no room left"), "{}", refused.text);
    assert_failed_statement(app, &refused, "full", code);
    let ready = becomes(app, "full");
    assert_eq!(ready.status, 503);
    let reason = ready.json()["checks"]["database"]["reason"].clone();
    assert!(
        // PostgreSQL says it in the system's words.
        reason
            .as_str()
            .is_some_and(|reason| reason.contains("full") || reason.contains("No space left")),
        "{reason}"
    );
    std::thread::scope(|scope| {
        let more: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..10).map(|_| app.get("/demo/work")).collect::<Vec<_>>()))
            .collect();
        for answer in more
            .into_iter()
            .flat_map(|thread| thread.join().expect("no panic"))
        {
            // A server may find room for one more where an order before it was undone.
            match answer.status {
                200 => acknowledged.note(&answer),
                _ => assert_problem(&answer, 507, "storage-full"),
            }
        }
    });
    assert_eq!(app.get("/healthz").status, 200);
    acknowledged.assert_stored(&mut Observer::of(url));

    // Act: room again
    free();
    // Assert: by itself, and what is acknowledged is stored
    assert_eq!(becomes(app, "ok").status, 200);
    for _ in 0..20 {
        assert_eq!(acknowledged.order(app).status, 200);
    }
    acknowledged.assert_stored(&mut Observer::of(url));
}

#[test]
fn a_full_sqlite_file_loses_no_order_and_recovers() {
    let app = App::with(&[("SIGNALBOX_DATABASE_MAX_MB", "1")]);
    let url = file_url(&app.directory.path().join("data"));
    // What fills it is written past the bound, which is the service's own.
    let fill = || {
        let mut observer = Observer::of(&url);
        observer.run("CREATE TABLE filler (body BLOB NOT NULL)");
        observer.run("INSERT INTO filler VALUES (zeroblob(2000000))");
    };
    let free = || Observer::of(&url).run("DROP TABLE filler");
    refuses_until_there_is_room(&app, &url, "13", fill, free);
}

/// A small file system.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this process may not mount one.
    fn mount(directory: &TempDir, mebibytes: u32) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m")])
            .arg("signalbox-test")
            .arg(directory.path())
            .output();
        let mounted = mounted.is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!(
                "skipped: this process may not mount a tmpfs; the same with SQLite's own bound is tested"
            );
        }
        mounted.then(|| Self(directory.path().to_owned()))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Leaves no room.
    fn fill(&self) {
        let mut file = fs::File::create(self.filler()).expect("a file");
        while file.write_all(&[0xA5; 4096]).is_ok() {}
    }

    /// Gives it back.
    fn free(&self) {
        fs::remove_file(self.filler()).expect("removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_loses_no_order_and_recovers() {
    let directory = temp_dir("small-disk");
    let Some(disk) = SmallDisk::mount(&directory, 2) else {
        return;
    };
    let url = file_url(&disk.0);
    let app = App::with(&[("DATABASE_URL", &url)]);
    refuses_until_there_is_room(&app, &url, "13", || disk.fill(), || disk.free());
    drop(app);
}

#[test]
fn a_full_disk_of_postgres_loses_no_order_and_recovers() {
    let directory = temp_dir("small-postgres");
    let (Some(disk), Some(postgres)) = (SmallDisk::mount(&directory, 4), Postgres::start()) else {
        return;
    };
    let app = App::with(&[("DATABASE_URL", &postgres.url())]);
    // The tables move there, the server's own files stay: without room for its log it would end itself.
    servers::give(&directory, "postgres");
    let mut operator = Observer::of(&postgres.url());
    operator.run(&format!(
        "CREATE TABLESPACE small LOCATION '{}'",
        disk.0.display()
    ));
    for kind in ["TABLE", "INDEX"] {
        operator.run(&format!(
            "ALTER {kind} ALL IN TABLESPACE pg_default SET TABLESPACE small"
        ));
    }
    refuses_until_there_is_room(
        &app,
        &postgres.url(),
        "53100",
        || disk.fill(),
        || disk.free(),
    );
    drop((app, postgres));
}

#[test]
fn a_full_disk_of_mariadb_loses_no_order_and_recovers() {
    let directory = temp_dir("small-mariadb");
    let (Some(disk), Some(mut mariadb)) = (SmallDisk::mount(&directory, 8), MariaDb::start())
    else {
        return;
    };
    // The database's directory is a link to there; the server's own files stay. It listens before it has a database.
    drop(Observer::of(&mariadb.url()));
    mariadb.down();
    servers::give(&directory, "mysql");
    mariadb.move_database_to(&disk.0);
    mariadb.up();
    let app = App::with(&[("DATABASE_URL", &mariadb.url())]);
    let table_is_full = "1114";
    refuses_until_there_is_room(
        &app,
        &mariadb.url(),
        table_is_full,
        || disk.fill(),
        || disk.free(),
    );
    drop((app, mariadb));
}

/// An order and somebody else wait for each other, and the server ends the order: `prepare` makes the other one hold what
/// an order needs after it has its product, `waits` counts those that wait.
fn an_order_loses_a_deadlock(
    database: &impl DatabaseServer,
    code: &str,
    prepare: &[&str],
    operator: &str,
    waits: &str,
) {
    let app = App::with(&[
        ("DATABASE_URL", &database.url()),
        ("SIGNALBOX_DATABASE_STATEMENT_TIMEOUT_MS", "30000"),
        ("SIGNALBOX_REQUEST_TIMEOUT_MS", "40000"),
    ]);
    let mut acknowledged = Acknowledged::default();
    assert_eq!(acknowledged.order(&app).status, 200);
    let (mut other, mut operator) = (Observer::of(&database.url()), Observer::of(operator));
    prepare.iter().for_each(|sql| other.run(sql));
    // Act
    let ended = std::thread::scope(|scope| {
        let order = scope.spawn(|| app.get("/demo/work"));
        eventually("the order waits for the other", || {
            (operator.numbers(waits) == [1]).then_some(())
        });
        // And the other for the order: it returns because the order is undone.
        other.run("UPDATE products SET reserved = reserved");
        order.join().expect("no panic")
    });
    other.run("ROLLBACK");
    // Assert
    assert_problem(&ended, 503, "dependency-unavailable");
    assert!(ended.text.contains("deadlock"), "{}", ended.text);
    assert_failed_statement(&app, &ended, "deadlock", code);
    std::thread::scope(|scope| {
        let orders: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..5).map(|_| app.get("/demo/work")).collect::<Vec<_>>()))
            .collect();
        for order in orders {
            for answer in order.join().expect("no panic") {
                assert_eq!(answer.status, 200, "{}", answer.text);
                acknowledged.note(&answer);
            }
        }
    });
    acknowledged.assert_stored(&mut other);
    assert_eq!(becomes(&app, "ok").status, 200);
}

#[test]
fn an_order_that_postgres_ends_for_a_deadlock_is_undone() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    // Whoever has waited so long looks for a circle, and ends itself if it finds one.
    Observer::of(&postgres.url()).run("ALTER SYSTEM SET deadlock_timeout = '4s'");
    Observer::of(&postgres.url()).run("SELECT pg_reload_conf()");
    let prepare = [
        "SET deadlock_timeout = '10min'",
        "BEGIN",
        "LOCK TABLE order_items IN SHARE MODE",
    ];
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    an_order_loses_a_deadlock(&postgres, "40P01", &prepare, &postgres.url(), waits);
}

#[test]
fn an_order_that_mariadb_ends_for_a_deadlock_is_undone() {
    let Some(mariadb) = MariaDb::start() else {
        return;
    };
    // It ends the transaction that has changed less. What is read for update keeps others from inserting behind it.
    let prepare = [
        "CREATE TABLE filler (number INT)",
        "BEGIN",
        "INSERT INTO filler SELECT seq FROM seq_1_to_1000",
        "SELECT id FROM orders FOR UPDATE",
    ];
    // MariaDB makes this table anew only when nobody has read it for 0.1 s, so it is not asked more often.
    let waits = "SELECT count(*) + sleep(0.2) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'";
    an_order_loses_a_deadlock(&mariadb, "1213", &prepare, &mariadb.operator_url(), waits);
}

#[test]
fn a_read_only_sqlite_file_serves_no_order_and_says_so() {
    // Arrange: a file with one order in it
    let mut app = App::start();
    assert_eq!(app.get("/demo/work").status, 200);
    assert!(app.api.stop().success());
    let file = app.directory.path().join("data/signalbox.db");
    // Act
    let url = format!("sqlite:{}?mode=ro", file.display());
    let app = App::with(&[("DATABASE_URL", &url)]);
    // Assert
    let refused = app.get("/demo/work");
    assert_problem(&refused, 503, "database-read-only");
    assert_failed_statement(&app, &refused, "read_only", "8");
    let ready = becomes(&app, "read_only");
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["detail"], "database is read_only");
}

/// A server that takes no writes for a while, by `read_only(true)` of its operator.
fn takes_no_writes_for_a_while(
    database: &impl DatabaseServer,
    code: &str,
    mut read_only: impl FnMut(bool),
) {
    let app = App::with(&[("DATABASE_URL", &database.url())]);
    let mut acknowledged = Acknowledged::default();
    assert_eq!(acknowledged.order(&app).status, 200);
    becomes(&app, "ok");
    // Act
    read_only(true);
    // Assert
    let refused = eventually("orders are refused", || {
        let answer = acknowledged.order(&app);
        (answer.status != 200).then_some(answer)
    });
    assert_problem(&refused, 503, "database-read-only");
    assert_failed_statement(&app, &refused, "read_only", code);
    assert_eq!(becomes(&app, "read_only").status, 503);
    app.api.says("database is read_only");
    // Act
    read_only(false);
    // Assert
    assert_eq!(becomes(&app, "ok").status, 200);
    app.api.says("database answers again");
    for _ in 0..10 {
        assert_eq!(acknowledged.order(&app).status, 200);
    }
    acknowledged.assert_stored(&mut Observer::of(&database.url()));
}

#[test]
fn a_postgres_that_is_read_only_is_noticed() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let mut operator = Observer::of(&postgres.url());
    takes_no_writes_for_a_while(&postgres, "25006", |on| {
        operator.run(&format!(
            "ALTER SYSTEM SET default_transaction_read_only = {on}"
        ));
        operator.run("SELECT pg_reload_conf()");
    });
}

#[test]
fn a_mariadb_that_is_read_only_is_noticed() {
    let Some(mariadb) = MariaDb::start() else {
        return;
    };
    let mut operator = Observer::of(&mariadb.operator_url());
    takes_no_writes_for_a_while(&mariadb, "1290", |on| {
        operator.run(&format!("SET GLOBAL read_only = {}", u8::from(on)));
    });
}

/// Requests that are cut off in the middle of a transaction leave no connection in doubt, whichever database it is.
fn survives_cancelled_transactions(app: &App, url: &str) {
    let mut acknowledged = Acknowledged::default();
    assert_eq!(acknowledged.order(app).status, 200);
    let mut blocker = Observer::of(url);
    for _ in 0..2 {
        // Act: somebody holds every row, so that orders wait in their transaction until they are cut off
        blocker.run("BEGIN");
        blocker.run("UPDATE products SET reserved = reserved");
        let cut_off: Vec<Answer> = std::thread::scope(|scope| {
            let requests: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| app.get("/demo/work")))
                .collect();
            requests
                .into_iter()
                .map(|request| request.join().expect("no panic"))
                .collect()
        });
        for answer in cut_off {
            assert_problem(&answer, 504, "deadline-exceeded");
        }
        blocker.run("ROLLBACK");
        // Assert: as many at once as the pool has connections, and all of them are stored
        eventually("orders again", || {
            (acknowledged.order(app).status == 200).then_some(())
        });
        for _ in 0..10 {
            assert_eq!(acknowledged.order(app).status, 200);
        }
        acknowledged.assert_stored(&mut blocker);
    }
}

const CUT_OFF: [(&str, &str); 2] = [
    ("SIGNALBOX_DATABASE_CONNECTIONS", "2"),
    ("SIGNALBOX_REQUEST_TIMEOUT_MS", "1500"),
];

#[test]
fn orders_that_are_cut_off_leave_sqlite_sound() {
    let app = App::with(&CUT_OFF);
    let file = app.directory.path().join("data/signalbox.db");
    survives_cancelled_transactions(&app, &format!("sqlite:{}", file.display()));
}

#[test]
fn orders_that_are_cut_off_leave_postgres_sound() {
    if let Some(postgres) = Postgres::start() {
        let app = App::with(&[CUT_OFF[0], CUT_OFF[1], ("DATABASE_URL", &postgres.url())]);
        survives_cancelled_transactions(&app, &postgres.url());
        let mut observer = Observer::of(&postgres.url());
        eventually("no session is left in a transaction", || {
            let idle = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'signalbox' AND xact_start IS NOT NULL";
            (observer.numbers(idle) == [0]).then_some(())
        });
    }
}

#[test]
fn orders_that_are_cut_off_leave_mariadb_sound() {
    if let Some(mariadb) = MariaDb::start() {
        let app = App::with(&[CUT_OFF[0], CUT_OFF[1], ("DATABASE_URL", &mariadb.url())]);
        survives_cancelled_transactions(&app, &mariadb.url());
    }
}

#[test]
fn a_statement_that_the_server_ends_undoes_its_order() {
    // Arrange: the server's own timeout, far below that of the request
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let app = App::with(&[
        ("DATABASE_URL", &postgres.url()),
        ("SIGNALBOX_DATABASE_STATEMENT_TIMEOUT_MS", "700"),
    ]);
    let mut acknowledged = Acknowledged::default();
    assert_eq!(acknowledged.order(&app).status, 200);
    let mut blocker = Observer::of(&postgres.url());
    // Act
    blocker.run("BEGIN");
    blocker.run("LOCK TABLE order_items IN ACCESS EXCLUSIVE MODE");
    assert_problem(&acknowledged.order(&app), 504, "deadline-exceeded");
    blocker.run("ROLLBACK");
    // Assert
    for _ in 0..10 {
        assert_eq!(acknowledged.order(&app).status, 200);
    }
    acknowledged.assert_stored(&mut blocker);
}

/// Passes bytes on between the service and its database, and cuts both off when it has passed on a COMMIT, once `armed`.
struct Cutter {
    port: u16,
    armed: Arc<AtomicBool>,
}

impl Cutter {
    fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let armed = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&armed);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else {
                    continue;
                };
                let answers = (
                    server.try_clone().expect("a clone"),
                    client.try_clone().expect("a clone"),
                );
                std::thread::spawn(move || {
                    let (mut from, mut to) = answers;
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
                let armed = Arc::clone(&shared);
                std::thread::spawn(move || pass_on(client, server, &armed));
            }
        });
        Self { port, armed }
    }
}

fn pass_on(mut client: TcpStream, mut server: TcpStream, armed: &AtomicBool) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = std::io::Read::read(&mut client, &mut buffer).unwrap_or(0);
        let commits = buffer[..read].windows(6).any(|window| window == b"COMMIT");
        if commits && armed.swap(false, Ordering::SeqCst) {
            // The caller is gone before the server has answered.
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.write_all(&buffer[..read]);
            return;
        }
        if read == 0 || server.write_all(&buffer[..read]).is_err() {
            let _ = server.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// The answer to an order whose COMMIT was sent, and not answered, says that nobody knows; the next one is placed.
fn says_when_a_commit_is_not_answered(database: &impl DatabaseServer) {
    let cutter = Cutter::before(database.port());
    let through = |port: u16| {
        database
            .url()
            .replace(&format!(":{}/", database.port()), &format!(":{port}/"))
    };
    let app = App::with(&[("DATABASE_URL", &through(cutter.port))]);
    let mut acknowledged = Acknowledged::default();
    assert_eq!(acknowledged.order(&app).status, 200);
    // Act: readiness commits too
    let open = eventually("an order whose commit is cut off", || {
        cutter.armed.store(true, Ordering::SeqCst);
        let answer = acknowledged.order(&app);
        (answer.status != 200).then_some(answer)
    });
    cutter.armed.store(false, Ordering::SeqCst);
    // Assert
    assert_problem(&open, 503, "dependency-unavailable");
    assert!(
        open.text
            .contains("whether the order was written is not known"),
        "{}",
        open.text
    );
    for _ in 0..10 {
        assert_eq!(acknowledged.order(&app).status, 200);
    }
    let stored = Observer::of(&database.url()).orders();
    assert!(
        stored.is_superset(&acknowledged.0),
        "{stored:?} {:?}",
        acknowledged.0
    );
    assert!(
        stored.len() <= acknowledged.0.len() + 1,
        "{stored:?} {:?}",
        acknowledged.0
    );
    let found = app.get("/readyz").json()["checks"]["database"].clone();
    assert_eq!(found, json!({"status": "ok"}));
}

#[test]
fn a_postgres_that_is_lost_at_commit_leaves_no_false_answer() {
    if let Some(postgres) = Postgres::start() {
        says_when_a_commit_is_not_answered(&postgres);
    }
}

#[test]
fn a_mariadb_that_is_lost_at_commit_leaves_no_false_answer() {
    if let Some(mariadb) = MariaDb::start() {
        says_when_a_commit_is_not_answered(&mariadb);
    }
}
