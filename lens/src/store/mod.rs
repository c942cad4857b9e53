//! The store: one SQLite file, one writer, a few readers, each signal bounded.

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
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqlitePool};
use tokio::sync::{mpsc, oneshot};

use crate::problem::Problem;
use crate::settings::{Bound, Bounds};
pub use writer::{Job, Rows};

/// The file's name carries the version of `schema.sql`: a lens of another version starts with a file of its own.
const FILE: &str = "lens-1.db";
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
    pub async fn open(directory: &Path, bounds: Bounds) -> Result<Self, OpenError> {
        let shown = directory.display().to_string();
        let unusable = |error| OpenError::Directory(shown.clone(), error);
        std::fs::create_dir_all(directory).map_err(unusable)?;
        let lock = File::create(directory.join("lock")).map_err(unusable)?;
        lock.try_lock()
            .map_err(|_| OpenError::InUse(shown.clone()))?;

        let options = SqliteConnectOptions::new()
            .filename(directory.join(FILE))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A crash of the machine may lose the last moments, a crash of lens nothing.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(5))
            .pragma("journal_size_limit", "67108864")
            .disable_statement_logging();
        let mut connection = options.connect().await?;
        sqlx::raw_sql(include_str!("schema.sql"))
            .execute(&mut connection)
            .await?;
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(options.read_only(true))
            .await?;

        let meters: Arc<[Meter; 4]> = Arc::default();
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = writer::Writer::open(connection, meters.clone(), bounds).await?;
        tokio::spawn(writer.run(queue));
        Ok(Self {
            pool,
            jobs,
            meters,
            bounds,
            _lock: Arc::new(lock),
        })
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

impl Amount {
    fn of(sizes: &[i64]) -> Self {
        Self {
            rows: sizes.len() as u64,
            bytes: sizes.iter().map(|size| *size as u64).sum(),
        }
    }
}
