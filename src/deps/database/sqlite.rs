//! SQLite: a file beside the process, no server. WAL lets readers go on while one connection writes.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::TryStreamExt;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions};

use super::comments::Comments;
use super::orders::{Product, RecentOrder};
use super::queries::queries;
use super::statements::{self, Statement, Text};
use crate::settings;

/// How long the check of whether writes are taken waits for another writer.
pub const CHECK_BUSY_TIMEOUT: Duration = Duration::from_millis(100);

/// Bytes of a page, as SQLite itself begins a file.
const PAGE_BYTES: u32 = 4096;

/// Options of every connection. Makes the directory of the file.
pub fn options(settings: &settings::Database) -> Result<SqliteConnectOptions, sqlx::Error> {
    let mut options = SqliteConnectOptions::from_str(settings.url.expose())?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // With WAL this loses at most the last transactions on a power cut, and never consistency.
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(settings.statement_timeout)
        .disable_statement_logging();
    if let Some(mebibytes) = settings.max_mb {
        let pages = u64::from(mebibytes) * 1024 * 1024 / u64::from(PAGE_BYTES);
        options = options
            .page_size(PAGE_BYTES)
            .pragma("max_page_count", pages.to_string());
    }
    if let Some(directory) = options.get_filename().parent() {
        std::fs::create_dir_all(directory)?;
    }
    Ok(options)
}

/// SQLite cannot sleep. It counts until the clock says so: `now` is read anew for each row that is stepped to, and the
/// modifier that changes nothing keeps the planner from reading it only once.
const SLOW: Statement = Statement {
    text: Text::of_one(
        "WITH RECURSIVE tick(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM tick \
           WHERE unixepoch('now', 'subsec', (n - n) || ' days') * 1000 < $1) \
           SELECT (WITH RECURSIVE count(i) AS (SELECT n UNION ALL SELECT i + 1 FROM count WHERE i < n + 2000) \
           SELECT max(i) FROM count) FROM tick",
    ),
    operation: "SELECT",
    collection: None,
    summary: "SELECT",
};

async fn run_slow(
    connection: &mut SqliteConnection,
    comments: Comments,
    millis: u32,
) -> sqlx::Result<()> {
    let (text, persistent) = comments.mark(SLOW.text.numbered);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let until = i64::try_from(now.as_millis()).unwrap_or(i64::MAX) + i64::from(millis);
    let mut rows = sqlx::query(text)
        .bind(until)
        .persistent(persistent)
        .fetch(connection);
    while rows.try_next().await?.is_some() {}
    Ok(())
}

/// How SQLite goes about a statement, one step a line, indented below what it is a step of. `None` where there is nothing
/// to plan. <https://www.sqlite.org/eqp.html>
pub async fn plan(connection: &mut SqliteConnection, statement: &Statement) -> Option<String> {
    let explain = format!("EXPLAIN QUERY PLAN {}", statement.text.numbered);
    // Parameters that are not bound are NULL, which changes nothing in the plan.
    let steps: Vec<(i64, i64, i64, String)> = sqlx::query_as(AssertSqlSafe(explain))
        .persistent(false)
        .fetch_all(connection)
        .await
        .ok()?;
    let mut depths = HashMap::new();
    let mut lines = Vec::with_capacity(steps.len());
    for (id, parent, _, detail) in steps {
        let depth = depths.get(&parent).map_or(0, |depth| depth + 1);
        depths.insert(id, depth);
        lines.push(format!("{}{detail}", "  ".repeat(depth)));
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

queries!(SqliteConnection, numbered, SLOW, run_slow);
