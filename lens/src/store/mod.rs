//! The store: one SQLite file, one writer, a few readers, each signal bounded.

/// Has a struct read from a row, each field from the column of its name. sqlx's derive would do the same, and have sqlx compiled
/// once more, for the compiler's own use.
macro_rules! from_row {
    ($name:ident: $($field:ident),+) => {
        impl sqlx::FromRow<'_, sqlx::sqlite::SqliteRow> for $name {
            fn from_row(row: &sqlx::sqlite::SqliteRow) -> sqlx::Result<Self> {
                Ok(Self { $($field: sqlx::Row::try_get(row, stringify!($field))?),+ })
            }
        }
    };
}

mod known;
pub mod logs;
pub mod metrics;
pub mod origins;
pub mod profiles;
pub mod traces;
mod writer;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use actix_web::web;
use futures_util::{Stream, StreamExt};
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions, QueryBuilder, Sqlite, SqliteConnection, SqlitePool};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::problem::Problem;
use crate::settings::{Bound, Bounds};
pub use writer::{Job, Rows};

/// The file's name carries the version of `schema.sql`: a lens of another version starts with a file of its own.
const FILE: &str = "lens-4.db";
/// Batches that may wait for the writer; beyond that a sender waits, and after [`PATIENCE`] is told to come back.
const QUEUE: usize = 32;
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of records that one answer is made of: no question brings the whole store into memory.
pub const ANSWER_BYTES: usize = 32 * 1024 * 1024;
/// The latest time there is, in the year 2116, and the longest duration: sums and differences of two of them fit.
pub const LATEST_NS: i64 = i64::MAX / 2;

/// A time of OTLP as lens counts with it; one that is later than [`LATEST_NS`] becomes that.
pub fn time_ns(unix_nano: u64) -> i64 {
    i64::try_from(unix_nano).map_or(LATEST_NS, |time| time.min(LATEST_NS))
}

/// Does what takes long on a thread of its own, so that those that serve requests go on serving.
pub async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    web::block(work).await.map_err(|_| Problem::Busy)
}

/// The first rows that are [`ANSWER_BYTES`] together, at least one, and whether that left any out.
async fn first_of<T>(
    rows: impl Stream<Item = sqlx::Result<T>>,
    bytes: impl Fn(&T) -> usize,
) -> sqlx::Result<(Vec<T>, bool)> {
    let mut rows = std::pin::pin!(rows);
    let (mut kept, mut sum) = (Vec::new(), 0);
    while let Some(row) = rows.next().await.transpose()? {
        sum += bytes(&row);
        if sum > ANSWER_BYTES && !kept.is_empty() {
            return Ok((kept, true));
        }
        kept.push(row);
    }
    Ok((kept, false))
}

/// Rows of one INSERT, at most: a batch costs a few statements and not hundreds. They begin with `INSERT OR FAIL`: the transaction is given up when one
/// fails, and so SQLite need not keep what the pages were before the statement.
const ROWS_A_STATEMENT: usize = 128;

/// The rows in pieces of [`ROWS_A_STATEMENT`] or a smaller power of two. A statement is prepared for one number of rows: eight numbers, and all stay so.
fn pieces<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = 1 << rows.len().checked_ilog2()?;
        let (piece, rest) = rows.split_at(ROWS_A_STATEMENT.min(size));
        rows = rest;
        Some(piece)
    })
}

/// A statement that inserts so many rows, their columns yet to be bound. `begin` ends with the columns' names, `end` stands behind the values.
fn insertion<'q>(begin: &str, rows: usize, end: &str) -> Query<'q, Sqlite, SqliteArguments> {
    let columns = vec!["?"; begin.matches(',').count() + 1].join(",");
    let values = vec![format!("({columns})"); rows].join(",");
    sqlx::query(AssertSqlSafe(format!("{begin} VALUES {values}{end}")))
}

/// Attributes and texts that a span or record must have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// Each somewhere in the texts or attributes, in any case; a part of a word is enough.
    pub words: Vec<String>,
    /// Name and value of attributes, of the row or of the resource it came from.
    pub fields: Vec<(String, String)>,
}

impl Search {
    pub fn is_empty(&self) -> bool {
        self.words.is_empty() && self.fields.is_empty()
    }

