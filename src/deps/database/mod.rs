//! The database of orders: SQLite, PostgreSQL or MySQL behind one type, with the same statements, spans and metrics.
//!
//! Every call is a CLIENT span named after its operation and table, with the stable `db.*` attributes, and a value of
//! `db.client.operation.duration`. Waiting for a connection is no database call: it is `db.client.connection.wait_time`.

mod mysql;
mod postgres;
mod queries;
mod sqlite;
mod statements;

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sqlx::pool::{PoolConnection, PoolOptions};
use sqlx::{
    ConnectOptions, Connection, FromRow, MySql, MySqlPool, PgPool, Pool, Postgres, Sqlite,
    SqlitePool,
};
use tracing::field::Empty;
use tracing::{Instrument, Span};
use utoipa::ToSchema;

use crate::deps::{now_ms, within};
use crate::error::{Error, Kind};
use crate::instruments::{self, DatabaseOperation, PoolState};
use crate::settings;
use queries::Queries;
use statements::Statement;

/// Orders beyond the newest so many are deleted.
const ORDERS_KEPT: i64 = 10_000;

/// Something the shop sells.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize, Deserialize, ToSchema)]
pub struct Product {
    #[schema(example = "TY-001")]
    pub sku: String,
    pub name: String,
    /// `books`, `tools`, `toys` or `garden`.
    pub category: String,
    #[schema(minimum = 1)]
    pub price_cents: i64,
}

/// An order that was written.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Order {
    #[schema(minimum = 1)]
    pub id: i64,
    #[schema(minimum = 1)]
    pub quantity: i64,
    #[schema(minimum = 1)]
    pub total_cents: i64,
}

/// One line of the list of newest orders.
#[derive(Debug, Clone, FromRow, Serialize, ToSchema)]
pub struct RecentOrder {
    pub id: i64,
    pub sku: String,
    pub quantity: i64,
    pub total_cents: i64,
}

/// What kept the database from being opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the database in DATABASE_URL cannot be opened: {0}")]
    Open(#[from] sqlx::Error),
    #[error("the database in DATABASE_URL cannot be migrated: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

impl OpenError {
    /// Whether waiting may help: the server is away or still starting.
    fn is_passing(&self) -> bool {
        let Self::Open(error) = self else {
            return false;
        };
        matches!(classify(error), Class::Away | Class::PoolTimeout)
    }
}

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: Backend,
    /// `db.system.name`
    system: &'static str,
    /// `db.client.connection.pool.name`
    pool_name: &'static str,
    /// `db.namespace`: name of the database, or of its file.
    namespace: String,
    /// Where it is, if it is a server.
    server: Option<(String, u16)>,
    statement_timeout: Duration,
}

#[derive(Debug)]
enum Backend {
    Sqlite(SqlitePool),
    Postgres(PgPool),
    MySql(MySqlPool),
}

/// Runs an expression with the pool of whichever backend.
macro_rules! on_pool {
    ($database:expr, $pool:ident => $run:expr) => {
        match &$database.0.pool {
            Backend::Sqlite($pool) => $run,
            Backend::Postgres($pool) => $run,
            Backend::MySql($pool) => $run,
        }
    };
}

