//! The one writer: takes what waits, stores it in one transaction, lets the oldest go, answers.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};
use tokio::sync::{Notify, mpsc, oneshot};

use super::known::Known;
use super::origins::OriginRow;
use super::{Amount, Meter, Signal, evict_oldest, logs, metrics, origins, profiles, traces};
use crate::settings::{Bound, Bounds};

/// Jobs stored in one transaction: enough to share its cost, few enough to answer soon.
const JOBS_A_TRANSACTION: usize = 16;
/// New origins after which those that no row uses any more are looked for.
const ORIGINS_A_SWEEP: usize = 256;

/// The least that is let go at once is this part of the bound: indexes of random ids have few pages for many rows then.
const SHARE_LET_GO: u64 = 50;

/// What a probe writes: several pages, so that it fails where the rows of a usual request would.
const PROBE_BYTES: i64 = 64 * 1024;

/// Rows of one request and whom to answer.
pub struct Job {
    /// What the rows' `origin` counts into.
    pub origins: Vec<OriginRow>,
    pub rows: Rows,
    pub done: oneshot::Sender<sqlx::Result<()>>,
}

/// Rows of one signal, or none: [`PROBE_BYTES`] are then written and deleted again, to find out whether that can be done.
pub enum Rows {
    Probe,
    Spans(Vec<traces::SpanRow>),
    Logs(Vec<logs::LogRow>),
    Points(Vec<metrics::PointRow>),
    Profiles(Vec<profiles::ProfileRow>),
}

impl Rows {
    pub fn len(&self) -> usize {
        match self {
            Self::Probe => 0,
            Self::Spans(rows) => rows.len(),
            Self::Logs(rows) => rows.len(),
            Self::Points(rows) => rows.len(),
            Self::Profiles(rows) => rows.len(),
        }
    }

    fn signal(&self) -> Option<Signal> {
        match self {
            Self::Probe => None,
            Self::Spans(_) => Some(Signal::Traces),
            Self::Logs(_) => Some(Signal::Logs),
            Self::Points(_) => Some(Signal::Metrics),
            Self::Profiles(_) => Some(Signal::Profiles),
        }
    }
}

pub struct Writer {
    options: SqliteConnectOptions,
    /// `None` after a transaction failed. SQLite may have rolled back by itself then, on a full disk for one, which sqlx does not know: it would
    /// go on with savepoints inside a transaction that never ends.
    connection: Option<SqliteConnection>,
    meters: Arc<[Meter; 4]>,
    bounds: Bounds,
    known: Known,
    new_origins: usize,
}

/// What a transaction changed in one signal.
#[derive(Clone, Copy, Default)]
struct Change {
    added: Amount,
    evicted: Amount,
}

