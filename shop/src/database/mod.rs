//! The shop's database, SQLite. Every statement is a CLIENT span with the stable `db.*` attributes and a value of
//! `db.client.operation.duration`; waiting for a connection is `db.client.connection.wait_time` and a span of its own.

use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::metrics::{Counter, UpDownCounter};
use opentelemetry::{KeyValue, global};
use signalbox_telemetry::metrics::Histogram;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection as _, Sqlite};
use tracing::Instrument;
use tracing::field::Empty;

use crate::problem::Problem;
use crate::settings::Settings;

/// How long a request waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
const POOL: &str = "shop";

/// A statement, as its span and its metric name it.
pub struct Statement {
    pub operation: &'static str,
    pub collection: &'static str,
    /// Operation and collection.
    pub summary: &'static str,
    pub text: &'static str,
}

/// The pool and what is measured of it. Cheap to clone.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    pool: SqlitePool,
    duration: Histogram,
    wait: Histogram,
    pending: UpDownCounter<i64>,
    timeouts: Counter<u64>,
}

pub type Connection = PoolConnection<Sqlite>;

impl Database {
    /// Opens it, and makes and fills its tables when it has none.
    ///
    /// # Errors
    /// The database's own.
    pub async fn open(settings: &Settings) -> Result<Self, sqlx::Error> {
        let options = SqliteConnectOptions::from_str(settings.database.expose())?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(5))
            .disable_statement_logging(); // the spans tell more
        // Not from the pool: opening the file after another process may take longer than a request may wait.
        let mut first = options.connect().await?;
        let tables: i64 =
            sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = 'products'")
                .fetch_one(&mut first)
                .await?;
        if tables == 0 {
            let mut transaction = first.begin().await?;
            sqlx::raw_sql(include_str!("schema.sql"))
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
        }
        first.close().await?;
        let pool = SqlitePoolOptions::new()
            .max_connections(settings.connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(options);
        observe(&pool, settings.connections);
        let meter = global::meter("shop");
        let histogram = |name, what| Histogram::new(&meter, name, "s", what);
        Ok(Self(Arc::new(Inner {
            pool,
            duration: histogram(
                "db.client.operation.duration",
                "Duration of database client operations.",
            ),
            wait: histogram(
                "db.client.connection.wait_time",
                "The time it took to obtain an open connection from the pool.",
            ),
            pending: meter
                .i64_up_down_counter("db.client.connection.pending_requests")
                .with_unit("{request}")
                .build(),
            timeouts: meter
                .u64_counter("db.client.connection.timeouts")
                .with_unit("{timeout}")
                .build(),
        })))
    }

    /// A connection, given back when it is dropped.
    ///
    /// # Errors
    /// [`Problem::NoConnection`] when none becomes free in time.
    pub async fn acquire(&self) -> Result<Connection, Problem> {
        let inner = &*self.0;
        let name = [KeyValue::new("db.client.connection.pool.name", POOL)];
        let begin = Instant::now();
        inner.pending.add(1, &name);
        let span = tracing::info_span!(
            "wait for a connection",
            db.client.connection.pool.name = POOL
        );
        let acquired = inner.pool.acquire().instrument(span).await;
        inner.pending.add(-1, &name);
        match acquired {
            Err(sqlx::Error::PoolTimedOut) => {
                inner.timeouts.add(1, &name);
                Err(Problem::NoConnection)
            }
            acquired => {
                inner.wait.record(begin.elapsed().as_secs_f64(), &name);
                Ok(acquired?)
            }
        }
    }

    /// Runs a statement with its span and its metric.
    ///
    /// # Errors
    /// The database's own.
    pub async fn observed<T>(
        &self,
        statement: &'static Statement,
        work: impl Future<Output = sqlx::Result<T>>,
    ) -> Result<T, Problem> {
        let span = tracing::info_span!(
            "database call",
            otel.name = statement.summary,
            otel.kind = "client",
            otel.status_code = Empty,
            db.system.name = "sqlite",
            db.operation.name = statement.operation,
            db.collection.name = statement.collection,
            db.query.summary = statement.summary,
            db.query.text = statement.text,
        );
        let begin = Instant::now();
        let outcome = work.instrument(span.clone()).await;
        if outcome.is_err() {
            span.record("otel.status_code", "ERROR");
        }
        let attributes = [
            KeyValue::new("db.system.name", "sqlite"),
            KeyValue::new("db.operation.name", statement.operation),
            KeyValue::new("db.collection.name", statement.collection),
            KeyValue::new("db.query.summary", statement.summary),
        ];
        span.in_scope(|| {
            self.0
                .duration
                .record(begin.elapsed().as_secs_f64(), &attributes)
        });
        Ok(outcome?)
    }
}

/// How many connections there are, and how many may be.
fn observe(pool: &SqlitePool, max: u32) {
    let meter = global::meter("shop");
    let pool = pool.clone();
    let name = || KeyValue::new("db.client.connection.pool.name", POOL);
    let _ = meter
        .i64_observable_up_down_counter("db.client.connection.count")
        .with_unit("{connection}")
        .with_callback(move |observer| {
            let size = i64::from(pool.size());
            let idle = i64::try_from(pool.num_idle()).unwrap_or(size).min(size);
            for (state, count) in [("idle", idle), ("used", size - idle)] {
                observer.observe(
                    count,
                    &[name(), KeyValue::new("db.client.connection.state", state)],
                );
            }
        })
        .build();
    let _ = meter
        .i64_observable_up_down_counter("db.client.connection.max")
        .with_unit("{connection}")
        .with_callback(move |observer| observer.observe(max.into(), &[name()]))
        .build();
}