impl Database {
    /// Opens and migrates. A database that is away is tried again until the start timeout.
    ///
    /// # Errors
    /// When it is away longer than that, or refuses.
    pub async fn open(settings: &settings::Database) -> Result<Self, OpenError> {
        let give_up = Instant::now() + settings.start_timeout;
        loop {
            match Self::try_open(settings).await {
                Err(error) if error.is_passing() && Instant::now() < give_up => {
                    tracing::warn!("{error}; trying again");
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn try_open(settings: &settings::Database) -> Result<Self, OpenError> {
        let inner = match settings.url.split(':').next() {
            Some("sqlite") => Inner::sqlite(settings).await?,
            Some("mysql") => Inner::mysql(settings).await?,
            _ => Inner::postgres(settings).await?,
        };
        let database = Self(Arc::new(inner));
        let observed = database.clone();
        let max = settings.connections;
        instruments::observe_pool(database.0.pool_name, move || {
            let (size, idle) = on_pool!(observed, pool => (pool.size(), pool.num_idle()));
            let idle = u32::try_from(idle).unwrap_or(u32::MAX).min(size);
            PoolState {
                idle,
                used: size - idle,
                max,
            }
        });
        Ok(database)
    }

    /// Whether it answers, within `deadline`. Leaves no span: a probe is not work. A pool whose connections are all in use
    /// is no reason: then it is asked by a connection of its own.
    ///
    /// # Errors
    /// Why it does not answer, in words.
    pub async fn ping(&self, deadline: Duration) -> Result<(), String> {
        within(deadline, async { on_pool!(self, pool => ping(pool).await) }).await
    }

    /// The product with this number.
    ///
    /// # Errors
    /// As every statement: [`Kind::DependencyUnavailable`], [`Kind::DeadlineExceeded`] or [`Kind::DatabaseFailed`].
    pub async fn product(&self, sku: &str) -> Result<Option<Product>, Error> {
        on_pool!(self, pool => {
            let mut connection = self.acquire(pool).await?;
            self.observed(&statements::PRODUCT, connection.product(sku)).await
        })
    }

    /// Writes an order of `quantity` pieces of `product` in one transaction.
    ///
    /// # Errors
    /// As [`Database::product`]; then nothing has been written.
    pub async fn place_order(&self, product: &Product, quantity: i64) -> Result<Order, Error> {
        on_pool!(self, pool => self.place(pool, product, quantity).await)
    }

    async fn place<DB>(
        &self,
        pool: &Pool<DB>,
        product: &Product,
        quantity: i64,
    ) -> Result<Order, Error>
    where
        DB: sqlx::Database,
        DB::Connection: Queries,
    {
        let total_cents = product.price_cents * quantity;
        let mut connection = self.acquire(pool).await?;
        let mut transaction = self
            .observed(&statements::BEGIN, connection.begin())
            .await?;
        self.observed(
            &statements::RESERVE,
            transaction.reserve(&product.sku, quantity),
        )
        .await?;
        let insert = transaction.insert_order(total_cents, now_ms());
        let id = self.observed(&statements::INSERT_ORDER, insert).await?;
        let insert = transaction.insert_item(id, &product.sku, quantity, product.price_cents);
        self.observed(&statements::INSERT_ITEM, insert).await?;
        if id % 100 == 0 {
            let prune = transaction.prune(id - ORDERS_KEPT);
            self.observed(&statements::PRUNE, prune).await?;
        }
        self.observed(&statements::COMMIT, transaction.commit())
            .await?;
        instruments::order_created(&product.category);
        Ok(Order {
            id,
            quantity,
            total_cents,
        })
    }

    /// The newest orders, at most five.
    ///
    /// # Errors
    /// As [`Database::product`].
    pub async fn recent_orders(&self) -> Result<Vec<RecentOrder>, Error> {
        on_pool!(self, pool => {
            let mut connection = self.acquire(pool).await?;
            self.observed(&statements::RECENT, connection.recent()).await
        })
    }

    /// Tries to add an item to an order that does not exist: the database refuses it.
    ///
    /// # Errors
    /// Always: [`Kind::DatabaseFailed`] where the database answers.
    pub async fn violate_constraint(&self) -> Result<(), Error> {
        on_pool!(self, pool => {
            let mut connection = self.acquire(pool).await?;
            let insert = connection.insert_item(-1, "TY-001", 1, 1);
            self.observed(&statements::INSERT_ITEM, insert).await
        })
    }

    /// A query that takes so many milliseconds in the database.
    ///
    /// # Errors
    /// As [`Database::product`].
    pub async fn slow_query(&self, millis: u32) -> Result<(), Error> {
        on_pool!(self, pool => self.slow(pool, millis).await)
    }

    async fn slow<DB>(&self, pool: &Pool<DB>, millis: u32) -> Result<(), Error>
    where
        DB: sqlx::Database,
        DB::Connection: Queries,
    {
        let mut connection = self.acquire(pool).await?;
        let statement = DB::Connection::SLOW;
        self.observed(&statement, connection.slow(millis)).await
    }

    /// Waits for a row that another transaction keeps locked for `held`.
    ///
    /// # Errors
    /// As [`Database::product`], the more so when `held` is longer than a statement may take.
    pub async fn wait_for_lock(&self, held: Duration) -> Result<(), Error> {
        on_pool!(self, pool => self.contend(pool, held).await)
    }

    async fn contend<DB>(&self, pool: &Pool<DB>, held: Duration) -> Result<(), Error>
    where
        DB: sqlx::Database,
        DB::Connection: Queries,
    {
        const SKU: &str = "TY-001";
        // Two of the pool's connections; where none is left, the acquire timeout ends the wait.
        let mut holder = self.acquire(pool).await?;
        let mut waiter = self.acquire(pool).await?;
        let mut transaction = self.observed(&statements::BEGIN, holder.begin()).await?;
        self.observed(&statements::LOCK, transaction.lock(SKU))
            .await?;
        let release = async {
            tokio::time::sleep(held).await;
            transaction
                .rollback()
                .await
                .map_err(|error| self.failed(error))
        };
        let wait = self.observed(&statements::LOCK, waiter.lock(SKU));
        futures_util::try_join!(release, wait).map(|_| ())
    }

    async fn acquire<DB: sqlx::Database>(
        &self,
        pool: &Pool<DB>,
    ) -> Result<PoolConnection<DB>, Error> {
        let name = self.0.pool_name;
        let start = Instant::now();
        let waiting = Pending::start(name);
        let connection = pool.acquire().await;
        drop(waiting);
        let timed_out = matches!(connection, Err(sqlx::Error::PoolTimedOut));
        instruments::pool_acquired(name, start.elapsed(), timed_out);
        connection.map_err(|error| self.failed(error))
    }

    /// Runs one statement within its timeout, in its span, and records how long it took.
    async fn observed<T>(
        &self,
        statement: &Statement,
        work: impl Future<Output = sqlx::Result<T>>,
    ) -> Result<T, Error> {
        let inner = &*self.0;
        let server = inner.server.as_ref();
        let span = tracing::info_span!(
            "database call",
            otel.name = statement.summary,
            otel.kind = "client",
            otel.status_code = Empty,
            db.system.name = inner.system,
            db.namespace = inner.namespace,
            db.operation.name = statement.operation,
            db.collection.name = statement.collection,
            db.query.text = inner.text(statement),
            db.query.summary = statement.summary,
            server.address = server.map(|(host, _)| host.as_str()),
            server.port = server.map(|(_, port)| i64::from(*port)),
            db.response.status_code = Empty,
            error.type = Empty,
        );
        let mut call = Call {
            operation: DatabaseOperation {
                system: inner.system,
                namespace: &inner.namespace,
                operation: statement.operation,
                collection: statement.collection,
                summary: statement.summary,
                server: server.map(|(host, port)| (host.as_str(), *port)),
            },
            span: span.clone(),
            start: Instant::now(),
            finished: false,
        };
        let outcome = tokio::time::timeout(inner.statement_timeout, work)
            .instrument(span.clone())
            .await;
        let outcome = match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                if let Some(code) = error.as_database_error().and_then(code) {
                    span.record("db.response.status_code", &*code);
                }
                Err((classify(&error), Some(error)))
            }
            Err(_) => Err((Class::Timeout, None)),
        };
        let class = outcome.as_ref().err().map(|(class, _)| class.name());
        if class.is_some() {
            span.record("otel.status_code", "ERROR");
        }
        call.finished = true;
        call.record(class);
        outcome.map_err(|(class, error)| match error {
            Some(error) => self.failed(error),
            None => Error::new(
                class.kind(),
                format!(
                    "{} took longer than {} ms",
                    statement.summary,
                    inner.statement_timeout.as_millis()
                ),
            ),
        })
    }

    fn failed(&self, error: sqlx::Error) -> Error {
        let class = classify(&error);
        let detail = match class {
            Class::Away | Class::PoolTimeout => "the database does not answer",
            Class::Busy => "the database is busy",
            Class::Timeout => "the database took too long",
            Class::Constraint => "the database refused the values",
            Class::Other => "the database could not do it",
        };
        Error::new(class.kind(), detail).because(error)
    }

    /// Closes all connections. SQLite writes its log back into the file.
    pub async fn close(&self) {
        on_pool!(self, pool => pool.close().await);
    }
}

impl Inner {
    async fn sqlite(settings: &settings::Database) -> Result<Self, OpenError> {
        let options = sqlite::options(settings)?;
        let file = options.get_filename();
        let namespace = file.file_name().unwrap_or(file.as_os_str());
        let namespace = namespace.to_string_lossy().into_owned();
        let pool = pool_options::<Sqlite>(settings)
            .connect_with(options)
            .await?;
        sqlx::migrate!("migrations/sqlite").run(&pool).await?;
        Ok(Self {
            pool: Backend::Sqlite(pool),
            system: "sqlite",
            pool_name: "orders-sqlite",
            namespace,
            server: None,
            statement_timeout: settings.statement_timeout,
        })
    }

    async fn postgres(settings: &settings::Database) -> Result<Self, OpenError> {
        let options = postgres::options(settings)?;
        let namespace = options
            .get_database()
            .unwrap_or_else(|| options.get_username());
        let namespace = namespace.to_owned();
        let server = (options.get_host().to_owned(), options.get_port());
        // The pool would try in vain until its timeout, and then say only that.
        options.connect().await?.close().await?;
        let pool = pool_options::<Postgres>(settings)
            .connect_with(options)
            .await?;
        sqlx::migrate!("migrations/postgres").run(&pool).await?;
        Ok(Self {
            pool: Backend::Postgres(pool),
            system: "postgresql",
            pool_name: "orders-postgresql",
            namespace,
            server: Some(server),
            statement_timeout: settings.statement_timeout,
        })
    }

    async fn mysql(settings: &settings::Database) -> Result<Self, OpenError> {
        let options = mysql::options(settings)?;
        let namespace = options.get_database().unwrap_or_default().to_owned();
        let address = (options.get_host().to_owned(), options.get_port());
        let server = mysql::Server::of(&options).await?;
        let timeout = settings.statement_timeout;
        let pool = pool_options::<MySql>(settings)
            .after_connect(move |session, _| Box::pin(server.limit(session, timeout)))
            .connect_with(options)
            .await?;
        sqlx::migrate!("migrations/mysql").run(&pool).await?;
        let (system, pool_name) = match server {
            mysql::Server::MySql => ("mysql", "orders-mysql"),
            mysql::Server::MariaDb => ("mariadb", "orders-mariadb"),
        };
        Ok(Self {
            pool: Backend::MySql(pool),
            system,
            pool_name,
            namespace,
            server: Some(address),
            statement_timeout: timeout,
        })
    }

    /// The statement as this database reads it.
    fn text(&self, statement: &Statement) -> &'static str {
        match self.pool {
            Backend::MySql(_) => statement.text.positional,
            Backend::Sqlite(_) | Backend::Postgres(_) => statement.text.numbered,
        }
    }
}

/// `db.response.status_code`
fn code(error: &dyn sqlx::error::DatabaseError) -> Option<Cow<'_, str>> {
    match mysql::number(error) {
        Some(number) => Some(number.to_string().into()),
        None => error.code(),
    }
}

