//! The database of orders: SQLite, PostgreSQL or MySQL behind one type, with the same statements, spans and metrics.
//!
//! Every call is a CLIENT span named after its operation and table, with the stable `db.*` attributes, and a value of
//! `db.client.operation.duration`. Waiting for a connection is no database call: it is `db.client.connection.wait_time`.

mod comments;
mod failure;
mod lease;
mod migrations;
mod mysql;
mod orders;
mod postgres;
mod queries;
mod sqlite;
mod statements;
mod write_check;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::pool::PoolOptions;
use sqlx::{ConnectOptions, Connection, MySql, Pool, Postgres, Sqlite, SqliteConnection};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::deps::{Trouble, now_ms, within_told};
use crate::error::{Error, Kind};
use crate::instruments::{self, DatabaseOperation, PoolState};
use crate::settings;
use comments::Comments;
use failure::{Class, code, failed};
use lease::Lease;
pub use orders::{Order, Product, RecentOrder};
use queries::Queries;
use statements::Statement;
use write_check::WriteCheck;

/// Orders beyond the newest so many are deleted.
const ORDERS_KEPT: i64 = 10_000;

/// A statement of an embedded database that took longer has its plan on its span.
const SLOW_STATEMENT: Duration = Duration::from_millis(100);

/// The row that the lock demo and the lock fault contend for.
const LOCKED_SKU: &str = "TY-001";

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
        matches!(Class::of(error), Class::Away | Class::PoolTimeout)
    }
}

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    backend: Backend,
    /// `db.system.name`
    system: &'static str,
    /// `db.client.connection.pool.name`
    pool_name: &'static str,
    /// `db.namespace`: name of the database, or of its file.
    namespace: String,
    /// Where it is, if it is a server.
    server: Option<(String, u16)>,
    statement_timeout: Duration,
    comments: Comments,
}

enum Backend {
    Sqlite(Access<Sqlite>),
    Postgres(Access<Postgres>),
    MySql(Access<MySql>),
}

/// The ways to one database.
struct Access<DB: sqlx::Database> {
    pool: Pool<DB>,
    writes: WriteCheck<DB>,
}