impl Writer {
    /// Counts what an earlier run left.
    pub async fn open(
        options: SqliteConnectOptions,
        mut connection: SqliteConnection,
        meters: Arc<[Meter; 4]>,
        bounds: Bounds,
    ) -> sqlx::Result<Self> {
        for (signal, sql) in [
            (
                Signal::Traces,
                "SELECT count(*), coalesce(sum(size), 0) FROM spans",
            ),
            (
                Signal::Logs,
                "SELECT count(*), coalesce(sum(size), 0) FROM logs",
            ),
            (
                Signal::Metrics,
                "SELECT count(*), coalesce(sum(size), 0) FROM points",
            ),
            (
                Signal::Profiles,
                "SELECT count(*), coalesce(sum(size), 0) FROM profiles",
            ),
        ] {
            let (rows, bytes): (i64, i64) = sqlx::query_as(sql).fetch_one(&mut connection).await?;
            meters[signal as usize].rows.store(rows as u64, Relaxed);
            meters[signal as usize].bytes.store(bytes as u64, Relaxed);
        }
        let of_series: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT coalesce(sum({}), 0) FROM series",
            metrics::SERIES_BYTES
        )))
        .fetch_one(&mut connection)
        .await?;
        meters[Signal::Metrics as usize]
            .bytes
            .fetch_add(of_series as u64, Relaxed);
        Ok(Self {
            options,
            connection: Some(connection),
            meters,
            bounds,
            known: Known::default(),
            new_origins: 0,
        })
    }

    /// Runs until it is told to `stop` and has stored what waits.
    pub async fn run(mut self, mut queue: mpsc::Receiver<Job>, stop: Arc<Notify>) {
        let mut jobs = Vec::with_capacity(JOBS_A_TRANSACTION);
        loop {
            tokio::select! {
                taken = queue.recv_many(&mut jobs, JOBS_A_TRANSACTION) => {
                    if taken == 0 {
                        break;
                    }
                }
                () = stop.notified() => {
                    queue.close();
                    continue;
                }
            }
            if let Err(error) = self.store(&jobs).await {
                self.known = Known::default();
                if jobs.len() > 1 {
                    // One bad job must not take its neighbours with it.
                    for job in jobs.drain(..) {
                        let outcome = self.store(std::slice::from_ref(&job)).await;
                        self.answer(job, outcome);
                    }
                    continue;
                }
                jobs.drain(..).for_each(|job| {
                    self.answer(job, Err(sqlx::Error::Protocol(error.to_string())))
                });
            } else {
                jobs.drain(..).for_each(|job| self.answer(job, Ok(())));
            }
        }
        // Folds the write-ahead log into the file; what these say is of no use to anyone now.
        if let Some(mut connection) = self.connection {
            let fold = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)");
            let _ = fold.execute(&mut connection).await;
            let _ = connection.close().await;
        }
    }

    fn answer(&mut self, job: Job, outcome: sqlx::Result<()>) {
        if outcome.is_err() {
            self.known = Known::default();
        }
        // A sender that went away needs no answer.
        let _ = job.done.send(outcome);
    }

    /// Stores the jobs in one transaction, all or none.
    async fn store(&mut self, jobs: &[Job]) -> sqlx::Result<()> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        match self.store_with(&mut connection, jobs).await {
            Ok(()) => {
                self.connection = Some(connection);
                Ok(())
            }
            Err(error) => {
                // The error that counts is the first one.
                let _ = connection.close_hard().await;
                Err(error)
            }
        }
    }

    async fn store_with(
        &mut self,
        connection: &mut SqliteConnection,
        jobs: &[Job],
    ) -> sqlx::Result<()> {
        let mut changes = [Change::default(); 4];
        let mut transaction = connection.begin().await?;
        let mut new_origins = self.new_origins;
        for job in jobs {
            let mut ids = Vec::with_capacity(job.origins.len());
            for origin in &job.origins {
                let (id, new) =
                    origins::intern(&mut transaction, &mut self.known.origins, origin).await?;
                new_origins += usize::from(new);
                ids.push(id);
            }
            let added = match &job.rows {
                Rows::Probe => {
                    sqlx::query("INSERT INTO probe VALUES (zeroblob(?))")
                        .bind(PROBE_BYTES)
                        .execute(&mut *transaction)
                        .await?;
                    Amount::default()
                }
                Rows::Spans(rows) => traces::insert(&mut transaction, rows, &ids).await?,
                Rows::Logs(rows) => logs::insert(&mut transaction, rows, &ids).await?,
                Rows::Points(rows) => {
                    metrics::insert(&mut transaction, &mut self.known.series, rows, &ids).await?
                }
                Rows::Profiles(rows) => profiles::insert(&mut transaction, rows).await?,
            };
            if let Some(signal) = job.rows.signal() {
                let change = &mut changes[signal as usize];
                change.added.rows += added.rows;
                // A span may have taken the place of a larger one.
                change.added.bytes = change.added.bytes.wrapping_add(added.bytes);
            }
        }
        for signal in Signal::ALL {
            let change = &mut changes[signal as usize];
            let meter = &self.meters[signal as usize];
            let mut rows = meter.rows.load(Relaxed) + change.added.rows;
            let mut bytes = meter.bytes.load(Relaxed).wrapping_add(change.added.bytes);
            while let Some(oldest) = surplus(rows, bytes, self.bounds.of(signal)) {
                let gone = match signal {
                    Signal::Traces => traces::evict(&mut transaction, oldest).await?,
                    Signal::Logs => evict_oldest(&mut transaction, "logs", oldest).await?,
                    Signal::Metrics => {
                        metrics::evict(&mut transaction, &mut self.known.series, oldest).await?
                    }
                    Signal::Profiles => profiles::evict(&mut transaction, oldest).await?,
                };
                if gone.rows == 0 {
                    break;
                }
                rows = rows.saturating_sub(gone.rows);
                bytes = bytes.saturating_sub(gone.bytes);
                change.evicted.rows += gone.rows;
                change.evicted.bytes += gone.bytes;
            }
        }
        if new_origins >= ORIGINS_A_SWEEP {
            origins::sweep(&mut transaction).await?;
            self.known.origins.clear();
            new_origins = 0;
        }
        transaction.commit().await?;
        if jobs.iter().any(|job| matches!(job.rows, Rows::Probe)) {
            sqlx::query("DELETE FROM probe").execute(connection).await?;
        }

        self.new_origins = new_origins;
        if self.known.is_full() {
            self.known = Known::default();
        }
        for (meter, change) in self.meters.iter().zip(changes) {
            meter
                .rows
                .fetch_add(change.added.rows.wrapping_sub(change.evicted.rows), Relaxed);
            meter.bytes.fetch_add(
                change.added.bytes.wrapping_sub(change.evicted.bytes),
                Relaxed,
            );
            meter.received.fetch_add(change.added.rows, Relaxed);
            meter.evicted.fetch_add(change.evicted.rows, Relaxed);
            meter
                .revision
                .fetch_add(u64::from(change.added.rows > 0), Relaxed);
        }
        Ok(())
    }
}

/// How many of the oldest rows must go, `None` while both bounds hold. Bytes are turned into rows by their average, so it may take a few rounds.
/// Some more go at once, so that finding them is paid for seldom.
fn surplus(rows: u64, bytes: u64, bound: Bound) -> Option<u64> {
    if rows <= bound.rows && bytes <= bound.bytes {
        return None;
    }
    let average = (bytes / rows.max(1)).max(1);
    let too_many = |is: u64, bound: u64| match is.saturating_sub(bound) {
        0 => 0,
        over => over.max(bound / SHARE_LET_GO),
    };
    let by_bytes = too_many(bytes, bound.bytes) / average;
    Some(too_many(rows, bound.rows).max(by_bytes).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whichever_bound_is_passed_decides_how_many_go() {
        let bound = Bound {
            rows: 10,
            bytes: 1000,
        };
        assert_eq!(surplus(10, 1000, bound), None);
        assert_eq!(surplus(13, 1000, bound), Some(3));
        assert_eq!(surplus(10, 1500, bound), Some(3)); // 500 bytes too many at 150 each
        assert_eq!(surplus(1, 1001, bound), Some(1));
    }
}
