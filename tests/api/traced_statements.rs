//! What a database shows of its sessions leads to the traces that they work for: the comment on each statement.

use reqwest::Method;
use sqlx::{Connection, MySqlConnection, PgConnection};

use crate::harness::servers::{DatabaseServer, MariaDb, Postgres};
use crate::harness::{Answer, App, eventually};

const HOLDER: &str = "0af7651916cd43dd8448eb211c80319a";
const WAITER: &str = "0af7651916cd43dd8448eb211c80319b";

fn traced(app: &App, trace: &str, path: &str) -> Answer {
    let request = app.api.request(Method::GET, path);
    let context = format!("00-{trace}-b7ad6b7169203331-01");
    Answer::of(request.header("traceparent", context).send())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a runtime")
}

/// While one request keeps a row locked and another waits for it, runs `look` until it finds both, and returns their
/// statements: the holder's and the waiter's.
fn while_one_waits(
    app: &App,
    mut look: impl FnMut() -> Option<(String, String)>,
) -> (String, String) {
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| traced(app, HOLDER, "/demo/lock?ms=3500"));
        app.api.says("the row is locked for 3500 ms");
        let waiter = scope.spawn(|| traced(app, WAITER, "/ping?fault=lock_wait_ms%3D3000"));
        let found = eventually("one session waits for another", &mut look);
        assert_eq!(holder.join().expect("no panic").status, 200);
        // A slow machine may have let it wait longer than it would.
        assert!([200, 504].contains(&waiter.join().expect("no panic").status));
        found
    })
}

/// Each statement names a span of its trace, and that span is the statement's.
fn assert_leads_to_spans(app: &App, holder: &str, waiter: &str) {
    for (statement, trace) in [(holder, HOLDER), (waiter, WAITER)] {
        let rest = statement
            .strip_prefix("/*traceparent='00-")
            .expect(statement);
        let (context, text) = rest.split_once("-01'*/ ").expect(statement);
        assert_eq!(
            text.split(" SET").next(),
            Some("UPDATE products"),
            "{statement}"
        );
        let (trace_id, span_id) = context.split_once('-').expect(statement);
        assert_eq!(trace_id, trace);
        let spans = app
            .lens
            .trace(trace, |spans| spans.iter().any(|span| span.id == span_id));
        let span = spans
            .iter()
            .find(|span| span.id == span_id)
            .expect("the span");
        assert_eq!((span.name.as_str(), span.kind), ("UPDATE products", 3));
        // Where a text is shown or grouped, it is without the comment.
        assert!(span.attributes["db.query.text"].starts_with("UPDATE products"));
        assert_eq!(span.attributes["db.query.summary"], "UPDATE products");
    }
}

#[test]
fn postgres_tells_who_waits_for_whom_by_trace() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let app = App::with(&[("DATABASE_URL", &postgres.url())]);
    let runtime = runtime();
    let mut observer = runtime
        .block_on(PgConnection::connect(&postgres.url()))
        .expect("connected");
    let (holder, waiter) = while_one_waits(&app, || {
        let blocked = sqlx::query_as(
            "SELECT b.query, a.query FROM pg_stat_activity a JOIN pg_stat_activity b \
             ON b.pid = ANY (pg_blocking_pids(a.pid)) \
             WHERE a.application_name = 'signalbox' AND a.wait_event_type = 'Lock'",
        );
        runtime
            .block_on(blocked.fetch_optional(&mut observer))
            .expect("rows")
    });
    assert_leads_to_spans(&app, &holder, &waiter);
}

#[test]
fn mariadb_shows_the_trace_of_each_session() {
    let Some(mariadb) = MariaDb::start() else {
        return;
    };
    let app = App::with(&[("DATABASE_URL", &mariadb.url())]);
    let runtime = runtime();
    let mut observer = runtime
        .block_on(MySqlConnection::connect(&mariadb.operator_url()))
        .expect("connected");
    // A session that idles in its transaction shows no statement: only the waiter's can be seen.
    let (waiter, _) = while_one_waits(&app, || {
        let waiting = sqlx::query_as(
            "SELECT info, CAST(id AS CHAR) FROM information_schema.processlist \
             WHERE user = 'signalbox' AND info LIKE '%UPDATE products%'",
        );
        runtime
            .block_on(waiting.fetch_optional(&mut observer))
            .expect("rows")
    });
    let rest = waiter.strip_prefix("/*traceparent='00-").expect(&waiter);
    assert!(rest.starts_with(WAITER), "{waiter}");
    assert!(rest.contains("-01'*/ UPDATE products SET"), "{waiter}");
}

#[test]
fn statements_are_marked_for_sampled_requests_alone_and_not_when_switched_off() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let runtime = runtime();
    let mut observer = runtime
        .block_on(PgConnection::connect(&postgres.url()))
        .expect("connected");
    let mut marked = |variable: (&str, &str)| {
        let app = App::with(&[("DATABASE_URL", &postgres.url()), variable]);
        for _ in 0..3 {
            assert_eq!(app.get("/demo/work").status, 200);
        }
        let sessions = sqlx::query_as::<_, (i64, i64)>(
            "SELECT count(*), count(*) FILTER (WHERE query LIKE '%traceparent=%') FROM pg_stat_activity \
             WHERE application_name = 'signalbox' AND query LIKE '%FROM orders%'",
        );
        runtime
            .block_on(sessions.fetch_one(&mut observer))
            .expect("counts")
    };
    let (sessions, with_comment) = marked(("SIGNALBOX_DATABASE_COMMENTS", "true"));
    assert!(
        sessions > 0 && with_comment == sessions,
        "{with_comment} of {sessions}"
    );
    for off in [
        ("SIGNALBOX_DATABASE_COMMENTS", "false"),
        ("OTEL_TRACES_SAMPLER", "always_off"),
    ] {
        let (sessions, with_comment) = marked(off);
        assert!(
            sessions > 0 && with_comment == 0,
            "{off:?}: {with_comment} of {sessions}"
        );
    }
}
