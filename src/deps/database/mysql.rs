//! MySQL or MariaDB, by `mysql://` URL. Which of the two answers is asked once, because signals name them differently
//! and each has its own way of ending statements that take too long.

use std::str::FromStr;
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use super::comments::Comments;
use super::orders::{Product, RecentOrder};
use super::queries::queries;
use super::statements::{self, Statement, Text};
use crate::settings;

/// Options of every connection.
pub fn options(settings: &settings::Database) -> Result<MySqlConnectOptions, sqlx::Error> {
    let options = MySqlConnectOptions::from_str(settings.url.expose())?;
    Ok(options.disable_statement_logging())
}

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    MySql,
    MariaDb,
}

impl Server {
    /// Asks the server.
    pub async fn of(options: &MySqlConnectOptions) -> sqlx::Result<Self> {
        let mut connection = options.connect().await?;
        let version: String = sqlx::query_scalar("SELECT VERSION()")
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        Ok(if version.contains("MariaDB") {
            Self::MariaDb
        } else {
            Self::MySql
        })
    }

    /// Bounds what a session may do. It is a little more than `timeout`, after which nobody waits for the answer: MySQL ends
    /// `SLEEP` as if it had slept enough. Only MariaDB bounds statements that write; a wait for a row is bounded by both.
    pub async fn limit(self, session: &mut MySqlConnection, timeout: Duration) -> sqlx::Result<()> {
        let limit = timeout + Duration::from_millis(100);
        let statement = match self {
            Self::MySql => format!("max_execution_time = {}", limit.as_millis()),
            Self::MariaDb => format!("max_statement_time = {}", limit.as_secs_f64()),
        };
        let wait = limit.as_secs() + 1;
        let set = format!("SET SESSION {statement}, SESSION innodb_lock_wait_timeout = {wait}");
        sqlx::raw_sql(AssertSqlSafe(set))
            .execute(session)
            .await
            .map(drop)
    }
}

const SLOW: Statement = Statement {
    text: Text::of_one("SELECT SLEEP(?)"),
    operation: "SELECT",
    collection: None,
    summary: "SELECT",
};

async fn run_slow(
    connection: &mut MySqlConnection,
    comments: Comments,
    millis: u32,
) -> sqlx::Result<()> {
    let (text, persistent) = comments.mark(SLOW.text.positional);
    let query = sqlx::query(text).bind(f64::from(millis) / 1000.0);
    query
        .persistent(persistent)
        .execute(connection)
        .await
        .map(drop)
}

queries!(MySqlConnection, positional, SLOW, run_slow);
