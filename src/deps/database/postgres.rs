//! PostgreSQL, by `postgres://` URL.

use std::str::FromStr;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tracing::subscriber::NoSubscriber;

use super::comments::Comments;
use super::orders::{Product, RecentOrder};
use super::queries::queries;
use super::statements::{self, Statement, Text};
use crate::settings;

/// Options of every connection. The server itself ends statements that take too long.
pub fn options(settings: &settings::Database) -> Result<PgConnectOptions, sqlx::Error> {
    let timeout = settings.statement_timeout.as_millis().to_string();
    // sqlx repeats parameters of the URL that it does not know in a warning, with their values.
    let options = tracing::subscriber::with_default(NoSubscriber::new(), || {
        PgConnectOptions::from_str(settings.url.expose())
    });
    Ok(options?
        .application_name("signalbox")
        .options([("statement_timeout", timeout)])
        .disable_statement_logging())
}

/// Options of the connection that checks whether writes are taken. What it writes is deleted at once, so nobody waits
/// until it is on the disk.
pub fn check_options(options: PgConnectOptions) -> PgConnectOptions {
    options.options([("synchronous_commit", "off")])
}

const SLOW: Statement = Statement {
    text: Text::of_one("SELECT pg_sleep($1)"),
    operation: "SELECT",
    collection: None,
    summary: "SELECT",
};

async fn run_slow(
    connection: &mut PgConnection,
    comments: Comments,
    millis: u32,
) -> sqlx::Result<()> {
    let (text, persistent) = comments.mark(SLOW.text.numbered);
    let query = sqlx::query(text).bind(f64::from(millis) / 1000.0);
    query
        .persistent(persistent)
        .execute(connection)
        .await
        .map(drop)
}

queries!(PgConnection, numbered, SLOW, run_slow);
