//! The catalogue of the metrics that the service records itself: name, kind, unit, attributes, help.
//!
//! Each is declared once, below, and recorded through one function, so that attributes stay the closed sets declared
//! here. HTTP server and client, process, runtime and telemetry's own metrics come from the telemetry folder. What
//! OpenTelemetry names is named as there (`db.*`, `messaging.*`); our own names start with `signalbox.` and stand in
//! `telemetry-schema/`, which a test holds against this catalogue.

use std::sync::LazyLock;
use std::time::Duration;

use opentelemetry::metrics::{Counter, Meter, UpDownCounter};
use opentelemetry::{KeyValue, global};

use signalbox_telemetry::metrics::Histogram;

/// How values of a metric add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    UpDownCounter,
    Gauge,
    Histogram,
}

/// One metric of the catalogue.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    pub name: &'static str,
    pub kind: Kind,
    /// UCUM unit, or `{thing}` for counts.
    pub unit: &'static str,
    /// All attributes it may carry.
    pub attributes: &'static [&'static str],
    pub help: &'static str,
}

macro_rules! catalogue {
    ($($constant:ident = $kind:ident $name:literal [$unit:literal] ($($attribute:literal),*) $help:literal;)*) => {
        $(const $constant: Definition = Definition {
            name: $name,
            kind: Kind::$kind,
            unit: $unit,
            attributes: &[$($attribute),*],
            help: $help,
        };)*

        /// Every metric that the service records itself.
        pub const CATALOGUE: &[Definition] = &[$($constant),*];
    };
}

catalogue! {
    DB_DURATION = Histogram "db.client.operation.duration" ["s"]
        ("db.system.name", "db.namespace", "db.operation.name", "db.collection.name", "db.query.summary", "server.address", "server.port", "error.type")
        "Duration of database client operations.";
    POOL_COUNT = UpDownCounter "db.client.connection.count" ["{connection}"]
        ("db.client.connection.pool.name", "db.client.connection.state")
        "The number of connections that are currently in state described by the `state` attribute.";
    POOL_MAX = UpDownCounter "db.client.connection.max" ["{connection}"]
        ("db.client.connection.pool.name")
        "The maximum number of open connections allowed.";
    POOL_PENDING = UpDownCounter "db.client.connection.pending_requests" ["{request}"]
        ("db.client.connection.pool.name")
        "The number of current pending requests for an open connection.";
    POOL_TIMEOUTS = Counter "db.client.connection.timeouts" ["{timeout}"]
        ("db.client.connection.pool.name")
        "The number of connection timeouts that have occurred trying to obtain a connection from the pool.";
    POOL_WAIT = Histogram "db.client.connection.wait_time" ["s"]
        ("db.client.connection.pool.name")
        "The time it took to obtain an open connection from the pool.";
    MESSAGING_DURATION = Histogram "messaging.client.operation.duration" ["s"]
        ("messaging.system", "messaging.operation.name", "messaging.operation.type", "messaging.destination.name", "error.type")
        "Duration of messaging operation initiated by a producer or consumer client.";
    MESSAGES_SENT = Counter "messaging.client.sent.messages" ["{message}"]
        ("messaging.system", "messaging.operation.name", "messaging.destination.name", "error.type")
        "Number of messages producer attempted to send to the broker.";
    MESSAGES_CONSUMED = Counter "messaging.client.consumed.messages" ["{message}"]
        ("messaging.system", "messaging.operation.name", "messaging.destination.name")
        "Number of messages that were delivered to the application.";
    PROCESS_DURATION = Histogram "messaging.process.duration" ["s"]
        ("messaging.system", "messaging.operation.name", "messaging.destination.name")
        "Duration of processing operation.";
    QUEUE_WAIT = Histogram "signalbox.queue.wait.duration" ["s"]
        ("messaging.system")
        "Time a job waited between being handed over and being started.";
    QUEUE_DEPTH = UpDownCounter "signalbox.queue.depth" ["{job}"]
        ()
        "Jobs that wait in the worker.";
    CACHE_DURATION = Histogram "signalbox.cache.operation.duration" ["s"]
        ("signalbox.cache.backend", "signalbox.cache.operation", "signalbox.cache.result")
        "Duration of cache operations.";
    CACHE_ENTRIES = Gauge "signalbox.cache.entries" ["{entry}"]
        ()
        "Entries in the in-process cache.";
    ORDERS_CREATED = Counter "signalbox.orders.created" ["{order}"]
        ("signalbox.product.category")
        "Orders written to the database.";
    MEMORY_HELD = UpDownCounter "signalbox.demo.memory.held" ["By"]
        ()
        "Memory that the memory demo holds for its requests.";
    REQUESTS_REJECTED = Counter "signalbox.requests.rejected" ["{request}"]
        ("signalbox.limit")
        "Requests refused because they were beyond a limit.";
    FAULTS_INJECTED = Counter "signalbox.faults.injected" ["{fault}"]
        ("signalbox.fault.kind")
        "Faults injected into requests.";
    FAULT_LEAKED = UpDownCounter "signalbox.faults.leaked" ["By"]
        ()
        "Memory leaked by injected faults and not given back yet.";
    DEPENDENCY_UP = Gauge "signalbox.dependency.up" ["1"]
        ("signalbox.dependency.name")
        "1 while the dependency answered its last check, else 0.";
}