async fn ping<DB: sqlx::Database>(pool: &Pool<DB>) -> sqlx::Result<()> {
    if let Some(mut connection) = pool.try_acquire()
        && connection.ping().await.is_ok()
    {
        return Ok(());
    }
    pool.connect_options().connect().await?.close().await
}

/// A statement between its start and its end. Dropped before its end, it was cancelled: nobody waits for it any more.
struct Call<'a> {
    operation: DatabaseOperation<'a>,
    span: Span,
    start: Instant,
    finished: bool,
}

impl Call<'_> {
    fn record(&self, error: Option<&'static str>) {
        if let Some(error) = error {
            self.span.record("error.type", error);
        }
        // Inside the span, so that the exemplar of the value leads to it.
        self.span.in_scope(|| {
            instruments::database_operation(&self.operation, self.start.elapsed(), error)
        });
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.record(Some("cancelled"));
        }
    }
}

/// Counts a waiter for a connection, also when it gives up.
struct Pending(&'static str);

impl Pending {
    fn start(pool: &'static str) -> Self {
        instruments::pool_pending(pool, 1);
        Self(pool)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        instruments::pool_pending(self.0, -1);
    }
}

fn pool_options<DB: sqlx::Database>(settings: &settings::Database) -> PoolOptions<DB> {
    PoolOptions::new()
        .max_connections(settings.connections)
        .acquire_timeout(settings.acquire_timeout)
        // A connection used a moment ago is taken as it is; one that rested is asked first.
        .test_before_acquire(false)
        .before_acquire(|connection: &mut DB::Connection, rest| {
            Box::pin(async move {
                if rest.idle_for > Duration::from_secs(1) {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
}

/// Classes of database errors: a closed set for `error.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Away,
    PoolTimeout,
    Busy,
    Timeout,
    Constraint,
    Other,
}

impl Class {
    fn name(self) -> &'static str {
        match self {
            Self::Away => "unavailable",
            Self::PoolTimeout => "pool_timeout",
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::Constraint => "constraint",
            Self::Other => "_OTHER",
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Away | Self::PoolTimeout | Self::Busy => Kind::DependencyUnavailable,
            Self::Timeout => Kind::DeadlineExceeded,
            Self::Constraint | Self::Other => Kind::DatabaseFailed,
        }
    }
}

fn classify(error: &sqlx::Error) -> Class {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Class::Away,
        sqlx::Error::PoolTimedOut => Class::PoolTimeout,
        sqlx::Error::Database(error) if error.kind() != sqlx::error::ErrorKind::Other => {
            Class::Constraint
        }
        sqlx::Error::Database(error) => match code(error.as_ref()).as_deref() {
            // SQLite: SQLITE_BUSY and its extended forms.
            Some("5" | "261" | "517") => Class::Busy,
            // PostgreSQL: connection exceptions; too many connections; the server stops or starts.
            Some("08000" | "08003" | "08006" | "53300" | "57P01" | "57P02" | "57P03") => {
                Class::Away
            }
            // PostgreSQL: the statement timeout.
            Some("57014") => Class::Timeout,
            // MySQL: too many connections; the server stops; the connection was ended.
            Some("1040" | "1053" | "1927") => Class::Away,
            // MySQL: the wait for a row took too long; the statement timeouts of MariaDB and of MySQL.
            Some("1205" | "1969" | "3024") => Class::Timeout,
            _ => Class::Other,
        },
        _ => Class::Other,
    }
}