/// Runs an expression with the access to whichever backend.
macro_rules! on_backend {
    ($database:expr, $access:ident => $run:expr) => {
        match &$database.0.backend {
            Backend::Sqlite($access) => $run,
            Backend::Postgres($access) => $run,
            Backend::MySql($access) => $run,
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
        let inner = match settings.url.expose().split(':').next() {
            Some("sqlite") => Inner::sqlite(settings).await?,
            Some("mysql") => Inner::mysql(settings).await?,
            _ => Inner::postgres(settings).await?,
        };
        let database = Self(Arc::new(inner));
        let observed = database.clone();
        let max = settings.connections;
        instruments::observe_pool(database.0.pool_name, move || {
            let (size, idle) =
                on_backend!(observed, access => (access.pool.size(), access.pool.num_idle()));
            let idle = u32::try_from(idle).unwrap_or(u32::MAX).min(size);
            PoolState {
                idle,
                used: size - idle,
                max,
            }
        });
        Ok(database)
    }

    /// Whether it answers and takes writes, within `deadline`. Leaves no span: a check is not work.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn check(&self, deadline: Duration) -> Result<(), Trouble> {
        on_backend!(self, access => within_told(deadline, access.writes.run(), Class::status).await)
    }

    /// The product with this number.
    ///
    /// # Errors
    /// As every statement: [`Kind::DependencyUnavailable`], [`Kind::DeadlineExceeded`] or [`Kind::DatabaseFailed`].
    pub async fn product(&self, sku: &str) -> Result<Option<Product>, Error> {
        on_backend!(self, access => {
            let mut lease = self.lease(&access.pool).await?;
            let find = lease.product(self.0.comments, sku);
            let found = self.observed(&statements::PRODUCT, find).await;
            lease.settle(found)
        })
    }

    /// Writes an order of `quantity` pieces of `product` in one transaction.
    ///
    /// # Errors
    /// As [`Database::product`], and [`Kind::StorageFull`] and [`Kind::ReadOnly`]; then nothing has been written, unless
    /// the error says that this is not known, because the database went away while it committed.
    pub async fn place_order(&self, product: &Product, quantity: i64) -> Result<Order, Error> {
        on_backend!(self, access => {
            let mut lease = self.lease(&access.pool).await?;
            // Dropped in the middle, by an error or with the request, the lease closes its connection.
            let placed = self.place(&mut lease, product, quantity).await;
            access.writes.note(placed.as_ref().err().and_then(|error| {
                (error.kind() == Kind::StorageFull).then_some(Class::Full)
            }));
            lease.settle(placed)
        })
    }

    async fn place<DB>(
        &self,
        lease: &mut Lease<DB>,
        product: &Product,
        quantity: i64,
    ) -> Result<Order, Error>
    where
        DB: sqlx::Database,
        DB::Connection: Queries,
    {
        let comments = self.0.comments;
        let total_cents = product.price_cents * quantity;
        let mut transaction = self.observed(&statements::BEGIN, lease.begin()).await?;
        let reserve = transaction.reserve(comments, &product.sku, quantity);
        self.observed(&statements::RESERVE, reserve).await?;
        let insert = transaction.insert_order(comments, total_cents, now_ms());
        let id = self.observed(&statements::INSERT_ORDER, insert).await?;
        let insert =
            transaction.insert_item(comments, id, &product.sku, quantity, product.price_cents);
        self.observed(&statements::INSERT_ITEM, insert).await?;
        if id % 100 == 0 {
            let prune = transaction.prune(comments, id - ORDERS_KEPT);
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
        on_backend!(self, access => {
            let mut lease = self.lease(&access.pool).await?;
            let find = lease.recent(self.0.comments);
            let found = self.observed(&statements::RECENT, find).await;
            lease.settle(found)
        })
    }

    /// Tries to add an item to an order that does not exist: the database refuses it.
    ///
    /// # Errors
    /// Always: [`Kind::DatabaseFailed`] where the database answers.
    pub async fn violate_constraint(&self) -> Result<(), Error> {
        on_backend!(self, access => {
            let mut lease = self.lease(&access.pool).await?;
            let insert = lease.insert_item(self.0.comments, -1, LOCKED_SKU, 1, 1);
            let refused = self.observed(&statements::INSERT_ITEM, insert).await;
            lease.settle(refused)
        })
    }

    /// A query that takes so many milliseconds in the database.
    ///
    /// # Errors
    /// As [`Database::product`].
    pub async fn slow_query(&self, millis: u32) -> Result<(), Error> {
        on_backend!(self, access => {
            let mut lease = self.lease(&access.pool).await?;
            let statement = slow_statement(&*lease);
            let slow = lease.slow(self.0.comments, millis);
            let outcome = self.observed(&statement, slow).await;
            lease.settle(outcome)
        })
    }

    /// Locks a row and keeps it locked for `held`, in a transaction that changes nothing.
    ///
    /// # Errors
    /// As [`Database::product`]; [`Kind::DeadlineExceeded`] when somebody else keeps it locked longer than a statement may
    /// take.
    pub async fn hold_lock(&self, held: Duration) -> Result<(), Error> {
        on_backend!(self, access => {
            let mut lease = self.lease(&access.pool).await?;
            let outcome = async {
                let mut transaction = self.observed(&statements::BEGIN, lease.begin()).await?;
                let lock = transaction.lock(self.0.comments, LOCKED_SKU);
                self.observed(&statements::LOCK, lock).await?;
                tracing::info!("the row is locked for {} ms", held.as_millis());
                tokio::time::sleep(held).await;
                self.observed(&statements::ROLLBACK, transaction.rollback()).await
            };
            let outcome = outcome.await;
            lease.settle(outcome)
        })
    }

    /// Needs the lock of the row that [`Database::hold_lock`] keeps, and waits for it at most `patience`.
    ///
    /// # Errors
    /// As [`Database::product`]; [`Kind::DeadlineExceeded`] when it had to wait longer.
    pub async fn wait_for_lock(&self, patience: Duration) -> Result<(), Error> {
        on_backend!(self, access => {
            let mut lease = self.lease(&access.pool).await?;
            let wait = lease.lock(self.0.comments, LOCKED_SKU);
            let outcome = self.observed_within(patience, &statements::LOCK, wait).await;
            lease.settle(outcome)
        })
    }

    async fn lease<DB: sqlx::Database>(&self, pool: &Pool<DB>) -> Result<Lease<DB>, Error> {
        let name = self.0.pool_name;
        let start = Instant::now();
        let waiting = Pending::start(name);
        let connection = pool.acquire().await;
        drop(waiting);
        let timed_out = matches!(connection, Err(sqlx::Error::PoolTimedOut));
        instruments::pool_acquired(name, start.elapsed(), timed_out);
        connection.map(Lease::new).map_err(failed)
    }

    /// Runs one statement within the statement timeout, in its span, and records how long it took.
    async fn observed<T>(
        &self,
        statement: &Statement,
        work: impl Future<Output = sqlx::Result<T>>,
    ) -> Result<T, Error> {
        self.observed_within(self.0.statement_timeout, statement, work)
            .await
    }

    /// The same within `timeout`.
    async fn observed_within<T>(
        &self,
        timeout: Duration,
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
            signalbox.db.query.plan = Empty,
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
        let outcome = tokio::time::timeout(timeout, work)
            .instrument(span.clone())
            .await;
        let outcome = match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                if let Some(code) = error.as_database_error().and_then(code) {
                    span.record("db.response.status_code", &*code);
                }
                Err((Class::of(&error), failed(error)))
            }
            Err(_) => {
                let detail = format!(
                    "{} took longer than {} ms",
                    statement.summary,
                    timeout.as_millis()
                );
                Err((Class::Timeout, Error::new(Class::Timeout.kind(), detail)))
            }
        };
        let class = outcome.as_ref().err().map(|(class, _)| class.name());
        if class.is_some() {
            span.record("otel.status_code", "ERROR");
        }
        call.finished = true;
        call.record(class);
        if call.start.elapsed() > SLOW_STATEMENT
            && let Some(plan) = self.plan(statement).await
        {
            span.record("signalbox.db.query.plan", plan);
        }
        outcome.map_err(|(class, error)| {
            if statement.is_commit() && class.leaves_commit_open() {
                error.explained("; whether the order was written is not known")
            } else {
                error
            }
        })
    }

    /// How an embedded database goes about a statement, one step a line; servers keep that themselves. `None` also while
    /// the connection is in use that it is asked on: nobody waits for it.
    async fn plan(&self, statement: &Statement) -> Option<String> {
        let Backend::Sqlite(access) = &self.0.backend else {
            return None;
        };
        let plan =
            async |connection: &mut SqliteConnection| sqlite::plan(connection, statement).await;
        access.writes.lend(plan).await
    }

    /// Closes all connections. SQLite writes its log back into the file.
    pub async fn close(&self) {
        on_backend!(self, access => access.pool.close().await);
    }
}