struct Instruments {
    db_duration: Histogram,
    pool_pending: UpDownCounter<i64>,
    pool_timeouts: Counter<u64>,
    pool_wait: Histogram,
    messaging_duration: Histogram,
    messages_sent: Counter<u64>,
    messages_consumed: Counter<u64>,
    process_duration: Histogram,
    queue_wait: Histogram,
    queue_depth: UpDownCounter<i64>,
    cache_duration: Histogram,
    orders_created: Counter<u64>,
    memory_held: UpDownCounter<i64>,
    requests_rejected: Counter<u64>,
    faults_injected: Counter<u64>,
}

fn meter() -> Meter {
    global::meter("signalbox")
}

/// Built at first use, which is after telemetry has set the global meter provider.
static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| {
    let meter = meter();
    let histogram = |of: Definition| Histogram::new(&meter, of.name, of.unit, of.help);
    let counter = |of: Definition| {
        meter
            .u64_counter(of.name)
            .with_unit(of.unit)
            .with_description(of.help)
            .build()
    };
    let up_down = |of: Definition| {
        meter
            .i64_up_down_counter(of.name)
            .with_unit(of.unit)
            .with_description(of.help)
            .build()
    };
    Instruments {
        db_duration: histogram(DB_DURATION),
        pool_pending: up_down(POOL_PENDING),
        pool_timeouts: counter(POOL_TIMEOUTS),
        pool_wait: histogram(POOL_WAIT),
        messaging_duration: histogram(MESSAGING_DURATION),
        messages_sent: counter(MESSAGES_SENT),
        messages_consumed: counter(MESSAGES_CONSUMED),
        process_duration: histogram(PROCESS_DURATION),
        queue_wait: histogram(QUEUE_WAIT),
        queue_depth: up_down(QUEUE_DEPTH),
        cache_duration: histogram(CACHE_DURATION),
        orders_created: counter(ORDERS_CREATED),
        memory_held: up_down(MEMORY_HELD),
        requests_rejected: counter(REQUESTS_REJECTED),
        faults_injected: counter(FAULTS_INJECTED),
    }
});

/// What a database operation is called in its metric; the same values as on its span.
#[derive(Debug, Clone)]
pub struct DatabaseOperation<'a> {
    /// `sqlite`, `postgresql`, `mysql`, `mariadb`, `redis`.
    pub system: &'static str,
    /// Database name, or number for Redis.
    pub namespace: &'a str,
    /// `SELECT`, `INSERT`, …
    pub operation: &'static str,
    /// Table, where there is one.
    pub collection: Option<&'static str>,
    /// Operation and table.
    pub summary: &'static str,
    /// Host and port of a server; `None` for an embedded database.
    pub server: Option<(&'a str, u16)>,
}

