//! Whether the database takes writes: readiness asks by writing.
//!
//! A database can answer every question and take no order: its disk is full, its file read-only, it is a standby. So the
//! check writes a few pages and deletes them in one transaction, on a connection of its own: a pool that is in use is no
//! reason, and the check costs no request its connection.

use std::sync::Mutex as StdMutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use sqlx::{ConnectOptions, Connection, Database};
use tokio::sync::Mutex;

use super::failure::Class;
use super::queries::Queries;

/// Bytes that a check writes: enough for SQLite to need pages beyond those in use, as an order does.
const BYTES: usize = 16 * 1024;

/// Bytes it writes after a write for which no room was left: more than may be found in half-empty pages.
const BYTES_IN_DOUBT: usize = 128 * 1024;

/// Checks one database.
pub struct WriteCheck<DB: Database> {
    options: <DB::Connection as Connection>::Options,
    /// Taken out while it is used: after a failed check, or one that was given up, the next begins with a new one.
    connection: Mutex<Option<DB::Connection>>,
    /// The last write for which there was room or not.
    in_doubt: AtomicBool,
    /// Since when others hold the lock that a check would need (SQLite).
    busy_since: StdMutex<Option<Instant>>,
    /// How long others may hold it before no order gets through either.
    busy_timeout: Duration,
}

impl<DB: Database> WriteCheck<DB>
where
    DB::Connection: Queries,
{
    /// Connects at its first check.
    pub fn new(options: <DB::Connection as Connection>::Options, busy_timeout: Duration) -> Self {
        Self {
            options,
            connection: Mutex::new(None),
            in_doubt: AtomicBool::new(false),
            busy_since: StdMutex::new(None),
            busy_timeout,
        }
    }

    /// Takes note that a write failed or succeeded: after one without room the check asks for more of it.
    pub fn note(&self, failed: Option<Class>) {
        self.in_doubt
            .store(matches!(failed, Some(Class::Full)), Relaxed);
    }

    /// Writes, and deletes what it wrote.
    pub async fn run(&self) -> sqlx::Result<()> {
        let mut slot = self.connection.lock().await;
        let in_doubt = self.in_doubt.load(Relaxed);
        // Random, so that no page is compressed away.
        let bytes = if in_doubt { BYTES_IN_DOUBT } else { BYTES };
        let body: Vec<u8> = (0..bytes).map(|_| fastrand::u8(..)).collect();
        let kept = slot.take();
        let was_kept = kept.is_some();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        let mut outcome = connection.check_write(&body).await;
        if was_kept
            && outcome
                .as_ref()
                .is_err_and(|error| Class::of(error) == Class::Away)
        {
            // It may have rested longer than the server, or what is between, kept it.
            connection = self.options.connect().await?;
            outcome = connection.check_write(&body).await;
        }
        if outcome.is_ok() {
            self.in_doubt.store(false, Relaxed);
            *slot = Some(connection);
        }
        self.unless_busy(outcome)
    }

    /// Lends the connection of the checks, which rests most of the time, to `work`. `None` while a check is using it.
    pub async fn lend<T>(
        &self,
        work: impl AsyncFnOnce(&mut DB::Connection) -> Option<T>,
    ) -> Option<T> {
        let mut slot = self.connection.try_lock().ok()?;
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => self.options.connect().await.ok()?,
        };
        let outcome = work(&mut connection).await;
        *slot = Some(connection);
        outcome
    }

    /// That somebody else writes shows that writes are taken, unless it lasts too long.
    fn unless_busy(&self, outcome: sqlx::Result<()>) -> sqlx::Result<()> {
        let busy = outcome
            .as_ref()
            .is_err_and(|error| Class::of(error) == Class::Busy);
        let mut since = self
            .busy_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !busy {
            *since = None;
            return outcome;
        }
        let since = since.get_or_insert_with(Instant::now);
        if since.elapsed() > self.busy_timeout {
            return outcome;
        }
        Ok(())
    }
}