impl Inner {
    async fn sqlite(settings: &settings::Database) -> Result<Self, OpenError> {
        let options = sqlite::options(settings)?;
        let file = options.get_filename();
        let namespace = file.file_name().unwrap_or(file.as_os_str());
        let namespace = namespace.to_string_lossy().into_owned();
        let check = options.clone().busy_timeout(sqlite::CHECK_BUSY_TIMEOUT);
        let pool = pool_options::<Sqlite>(settings)
            .connect_with(options)
            .await?;
        migrations::migrator(migrations::SQLITE).run(&pool).await?;
        Ok(Self {
            backend: Backend::Sqlite(Access::new(pool, check, settings)),
            system: "sqlite",
            pool_name: "orders-sqlite",
            namespace,
            server: None,
            statement_timeout: settings.statement_timeout,
            // Nobody but this process could read them.
            comments: Comments::Off,
        })
    }

    async fn postgres(settings: &settings::Database) -> Result<Self, OpenError> {
        let options = postgres::options(settings)?;
        let namespace = options
            .get_database()
            .unwrap_or_else(|| options.get_username());
        let namespace = namespace.to_owned();
        let server = (options.get_host().to_owned(), options.get_port());
        let check = postgres::check_options(options.clone());
        // The pool would try in vain until its timeout, and then say only that.
        options.connect().await?.close().await?;
        let pool = pool_options::<Postgres>(settings)
            .connect_with(options)
            .await?;
        migrations::migrator(migrations::POSTGRES)
            .run(&pool)
            .await?;
        Ok(Self {
            backend: Backend::Postgres(Access::new(pool, check, settings)),
            system: "postgresql",
            pool_name: "orders-postgresql",
            namespace,
            server: Some(server),
            statement_timeout: settings.statement_timeout,
            comments: Comments::of(settings),
        })
    }