    /// Adds the conditions on the rows of a table, which has the name `row` in the query.
    fn push(&self, query: &mut QueryBuilder<Sqlite>, row: &str) {
        for word in &self.words {
            query
                .push(format!(" AND instr({row}.text, "))
                .push_bind(word.replace('\0', " ").to_lowercase())
                .push(") > 0");
        }
        for (key, value) in &self.fields {
            let line = crate::attributes::searched_line(key, value);
            query
                .push(format!(" AND (instr({row}.text, "))
                .push_bind(line.clone())
                .push(format!(
                    ") > 0 OR {row}.origin IN (SELECT id FROM origins WHERE instr(text, "
                ))
                .push_bind(line)
                .push(") > 0))");
        }
    }
}

/// Adds the conditions `sql = text` of the texts that are not empty.
fn push_equal(query: &mut QueryBuilder<Sqlite>, conditions: &[(&str, &str)]) {
    for (sql, text) in conditions.iter().filter(|(_, text)| !text.is_empty()) {
        query
            .push(format!(" AND {sql} = "))
            .push_bind((*text).to_owned());
    }
}

/// Adds the conditions of the bounds that there are; each text ends with its comparison.
fn push_bounds(query: &mut QueryBuilder<Sqlite>, conditions: &[(&str, Option<i64>)]) {
    for (sql, bound) in conditions {
        if let Some(bound) = bound {
            query.push(format!(" AND {sql} ")).push_bind(*bound);
        }
    }
}

/// The four signals, in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Traces,
    Logs,
    Metrics,
    Profiles,
}

impl Signal {
    pub const ALL: [Self; 4] = [Self::Traces, Self::Logs, Self::Metrics, Self::Profiles];

    /// Plural of what is counted.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Traces => "spans",
            Self::Logs => "records",
            Self::Metrics => "points",
            Self::Profiles => "profiles",
        }
    }
}

/// What one signal holds now.
#[derive(Debug, Default)]
pub struct Meter {
    rows: AtomicU64,
    bytes: AtomicU64,
    /// Rows ever received by this process.
    received: AtomicU64,
    /// Rows this process let go to stay within the bound.
    evicted: AtomicU64,
    /// Goes up with each commit: pages that nothing has happened to need not be sent again.
    revision: AtomicU64,
}

/// A reading of one [`Meter`].
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub rows: u64,
    pub bytes: u64,
    pub received: u64,
    pub evicted: u64,
    pub bound: Bound,
}

/// Handle to the store; clones share it.
#[derive(Clone)]
pub struct Store {
    pub pool: SqlitePool,
    jobs: mpsc::Sender<Job>,
    meters: Arc<[Meter; 4]>,
    bounds: Bounds,
    /// Held as long as the store lives, so that a second lens on the same directory fails instead of counting wrongly.
    _lock: Arc<File>,
}

/// The end of a store.
pub struct Closing {
    pool: SqlitePool,
    stop: Arc<Notify>,
    writer: JoinHandle<()>,
}

impl Closing {
    /// Stores what waits, takes no more, folds the write-ahead log into the file and closes all connections. Takes a few seconds at most.
    pub async fn close(self) {
        let closed = async {
            self.pool.close().await;
            self.stop.notify_one();
            self.writer.await
        };
        let _ = tokio::time::timeout(PATIENCE, closed).await;
    }
}

/// The store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot use the data directory {0}: {1}")]
    Directory(String, std::io::Error),
    #[error("another lens is using the data directory {0}; LENS_DATA_DIR names a different one")]
    InUse(String),
    #[error("cannot open the database: {0}")]
    Database(#[from] sqlx::Error),
}

impl Store {
    /// Opens or creates the store and starts its writer on the current runtime.
    pub async fn open(directory: &Path, bounds: Bounds) -> Result<(Self, Closing), OpenError> {
        Self::open_limited(directory, bounds, None).await
    }