/// One database call, `error` by its class if it failed.
pub fn database_operation(
    operation: &DatabaseOperation<'_>,
    duration: Duration,
    error: Option<&'static str>,
) {
    let mut attributes = Vec::with_capacity(8);
    attributes.push(KeyValue::new("db.system.name", operation.system));
    attributes.push(KeyValue::new(
        "db.namespace",
        operation.namespace.to_owned(),
    ));
    attributes.push(KeyValue::new("db.operation.name", operation.operation));
    attributes.push(KeyValue::new("db.query.summary", operation.summary));
    if let Some(collection) = operation.collection {
        attributes.push(KeyValue::new("db.collection.name", collection));
    }
    if let Some((address, port)) = operation.server {
        attributes.push(KeyValue::new("server.address", address.to_owned()));
        attributes.push(KeyValue::new("server.port", i64::from(port)));
    }
    push_error(&mut attributes, error);
    INSTRUMENTS
        .db_duration
        .record(duration.as_secs_f64(), &attributes);
}

fn push_error(attributes: &mut Vec<KeyValue>, error: Option<&'static str>) {
    if let Some(error) = error {
        attributes.push(KeyValue::new("error.type", error));
    }
}

/// Connections of a pool at this moment.
#[derive(Debug, Clone, Copy)]
pub struct PoolState {
    pub idle: u32,
    pub used: u32,
    pub max: u32,
}

/// Observes a pool whenever metrics are read.
pub fn observe_pool(
    pool: &'static str,
    state: impl Fn() -> PoolState + Clone + Send + Sync + 'static,
) {
    let name = move || KeyValue::new("db.client.connection.pool.name", pool);
    let meter = meter();
    let observed = state.clone();
    meter
        .i64_observable_up_down_counter(POOL_COUNT.name)
        .with_unit(POOL_COUNT.unit)
        .with_description(POOL_COUNT.help)
        .with_callback(move |observer| {
            let now = observed();
            for (label, count) in [("idle", now.idle), ("used", now.used)] {
                let label = KeyValue::new("db.client.connection.state", label);
                observer.observe(count.into(), &[name(), label]);
            }
        })
        .build();
    meter
        .i64_observable_up_down_counter(POOL_MAX.name)
        .with_unit(POOL_MAX.unit)
        .with_description(POOL_MAX.help)
        .with_callback(move |observer| observer.observe(state().max.into(), &[name()]))
        .build();
}

/// Someone began (+1) or ceased (-1) to wait for a connection.
pub fn pool_pending(pool: &'static str, change: i64) {
    let name = KeyValue::new("db.client.connection.pool.name", pool);
    INSTRUMENTS.pool_pending.add(change, &[name]);
}

/// A connection was had after `waited`, or not at all.
pub fn pool_acquired(pool: &'static str, waited: Duration, timed_out: bool) {
    let name = [KeyValue::new("db.client.connection.pool.name", pool)];
    if timed_out {
        INSTRUMENTS.pool_timeouts.add(1, &name);
    } else {
        INSTRUMENTS.pool_wait.record(waited.as_secs_f64(), &name);
    }
}

/// Name of the destination of all jobs.
pub const DESTINATION: &str = "signalbox.jobs";

/// A job was handed over, or was not.
pub fn message_sent(system: &'static str, duration: Duration, error: Option<&'static str>) {
    let mut attributes = vec![
        KeyValue::new("messaging.system", system),
        KeyValue::new("messaging.operation.name", "send"),
        KeyValue::new("messaging.destination.name", DESTINATION),
    ];
    push_error(&mut attributes, error);
    INSTRUMENTS.messages_sent.add(1, &attributes);
    attributes.push(KeyValue::new("messaging.operation.type", "send"));
    INSTRUMENTS
        .messaging_duration
        .record(duration.as_secs_f64(), &attributes);
}

