//! SQLite: a file beside the process, no server. WAL lets readers go on while one connection writes.

use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::TryStreamExt;
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};

use super::queries::queries;
use super::statements::{self, Statement, Text};
use super::{Product, RecentOrder};
use crate::settings;

/// Options of every connection. Makes the directory of the file.
pub fn options(settings: &settings::Database) -> Result<SqliteConnectOptions, sqlx::Error> {
    let options = SqliteConnectOptions::from_str(&settings.url)?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // With WAL this loses at most the last transactions on a power cut, and never consistency.
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(settings.statement_timeout)
        .disable_statement_logging();
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

async fn run_slow(connection: &mut SqliteConnection, millis: u32) -> sqlx::Result<()> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let until = i64::try_from(now.as_millis()).unwrap_or(i64::MAX) + i64::from(millis);
    let mut rows = sqlx::query(SLOW.text.numbered)
        .bind(until)
        .fetch(connection);
    while rows.try_next().await?.is_some() {}
    Ok(())
}

queries!(SqliteConnection, numbered, SLOW, run_slow);
