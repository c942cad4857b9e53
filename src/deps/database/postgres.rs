//! PostgreSQL, by `postgres://` URL.

use std::str::FromStr;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use super::queries::queries;
use super::statements::{self, Statement, Text};
use super::{Product, RecentOrder};
use crate::settings;

/// Options of every connection. The server itself ends statements that take too long.
pub fn options(settings: &settings::Database) -> Result<PgConnectOptions, sqlx::Error> {
    let timeout = settings.statement_timeout.as_millis().to_string();
    Ok(PgConnectOptions::from_str(&settings.url)?
        .application_name("signalbox")
        .options([("statement_timeout", timeout)])
        .disable_statement_logging())
}

const SLOW: Statement = Statement {
    text: Text::of_one("SELECT pg_sleep($1)"),
    operation: "SELECT",
    collection: None,
    summary: "SELECT",
};

async fn run_slow(connection: &mut PgConnection, millis: u32) -> sqlx::Result<()> {
    let query = sqlx::query(SLOW.text.numbered).bind(f64::from(millis) / 1000.0);
    query.execute(connection).await.map(drop)
}

queries!(PgConnection, numbered, SLOW, run_slow);