/// A job was done in `duration` after it had `waited`.
pub fn message_processed(system: &'static str, waited: Duration, duration: Duration) {
    let system = KeyValue::new("messaging.system", system);
    let attributes = [
        system.clone(),
        KeyValue::new("messaging.operation.name", "process"),
        KeyValue::new("messaging.destination.name", DESTINATION),
    ];
    INSTRUMENTS.messages_consumed.add(1, &attributes);
    INSTRUMENTS
        .process_duration
        .record(duration.as_secs_f64(), &attributes);
    INSTRUMENTS
        .queue_wait
        .record(waited.as_secs_f64(), &[system]);
}

/// A job joined (+1) or left (-1) the worker's own queue.
pub fn queue_depth(change: i64) {
    INSTRUMENTS.queue_depth.add(change, &[]);
}

/// One cache operation: `get` or `set`; `hit`, `miss`, `stored` or `error`.
pub fn cache_operation(
    backend: &'static str,
    operation: &'static str,
    result: &'static str,
    duration: Duration,
) {
    let attributes = [
        KeyValue::new("signalbox.cache.backend", backend),
        KeyValue::new("signalbox.cache.operation", operation),
        KeyValue::new("signalbox.cache.result", result),
    ];
    INSTRUMENTS
        .cache_duration
        .record(duration.as_secs_f64(), &attributes);
}

/// Observes how many entries the in-process cache has.
pub fn observe_cache_entries(entries: impl Fn() -> u64 + Send + Sync + 'static) {
    meter()
        .u64_observable_gauge(CACHE_ENTRIES.name)
        .with_unit(CACHE_ENTRIES.unit)
        .with_description(CACHE_ENTRIES.help)
        .with_callback(move |observer| observer.observe(entries(), &[]))
        .build();
}

/// An order was written. The category is one of the catalogue's four.
pub fn order_created(category: &str) {
    let category = KeyValue::new("signalbox.product.category", category.to_owned());
    INSTRUMENTS.orders_created.add(1, &[category]);
}

/// The memory demo holds so many bytes more, or fewer.
pub fn memory_held(change: i64) {
    INSTRUMENTS.memory_held.add(change, &[]);
}

/// A request was refused by `limit`: `body`, `uri`, `headers`, `concurrency`, `rate`, `time`, `memory`.
pub fn request_rejected(limit: &'static str) {
    let limit = KeyValue::new("signalbox.limit", limit);
    INSTRUMENTS.requests_rejected.add(1, &[limit]);
}

/// A fault was injected: `latency`, `error`, `slow_query`, `lock_wait`, `leak`, `block`.
pub fn fault_injected(kind: &'static str) {
    let kind = KeyValue::new("signalbox.fault.kind", kind);
    INSTRUMENTS.faults_injected.add(1, &[kind]);
}

/// Observes what injected leaks hold; nothing is reported before the first leak.
pub fn observe_leaked(bytes: impl Fn() -> Option<usize> + Send + Sync + 'static) {
    meter()
        .i64_observable_up_down_counter(FAULT_LEAKED.name)
        .with_unit(FAULT_LEAKED.unit)
        .with_description(FAULT_LEAKED.help)
        .with_callback(move |observer| {
            if let Some(bytes) = bytes().and_then(|bytes| i64::try_from(bytes).ok()) {
                observer.observe(bytes, &[]);
            }
        })
        .build();
}

/// Observes whether each dependency answered its last check.
pub fn observe_dependencies(
    states: impl Fn() -> Vec<(&'static str, bool)> + Send + Sync + 'static,
) {
    meter()
        .u64_observable_gauge(DEPENDENCY_UP.name)
        .with_unit(DEPENDENCY_UP.unit)
        .with_description(DEPENDENCY_UP.help)
        .with_callback(move |observer| {
            for (name, up) in states() {
                let name = KeyValue::new("signalbox.dependency.name", name);
                observer.observe(u64::from(up), &[name]);
            }
        })
        .build();
}