    async fn mysql(settings: &settings::Database) -> Result<Self, OpenError> {
        let options = mysql::options(settings)?;
        let namespace = options.get_database().unwrap_or_default().to_owned();
        let address = (options.get_host().to_owned(), options.get_port());
        let server = mysql::Server::of(&options).await?;
        let timeout = settings.statement_timeout;
        let check = options.clone();
        let pool = pool_options::<MySql>(settings)
            .after_connect(move |session, _| Box::pin(server.limit(session, timeout)))
            .connect_with(options)
            .await?;
        migrations::migrator(migrations::MYSQL).run(&pool).await?;
        let (system, pool_name) = match server {
            mysql::Server::MySql => ("mysql", "orders-mysql"),
            mysql::Server::MariaDb => ("mariadb", "orders-mariadb"),
        };
        Ok(Self {
            backend: Backend::MySql(Access::new(pool, check, settings)),
            system,
            pool_name,
            namespace,
            server: Some(address),
            statement_timeout: timeout,
            comments: Comments::of(settings),
        })
    }

    /// The statement as this database reads it.
    fn text(&self, statement: &Statement) -> &'static str {
        match self.backend {
            Backend::MySql(_) => statement.text.positional,
            Backend::Sqlite(_) | Backend::Postgres(_) => statement.text.numbered,
        }
    }
}

impl<DB: sqlx::Database> Access<DB>
where
    DB::Connection: Queries,
{
    fn new(
        pool: Pool<DB>,
        check: <DB::Connection as Connection>::Options,
        settings: &settings::Database,
    ) -> Self {
        Self {
            pool,
            writes: WriteCheck::new(check, settings.statement_timeout),
        }
    }
}

/// The slow statement of a connection's database.
fn slow_statement<C: Queries>(_: &C) -> Statement {
    C::SLOW
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
    // Half of the time, so that a connection that hangs leaves the other half for a new one.
    let patience = settings.acquire_timeout / 2;
    PoolOptions::new()
        .max_connections(settings.connections)
        .acquire_timeout(settings.acquire_timeout)
        // A connection used a moment ago is taken as it is; one that rested is asked first.
        .test_before_acquire(false)
        .before_acquire(move |connection: &mut DB::Connection, rest| {
            Box::pin(async move {
                if rest.idle_for > Duration::from_secs(1) {
                    let ping = tokio::time::timeout(patience, connection.ping());
                    ping.await.map_err(std::io::Error::from)??;
                }
                Ok(true)
            })
        })
}