    /// With a database of at most so many pages, which fails as a full disk does.
    async fn open_limited(
        directory: &Path,
        bounds: Bounds,
        max_pages: Option<u32>,
    ) -> Result<(Self, Closing), OpenError> {
        let shown = directory.display().to_string();
        let unusable = |error| OpenError::Directory(shown.clone(), error);
        std::fs::create_dir_all(directory).map_err(unusable)?;
        let lock = File::create(directory.join("lock")).map_err(unusable)?;
        lock.try_lock()
            .map_err(|_| OpenError::InUse(shown.clone()))?;

        let mut options = SqliteConnectOptions::new()
            .filename(directory.join(FILE))
            .create_if_missing(true)
            // A page is written and read with one call each, and at a commit SQLite may go through all that are in memory: larger ones are fewer.
            .page_size(16_384)
            .journal_mode(SqliteJournalMode::Wal)
            // A crash of the machine may lose the last moments, a crash of lens nothing.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(5))
            .pragma("journal_size_limit", "67108864")
            // The indexes of ids are written all over: with the default of 2 MB most of what is written is read again first.
            .pragma("cache_size", "-8000")
            .pragma("wal_autocheckpoint", "4000")
            // What a statement may have to take back; readers, who may sort a whole table, have files.
            .pragma("temp_store", "MEMORY")
            .row_buffer_size(1000)
            .disable_statement_logging();
        if let Some(pages) = max_pages {
            options = options.pragma("max_page_count", pages.to_string());
        }
        let mut connection = options.connect().await?;
        sqlx::raw_sql(include_str!("schema.sql"))
            .execute(&mut connection)
            .await?;
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(
                options
                    .clone()
                    .read_only(true)
                    .pragma("cache_size", "-2000")
                    .pragma("temp_store", "FILE"),
            )
            .await?;

        let meters: Arc<[Meter; 4]> = Arc::default();
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = writer::Writer::open(options, connection, meters.clone(), bounds).await?;
        let stop = Arc::new(Notify::new());
        let closing = Closing {
            pool: pool.clone(),
            stop: stop.clone(),
            writer: tokio::spawn(writer.run(queue, stop)),
        };
        let store = Self {
            pool,
            jobs,
            meters,
            bounds,
            _lock: Arc::new(lock),
        };
        Ok((store, closing))
    }

    /// Stores the rows; what is answered is committed, and can be read at once.
    pub async fn write(&self, origins: Vec<origins::OriginRow>, rows: Rows) -> Result<(), Problem> {
        let (done, answer) = oneshot::channel();
        self.jobs
            .send_timeout(
                Job {
                    origins,
                    rows,
                    done,
                },
                PATIENCE,
            )
            .await
            .map_err(|_| Problem::Busy)?;
        answer
            .await
            .map_err(|_| Problem::Busy)?
            .map_err(Problem::Store)
    }

    /// Whether rows can be stored now: writes some bytes and deletes them.
    ///
    /// # Errors
    /// Why not: the disk is full, the file cannot be written, or too much is waiting.
    pub async fn ready(&self) -> Result<(), Problem> {
        self.write(Vec::new(), Rows::Probe).await
    }

    pub fn usage(&self, signal: Signal) -> Usage {
        let meter = &self.meters[signal as usize];
        Usage {
            rows: meter.rows.load(Relaxed),
            bytes: meter.bytes.load(Relaxed),
            received: meter.received.load(Relaxed),
            evicted: meter.evicted.load(Relaxed),
            bound: self.bounds.of(signal),
        }
    }

    /// Id, origin (of a point: series) and body of the rows behind an id whose time is in the range, in the order of their arrival.
    pub async fn rows_after(
        &self,
        signal: Signal,
        id: i64,
        (from_ns, to_ns): (i64, i64),
        limit: u32,
    ) -> sqlx::Result<Vec<(i64, i64, Vec<u8>)>> {
        let sql = match signal {
            Signal::Traces => {
                "SELECT id, origin, body FROM spans WHERE id > ? AND start_ns BETWEEN ? AND ? ORDER BY id LIMIT ?"
            }
            Signal::Logs => {
                "SELECT id, origin, body FROM logs WHERE id > ? AND time_ns BETWEEN ? AND ? ORDER BY id LIMIT ?"
            }
            Signal::Metrics => {
                "SELECT id, series, body FROM points WHERE id > ? AND time_ns BETWEEN ? AND ? ORDER BY id LIMIT ?"
            }
            Signal::Profiles => return Ok(Vec::new()),
        };
        sqlx::query_as(sql)
            .bind(id)
            .bind(from_ns)
            .bind(to_ns)
            .bind(limit)
            .fetch_all(&self.pool)
            .await
    }

