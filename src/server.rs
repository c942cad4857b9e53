//! The process in its two roles. Listener and shutdown are arguments, so tests run the real thing on port 0.
//!
//! Stop, in order: no new connections; requests in flight and accepted jobs until the deadline; the database is closed.
//! The caller flushes telemetry after that, so that the last requests are in it.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::pin::pin;
use std::time::{Duration, Instant};

use actix_web::middleware::from_fn;
use actix_web::web::ServiceConfig;
use actix_web::{App, web};

use crate::deps::cache::{Cache, CacheError};
use crate::deps::database::{Database, OpenError};
use crate::deps::queue::{Producer, QueueError};
use crate::deps::worker_client::{WorkerClient, WorkerError};
use crate::error::edge;
use crate::faults::inject::Faults;
use crate::jobs::{Jobs, Running};
use crate::limits::{Limits, admit};
use crate::routes::console::faro::Faro;
use crate::routes::health::Readiness;
use crate::routes::{self, demo};
use crate::settings::{Listen, Role, Settings};
use signalbox_telemetry::actix::{self, Instrument};
use signalbox_telemetry::metrics::Pull;

/// How long the head of a request may take. Beyond: 408.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// What kept the server from being built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Database(#[from] OpenError),
    #[error("REDIS_URL: {0}")]
    Cache(#[from] CacheError),
    #[error("REDIS_URL: {0}")]
    Queue(#[from] QueueError),
    #[error("SIGNALBOX_WORKER_URL: {0}")]
    Worker(#[from] WorkerError),
    #[error("{variable}={listen} cannot be listened on: {error}")]
    Listen {
        variable: &'static str,
        listen: Listen,
        error: io::Error,
    },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Takes the address, or the socket, that settings name.
pub fn listen(settings: &Settings) -> Result<TcpListener, BuildError> {
    let listener = match settings.listen {
        Listen::Address(address) => TcpListener::bind(address),
        Listen::Stdin => handed_over(),
    };
    listener.map_err(|error| BuildError::Listen {
        variable: match settings.role {
            Role::Api => "SIGNALBOX_LISTEN",
            Role::Worker => "SIGNALBOX_WORKER_LISTEN",
        },
        listen: settings.listen,
        error,
    })
}

/// Standard input as a listener; an error if it is no socket of an internet address.
fn handed_over() -> io::Result<TcpListener> {
    let listener = TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    listener.local_addr()?;
    Ok(listener)
}

/// A server that listens and is ready to run.
pub struct Server {
    server: actix_web::dev::Server,
    port: u16,
    in_flight: Duration,
    database: Option<Database>,
    jobs: Option<Running>,
}

impl Server {
    /// Opens what the role needs. Must be called inside an actix system.
    pub async fn build(
        settings: Settings,
        listener: TcpListener,
        pull: Pull,
    ) -> Result<Self, BuildError> {
        let address = listener.local_addr()?;
        let in_flight = settings.shutdown_timeout;
        let (server, database, jobs) = match settings.role {
            Role::Api => {
                let (server, database) = api(settings, listener, pull).await?;
                (server, Some(database), None)
            }
            Role::Worker => {
                let (server, jobs) = worker(settings, listener, pull)?;
                (server, None, Some(jobs))
            }
        };
        Ok(Self {
            server,
            port: address.port(),
            in_flight,
            database,
            jobs,
        })
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Serves until `shutdown` is ready, then stops as described above.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), BuildError> {
        let handle = self.server.handle();
        let mut server = pin!(self.server);
        tokio::select! {
            outcome = &mut server => return Ok(outcome?),
            () = shutdown => tracing::info!("stopping"),
        }
        let deadline = Instant::now() + self.in_flight;
        // The library counts in whole seconds and in steps of its own: the timeout around it holds the deadline.
        let stop = async { tokio::join!(handle.stop(true), &mut server).1 };
        if let Ok(outcome) = tokio::time::timeout_at(deadline.into(), stop).await {
            outcome?;
        } else {
            tracing::warn!("requests were cut off at the deadline");
        }
        if let Some(jobs) = self.jobs {
            jobs.finish(deadline).await;
        }
        if let Some(database) = self.database {
            let close = tokio::time::timeout(Duration::from_millis(500), database.close());
            if close.await.is_err() {
                tracing::warn!("the database was not closed in time");
            }
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// Starts a server. Everything that a request passes, from the outside in: root span, error edge, limits, routes.
fn start(
    settings: &Settings,
    listener: TcpListener,
    shared: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
    routes: fn(&mut ServiceConfig),
) -> Result<actix_web::dev::Server, BuildError> {
    let limits = Limits::new(&settings.limits);
    let body_bytes = settings.limits.body_bytes;
    tracing::info!("listening on http://{}", listener.local_addr()?);
    let app = move || {
        App::new()
            .configure(shared.clone())
            .app_data(web::Data::new(limits.clone()))
            .configure(|config| routes::extractors(config, body_bytes))
            .configure(routes)
            .default_service(web::to(routes::nothing_here))
            .wrap(routes::security_headers())
            .wrap(from_fn(admit))
            .wrap(from_fn(edge))
            .wrap(Instrument::new())
    };
    let server = actix_web::dev::Server::build()
        .workers(settings.http_threads)
        .max_concurrent_connections(settings.limits.connections)
        .shutdown_timeout(settings.shutdown_timeout.as_secs())
        .disable_signals();
    Ok(actix::listen(server, listener, HEAD_TIMEOUT, app)?.run())
}

async fn api(
    settings: Settings,
    listener: TcpListener,
    pull: Pull,
) -> Result<(actix_web::dev::Server, Database), BuildError> {
    let database = Database::open(&settings.database).await?;
    let cache = Cache::open(&settings)?;
    let worker = WorkerClient::new(&settings)?;
    let producer = Producer::new(&settings, worker.clone())?;
    let faults = Faults::new(settings.faults);
    let readiness = Readiness::of_api(database.clone(), cache.clone(), worker.clone());
    readiness.watch();
    let cpu = demo::cpu::Slots::new(settings.limits.cpu_slots);
    let memory = demo::memory::Budget::new(settings.limits.memory_budget_mb);
    let state = database.clone();
    let client_ids = settings.client_ids.clone();
    let links = settings.links.clone();
    let faro = Faro::new(settings.faro_url.clone());
    let shared = move |config: &mut ServiceConfig| {
        config
            .app_data(web::Data::new(state.clone()))
            .app_data(web::Data::new(cache.clone()))
            .app_data(web::Data::new(worker.clone()))
            .app_data(web::Data::new(producer.clone()))
            .app_data(web::Data::new(faults.clone()))
            .app_data(web::Data::new(readiness.clone()))
            .app_data(web::Data::new(cpu.clone()))
            .app_data(web::Data::new(memory.clone()))
            .app_data(web::Data::new(client_ids.clone()))
            .app_data(web::Data::new(links.clone()))
            .app_data(web::Data::new(faro.clone()))
            .app_data(web::Data::new(pull.clone()));
    };
    let server = start(&settings, listener, shared, routes::api)?;
    Ok((server, database))
}

fn worker(
    settings: Settings,
    listener: TcpListener,
    pull: Pull,
) -> Result<(actix_web::dev::Server, Running), BuildError> {
    let (jobs, running) = Jobs::start(&settings)?;
    let readiness = Readiness::of_worker(jobs.clone());
    readiness.watch();
    let shared = move |config: &mut ServiceConfig| {
        config
            .app_data(web::Data::new(jobs.clone()))
            .app_data(web::Data::new(readiness.clone()))
            .app_data(web::Data::new(pull.clone()));
    };
    let server = start(&settings, listener, shared, routes::worker)?;
    Ok((server, running))
}