    /// Time of the oldest row of a signal that is kept, in nanoseconds since 1970.
    pub async fn kept_since(&self, signal: Signal) -> sqlx::Result<Option<i64>> {
        let sql = match signal {
            Signal::Traces => "SELECT min(start_ns) FROM traces",
            Signal::Logs => "SELECT min(time_ns) FROM logs",
            Signal::Metrics => "SELECT (SELECT time_ns FROM points ORDER BY id LIMIT 1)",
            Signal::Profiles => "SELECT min(time_ns) FROM profiles",
        };
        sqlx::query_scalar(sql).fetch_one(&self.pool).await
    }

    /// Goes up whenever one of the signals changes.
    pub fn revision(&self, signals: &[Signal]) -> u64 {
        signals
            .iter()
            .map(|signal| self.meters[*signal as usize].revision.load(Relaxed))
            .sum()
    }
}

impl Bounds {
    fn of(&self, signal: Signal) -> Bound {
        match signal {
            Signal::Traces => self.spans,
            Signal::Logs => self.logs,
            Signal::Metrics => self.points,
            Signal::Profiles => self.profiles,
        }
    }
}

/// Rows and bytes that a change added or took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub rows: u64,
    pub bytes: u64,
}

/// Lets the oldest rows of a table go.
async fn evict_oldest(
    connection: &mut SqliteConnection,
    table: &str,
    rows: u64,
) -> sqlx::Result<Amount> {
    let (last, rows, bytes): (i64, i64, i64) = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT coalesce(max(id), 0), count(*), coalesce(sum(size), 0) FROM (SELECT id, size FROM {table} ORDER BY id LIMIT ?)"
    )))
    .bind(rows as i64)
    .fetch_one(&mut *connection)
    .await?;
    let sql = AssertSqlSafe(format!("DELETE FROM {table} WHERE id <= ?"));
    sqlx::query(sql).bind(last).execute(connection).await?;
    Ok(Amount {
        rows: rows as u64,
        bytes: bytes as u64,
    })
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::logs::v1::LogRecord;

    use super::*;
    use crate::settings::Settings;

    fn records(count: usize) -> Rows {
        let record = LogRecord {
            event_name: "x".repeat(4000),
            ..LogRecord::default()
        };
        Rows::Logs(
            (0..count)
                .map(|_| logs::LogRow::new(0, &"s".into(), &record, 1))
                .collect(),
        )
    }

    fn origin() -> Vec<origins::OriginRow> {
        vec![(&origins::Origin::default()).into()]
    }

    #[actix_web::test]
    async fn what_is_refused_by_a_full_database_is_said_and_what_comes_after_is_stored() {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, _) =
            Store::open_limited(directory.path(), Settings::default().bounds, Some(200))
                .await
                .expect("a store");
        store.ready().await.expect("room");
        let mut acknowledged = 0;
        while store.write(origin(), records(10)).await.is_ok() {
            acknowledged += 10;
            assert!(acknowledged < 10_000, "the bound of pages is not kept");
        }
        for _ in 0..3 {
            assert!(matches!(
                store.write(origin(), records(10)).await,
                Err(Problem::Store(_))
            ));
            assert!(store.ready().await.is_err(), "readiness says so too");
        }
        let stored = "SELECT count(*) FROM logs";
        let count: i64 = sqlx::query_scalar(stored)
            .fetch_one(&store.pool)
            .await
            .expect("a count");
        assert_eq!(
            count, acknowledged,
            "all that was acknowledged, and nothing else"
        );

        // Somebody makes room.
        let mut other = SqliteConnectOptions::new()
            .filename(directory.path().join(FILE))
            .connect()
            .await
            .expect("the file");
        let deleted = "DELETE FROM logs WHERE id > 20";
        sqlx::query(deleted)
            .execute(&mut other)
            .await
            .expect("room");
        store.ready().await.expect("room again");
        store.write(origin(), records(10)).await.expect("stored");
        let count: i64 = sqlx::query_scalar(stored)
            .fetch_one(&mut other)
            .await
            .expect("a count");
        assert_eq!(count, 30, "what was acknowledged is there for others too");
    }
}
